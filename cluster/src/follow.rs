//! List, then watch: how a copy of a key range is made and kept whole, as a state machine without
//! I/O. The agent's driver and the coordinator's catalog are built on it, and the simulator runs
//! it.
//!
//! A watch that ended or stalled without a word is the worst failure of schedulers, so nothing here
//! trusts silence. Compaction leads to a new list. An end, a refused opening or a stall (W3) leads
//! to a new watch from the last delivered revision + 1; after a stall it asks for another member
//! of the shared state, since a member that keeps silent to one watch answers pings all the same,
//! and would keep silent to the next. After a gap in reading (W4) what the old
//! watch still holds is thrown away by changing the watcher's id. Errors are met with backoff, one
//! request in flight at a time, for ever: a follower never gives up.
//!
//! A list is cut at the borders of ranges: etcd 3.4 counts all keys up to the end that a page asks
//! for, whatever its limit (80 ms for half a million), so that pages of one open range would cost
//! it the square of the number of keys. How many ranges a page spans follows from how full the
//! pages before it were.
//!
//! Contract: `begin` once; feed every answer and message; call `tick` when `wake_at` comes. What
//! `Output::News` says is in order, each revision whole, nothing twice.

use std::time::Duration;

use tocktower_core::hash::hash_parts;
use tocktower_core::ids::Revision;
use tocktower_core::time::{Mono, Now};

use crate::keys::Keys;
use crate::port::{
    Answer, Event, KeyRange, KeyValue, ListRequest, PortError, WatchCommand, WatchMessage,
    WatcherId,
};

/// Keys in one page of a list: with records of the largest size, 64 MB.
const PAGE_KEYS: usize = 1_000;
/// Ranges that one page may span: etcd counts at most what so many hold.
const PAGE_RANGES_MAX: u32 = 256;
/// How long a watch may take to open before another is tried.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How soon a watch that is opened again has to bring what the one before owed, or one that has
/// brought something the rest; each that does not has twice as long as the one before...
const OWED_WITHIN: Duration = Duration::from_secs(3);
/// ...up to this.
const OWED_WITHIN_MAX: Duration = Duration::from_secs(30);
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(3);

/// What the follower asks for, and what it has to tell.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Answered by `listed`.
    List(ListRequest),
    Watch(WatchCommand),
    News(News),
}

#[derive(Clone, PartialEq, Debug)]
pub enum News {
    /// A list begins that was asked for at `sent`; what it does not hold is gone.
    ListBegan {
        sent: Now,
    },
    Listed(Vec<KeyValue>),
    ListEnded {
        revision: Revision,
    },
    /// Whole revisions up to `through`.
    Events {
        through: Revision,
        events: Vec<Event>,
    },
    /// Something went wrong and is being tried again; for the log.
    Trouble {
        what: &'static str,
        error: String,
    },
}

#[derive(Debug)]
enum State {
    Idle,
    /// A page is asked for. `at` is the list's revision once the first page has come.
    Listing {
        at: Option<Revision>,
        sent: Now,
    },
    /// Try again at `until`.
    Resting {
        until: Mono,
        then: Then,
    },
    Opening {
        watcher: WatcherId,
        since: Mono,
    },
    Watching {
        watcher: WatcherId,
    },
}

#[derive(Clone, Copy, Debug)]
enum Then {
    List,
    Watch,
}

/// A revision that the watch must bring, by a deadline that is later whenever it brings anything.
#[derive(Clone, Copy, Debug)]
struct Expected {
    revision: Revision,
    by: Mono,
}

#[derive(Debug)]
pub struct Follower {
    range: KeyRange,
    state: State,
    /// Everything up to here was told.
    delivered: Revision,
    /// The part of the range that is being listed, without the pages before.
    part: KeyRange,
    /// Knows the borders at which lists are cut; `None`: the range is listed in one part.
    borders: Option<Keys>,
    /// Ranges that the next part spans.
    ahead: u32,
    failures: u32,
    expected: Option<Expected>,
    /// The last watch kept silent: the next one is to be opened at another member.
    stalled: bool,
}

