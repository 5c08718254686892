//! When an absence is noted, and when it has lasted for so long that the agent is forgotten.
//!
//! Pure: time comes in, decisions go out. An agent is absent while its record is there and it has
//! neither a session nor a link here. Every coordinator watches that for itself, from the first
//! time that it sees such a record; a record that changes has been registered or noted meanwhile,
//! and the watching begins anew. So nothing is written of those who come back within a minute, one
//! write tells of a longer absence, and what is written is when it began.
//!
//! What is forgotten by a wrong clock is gone, and what is noted by one may be forgotten at once by
//! others. So neither is done by a coordinator whose clock has not been believed for some minutes:
//! most of the agents that it has measured must agree with it, and it must not jump. A time that
//! lies ahead was noted by a clock that was wrong: it is noted anew, and nobody is forgotten by it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use tocktower_core::ids::{AgentName, Revision};
use tocktower_core::steady::{STEADY_AFTER, SteadyClock};
use tocktower_core::time::{Mono, Now, Wall};

use crate::catalog::Kept;

const DAY: Duration = Duration::from_secs(86_400);

/// How absent agents are looked after.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ForgetRules {
    /// Between two looks.
    pub look: Duration,
    /// How long this coordinator sees an agent absent before it does anything about it.
    pub absent: Duration,
    /// How long its clock must have been believed.
    pub believed: Duration,
    /// An agent that is absent for longer is forgotten.
    pub after: Duration,
}

impl Default for ForgetRules {
    fn default() -> ForgetRules {
        ForgetRules {
            look: Duration::from_secs(5),
            absent: Duration::from_secs(60),
            believed: STEADY_AFTER,
            // As long as agents keep history: what an agent kept would be gone by then.
            after: 30 * DAY,
        }
    }
}

/// What is to be done about an absent agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// It is absent since then, as its record does not say yet.
    Note { since: Wall },
    /// It is absent since then, which is long enough.
    Forget { since: Wall },
}

/// What one coordinator has seen of absent agents.
#[derive(Debug, Default)]
pub struct Absences {
    clock: SteadyClock,
    /// Which record was seen without a session, and since when.
    seen: BTreeMap<AgentName, (Revision, Mono)>,
    /// The last agent that something was decided of: the next look goes on behind it, so that those
    /// of whom it comes to nothing hold up no others.
    last: Option<AgentName>,
}

impl Absences {
    /// A look at all records of absent agents, of which `most` are decided. `agreed`: most agents
    /// that were measured agree with this coordinator's clock.
    pub fn look(
        &mut self,
        rules: &ForgetRules,
        now: Now,
        agreed: bool,
        absent: &BTreeMap<AgentName, Kept>,
        most: usize,
    ) -> Vec<(AgentName, Decision)> {
        self.clock.look(now, agreed);
        self.seen.retain(|agent, (revision, _)| {
            absent.get(agent).is_some_and(|kept| kept.revision == *revision)
        });
        for (agent, kept) in absent {
            self.seen.entry(agent.clone()).or_insert((kept.revision, now.mono));
        }
        if self.clock.believed_for(now).is_none_or(|span| span < rules.believed) {
            return Vec::new();
        }
        let decide = |(agent, kept): (&AgentName, &Kept)| {
            let (_, since) = self.seen.get(agent)?;
            let noted = kept.record.absent_since_us.map(Wall::from_micros);
            Some((agent.clone(), decide(rules, now, *since, noted)?))
        };
        let behind = match &self.last {
            Some(last) => (Bound::Excluded(last), Bound::Unbounded),
            None => (Bound::Unbounded, Bound::Unbounded),
        };
        let up_to = self.last.as_ref().map(|last| absent.range(..=last));
        let rota = absent.range(behind).chain(up_to.into_iter().flatten());
        let decisions: Vec<(AgentName, Decision)> = rota.filter_map(decide).take(most).collect();
        self.last = decisions.last().map(|(agent, _)| agent.clone());
        decisions
    }
}

