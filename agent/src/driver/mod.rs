//! The agent's driver: the core's state machine joined to the shared state's keys and watches, as
//! one plain `step`. No async, no I/O, no clock: the shell in `run` does what it says and tells it
//! what happened, and the simulator runs the very same driver.
//!
//! One closed list says what can wake it. Inputs are taken in one after the other and the core
//! advances once for all of them: that is where batches come from.

mod lists;
mod locals;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tocktower_cluster::agents::AgentOps;
use tocktower_cluster::follow::{Follower, News, Output};
use tocktower_cluster::keys::Key;
use tocktower_cluster::port::{
    Answer, KeyRange, PortError, Request, WatchCommand, WatchMessage, WatcherId,
};
use tocktower_core::agent::effect::{
    Batch, CallId, Effect, ExitReason, Interest, LoadId, LoadRequest, Notice, ShareRequest, Start,
    Ticket,
};
use tocktower_core::agent::input::{Committed, Input, LoadAnswer, Offset, RangeNews, SharedNews};
use tocktower_core::agent::{Agent, Config, Rule, Settled, Stats, Wake};
use tocktower_core::ids::{CoordinatorId, LeaseId, RangeId, Revision, RunId, Session};
use tocktower_core::run::{Finished, RunRecord};
use tocktower_core::time::{Mono, Now};

use self::lists::Lists;
use self::locals::Locals;

/// A watch stream that was not read for this long is thrown away unread (ledger.md, W4).
const UNREAD_MAX: Duration = Duration::from_secs(30);
/// How long the watch of what is pinned here may owe the beat (W3): nothing that starts waits for
/// it, and an agent at the end of a bad line is to lag rather than begin anew.
const PINS_STALLED: Duration = Duration::from_secs(30);

/// Everything that can wake the driver.
#[derive(Debug)]
pub enum DriverInput {
    Wake,
    Answered { call: PortCall, answer: Result<Answer, PortError> },
    Watch(WatchMessage),
    Committed(Committed),
    Loaded { load: LoadId, answer: LoadAnswer },
    Finished { ticket: Ticket, finished: Box<Finished> },
    Unstarted { ticket: Ticket },
    CancelRun { run: RunId },
    ClockOffset { coordinator: CoordinatorId, offset: Offset },
    Disk { free: bool },
    Leave { deadline: Duration },
}

/// Everything it can ask for, in the order in which it must be done.
#[derive(Debug)]
pub enum DriverEffect {
    Call {
        call: PortCall,
        request: Request,
    },
    Watch(WatchCommand),
    Commit(Batch),
    Load {
        load: LoadId,
        request: LoadRequest,
    },
    Start(Box<Start>),
    Cancel {
        ticket: Ticket,
    },
    Report {
        record: Arc<RunRecord>,
        ended: u64,
    },
    Notice(Notice),
    /// A coordinator is there at this address, or is gone.
    Coordinator {
        id: CoordinatorId,
        address: Option<String>,
    },
    /// A watch or a list failed and is tried again.
    Trouble {
        what: &'static str,
        error: String,
    },
    Exit {
        reason: ExitReason,
    },
}

/// What a request to the port was for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PortCall {
    Share(CallId),
    /// `number` tells the newest list of a target from those asked for before.
    List {
        target: Target,
        number: u64,
    },
    /// The cluster's record, after this list of a local range.
    Record {
        range: RangeId,
        number: u64,
    },
}

/// What a watcher follows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Target {
    Shared,
    Range(RangeId),
}

pub struct Driver {
    core: Agent,
    ops: AgentOps,
    ttl: Duration,
    followers: BTreeMap<Target, Follower>,
    watchers: BTreeMap<WatcherId, Target>,
    next_watcher: u64,
    locals: Locals,
    /// Requests under way, with the highest revision seen when they were sent.
    calls: BTreeMap<CallId, (ShareRequest, Revision)>,
    lists: Lists,
    seen: Revision,
    last_step: Mono,
    /// For the simulator: it believes what it has not read for long.
    gullible: bool,
    effects: Vec<Effect>,
}