impl Follower {
    pub fn new(range: KeyRange) -> Follower {
        Follower {
            part: range.clone(),
            borders: None,
            ahead: 1,
            range,
            state: State::Idle,
            delivered: Revision(0),
            failures: 0,
            expected: None,
            stalled: false,
        }
    }

    /// Of all keys of a cluster: lists are cut at the borders of ranges.
    pub fn of_all(keys: &Keys) -> Follower {
        Follower { borders: Some(keys.clone()), ..Follower::new(keys.all()) }
    }

    pub fn delivered(&self) -> Revision {
        self.delivered
    }

    /// Whether a message of this watcher is for this follower as it stands.
    pub fn watcher(&self) -> Option<WatcherId> {
        match self.state {
            State::Opening { watcher, .. } | State::Watching { watcher } => Some(watcher),
            State::Idle | State::Listing { .. } | State::Resting { .. } => None,
        }
    }

    /// Starts with a list.
    pub fn begin(&mut self, now: Now, out: &mut Vec<Output>) {
        self.list(now, out);
    }

    /// Stops for good.
    pub fn end(&mut self, out: &mut Vec<Output>) {
        self.close(out);
        self.state = State::Idle;
    }

    /// The answer to the newest `Output::List`.
    pub fn listed(
        &mut self,
        now: Now,
        answer: Result<Answer, PortError>,
        ids: &mut u64,
        out: &mut Vec<Output>,
    ) {
        let State::Listing { at, sent } = self.state else { return };
        match answer {
            Ok(Answer::List { revision, items, more }) => {
                if at.is_none() {
                    out.push(Output::News(News::ListBegan { sent }));
                }
                let revision = at.unwrap_or(revision);
                let count = items.len();
                let last = items.last().map(|item| item.key.clone()).filter(|_| more);
                out.push(Output::News(News::Listed(items)));
                if self.pass(count, last) {
                    self.state = State::Listing { at: Some(revision), sent };
                    out.push(Output::List(self.page(Some(revision))));
                } else {
                    self.failures = 0;
                    self.advance(now, revision);
                    out.push(Output::News(News::ListEnded { revision }));
                    self.open(now, ids, out);
                }
            }
            Ok(other) => self.rest(now, Then::List, "list", format!("{other:?}"), out),
            Err(error) => self.rest(now, Then::List, "list", error.to_string(), out),
        }
    }

    /// A message of the watch stream. Those of other or earlier watchers are not for this follower.
    pub fn message(
        &mut self,
        now: Now,
        message: WatchMessage,
        ids: &mut u64,
        out: &mut Vec<Output>,
    ) {
        match message {
            WatchMessage::Opened { watcher } if self.watcher() == Some(watcher) => {
                self.state = State::Watching { watcher };
                // What the one before owed this one has to bring: nothing else may be written.
                self.expect_later(now);
            }
            WatchMessage::Events { watcher, through, events }
                if self.watcher() == Some(watcher) =>
            {
                self.state = State::Watching { watcher };
                self.failures = 0;
                let known = self.delivered;
                let events: Vec<Event> =
                    events.into_iter().filter(|event| event.revision() > known).collect();
                self.advance(now, self.delivered.max(through));
                out.push(Output::News(News::Events { through, events }));
            }
            WatchMessage::Compacted { watcher, .. } if self.watcher() == Some(watcher) => {
                self.state = State::Idle;
                self.list(now, out);
            }
            WatchMessage::Ended { watcher, reason } if self.watcher() == Some(watcher) => {
                self.state = State::Idle;
                self.rest(now, Then::Watch, "watch", reason, out);
                self.tick(now, ids, out);
            }
            WatchMessage::Opened { .. }
            | WatchMessage::Events { .. }
            | WatchMessage::Compacted { .. }
            | WatchMessage::Ended { .. } => {}
        }
    }

