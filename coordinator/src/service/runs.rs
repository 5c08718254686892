//! Runs: what agents know of them, asked over their links and merged.
//!
//! No coordinator keeps history: it lies with the agents that held the range, each of which says
//! which ranges it has history of. A question goes to those, all at once, with a time limit
//! (`asking`); their accounts are merged (`merge`). Who may know more and did not answer is named
//! in the answer, so that a partial list is never taken for a whole one; and where nothing was
//! found while somebody kept silent, that is what is said, and not that there is nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tocktower_core::ids::{AgentName, Fence, Name, Namespace, RunId, RunKey, TaskName};
use tocktower_core::run::{RunRecord, RunState};
use tocktower_core::task::{Placement, Task};
use tocktower_core::time::Instant;
use tocktower_proto::convert::{RunName, format_run_id, parse_run_id, run_state_proto};
use tocktower_proto::v1;

use super::asking::{self, ANSWER_WITHIN, Told, Whose, not_asked, refused};
use super::cursor;
use super::error::RunError;
use super::merge::{self, Place};
use super::requests;
use crate::catalog::Catalog;
use crate::feed::{self, Feed, Filter, Follower};
use crate::links::{Answers, Links, Part};

/// What the reason of a run that repeats another begins with; its id follows.
const DUPLICATE_OF: &str = "duplicate_of ";
/// Runs of one page, and pages, in which a request is looked for. Agents that know of `ulid_end`
/// send the one run; older ones send all, and are asked no further than this.
const REQUEST_PAGE: usize = 1_000;
const REQUEST_PAGES_MAX: usize = 10;
/// Runs of one instant that are asked for: lives of one name, and what was asked for by hand then.
const AT_INSTANT_MAX: usize = 100;
/// A ulid begins with its time, 48 bits of milliseconds.
const ULID_TIME_SHIFT: u32 = 80;

/// The run service. Cheap to clone.
#[derive(Clone)]
pub struct Runs {
    catalog: Catalog,
    links: Links,
    feed: Feed,
}

