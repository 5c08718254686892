//! Keeps etcd small when no coordinator does. Beats and ledgers are written every second, and etcd
//! keeps every version until it is compacted: a fleet whose coordinators were down for a night
//! would fill it, and then nobody holds a claim any more.
//!
//! Coordinators compact when the record `compact` is a minute old. An agent reads it once a minute,
//! and when nobody has put it for three minutes and some more, it is this agent's turn: it puts the
//! record if that still stands as it was read, and compacts once it has won that compare. How much
//! more is a hash of its name and the record, so that of a thousand agents one comes first, and
//! another the next time: an agent whose compactions are refused holds up nobody.
//!
//! What is compacted to must be a minute old, since some versions of etcd skip events for watchers
//! that are behind a compaction (W4). A revision that an answer told is at least as old as the
//! answer. The request is no measure: its answer may have been made long after it was sent. Both
//! are times of the boot clock, which goes on while the process stands still; where it does not
//! (the whole machine was stopped), revisions look younger than they are, and that is harmless.
//!
//! Nothing here is tried again by itself: the next reading tells what came of it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::agent::Agent;
use crate::agent::desk::Call;
use crate::agent::effect::{Notice, ShareRequest};
use crate::agent::input::{CompactSeen, ShareAnswer};
use crate::hash::hash_parts;
use crate::ids::{AgentName, Revision};
use crate::limits;
use crate::time::Mono;

const READ_EVERY: Duration = Duration::from_secs(60);
/// How old a revision is at least that is compacted to.
const OLD: Duration = Duration::from_secs(60);
/// An agent's turn comes when the record has stood for so long; coordinators are quicker.
const SILENCE: Duration = Duration::from_secs(180);
/// Up to so much later, each agent at a time of its own.
const SPREAD_MS: u64 = 30_000;
/// What was refused for good would be refused in a minute as well, and each time said.
const REFUSED_WAIT: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(crate) struct Compaction {
    read_at: Mono,
    /// The record's own revision, and when it was first read here.
    record: Option<(Revision, Mono)>,
    /// When the shared state was known to be how far: what is young, and before it the newest that
    /// is old.
    known: VecDeque<(Mono, Revision)>,
}

impl Compaction {
    /// Takes a reading in. `Some`: it is this agent's turn to compact to there.
    fn turn(
        &mut self,
        now: Mono,
        agent: &AgentName,
        record: CompactSeen,
        revision: Revision,
    ) -> Option<Revision> {
        self.note(now, revision);
        let since = match self.record {
            Some((at, since)) if at == record.at => since,
            _ => now,
        };
        self.record = Some((record.at, since));
        let turn = since.plus(wait(agent, record.at));
        if now < turn {
            self.read_at = self.read_at.min(turn);
            return None;
        }
        let (at, to) = *self.known.front()?;
        (is_old(at, now) && to > record.to).then_some(to)
    }

    fn note(&mut self, now: Mono, revision: Revision) {
        while self.known.get(1).is_some_and(|(at, _)| is_old(*at, now)) {
            self.known.pop_front();
        }
        if self.known.len() < limits::COMPACT_NOTES_MAX {
            self.known.push_back((now, revision));
        }
    }
}

fn is_old(at: Mono, now: Mono) -> bool {
    now.since(at) >= OLD
}

fn wait(agent: &AgentName, record: Revision) -> Duration {
    let hash = hash_parts(&[agent.as_str().as_bytes(), &record.0.to_be_bytes()]);
    SILENCE + Duration::from_millis(hash % SPREAD_MS)
}

impl Agent {
    /// Reads the record when it is time to.
    pub(super) fn keep_compacted(&mut self) {
        let now = self.desk.now.mono;
        let wanted = self.desk.config.compact && self.desk.session.session().is_some();
        if !wanted || now < self.desk.compaction.read_at {
            return;
        }
        let asked = |call: &Call| {
            matches!(call, Call::ReadCompact | Call::PutCompact { .. } | Call::Compact { .. })
        };
        if !self.desk.calls.values().any(asked) {
            self.desk.compaction.read_at = now.plus(READ_EVERY);
            self.desk.share(Call::ReadCompact, ShareRequest::ReadCompact);
        }
    }

