//! What is pinned to an agent starts without a session, so that nothing but the cluster's record
//! can say that a list of it is of an epoch that is over. The driver, stepped by hand, on a shared
//! state in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tocktower_agent::driver::{Driver, DriverEffect, DriverInput, PortCall, Target};
use tocktower_cluster::agents::{AgentOps, Identity};
use tocktower_cluster::cluster;
use tocktower_cluster::embedded::Embedded;
use tocktower_cluster::keys::{Keys, PREFIX};
use tocktower_cluster::port::{
    Answer, Event, ListRequest, Op, OpAnswer, Port, PortError, Request, Txn, WatchCommand,
    WatchMessage, WatcherId,
};
use tocktower_cluster::tasks::{self, Create};
use tocktower_core::agent::effect::{ExitReason, StoreOp};
use tocktower_core::agent::input::Committed;
use tocktower_core::agent::{Config, PinsBefore};
use tocktower_core::hash::RangeCount;
use tocktower_core::ids::{AgentName, Epoch, PoolName, RangeId, Revision, TaskName};
use tocktower_core::ledger::Ledger;
use tocktower_core::schedule::{Every, Schedule};
use tocktower_core::task::{
    self, Action, Broadcast, CatchUp, CatchUpPolicy, Delivery, Overlap, Placement, Retry, Spec,
};
use tocktower_core::time::{Mono, Now, Wall};

fn name() -> AgentName {
    AgentName::parse("h").expect("a name")
}

fn pool() -> PoolName {
    PoolName::parse("default").expect("a name")
}

fn at(ms: u64) -> Now {
    let wall = Wall::from_millis(1_800_000_000_000 + i64::try_from(ms).expect("short"));
    Now { wall, mono: Mono::from_micros(ms * 1_000) }
}

fn pinned() -> Spec {
    let every = Every::new(Duration::from_secs(1), Duration::ZERO).expect("a second");
    Spec {
        name: TaskName::parse("a/task").expect("a name"),
        description: String::new(),
        labels: BTreeMap::new(),
        schedules: vec![Schedule::Every(every)],
        start_at: None,
        end_at: None,
        max_runs: None,
        jitter: Duration::ZERO,
        exclude: Default::default(),
        action: Action::Noop,
        placement: Placement::Agent(name()),
        broadcast: Broadcast::default(),
        delivery: Delivery::default(),
        catch_up: CatchUp { policy: CatchUpPolicy::All, window: Duration::from_secs(3_600) },
        overlap: Overlap::Skip,
        retry: Retry::default(),
        timeout: None,
        start_deadline: None,
        priority: 0,
        paused: false,
    }
}

/// An agent that has begun with what its store knows, and whose requests wait until they are let
/// through.
struct Host {
    port: Arc<Embedded>,
    driver: Driver,
    waiting: Vec<(PortCall, Request)>,
    committed: Vec<StoreOp>,
    exits: Vec<ExitReason>,
    troubles: Vec<String>,
    /// Of what is pinned.
    watcher: WatcherId,
    keys: Keys,
    now: u64,
}

impl Host {
    async fn begin(spec: Spec) -> Host {
        let (port, ranges) =
            (Embedded::in_memory().expect("a store"), RangeCount::new(8).expect("a count"));
        let keys = Keys::new(PREFIX, ranges);
        let record = Op::Put {
            key: cluster::key(PREFIX),
            value: cluster::new_record("c".to_owned(), ranges),
            lease: None,
        };
        let put = Request::Txn(Txn { then: vec![record], ..Txn::default() });
        let Ok(Answer::Txn { revision, .. }) = port.call(put).await else { panic!("it is put") };
        let version = task::create(spec, at(0).wall, None).expect("a good task");
        let mut create = [Create::new(&version, Epoch(1)).expect("a small one")].into();
        let group = tasks::next_group(&keys, &mut create);
        port.call(Request::Txn(tasks::create(&keys, &group))).await.expect("it is created");
        let (mut effects, now) = (Vec::new(), at(0));
        let ops = AgentOps::new(keys.clone(), identity(), Epoch(1)).of_record(revision);
        let driver = Driver::new(config(ranges), ops, Revision(0), now, &mut effects);
        let (waiting, committed, exits) = (Vec::new(), Vec::new(), Vec::new());
        let watcher = WatcherId(u64::MAX);
        let mut host = Host {
            port,
            driver,
            waiting,
            committed,
            exits,
            troubles: Vec::new(),
            watcher,
            keys,
            now: 0,
        };
        host.perform(effects);
        host
    }

