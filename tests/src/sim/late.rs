//! Lateness, as users would measure it: how long after its due a run starts, and whether there are
//! as many starts as there were instants, without believing any name.

use tocktower_core::ids::RunId;
use tocktower_core::task::Overlap;
use tocktower_core::time::Wall;

use super::check::Expected;
use super::checker::Checker;
use super::truth::Life;
use super::world::{SECOND, World};

/// In calm: an answer of etcd may take a second, or be lost and asked for again.
const CALM_LATE: u64 = 3 * SECOND;
/// Promise 3, once everything is healed.
const LATE: u64 = 10 * SECOND;
/// How long after that what was overdue may take.
const SETTLED_AFTER: u64 = 10 * SECOND;
/// How far a good clock may be off.
pub const CLOCK: u64 = 100_000;

impl World {
    /// What started started in time. `from`: what is due before is not judged.
    pub(super) fn check_late(&mut self, expected: &[Expected], calm: bool, healed: u64) {
        let (from, limit) = match calm {
            true => (0, CALM_LATE),
            false => (healed + SETTLED_AFTER, LATE),
        };
        let mut late = Vec::new();
        // What a clock that was far ahead has decided waits for its time, as what is made up for.
        let judged = calm || !self.clock_far;
        for e in expected.iter().filter(|e| judged && !e.uncertain && self.true_us(e.due) >= from) {
            let started = self.truth.starts.iter().filter(|start| start.run == e.run);
            let Some(first) = started.map(|start| start.at).min() else { continue };
            let due = self.true_us(e.due);
            let waits = self.truth.life_of(&e.run).is_none_or(waits_for_its_turn);
            // What only its host can run waits for it.
            let local = self.truth.home_of(&e.run, &self.keys).local().is_some();
            let waits = waits || !calm && local;
            if first > due + limit && !waits {
                let ms = (first - due) / 1_000;
                late.push((first, format!("{} started {ms} ms late", e.run)));
            }
        }
        for (at, text) in late {
            self.truth.violation(Checker::Loss, at, text);
        }
    }

    /// In calm each instant of a recurring task that lets all its runs start has one of its own,
    /// within moments of its due: dues and starts are matched in their order, whatever the starts
    /// say.
    pub(super) fn check_matching(&mut self, expected: &[Expected], calm: bool) {
        let mut unmatched = Vec::new();
        for (key, life) in self.truth.lives.iter().filter(|_| calm) {
            let [(_, task)] = &life.versions[..] else { continue };
            let one_shot = task.spec.one_shot_at().is_some();
            if waits_for_its_turn(life) || task.spec.overlap != Overlap::Allow || one_shot {
                continue;
            }
            for agent in self.sharers(task) {
                let of = |run: &RunId| {
                    (&run.task, run.incarnation) == (&key.0, key.1) && run.agent == agent
                };
                let certain = expected.iter().filter(|e| of(&e.run) && !e.uncertain);
                let dues = certain.map(|e| self.true_us(e.due)).collect();
                let starts = self.truth.starts.iter().filter(|start| of(&start.run));
                let missing = without_start(dues, starts.map(|start| start.at).collect());
                let text = |due| format!("{} has no start near {} s", key.0, due / SECOND);
                unmatched.extend(missing.into_iter().map(text));
            }
        }
        for text in unmatched {
            self.truth.violation(Checker::Loss, self.now, text);
        }
    }

    pub(super) fn true_us(&self, wall: Wall) -> u64 {
        let base = self.wall().micros() - i64::try_from(self.now).expect("short");
        u64::try_from(wall.micros() - base).unwrap_or(0)
    }
}

/// Dues that no start of their own follows in time.
fn without_start(mut dues: Vec<u64>, mut starts: Vec<u64>) -> Vec<u64> {
    dues.sort_unstable();
    starts.sort_unstable();
    let mut starts = starts.into_iter().peekable();
    dues.retain(|due| {
        while starts.next_if(|at| at + CLOCK < *due).is_some() {}
        starts.next_if(|at| *at <= due + CALM_LATE).is_none()
    });
    dues
}

/// Whether a run of it may have to wait for another, or was paused meanwhile. One that takes the
/// place of another waits for its end where that was left with a holder before.
fn waits_for_its_turn(life: &Life) -> bool {
    life.versions.iter().any(|(_, task)| {
        let free = matches!(task.spec.overlap, Overlap::Skip | Overlap::Allow);
        !free || task.spec.paused
    })
}
