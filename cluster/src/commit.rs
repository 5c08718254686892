//! Group commit of creates: many small transactions travel as one, since a round trip each is what
//! keeps schedulers at a thousand creates a second.
//!
//! The idea: while transactions are in flight, what arrives is collected, for a millisecond at
//! most; it is sorted by range, so that one transaction touches the watchers of few ranges, and cut
//! by count and bytes. Each create is a nested transaction, so that one whose name is taken fails
//! alone. With nothing in flight nothing waits.
//!
//! After an unknown outcome the keys are read back: what is there as it was sent was created. What
//! is not there may still come, or have come and run already, so only a create that is known by its
//! request (ledger.md, "duplicate_of") is sent again; the others are told that nobody knows.
//!
//! Bounded three ways: creates and bytes that wait, and transactions in flight. At a bound the
//! caller is refused at once and may say when to come back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tocktower_core::ids::{Epoch, Incarnation, TaskName};
use tocktower_core::limits;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::keys::{Key, Keys};
use crate::port::{Answer, KeyValue, Op, OpAnswer, Port, PortError, Request, Txn};
use crate::tasks::{self, AnswerError, Create, Created};

/// Creates that wait or are in flight; two whole batches fit.
const WAITING_MAX: usize = 2 * limits::BATCH_TASKS_MAX + 1_000;
/// Kilobytes that wait or are in flight: four of the largest requests.
const WAITING_KB_MAX: usize = 4 * limits::REQUEST_BYTES_MAX / 1_024;
/// Transactions in flight; etcd gains nothing from more.
const FLIGHTS_MAX: usize = 8;
/// How long a create waits for others while transactions are in flight.
const GATHER: Duration = Duration::from_millis(1);
/// What the keys of a create take in a transaction at most: compared, read, and put.
const KEYS_BYTES: usize = 6 * (2 * limits::NAME_BYTES_MAX + 160);
/// How often an unknown outcome is looked into before it is reported as such.
const LOOKS_MAX: u32 = 4;
const LOOK_PAUSE: Duration = Duration::from_millis(200);

const _: () = assert!(WAITING_MAX > limits::BATCH_TASKS_MAX);
const _: () = assert!(WAITING_KB_MAX * 1_024 > limits::REQUEST_BYTES_MAX);

/// A create that is asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct Wanted {
    pub create: Create,
    /// The record carries a request, so that whoever runs it knows it again: it may be sent twice.
    pub known_again: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    #[error("too many creates are waiting to be written")]
    Full,
    #[error("whether the task was created is not known: the shared state did not answer")]
    OutcomeUnknown,
    #[error("the task was not created")]
    Refused(#[source] PortError),
    #[error("what is in the task's place cannot be read")]
    Answer(#[source] AnswerError),
    #[error("the coordinator is stopping; the task may or may not have been created")]
    Stopping,
}

impl CommitError {
    pub fn retryable(&self) -> bool {
        match self {
            CommitError::Full | CommitError::Stopping => true,
            CommitError::OutcomeUnknown | CommitError::Answer(_) => false,
            CommitError::Refused(error) => error.retryable(),
        }
    }
}

/// Told of each transaction: how many creates it held, and how long it took.
pub type Observer = Arc<dyn Fn(usize, Duration) + Send + Sync>;

type Outcome = Result<Created, CommitError>;

struct Waiting {
    wanted: Wanted,
    /// Its share of the bytes that may wait, given back when it is answered.
    _room: OwnedSemaphorePermit,
    answer: oneshot::Sender<Outcome>,
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.wanted.create.value.len() + KEYS_BYTES
    }
}

/// What all transactions need.
#[derive(Clone)]
struct Shared {
    port: Arc<dyn Port>,
    keys: Keys,
    epoch: Epoch,
    observer: Observer,
}

/// Takes creates in. The task behind it ends when the last handle is dropped and all is answered.
#[derive(Clone)]
pub struct Commit {
    inbox: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
}

