//! A task in JSON becomes a task in core, or everything that is wrong with it.
//!
//! A field that cannot be read is noted and stands in with its default, so that reading goes on;
//! the rules of `core` then look at what was read. Their errors about a field that stands in, or
//! about the instants of schedules that could not all be read, would be echoes and are left out.
//! Mistakes that can all be told are looked for; once there are more, the rest is not read.
//!
//! The server's own fields may come back with an edit, since that is how a task that was read is
//! sent back. In a patch or a create nobody sends them but who means to set them, and a task that
//! runs though `"state": "paused"` was asked for is worse than a refusal.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use jiff::civil::Date;
use serde_json::Value;
use tocktower_core::hash::task_hash;
use tocktower_core::ids::{AgentName, Name, NameError, Namespace, PoolName, TaskName};
use tocktower_core::schedule::{Cron, Every, EveryError, Schedule, Zone};
use tocktower_core::task::{
    Action, Broadcast, CatchUp, CatchUpPolicy, Command, Delivery, FieldError, Http, Overlap,
    Placement, Program, Retry, Spec, Task, check, check_future,
};
use tocktower_core::time::Wall;

use super::task_out::spec_json;
use super::words::{
    DELIVERIES, DIALECTS, FOLDS, GAPS, OVERLAPS, POLICIES, Word, allowed, word_named,
};
use crate::json::{self, Mistakes};

const HOUR: Duration = Duration::from_secs(3_600);
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// The kinds of placement: one of them is given.
const PLACEMENTS: [&str; 3] = ["pool", "agent", "every_agent"];

/// What the request says beside the task itself.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// From the path of the request: the task may leave it out or repeat it.
    pub namespace: Option<&'a str>,
    pub name: Option<&'a str>,
    /// The name of a task that has none: a fresh ULID in lower case.
    pub fresh_name: &'a str,
    pub purpose: Purpose,
}

/// Which rules of time apply, and whether the server's own fields may be there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Something must be left to run, and the server has said nothing yet.
    Create { now: Wall },
    /// `core::task::replace` looks at the time.
    Edit,
}

/// What the server says of a task, and what is done to change it.
const SERVER_FIELDS: [(&str, &str); 6] = [
    ("revision", "If-Match names the one that must be there"),
    ("created_at", "it cannot be changed"),
    ("updated_at", "it cannot be changed"),
    ("next_at", "it follows from schedules"),
    ("state", "to pause a task set paused"),
    ("last_run", "it cannot be changed"),
];

/// A request's body becomes a task, or everything that is wrong with it, shape included.
pub fn task_from_value(body: Value, given: Given<'_>) -> Result<Spec, Vec<FieldError>> {
    let (task, mistakes) = json::gather::<json::Task>(&body);
    match task {
        Some(task) if !mistakes.is_full() => converted(&task, given, mistakes),
        Some(_) | None => Err(mistakes.into_errors()),
    }
}

/// The task that `patch`, a JSON merge patch, makes of `current`.
pub fn patch_task(current: &Task, patch: &Value) -> Result<Spec, Vec<FieldError>> {
    if !patch.is_object() {
        return Err(vec![FieldError::new("", "a merge patch of a task is a JSON object")]);
    }
    let mut body = serde_json::to_value(spec_json(&current.spec))
        .map_err(|error| vec![FieldError::new("", error.to_string())])?;
    json::merge_patch(&mut body, patch);
    one_placement(&mut body, patch);
    let mut mistakes = Mistakes::default();
    mistakes.add_news(server_fields(|name| patch.get(name).is_some()));
    let name = &current.spec.name;
    let given = Given {
        namespace: Some(name.namespace.as_str()),
        name: Some(name.name.as_str()),
        fresh_name: name.name.as_str(),
        purpose: Purpose::Edit,
    };
    match task_from_value(body, given) {
        Ok(spec) if mistakes.is_empty() => Ok(spec),
        Ok(_) => Err(mistakes.into_errors()),
        Err(found) => {
            mistakes.join(Mistakes::from(found));
            Err(mistakes.into_errors())
        }
    }
}

