//! Questions of one coordinator, each a task of its own.
//!
//! What may go on at a time is bounded: queries of a link (those that follow output, which stay for
//! long, apart from the others), reads of the disk over all links, the time the loop has. An answer
//! is sent in parts that the receiver can take; a task whose parts nobody takes waits, holding up
//! only itself. Every query ends with an answer marked `done`, but for one that the asker stopped,
//! of which nothing more is said.

mod output;
mod runs;

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;

use tocktower_core::ids::RunId;
use tocktower_core::run::RunRecord;
use tocktower_proto::convert::parse_run_id;
use tocktower_proto::v1;
use tocktower_proto::v1::query_answer::Kind;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::timeout;

use super::limits::{ANSWERS_MAX, FOLLOWERS_MAX, LOOP_WITHIN, QUERIES_MAX};
use super::metrics::{LinkMetrics, Raised};
use super::{History, HistoryError, LinkCommand, Shared};

/// What is asked.
pub(super) enum Asked {
    Runs(v1::RunsQuery),
    Run(String),
    Output(v1::OutputQuery),
    Cancel(String),
    Unknown,
}

impl Asked {
    pub(super) fn of(kind: Option<v1::query::Kind>) -> Asked {
        match kind {
            Some(v1::query::Kind::Runs(query)) => Asked::Runs(query),
            Some(v1::query::Kind::Run(query)) => Asked::Run(query.run_id),
            Some(v1::query::Kind::Output(query)) => Asked::Output(query),
            None => Asked::Unknown,
        }
    }

    /// How many of its kind a link may have under way, and whether it is a follower.
    fn bound(&self) -> (usize, bool) {
        match self {
            Asked::Output(query) if query.follow => (FOLLOWERS_MAX, true),
            Asked::Runs(_)
            | Asked::Run(_)
            | Asked::Output(_)
            | Asked::Cancel(_)
            | Asked::Unknown => (QUERIES_MAX, false),
        }
    }
}

/// A query whose last answer was not taken yet.
struct Open {
    task: AbortHandle,
    follows: bool,
}

/// Why a query has no answer. The text is for the person who asked.
#[derive(Debug, thiserror::Error)]
enum QueryError {
    #[error("this agent knows no run {0:?}")]
    NotFound(String),
    #[error("{0}")]
    Invalid(String),
    #[error("too many runs to look through in time; ask for a task or a shorter time")]
    TooBroad,
    #[error("the agent has {0} such queries of this coordinator under way, as many as it takes")]
    TooMany(usize),
    #[error("the agent's loop did not answer in time")]
    LoopBusy,
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error("the query failed inside the agent: {0}")]
    Internal(#[from] JoinError),
}

impl QueryError {
    fn code(&self) -> &'static str {
        match self {
            QueryError::NotFound(_) => "not_found",
            QueryError::Invalid(_) => "invalid_query",
            QueryError::TooBroad => "too_broad",
            QueryError::TooMany(_) => "rate_limited",
            QueryError::LoopBusy | QueryError::History(_) => "store_unavailable",
            QueryError::Internal(_) => "internal",
        }
    }

    fn answer(&self, query_id: u64) -> v1::QueryAnswer {
        let detail = self.to_string();
        let error = v1::Error { code: self.code().to_owned(), detail, errors: Vec::new() };
        v1::QueryAnswer { query_id, kind: Some(Kind::Error(error)), done: true }
    }
}

/// The queries of one link. Dropped with it, which ends them.
pub(super) struct Queries {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    /// Until their last answer was taken.
    open: HashMap<u64, Open>,
    /// Never closed: a sender stays here.
    answers: mpsc::Sender<v1::QueryAnswer>,
    inbox: mpsc::Receiver<v1::QueryAnswer>,
}

impl Queries {
    pub(super) fn new(shared: Arc<Shared>) -> Queries {
        let (answers, inbox) = mpsc::channel(ANSWERS_MAX);
        Queries { shared, tasks: JoinSet::new(), open: HashMap::new(), answers, inbox }
    }

    /// Starts a query; its answers come from `next`. `Err` is the answer of one that is refused.
    pub(super) fn begin(&mut self, id: u64, asked: Asked) -> Result<(), v1::QueryAnswer> {
        let metrics = &self.shared.metrics;
        LinkMetrics::one(&metrics.queries);
        if self.open.contains_key(&id) {
            tracing::warn!(query = id, "a query's number was used twice; the second is left out");
            return Ok(());
        }
        let (most, follows) = asked.bound();
        if self.open.values().filter(|open| open.follows == follows).count() >= most {
            LinkMetrics::one(&metrics.queries_refused);
            return Err(QueryError::TooMany(most).answer(id));
        }
        let asker = Asker { shared: Arc::clone(&self.shared), id, answers: self.answers.clone() };
        let task = self.tasks.spawn(asker.serve(asked));
        self.open.insert(id, Open { task, follows });
        Ok(())
    }

    pub(super) fn stop(&mut self, id: u64) {
        if let Some(open) = self.open.remove(&id) {
            open.task.abort();
        }
    }

    pub(super) fn stop_all(&mut self) {
        self.open.clear();
        self.tasks.abort_all();
    }

    /// The next answer to a query that was not stopped. Cancel-safe.
    pub(super) async fn next(&mut self) -> v1::QueryAnswer {
        loop {
            let answer = tokio::select! {
                Some(answer) = self.inbox.recv() => answer,
                Some(ended) = self.tasks.join_next() => match self.lost(ended) {
                    Some(answer) => answer,
                    None => continue,
                },
                else => pending().await,
            };
            let known = match answer.done {
                true => self.open.remove(&answer.query_id).is_some(),
                false => self.open.contains_key(&answer.query_id),
            };
            if known {
                return answer;
            }
        }
    }

