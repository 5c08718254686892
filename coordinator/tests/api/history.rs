//! Whether what clients of one task were told can have happened one after the other: each call at
//! some moment between its begin and its answer. That is what linearizable means, and this is the
//! search of Wing and Gong, with what it has seen remembered.
//!
//! A call whose outcome is unknown may have happened at any moment since it began, or never.

use std::collections::HashSet;
use std::time::Instant;

/// What a task says of itself; each write has a text of its own, or one from before.
pub type Text = u64;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    Create(Text),
    Put(Text),
    PutIf(i64, Text),
    Delete,
    DeleteIf(i64),
    Get,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// Written, or found to be so already, at this revision.
    Wrote(i64),
    Deleted,
    /// There is one already.
    Exists,
    /// There is none.
    None,
    /// What is there is of another revision, if it is there.
    Conflict,
    Read(Text, i64),
    Unknown,
}

#[derive(Clone, Debug)]
pub struct Done {
    pub began: Instant,
    pub ended: Instant,
    pub call: Call,
    pub reply: Reply,
}

/// The task as it is at some moment, with its revision where somebody was told of it.
type Task = Option<(Text, Option<i64>)>;

/// The task, and the highest revision that it has had.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct State {
    task: Task,
    highest: i64,
}

/// The first calls that cannot be put into an order, or nothing. Texts of one task.
pub fn check(calls: &[Done]) -> Result<(), String> {
    let mut calls = calls.to_vec();
    calls.sort_by_key(|done| done.began);
    let mut search = Search { calls: &calls, seen: HashSet::new(), longest: Vec::new() };
    match search.go(
        &mut Taken(vec![0; calls.len().div_ceil(64)]),
        State::default(),
        &mut Vec::new(),
    ) {
        true => Ok(()),
        false => Err(search.told()),
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Taken(Vec<u64>);

impl Taken {
    fn has(&self, at: usize) -> bool {
        self.0[at / 64] & (1 << (at % 64)) != 0
    }

    fn flip(&mut self, at: usize) {
        self.0[at / 64] ^= 1 << (at % 64);
    }
}

struct Search<'a> {
    calls: &'a [Done],
    seen: HashSet<(Taken, State)>,
    longest: Vec<usize>,
}

impl Search<'_> {
    fn go(&mut self, taken: &mut Taken, state: State, order: &mut Vec<usize>) -> bool {
        let left = |at: &usize| !taken.has(*at) && self.calls[*at].reply != Reply::Unknown;
        let ends = (0..self.calls.len()).filter(left).map(|at| self.calls[at].ended).min();
        let Some(first_end) = ends else { return true };
        if !self.seen.insert((taken.clone(), state)) {
            return false;
        }
        for at in 0..self.calls.len() {
            let done = &self.calls[at];
            if done.began > first_end {
                break;
            }
            if taken.has(at) {
                continue;
            }
            let Some(next) = after(state, done.call, done.reply) else { continue };
            taken.flip(at);
            order.push(at);
            if order.len() > self.longest.len() {
                self.longest.clone_from(order);
            }
            if self.go(taken, next, order) {
                return true;
            }
            order.pop();
            taken.flip(at);
        }
        false
    }

    /// The end of the longest order, and what is open behind it.
    fn told(&self) -> String {
        let start = self.calls.first().map(|done| done.began);
        let told = |at: &usize| {
            let done = &self.calls[*at];
            let since = |moment: Instant| start.map(|start| moment.duration_since(start));
            let (began, ended) = (since(done.began), since(done.ended));
            format!("{began:?} to {ended:?}: {:?} -> {:?}", done.call, done.reply)
        };
        let tail = self.longest.len().saturating_sub(8);
        let good: Vec<String> = self.longest[tail..].iter().map(told).collect();
        let open = (0..self.calls.len()).filter(|at| !self.longest.contains(at)).take(8);
        let open: Vec<String> = open.map(|at| told(&at)).collect();
        format!("in order:\n{}\nand then none of:\n{}", good.join("\n"), open.join("\n"))
    }
}