/// Who names a kind of placement means that in place of the others.
fn one_placement(body: &mut Value, patch: &Value) {
    let named = |kind: &str| patch["placement"].get(kind).is_some_and(|name| !name.is_null());
    if let Some(placement) = body.get_mut("placement").and_then(Value::as_object_mut) {
        for kind in PLACEMENTS.into_iter().filter(|kind| named(kind)) {
            for other in PLACEMENTS.into_iter().filter(|other| *other != kind) {
                if patch["placement"].get(other).is_none() {
                    placement.remove(other);
                }
            }
        }
    }
}

/// A task as it was written becomes a task as it was meant, or everything that is wrong with it.
pub fn task_from_json(task: &json::Task, given: Given<'_>) -> Result<Spec, Vec<FieldError>> {
    converted(task, given, Mistakes::default())
}

/// The task, or `known` and everything else that is wrong with it.
fn converted(
    task: &json::Task,
    given: Given<'_>,
    known: Mistakes,
) -> Result<Spec, Vec<FieldError>> {
    let mut reader = Reader::default();
    let spec = reader.spec(task, given);
    let mut errors = known;
    errors.join(reader.mistakes);
    if let Purpose::Create { .. } = given.purpose {
        errors.add_news(server_fields(|name| server_field_is_there(task, name)));
    }
    if errors.is_full() {
        return Err(errors.into_errors());
    }
    let mut found = check(&spec);
    let readable = |path: &str| !errors.told().iter().any(|error| error.path.starts_with(path));
    if found.is_empty()
        && ["schedules", "start_at", "end_at", "exclude", "catch_up"].into_iter().all(readable)
        && let Purpose::Create { now } = given.purpose
    {
        found.extend(check_future(&spec, now, None));
    }
    errors.add_news(found);
    if errors.is_empty() { Ok(spec) } else { Err(errors.into_errors()) }
}

fn server_field_is_there(task: &json::Task, name: &str) -> bool {
    match name {
        "revision" => task.revision.is_some(),
        "created_at" => task.created_at.is_some(),
        "updated_at" => task.updated_at.is_some(),
        "next_at" => task.next_at.is_some(),
        "state" => task.state.is_some(),
        "last_run" => task.last_run.is_some(),
        _ => false,
    }
}

/// Refuses the fields of the server that are `there`.
fn server_fields(there: impl Fn(&str) -> bool) -> Vec<FieldError> {
    let refuse = |(name, hint): (&str, &str)| {
        FieldError::new(name, format!("is the server's own field, so leave it out: {hint}"))
    };
    SERVER_FIELDS.into_iter().filter(|(name, _)| there(name)).map(refuse).collect()
}

/// Schedules that belong to no task, as `preview` takes them. `name` is what `H` spreads by.
pub fn schedules_from_json(
    schedules: &[json::Schedule],
    name: &TaskName,
) -> Result<Vec<Schedule>, Vec<FieldError>> {
    let mut reader = Reader::default();
    let read = reader.schedules(schedules, task_hash(name));
    if reader.mistakes.is_empty() { Ok(read) } else { Err(reader.mistakes.into_errors()) }
}

#[derive(Default)]
struct Reader {
    mistakes: Mistakes,
}

impl Reader {
    fn error(&mut self, path: impl Into<String>, message: impl ToString) {
        self.mistakes.add(FieldError::new(path, message.to_string()));
    }

    /// The value, or a note of the error at `path`.
    fn keep<T, E: ToString>(&mut self, path: &str, read: Result<T, E>) -> Option<T> {
        read.map_err(|error| self.error(path, error)).ok()
    }

    fn placement(&mut self, placement: Option<&json::Placement>) -> (Placement, Broadcast) {
        let usual = json::Placement::default();
        let given = placement.unwrap_or(&usual);
        let mut broadcast = Broadcast::default();
        let placement = match (given.pool.as_deref(), given.agent.as_deref(), &given.every_agent) {
            (None, None, None) => None,
            (Some(pool), None, None) => {
                self.keep("placement.pool", PoolName::parse(pool)).map(Placement::Pool)
            }
            (None, Some(agent), None) => {
                self.keep("placement.agent", AgentName::parse(agent)).map(Placement::Agent)
            }
            (None, None, Some(every)) => {
                broadcast.labels = every.labels.clone().unwrap_or_default();
                let splay = self.span("placement.every_agent.splay", every.splay.as_deref());
                broadcast.splay = splay.unwrap_or_default();
                let pool = every.pool.as_deref().map_or_else(|| Ok(usual_pool()), PoolName::parse);
                self.keep("placement.every_agent.pool", pool).map(Placement::EveryAgent)
            }
            _ => {
                let message = "give one of `pool`, `agent` and `every_agent`: any agent of a pool \
                               runs the task, or this one alone, or each one that is selected";
                self.error("placement", message);
                None
            }
        };
        (placement.unwrap_or_else(|| Placement::Pool(usual_pool())), broadcast)
    }

