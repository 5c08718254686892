//! Following runs as they change, for as long as the reader likes.
//!
//! A watch is a snapshot and then every change. When its server dies the client opens it on the
//! next one, and the reader gets a fresh snapshot: what it knew is to be thrown away, exactly as
//! after `Lagged`. There is no way to go on from a number, as servers share no numbering; a
//! snapshot is always right.
//!
//! A watch that ends without a word is the worst that can happen to its reader, so the end of the
//! server's stream, too, is a reason to open it again and never the end of ours.

use std::collections::BTreeMap;

use futures::Stream;
use futures::stream;
use tocktower_proto::v1;
use tonic::{Status, Streaming};

use crate::client::{Client, runs};
use crate::error::Error;
use crate::patience::Patience;
use crate::runs::Run;

/// Which runs to follow. `Default` is all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WatchFilter {
    /// Left out: all.
    pub namespace: Option<String>,
    /// Left out: all.
    pub task: Option<String>,
    /// Of the task; all of them must be there.
    pub labels: BTreeMap<String, String>,
}

/// What a watch gives.
#[derive(Debug, Clone, PartialEq)]
pub enum WatchEvent {
    /// All runs as they are now; takes the place of whatever was known. Comes first, after each
    /// `Lagged`, and when another server had to be asked.
    Snapshot(Vec<Run>),
    /// A run as it is after a change. An end comes at once, with `provisional`, and once more
    /// without it when the run is settled.
    Changed { seq: u64, run: Box<Run> },
    /// The reader was too slow and missed so many changes; a snapshot follows.
    Lagged { missed: u64 },
}

impl Client {
    /// Follows runs. The stream has no end; it fails only if no server can be reached for the
    /// client's patience, or the servers refuse.
    ///
    /// ```no_run
    /// # async fn f(client: tocktower_client::Client) -> Result<(), tocktower_client::Error> {
    /// use futures::TryStreamExt;
    /// use tocktower_client::{WatchEvent, WatchFilter};
    ///
    /// let mut events = std::pin::pin!(client.watch(WatchFilter::default()));
    /// while let Some(event) = events.try_next().await? {
    ///     match event {
    ///         WatchEvent::Snapshot(runs) => println!("{} runs are open", runs.len()),
    ///         WatchEvent::Changed { run, .. } => println!("{}: {:?}", run.run_id, run.state()),
    ///         WatchEvent::Lagged { missed } => println!("missed {missed}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch(
        &self,
        filter: WatchFilter,
    ) -> impl Stream<Item = Result<WatchEvent, Error>> + Send + use<> {
        let watcher = Watcher {
            client: self.clone(),
            patience: Patience::new(self),
            filter,
            open: None,
            pages: Vec::new(),
        };
        stream::try_unfold(watcher, |mut watcher| async move {
            let event = watcher.next().await?;
            Ok(Some((event, watcher)))
        })
    }
}

struct Watcher {
    client: Client,
    patience: Patience,
    filter: WatchFilter,
    open: Option<(usize, Streaming<v1::WatchRunsResponse>)>,
    /// Pages of a snapshot whose last page has not come yet.
    pages: Vec<Run>,
}

impl Watcher {
    async fn next(&mut self) -> Result<WatchEvent, Error> {
        use v1::watch_runs_response::Message;
        loop {
            let message = match self.message().await {
                Ok(message) => message,
                Err((index, status)) => {
                    // Half a snapshot of a server that died is no part of the next one's.
                    self.pages.clear();
                    self.patience.wait(&self.client, index, status).await?;
                    continue;
                }
            };
            match message {
                Some(Message::Snapshot(page)) => {
                    self.pages.extend(page.runs);
                    if page.last {
                        self.patience.progress();
                        return Ok(WatchEvent::Snapshot(std::mem::take(&mut self.pages)));
                    }
                }
                Some(Message::Event(change)) => {
                    self.patience.progress();
                    let run = Box::new(change.run.ok_or(Error::Incomplete("run"))?);
                    return Ok(WatchEvent::Changed { seq: change.seq, run });
                }
                Some(Message::Lagged(lagged)) => {
                    self.pages.clear();
                    return Ok(WatchEvent::Lagged { missed: lagged.missed });
                }
                // A kind that this version does not know yet.
                None => {}
            }
        }
    }

    async fn message(
        &mut self,
    ) -> Result<Option<v1::watch_runs_response::Message>, (usize, Status)> {
        let (index, mut stream) = match self.open.take() {
            Some(open) => open,
            None => self.connect().await?,
        };
        match stream.message().await {
            Ok(Some(response)) => {
                self.open = Some((index, stream));
                Ok(response.message)
            }
            Ok(None) => Err((index, Status::unavailable("the server ended the watch"))),
            Err(status) => Err((index, status)),
        }
    }

    async fn connect(&self) -> Result<(usize, Streaming<v1::WatchRunsResponse>), (usize, Status)> {
        let message = v1::WatchRunsRequest {
            namespace: self.filter.namespace.clone().unwrap_or_else(|| "-".to_owned()),
            task: self.filter.task.clone().unwrap_or_default(),
            labels: self.filter.labels.clone(),
        };
        let (index, channel) = self.client.preferred();
        let answer = runs(channel).watch_runs(self.client.endless_request(message)).await;
        answer.map(|response| (index, response.into_inner())).map_err(|status| (index, status))
    }
}