    /// A write at `revision` was answered; the watch must bring something by `by` (W3), and that
    /// in the end.
    pub fn expect(&mut self, revision: Revision, by: Mono) {
        if revision > self.delivered {
            let expected = self.expected.get_or_insert(Expected { revision, by });
            expected.revision = expected.revision.max(revision);
        }
    }

    /// Everything up to here was told.
    fn advance(&mut self, now: Now, through: Revision) {
        self.delivered = through;
        self.expected.take_if(|expected| expected.revision <= through);
        self.expect_later(now);
    }

    fn expect_later(&mut self, now: Now) {
        let times = 2_u32.saturating_pow(self.failures.saturating_sub(1).min(10));
        let within = OWED_WITHIN_MAX.min(OWED_WITHIN * times);
        if let Some(expected) = &mut self.expected {
            expected.by = expected.by.max(now.mono.plus(within));
        }
    }

    /// The watch was not read for long (W4): what it still holds is thrown away unread.
    pub fn distrust(&mut self, now: Now, ids: &mut u64, out: &mut Vec<Output>) {
        if self.watcher().is_some() {
            self.close(out);
            self.open(now, ids, out);
        }
    }

    /// Lists again from the beginning: the copy was found to lack something.
    pub fn relist(&mut self, now: Now, out: &mut Vec<Output>) {
        if !matches!(self.state, State::Listing { .. }) {
            self.close(out);
            self.list(now, out);
        }
    }

    /// Somebody suspects that the watch keeps silent (W3). One that is not open yet has had no time
    /// to speak. No trouble is told: as a rule the writer is gone, and the watch is well.
    pub fn reopen(&mut self, now: Now, out: &mut Vec<Output>) {
        if matches!(self.state, State::Watching { .. }) {
            self.close(out);
            self.stalled = true;
            self.wait(now, Then::Watch);
        }
    }

    /// Does what is due by now.
    pub fn tick(&mut self, now: Now, ids: &mut u64, out: &mut Vec<Output>) {
        match self.state {
            State::Resting { until, then } if until <= now.mono => match then {
                Then::List => self.list(now, out),
                Then::Watch => self.open(now, ids, out),
            },
            State::Opening { since, .. } if since.plus(OPEN_TIMEOUT) <= now.mono => {
                self.stall(now, "it did not open in time".to_owned(), out);
            }
            State::Watching { .. }
                if self.expected.is_some_and(|expected| expected.by <= now.mono) =>
            {
                let revision = self.expected.map(|expected| expected.revision);
                self.stall(now, format!("it stalled before revision {revision:?}"), out);
            }
            _ => {}
        }
    }

    /// When `tick` has something to do, if nothing comes before.
    pub fn wake_at(&self) -> Option<Mono> {
        match self.state {
            State::Resting { until, .. } => Some(until),
            State::Opening { since, .. } => Some(since.plus(OPEN_TIMEOUT)),
            State::Watching { .. } => self.expected.map(|expected| expected.by),
            State::Idle | State::Listing { .. } => None,
        }
    }

    fn list(&mut self, now: Now, out: &mut Vec<Output>) {
        self.part = self.range.clone();
        self.ahead = 1;
        self.expected = None;
        self.state = State::Listing { at: None, sent: now };
        out.push(Output::List(self.page(None)));
    }

