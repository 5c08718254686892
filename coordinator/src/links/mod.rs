//! The links that agents hold to this coordinator: who is there, how they are, and the way to ask
//! them something.
//!
//! Agents dial, so that hosts behind NAT work; the coordinator answers on the same stream. Each
//! link has a task that owns it (`link`); this handle finds it by the agent's name. Everything is
//! bounded: an agent that does not read is let go (it dials again), an asker that does not read its
//! answers is told so.
//!
//! Contract: `ask` and `cancel` wait for a turn (`turns`), which may take as long as the agent
//! does, so callers bring a deadline; `follow` gets a place at once or none. The answers come
//! through [`Answers`], which ends with `Done`, an error, or `Gone`. Dropping it tells the agent to
//! stop.

mod clocks;
mod interest;
mod link;
mod server;
mod turns;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tocktower_core::hash::RangeCount;
use tocktower_core::ids::{AgentName, PoolName, RangeId};
use tocktower_core::time::{Mono, Wall};
use tocktower_proto::v1;
use tokio::sync::{mpsc, watch};

pub use interest::{Interested, Interests};
pub use link::Lateness;
pub use server::LinkServer;

use clocks::Clocks;

use crate::feed::Feed;
use turns::{Turn, Turns};

/// Agents linked to one coordinator.
const LINKS_MAX: usize = 20_000;
/// Parts of one answer that wait for the asker.
const ANSWER_PARTS: usize = 256;
/// Orders that wait for a link's task.
const ORDERS: usize = 1_024;

/// What a link tells of its agent.
#[derive(Clone, Debug)]
pub struct LinkInfo {
    pub agent: AgentName,
    pub pool: PoolName,
    pub build: String,
    pub tz_version: String,
    pub host: String,
    pub session: Option<v1::Session>,
    pub since: Wall,
    /// How far the agent's clock is ahead, and the round trip of that measurement.
    pub offset_us: Option<(i64, i64)>,
    pub stats: Option<Arc<v1::Stats>>,
    pub lateness: Arc<Lateness>,
    /// Since when the agent says that its writes to the shared state lag.
    pub pressed_since: Option<Mono>,
}

impl LinkInfo {
    /// Whether the agent may know runs of the range. One that has not said yet may.
    pub fn may_know(&self, range: RangeId) -> bool {
        let Some(stats) = &self.stats else { return true };
        let at = usize::from(range.0 / 8);
        let bit = stats.history_ranges.get(at).is_some_and(|byte| byte >> (range.0 % 8) & 1 == 1);
        bit || stats.ranges_held.binary_search(&u32::from(range.0)).is_ok()
    }
}

/// What comes of a question.
#[derive(Debug)]
pub enum Part {
    Runs(Vec<v1::Run>),
    Output(v1::OutputChunk),
    Failed(v1::Error),
    /// The asker read too slowly; parts were left out.
    Lagged,
    Done,
    /// The link broke before the answer was whole.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    #[error("the agent has no link to this coordinator")]
    NotLinked,
    #[error("too much is waiting on the link to the agent")]
    Full,
}

/// Who waits for an answer, and the turn that it holds until then.
struct Asker {
    answers: mpsc::Sender<Part>,
    _turn: Turn,
}

enum Order {
    Ask {
        id: u64,
        kind: v1::query::Kind,
        asker: Asker,
    },
    Cancel {
        id: u64,
        run_id: String,
        asker: Asker,
    },
    Stop {
        id: u64,
    },
    /// The agent has dialled again; this link is the older one.
    Replaced,
}

#[derive(Clone)]
struct Handle {
    number: u64,
    orders: mpsc::Sender<Order>,
    info: watch::Receiver<LinkInfo>,
    turns: Turns,
}

/// The answers to one question.
pub struct Answers {
    id: u64,
    parts: mpsc::Receiver<Part>,
    orders: mpsc::Sender<Order>,
    over: bool,
}

impl Answers {
    /// The next part. After `Done`, `Failed`, `Lagged` or `Gone` there is only `Gone`.
    pub async fn next(&mut self) -> Part {
        if self.over {
            return Part::Gone;
        }
        let part = self.parts.recv().await.unwrap_or(Part::Gone);
        self.over = !matches!(part, Part::Runs(_) | Part::Output(_));
        part
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        if !self.over {
            // A link that is full of orders ends the query when it finds nobody reading.
            let _ = self.orders.try_send(Order::Stop { id: self.id });
        }
    }
}

/// Finds links by agent. Cheap to clone.
#[derive(Clone)]
pub struct Links {
    by_agent: Arc<Mutex<BTreeMap<AgentName, Handle>>>,
    next_id: Arc<AtomicU64>,
    pub interests: Interests,
    feed: Feed,
    clocks: Arc<Clocks>,
}

impl Links {
    pub fn new(interests: Interests, feed: Feed) -> Links {
        Links {
            by_agent: Arc::default(),
            next_id: Arc::new(AtomicU64::new(1)),
            interests,
            feed,
            clocks: Arc::default(),
        }
    }

    /// All agents that are linked, by name.
    pub fn all(&self) -> Vec<LinkInfo> {
        let handles: Vec<Handle> = self.table().values().cloned().collect();
        handles.iter().map(|handle| handle.info.borrow().clone()).collect()
    }

