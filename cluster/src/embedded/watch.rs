//! One task per watch stream: it pulls revisions from the history and hands each watcher its part.
//!
//! The reader's channel is bounded, and a full one stops this task and nobody else: its watchers
//! stay at their revision, and the owner goes on. The task ends when `commands` or the reader is
//! dropped, which is its stop. All watchers of a stream advance together, the one that is furthest
//! behind first, so that a revision is looked up once for all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tocktower_core::ids::Revision;
use tokio::sync::mpsc;

use super::history::{Committed, History};
use crate::port::{Event, KeyRange, WatchCommand, WatchMessage, WatcherId};

/// Revisions looked at in one go.
const REVISIONS_PER_PULL: usize = 256;
/// Events of a message, beyond which the next revision gets a message of its own.
const EVENTS_PER_MESSAGE: usize = 1_024;

struct Watcher {
    range: KeyRange,
    next: Revision,
}

/// The reader is gone.
struct Gone;

struct Stream {
    history: Arc<History>,
    watchers: BTreeMap<WatcherId, Watcher>,
    messages: mpsc::Sender<WatchMessage>,
}

pub(super) async fn serve(
    history: Arc<History>,
    mut commands: mpsc::UnboundedReceiver<WatchCommand>,
    messages: mpsc::Sender<WatchMessage>,
) {
    let mut newest = history.newest();
    let mut stream = Stream { history, watchers: BTreeMap::new(), messages };
    loop {
        let open = newest.borrow_and_update().is_some();
        let step = if open { stream.advance().await } else { stream.end_all().await };
        let Ok(advanced) = step else { return };
        let command = if advanced {
            match commands.try_recv() {
                Ok(command) => Some(command),
                Err(mpsc::error::TryRecvError::Empty) => None,
                Err(mpsc::error::TryRecvError::Disconnected) => return,
            }
        } else {
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => Some(command),
                    None => return,
                },
                () = stream.messages.closed() => return,
                // An error would mean that the history is gone, which this task holds itself.
                _ = newest.changed() => None,
            }
        };
        if let Some(command) = command
            && stream.obey(command).await.is_err()
        {
            return;
        }
    }
}

impl Stream {
    async fn obey(&mut self, command: WatchCommand) -> Result<(), Gone> {
        match command {
            // There is nowhere else.
            WatchCommand::Open { watcher, range, from, .. } => {
                self.watchers.insert(watcher, Watcher { range, next: from });
                self.send(WatchMessage::Opened { watcher }).await
            }
            WatchCommand::Close { watcher } => {
                self.watchers.remove(&watcher);
                Ok(())
            }
        }
    }

    /// Delivers up to [`REVISIONS_PER_PULL`] revisions; `false`: there are none.
    async fn advance(&mut self) -> Result<bool, Gone> {
        let Some(from) = self.watchers.values().map(|watcher| watcher.next).min() else {
            return Ok(false);
        };
        let revisions = match self.history.since(from, REVISIONS_PER_PULL) {
            Ok(revisions) => revisions,
            Err(oldest) => {
                self.end_compacted(oldest).await?;
                return Ok(true);
            }
        };
        let Some(last) = revisions.last().map(|last| last.revision) else {
            return Ok(false);
        };
        let watchers: Vec<WatcherId> = self.watchers.keys().copied().collect();
        for watcher in watchers {
            self.deliver(watcher, &revisions).await?;
            if let Some(state) = self.watchers.get_mut(&watcher) {
                state.next = state.next.max(last.next());
            }
        }
        Ok(true)
    }

    async fn deliver(&self, watcher: WatcherId, revisions: &[Arc<Committed>]) -> Result<(), Gone> {
        let Some(Watcher { range, next }) = self.watchers.get(&watcher) else {
            return Ok(());
        };
        let mut events: Vec<Event> = Vec::new();
        for revision in revisions.iter().filter(|one| one.revision >= *next) {
            events.extend(revision.events(range));
            if events.len() >= EVENTS_PER_MESSAGE {
                self.send_events(watcher, std::mem::take(&mut events)).await?;
            }
        }
        self.send_events(watcher, events).await
    }

    async fn send_events(&self, watcher: WatcherId, events: Vec<Event>) -> Result<(), Gone> {
        let Some(through) = events.last().map(Event::revision) else {
            return Ok(());
        };
        self.send(WatchMessage::Events { watcher, through, events }).await
    }

    async fn end_compacted(&mut self, oldest: Revision) -> Result<(), Gone> {
        let behind = self.watchers.extract_if(.., |_, watcher| watcher.next < oldest);
        let behind: Vec<WatcherId> = behind.map(|(watcher, _)| watcher).collect();
        for watcher in behind {
            self.send(WatchMessage::Compacted { watcher, oldest }).await?;
        }
        Ok(())
    }

    async fn end_all(&mut self) -> Result<bool, Gone> {
        for watcher in std::mem::take(&mut self.watchers).into_keys() {
            let reason = "the store is closed".to_string();
            self.send(WatchMessage::Ended { watcher, reason }).await?;
        }
        Ok(false)
    }

    async fn send(&self, message: WatchMessage) -> Result<(), Gone> {
        self.messages.send(message).await.map_err(|_| Gone)
    }
}
