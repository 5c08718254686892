//! The moment at which a range is handed on: what comes due while it moves is late by the rest of
//! the move, so it moves while nothing is due, and nothing that was due is about to start.

use std::time::Duration;

use crate::agent::desk::Desk;
use crate::agent::range::Range;
use crate::run::life::Stage;
use crate::time::{Instant, Mono, Wall};

/// A move takes some tens of milliseconds: at first nothing is to be due for this long...
const LULL: Duration = Duration::from_millis(500);
/// ...then less and less, and after this it is not waited for any more.
const PATIENCE: Duration = Duration::from_secs(2);
/// The next look comes so long after what is due next, which has begun by then...
const BEGUN: Duration = Duration::from_millis(5);
/// ...or after this one, while what is due has not been decided, or has not started.
const BUSY: Duration = Duration::from_millis(20);

/// How long a range has waited for its lull, and when it looks for one again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lull {
    since: Option<Mono>,
    look_at: Mono,
}

impl Lull {
    /// How long nothing is to be due.
    fn wanted(since: Mono, now: Mono) -> Duration {
        let left = PATIENCE.saturating_sub(now.since(since));
        LULL.mul_f64(left.as_secs_f64() / PATIENCE.as_secs_f64())
    }
}

impl Range {
    /// Whether nothing comes due here while the range moves; if not, it is looked for again.
    pub(super) fn is_in_lull(&mut self, desk: &mut Desk) -> bool {
        let now = desk.now.mono;
        let since = *self.lull.since.get_or_insert(now);
        let wanted = Lull::wanted(since, now);
        // Where nothing may start anyway, it is late already.
        if wanted.is_zero() || !self.may_start(desk) {
            return true;
        }
        if self.lull.look_at <= now {
            let next = self.next_start(desk).map_or(PATIENCE, |at| at.wall().since(desk.now.wall));
            if next >= wanted {
                return true;
            }
            self.lull.look_at = now.plus(if next.is_zero() { BUSY } else { next + BEGUN });
        }
        desk.wake_by(self.lull.look_at.min(since.plus(PATIENCE)));
        false
    }

    /// When something is to be started next, as far as that is known. What has been decided and
    /// waits for a place waits for one with the next holder, too.
    fn next_start(&self, desk: &Desk) -> Option<Instant> {
        let now = desk.now.wall;
        let waiting = self.open.values().filter_map(|run| match run.stage {
            Stage::Waiting { at } => Some(at).filter(|at| *at > now),
            // What is made up for is late already.
            Stage::Opening { .. } | Stage::Asking => Some(now).filter(|_| !run.catch_up),
            _ => None,
        });
        desk.near.next_due(self.id).into_iter().chain(waiting.map(Wall::instant)).min()
    }
}