    /// Goes on behind a page of so many keys; `last` is the last one, if the part holds more.
    /// `false`: that was all.
    fn pass(&mut self, count: usize, last: Option<Vec<u8>>) -> bool {
        let more = last.is_some();
        match last {
            Some(last) => {
                self.part.start = last;
                self.part.start.push(0);
            }
            None if self.part.end == self.range.end => return false,
            None => self.part.start = std::mem::take(&mut self.part.end),
        }
        if more {
            self.ahead = (self.ahead / 2).max(1);
        } else if count < PAGE_KEYS / 2 {
            self.ahead = (self.ahead * 2).min(PAGE_RANGES_MAX);
        }
        // A part that was cut already is listed to its end.
        if !more || self.part.end == self.range.end {
            let border = self.borders.as_ref();
            let border = border.and_then(|keys| keys.border(&self.part.start, self.ahead));
            self.part.end = border
                // Somebody else's key may look as if it lay in a range.
                .filter(|border| *border > self.part.start && *border < self.range.end)
                .unwrap_or_else(|| self.range.end.clone());
        }
        true
    }

    fn page(&self, at: Option<Revision>) -> ListRequest {
        ListRequest { range: self.part.clone(), limit: PAGE_KEYS, at, keys_only: false }
    }

    fn open(&mut self, now: Now, ids: &mut u64, out: &mut Vec<Output>) {
        *ids += 1;
        let watcher = WatcherId(*ids);
        self.state = State::Opening { watcher, since: now.mono };
        let (range, from) = (self.range.clone(), self.delivered.next());
        let elsewhere = std::mem::take(&mut self.stalled);
        out.push(Output::Watch(WatchCommand::Open { watcher, range, from, elsewhere }));
    }

    fn close(&mut self, out: &mut Vec<Output>) {
        if let Some(watcher) = self.watcher() {
            out.push(Output::Watch(WatchCommand::Close { watcher }));
        }
    }

    /// The next watch is to be opened at another member.
    fn stall(&mut self, now: Now, error: String, out: &mut Vec<Output>) {
        self.close(out);
        self.stalled = true;
        self.rest(now, Then::Watch, "watch", error, out);
    }

    fn rest(
        &mut self,
        now: Now,
        then: Then,
        what: &'static str,
        error: String,
        out: &mut Vec<Output>,
    ) {
        self.wait(now, then);
        out.push(Output::News(News::Trouble { what, error }));
    }

