//! One task per watch stream: many watchers on one gRPC stream of etcd's.
//!
//! The task reads an answer only when there is room for it with the reader, so that a slow reader
//! fills the connection's window and etcd holds the rest back. Requests go out through a task of
//! their own: etcd stops reading them while its answers are not read, and one task that waited to
//! send could then never come to read.
//!
//! When the stream breaks, every watcher is told that it has ended, and the stream is opened again
//! on the next `Open`, at the next member, with a pause that grows. Nothing is resumed here: only
//! who reads knows what it has. The stream asks for a leader, so that a member that is cut off from
//! the others ends its watchers instead of keeping silent.
//!
//! A member can keep silent all the same: one whose disk is stuck applies nothing, so it has no
//! events, and answers pings. Who follows sees that a write of its own does not come, and asks for
//! its next watcher elsewhere (`Open`). Then this stream leaves its member with all its watchers,
//! which lie there just as silent, at most once in a while: else each of them would move it on.
//! Where there is no other member, or one address stands for all of them, it may be the stream that
//! keeps silent: if it has brought nothing at all of late, another one is opened at the same.
//!
//! Answers are not fragmented. They would bring whole revisions only once they are put together
//! again, and etcd cuts them slowly, counting the bytes anew for each event: 200,000 events took
//! 6.4 s to come in fragments and 0.7 s without. So the limit of what is decoded is raised instead,
//! and every answer brings whole revisions (ledger.md, W1).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_client::{WatchOptions, WatchRequestSender, WatchResponse, WatchResponseStream};
use tocktower_core::ids::Revision;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::{MESSAGE_BYTES_MAX, Shared, convert, port_error};
use crate::port::{Event, KeyRange, WatchCommand, WatchMessage, WatcherId};

/// Events of a message, beyond which the next revision gets a message of its own.
const EVENTS_PER_MESSAGE: usize = 1_024;
/// Pause before a stream is opened again, doubled with each failure.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A stream that has brought nothing for so long is silent itself where one of its watchers is
/// missed: who misses it has waited for a lease time, and beats come more often.
const SILENT: Duration = Duration::from_secs(2);
/// How long a stream stays with the member that it was moved to. Longer than a follower rests and
/// then waits for an opening, so that all who stalled with the old member are served by the same
/// new one, and one that is merely slow is not left at once.
const MOVE_EVERY: Duration = Duration::from_secs(10);

/// The reader, or who sends commands, is gone: so is the stream.
struct Gone;

/// A watcher asked for.
struct Asked {
    watcher: WatcherId,
    range: KeyRange,
    from: Revision,
}

/// What goes out to etcd.
enum Outgoing {
    Open(i64, Asked),
    Close(i64),
}

/// A gRPC stream that works.
struct Connection {
    outgoing: mpsc::UnboundedSender<Outgoing>,
    sender: AbortHandle,
    answers: WatchResponseStream,
    /// Our watchers by etcd's number for them, which we choose; `None`: closed by us.
    watchers: BTreeMap<i64, Option<WatcherId>>,
    next_number: i64,
    /// When it brought something last, or was opened.
    heard: Instant,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.sender.abort();
    }
}

struct Stream {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedReceiver<WatchCommand>,
    messages: mpsc::Sender<WatchMessage>,
    /// Times that the stream broke or did not open since it last worked.
    failures: u32,
    /// What the next gRPC stream begins with: it was asked for elsewhere than on the last.
    next: Option<Asked>,
    moved_at: Option<Instant>,
}

pub(super) async fn serve(
    shared: Arc<Shared>,
    commands: mpsc::UnboundedReceiver<WatchCommand>,
    messages: mpsc::Sender<WatchMessage>,
) {
    let mut stream = Stream { shared, commands, messages, failures: 0, next: None, moved_at: None };
    // `Gone` is this task's stop.
    while let Ok(asked) = stream.first().await {
        if stream.connected(asked).await.is_err() {
            return;
        }
    }
}