impl Commit {
    /// Must be called within a tokio runtime. `epoch` is the cluster's.
    pub fn start(port: Arc<dyn Port>, keys: Keys, epoch: Epoch, observer: Observer) -> Commit {
        let (inbox, creates) = mpsc::channel(WAITING_MAX);
        tokio::spawn(gather(Shared { port, keys, epoch, observer }, creates));
        Commit { inbox, room: Arc::new(Semaphore::new(WAITING_KB_MAX)) }
    }

    /// Creates all of `creates`, each for itself; the answers are in their order. All of them are
    /// refused if there is no room for all.
    pub async fn create(&self, creates: Vec<Wanted>) -> Result<Vec<Outcome>, CommitError> {
        let answers = self.enqueue(creates)?;
        let mut results = Vec::with_capacity(answers.len());
        for answer in answers {
            results.push(answer.await.unwrap_or(Err(CommitError::Stopping)));
        }
        Ok(results)
    }

    fn enqueue(
        &self,
        creates: Vec<Wanted>,
    ) -> Result<Vec<oneshot::Receiver<Outcome>>, CommitError> {
        if creates.is_empty() {
            return Ok(Vec::new());
        }
        let places = self.inbox.try_reserve_many(creates.len()).map_err(|error| match error {
            mpsc::error::TrySendError::Full(()) => CommitError::Full,
            mpsc::error::TrySendError::Closed(()) => CommitError::Stopping,
        })?;
        let mut rooms = Vec::with_capacity(creates.len());
        for wanted in &creates {
            let kilobytes = wanted.create.value.len().div_ceil(1_024).max(1);
            let kilobytes = u32::try_from(kilobytes).unwrap_or(u32::MAX);
            let room = self.room.clone().try_acquire_many_owned(kilobytes);
            rooms.push(room.map_err(|_| CommitError::Full)?);
        }
        let mut answers = Vec::with_capacity(creates.len());
        for ((place, room), wanted) in places.zip(rooms).zip(creates) {
            let (answer, answered) = oneshot::channel();
            place.send(Waiting { wanted, _room: room, answer });
            answers.push(answered);
        }
        Ok(answers)
    }
}

/// The owner: collects, sorts, cuts, sends.
async fn gather(shared: Shared, mut inbox: mpsc::Receiver<Waiting>) {
    let flights = Arc::new(Semaphore::new(FLIGHTS_MAX));
    let landed = Arc::new(Notify::new());
    let mut waiting = Vec::new();
    while inbox.recv_many(&mut waiting, WAITING_MAX).await > 0 {
        let until = tokio::time::Instant::now() + GATHER;
        while waiting.len() < limits::COMMIT_CREATES_MAX
            && flights.available_permits() < FLIGHTS_MAX
        {
            tokio::select! {
                count = inbox.recv_many(&mut waiting, WAITING_MAX) => if count == 0 { break },
                () = landed.notified() => break,
                () = tokio::time::sleep_until(until) => break,
            }
        }
        // Sorted by range, and creates of one name stay in the order in which they came.
        let ranges = shared.keys.ranges();
        waiting.sort_by_cached_key(|waiting| ranges.range_of(&waiting.wanted.create.name));
        for group in cut(std::mem::take(&mut waiting)) {
            let Ok(flight) = flights.clone().acquire_owned().await else { return };
            let (shared, landed) = (shared.clone(), landed.clone());
            tokio::spawn(async move {
                let begun = Instant::now();
                let count = group.len();
                fly(&shared, group).await;
                (shared.observer)(count, begun.elapsed());
                drop(flight);
                landed.notify_one();
            });
        }
    }
}

/// Cuts by count and bytes, in order. A key may be put once in a transaction, so of two creates of
/// one name the second opens another.
fn cut(all: Vec<Waiting>) -> Vec<Vec<Waiting>> {
    let mut groups: Vec<Vec<Waiting>> = Vec::new();
    let mut names: BTreeSet<TaskName> = BTreeSet::new();
    let mut bytes = 0;
    for waiting in all {
        let more = waiting.bytes();
        let name = waiting.wanted.create.name.clone();
        match groups.last_mut() {
            Some(group)
                if group.len() < limits::COMMIT_CREATES_MAX
                    && bytes + more <= limits::TXN_BYTES_MAX
                    && !names.contains(&name) =>
            {
                bytes += more;
                group.push(waiting);
            }
            _ => {
                bytes = more;
                names.clear();
                groups.push(vec![waiting]);
            }
        }
        names.insert(name);
    }
    groups
}

