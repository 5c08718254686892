//! The owner of the catalog: one task round `cluster::follow::Follower`, which decides; this file
//! does what it asks for and applies what it tells.
//!
//! A first list fills the state itself; a later one (after a compaction, or when the comparer has
//! found the copy wrong) fills a fresh state beside it, so that readers never see half a copy, and
//! takes its place when it is whole. Then those who follow are told that they missed something,
//! since what changed in between is not known.
//!
//! The keeper tells when a beat of ours was sent and answered. Its delivery dates the copy; if it
//! does not come, the follower opens the watch again (W3). If this process was stopped for long,
//! what the watch still holds is thrown away (W4).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tocktower_cluster::follow::{Follower, News, Output};
use tocktower_cluster::port::{Answer, Event, Port, PortError, Request, WatchMessage, WatchStream};
use tocktower_core::ids::{CoordinatorId, Revision};
use tocktower_core::time::Mono;
use tokio::sync::mpsc;

use super::{Catalog, State};
use crate::clock;
use crate::feed::{Feed, What};
use crate::stop::Stop;

/// Messages of the watch that wait to be applied.
const MESSAGES: usize = 256;
/// The watch must bring a beat this long after it was answered.
const BEAT_WITHIN: Duration = Duration::from_secs(3);
/// A watch that was not read for this long is not believed any more (W4).
const UNREAD_MAX: Duration = Duration::from_secs(30);
/// The longest sleep, so that a stopped process is noticed.
const NAP: Duration = Duration::from_secs(5);
/// Beats that are on their way.
const BEATS_MAX: usize = 64;

/// What the owner is told: of a beat by the keeper, of a finding by the comparer.
#[derive(Clone, Copy, Debug)]
pub enum Note {
    /// Before it is sent.
    Sent {
        count: u64,
        at: Mono,
    },
    Answered {
        revision: Revision,
    },
    /// The copy lacks a change: list again.
    Wrong,
}

struct Owner {
    catalog: Catalog,
    id: CoordinatorId,
    feed: Feed,
    port: Arc<dyn Port>,
    follower: Follower,
    stream: WatchStream,
    /// The list that was asked for.
    listing: Option<BoxFuture<'static, Result<Answer, PortError>>>,
    /// When the list that is being read was asked for.
    list_sent: Mono,
    /// A later list, until it is whole.
    fresh: Option<State>,
    beats: VecDeque<(u64, Mono)>,
    ids: u64,
    outputs: Vec<Output>,
}

/// Runs until it is stopped.
pub async fn own(
    catalog: Catalog,
    id: CoordinatorId,
    port: Arc<dyn Port>,
    feed: Feed,
    mut notes: mpsc::Receiver<Note>,
    mut stop: Stop,
) {
    let follower = Follower::of_all(catalog.keys());
    let stream = port.watch(MESSAGES);
    let mut owner = Owner {
        catalog,
        id,
        feed,
        port,
        follower,
        stream,
        listing: None,
        list_sent: Mono::default(),
        fresh: None,
        beats: VecDeque::new(),
        ids: 0,
        outputs: Vec::new(),
    };
    owner.follower.begin(clock::now(), &mut owner.outputs);
    owner.carry_out();
    let mut awake = clock::mono();
    loop {
        let nap = owner.follower.wake_at().map_or(NAP, |at| clock::left(at).min(NAP));
        let input = tokio::select! {
            message = owner.stream.messages.recv() => match message {
                Some(message) => Input::Message(message),
                None => Input::StreamGone,
            },
            answer = asked(&mut owner.listing) => Input::Listed(answer),
            Some(note) = notes.recv() => Input::Note(note),
            () = tokio::time::sleep(nap) => Input::Tick,
            () = stop.stopped() => return,
        };
        let now = clock::now();
        if now.mono.since(awake) > UNREAD_MAX {
            tracing::warn!("this process was stopped for a while; the watch is opened again");
            owner.follower.distrust(now, &mut owner.ids, &mut owner.outputs);
        }
        awake = now.mono;
        owner.take(input);
        owner.carry_out();
    }
}

/// The answer to the list that was asked for; for ever, if none was.
async fn asked(
    listing: &mut Option<BoxFuture<'static, Result<Answer, PortError>>>,
) -> Result<Answer, PortError> {
    match listing {
        Some(listing) => listing.await,
        None => std::future::pending().await,
    }
}