impl Stream {
    /// Waits until a watcher is asked for.
    async fn first(&mut self) -> Result<Asked, Gone> {
        if let Some(asked) = self.next.take() {
            return Ok(asked);
        }
        loop {
            if let Some(asked) = asked(self.command().await?) {
                return Ok(asked);
            }
        }
    }

    async fn command(&mut self) -> Result<WatchCommand, Gone> {
        tokio::select! {
            command = self.commands.recv() => command.ok_or(Gone),
            () = self.messages.closed() => Err(Gone),
        }
    }

    /// One life of the gRPC stream.
    async fn connected(&mut self, first: Asked) -> Result<(), Gone> {
        if self.failures > 0 {
            let pause = PAUSE_MIN * 2_u32.saturating_pow(self.failures - 1);
            tokio::select! {
                () = tokio::time::sleep(pause.min(PAUSE_MAX)) => {}
                () = self.messages.closed() => return Err(Gone),
            }
        }
        let member = self.shared.members.preferred();
        let watcher = first.watcher;
        let limit = self.shared.options.timeout;
        let connection = match tokio::time::timeout(limit, self.connect(member, first)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(port_error(&error, Revision(0)).to_string()),
            Err(_) => Err(format!("no answer within {limit:?}")),
        };
        match connection {
            Ok(mut connection) => {
                let reason = self.serve(&mut connection).await?;
                self.lost(member, &reason);
                for watcher in connection.watchers.values().copied().flatten() {
                    self.ended(watcher, &reason).await?;
                }
            }
            Err(reason) => {
                self.lost(member, &reason);
                self.ended(watcher, &reason).await?;
                // Who asked meanwhile need not wait for a failure of their own.
                while let Ok(command) = self.commands.try_recv() {
                    if let WatchCommand::Open { watcher, .. } = command {
                        self.ended(watcher, &reason).await?;
                    }
                }
            }
        }
        Ok(())
    }

    fn lost(&mut self, member: usize, reason: &str) {
        let endpoint = self.shared.members.endpoint(member);
        tracing::warn!(endpoint, reason, "a watch stream was lost");
        self.shared.members.leave(member);
        self.failures = self.failures.saturating_add(1);
    }

    async fn connect(&self, member: usize, first: Asked) -> Result<Connection, etcd_client::Error> {
        let client = self.shared.members.connect(member).await?;
        let mut watch = client.watch_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
        let watchers = BTreeMap::from([(1, Some(first.watcher))]);
        let options = options(1, &first.range, first.from);
        let opened = watch.watch(first.range.start, Some(options)).await?;
        let (requests, answers) = opened.split();
        let (outgoing, queue) = mpsc::unbounded_channel();
        let sender = tokio::spawn(send(requests, queue)).abort_handle();
        let heard = Instant::now();
        Ok(Connection { outgoing, sender, answers, watchers, next_number: 2, heard })
    }

    /// Serves until the stream breaks, and says why it did.
    async fn serve(&mut self, connection: &mut Connection) -> Result<String, Gone> {
        loop {
            tokio::select! {
                command = self.commands.recv() => {
                    let command = command.ok_or(Gone)?;
                    if self.moves(&command, connection.heard) {
                        self.next = asked(command);
                        return Ok("a watcher kept silent".into());
                    }
                    connection.obey(command);
                }
                answer = connection.answers.message() => match answer {
                    Ok(Some(answer)) => {
                        self.take(connection, &answer).await?;
                        // What was spent on waiting for the reader is no silence. That a watcher
                        // was opened or closed says nothing of those that are silent.
                        if !answer.created() && !answer.canceled() {
                            connection.heard = Instant::now();
                        }
                    }
                    Ok(None) => return Ok("etcd ended the stream".into()),
                    Err(error) => return Ok(port_error(&error, Revision(0)).to_string()),
                },
                () = self.messages.closed() => return Err(Gone),
            }
        }
    }

    /// Whether this command has the stream leave its member, or be opened anew at the only one.
    fn moves(&mut self, command: &WatchCommand, heard: Instant) -> bool {
        let wanted = matches!(command, WatchCommand::Open { elsewhere: true, .. });
        let lately = self.moved_at.is_some_and(|at| at.elapsed() < MOVE_EVERY);
        let helps = self.shared.members.count() > 1 || heard.elapsed() >= SILENT;
        let moves = wanted && !lately && helps;
        if moves {
            self.moved_at = Some(Instant::now());
        }
        moves
    }