impl Driver {
    /// `seen`: the highest revision that this agent ever saw in this epoch.
    pub fn new(
        config: Config,
        ops: AgentOps,
        seen: Revision,
        now: Now,
        out: &mut Vec<DriverEffect>,
    ) -> Driver {
        let (ttl, gullible) = (config.ttl, config.broken == Some(Rule::Unread));
        let mut driver = Driver {
            core: Agent::new(config, now),
            ops,
            ttl,
            followers: BTreeMap::new(),
            watchers: BTreeMap::new(),
            next_watcher: 0,
            locals: Locals::default(),
            calls: BTreeMap::new(),
            lists: Lists::default(),
            seen,
            last_step: now.mono,
            gullible,
            effects: Vec::new(),
        };
        driver.follow(now, Target::Shared, driver.ops.keys.shared(), out);
        // Its ranges of its own are taken up before the first list says anything of them.
        driver.step(now, [], out);
        driver
    }

    /// Takes the inputs in, in order, and hands out what is to be done.
    pub fn step(
        &mut self,
        now: Now,
        inputs: impl IntoIterator<Item = DriverInput>,
        out: &mut Vec<DriverEffect>,
    ) {
        if now.mono.since(self.last_step) > UNREAD_MAX && !self.gullible {
            self.distrust(now, out);
        }
        self.last_step = now.mono;
        for input in inputs {
            self.take(now, input, out);
        }
        self.tick(now, out);
        let mut effects = std::mem::take(&mut self.effects);
        self.core.advance(now, &mut effects);
        for effect in effects.drain(..) {
            self.translate(now, effect, out);
        }
        self.effects = effects;
        // For what has been answered, or is not followed any more.
        self.send_lists(out);
    }

    /// When to step again if nothing comes before.
    pub fn wake(&self) -> Wake {
        let followers = self.followers.values().filter_map(Follower::wake_at);
        let followers = followers.chain(self.locals.wake_at()).min();
        let core = self.core.wake();
        Wake { mono: followers.map_or(core.mono, |at| at.min(core.mono)), ..core }
    }

    pub fn stats(&self) -> Stats {
        self.core.stats()
    }

    /// How a range stands here, for people who look for a fault.
    pub fn explain(&self, range: RangeId) -> String {
        self.core.explain(range)
    }

    pub fn lease(&self) -> Option<LeaseId> {
        self.core.lease()
    }

    /// The highest revision of the shared state that was seen.
    pub fn seen(&self) -> Revision {
        self.seen
    }

    pub fn session(&self) -> Option<Session> {
        self.core.session()
    }

    pub fn held(&self) -> Vec<RangeId> {
        self.core.held().collect()
    }

    /// The ranges of which the store has a copy, each with the revision that it has come to.
    pub fn copies(&self) -> Vec<(RangeId, Revision)> {
        self.core.copies().collect()
    }

    pub fn provisional(&self, record: &RunRecord) -> bool {
        self.core.provisional(record)
    }

    pub fn settled(&self, record: &RunRecord) -> Settled {
        self.core.settled(record)
    }

    pub fn open_runs(&self) -> Vec<RunRecord> {
        self.core.open_runs().collect()
    }

    /// What the store cannot tell yet: runs that have not ended here, and those whose end is on its
    /// way to the disk.
    pub fn unstored_runs(&self) -> Vec<RunRecord> {
        self.core.open_runs().chain(self.core.unwritten_runs().cloned()).collect()
    }

    fn take(&mut self, now: Now, input: DriverInput, out: &mut Vec<DriverEffect>) {
        match input {
            DriverInput::Wake => {}
            DriverInput::Answered { call: PortCall::Share(call), answer } => {
                self.answered(now, call, answer, out);
            }
            DriverInput::Answered { call: PortCall::List { target, number }, answer } => {
                self.listed(now, target, number, answer, out);
            }
            DriverInput::Answered { call: PortCall::Record { range, number }, answer } => {
                self.record_told(now, (range, number), &answer, out);
            }
            DriverInput::Watch(message) => self.watched(now, message, out),
            DriverInput::Committed(committed) => self.core.apply(now, Input::Committed(committed)),
            DriverInput::Loaded { load, answer } => {
                self.core.apply(now, Input::Loaded { load, answer });
            }
            DriverInput::Finished { ticket, finished } => {
                self.core.apply(now, Input::Finished { ticket, finished });
            }
            DriverInput::Unstarted { ticket } => self.core.apply(now, Input::Unstarted { ticket }),
            DriverInput::CancelRun { run } => self.core.apply(now, Input::CancelRun { run }),
            DriverInput::ClockOffset { coordinator, offset } => {
                self.core.apply(now, Input::ClockOffset { coordinator, offset });
            }
            DriverInput::Disk { free } => self.core.apply(now, Input::Disk { free }),
            DriverInput::Leave { deadline } => self.core.apply(now, Input::Leave { deadline }),
        }
    }

