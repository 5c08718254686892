//! The words in which the cases are told: a store seen under a prefix, and a reader of a watch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tocktower_cluster::port::{
    Answer, Compare, Event, KeyRange, KeyValue, ListRequest, Op, OpAnswer, Port, PortError,
    Request, Txn, WatchCommand, WatchMessage, WatchStream, WatcherId,
};
use tocktower_core::ids::{LeaseId, Revision};

/// A generous limit for what should happen at once.
pub const SOON: Duration = Duration::from_secs(10);

static PREFIXES: AtomicU64 = AtomicU64::new(0);

/// A store, of which a case sees the keys under its own prefix.
#[derive(Clone)]
pub struct Store {
    pub port: Arc<dyn Port>,
    prefix: String,
}

impl Store {
    pub fn new(port: Arc<dyn Port>) -> Store {
        let number = PREFIXES.fetch_add(1, Ordering::Relaxed);
        Store { port, prefix: format!("/case-{number:04}/") }
    }

    pub fn key(&self, name: &str) -> Vec<u8> {
        format!("{}{name}", self.prefix).into_bytes()
    }

    pub fn name(&self, key: &[u8]) -> String {
        let key = String::from_utf8(key.to_vec()).unwrap();
        key.strip_prefix(&self.prefix).unwrap().to_string()
    }

    pub fn all(&self) -> KeyRange {
        KeyRange::prefix(self.prefix.as_bytes())
    }

    pub fn put_op(&self, name: &str, value: &str) -> Op {
        Op::Put { key: self.key(name), value: value.as_bytes().to_vec(), lease: None }
    }

    pub fn leased_op(&self, name: &str, lease: LeaseId) -> Op {
        Op::Put { key: self.key(name), value: b"leased".to_vec(), lease: Some(lease) }
    }

    pub fn delete_op(&self, name: &str) -> Op {
        Op::Delete { key: self.key(name) }
    }

    pub fn get_op(&self, name: &str) -> Op {
        Op::Get { key: self.key(name) }
    }

    pub fn absent(&self, name: &str) -> Compare {
        Compare::absent(self.key(name))
    }

    pub async fn call(&self, request: Request) -> Result<Answer, PortError> {
        tokio::time::timeout(SOON, self.port.call(request)).await.expect("an answer in time")
    }

    pub async fn try_txn(&self, txn: Txn) -> Result<(Revision, bool, Vec<OpAnswer>), PortError> {
        match self.call(Request::Txn(txn)).await? {
            Answer::Txn { revision, succeeded, answers } => Ok((revision, succeeded, answers)),
            other => panic!("a transaction was answered by {other:?}"),
        }
    }

    pub async fn txn(&self, txn: Txn) -> (Revision, bool, Vec<OpAnswer>) {
        self.try_txn(txn).await.unwrap()
    }

    /// Runs `ops` without a condition.
    pub async fn run(&self, ops: Vec<Op>) -> (Revision, Vec<OpAnswer>) {
        let (revision, _, answers) = self.txn(always(ops)).await;
        (revision, answers)
    }

    pub async fn put(&self, name: &str, value: &str) -> Revision {
        self.run(vec![self.put_op(name, value)]).await.0
    }

    pub async fn delete(&self, name: &str) -> Revision {
        self.run(vec![self.delete_op(name)]).await.0
    }

    pub async fn get(&self, name: &str) -> Option<KeyValue> {
        match self.run(vec![self.get_op(name)]).await.1.remove(0) {
            OpAnswer::Got(item) => item,
            other => panic!("a get was answered by {other:?}"),
        }
    }

    pub async fn revision(&self) -> Revision {
        self.list(self.page(1, None)).await.0
    }

    pub fn page(&self, limit: usize, at: Option<Revision>) -> ListRequest {
        ListRequest { range: self.all(), limit, at, keys_only: false }
    }

    pub async fn try_list(
        &self,
        request: ListRequest,
    ) -> Result<(Revision, Vec<KeyValue>, bool), PortError> {
        match self.call(Request::List(request)).await? {
            Answer::List { revision, items, more } => Ok((revision, items, more)),
            other => panic!("a list was answered by {other:?}"),
        }
    }

    pub async fn list(&self, request: ListRequest) -> (Revision, Vec<KeyValue>, bool) {
        self.try_list(request).await.unwrap()
    }