    async fn take(
        &mut self,
        connection: &mut Connection,
        answer: &WatchResponse,
    ) -> Result<(), Gone> {
        let number = answer.watch_id();
        // Progress notifications have numbers of no watcher.
        let Some(&watcher) = connection.watchers.get(&number) else {
            return Ok(());
        };
        if answer.canceled() {
            connection.watchers.remove(&number);
        }
        // Closed by us; what is still on its way is of no interest.
        let Some(watcher) = watcher else {
            return Ok(());
        };
        if answer.created() && !answer.canceled() {
            self.failures = 0;
            self.send(WatchMessage::Opened { watcher }).await?;
        }
        self.deliver(watcher, answer.events()).await?;
        if !answer.canceled() {
            return Ok(());
        }
        match answer.compact_revision() {
            0 => self.ended(watcher, answer.cancel_reason()).await,
            oldest => {
                let oldest = Revision(oldest);
                self.send(WatchMessage::Compacted { watcher, oldest }).await
            }
        }
    }

    async fn deliver(&self, watcher: WatcherId, events: &[etcd_client::Event]) -> Result<(), Gone> {
        let mut message: Vec<Event> = Vec::new();
        for event in events.iter().filter_map(convert::event) {
            let through = message.last().map(Event::revision);
            if let Some(through) = through
                && message.len() >= EVENTS_PER_MESSAGE
                && event.revision() > through
            {
                let events = std::mem::take(&mut message);
                self.send(WatchMessage::Events { watcher, through, events }).await?;
            }
            message.push(event);
        }
        let Some(through) = message.last().map(Event::revision) else {
            return Ok(());
        };
        self.send(WatchMessage::Events { watcher, through, events: message }).await
    }

    async fn ended(&self, watcher: WatcherId, reason: &str) -> Result<(), Gone> {
        let reason = reason.to_string();
        self.send(WatchMessage::Ended { watcher, reason }).await
    }

    async fn send(&self, message: WatchMessage) -> Result<(), Gone> {
        self.messages.send(message).await.map_err(|_| Gone)
    }
}

impl Connection {
    fn obey(&mut self, command: WatchCommand) {
        let request = match command {
            WatchCommand::Open { watcher, range, from, .. } => {
                let number = self.next_number;
                self.next_number += 1;
                self.watchers.insert(number, Some(watcher));
                Outgoing::Open(number, Asked { watcher, range, from })
            }
            WatchCommand::Close { watcher } => {
                let slot = self.watchers.iter_mut().find(|(_, open)| **open == Some(watcher));
                let Some((number, slot)) = slot else { return };
                *slot = None;
                Outgoing::Close(*number)
            }
        };
        // If the sender has ended, so has the stream, and its watchers are about to be told.
        let _ = self.outgoing.send(request);
    }
}

fn asked(command: WatchCommand) -> Option<Asked> {
    match command {
        WatchCommand::Open { watcher, range, from, .. } => Some(Asked { watcher, range, from }),
        WatchCommand::Close { .. } => None,
    }
}

async fn send(mut requests: WatchRequestSender, mut queue: mpsc::UnboundedReceiver<Outgoing>) {
    while let Some(request) = queue.recv().await {
        let sent = match request {
            Outgoing::Open(number, asked) => {
                let options = options(number, &asked.range, asked.from);
                requests.watch(asked.range.start, Some(options)).await
            }
            Outgoing::Close(number) => requests.cancel(number).await,
        };
        if sent.is_err() {
            return;
        }
    }
    // The connection is dropped with its queue; this end of the stream goes last.
}

/// etcd takes revision 0 as "from now on"; whoever asks for everything means everything.
fn options(number: i64, range: &KeyRange, from: Revision) -> WatchOptions {
    WatchOptions::new()
        .with_range(range.end.clone())
        .with_watch_id(number)
        .with_start_revision(from.0.max(1))
}
