//! The moment at which a range is handed on: what comes due while it moves is late by the rest of
//! the move, so it moves while nothing is due.

use std::time::Duration;

use crate::agent::desk::Desk;
use crate::agent::range::Range;
use crate::run::life::Stage;
use crate::time::{Instant, Mono};

/// A move takes some tens of milliseconds: at first nothing is to be due for this long...
const LULL: Duration = Duration::from_millis(500);
/// ...then less and less, and after this it is not waited for any more.
const PATIENCE: Duration = Duration::from_secs(2);
/// When something is due now, the next look comes after it.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

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
        if wanted.is_zero() {
            return true;
        }
        if self.lull.look_at <= now {
            let Some(next) = self.next_start(desk) else { return true };
            let left = next.millis().saturating_sub(desk.now.wall.instant().millis());
            let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
            if left >= wanted {
                return true;
            }
            self.lull.look_at = now.plus(left + LOOK_AGAIN);
        }
        desk.wake_by(self.lull.look_at.min(since.plus(PATIENCE)));
        false
    }

    /// When something is to be started next, as far as that is known.
    fn next_start(&self, desk: &Desk) -> Option<Instant> {
        let waiting = self.open.values().filter_map(|run| match run.stage {
            Stage::Waiting { at } => Some(at.instant()),
            _ => None,
        });
        let due = desk.near.next_due(self.id);
        due.into_iter().chain(self.oldest_parked()).chain(waiting).min()
    }
}