/// Sends one group until each of its creates has an answer.
async fn fly(shared: &Shared, mut group: Vec<Waiting>) {
    match send(shared, &group).await {
        Ok(answer) => return settle(shared, group, &answer),
        Err(error) if error.refused() => return fail(group, &CommitError::Refused(error)),
        Err(error) => tracing::warn!(%error, creates = group.len(), "a commit is looked into"),
    }
    for look in 0..LOOKS_MAX {
        tokio::time::sleep(LOOK_PAUSE * (look + 1)).await;
        match read_back(shared, &group).await {
            Ok(found) => group = sort_out(shared, group, found),
            // Unread, nothing is sent again.
            Err(error) => {
                tracing::warn!(%error, "the commit cannot be looked into yet");
                continue;
            }
        }
        if group.is_empty() {
            return;
        }
        match send(shared, &group).await {
            Ok(answer) => return settle(shared, group, &answer),
            Err(error) => tracing::warn!(%error, creates = group.len(), "it is looked into again"),
        }
    }
    fail(group, &CommitError::OutcomeUnknown);
}

async fn send(shared: &Shared, group: &[Waiting]) -> Result<Answer, PortError> {
    let creates: Vec<Create> = group.iter().map(|waiting| waiting.wanted.create.clone()).collect();
    shared.port.call(Request::Txn(tasks::create(&shared.keys, &creates))).await
}

async fn read_back(shared: &Shared, group: &[Waiting]) -> Result<Vec<Option<KeyValue>>, PortError> {
    let get = |waiting: &Waiting| {
        let create = &waiting.wanted.create;
        let key = Key::Task(create.placement.clone(), create.name.clone());
        Op::Get { key: shared.keys.build(&key) }
    };
    let then = group.iter().map(get).collect();
    let txn = Txn { when: Vec::new(), then, otherwise: Vec::new() };
    let answers = match shared.port.call(Request::Txn(txn)).await? {
        Answer::Txn { answers, .. } if answers.len() == group.len() => answers,
        other => return Err(PortError::Unknown(format!("an answer that does not fit: {other:?}"))),
    };
    let found = answers.into_iter().map(|answer| match answer {
        OpAnswer::Got(found) => found,
        OpAnswer::Put | OpAnswer::Deleted { .. } | OpAnswer::Txn { .. } => None,
    });
    Ok(found.collect())
}

/// Each create has an answer of its own: one record that cannot be read must not hide the others.
fn settle(shared: &Shared, group: Vec<Waiting>, answer: &Answer) {
    let Answer::Txn { revision, succeeded, answers } = answer else {
        return fail(group, &CommitError::Answer(AnswerError::Mismatch));
    };
    if answers.len() != group.len() {
        return fail(group, &CommitError::Answer(AnswerError::Mismatch));
    }
    for (waiting, answer) in group.into_iter().zip(answers) {
        let (revision, succeeded, answers) = (*revision, *succeeded, vec![answer.clone()]);
        let one = Answer::Txn { revision, succeeded, answers };
        let create = std::slice::from_ref(&waiting.wanted.create);
        let outcome = tasks::read_create(&shared.keys, create, shared.epoch, &one)
            .and_then(|mut created| created.pop().ok_or(AnswerError::Mismatch))
            .map_err(CommitError::Answer);
        // Who asked may have gone.
        let _ = waiting.answer.send(outcome);
    }
}