/// What is to be done about an agent that is seen absent `since`, and `noted` as absent.
fn decide(rules: &ForgetRules, now: Now, since: Mono, noted: Option<Wall>) -> Option<Decision> {
    let seen_for = now.mono.since(since);
    if seen_for < rules.absent {
        return None;
    }
    match noted.filter(|noted| *noted <= now.wall) {
        None => Some(Decision::Note { since: now.wall.minus(seen_for) }),
        Some(since) if now.wall.since(since) > rules.after => Some(Decision::Forget { since }),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use tocktower_proto::store::AgentRecord;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const RULES: ForgetRules = ForgetRules {
        look: Duration::from_secs(5),
        absent: Duration::from_secs(60),
        believed: Duration::from_secs(300),
        after: Duration::from_secs(30 * 86_400),
    };

    const MOST: usize = 4;

    /// One coordinator, its clocks, and the records of the agents that are absent.
    struct Watched {
        absences: Absences,
        now: Now,
        agreed: bool,
        absent: BTreeMap<AgentName, Kept>,
    }

    fn name(text: &str) -> AgentName {
        AgentName::parse(text).unwrap()
    }

    /// Five minutes after a start, so that the clock is believed.
    fn watched() -> Watched {
        let now = Now { wall: Wall::from_millis(1_800_000_000_000), mono: Mono::default() };
        let (absences, absent) = (Absences::default(), BTreeMap::new());
        let mut watched = Watched { absences, now, agreed: true, absent };
        assert_eq!(watched.pass(300), []);
        watched
    }

    impl Watched {
        /// This agent is absent, with a record of this revision.
        fn goes(&mut self, agent: &str, revision: i64, noted: Option<Wall>) {
            let record =
                AgentRecord { absent_since_us: noted.map(Wall::micros), ..Default::default() };
            self.absent.insert(name(agent), Kept { record, revision: Revision(revision) });
        }

        /// Looks each five seconds for so long; what the last look has decided.
        fn pass(&mut self, seconds: u32) -> Vec<(AgentName, Decision)> {
            let mut decided = Vec::new();
            for _ in 0..seconds / 5 {
                self.now.wall = self.now.wall.plus(5 * SECOND);
                self.now.mono = self.now.mono.plus(5 * SECOND);
                decided = self.look();
            }
            decided
        }

        fn look(&mut self) -> Vec<(AgentName, Decision)> {
            self.absences.look(&RULES, self.now, self.agreed, &self.absent, MOST)
        }

        fn ago(&self, span: Duration) -> Wall {
            self.now.wall.minus(span)
        }
    }

    #[test]
    fn an_absence_is_noted_after_a_minute_with_the_time_at_which_it_began() {
        let mut watched = watched();
        watched.goes("a", 7, None);
        assert_eq!(watched.look(), []);
        let began = watched.now.wall;
        assert_eq!(watched.pass(55), []);
        let note = Decision::Note { since: began };
        assert_eq!(watched.pass(5), [(name("a"), note)]);
        assert_eq!(watched.pass(30), [(name("a"), note)], "until somebody has written it");
        watched.goes("a", 8, Some(began));
        assert_eq!(watched.pass(86_400), []);
    }

    #[test]
    fn who_comes_back_within_a_minute_is_not_written_of() {
        let mut watched = watched();
        watched.goes("a", 7, None);
        watched.pass(50);
        watched.absent.clear();
        watched.pass(5);
        watched.goes("a", 9, None);
        assert_eq!(watched.pass(60), []);
        // Here and gone again between two looks.
        watched.goes("a", 11, None);
        assert_eq!(watched.pass(60), []);
        assert_eq!(watched.pass(5).len(), 1);
    }

    #[test]
    fn an_agent_is_forgotten_when_its_absence_has_lasted_for_longer_than_is_set() {
        let mut watched = watched();
        let (long, short) = (watched.ago(RULES.after), watched.ago(RULES.after - 70 * SECOND));
        watched.goes("long", 7, Some(long));
        watched.goes("short", 8, Some(short));
        assert_eq!(watched.pass(60), [], "it may just be about to come back");
        let forget = |agent, since| (name(agent), Decision::Forget { since });
        assert_eq!(watched.pass(5), [forget("long", long)]);
        assert_eq!(watched.pass(5), [forget("long", long)]);
        assert_eq!(watched.pass(5), [forget("short", short), forget("long", long)]);
    }

    #[test]
    fn nothing_is_noted_or_forgotten_by_a_clock_that_is_not_believed() {
        let mut watched = watched();
        let long = watched.ago(2 * RULES.after);
        watched.goes("noted", 7, Some(long));
        watched.goes("other", 8, None);
        watched.agreed = false;
        assert_eq!(watched.pass(3_600), []);
        watched.agreed = true;
        assert_eq!(watched.pass(300), [], "believed for too short a time");
        assert_eq!(watched.pass(5).len(), 2);
        // All others jump with it, so nobody disagrees.
        watched.now.wall = watched.now.wall.plus(365 * DAY);
        assert_eq!(watched.look(), []);
        assert_eq!(watched.pass(295), []);
        assert_eq!(watched.pass(5).len(), 2);
    }

    #[test]
    fn a_time_that_lies_ahead_is_noted_anew_and_nobody_is_forgotten_by_it() {
        let mut watched = watched();
        let ahead = watched.now.wall.plus(365 * DAY);
        watched.goes("a", 7, Some(ahead));
        watched.look();
        let began = watched.now.wall;
        assert_eq!(watched.pass(60), [(name("a"), Decision::Note { since: began })]);
    }

    #[test]
    fn those_of_whom_it_comes_to_nothing_hold_up_no_others() {
        let mut watched = watched();
        (0..6).for_each(|number| watched.goes(&format!("a{number}"), 7, None));
        let noted = |decided: Vec<(AgentName, Decision)>| -> Vec<String> {
            decided.iter().map(|(agent, _)| agent.to_string()).collect()
        };
        watched.look();
        assert_eq!(noted(watched.pass(60)), ["a0", "a1", "a2", "a3"]);
        assert_eq!(noted(watched.pass(5)), ["a4", "a5", "a0", "a1"]);
        // The one behind which it would go on is gone.
        watched.absent.remove(&name("a1"));
        assert_eq!(noted(watched.pass(5)), ["a2", "a3", "a4", "a5"]);
        watched.absent.retain(|agent, _| *agent == name("a3"));
        assert_eq!(noted(watched.pass(5)), ["a3"]);
    }

    #[test]
    fn those_who_are_back_are_not_kept_in_mind() {
        let mut watched = watched();
        (0..100).for_each(|number| watched.goes(&format!("a{number}"), 7, None));
        watched.look();
        assert_eq!(watched.absences.seen.len(), 100);
        watched.absent.clear();
        watched.look();
        assert_eq!(watched.absences.seen.len(), 0);
    }
}