    fn spec(&mut self, task: &json::Task, given: Given<'_>) -> Spec {
        let name = self.name(task, given);
        let schedules =
            self.schedules(task.schedules.as_deref().unwrap_or_default(), task_hash(&name));
        let (placement, broadcast) = self.placement(task.placement.as_ref());
        let one_shot = matches!(schedules.as_slice(), [Schedule::At(_)]);
        let start_at = task.start_at.as_deref().map(json::parse_wall_up);
        let end_at = task.end_at.as_deref().map(json::parse_wall_down);
        Spec {
            description: task.description.clone().unwrap_or_default(),
            labels: task.labels.clone().unwrap_or_default(),
            schedules,
            start_at: start_at.and_then(|read| self.keep("start_at", read)),
            end_at: end_at.and_then(|read| self.keep("end_at", read)),
            max_runs: task.max_runs,
            jitter: self.span("jitter", task.jitter.as_deref()).unwrap_or_default(),
            exclude: self.exclude(task.exclude.as_ref()),
            action: self.action(task.action.as_ref()),
            placement,
            broadcast,
            catch_up: self.catch_up(task.catch_up.as_ref(), one_shot),
            delivery: self.word(
                "delivery",
                task.delivery.as_deref(),
                DELIVERIES,
                Delivery::AtLeastOnce,
            ),
            overlap: self.word("overlap", task.overlap.as_deref(), OVERLAPS, Overlap::Skip),
            retry: self.retry(task.retry.as_ref()),
            timeout: self.span("timeout", task.timeout.as_deref()),
            start_deadline: self.span("start_deadline", task.start_deadline.as_deref()),
            priority: task.priority.unwrap_or(0),
            paused: task.paused.unwrap_or(false),
            name,
        }
    }

    fn name(&mut self, task: &json::Task, given: Given<'_>) -> TaskName {
        let namespace = self.named("namespace", task.namespace.as_deref(), given.namespace);
        let name = self.named("name", task.name.as_deref(), given.name);
        let namespace = Namespace::parse(namespace.unwrap_or("default"));
        let name = Name::parse(name.unwrap_or(given.fresh_name));
        TaskName {
            namespace: self.keep("namespace", namespace).unwrap_or_else(|| stand_in().namespace),
            name: self.keep("name", name).unwrap_or_else(|| stand_in().name),
        }
    }