    fn answered(
        &mut self,
        now: Now,
        call: CallId,
        answer: Result<Answer, PortError>,
        out: &mut Vec<DriverEffect>,
    ) {
        let Some((request, seen)) = self.calls.remove(&call) else { return };
        if let Ok(Answer::Txn { revision, succeeded, .. }) = &answer {
            self.look_back(*revision, seen, out);
            // Whether mine was written or another's is there: the watch of `shared/` owes a beat.
            if matches!(request, ShareRequest::CommonBeat { .. })
                && let Some(follower) = self.followers.get_mut(&Target::Shared)
            {
                follower.expect(*revision, now.mono.plus(self.ttl));
            }
            if *succeeded
                && matches!(request, ShareRequest::PinsBeat { .. })
                && let Some(follower) = self.followers.get_mut(&Target::Range(RangeId::PINS))
            {
                follower.expect(*revision, now.mono.plus(PINS_STALLED));
            }
        }
        if self.ops.outdated(&request, &answer) {
            out.push(DriverEffect::Exit { reason: ExitReason::EpochRaised });
        }
        let answer = self.ops.answer(&request, answer);
        self.core.apply(now, Input::Answered { call, answer });
    }

    /// A revision below one that was seen before the request was sent: etcd was put back from a
    /// backup, and revisions come again. Nothing that is known here can be trusted any more.
    fn look_back(&mut self, now: Revision, seen: Revision, out: &mut Vec<DriverEffect>) {
        if now < seen {
            out.push(DriverEffect::Exit { reason: ExitReason::WentBack { seen, now } });
        }
        self.seen = self.seen.max(now);
    }

    fn listed(
        &mut self,
        now: Now,
        target: Target,
        number: u64,
        answer: Result<Answer, PortError>,
        out: &mut Vec<DriverEffect>,
    ) {
        let Some(seen) = self.lists.answered(target, number) else { return };
        if let (Ok(Answer::List { revision, .. }), Some(seen)) = (&answer, seen) {
            self.look_back(*revision, seen, out);
        }
        if let Some(follower) = self.followers.get_mut(&target) {
            let mut outputs = Vec::new();
            follower.listed(now, answer, &mut self.next_watcher, &mut outputs);
            self.outputs(now, target, outputs, out);
        }
    }

    /// Asks for lists, as far as there is room for more.
    fn send_lists(&mut self, out: &mut Vec<DriverEffect>) {
        while let Some((call, request)) = self.lists.next(self.seen) {
            out.push(DriverEffect::Call { call, request: Request::List(request) });
        }
    }

    fn watched(&mut self, now: Now, message: WatchMessage, out: &mut Vec<DriverEffect>) {
        let (WatchMessage::Opened { watcher }
        | WatchMessage::Events { watcher, .. }
        | WatchMessage::Compacted { watcher, .. }
        | WatchMessage::Ended { watcher, .. }) = &message;
        let Some(target) = self.watchers.get(watcher).copied() else { return };
        let Some(follower) = self.followers.get_mut(&target) else { return };
        let mut outputs = Vec::new();
        follower.message(now, message, &mut self.next_watcher, &mut outputs);
        self.outputs(now, target, outputs, out);
    }

    fn tick(&mut self, now: Now, out: &mut Vec<DriverEffect>) {
        self.ask_for_records_again(now, out);
        let due: Vec<Target> = self
            .followers
            .iter()
            .filter(|(_, follower)| follower.wake_at().is_some_and(|at| at <= now.mono))
            .map(|(target, _)| *target)
            .collect();
        for target in due {
            let Some(follower) = self.followers.get_mut(&target) else { continue };
            let mut outputs = Vec::new();
            follower.tick(now, &mut self.next_watcher, &mut outputs);
            self.outputs(now, target, outputs, out);
        }
    }

