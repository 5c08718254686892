//! `/v1/watch`: the live view as a WebSocket.
//!
//! One task per socket: what it sends, what it is told, and a ping every 20 s. A reader that is too
//! slow falls behind the feed's ring and is told; one that does not read at all is let go. The text
//! of an event is made once for all sockets, only its number is a socket's own.

mod filter;
mod text;

use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message as Frame, WebSocket, WebSocketUpgrade, close_code};
use futures::{SinkExt, StreamExt};
use tocktower_proto::json;
use tokio::time::{Instant, timeout};

use crate::feed::Filter;
use crate::live::{FEEDS_MAX, Live, Message};
use crate::metrics::Watcher;
use crate::rest::{Answer, App, Call, Failure};
use crate::service::{Code, RunError};

const PING_EVERY: Duration = Duration::from_secs(20);
/// A socket that has said nothing for this long, not even a pong, is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// A socket that does not take what is sent for this long is let go.
const SEND_WITHIN: Duration = Duration::from_secs(30);
/// What a client may say in one message: a filter.
const MESSAGE_BYTES_MAX: usize = 64 * 1_024;

/// The live feed: a snapshot in pages, then events; `lagged` and a fresh snapshot when the reader
/// was too slow. The last page says which agents were not heard (`incomplete`) and whether there
/// are more runs than it holds (`cut`). `{"type":"filter",…}` changes the filter.
///
/// The end of a run is told at once, with `provisional: true`, and again with `false` some two
/// seconds later, when it is settled. Where an agent cannot tell the second (another has taken the
/// range over, or there were too many), `lagged` comes for it.
#[utoipa::path(
    get, path = "/v1/watch", tag = "runs",
    params(
        ("namespace" = Option<String>, Query,), ("task" = Option<String>, Query,),
        ("label" = Option<String>, Query, description = "`key=value`; all of them must be there"),
        ("kinds" = Option<String>, Query, description = "run, task, agent; all when left out"),
    ),
    responses(
        (status = 101, description = "A WebSocket"), (status = 400, body = json::Problem),
    )
)]
pub async fn watch(
    State(app): State<App>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    call: Call,
) -> Answer {
    let filter = filter::of_query(&call)?;
    let upgrade = upgrade.map_err(|error| {
        let detail = format!("this path is a WebSocket: {}", error.body_text());
        Failure::new(Code::InvalidRequest, detail)
    })?;
    if app.metrics.open(Watcher::WebSocket) >= FEEDS_MAX {
        return Err(Failure::from(RunError::TooManyFeeds));
    }
    let upgrade = upgrade.max_message_size(MESSAGE_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| Box::pin(serve(app, socket, filter))))
}

/// Why a socket is closed by us.
enum End {
    /// The client has gone, or cannot be reached.
    Gone,
    Stopping,
}

struct Socket {
    app: App,
    socket: WebSocket,
    seq: u64,
    heard: Instant,
}

async fn serve(app: App, socket: WebSocket, filter: Filter) {
    let _watching = app.metrics.watching(Watcher::WebSocket);
    let mut stop = app.stop.clone();
    let mut live = Live::new(app.clone(), filter);
    let mut socket = Socket { app, socket, seq: 0, heard: Instant::now() };
    let mut ping = tokio::time::interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    loop {
        let step = tokio::select! {
            message = live.next() => socket.tell(message).await,
            frame = socket.socket.next() => match frame {
                Some(Ok(frame)) => socket.hear(frame, &mut live).await,
                Some(Err(_)) | None => Err(End::Gone),
            },
            _ = ping.tick() => socket.ping().await,
            () = stop.stopped() => Err(End::Stopping),
        };
        match step {
            Ok(()) => {}
            Err(End::Gone) => return,
            Err(End::Stopping) => {
                let reason = "the coordinator stops; connect to another".into();
                let frame = CloseFrame { code: close_code::AWAY, reason };
                // Whoever has gone needs no goodbye.
                let _ = timeout(SEND_WITHIN, socket.socket.send(Frame::Close(Some(frame)))).await;
                return;
            }
        }
    }
}

impl Socket {
    async fn tell(&mut self, message: Message) -> Result<(), End> {
        match message {
            Message::Snapshot(page) => self.send(vec![text::snapshot(page)]).await,
            Message::Lagged { missed } => {
                self.app.metrics.lagged(Watcher::WebSocket);
                self.send(vec![text::lagged(missed)]).await
            }
            Message::Changes(changes) => {
                let mut texts = Vec::with_capacity(changes.len());
                for change in changes {
                    if let Some(body) = text::body(&self.app, &change) {
                        self.seq += 1;
                        texts.push(text::event(self.seq, body));
                    }
                }
                self.send(texts).await
            }
            Message::Closed => Err(End::Stopping),
        }
    }

    async fn hear(&mut self, frame: Frame, live: &mut Live) -> Result<(), End> {
        self.heard = Instant::now();
        match frame {
            Frame::Text(said) => match filter::of_message(said.as_str()) {
                Ok(filter) => {
                    live.change_filter(filter);
                    Ok(())
                }
                Err(failure) => self.send(vec![text::error(&failure)]).await,
            },
            Frame::Binary(_) => {
                let failure = Failure::new(Code::InvalidRequest, "send text, not binary");
                self.send(vec![text::error(&failure)]).await
            }
            Frame::Ping(_) | Frame::Pong(_) => Ok(()),
            Frame::Close(_) => Err(End::Gone),
        }
    }

    async fn ping(&mut self) -> Result<(), End> {
        if self.heard.elapsed() > SILENCE_MAX {
            return Err(End::Gone);
        }
        let ping = self.socket.send(Frame::Ping(Default::default()));
        timeout(SEND_WITHIN, ping).await.map_err(|_| End::Gone)?.map_err(|_| End::Gone)
    }

    /// Several texts in one write.
    async fn send(&mut self, texts: Vec<String>) -> Result<(), End> {
        let all = async {
            for text in texts {
                self.socket.feed(Frame::Text(text.into())).await?;
            }
            self.socket.flush().await
        };
        timeout(SEND_WITHIN, all).await.map_err(|_| End::Gone)?.map_err(|_| End::Gone)
    }
}