    /// What the task and the path of the request say must be the same.
    fn named<'a>(
        &mut self,
        path: &str,
        body: Option<&'a str>,
        given: Option<&'a str>,
    ) -> Option<&'a str> {
        if let (Some(body), Some(given)) = (body, given)
            && body != given
        {
            let message =
                format!("{body:?}, but the request is for {given:?}; a task keeps its name");
            self.error(path, message);
        }
        given.or(body)
    }

    fn schedules(&mut self, schedules: &[json::Schedule], hash_seed: u64) -> Vec<Schedule> {
        let mut read = Vec::with_capacity(schedules.len());
        for (index, schedule) in schedules.iter().enumerate() {
            let path = format!("schedules[{index}]");
            // What stands in keeps the number of schedules, which has rules of its own.
            read.push(self.schedule(&path, schedule, hash_seed).unwrap_or_else(|| {
                let hourly = Every::new(HOUR, Duration::ZERO);
                Schedule::Every(hourly.expect("an hour is a spacing that is allowed"))
            }));
        }
        read
    }

    fn schedule(&mut self, path: &str, given: &json::Schedule, seed: u64) -> Option<Schedule> {
        let kinds = [("at", &given.at), ("cron", &given.cron), ("every", &given.every)];
        let there: Vec<&str> =
            kinds.iter().filter(|(_, text)| text.is_some()).map(|(kind, _)| *kind).collect();
        let [kind] = there.as_slice() else {
            let message = format!("has {}; exactly one of at, cron and every", list(&there));
            self.error(path, message);
            return None;
        };
        let extras = [
            ("dialect", &given.dialect, "cron"),
            ("time_zone", &given.time_zone, "cron"),
            ("gap", &given.gap, "cron"),
            ("fold", &given.fold, "cron"),
            ("phase", &given.phase, "every"),
        ];
        for (extra, text, of) in extras {
            if text.is_some() && of != *kind {
                self.error(format!("{path}.{extra}"), format!("belongs to {of}, not to {kind}"));
            }
        }
        if let Some(at) = &given.at {
            let at = json::parse_instant(at);
            return self.keep(&format!("{path}.at"), at).map(Schedule::At);
        }
        if let Some(every) = &given.every {
            return self.every(path, every, given.phase.as_deref());
        }
        self.cron(path, given, seed)
    }

    fn every(&mut self, path: &str, every: &str, phase: Option<&str>) -> Option<Schedule> {
        let every = self.span(&format!("{path}.every"), Some(every));
        let given_phase = self.span(&format!("{path}.phase"), phase);
        let phase = match (phase, given_phase) {
            (Some(_), None) => return None,
            (_, read) => read.unwrap_or_default(),
        };
        match Every::new(every?, phase) {
            Ok(every) => Some(Schedule::Every(every)),
            Err(error) => {
                let field = match error {
                    EveryError::PhaseOutOfRange { .. } => "phase",
                    EveryError::OutOfRange { .. } | EveryError::TooFine { .. } => "every",
                };
                self.error(format!("{path}.{field}"), error);
                None
            }
        }
    }

    fn cron(&mut self, path: &str, given: &json::Schedule, seed: u64) -> Option<Schedule> {
        let dialect = given.dialect.as_deref();
        let dialect = self.word(&format!("{path}.dialect"), dialect, DIALECTS, Default::default());
        let gap = self.word(&format!("{path}.gap"), given.gap.as_deref(), GAPS, Default::default());
        let fold =
            self.word(&format!("{path}.fold"), given.fold.as_deref(), FOLDS, Default::default());
        let zone = Zone::parse(given.time_zone.as_deref().unwrap_or("UTC"));
        let zone = self.keep(&format!("{path}.time_zone"), zone);
        let expression = given.cron.as_deref()?;
        // Read even without a zone, to report what is wrong with the expression as well.
        let cron =
            Cron::parse(expression, dialect, zone.clone().unwrap_or(Zone::UTC), gap, fold, seed);
        let cron = self.keep(&format!("{path}.cron"), cron)?;
        zone.map(|_| Schedule::Cron(cron))
    }

    fn exclude(&mut self, exclude: Option<&json::Exclude>) -> BTreeSet<Date> {
        let mut dates = BTreeSet::new();
        let given = exclude.and_then(|exclude| exclude.dates.as_deref()).unwrap_or_default();
        for (index, text) in given.iter().enumerate() {
            let date = if text.len() == 10 { Date::from_str(text).ok() } else { None };
            match date {
                Some(date) => drop(dates.insert(date)),
                None => self.error(
                    format!("exclude.dates[{index}]"),
                    format!("{text:?} is no date: write YYYY-MM-DD"),
                ),
            }
        }
        dates
    }

    fn action(&mut self, action: Option<&json::Action>) -> Action {
        let Some(action) = action else {
            self.error("action", "is missing: give one of command, http and noop");
            return Action::Noop;
        };
        match (&action.command, &action.http, &action.noop) {
            (Some(command), None, None) => self.command(command),
            (None, Some(http), None) => self.http(http),
            (None, None, Some(json::Noop {})) => Action::Noop,
            (command, http, noop) => {
                let kinds = [
                    ("command", command.is_some()),
                    ("http", http.is_some()),
                    ("noop", noop.is_some()),
                ];
                let there: Vec<&str> =
                    kinds.iter().filter(|(_, there)| *there).map(|(kind, _)| *kind).collect();
                let message = format!(
                    "has {}; exactly one of command, http and noop (in a patch, set the old one \
                     to null)",
                    list(&there)
                );
                self.error("action", message);
                Action::Noop
            }
        }
    }

    fn command(&mut self, command: &json::Command) -> Action {
        let program = match (&command.argv, &command.shell) {
            (Some(argv), None) => Program::Argv(argv.clone()),
            (None, Some(line)) => Program::Shell(line.clone()),
            (argv, _) => {
                let there = if argv.is_some() { "argv and shell" } else { "neither" };
                let message = format!("has {there}; exactly one of argv and shell");
                self.error("action.command", message);
                return Action::Noop;
            }
        };
        Action::Command(Command {
            program,
            env: command.env.clone().unwrap_or_default(),
            cwd: command.cwd.clone(),
            user: command.user.clone(),
            stdin: command.stdin.clone(),
            success_codes: command.success_codes.clone().unwrap_or_else(|| vec![0]),
        })
    }

    fn http(&mut self, http: &json::Http) -> Action {
        let mut success_status = Vec::new();
        let given = http.success_status.as_deref();
        for (index, text) in given.unwrap_or_default().iter().enumerate() {
            match status_range(text) {
                Some(range) => success_status.push(range),
                None => self.error(
                    format!("action.http.success_status[{index}]"),
                    format!("{text:?} is no status: write a code such as 204 or a range, 200-299"),
                ),
            }
        }
        let unreadable = !given.unwrap_or_default().is_empty() && success_status.is_empty();
        if given.is_none() || unreadable {
            success_status.push((200, 299));
        }
        if http.url.is_none() {
            self.error("action.http.url", "is missing: give the URL to call");
        }
        Action::Http(Http {
            method: http.method.clone().unwrap_or_else(|| "POST".to_owned()),
            url: http.url.clone().unwrap_or_default(),
            headers: http.headers.clone().unwrap_or_default(),
            body: http.body.clone(),
            success_status,
        })
    }

    fn catch_up(&mut self, given: Option<&json::CatchUp>, one_shot: bool) -> CatchUp {
        let (policy, window) =
            if one_shot { (CatchUpPolicy::All, WEEK) } else { (CatchUpPolicy::Latest, HOUR) };
        let given_policy = given.and_then(|given| given.policy.as_deref());
        let given_window = given.and_then(|given| given.window.as_deref());
        CatchUp {
            policy: self.word("catch_up.policy", given_policy, POLICIES, policy),
            window: self.span("catch_up.window", given_window).unwrap_or(window),
        }
    }

    fn retry(&mut self, given: Option<&json::Retry>) -> Retry {
        let usual = Retry::default();
        let Some(given) = given else { return usual };
        let backoff = self.span("retry.backoff", given.backoff.as_deref());
        let backoff = backoff.unwrap_or(usual.backoff);
        let max_backoff = self.span("retry.max_backoff", given.max_backoff.as_deref());
        Retry {
            max_attempts: given.max_attempts.unwrap_or(usual.max_attempts),
            backoff,
            factor: given.factor.unwrap_or(usual.factor),
            // A first wait of an hour should not need a second field to be allowed.
            max_backoff: max_backoff.unwrap_or(usual.max_backoff.max(backoff)),
            jitter: given.jitter.unwrap_or(usual.jitter),
        }
    }

    fn span(&mut self, path: &str, text: Option<&str>) -> Option<Duration> {
        self.keep(path, json::parse_duration(text?))
    }

    fn word<T: Copy, P, S>(
        &mut self,
        path: &str,
        text: Option<&str>,
        table: &'static [Word<T, P, S>],
        usual: T,
    ) -> T {
        let Some(text) = text else { return usual };
        match word_named(table, text) {
            Some(word) => word.value,
            None => {
                self.error(path, format!("{text:?} is not allowed: use {}", allowed(table)));
                usual
            }
        }
    }
}

/// `204` or `200-299`.
fn status_range(text: &str) -> Option<(u16, u16)> {
    let digits =
        |part: &str| part.bytes().all(|c| c.is_ascii_digit()).then(|| part.parse().ok())?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((digits(first)?, digits(last)?))
}

fn list(there: &[&str]) -> String {
    if there.is_empty() { "none".to_owned() } else { there.join(" and ") }
}

/// The name of a task whose own cannot be read, while the rest is.
fn stand_in() -> TaskName {
    named("default/unnamed", TaskName::parse)
}

fn usual_pool() -> PoolName {
    named("default", PoolName::parse)
}

fn named<T>(text: &str, parse: impl Fn(&str) -> Result<T, NameError>) -> T {
    parse(text).expect("it keeps the rule of names")
}
