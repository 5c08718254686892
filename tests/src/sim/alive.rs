//! Once everything is healed: every range is held and stays so, and nothing is left behind in the
//! shared state of what has ended.

use std::collections::BTreeSet;

use tocktower_cluster::keys::Key;
use tocktower_core::ids::RunId;

use super::checker::Checker;
use super::world::{SECOND, World};

/// Ranges are held again so soon.
const HELD_AFTER: u64 = 5 * SECOND;
/// Who hands a range on leaves it vacant for as long as etcd and a watch take, and a claim whose
/// answer is lost is asked for again.
const VACANT: u64 = 4 * SECOND;
/// What nobody needs any more is gone by then.
const LEFT_FOR: u64 = 25 * SECOND;

impl World {
    pub(super) fn check_alive(&mut self, healed: u64) {
        self.check_held(healed + HELD_AFTER);
        self.check_left();
    }

    fn check_held(&mut self, from: u64) {
        let mut vacant = Vec::new();
        for range in self.keys.ranges().all() {
            let claims = self.truth.claims_of(range);
            let mut since = Some(from);
            for (at, claim) in claims {
                let at = (*at).max(from);
                match (claim, since) {
                    (Some(_), Some(vacant_at)) => {
                        if at > vacant_at + VACANT {
                            vacant.push((range, vacant_at, at));
                        }
                        since = None;
                    }
                    (None, None) => since = Some(at),
                    _ => {}
                }
            }
            if let Some(vacant_at) = since.filter(|at| self.now > at + VACANT) {
                vacant.push((range, vacant_at, self.now));
            }
        }
        for (range, from, until) in vacant {
            let text = format!("nobody held {range:?} from {} ms on", from / 1_000);
            self.truth.violation(Checker::Liveness, until, text);
        }
    }

    /// Leases and sessions are those of agents that are there; a trigger and a settle key are done.
    fn check_left(&mut self) {
        let alive = self.hosts.iter().filter(|host| host.driver.is_some());
        let alive: BTreeSet<_> = alive.map(|host| host.name.clone()).collect();
        let mut left = Vec::new();
        let leases = self.etcd.lease_ids().len();
        if leases > alive.len() {
            left.push(format!("{leases} leases are there, of {} agents", alive.len()));
        }
        for item in self.etcd.items() {
            let age = self.truth.age_of(item.create_revision, self.now);
            match self.keys.parse(&item.key) {
                Some(Key::Member(agent)) if !alive.contains(&agent) => {
                    left.push(format!("{agent} is gone and its session is there"));
                }
                Some(Key::Settle(_, task, run, attempt)) if age > LEFT_FOR => {
                    left.push(format!("{task} {run:?} {attempt:?} has a settle key, {age} us old"));
                }
                Some(Key::Trigger(_, task, ulid))
                    if age > LEFT_FOR && !self.goes_on(&RunId::manual(task.clone(), ulid)) =>
                {
                    left.push(format!("the trigger {ulid:x} of {task} is {age} us old"));
                }
                _ => {}
            }
        }
        for text in left {
            self.truth.violation(Checker::Liveness, self.now, text);
        }
    }
}