/// Answers what is certain, and returns what is to be sent again. What is there otherwise may be
/// another's, or was created as it was sent and edited since: a create that is sent again and known
/// by its request finds that out.
fn sort_out(shared: &Shared, group: Vec<Waiting>, found: Vec<Option<KeyValue>>) -> Vec<Waiting> {
    let mut again = Vec::new();
    for (waiting, found) in group.into_iter().zip(found) {
        let outcome = match found {
            Some(item) if item.value == waiting.wanted.create.value => {
                let revision = item.create_revision;
                let incarnation = Incarnation { epoch: shared.epoch, revision };
                Ok(Created::Done { incarnation, revision: item.mod_revision })
            }
            Some(_) | None if !waiting.wanted.known_again => Err(CommitError::OutcomeUnknown),
            Some(_) | None => {
                again.push(waiting);
                continue;
            }
        };
        let _ = waiting.answer.send(outcome);
    }
    again
}

fn fail(group: Vec<Waiting>, error: &CommitError) {
    for waiting in group {
        let _ = waiting.answer.send(Err(error.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt;
    use futures::future::BoxFuture;
    use tocktower_core::hash::RangeCount;
    use tocktower_core::ids::PoolName;
    use tocktower_core::schedule::Schedule;
    use tocktower_core::task::{
        Action, CatchUp, CatchUpPolicy, Delivery, Overlap, Retry, Spec, create as new_task,
    };
    use tocktower_core::time::{Instant as When, Wall};

    use crate::embedded::Embedded;
    use crate::keys::PREFIX;
    use crate::port::WatchStream;

    /// What becomes of the next transaction.
    #[derive(Clone, Copy, PartialEq)]
    enum Fate {
        /// It is carried out, and its answer is lost.
        AnswerLost,
        /// It is lost.
        Lost,
        Refused,
    }

    /// A store that loses what it is told to.
    struct Lossy {
        store: Arc<Embedded>,
        fates: Mutex<Vec<Fate>>,
        sent: AtomicUsize,
    }

    impl Port for Lossy {
        fn call(&self, request: Request) -> BoxFuture<'static, Result<Answer, PortError>> {
            self.sent.fetch_add(1, Ordering::SeqCst);
            let unknown = || Err(PortError::Unknown("lost".to_owned()));
            let store = self.store.clone();
            match self.fates.lock().unwrap().pop() {
                None => store.call(request),
                Some(Fate::Refused) => async { Err(PortError::NoLeader) }.boxed(),
                Some(Fate::Lost) => async move { unknown() }.boxed(),
                Some(Fate::AnswerLost) => async move {
                    store.call(request).await.unwrap();
                    unknown()
                }
                .boxed(),
            }
        }

        fn watch(&self, capacity: usize) -> WatchStream {
            self.store.watch(capacity)
        }
    }

    fn lossy(fates: &[Fate]) -> (Arc<Lossy>, Commit) {
        let fates = fates.iter().rev().copied().collect();
        let store = Embedded::in_memory().unwrap();
        let lossy = Arc::new(Lossy { store, fates: Mutex::new(fates), sent: AtomicUsize::new(0) });
        let keys = Keys::new(PREFIX, RangeCount::DEFAULT);
        let commit = Commit::start(lossy.clone(), keys, Epoch(1), Arc::new(|_, _| {}));
        (lossy, commit)
    }

    fn wanted(name: &str, request: Option<u128>) -> Wanted {
        let spec = Spec {
            name: TaskName::parse(&format!("default/{name}")).unwrap(),
            description: String::new(),
            labels: Default::default(),
            schedules: vec![Schedule::At(When::from_millis(9_000_000_000_000))],
            start_at: None,
            end_at: None,
            max_runs: None,
            jitter: Duration::ZERO,
            exclude: Default::default(),
            action: Action::Noop,
            placement: PoolName::parse("default").unwrap().into(),
            broadcast: Default::default(),
            catch_up: CatchUp { policy: CatchUpPolicy::All, window: Duration::from_secs(60) },
            overlap: Overlap::Skip,
            retry: Retry::default(),
            timeout: None,
            start_deadline: None,
            delivery: Delivery::default(),
            priority: 0,
            paused: false,
        };
        let version = new_task(spec, Wall::from_millis(1_000), request).unwrap();
        let create = Create::new(&version, Epoch(1)).unwrap();
        Wanted { create, known_again: request.is_some() }
    }

    async fn one(commit: &Commit, wanted: Wanted) -> Outcome {
        commit.create(vec![wanted]).await.unwrap().pop().unwrap()
    }

    #[tokio::test]
    async fn many_creates_share_few_transactions_and_each_has_its_answer() {
        let (lossy, commit) = lossy(&[]);
        let names: Vec<String> = (0..1_000).map(|n| format!("t{n}")).collect();
        let mut creates: Vec<Wanted> = names.iter().map(|name| wanted(name, None)).collect();
        creates.push(wanted("t7", None));
        let outcomes = commit.create(creates).await.unwrap();
        let (last, first) = outcomes.split_last().unwrap();
        assert!(first.iter().all(|outcome| matches!(outcome, Ok(Created::Done { .. }))));
        assert!(matches!(last, Ok(Created::Exists(_))), "{last:?}");
        assert!(lossy.sent.load(Ordering::SeqCst) <= 11);
    }

    #[tokio::test]
    async fn a_create_whose_answer_was_lost_is_found_and_answered_exactly() {
        let (_, commit) = lossy(&[Fate::AnswerLost]);
        let outcome = one(&commit, wanted("a", None)).await;
        assert!(matches!(outcome, Ok(Created::Done { .. })), "{outcome:?}");
        let again = one(&commit, wanted("a", None)).await;
        assert!(matches!(again, Ok(Created::Exists(_))), "{again:?}");
    }

    #[tokio::test]
    async fn a_create_that_may_have_run_is_sent_again_only_if_it_is_known_again() {
        let (lossy_one, commit) = lossy(&[Fate::Lost]);
        let outcome = one(&commit, wanted("a", Some(7))).await;
        assert!(matches!(outcome, Ok(Created::Done { .. })), "{outcome:?}");
        assert_eq!(lossy_one.sent.load(Ordering::SeqCst), 3);
        let (_, commit) = lossy(&[Fate::Lost]);
        assert_eq!(one(&commit, wanted("a", None)).await, Err(CommitError::OutcomeUnknown));
    }

    #[tokio::test]
    async fn nothing_is_sent_again_before_it_was_looked_into() {
        let (lossy, commit) = lossy(&[Fate::AnswerLost, Fate::Lost]);
        let outcome = one(&commit, wanted("a", None)).await;
        assert!(matches!(outcome, Ok(Created::Done { .. })), "{outcome:?}");
        assert_eq!(lossy.sent.load(Ordering::SeqCst), 3, "sent once, and read twice");
    }

    #[tokio::test]
    async fn what_is_there_otherwise_may_have_been_created_and_edited_since() {
        let (lossy, commit) = lossy(&[]);
        one(&commit, wanted("a", Some(7))).await.unwrap();
        lossy.fates.lock().unwrap().push(Fate::Lost);
        assert_eq!(one(&commit, wanted("a", None)).await, Err(CommitError::OutcomeUnknown));
        lossy.fates.lock().unwrap().push(Fate::Lost);
        let known = one(&commit, wanted("a", Some(8))).await;
        assert!(matches!(known, Ok(Created::Exists(_))), "{known:?}");
    }

    #[tokio::test]
    async fn what_was_refused_certainly_did_not_happen() {
        let (_, commit) = lossy(&[Fate::Refused]);
        let refused = Err(CommitError::Refused(PortError::NoLeader));
        assert_eq!(one(&commit, wanted("a", Some(7))).await, refused);
        assert!(matches!(one(&commit, wanted("a", Some(7))).await, Ok(Created::Done { .. })));
    }

    #[tokio::test]
    async fn more_than_there_is_room_for_is_refused_at_once() {
        let (lossy, commit) = lossy(&[]);
        let all = (0..=WAITING_MAX).map(|n| wanted(&format!("t{n}"), None)).collect();
        assert_eq!(commit.create(all).await, Err(CommitError::Full));
        assert_eq!(lossy.sent.load(Ordering::SeqCst), 0);
        assert!(one(&commit, wanted("a", None)).await.is_ok());
    }
}