    fn wait(&mut self, now: Now, then: Then) {
        let full = BACKOFF_MAX.min(BACKOFF_FIRST * 2_u32.saturating_pow(self.failures.min(10)));
        let hash = hash_parts(&[&self.range.start, &self.failures.to_be_bytes()]);
        let spread = u32::try_from(hash % 50).expect("below 50");
        self.failures = self.failures.saturating_add(1);
        self.state = State::Resting { until: now.mono.plus(full * (50 + spread) / 100), then };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tocktower_core::time::Wall;

    fn at(ms: u64) -> Now {
        Now { wall: Wall::from_millis(0), mono: Mono::from_micros(ms * 1_000) }
    }

    fn item(key: &str, revision: i64) -> KeyValue {
        KeyValue {
            key: key.as_bytes().to_vec(),
            value: Vec::new(),
            create_revision: Revision(revision),
            mod_revision: Revision(revision),
            lease: None,
        }
    }

    fn page(revision: i64, keys: &[&str], more: bool) -> Result<Answer, PortError> {
        let items = keys.iter().map(|key| item(key, revision)).collect();
        Ok(Answer::List { revision: Revision(revision), items, more })
    }

    /// A follower of `a…` that has listed up to `revision` and opened watcher 1.
    fn watching(revision: i64) -> (Follower, u64) {
        let mut follower = Follower::new(KeyRange::prefix(b"a"));
        let (mut ids, mut out) = (0, Vec::new());
        follower.begin(at(0), &mut out);
        follower.listed(at(1), page(revision, &["a1"], false), &mut ids, &mut out);
        let opened = WatchMessage::Opened { watcher: WatcherId(ids) };
        follower.message(at(2), opened, &mut ids, &mut out);
        (follower, ids)
    }

    fn opened_elsewhere(out: &[Output]) -> Option<bool> {
        out.iter().find_map(|output| match output {
            Output::Watch(WatchCommand::Open { elsewhere, .. }) => Some(*elsewhere),
            _ => None,
        })
    }

    fn opened_from(out: &[Output]) -> Option<Revision> {
        out.iter().find_map(|output| match output {
            Output::Watch(WatchCommand::Open { from, .. }) => Some(*from),
            _ => None,
        })
    }

    #[test]
    fn pages_of_one_list_are_read_at_one_revision_and_the_watch_goes_on_from_there() {
        let mut follower = Follower::new(KeyRange::prefix(b"a"));
        let (mut ids, mut out) = (0, Vec::new());
        follower.begin(at(0), &mut out);
        out.clear();
        follower.listed(at(1), page(7, &["a1", "a2"], true), &mut ids, &mut out);
        let Some(Output::List(second)) = out.last() else { panic!("{out:?}") };
        assert_eq!((second.at, second.range.start.as_slice()), (Some(Revision(7)), &b"a2\0"[..]));
        out.clear();
        follower.listed(at(2), page(9, &["a3"], false), &mut ids, &mut out);
        assert!(out.contains(&Output::News(News::ListEnded { revision: Revision(7) })));
        assert_eq!(opened_from(&out), Some(Revision(8)));
    }

    #[test]
    fn a_watch_that_ends_goes_on_after_what_it_delivered() {
        let (mut follower, mut ids) = watching(7);
        let mut out = Vec::new();
        let through = Revision(12);
        let events = vec![Event::Put(item("a2", 12))];
        let message = WatchMessage::Events { watcher: WatcherId(1), through, events };
        follower.message(at(10), message, &mut ids, &mut out);
        let ended = WatchMessage::Ended { watcher: WatcherId(1), reason: "gone".to_owned() };
        follower.message(at(20), ended, &mut ids, &mut out);
        out.clear();
        let wake = follower.wake_at().unwrap();
        follower.tick(Now { mono: wake, ..at(0) }, &mut ids, &mut out);
        assert_eq!(opened_from(&out), Some(Revision(13)));
        assert_eq!(opened_elsewhere(&out), Some(false), "whoever ended it has done what is needed");
    }

    #[test]
    fn compaction_leads_to_a_list() {
        let (mut follower, mut ids) = watching(7);
        let mut out = Vec::new();
        let message = WatchMessage::Compacted { watcher: WatcherId(1), oldest: Revision(90) };
        follower.message(at(10), message, &mut ids, &mut out);
        assert!(matches!(out.as_slice(), [Output::List(ListRequest { at: None, .. })]));
    }

    #[test]
    fn a_silent_watch_is_opened_again_when_a_write_of_mine_does_not_come() {
        let (mut follower, mut ids) = watching(7);
        let mut out = Vec::new();
        follower.expect(Revision(9), at(3_000).mono);
        follower.tick(at(2_999), &mut ids, &mut out);
        assert!(out.is_empty());
        follower.tick(at(3_000), &mut ids, &mut out);
        assert_eq!(out[0], Output::Watch(WatchCommand::Close { watcher: WatcherId(1) }));
        let wake = follower.wake_at().unwrap();
        follower.tick(Now { mono: wake, ..at(0) }, &mut ids, &mut out);
        assert_eq!(opened_from(&out), Some(Revision(8)));
        assert_eq!(opened_elsewhere(&out), Some(true));
        // Only the next one: the member after that is not known to be silent.
        out.clear();
        follower.distrust(at(9_000), &mut ids, &mut out);
        assert_eq!(opened_elsewhere(&out), Some(false));
    }

    #[test]
    fn what_a_silent_watch_owed_the_next_one_owes_as_well() {
        let (mut follower, mut ids) = watching(7);
        let mut out = Vec::new();
        follower.expect(Revision(9), at(3_000).mono);
        follower.tick(at(3_000), &mut ids, &mut out);
        follower.tick(at(3_100), &mut ids, &mut out);
        assert_eq!(opened_from(&out), Some(Revision(8)));
        let opened = WatchMessage::Opened { watcher: WatcherId(ids) };
        follower.message(at(3_200), opened, &mut ids, &mut out);
        out.clear();
        follower.tick(at(6_199), &mut ids, &mut out);
        assert!(out.is_empty());
        follower.tick(at(6_200), &mut ids, &mut out);
        assert_eq!(out[0], Output::Watch(WatchCommand::Close { watcher: WatcherId(2) }));
    }

    #[test]
    fn a_watch_that_falls_silent_before_what_it_owes_is_opened_again_and_one_that_told_is_not() {
        for (through, silent) in [(8, true), (9, false), (10, false)] {
            let (mut follower, mut ids) = watching(7);
            let mut out = Vec::new();
            follower.expect(Revision(9), at(3_000).mono);
            let events = vec![Event::Put(item("a8", 8))];
            let through = Revision(through);
            let some = WatchMessage::Events { watcher: WatcherId(1), through, events };
            follower.message(at(2_000), some, &mut ids, &mut out);
            out.clear();
            follower.tick(at(4_999), &mut ids, &mut out);
            assert!(out.is_empty());
            follower.tick(at(5_000), &mut ids, &mut out);
            assert_eq!(!out.is_empty(), silent);
        }
    }

    #[test]
    fn what_a_list_has_told_no_watch_owes() {
        let mut follower = Follower::new(KeyRange::prefix(b"a"));
        let (mut ids, mut out) = (0, Vec::new());
        follower.begin(at(0), &mut out);
        follower.expect(Revision(7), at(3_000).mono);
        follower.listed(at(1), page(7, &["a1"], false), &mut ids, &mut out);
        let opened = WatchMessage::Opened { watcher: WatcherId(ids) };
        follower.message(at(2), opened, &mut ids, &mut out);
        assert_eq!(follower.wake_at(), None);
    }

    #[test]
    fn a_watch_that_is_suspected_of_silence_is_opened_again_at_another_member() {
        let (mut follower, mut ids) = watching(7);
        let mut out = Vec::new();
        follower.reopen(at(6_000), &mut out);
        let closed = Output::Watch(WatchCommand::Close { watcher: WatcherId(1) });
        assert_eq!(out, [closed], "a suspicion is no trouble that anybody is told of");
        let wake = follower.wake_at().unwrap();
        follower.tick(Now { mono: wake, ..at(0) }, &mut ids, &mut out);
        assert_eq!((opened_from(&out), opened_elsewhere(&out)), (Some(Revision(8)), Some(true)));
        // It has had no time to speak.
        out.clear();
        follower.reopen(at(6_100), &mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn a_watch_that_does_not_open_is_opened_at_another_member() {
        let mut follower = Follower::new(KeyRange::prefix(b"a"));
        let (mut ids, mut out) = (0, Vec::new());
        follower.begin(at(0), &mut out);
        follower.listed(at(1), page(7, &["a1"], false), &mut ids, &mut out);
        assert_eq!(opened_elsewhere(&out), Some(false));
        out.clear();
        follower.tick(at(5_001), &mut ids, &mut out);
        let wake = follower.wake_at().unwrap();
        follower.tick(Now { mono: wake, ..at(0) }, &mut ids, &mut out);
        assert_eq!((ids, opened_elsewhere(&out)), (2, Some(true)));
    }

    #[test]
    fn what_a_distrusted_watch_still_holds_is_not_told() {
        let (mut follower, mut ids) = watching(7);
        let mut out = Vec::new();
        follower.distrust(at(40_000), &mut ids, &mut out);
        out.clear();
        let events = vec![Event::Put(item("a9", 90))];
        let stale = WatchMessage::Events { watcher: WatcherId(1), through: Revision(90), events };
        follower.message(at(40_001), stale, &mut ids, &mut out);
        assert!(out.is_empty());
        assert_eq!(follower.delivered(), Revision(7));
    }

    #[test]
    fn a_list_that_fails_is_tried_again_with_growing_waits() {
        let mut follower = Follower::new(KeyRange::prefix(b"a"));
        let (mut ids, mut out) = (0, Vec::new());
        follower.begin(at(0), &mut out);
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..8 {
            follower.listed(now, Err(PortError::NoLeader), &mut ids, &mut out);
            let wake = follower.wake_at().unwrap();
            waits.push(wake.since(now.mono));
            now.mono = wake;
            follower.tick(now, &mut ids, &mut out);
        }
        assert!(waits[0] < Duration::from_millis(51) && waits[7] > Duration::from_secs(1));
        assert!(waits.iter().all(|wait| *wait <= BACKOFF_MAX));
    }

    /// Lists `held` as etcd would, and gives the pages, and the keys that etcd had to count.
    fn list_all(keys: &Keys, held: &[Vec<u8>]) -> (usize, usize) {
        let mut follower = Follower::of_all(keys);
        let (mut ids, mut out) = (0, Vec::new());
        follower.begin(at(0), &mut out);
        let (mut pages, mut counted, mut listed) = (0, 0, Vec::new());
        while let Some(Output::List(asked)) = out.pop() {
            assert!(asked.range.start < asked.range.end, "{asked:?}");
            let from = held.partition_point(|key| *key < asked.range.start);
            let rest = &held[from..held.partition_point(|key| *key < asked.range.end)];
            pages += 1;
            counted += rest.len();
            let page: Vec<KeyValue> = rest
                .iter()
                .take(asked.limit)
                .map(|key| KeyValue { key: key.clone(), ..item("", 5) })
                .collect();
            listed.extend(page.iter().map(|item| item.key.clone()));
            let more = rest.len() > page.len();
            out.clear();
            let answer = Answer::List { revision: Revision(7), items: page, more };
            follower.listed(at(1), Ok(answer), &mut ids, &mut out);
            // What follows the last page is a watch.
            if !matches!(out.last(), Some(Output::List(_))) {
                break;
            }
        }
        assert_eq!(listed, held, "each key once, in order");
        assert_eq!(opened_from(&out), Some(Revision(8)));
        (pages, counted)
    }

    fn cluster(keys: &Keys, pools: &[(&str, usize)]) -> Vec<Vec<u8>> {
        let mut held = vec![keys.build(&crate::keys::Key::Cluster)];
        held.push(keys.build(&crate::keys::Key::Beat));
        for (pool, tasks) in pools {
            let pool = tocktower_core::ids::PoolName::parse(pool).unwrap();
            for number in 0..*tasks {
                let name = tocktower_core::ids::TaskName::parse(&format!("a/t{number}")).unwrap();
                held.push(keys.build(&crate::keys::Key::Task(pool.clone().into(), name)));
            }
        }
        held.sort();
        held
    }

    #[test]
    fn a_list_of_many_keys_is_cut_so_that_few_are_counted_more_than_a_few_times() {
        let keys = Keys::new(crate::keys::PREFIX, tocktower_core::hash::RangeCount::DEFAULT);
        for pools in [
            &[("default", 100_000)][..],
            &[("a-b", 30_000), ("a", 30_000), ("default", 3), ("z", 30_000)],
            &[("default", 600_000)],
        ] {
            let held = cluster(&keys, pools);
            let (pages, counted) = list_all(&keys, &held);
            // A full page, or two that share a border; each pool begins with an open count.
            assert!(pages <= held.len() / (PAGE_KEYS / 4) + 16 * pools.len(), "{pages}");
            assert!(counted <= held.len() * (3 + pools.len()), "{counted}");
        }
        let small = cluster(&keys, &[("default", 900)]);
        assert_eq!(list_all(&keys, &small).0, 1, "what fits a page is one page");
        assert_eq!(list_all(&keys, &[]).0, 1);
    }
}
