//! The rules that a task must keep, with an answer that a person can mend it by.
//!
//! Every wrong field is reported, not the first: who imports five hundred crontab lines should not
//! learn of their mistakes one by one. A message says what was given and what is allowed, and the
//! path is the one in the JSON form, whatever the request came in.
//!
//! Names, pools and schedules are checked where they are parsed; here is what a well typed task can
//! still get wrong. The rule that something must be left to run needs the time, so it stands apart
//! in [`check_future`].

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::placement::Broadcast;
use super::spec::{Action, CatchUpPolicy, Command, Http, Program, Retry, Spec};
use crate::limits;
use crate::schedule::{Schedule, Timetable};
use crate::time::{Instant, Wall};

/// Longest description.
const DESCRIPTION_BYTES_MAX: usize = 4 * 1024;
/// Longest value of a label.
const LABEL_VALUE_BYTES_MAX: usize = 256;
/// Longest URL that servers and proxies can be trusted with.
const URL_BYTES_MAX: usize = 2_048;
/// Longest name of an HTTP method.
const METHOD_BYTES_MAX: usize = 32;
/// Largest factor between two waits.
const FACTOR_MAX: f64 = 100.0;

/// One wrong field.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FieldError {
    /// Where it is in the JSON form: `action.command.argv`, `schedules[0].cron`.
    pub path: String,
    /// What was given and what is allowed.
    pub message: String,
}