/// What the task is after this call, if it could be answered so. `None`: it could not.
fn after(State { task, highest }: State, call: Call, reply: Reply) -> Option<State> {
    let there = task.is_some();
    // A write whose revision nobody was told of has a later one than all before.
    let is = |at: Option<i64>, given: i64| at.map_or(given > highest, |at| at == given);
    let matches = |given: i64| task.is_some_and(|(_, at)| is(at, given));
    let differs = |given: i64| task.is_none_or(|(_, at)| at != Some(given));
    let same = |text: Text| task.is_some_and(|(is, _)| is == text);
    // What is there already is not written again; anything else gets a later revision.
    let wrote = |text: Text, at: i64| {
        let kept = same(text) && matches(at);
        (kept || at > highest).then_some(Some((text, Some(at))))
    };
    let may_have = |text: Text| if same(text) { task } else { Some((text, None)) };
    let task = match (call, reply) {
        (Call::Create(text), Reply::Wrote(at)) if !there && at > highest => Some((text, Some(at))),
        (Call::Create(_), Reply::Exists) if there => task,
        (Call::Create(text), Reply::Unknown) if !there => Some((text, None)),
        (Call::Put(text), Reply::Wrote(at)) => wrote(text, at)?,
        (Call::PutIf(given, text), Reply::Wrote(at)) if matches(given) => wrote(text, at)?,
        (Call::PutIf(given, _) | Call::DeleteIf(given), Reply::Conflict) if differs(given) => task,
        (Call::Put(text), Reply::Unknown) => may_have(text),
        (Call::PutIf(given, text), Reply::Unknown) if matches(given) => may_have(text),
        // Asked again, its absence is its success.
        (Call::Delete, Reply::Deleted) => None,
        (Call::DeleteIf(given), Reply::Deleted) if matches(given) || !there => None,
        (Call::Delete | Call::DeleteIf(_), Reply::None) if !there => None,
        (Call::Delete, Reply::Unknown) => None,
        (Call::DeleteIf(given), Reply::Unknown) if matches(given) => None,
        (Call::Get, Reply::None) if !there => None,
        (Call::Get, Reply::Read(text, at)) if same(text) && matches(at) => Some((text, Some(at))),
        _ => return None,
    };
    let at = task.and_then(|(_, at)| at).unwrap_or(0);
    Some(State { task, highest: highest.max(at) })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Calls with the milliseconds of their begin and end.
    fn judged(calls: &[(u64, u64, Call, Reply)]) -> bool {
        let zero = Instant::now();
        let done = |&(began, ended, call, reply): &(u64, u64, Call, Reply)| Done {
            began: zero + Duration::from_millis(began),
            ended: zero + Duration::from_millis(ended),
            call,
            reply,
        };
        check(&calls.iter().map(done).collect::<Vec<_>>()).is_ok()
    }

    #[test]
    fn what_can_have_happened_in_some_order_is_good() {
        use Call::*;
        assert!(judged(&[(0, 1, Create(1), Reply::Wrote(5)), (2, 3, Get, Reply::Read(1, 5))]));
        // Read while it is written: before, or after.
        let write = (0, 9, Put(2), Reply::Wrote(7));
        assert!(judged(&[write, (1, 2, Get, Reply::None), (3, 4, Get, Reply::Read(2, 7))]));
        // An outcome that is unknown: it happened late, or never.
        let unknown = (0, 1, Create(1), Reply::Unknown);
        assert!(judged(&[unknown, (2, 3, Get, Reply::None), (4, 5, Get, Reply::Read(1, 8))]));
        assert!(judged(&[unknown, (2, 3, Get, Reply::None), (4, 5, Create(2), Reply::Wrote(9))]));
    }

    #[test]
    fn what_cannot_is_found() {
        use Call::*;
        let created = (0, 1, Create(1), Reply::Wrote(5));
        let written = (2, 3, Put(2), Reply::Wrote(6));
        assert!(!judged(&[created, written, (4, 5, Get, Reply::Read(1, 5))]), "an old read");
        assert!(!judged(&[created, (2, 3, Get, Reply::None)]), "a lost create");
        let (new, old) = ((4, 5, Get, Reply::Read(2, 6)), (6, 7, Get, Reply::Read(1, 5)));
        let slow = (2, 9, Put(2), Reply::Wrote(6));
        assert!(!judged(&[created, slow, new, old]), "back in time");
        assert!(!judged(&[created, written, (4, 5, Put(1), Reply::Wrote(5))]), "a lost write");
        assert!(!judged(&[created, written, (4, 5, PutIf(6, 3), Reply::Conflict)]));
        assert!(!judged(&[created, written, (4, 5, PutIf(5, 3), Reply::Wrote(7))]));
        let lost = (4, 5, Put(1), Reply::Unknown);
        assert!(judged(&[created, written, lost, (6, 7, Get, Reply::Read(1, 7))]));
        for old in [
            (6, 7, Get, Reply::Read(1, 5)),
            (6, 7, Put(1), Reply::Wrote(5)),
            (6, 7, PutIf(5, 3), Reply::Wrote(7)),
        ] {
            assert!(!judged(&[created, written, lost, old]), "an old revision: {old:?}");
        }
        let deleted = (2, 3, Delete, Reply::Deleted);
        assert!(
            !judged(&[created, deleted, (4, 5, Create(2), Reply::Wrote(4))]),
            "an old revision"
        );
        let twice = (2, 3, Create(2), Reply::Wrote(6));
        assert!(!judged(&[created, twice]), "two of one name");
    }
}
