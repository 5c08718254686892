//! The calls on runs: look, follow the output, cancel.
//!
//! Runs are the messages of the wire as they are: nobody builds one by hand, so a layer over them
//! would only hide fields. Output is a stream of bytes with an offset, which makes it easy to go on
//! after a server died: the next one is asked for what comes after the last byte that was read.

use std::time::SystemTime;

use futures::Stream;
use futures::stream::{self, TryStreamExt};
use tocktower_proto::v1;
use tonic::Streaming;

use crate::client::{Client, Repeat, runs};
use crate::error::Error;
use crate::limits;
use crate::patience::Patience;
use crate::time::timestamp;

pub use v1::{Attempt, AttemptEnd, OutputChunk, OutputStream, Run, RunState};

/// Which runs to list. `Default` is every run that is still known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunFilter {
    /// Left out: all.
    pub namespace: Option<String>,
    /// Left out: all.
    pub task: Option<String>,
    /// Empty: every state.
    pub states: Vec<RunState>,
    /// Runs of this instant or later.
    pub since: Option<SystemTime>,
    /// Runs of earlier instants only.
    pub until: Option<SystemTime>,
}

impl RunFilter {
    /// Every run of one task.
    pub fn task(namespace: impl Into<String>, task: impl Into<String>) -> RunFilter {
        RunFilter {
            namespace: Some(namespace.into()),
            task: Some(task.into()),
            ..RunFilter::default()
        }
    }
}

/// One page of runs.
#[derive(Debug, Clone, PartialEq)]
pub struct RunPage {
    /// The newest first.
    pub runs: Vec<Run>,
    pub next_cursor: Option<String>,
    /// Agents that may know more and did not answer in time.
    pub silent_agents: Vec<String>,
}

/// Which output of a run. `Default` is what the newest attempt has written to stdout so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutputQuery {
    /// 0: the newest.
    pub attempt: u32,
    /// Left out: stdout.
    pub stream: Option<OutputStream>,
    /// Go on until the attempt ends.
    pub follow: bool,
    /// Bytes to leave out from the beginning.
    pub offset: u64,
}

impl Client {
    /// One page of runs, the newest first.
    ///
    /// # Errors
    /// `invalid_argument` for a cursor that is not from such a list.
    pub async fn list_runs_page(
        &self,
        filter: &RunFilter,
        cursor: &str,
        limit: u32,
    ) -> Result<RunPage, Error> {
        let message = v1::ListRunsRequest {
            namespace: filter.namespace.clone().unwrap_or_else(|| "-".to_owned()),
            task: filter.task.clone().unwrap_or_default(),
            states: filter.states.iter().map(|&state| state.into()).collect(),
            since: filter.since.map(timestamp),
            until: filter.until.map(timestamp),
            limit,
            cursor: cursor.to_owned(),
        };
        let answer = self.read(|channel| {
            let request = self.request(message.clone());
            async move { runs(channel).list_runs(request).await }
        });
        let answer = answer.await?;
        Ok(RunPage {
            runs: answer.runs,
            next_cursor: Some(answer.next_cursor).filter(|cursor| !cursor.is_empty()),
            silent_agents: answer.silent_agents,
        })
    }

    /// Every run that matches, the newest first, page by page as the stream is read.
    pub fn list_runs(
        &self,
        filter: RunFilter,
    ) -> impl Stream<Item = Result<Run, Error>> + Send + use<> {
        let client = self.clone();
        let pages = stream::try_unfold(Some(String::new()), move |cursor| {
            let (client, filter) = (client.clone(), filter.clone());
            async move {
                let Some(cursor) = cursor else {
                    return Ok(None);
                };
                let page = client.list_runs_page(&filter, &cursor, limits::PAGE_ITEMS_MAX).await?;
                Ok(Some((stream::iter(page.runs.into_iter().map(Ok)), page.next_cursor)))
            }
        });
        pages.try_flatten()
    }