impl FieldError {
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> FieldError {
        FieldError { path: path.into(), message: message.into() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

/// Collects errors: a rule is a path, a condition and a message.
#[derive(Default)]
struct Rules(Vec<FieldError>);

impl Rules {
    fn must(&mut self, good: bool, path: impl Into<String>, message: impl FnOnce() -> String) {
        if !good {
            self.0.push(FieldError::new(path, message()));
        }
    }
}

/// Every rule that a task breaks, whatever the time is. Empty: none.
pub fn check(spec: &Spec) -> Vec<FieldError> {
    let mut rules = Rules::default();
    rules.must(spec.description.len() <= DESCRIPTION_BYTES_MAX, "description", || {
        format!("{} bytes; at most {DESCRIPTION_BYTES_MAX}", spec.description.len())
    });
    labels(&spec.labels, "labels", &mut rules);
    if spec.placement.every_agent().is_some() {
        broadcast(spec, &mut rules);
    }
    schedules(spec, &mut rules);
    spans(spec, &mut rules);
    retry(&spec.retry, &mut rules);
    match &spec.action {
        Action::Command(action) => command(action, &mut rules),
        Action::Http(action) => http(action, &mut rules),
        Action::Noop => {}
    }
    rules.0
}

/// Whether a new task has anything left to run: an instant after `now`, or an `at` that catch-up
/// still starts.
pub fn check_future(spec: &Spec, now: Wall, last: Option<Instant>) -> Option<FieldError> {
    let timetable = timetable(spec, last);
    let Some(at) = spec.one_shot_at() else {
        return match timetable.next_after(now.instant()) {
            Some(_) => None,
            None => Some(FieldError::new(
                "schedules",
                format!("no instant is left after {now:?} within start_at, end_at and exclude"),
            )),
        };
    };
    if timetable.next_after(at.minus(Duration::from_millis(1))) != Some(at) {
        let message = format!("{at:?} is ruled out by start_at, end_at or exclude");
        return Some(FieldError::new("schedules[0].at", message));
    }
    let window = match spec.catch_up.policy {
        CatchUpPolicy::None => limits::ON_TIME,
        CatchUpPolicy::Latest | CatchUpPolicy::All => spec.catch_up.window.max(limits::ON_TIME),
    };
    if at.wall().plus(window) >= now {
        return None;
    }
    let message = format!(
        "{at:?} is over, and further back than catch-up goes ({} s); it is now {now:?}",
        window.as_secs()
    );
    Some(FieldError::new("schedules[0].at", message))
}

/// The instants of a task, up to `last`.
pub fn timetable(spec: &Spec, last: Option<Instant>) -> Timetable {
    // Up to the next millisecond: nothing may come before the start.
    let rounded_up = |start: Wall| start.plus(Duration::from_micros(999)).instant();
    Timetable {
        schedules: spec.schedules.clone(),
        start: spec.start_at.map(rounded_up),
        end: spec.end_at.map(Wall::instant),
        last,
        exclude: spec.exclude.clone(),
    }
}

/// Every agent runs it, so nobody can say when it is done: a one-shot would never be over.
fn broadcast(spec: &Spec, rules: &mut Rules) {
    let Broadcast { labels: selector, splay } = &spec.broadcast;
    labels(selector, "placement.every_agent.labels", rules);
    let max = limits::DURATION_MAX;
    rules.must(*splay <= max, "placement.every_agent.splay", || {
        format!("{splay:?}; allowed is 0s to {} days", max.as_secs() / 86_400)
    });
    rules.must(spec.one_shot_at().is_none(), "schedules[0].at", || {
        "a task of every agent recurs: use `cron` or `every`, with `end_at` or `max_runs` where it \
         has to end"
            .to_owned()
    });
}

fn labels(labels: &BTreeMap<String, String>, at: &str, rules: &mut Rules) {
    rules.must(labels.len() <= limits::LABELS_MAX, at, || {
        format!("{} labels; at most {}", labels.len(), limits::LABELS_MAX)
    });
    for (key, value) in labels {
        let inner = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-' | b'/');
        let good = key.len() <= limits::NAME_BYTES_MAX
            && key.bytes().all(inner)
            && key.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric())
            && key.bytes().next_back().is_some_and(|c| c.is_ascii_alphanumeric());
        rules.must(good, format!("{at}.{key}"), || {
            format!(
                "the key {key:?} is not allowed: use 1 to {} letters, digits, '.', '_', '-' and \
                 '/', with a letter or a digit at both ends",
                limits::NAME_BYTES_MAX
            )
        });
        let good = value.len() <= LABEL_VALUE_BYTES_MAX && !value.chars().any(char::is_control);
        rules.must(good, format!("{at}.{key}"), || {
            format!(
                "the value has {} bytes; at most {LABEL_VALUE_BYTES_MAX}, without control \
                 characters",
                value.len()
            )
        });
    }
}

fn schedules(spec: &Spec, rules: &mut Rules) {
    let count = spec.schedules.len();
    rules.must((1..=limits::SCHEDULES_MAX).contains(&count), "schedules", || {
        format!("{count} schedules; allowed are 1 to {}", limits::SCHEDULES_MAX)
    });
    for (index, schedule) in spec.schedules.iter().enumerate() {
        let alone = count == 1 || !matches!(schedule, Schedule::At(_));
        rules.must(alone, format!("schedules[{index}].at"), || {
            format!("one of {count} schedules; `at` must be a task's only schedule")
        });
    }
    if let (Some(start), Some(end)) = (spec.start_at, spec.end_at) {
        rules.must(start < end, "end_at", || format!("{end:?} is not after start_at, {start:?}"));
    }
    if let Some(max_runs) = spec.max_runs {
        rules.must((1..=limits::RUNS_MAX).contains(&max_runs), "max_runs", || {
            format!("{max_runs}; allowed is 1 to {}", limits::RUNS_MAX)
        });
    }
    rules.must(spec.exclude.len() <= limits::EXCLUDED_DATES_MAX, "exclude.dates", || {
        format!("{} dates; at most {}", spec.exclude.len(), limits::EXCLUDED_DATES_MAX)
    });
}

fn spans(spec: &Spec, rules: &mut Rules) {
    let max = limits::DURATION_MAX;
    let mut within = |path: &str, span: Duration, min: Duration| {
        rules.must((min..=max).contains(&span), path, || {
            format!("{span:?}; allowed is {min:?} to {} days", max.as_secs() / 86_400)
        });
    };
    within("jitter", spec.jitter, Duration::ZERO);
    within("catch_up.window", spec.catch_up.window, Duration::ZERO);
    for (path, span) in [("timeout", spec.timeout), ("start_deadline", spec.start_deadline)] {
        if let Some(span) = span {
            within(path, span, Duration::from_millis(1));
        }
    }
    within("retry.backoff", spec.retry.backoff, Duration::ZERO);
    within("retry.max_backoff", spec.retry.max_backoff, Duration::ZERO);
}

fn retry(retry: &Retry, rules: &mut Rules) {
    rules.must(
        (1..=limits::ATTEMPTS_MAX).contains(&retry.max_attempts),
        "retry.max_attempts",
        || format!("{}; allowed is 1 to {}", retry.max_attempts, limits::ATTEMPTS_MAX),
    );
    rules.must((1.0..=FACTOR_MAX).contains(&retry.factor), "retry.factor", || {
        format!("{}; allowed is 1 to {FACTOR_MAX}", retry.factor)
    });
    rules.must(retry.max_backoff >= retry.backoff, "retry.max_backoff", || {
        format!("{:?} is less than backoff, {:?}", retry.max_backoff, retry.backoff)
    });
    rules.must((0.0..=1.0).contains(&retry.jitter), "retry.jitter", || {
        format!("{}; allowed is 0 to 1", retry.jitter)
    });
}

fn command(command: &Command, rules: &mut Rules) {
    match &command.program {
        Program::Argv(argv) => {
            let named = argv.first().is_some_and(|program| !program.is_empty());
            rules.must(named, "action.command.argv", || {
                "names no program: the first item is the program to run".to_owned()
            });
            for (index, argument) in argv.iter().enumerate() {
                no_nul(argument, &format!("action.command.argv[{index}]"), rules);
            }
        }
        Program::Shell(line) => {
            rules.must(!line.trim().is_empty(), "action.command.shell", || {
                "is empty: give a line for /bin/sh -c".to_owned()
            });
            no_nul(line, "action.command.shell", rules);
        }
    }
    for (key, value) in &command.env {
        let path = format!("action.command.env.{key}");
        let good = !key.is_empty() && !key.contains(['=', '\0']);
        rules.must(good, path.clone(), || {
            format!("{key:?} is no name of a variable: use 1 or more characters without '='")
        });
        rules.must(!key.starts_with("TOCKTOWER_"), path.clone(), || {
            "names that begin with TOCKTOWER_ are set by the agent".to_owned()
        });
        no_nul(value, &path, rules);
    }
    if let Some(cwd) = &command.cwd {
        rules.must(cwd.starts_with('/'), "action.command.cwd", || {
            format!("{cwd:?} is not an absolute path")
        });
        no_nul(cwd, "action.command.cwd", rules);
    }
    if let Some(user) = &command.user {
        let good = !user.is_empty() && !user.contains([':', '/', '\0', '\n']);
        rules.must(good, "action.command.user", || format!("{user:?} is no name of a user"));
    }
    let codes = &command.success_codes;
    rules.must(!codes.is_empty(), "action.command.success_codes", || {
        "is empty: give at least one exit code, usually 0".to_owned()
    });
    for (index, code) in codes.iter().enumerate() {
        let path = format!("action.command.success_codes[{index}]");
        rules.must((0..=255).contains(code), path, || format!("{code}; allowed is 0 to 255"));
    }
}

fn no_nul(text: &str, path: &str, rules: &mut Rules) {
    rules.must(!text.contains('\0'), path, || "holds a NUL character".to_owned());
}

fn http(http: &Http, rules: &mut Rules) {
    let method = &http.method;
    let good = is_token(method) && method.len() <= METHOD_BYTES_MAX;
    rules.must(good, "action.http.method", || {
        format!("{method:?} is no HTTP method: write GET, POST, PUT, PATCH, DELETE, …")
    });
    rules.must(is_http_url(&http.url), "action.http.url", || {
        format!(
            "{:?} is no URL that can be called: write http:// or https://, a host and a path, at \
             most {URL_BYTES_MAX} bytes",
            http.url.chars().take(limits::NAME_BYTES_MAX).collect::<String>()
        )
    });
    for (name, value) in &http.headers {
        let path = format!("action.http.headers.{name}");
        rules.must(is_token(name), path.clone(), || {
            format!("{name:?} is no name of a header: use letters, digits and !#$%&'*+-.^_`|~")
        });
        rules.must(!is_own_header(name), path.clone(), || format!("{name} is set by the agent"));
        let good = !value.chars().any(|c| c.is_control() && c != '\t');
        rules.must(good, path, || "the value holds control characters".to_owned());
    }
    rules.must(!http.success_status.is_empty(), "action.http.success_status", || {
        "is empty: give at least one range such as \"200-299\"".to_owned()
    });
    for (index, (first, last)) in http.success_status.iter().enumerate() {
        let good = (100..=599).contains(first) && (100..=599).contains(last) && first <= last;
        rules.must(good, format!("action.http.success_status[{index}]"), || {
            format!("{first}-{last}; allowed are ranges within 100-599, the lower end first")
        });
    }
}

/// The characters of RFC 9110, 5.6.2.
fn is_token(text: &str) -> bool {
    let good = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
    !text.is_empty() && text.bytes().all(good)
}

fn is_own_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let own = ["connection", "content-length", "idempotency-key", "transfer-encoding"];
    own.contains(&name.as_str()) || name.starts_with("tocktower-")
}

fn is_http_url(url: &str) -> bool {
    let lower = url.get(..8).unwrap_or(url).to_ascii_lowercase();
    let scheme = ["http://", "https://"].into_iter().find(|scheme| lower.starts_with(scheme));
    let Some(rest) = scheme.and_then(|scheme| url.get(scheme.len()..)) else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or("");
    let host = host.rsplit('@').next().unwrap_or("");
    url.len() <= URL_BYTES_MAX
        && !host.is_empty()
        && !host.starts_with(':')
        && url.bytes().all(|c| c.is_ascii_graphic())
}