enum Input {
    Message(WatchMessage),
    Listed(Result<Answer, PortError>),
    Note(Note),
    Tick,
    /// The stream lives as long as the port; if it is gone a new one is made.
    StreamGone,
}

impl Owner {
    fn take(&mut self, input: Input) {
        let now = clock::now();
        match input {
            Input::Message(message) => {
                self.follower.message(now, message, &mut self.ids, &mut self.outputs);
            }
            Input::Listed(answer) => {
                self.listing = None;
                self.follower.listed(now, answer, &mut self.ids, &mut self.outputs);
            }
            Input::Note(Note::Sent { count, at }) => {
                if self.beats.len() >= BEATS_MAX {
                    self.beats.pop_front();
                }
                self.beats.push_back((count, at));
            }
            Input::Note(Note::Answered { revision }) => {
                self.follower.expect(revision, now.mono.plus(BEAT_WITHIN));
            }
            Input::Note(Note::Wrong) => self.follower.relist(now, &mut self.outputs),
            Input::Tick => self.follower.tick(now, &mut self.ids, &mut self.outputs),
            Input::StreamGone => {
                self.stream = self.port.watch(MESSAGES);
                self.follower.distrust(now, &mut self.ids, &mut self.outputs);
            }
        }
    }

    fn carry_out(&mut self) {
        for output in std::mem::take(&mut self.outputs) {
            match output {
                Output::List(request) => {
                    self.listing = Some(self.port.call(Request::List(request)).boxed());
                }
                Output::Watch(command) => {
                    // A stream that is gone shows at its other end.
                    let _ = self.stream.commands.send(command);
                }
                Output::News(news) => self.news(news),
            }
        }
    }

    fn news(&mut self, news: News) {
        match news {
            News::ListBegan { sent } => {
                self.list_sent = sent.mono;
                let first = !self.catalog.standing().listed;
                self.fresh = (!first).then(State::default);
                if first {
                    self.catalog.change(|state| *state = State::default());
                }
            }
            News::Listed(items) => {
                let (keys, now) = (self.catalog.keys().clone(), clock::mono());
                let fill = |state: &mut State| {
                    for item in &items {
                        state.put(&keys, now, item, &mut Vec::new());
                    }
                };
                match &mut self.fresh {
                    Some(fresh) => fill(fresh),
                    None => self.catalog.change(fill),
                }
            }
            News::ListEnded { revision } => self.listed(revision),
            News::Events { through, events } => self.events(through, &events),
            News::Trouble { what, error } => {
                tracing::warn!(what, error, "the catalog tries again");
            }
        }
    }

    fn listed(&mut self, revision: Revision) {
        let (fresh, sent) = (self.fresh.take(), self.list_sent);
        let again = fresh.is_some();
        self.catalog.change(|state| {
            if let Some(fresh) = fresh {
                let departed = std::mem::take(&mut state.departed);
                *state = State { departed, ..fresh };
            }
            // Under the lock, so that an early version is never put in behind the list.
            self.catalog.stand(|standing| {
                standing.listed = true;
                standing.lists += 1;
                standing.delivered = revision;
                // A linearizable list is a proof of its own (W1): nothing before it is missing.
                standing.proved = standing.proved.max(Some(sent));
            });
        });
        if again {
            self.feed.changed(vec![What::LeftOut { missed: 0 }]);
        }
        let tasks = self.catalog.look(|state| state.tasks.len());
        tracing::info!(revision = revision.0, tasks, "catalog listed");
    }

    fn events(&mut self, through: Revision, events: &[Event]) {
        let (keys, now) = (self.catalog.keys().clone(), clock::mono());
        let mut changes = Vec::new();
        let beat = self.catalog.change(|state| {
            for event in events {
                state.event(&keys, now, event, &mut changes);
            }
            // Under the lock, so that an early version is never put in behind it.
            self.catalog.stand(|standing| standing.delivered = through);
            state.beats.get(&self.id).map(|beat| beat.count)
        });
        self.proved(beat);
        self.feed.changed(changes);
    }

    /// A beat of ours that came back dates the copy by the moment it was sent.
    fn proved(&mut self, beat: Option<u64>) {
        let Some(count) = beat else { return };
        let sent = self.beats.iter().find(|(number, _)| *number == count).map(|(_, at)| *at);
        if let Some(at) = sent {
            self.beats.retain(|(number, _)| *number > count);
            self.catalog.stand(|standing| standing.proved = standing.proved.max(Some(at)));
        }
    }
}