    fn perform(&mut self, effects: Vec<DriverEffect>) {
        let mut inputs = Vec::new();
        for effect in effects {
            match effect {
                DriverEffect::Call { call, request } => self.waiting.push((call, request)),
                DriverEffect::Commit(batch) => {
                    let (batch_number, duplicates) = (batch.number, Vec::new());
                    let committed = Committed { batch: batch_number, synced: true, duplicates };
                    inputs.push(DriverInput::Committed(committed));
                    self.committed.extend(batch.ops);
                }
                DriverEffect::Watch(WatchCommand::Open { watcher, range, .. })
                    if range == self.keys.pins(&name()) =>
                {
                    self.watcher = watcher;
                }
                DriverEffect::Exit { reason } => self.exits.push(reason),
                DriverEffect::Trouble { error, .. } => self.troubles.push(error),
                _ => {}
            }
        }
        if !inputs.is_empty() {
            self.step(inputs);
        }
    }

    fn step(&mut self, inputs: Vec<DriverInput>) {
        self.now += 1;
        let mut effects = Vec::new();
        self.driver.step(at(self.now), inputs, &mut effects);
        self.perform(effects);
    }

    /// Lets the waiting requests of one kind through. Gives how many there were.
    async fn let_through(&mut self, which: fn(&PortCall) -> bool) -> usize {
        let (through, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(call, _)| which(call));
        self.waiting = waiting;
        let count = through.len();
        for (call, request) in through {
            let answer = self.port.call(request).await;
            self.step(vec![DriverInput::Answered { call, answer }]);
        }
        count
    }

    /// Takes the one request of a kind out of those that wait.
    fn hold_back(&mut self, which: fn(&PortCall) -> bool) -> (PortCall, Request) {
        let at = self.waiting.iter().position(|(call, _)| which(call)).expect("it was asked");
        self.waiting.remove(at)
    }

    /// Its task is deleted. Gives what its watch says of that.
    async fn delete_its_task(&mut self) -> WatchMessage {
        let range = self.keys.pins(&name());
        let list = ListRequest { range, limit: 10, at: None, keys_only: true };
        let answer = self.port.call(Request::List(list)).await;
        let Ok(Answer::List { items, .. }) = answer else { panic!("a list") };
        let key = items[0].key.clone();
        let delete = Txn { then: vec![Op::Delete { key: key.clone() }], ..Txn::default() };
        let answer = self.port.call(Request::Txn(delete)).await;
        let Ok(Answer::Txn { revision, .. }) = answer else { panic!("it is deleted") };
        let events = vec![Event::Delete { key, mod_revision: revision }];
        WatchMessage::Events { watcher: self.watcher, through: revision, events }
    }

    fn knows_its_task(&self) -> bool {
        self.committed.iter().any(|op| matches!(op, StoreOp::PutTask { .. }))
    }
}

fn identity() -> Identity {
    Identity {
        agent: name(),
        pool: pool(),
        labels: BTreeMap::new(),
        version: "0".to_owned(),
        tz_version: "0".to_owned(),
        host_id: "h".to_owned(),
    }
}

fn config(ranges: RangeCount) -> Config {
    let before = PinsBefore {
        born: Wall::from_millis(0),
        delivered: Revision(0),
        ledger: Ledger::empty(),
        intact: true,
    };
    Config {
        agent: name(),
        pool: pool(),
        weight: 100,
        ttl: Duration::from_secs(3),
        ranges,
        epoch: Epoch(1),
        epoch_began: Wall::MIN,
        process: 1,
        first_number: 1,
        running_max: 10,
        compact: false,
        broken: None,
        former: None,
        labels: BTreeMap::new(),
        pins: BTreeMap::from([(RangeId::PINS, before)]),
    }
}

fn lists_pins(call: &PortCall) -> bool {
    matches!(call, PortCall::List { target: Target::Range(RangeId::PINS), .. })
}

fn lists_shared(call: &PortCall) -> bool {
    matches!(call, PortCall::List { target: Target::Shared, .. })
}