    pub(super) fn compact_answered(&mut self, call: &Call, answer: ShareAnswer) {
        let now = self.desk.now.mono;
        match (call, answer) {
            (Call::ReadCompact, ShareAnswer::CompactRead { record, revision }) => {
                let agent = &self.desk.config.agent;
                if let Some(to) = self.desk.compaction.turn(now, agent, record, revision) {
                    let put = ShareRequest::PutCompact { seen: record.at, to };
                    self.desk.share(Call::PutCompact { to }, put);
                }
            }
            (Call::PutCompact { to }, ShareAnswer::Done) => {
                let to = *to;
                self.desk.share(Call::Compact { to }, ShareRequest::Compact { to });
            }
            (Call::Compact { to }, ShareAnswer::Done) => {
                self.desk.notice(Notice::Compacted { to: *to });
            }
            (_, ShareAnswer::Refused { retryable: false, .. }) => {
                self.desk.compaction.read_at = now.plus(REFUSED_WAIT);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::agent::Config;
    use crate::agent::effect::{CallId, Effect};
    use crate::agent::input::{Committed, Input};
    use crate::hash::RangeCount;
    use crate::ids::{Epoch, LeaseId, PoolName, Session};
    use crate::time::{Now, Wall};

    const HOUR: u64 = 3_600;
    const BEGIN: u64 = 5_000;

    /// Agents on a shared state that grows by a revision every second, and its record.
    struct Fleet {
        second: u64,
        agents: Vec<Agent>,
        /// Agents that stand still until then.
        still: Vec<u64>,
        record: CompactSeen,
        /// Revisions of the record that were written, each with who wrote it.
        written: Vec<(Revision, Option<usize>)>,
        compacted: Vec<(u64, usize, Revision)>,
        /// What the agents said of it.
        told: Vec<(u64, usize, Revision)>,
        /// What went wrong, as the agents say it.
        refused: Vec<(u64, usize)>,
        readings: usize,
        under_way: Vec<(u64, usize, CallId, ShareRequest)>,
        /// Seconds that a request is under way before it is served.
        delay: fn(u64, &ShareRequest) -> u64,
        /// What is answered in place of the truth, and whether the request happens all the same.
        fault: fn(u64, &ShareRequest) -> Option<(ShareAnswer, bool)>,
    }

    fn fleet(agents: usize) -> Fleet {
        let all = (0..agents).map(|number| agent(number, true)).collect();
        Fleet {
            second: 0,
            agents: all,
            still: vec![0; agents],
            record: CompactSeen::default(),
            written: Vec::new(),
            compacted: Vec::new(),
            told: Vec::new(),
            refused: Vec::new(),
            readings: 0,
            under_way: Vec::new(),
            delay: |_, _| 0,
            fault: |_, _| None,
        }
    }

    fn name(number: usize) -> AgentName {
        AgentName::parse(&format!("a{number}")).unwrap()
    }

    fn agent(number: usize, compact: bool) -> Agent {
        let config = Config {
            agent: name(number),
            pool: PoolName::parse("default").unwrap(),
            weight: 100,
            ttl: Duration::from_secs(3),
            ranges: RangeCount::new(8).unwrap(),
            epoch: Epoch(1),
            epoch_began: Wall::MIN,
            process: 1,
            first_number: 1,
            running_max: 1,
            compact,
            broken: None,
            former: None,
            labels: BTreeMap::new(),
            pins: BTreeMap::new(),
        };
        Agent::new(config, at(0))
    }

    fn at(second: u64) -> Now {
        let (wall, mono) = (second * 1_000, (BEGIN + second) * 1_000_000);
        Now { wall: Wall::from_millis(wall.try_into().unwrap()), mono: Mono::from_micros(mono) }
    }

    /// The newest revision in a second.
    fn newest(second: u64) -> Revision {
        Revision(1_000 + i64::try_from(second).unwrap())
    }

    impl Fleet {
        fn pass(&mut self, seconds: u64) {
            for _ in 0..seconds {
                for number in 0..self.agents.len() {
                    self.tell(number, Input::Wake);
                }
                while let Some(next) = self.next_due() {
                    let (_, number, call, request) = self.under_way.remove(next);
                    let answer = self.served(number, &request);
                    self.tell(number, Input::Answered { call, answer });
                }
                self.second += 1;
            }
        }

        fn next_due(&self) -> Option<usize> {
            let due = |(at, number, ..): &(u64, usize, CallId, ShareRequest)| {
                *at <= self.second && self.still[*number] <= self.second
            };
            self.under_way.iter().position(due)
        }

        fn tell(&mut self, number: usize, input: Input) {
            if self.still[number] > self.second {
                return;
            }
            let (mut effects, mut committed) = (Vec::new(), Vec::new());
            self.agents[number].handle(at(self.second), input, &mut effects);
            for effect in effects {
                match effect {
                    Effect::Commit(batch) => committed.push(Committed {
                        batch: batch.number,
                        synced: batch.sync,
                        duplicates: Vec::new(),
                    }),
                    Effect::Share { call, request } => {
                        let due = self.second + (self.delay)(self.second, &request);
                        self.under_way.push((due, number, call, request));
                    }
                    Effect::Notice(Notice::Compacted { to }) => {
                        self.told.push((self.second, number, to));
                    }
                    Effect::Notice(Notice::Refused { what: "compaction", .. }) => {
                        self.refused.push((self.second, number));
                    }
                    _ => {}
                }
            }
            for committed in committed {
                self.tell(number, Input::Committed(committed));
            }
        }

        fn served(&mut self, number: usize, request: &ShareRequest) -> ShareAnswer {
            match (self.fault)(self.second, request) {
                Some((answer, true)) => {
                    self.truly(number, request);
                    answer
                }
                Some((answer, false)) => answer,
                None => self.truly(number, request),
            }
        }

        fn truly(&mut self, number: usize, request: &ShareRequest) -> ShareAnswer {
            match request {
                ShareRequest::GrantLease { ttl } => {
                    ShareAnswer::Lease { lease: LeaseId(1), ttl: *ttl }
                }
                ShareRequest::KeepAlive { .. } => {
                    ShareAnswer::KeptAlive { ttl: Duration::from_secs(3) }
                }
                ShareRequest::Register { .. } => {
                    let session = Session { epoch: Epoch(1), revision: newest(self.second) };
                    ShareAnswer::Registered { session }
                }
                ShareRequest::PinsBeat { .. } => ShareAnswer::Done,
                ShareRequest::ReadCompact => {
                    self.readings += 1;
                    let revision = newest(self.second);
                    ShareAnswer::CompactRead { record: self.record, revision }
                }
                ShareRequest::PutCompact { seen, .. } if *seen != self.record.at => {
                    ShareAnswer::Overtaken
                }
                ShareRequest::PutCompact { to, .. } => {
                    self.put(Some(number), *to);
                    ShareAnswer::Done
                }
                ShareRequest::Compact { to } => {
                    let mine = (self.record.at, Some(number));
                    assert_eq!(self.written.last(), Some(&mine), "only who won the compare");
                    let age = newest(self.second).0 - to.0;
                    assert!(age >= 60, "compacted to a revision {age} s old");
                    self.compacted.push((self.second, number, *to));
                    ShareAnswer::Done
                }
                _ => ShareAnswer::Done,
            }
        }

        fn put(&mut self, writer: Option<usize>, to: Revision) {
            self.record = CompactSeen { to, at: newest(self.second) };
            self.written.push((self.record.at, writer));
        }

        fn seconds(&self) -> Vec<u64> {
            self.compacted.iter().map(|(second, ..)| *second).collect()
        }
    }

    /// The second in which the turn of an agent comes that read the record first at `since`.
    fn turn_of(number: usize, since: u64, record: Revision) -> u64 {
        since + wait(&name(number), record).as_micros().div_ceil(1_000_000) as u64
    }

    #[test]
    fn an_agent_compacts_when_nobody_has_for_three_minutes_and_not_before() {
        let mut alone = fleet(1);
        alone.pass(181);
        assert_eq!(alone.compacted, []);
        alone.pass(30);
        let turn = turn_of(0, 0, Revision(0));
        assert!((180..=210).contains(&turn));
        let &[(second, _, to)] = alone.compacted.as_slice() else { panic!("one compaction") };
        assert_eq!(second, turn);
        assert!(newest(second).0 - to.0 <= 120, "most of what can go goes");
        alone.pass(HOUR);
        let seconds = alone.seconds();
        assert!(seconds.windows(2).all(|two| (180..=271).contains(&(two[1] - two[0]))));
        assert_eq!(alone.told, alone.compacted, "each is told once");
        assert!(alone.readings <= 90, "about one a minute, not {}", alone.readings);
    }

    #[test]
    fn switched_off_nothing_is_asked() {
        let mut off = fleet(1);
        off.agents = vec![agent(0, false)];
        off.pass(HOUR);
        assert_eq!((off.readings, off.written.len()), (0, 0));
    }

    #[test]
    fn nothing_is_asked_without_a_session() {
        let mut lost = fleet(1);
        lost.fault = |_, request| match request {
            ShareRequest::Register { .. } => Some((unknown(), false)),
            _ => None,
        };
        lost.pass(HOUR);
        assert_eq!(lost.readings, 0);
    }

    #[test]
    fn of_two_agents_that_ask_at_once_one_compacts() {
        let mut two = fleet(2);
        // What they ask for in the first 250 s arrives together.
        two.delay = |now, request| match request {
            ShareRequest::PutCompact { .. } => 250_u64.saturating_sub(now),
            _ => 0,
        };
        two.pass(250);
        assert_eq!(two.under_way.iter().filter(|(at, ..)| *at == 250).count(), 2);
        two.pass(60);
        assert_eq!(two.seconds(), [250]);
        assert_eq!(two.written.len(), 1);
    }

    #[test]
    fn of_a_large_fleet_one_compacts_at_a_time_and_not_always_the_same() {
        let mut large = fleet(30);
        large.pass(6 * HOUR);
        let seconds = large.seconds();
        // The turn of a fleet of that size comes soon after the three minutes.
        assert!(seconds.len() > 80, "{seconds:?}");
        assert!(seconds.windows(2).all(|two| two[1] - two[0] >= 180), "{seconds:?}");
        let who: BTreeSet<usize> = large.compacted.iter().map(|(_, number, _)| *number).collect();
        assert!(who.len() >= 10, "{who:?}");
        assert_eq!(large.written.len(), seconds.len());
    }

    #[test]
    fn whose_turn_comes_first_is_another_for_each_record() {
        let first = |record| (0..30).min_by_key(|number| wait(&name(*number), Revision(record)));
        let firsts: BTreeSet<Option<usize>> = (0..100).map(first).collect();
        assert!(firsts.len() > 20, "{firsts:?}");
    }

    #[test]
    fn a_coordinator_that_compacts_begins_the_wait_anew() {
        let mut fleet = fleet(3);
        fleet.pass(170);
        fleet.put(None, newest(100));
        fleet.pass(180);
        assert_eq!(fleet.compacted, []);
        for _ in 0..60 {
            fleet.put(None, newest(fleet.second - 60));
            fleet.pass(60);
        }
        assert_eq!(fleet.compacted, [], "while coordinators do it, agents never do");
        // The last of it was a minute ago, and is found at the next reading.
        fleet.pass(120);
        assert_eq!(fleet.compacted, []);
        fleet.pass(91);
        assert_eq!(fleet.compacted.len(), 1);
    }

    #[test]
    fn an_answer_that_comes_late_makes_no_revision_look_old() {
        // Some readings are served 55 s after they were sent: what they tell is that much younger.
        // That nothing younger than a minute is compacted to is held by the model.
        let mut slow = fleet(1);
        slow.delay = |now, request| match request {
            ShareRequest::ReadCompact if [1, 3, 4].contains(&(now / 60 % 7)) => 55,
            _ => 0,
        };
        slow.pass(6 * HOUR);
        assert!(slow.compacted.len() > 60, "{:?}", slow.seconds());
    }

    #[test]
    fn a_process_that_stood_still_trusts_no_more_than_it_knows() {
        let mut still = fleet(2);
        for round in 0..40 {
            still.still[0] = still.second + 20 + 7 * round;
            still.pass(300);
        }
        // One that has stood still finds the record changed, and its compare fails.
        assert!(still.compacted.len() > 40, "{:?}", still.seconds());
        assert!(still.seconds().windows(2).all(|two| two[1] - two[0] >= 180));
    }

    #[test]
    fn a_record_ahead_of_what_is_old_is_left_alone() {
        let mut ahead = fleet(1);
        ahead.put(None, newest(2 * HOUR));
        ahead.pass(HOUR);
        assert_eq!(ahead.written.len(), 1);
    }

    fn unknown() -> ShareAnswer {
        ShareAnswer::Unknown { error: "no answer".to_owned() }
    }

    fn refused() -> ShareAnswer {
        ShareAnswer::Refused { error: "permission denied".to_owned(), retryable: false }
    }

    #[test]
    fn a_put_that_was_lost_is_tried_again_after_the_next_reading() {
        let mut lost = fleet(1);
        lost.fault = |now, request| match request {
            ShareRequest::PutCompact { .. } if now <= 210 => Some((unknown(), false)),
            _ => None,
        };
        lost.pass(300);
        assert_eq!(lost.seconds(), [turn_of(0, 0, Revision(0)) + 60]);
    }

    #[test]
    fn a_put_whose_answer_was_lost_begins_the_wait_anew() {
        let mut lost = fleet(1);
        lost.fault = |now, request| match request {
            ShareRequest::PutCompact { .. } if now <= 210 => Some((unknown(), true)),
            _ => None,
        };
        lost.pass(500);
        let found = turn_of(0, 0, Revision(0)) + 60;
        assert_eq!(lost.written.len(), 2);
        assert_eq!(lost.seconds(), [turn_of(0, found, lost.written[0].0)]);
    }

    #[test]
    fn one_that_finds_it_compacted_further_says_nothing() {
        let mut behind = fleet(1);
        behind.fault = |_, request| match request {
            ShareRequest::Compact { .. } => Some((ShareAnswer::Overtaken, false)),
            _ => None,
        };
        behind.pass(HOUR);
        assert!(behind.written.len() > 12);
        assert_eq!(behind.refused, []);
    }

    #[test]
    fn what_is_refused_for_good_is_said_and_left_for_ten_minutes() {
        let mut barred = fleet(2);
        barred.fault = |_, request| match request {
            ShareRequest::ReadCompact => Some((refused(), false)),
            _ => None,
        };
        barred.pass(1_500);
        assert_eq!(barred.refused, [(0, 0), (0, 1), (600, 0), (600, 1), (1_200, 0), (1_200, 1)]);
    }

    #[test]
    fn an_agent_whose_compactions_are_refused_holds_up_nobody() {
        let mut mixed = fleet(2);
        mixed.pass(HOUR);
        mixed.fault = |now, request| match request {
            ShareRequest::Compact { .. } if now < HOUR + 300 => Some((refused(), false)),
            _ => None,
        };
        let before = mixed.compacted.len();
        mixed.pass(HOUR);
        assert_eq!(mixed.refused.len(), 1);
        assert!(mixed.compacted.len() >= before + 11, "{:?}", mixed.seconds());
    }
}