    /// A run with all its attempts.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn get_run(&self, run_id: &str) -> Result<Run, Error> {
        let message = v1::GetRunRequest { run_id: run_id.to_owned() };
        let answer = self.read(|channel| {
            let request = self.request(message.clone());
            async move { runs(channel).get_run(request).await }
        });
        answer.await?.run.ok_or(Error::Incomplete("run"))
    }

    /// Asks for the end of a run, and gives it as it was when its holder took the request.
    ///
    /// # Errors
    /// `not_found`; a refusal if it has ended already.
    pub async fn cancel_run(&self, run_id: &str) -> Result<Run, Error> {
        let message = v1::CancelRunRequest { run_id: run_id.to_owned() };
        let answer = self.call("the cancel", Repeat::Harmless, |channel| {
            let request = self.request(message.clone());
            async move { runs(channel).cancel_run(request).await }
        });
        let answer = answer.await;
        match answer.result {
            // The lost first attempt of this very call may be what ended it.
            Err(error) if error.code() == Some("already_ended") && answer.maybe_done_before => {
                self.get_run(run_id).await
            }
            result => result?.run.ok_or(Error::Incomplete("run")),
        }
    }

    /// What an attempt of a run wrote. The stream goes on by itself after a server died, with the
    /// byte after the last that it gave.
    ///
    /// ```no_run
    /// # async fn f(client: tocktower_client::Client) -> Result<(), tocktower_client::Error> {
    /// use std::io::Write;
    /// use futures::TryStreamExt;
    /// use tocktower_client::OutputQuery;
    ///
    /// let follow = OutputQuery { follow: true, ..OutputQuery::default() };
    /// let mut output = std::pin::pin!(client.output("default/backup@1790000000000-7", follow));
    /// while let Some(chunk) = output.try_next().await? {
    ///     std::io::stdout().write_all(&chunk.data).ok();
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn output(
        &self,
        run_id: &str,
        query: OutputQuery,
    ) -> impl Stream<Item = Result<OutputChunk, Error>> + Send + use<> {
        let follower = Follower {
            client: self.clone(),
            patience: Patience::new(self),
            run_id: run_id.to_owned(),
            query,
            open: None,
        };
        stream::try_unfold(follower, |mut follower| async move {
            let chunk = follower.next().await?;
            Ok(chunk.map(|chunk| (chunk, follower)))
        })
    }
}

/// An output that is being read, over as many servers as it takes.
struct Follower {
    client: Client,
    patience: Patience,
    run_id: String,
    /// Its offset moves with what was read.
    query: OutputQuery,
    open: Option<(usize, Streaming<OutputChunk>)>,
}

impl Follower {
    async fn next(&mut self) -> Result<Option<OutputChunk>, Error> {
        loop {
            let (index, answer) = match self.open.take() {
                Some((index, mut stream)) => {
                    let answer = stream.message().await;
                    if let Ok(Some(chunk)) = answer {
                        self.query.offset = chunk.offset + chunk.data.len() as u64;
                        self.patience.progress();
                        self.open = Some((index, stream));
                        return Ok(Some(chunk));
                    }
                    (index, answer.map(|_| None))
                }
                None => self.connect().await,
            };
            match answer {
                Ok(None) => return Ok(None),
                Ok(Some(stream)) => self.open = Some((index, stream)),
                Err(status) => self.patience.wait(&self.client, index, status).await?,
            }
        }
    }

    async fn connect(&self) -> (usize, Result<Option<Streaming<OutputChunk>>, tonic::Status>) {
        let stream = self.query.stream.unwrap_or(OutputStream::Stdout);
        let message = v1::GetOutputRequest {
            run_id: self.run_id.clone(),
            attempt: self.query.attempt,
            stream: stream.into(),
            follow: self.query.follow,
            offset: self.query.offset,
        };
        let (index, channel) = self.client.preferred();
        let answer = runs(channel).get_output(self.client.endless_request(message)).await;
        (index, answer.map(|response| Some(response.into_inner())))
    }
}