fn asks_for_the_record(call: &PortCall) -> bool {
    matches!(call, PortCall::Record { range: RangeId::PINS, .. })
}

fn asks_for_the_record_of_shares(call: &PortCall) -> bool {
    matches!(call, PortCall::Record { range: RangeId::BROADCAST, .. })
}

#[tokio::test]
async fn what_is_pinned_is_taken_from_a_list_once_the_record_is_known_to_be_the_same() {
    let mut host = Host::begin(pinned()).await;
    assert_eq!(host.let_through(lists_pins).await, 1);
    assert!(!host.knows_its_task());
    assert_eq!(host.let_through(asks_for_the_record).await, 1);
    assert!(host.knows_its_task());
    assert!(host.exits.is_empty());
}

#[tokio::test]
async fn of_an_epoch_that_is_over_nothing_that_is_pinned_is_taken() {
    let mut host = Host::begin(pinned()).await;
    let get = Op::Get { key: cluster::key(PREFIX) };
    let get = Request::Txn(Txn { then: vec![get], ..Txn::default() });
    let Ok(Answer::Txn { answers, .. }) = host.port.call(get).await else { panic!("an answer") };
    let [OpAnswer::Got(Some(record))] = &answers[..] else { panic!("there is a record") };
    let raise = cluster::raise(record, at(0).wall).expect("a record");
    host.port.call(Request::Txn(raise)).await.expect("it is raised");
    host.let_through(lists_pins).await;
    host.let_through(asks_for_the_record).await;
    assert!(!host.knows_its_task());
    assert!(matches!(host.exits[..], [ExitReason::EpochRaised]));
}

#[tokio::test]
async fn a_record_that_is_not_told_is_asked_for_again_after_a_while() {
    let mut host = Host::begin(pinned()).await;
    host.let_through(lists_pins).await;
    let (call, _) = host.hold_back(asks_for_the_record);
    let answer = Err(PortError::Unreachable("no answer".to_owned()));
    host.step(vec![DriverInput::Answered { call, answer }]);
    assert_eq!(host.let_through(asks_for_the_record).await, 0, "not at once");
    assert_eq!(host.troubles.len(), 1, "it is told");
    assert!(!host.knows_its_task() && host.exits.is_empty());
    assert!(host.driver.wake().mono <= at(host.now + 250).mono);
    host.now += 250;
    host.step(Vec::new());
    assert_eq!(host.let_through(asks_for_the_record).await, 1);
    assert!(host.knows_its_task());
}

#[tokio::test]
async fn what_comes_after_a_list_is_told_after_it() {
    let mut host = Host::begin(pinned()).await;
    host.let_through(lists_pins).await;
    let deleted = host.delete_its_task().await;
    host.step(vec![DriverInput::Watch(deleted)]);
    assert!(!host.knows_its_task());
    host.let_through(asks_for_the_record).await;
    let put = |op: &StoreOp| matches!(op, StoreOp::PutTask { .. });
    let gone = |op: &StoreOp| matches!(op, StoreOp::DeleteTask { .. });
    let first = host.committed.iter().position(put).expect("it is known");
    assert!(host.committed[first..].iter().any(gone));
}

#[tokio::test]
async fn of_two_lists_the_record_of_the_first_lets_nothing_through() {
    let mut host = Host::begin(pinned()).await;
    host.let_through(lists_pins).await;
    let (call, request) = host.hold_back(asks_for_the_record);
    // The watch breaks off where it cannot go on, and it is listed again.
    let watcher = host.watcher;
    host.step(vec![DriverInput::Watch(WatchMessage::Compacted { watcher, oldest: Revision(9) })]);
    assert_eq!(host.let_through(lists_pins).await, 1);
    let answer = host.port.call(request).await;
    host.step(vec![DriverInput::Answered { call, answer }]);
    assert!(!host.knows_its_task());
    host.let_through(asks_for_the_record).await;
    assert!(host.knows_its_task());
}

#[tokio::test]
async fn what_is_for_every_agent_waits_for_the_record_as_well() {
    let mut host = Host::begin(Spec { placement: Placement::EveryAgent(pool()), ..pinned() }).await;
    assert_eq!(host.let_through(lists_shared).await, 1);
    assert!(!host.knows_its_task());
    assert_eq!(host.let_through(asks_for_the_record_of_shares).await, 1);
    assert!(host.knows_its_task());
}