/// Which runs a list shows. What is left out matches everything.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RunFilter {
    pub namespace: Option<Namespace>,
    pub task: Option<Name>,
    pub states: Vec<RunState>,
    /// By instant; `until` does not belong to it.
    pub since: Option<Instant>,
    pub until: Option<Instant>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct RunPage {
    /// The newest first.
    pub runs: Vec<RunRecord>,
    pub next_cursor: Option<String>,
    /// Agents that may know more and did not answer in time, or are down.
    pub silent: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Stream {
    #[default]
    Stdout,
    Stderr,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutputRequest {
    pub run_id: String,
    /// 0: the newest.
    pub attempt: u32,
    pub stream: Stream,
    pub follow: bool,
    pub offset: u64,
}

/// What an attempt wrote, as it comes.
pub struct Output {
    agent: AgentName,
    answers: Answers,
}

impl Output {
    /// The next chunk; `None`: that was all.
    pub async fn next(&mut self) -> Result<Option<v1::OutputChunk>, RunError> {
        match self.answers.next().await {
            Part::Output(chunk) => Ok(Some(chunk)),
            Part::Done => Ok(None),
            Part::Failed(error) => Err(refused(&self.agent, error)),
            Part::Runs(_) | Part::Lagged | Part::Gone => {
                Err(RunError::Silent(vec![self.agent.to_string()]))
            }
        }
    }
}

/// The newest run of a task, as far as somebody told of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Newest {
    pub run: Option<RunRecord>,
    /// Agents that may know a newer one and did not answer in time.
    pub silent: Vec<String>,
}

impl Runs {
    pub fn new(catalog: Catalog, links: Links, feed: Feed) -> Runs {
        Runs { catalog, links, feed }
    }

    pub fn follow(&self, filter: Filter) -> Follower {
        self.feed.follow(&self.links.interests, filter)
    }

    /// A page of runs, the newest first.
    pub async fn list(
        &self,
        filter: &RunFilter,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<RunPage, RunError> {
        self.ready()?;
        let before = cursor.map(read_cursor).transpose()?;
        let query = runs_query(filter, limit, before.as_ref());
        let query = v1::query::Kind::Runs(query);
        let told = self.ask(named(filter).as_ref(), query, ANSWER_WITHIN).await;
        let (full, mut silent) = (told.full(limit), told.missing());
        let known = told.accounts;
        let mut runs = merge::merged(known.values().flatten().cloned());
        let more = full || runs.len() > limit;
        runs.truncate(limit);
        // The place up to which agents have told, whatever becomes of the runs below.
        let next_cursor = runs.last().filter(|_| more).map(write_cursor);
        if !filter.states.is_empty() {
            let told = self.others_on(&known, &runs).await;
            for agent in &told.silent {
                if !silent.contains(agent) {
                    silent.push(agent.clone());
                }
            }
            let asked: BTreeSet<RunId> = runs.iter().map(|run| run.id.clone()).collect();
            let others = told.all().filter(|run| asked.contains(&run.id));
            runs = merge::merged(runs.into_iter().chain(others));
            runs.retain(|run| filter.states.contains(&run.state));
        }
        Ok(RunPage { runs, next_cursor, silent })
    }

    /// What each agent knows of runs that others have told of. Agents look at their own accounts
    /// when a state is asked for: one that lost a run may have it as running, and the one that took
    /// it over, where it has ended, says nothing.
    async fn others_on(
        &self,
        known: &BTreeMap<AgentName, Vec<RunRecord>>,
        runs: &[RunRecord],
    ) -> Told {
        let ranges = self.catalog.keys().ranges();
        let question = |(agent, accounts): (&AgentName, &Vec<RunRecord>)| {
            let told: BTreeSet<&RunId> = accounts.iter().map(|run| &run.id).collect();
            let info = self.links.one(agent)?;
            let others = runs
                .iter()
                .map(|run| &run.id)
                // A share is known to its agent alone.
                .filter(|id| id.agent.is_none() && !told.contains(id))
                .filter(|id| info.may_know(ranges.range_of(&id.task)));
            let run_ids: Vec<String> = others.map(format_run_id).collect();
            let limit = u32::try_from(run_ids.len()).ok().filter(|count| *count > 0)?;
            let query = v1::RunsQuery { run_ids, limit, ..v1::RunsQuery::default() };
            Some((agent.clone(), v1::query::Kind::Runs(query)))
        };
        let questions = known.iter().filter_map(question).collect();
        asking::ask_each(&self.links, questions, ANSWER_WITHIN).await
    }

    /// One run, as all who know of it tell.
    pub async fn one(&self, run_id: &str) -> Result<RunRecord, RunError> {
        self.ready()?;
        let (task, name) = parse(run_id)?;
        let query = v1::query::Kind::Run(v1::RunQuery { run_id: run_id.to_owned() });
        let whose = Whose { only: name.agent(), ..self.whose(Some(&task)) };
        let told = asking::ask(&self.catalog, &self.links, whose, query, ANSWER_WITHIN).await;
        let (silent, down) = (told.silent.clone(), told.down.clone());
        if let Some(run) = merge::merged(told.all()).into_iter().next() {
            return Ok(run);
        }
        // Who is silent may know more of it than that it was asked for.
        if !silent.is_empty() {
            return Err(RunError::Silent(silent));
        }
        let run_id = run_id.to_owned();
        let nowhere = match down.is_empty() {
            true => RunError::NotFound(run_id),
            false => RunError::NotFoundNow { run_id, down },
        };
        self.waiting(&task, name).unwrap_or(Err(nowhere))
    }

    /// The newest run of a task, as far as somebody tells of it within this time.
    pub async fn last_of(&self, task: &TaskName, within: Duration) -> Newest {
        let query = v1::query::Kind::Runs(runs_query(&of_task(task), 1, None));
        let told = self.ask(Some(task), query, within).await;
        let silent = told.silent.clone();
        let run = match merge::merged(told.all()).into_iter().next() {
            Some(run) => Some(self.first_of(run).await),
            None => None,
        };
        Newest { run, silent }
    }

    /// The runs of a task at an instant, rows of several instants that reach over it included;
    /// `share_of`: those of this agent, of a task of every agent.
    pub(super) async fn at(
        &self,
        task: &TaskName,
        placement: Option<&Placement>,
        share_of: Option<&AgentName>,
        at: Instant,
    ) -> (Vec<RunRecord>, Vec<String>) {
        let (since, until) = (Some(at), Some(at.plus(Duration::from_millis(1))));
        let filter = RunFilter { since, until, ..of_task(task) };
        let query = v1::query::Kind::Runs(runs_query(&filter, AT_INSTANT_MAX, None));
        let whose = Whose { placement, only: share_of.cloned(), ..self.whose(Some(task)) };
        let told = asking::ask(&self.catalog, &self.links, whose, query, ANSWER_WITHIN).await;
        let missing = told.missing();
        (merge::merged(told.all()), missing)
    }

    /// Runs of a task that have begun and not ended, as far as somebody tells of them in time.
    pub(super) async fn under_way(&self, task: &TaskName) -> Vec<RunRecord> {
        let states = vec![RunState::Running, RunState::WaitingRetry];
        let filter = RunFilter { states, ..of_task(task) };
        let query = v1::query::Kind::Runs(runs_query(&filter, AT_INSTANT_MAX, None));
        merge::merged(self.ask(Some(task), query, ANSWER_WITHIN).await.all())
    }

    /// A create that was sent again after its one-shot had run left a run that did nothing. It
    /// names the one that did, which is what the task has to show.
    async fn first_of(&self, run: RunRecord) -> RunRecord {
        let named = run.reason.as_deref().and_then(|reason| reason.strip_prefix(DUPLICATE_OF));
        let Some(run_id) = named.filter(|_| run.state == RunState::Skipped) else { return run };
        match self.one(run_id).await {
            Ok(first) if first.id.task == run.id.task => first,
            Ok(_) | Err(_) => run,
        }
    }

    /// The run of a task since `since` that the request of `ulid` asked for.
    pub async fn of_request(
        &self,
        task: &Task,
        ulid: u128,
        since: Instant,
    ) -> Result<Option<RunId>, RunError> {
        let name = &task.spec.name;
        let filter = RunFilter { since: Some(since), ..of_task(name) };
        let whose = Whose { placement: Some(&task.spec.placement), ..self.whose(Some(name)) };
        let mut before = None;
        for _ in 0..REQUEST_PAGES_MAX {
            let query = v1::query::Kind::Runs(v1::RunsQuery {
                ulid_end: requests::ulid_end(ulid).to_vec(),
                ..runs_query(&filter, REQUEST_PAGE, before.as_ref())
            });
            let whose = whose.clone();
            let told = asking::ask(&self.catalog, &self.links, whose, query, ANSWER_WITHIN).await;
            let (full, silent) = (told.full(REQUEST_PAGE), told.silent.clone());
            let mut runs = merge::merged(told.all());
            runs.truncate(REQUEST_PAGE);
            before = runs.last().map(merge::place);
            let same = |run: &RunRecord| match run.id.run {
                RunKey::Manual(other) => requests::same_request(other, ulid),
                RunKey::Instant(_) => false,
            };
            if let Some(run) = runs.into_iter().find(same) {
                return Ok(Some(run.id));
            }
            if !silent.is_empty() {
                return Err(RunError::Silent(silent));
            }
            if !full {
                return Ok(None);
            }
        }
        Err(RunError::TooMany)
    }

    /// What an attempt wrote.
    pub async fn output(&self, request: &OutputRequest) -> Result<Output, RunError> {
        let run = self.one(&request.run_id).await?;
        let attempt = match request.attempt {
            0 => run.attempts.last(),
            number => run.attempts.iter().find(|known| known.attempt.number == number),
        };
        // Who follows may wait for an attempt that is yet to begin.
        let may_come = request.follow && !run.state.is_end();
        if attempt.is_none() && request.attempt > 0 && !may_come {
            let (run_id, attempt) = (request.run_id.clone(), request.attempt);
            return Err(RunError::NoAttempt { run_id, attempt });
        }
        let agent = attempt.map_or(run.agent.clone(), |attempt| attempt.agent.clone());
        let stream = match request.stream {
            Stream::Stdout => v1::OutputStream::Stdout,
            Stream::Stderr => v1::OutputStream::Stderr,
        };
        let query = v1::OutputQuery {
            run_id: request.run_id.clone(),
            attempt: request.attempt,
            stream: stream.into(),
            follow: request.follow,
            offset: request.offset,
        };
        let query = v1::query::Kind::Output(query);
        let answers = match request.follow {
            true => self.links.follow(&agent, query),
            false => in_time(&agent, self.links.ask(&agent, query)).await?,
        };
        let answers = answers.map_err(|error| not_asked(&agent, error))?;
        Ok(Output { agent, answers })
    }

    /// Ends a run that goes on or waits; answers with the run as its holder took the request.
    pub async fn cancel(&self, run_id: &str) -> Result<RunRecord, RunError> {
        let run = self.one(run_id).await?;
        if run.state.is_end() {
            return Err(RunError::Over(run.state));
        }
        let agent = run.agent;
        let silent = || RunError::Silent(vec![agent.to_string()]);
        let answer = async {
            let cancel = self.links.cancel(&agent, run_id).await;
            Ok(cancel.map_err(|error| not_asked(&agent, error))?.next().await)
        };
        match in_time(&agent, answer).await?? {
            Part::Runs(runs) => feed::readable(runs).into_iter().next().ok_or_else(silent),
            Part::Failed(error) => Err(refused(&agent, error)),
            Part::Output(_) | Part::Done | Part::Lagged | Part::Gone => Err(silent()),
        }
    }

    /// A trigger that no agent has told of yet: it waits for the holder of its range.
    fn waiting(&self, task: &TaskName, name: RunName) -> Option<Result<RunRecord, RunError>> {
        let RunName::Manual(ulid) = name else { return None };
        let range = self.catalog.keys().ranges().range_of(task);
        let (incarnation, holder) = self.catalog.look(|state| {
            let waits = state.triggers.get(task).is_some_and(|ulids| ulids.contains(&ulid));
            let stored = state.tasks.get(task).filter(|_| waits)?;
            let holder = match stored.placement {
                Placement::Pool(pool) => state
                    .claims
                    .get(&(pool.clone(), range))
                    .map(|claim| (claim.agent.clone(), claim.fence)),
                Placement::Agent(agent) => Some((agent.clone(), Fence::default())),
                // Nobody can ask for a run of it.
                Placement::EveryAgent(_) => None,
            };
            stored.task().ok().map(|task| (task.incarnation, holder))
        })?;
        let id = RunId { incarnation, ..RunId::manual(task.clone(), ulid) };
        let Some((agent, fence)) = holder else {
            return Some(Err(RunError::Waits(format_run_id(&id))));
        };
        let ms = i64::try_from(ulid >> ULID_TIME_SHIFT).unwrap_or(i64::MAX);
        let instant = Instant::from_millis(ms);
        Some(Ok(RunRecord {
            id,
            state: RunState::Queued,
            reason: None,
            instant,
            due: instant.wall(),
            agent,
            fence,
            attempts: Vec::new(),
            lateness_micros: None,
            waited_by_policy: false,
            provisional: false,
            span: None,
            request: None,
        }))
    }

    async fn ask(&self, task: Option<&TaskName>, kind: v1::query::Kind, within: Duration) -> Told {
        asking::ask(&self.catalog, &self.links, self.whose(task), kind, within).await
    }

    /// Who may know runs of a task, or of all.
    fn whose(&self, task: Option<&TaskName>) -> Whose<'static> {
        let Some(task) = task else { return Whose::default() };
        let placement =
            self.catalog.look(|state| state.tasks.get(task).map(|stored| stored.placement.clone()));
        let in_pool = |pool| {
            let all = self.links.all().into_iter().filter(move |info| info.pool == pool);
            all.map(|info| info.agent).collect()
        };
        let range = self.catalog.keys().ranges().range_of(task);
        let holder = |pool| self.catalog.look(|state| state.holder(&pool, range).cloned());
        let run_by = match placement {
            Some(Placement::Agent(agent)) => vec![agent],
            Some(Placement::EveryAgent(pool)) => in_pool(pool),
            Some(Placement::Pool(pool)) => holder(pool).into_iter().collect(),
            None => Vec::new(),
        };
        Whose { range: Some(range), run_by, ..Whose::default() }
    }

    fn ready(&self) -> Result<(), RunError> {
        match self.catalog.standing().listed {
            true => Ok(()),
            false => Err(RunError::NotReady),
        }
    }
}

/// The task that a filter names.
fn named(filter: &RunFilter) -> Option<TaskName> {
    let (namespace, name) = (filter.namespace.clone()?, filter.task.clone()?);
    Some(TaskName { namespace, name })
}

/// All runs of a task.
fn of_task(task: &TaskName) -> RunFilter {
    let TaskName { namespace, name } = task.clone();
    RunFilter { namespace: Some(namespace), task: Some(name), ..RunFilter::default() }
}

async fn in_time<T>(agent: &AgentName, answer: impl Future<Output = T>) -> Result<T, RunError> {
    let answer = tokio::time::timeout(ANSWER_WITHIN, answer).await;
    answer.map_err(|_| RunError::Silent(vec![agent.to_string()]))
}

fn runs_query(filter: &RunFilter, limit: usize, before: Option<&Place>) -> v1::RunsQuery {
    v1::RunsQuery {
        namespace: filter.namespace.as_ref().map_or_else(String::new, ToString::to_string),
        task: filter.task.as_ref().map_or_else(String::new, ToString::to_string),
        states: filter.states.iter().map(|state| run_state_proto(*state).into()).collect(),
        since_ms: filter.since.map(Instant::millis),
        until_ms: filter.until.map(Instant::millis),
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
        before: before.map(|(instant, run_id)| v1::RunCursor {
            instant_ms: instant.millis(),
            run_id: run_id.clone(),
        }),
        ..v1::RunsQuery::default()
    }
}

fn parse(run_id: &str) -> Result<(TaskName, RunName), RunError> {
    parse_run_id(run_id).map_err(|error| RunError::bad("run_id", error.to_string()))
}

fn write_cursor(run: &RunRecord) -> String {
    cursor::write_text(&format!("{} {}", run.instant.millis(), format_run_id(&run.id)))
}

fn read_cursor(cursor: &str) -> Result<Place, RunError> {
    let text = cursor::read_text(cursor).map_err(|e| RunError::bad("cursor", e.to_string()))?;
    let place = text
        .split_once(' ')
        .and_then(|(ms, run_id)| Some((Instant::from_millis(ms.parse().ok()?), run_id.to_owned())));
    place.ok_or_else(|| {
        let given = cursor.chars().take(64).collect();
        RunError::bad("cursor", cursor::CursorError { given }.to_string())
    })
}