    fn distrust(&mut self, now: Now, out: &mut Vec<DriverEffect>) {
        let targets: Vec<Target> = self.followers.keys().copied().collect();
        for target in targets {
            let Some(follower) = self.followers.get_mut(&target) else { continue };
            let mut outputs = Vec::new();
            follower.distrust(now, &mut self.next_watcher, &mut outputs);
            self.outputs(now, target, outputs, out);
        }
    }

    fn follow(&mut self, now: Now, target: Target, range: KeyRange, out: &mut Vec<DriverEffect>) {
        self.unfollow(now, target, out);
        let mut follower = Follower::new(range);
        let mut outputs = Vec::new();
        follower.begin(now, &mut outputs);
        self.followers.insert(target, follower);
        self.outputs(now, target, outputs, out);
    }

    fn unfollow(&mut self, now: Now, target: Target, out: &mut Vec<DriverEffect>) {
        if let Some(mut follower) = self.followers.remove(&target) {
            self.lists.forget(target);
            let mut outputs = Vec::new();
            follower.end(&mut outputs);
            self.outputs(now, target, outputs, out);
        }
    }

    /// Passes on what a follower asks for, and tells the core what it says.
    fn outputs(
        &mut self,
        now: Now,
        target: Target,
        outputs: Vec<Output>,
        out: &mut Vec<DriverEffect>,
    ) {
        for output in outputs {
            match output {
                Output::List(request) => {
                    self.lists.ask(target, request);
                    self.send_lists(out);
                }
                Output::Watch(command) => {
                    match &command {
                        WatchCommand::Open { watcher, .. } => {
                            self.watchers.insert(*watcher, target);
                        }
                        WatchCommand::Close { watcher } => {
                            self.watchers.remove(watcher);
                        }
                    }
                    out.push(DriverEffect::Watch(command));
                }
                Output::News(News::Trouble { what, error }) => {
                    out.push(DriverEffect::Trouble { what, error });
                }
                Output::News(news) => match target {
                    Target::Shared => {
                        self.tell_coordinators(&news, out);
                        self.broadcast_news(now, &news, out);
                        self.shared_news(now, news);
                    }
                    Target::Range(RangeId::PINS) => {
                        self.local_news(now, RangeId::PINS, news, out);
                    }
                    Target::Range(range) => self.range_news(now, range, news),
                },
            }
        }
    }

    /// Who there is to link to. One that a list no longer names goes on to be dialled until its
    /// delete is seen or its link breaks, which does no harm.
    fn tell_coordinators(&self, news: &News, out: &mut Vec<DriverEffect>) {
        let told = match news {
            News::Listed(items) => {
                items.iter().filter_map(|item| self.ops.coordinator_item(item)).collect()
            }
            News::Events { events, .. } => {
                events.iter().filter_map(|event| self.ops.coordinator_event(event)).collect()
            }
            _ => Vec::new(),
        };
        let told = told.into_iter();
        out.extend(told.map(|(id, address)| DriverEffect::Coordinator { id, address }));
    }

    fn shared_news(&mut self, now: Now, news: News) {
        let core = &mut self.core;
        match news {
            News::ListBegan { .. } => core.apply(now, Input::Shared(SharedNews::ListBegan)),
            News::Listed(items) => {
                for news in items.iter().filter_map(|item| self.ops.shared_item(item)) {
                    core.apply(now, Input::Shared(news));
                }
            }
            News::ListEnded { revision } => {
                self.seen = self.seen.max(revision);
                core.apply(now, Input::Shared(SharedNews::ListEnded { revision }));
            }
            News::Events { through, events } => {
                self.seen = self.seen.max(through);
                for news in events.iter().filter_map(|event| self.ops.shared_event(event)) {
                    core.apply(now, Input::Shared(news));
                }
                let delivered = SharedNews::Delivered { revision: through };
                core.apply(now, Input::Shared(delivered));
            }
            News::Trouble { .. } => {}
        }
    }