    /// Every key with its value at `at`.
    pub async fn shown(&self, at: Option<Revision>) -> BTreeMap<String, String> {
        let (_, items, more) = self.list(self.page(10_000, at)).await;
        assert!(!more);
        let text = |item: KeyValue| (self.name(&item.key), String::from_utf8(item.value).unwrap());
        items.into_iter().map(text).collect()
    }

    pub async fn grant(&self, ttl: Duration) -> (LeaseId, Duration) {
        match self.call(Request::GrantLease { ttl }).await.unwrap() {
            Answer::Lease { lease, ttl } => (lease, ttl),
            other => panic!("a grant was answered by {other:?}"),
        }
    }

    pub async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, PortError> {
        match self.call(Request::KeepAlive { lease }).await? {
            Answer::Lease { ttl, .. } => Ok(ttl),
            other => panic!("a keep-alive was answered by {other:?}"),
        }
    }

    pub async fn revoke(&self, lease: LeaseId) -> Result<Revision, PortError> {
        match self.call(Request::RevokeLease { lease }).await? {
            Answer::Done { revision } => Ok(revision),
            other => panic!("a revoke was answered by {other:?}"),
        }
    }

    pub async fn compact(&self, to: Revision) -> Result<(), PortError> {
        self.call(Request::Compact { to }).await.map(|_| ())
    }

    pub fn watch(&self) -> Reader {
        self.watch_with(64)
    }

    pub fn watch_with(&self, capacity: usize) -> Reader {
        Reader { stream: self.port.watch(capacity), store: self.clone() }
    }
}

pub fn always(ops: Vec<Op>) -> Txn {
    Txn { when: Vec::new(), then: ops, otherwise: Vec::new() }
}

/// A stream of watchers with one reader.
pub struct Reader {
    pub stream: WatchStream,
    store: Store,
}

impl Reader {
    /// The stream alone, without a hold on the store.
    pub fn into_stream(self) -> WatchStream {
        self.stream
    }

    pub fn send(&self, command: WatchCommand) {
        self.stream.commands.send(command).unwrap();
    }

    /// Asks for the case's whole prefix.
    pub fn ask(&self, watcher: u64, from: Revision) {
        self.ask_at(watcher, from, false);
    }

    /// Asks for it at another member than before.
    pub fn ask_elsewhere(&self, watcher: u64, from: Revision) {
        self.ask_at(watcher, from, true);
    }

    fn ask_at(&self, watcher: u64, from: Revision, elsewhere: bool) {
        let (watcher, range) = (WatcherId(watcher), self.store.all());
        self.send(WatchCommand::Open { watcher, range, from, elsewhere });
    }

    /// Asks, and waits until the watcher is open.
    pub async fn open(&mut self, watcher: u64, from: Revision) {
        self.ask(watcher, from);
        let opened = WatchMessage::Opened { watcher: WatcherId(watcher) };
        assert_eq!(self.message().await, opened);
    }

    pub async fn message(&mut self) -> WatchMessage {
        let message = tokio::time::timeout(SOON, self.stream.messages.recv()).await;
        message.expect("a message in time").expect("the stream goes on")
    }

    /// The next events, of the watcher given.
    pub async fn events(&mut self, of: u64) -> (Revision, Vec<Event>) {
        match self.message().await {
            WatchMessage::Events { watcher, through, events } => {
                assert_eq!(watcher, WatcherId(of));
                assert_eq!(events.last().unwrap().revision(), through);
                (through, events)
            }
            other => panic!("instead of events: {other:?}"),
        }
    }

    /// Reads until `through` and tells each event as `+name=value` or `-name`.
    pub async fn story(&mut self, of: u64, through: Revision) -> Vec<String> {
        let mut story = Vec::new();
        let mut last = Revision(0);
        while last < through {
            let (seen, events) = self.events(of).await;
            assert!(events.is_sorted_by_key(Event::revision), "events in order");
            assert!(events[0].revision() > last, "a revision comes whole, in one message");
            last = seen;
            story.extend(events.iter().map(|event| self.tell(event)));
        }
        story
    }

    pub fn tell(&self, event: &Event) -> String {
        match event {
            Event::Put(item) => {
                let value = String::from_utf8_lossy(&item.value);
                format!("+{}={value}", self.store.name(&item.key))
            }
            Event::Delete { key, .. } => format!("-{}", self.store.name(key)),
        }
    }
}