    /// A task that panicked still owes an answer.
    fn lost(&self, ended: Result<(), JoinError>) -> Option<v1::QueryAnswer> {
        let error = ended.err().filter(JoinError::is_panic)?;
        let (id, _) = self.open.iter().find(|(_, open)| open.task.id() == error.id())?;
        tracing::error!(query = id, %error, "a query panicked");
        LinkMetrics::one(&self.shared.metrics.queries_failed);
        Some(QueryError::Internal(error).answer(*id))
    }
}

/// One query under way.
struct Asker {
    shared: Arc<Shared>,
    id: u64,
    answers: mpsc::Sender<v1::QueryAnswer>,
}

impl Asker {
    async fn serve(self, asked: Asked) {
        let _open = Raised::new(&self.shared.metrics.queries_open);
        let served = match asked {
            Asked::Runs(query) => self.runs(query).await,
            Asked::Run(run_id) => self.run(&run_id).await,
            Asked::Output(query) => self.output(query).await,
            Asked::Cancel(run_id) => self.cancel(&run_id).await,
            Asked::Unknown => {
                Err(QueryError::Invalid("this agent does not know such a query".to_owned()))
            }
        };
        if let Err(error) = served {
            if !matches!(error, QueryError::NotFound(_)) {
                LinkMetrics::one(&self.shared.metrics.queries_failed);
                tracing::warn!(query = self.id, %error, "a query has no answer");
            }
            self.send(error.answer(self.id)).await;
        }
    }

    /// One run, in all its accounts: the coordinator unites them with those of other agents.
    async fn run(&self, run_id: &str) -> Result<(), QueryError> {
        let run = parse(run_id)?;
        let accounts = self.look_up(&run).await?.accounts;
        if accounts.is_empty() {
            return Err(QueryError::NotFound(run_id.to_owned()));
        }
        self.send_runs(&accounts).await;
        Ok(())
    }

    async fn cancel(&self, run_id: &str) -> Result<(), QueryError> {
        LinkMetrics::one(&self.shared.metrics.cancels);
        let run = parse(run_id)?;
        let found = self.look_up(&run).await?;
        let Some(first) = found.accounts.first() else {
            return Err(QueryError::NotFound(run_id.to_owned()));
        };
        if found.open {
            let command = LinkCommand::CancelRun(run);
            let sent = timeout(LOOP_WITHIN, self.shared.ports.commands.send(command)).await;
            sent.map_err(|_| QueryError::LoopBusy)?.map_err(|_| QueryError::LoopBusy)?;
        }
        self.send_runs(std::slice::from_ref(first)).await;
        Ok(())
    }

    /// All that is known of a run here, the newest account first.
    async fn look_up(&self, run: &RunId) -> Result<Found, QueryError> {
        let unstored = self.ask_loop(LinkCommand::Unstored).await?;
        let unstored: Vec<RunRecord> =
            unstored.into_iter().filter(|known| known.id == *run).collect();
        let asked = run.clone();
        let rows = self.read(move |history| history.accounts(&asked)).await?;
        let open = unstored.iter().any(|known| !known.state.is_end());
        let ending = unstored.iter().any(|known| known.state.is_end());
        let known = runs::stamped(self, rows).await?;
        let mut accounts: Vec<RunRecord> =
            unstored.into_iter().chain(known).filter(|known| known.id == *run).collect();
        accounts.sort_by_key(|run| std::cmp::Reverse(runs::rank(run)));
        accounts.dedup_by_key(|run| run.fence);
        Ok(Found { accounts, open, ending })
    }

    /// Reads the history off the runtime's threads.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn History) -> Result<T, HistoryError> + Send + 'static,
    ) -> Result<T, QueryError> {
        let permit = Arc::clone(&self.shared.reads).acquire_owned().await;
        let permit = permit.expect("the permits are never closed");
        let history = Arc::clone(&self.shared.ports.history);
        let reading = tokio::task::spawn_blocking(move || {
            // The permit goes along: a query that is stopped does not end its read.
            let _permit = permit;
            read(&*history)
        });
        Ok(reading.await??)
    }

    async fn ask_loop<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> LinkCommand,
    ) -> Result<T, QueryError> {
        let (reply, answer) = oneshot::channel();
        let commands = &self.shared.ports.commands;
        let asking = async {
            commands.send(command(reply)).await.map_err(|_| QueryError::LoopBusy)?;
            answer.await.map_err(|_| QueryError::LoopBusy)
        };
        timeout(LOOP_WITHIN, asking).await.map_err(|_| QueryError::LoopBusy)?
    }

    async fn send(&self, answer: v1::QueryAnswer) {
        // Closed: the link is gone, and this task with it in a moment.
        let _ = self.answers.send(answer).await;
    }

    async fn send_part(&self, kind: Option<Kind>, done: bool) {
        self.send(v1::QueryAnswer { query_id: self.id, kind, done }).await;
    }
}

struct Found {
    accounts: Vec<RunRecord>,
    /// It has not ended here.
    open: bool,
    /// Its end, and what it wrote, is on its way to the disk.
    ending: bool,
}

fn parse(run_id: &str) -> Result<RunId, QueryError> {
    let (task, name) =
        parse_run_id(run_id).map_err(|error| QueryError::Invalid(error.to_string()))?;
    Ok(name.id(task))
}