    /// What is for every agent of the pool lies in what all agents watch. Of events only those are
    /// told: a beat comes every second, and says nothing of these tasks.
    fn broadcast_news(&mut self, now: Now, news: &News, out: &mut Vec<DriverEffect>) {
        let of_pool = self.ops.keys.broadcast(&self.ops.identity.pool);
        let news = match news {
            News::Listed(items) => {
                let items = items.iter().filter(|item| of_pool.contains(&item.key));
                News::Listed(items.cloned().collect())
            }
            News::Events { through, events } => {
                let events = events.iter().filter(|event| of_pool.contains(event.key()));
                let events: Vec<_> = events.cloned().collect();
                if events.is_empty() {
                    return;
                }
                News::Events { through: *through, events }
            }
            other => other.clone(),
        };
        self.local_news(now, RangeId::BROADCAST, news, out);
    }

    fn range_news(&mut self, now: Now, range: RangeId, news: News) {
        let core = &mut self.core;
        let mut tell = |news| core.apply(now, Input::Range { range, news });
        match news {
            News::ListBegan { sent } => tell(RangeNews::ListBegan { sent }),
            News::Listed(items) => {
                items.iter().filter_map(|item| self.ops.range_item(item)).for_each(tell);
            }
            News::ListEnded { revision } => {
                self.seen = self.seen.max(revision);
                tell(RangeNews::ListEnded { revision });
            }
            News::Events { through, events } => {
                self.seen = self.seen.max(through);
                for news in events.iter().filter_map(|event| self.ops.range_event(event)) {
                    tell(news);
                }
                tell(RangeNews::Delivered { revision: through });
            }
            News::Trouble { .. } => {}
        }
    }

    /// Has the follower of a range do something, and does what comes of it.
    fn with_follower(
        &mut self,
        now: Now,
        range: RangeId,
        out: &mut Vec<DriverEffect>,
        act: fn(&mut Follower, Now, &mut Vec<Output>),
    ) {
        let target = Target::Range(range);
        let Some(follower) = self.followers.get_mut(&target) else { return };
        let mut outputs = Vec::new();
        act(follower, now, &mut outputs);
        self.outputs(now, target, outputs, out);
    }

    fn translate(&mut self, now: Now, effect: Effect, out: &mut Vec<DriverEffect>) {
        match effect {
            Effect::Share { call, request } => {
                let port_request = self.ops.request(&request, now.wall);
                self.calls.insert(call, (request, self.seen));
                let call = PortCall::Share(call);
                out.push(DriverEffect::Call { call, request: port_request });
            }
            // It comes with what all agents watch.
            Effect::Follow { range: RangeId::BROADCAST, .. } => {}
            Effect::Follow { range, interest } => {
                let pool = self.ops.identity.pool.clone();
                let target = Target::Range(range);
                match interest {
                    Interest::Nothing => self.unfollow(now, target, out),
                    Interest::Claim => {
                        let claim = self.ops.keys.build(&Key::Claim(pool, range));
                        self.follow(now, target, KeyRange::one(&claim), out);
                    }
                    Interest::Whole => {
                        let all = match range {
                            RangeId::PINS => self.ops.keys.pins(&self.ops.identity.agent),
                            range => self.ops.keys.range(&pool, range),
                        };
                        self.follow(now, target, all, out);
                    }
                }
            }
            Effect::ExpectWatch { range, revision } => {
                let by = now.mono.plus(self.ttl);
                if let Some(follower) = self.followers.get_mut(&Target::Range(range)) {
                    follower.expect(revision, by);
                }
            }
            Effect::Reopen { range } => self.with_follower(now, range, out, Follower::reopen),
            Effect::Relist { range } => self.with_follower(now, range, out, Follower::relist),
            Effect::Commit(batch) => out.push(DriverEffect::Commit(batch)),
            Effect::Load { load, request } => out.push(DriverEffect::Load { load, request }),
            Effect::Start(start) => out.push(DriverEffect::Start(start)),
            Effect::Cancel { ticket } => out.push(DriverEffect::Cancel { ticket }),
            Effect::Report { record, ended } => {
                out.push(DriverEffect::Report { record, ended });
            }
            Effect::Notice(notice) => out.push(DriverEffect::Notice(notice)),
            Effect::Exit { reason } => out.push(DriverEffect::Exit { reason }),
        }
    }
}