    pub fn one(&self, agent: &AgentName) -> Option<LinkInfo> {
        let handle = self.table().get(agent).cloned()?;
        let info = handle.info.borrow().clone();
        Some(info)
    }

    pub fn has(&self, agent: &AgentName) -> bool {
        self.table().contains_key(agent)
    }

    /// What an agent knows to be in the way of what comes due there, in words.
    pub fn in_the_way(&self, agent: &AgentName) -> Option<String> {
        let told = self.one(agent)?.stats?.in_the_way.clone();
        Some(told).filter(|told| !told.is_empty())
    }

    /// Whether most of the agents whose clocks were measured agree with this coordinator's.
    pub fn agree_on_the_time(&self) -> bool {
        self.clocks.agree()
    }

    /// Whether most of several agents disagree with this coordinator's clock.
    pub fn doubt_the_time(&self) -> bool {
        self.clocks.doubt()
    }

    pub fn count(&self) -> usize {
        self.table().len()
    }

    /// Whether an agent of the pool has had lagging writes for at least `this_long`.
    pub fn pressed(&self, pool: &PoolName, now: Mono, this_long: Duration) -> bool {
        self.table().values().any(|handle| {
            let info = handle.info.borrow();
            let pressed = info.pressed_since.is_some_and(|since| now.since(since) >= this_long);
            pressed && info.pool == *pool
        })
    }

    /// Agents that may know runs of `range`; of any range if it is `None`.
    pub fn knowing(&self, range: Option<RangeId>) -> Vec<AgentName> {
        let table = self.table();
        let knows = |handle: &Handle| range.is_none_or(|r| handle.info.borrow().may_know(r));
        table.iter().filter(|(_, handle)| knows(handle)).map(|(agent, _)| agent.clone()).collect()
    }

    /// Asks when it is this question's turn.
    pub async fn ask(
        &self,
        agent: &AgentName,
        kind: v1::query::Kind,
    ) -> Result<Answers, LinkError> {
        let handle = self.handle(agent)?;
        let turn = handle.turns.short().await?;
        self.order(handle, turn, |id, asker| Order::Ask { id, kind, asker })
    }

    /// Asks for what goes on until the asker has enough of it.
    pub fn follow(&self, agent: &AgentName, kind: v1::query::Kind) -> Result<Answers, LinkError> {
        let handle = self.handle(agent)?;
        let turn = handle.turns.follower()?;
        self.order(handle, turn, |id, asker| Order::Ask { id, kind, asker })
    }

    pub async fn cancel(&self, agent: &AgentName, run_id: &str) -> Result<Answers, LinkError> {
        let handle = self.handle(agent)?;
        let turn = handle.turns.short().await?;
        let run_id = run_id.to_owned();
        self.order(handle, turn, |id, asker| Order::Cancel { id, run_id, asker })
    }

    fn handle(&self, agent: &AgentName) -> Result<Handle, LinkError> {
        self.table().get(agent).cloned().ok_or(LinkError::NotLinked)
    }

    fn order(
        &self,
        handle: Handle,
        turn: Turn,
        order: impl FnOnce(u64, Asker) -> Order,
    ) -> Result<Answers, LinkError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (answers, parts) = mpsc::channel(ANSWER_PARTS);
        let asker = Asker { answers, _turn: turn };
        handle.orders.try_send(order(id, asker)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => LinkError::Full,
            mpsc::error::TrySendError::Closed(_) => LinkError::NotLinked,
        })?;
        Ok(Answers { id, parts, orders: handle.orders, over: false })
    }

    /// Takes a new link in, in place of an older one of the same agent. `None`: there are too many.
    fn enter(&self, info: &watch::Sender<LinkInfo>) -> Option<(u64, mpsc::Receiver<Order>)> {
        let agent = info.borrow().agent.clone();
        let (orders, inbox) = mpsc::channel(ORDERS);
        let number = self.next_id.fetch_add(1, Ordering::Relaxed);
        let handle = Handle { number, orders, info: info.subscribe(), turns: Turns::new() };
        let mut table = self.table();
        if table.len() >= LINKS_MAX && !table.contains_key(&agent) {
            return None;
        }
        if let Some(older) = table.insert(agent, handle) {
            // If its inbox is full, it finds its place taken when it ends.
            let _ = older.orders.try_send(Order::Replaced);
        }
        Some((number, inbox))
    }

    /// Whether this link was the agent's newest.
    fn leave(&self, agent: &AgentName, number: u64) -> bool {
        let mut table = self.table();
        let mine = table.get(agent).is_some_and(|handle| handle.number == number);
        if mine {
            table.remove(agent);
        }
        mine
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<AgentName, Handle>> {
        self.by_agent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ranges named in a bitmap, for those who make one.
pub fn bitmap(ranges: RangeCount, known: impl IntoIterator<Item = RangeId>) -> Vec<u8> {
    let bytes = usize::try_from(ranges.get().div_ceil(8)).expect("at most 4,096 bytes");
    let mut map = vec![0_u8; bytes];
    for range in known {
        if let Some(byte) = map.get_mut(usize::from(range.0 / 8)) {
            *byte |= 1 << (range.0 % 8);
        }
    }
    map
}
