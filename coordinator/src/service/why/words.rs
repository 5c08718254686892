//! The same for people: what became of the instant in a sentence or two, and what to do about it.
//!
//! A sentence names whoever acts in it (the agent, the policy with its value), so that its reader
//! need not know how the system works inside. Times are those of the schedule's own zone. What is
//! advised is advised only where something can be done.

use std::time::Duration;

use tocktower_core::ledger::EntryState;
use tocktower_core::run::{AttemptEnd, RunRecord};
use tocktower_core::time::Instant;
use tocktower_proto::convert::format_run_id;
use tocktower_proto::json::{format_duration, format_instant, format_wall};

use super::facts::{Facts, Pinned, Shown, Subject};
use super::policy::{Cause, Policy, is_made_up_for};
use super::verdict::Verdict;
use crate::timeline::Moment;

/// What is said to people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    pub explanation: String,
    pub advice: Option<String>,
}

/// `name` is that of the task.
pub fn words(facts: &Facts, verdict: Verdict, policy: Option<&Policy>, name: &str) -> Told {
    let says = Says { facts, policy, name };
    let (explanation, advice) = match &facts.run {
        Some(run) => says.of_run(verdict, run),
        None => says.without_run(verdict),
    };
    let more = if facts.run.is_none() { says.who_may_know(verdict) } else { None };
    let explanation = match more {
        Some(more) => format!("{explanation} {more}"),
        None => explanation,
    };
    Told { explanation, advice }
}

struct Says<'a> {
    facts: &'a Facts,
    policy: Option<&'a Policy>,
    name: &'a str,
}

type Both = (String, Option<String>);

fn plain(explanation: impl Into<String>) -> Both {
    (explanation.into(), None)
}

fn with(explanation: impl Into<String>, advice: impl Into<String>) -> Both {
    (explanation.into(), Some(advice.into()))
}

fn lost(run: &RunRecord) -> Both {
    let reason = run.reason.as_deref().unwrap_or("its host went away");
    let explanation = format!("It may have run: {reason}. Nobody will start it again.");
    let by_hand = "See whether its work was done, and trigger it by hand if it was not.";
    let Some(late) = run.late_results().last() else { return with(explanation, by_hand) };
    let (agent, number) = (&late.agent, late.attempt.number);
    let ended = match &late.end {
        Some(AttemptEnd::Succeeded) => "succeeded",
        Some(AttemptEnd::Failed { .. }) => "failed",
        Some(AttemptEnd::TimedOut { .. }) => "was ended by its timeout",
        Some(AttemptEnd::Cancelled) | None => "was cancelled",
    };
    let explanation =
        format!("{explanation} Later {agent} told that its attempt {number} {ended}.");
    match late.end {
        Some(AttemptEnd::Succeeded) => plain(explanation),
        _ => with(explanation, by_hand),
    }
}

impl Says<'_> {
    fn of_run(&self, verdict: Verdict, run: &RunRecord) -> Both {
        let id = format_run_id(&run.id);
        match verdict {
            Verdict::Succeeded => {
                let settled = match run.provisional {
                    true => " Should its host be lost within seconds, it may be repeated.",
                    false => "",
                };
                plain(format!("It ran on {} and succeeded{}.{settled}", agent(run), course(run)))
            }
            Verdict::Failed | Verdict::TimedOut => {
                let what = match verdict {
                    Verdict::Failed => "failed",
                    _ => "was ended by its timeout",
                };
                let why = error(run).map(|error| format!(": {error}")).unwrap_or_default();
                with(
                    format!("It ran on {} and {what}{}{why}.", agent(run), course(run)),
                    format!("Look at what it wrote: tock run output {id}"),
                )
            }
            Verdict::Cancelled => {
                let why = run.reason.clone().unwrap_or_else(|| "by request".to_owned());
                plain(format!("It was cancelled{}: {why}.", course(run)))
            }
            Verdict::Lost => lost(run),
            Verdict::Skipped | Verdict::Missed => self.came_to_nothing(verdict, run),
            Verdict::Running => {
                let since = run.newest().and_then(|attempt| attempt.started_at);
                let since = since.map(|since| format!(" since {}", format_wall(since)));
                let since = since.unwrap_or_default();
                let attempt = run.newest().map_or(1, |attempt| attempt.attempt.number);
                plain(format!("Attempt {attempt} has been running on {}{since}.", agent(run)))
            }
            Verdict::WaitingRetry => {
                let error = error(run).map(|error| format!(": {error}")).unwrap_or_default();
                plain(format!("It failed{}{error}. {}", course(run), self.next_attempt()))
            }
            Verdict::WaitingBehind => self.behind(),
            Verdict::Paused => self.paused(),
            _ => self.queued(&run.agent.to_string()),
        }
    }

    fn without_run(&self, verdict: Verdict) -> Both {
        match verdict {
            Verdict::Upcoming => self.upcoming(),
            Verdict::Paused => self.paused(),
            Verdict::NotSelected => self.not_selected(),
            Verdict::NotAnInstant => plain(self.not_an_instant()),
            Verdict::BeforeTask => plain(match self.facts.moment() {
                Some(Moment::BeforeTask { created }) => {
                    format!("The task was created later, at {}.", format_wall(created))
                }
                _ => "The task was created later.".to_owned(),
            }),
            Verdict::BeforeEdit => {
                let edited = match self.facts.moment() {
                    Some(Moment::BeforeEdit { edited }) => format!(" at {}", format_wall(edited)),
                    _ => String::new(),
                };
                plain(format!(
                    "The instants of the task were changed, or it was resumed,{edited}. Which it \
                     had before is not known any more, and no run of that moment is."
                ))
            }
            Verdict::TaskGone => plain(self.gone()),
            Verdict::TaskUnreadable => with(
                match &self.facts.subject {
                    Subject::Unreadable { error } => {
                        format!("The record of the task cannot be read: {error}.")
                    }
                    _ => "The record of the task cannot be read.".to_owned(),
                },
                "Nothing of it starts. It was written by a newer version, or is damaged: upgrade, \
                 or delete the task and create it again.",
            ),
            _ => self.due(verdict),
        }
    }

    /// Of an instant that is due and that no agent tells of.
    fn due(&self, verdict: Verdict) -> Both {
        let range = &self.facts.range;
        if let Some(pinned) = &range.pinned {
            return self.due_pinned(verdict, pinned);
        }
        let holder = range.holder.as_ref().map_or("nobody", |holder| holder.agent.as_str());
        let (late, hex) = (self.late(), &range.hex);
        match verdict {
            Verdict::Starting => plain(format!(
                "It has been due for {late}, and {holder} holds its range: it is being started."
            )),
            Verdict::Late => with(
                format!(
                    "It has been due for {late}. Agent {holder} holds its range {hex}, writes to \
                     the shared state and answers, but has not decided it. {}{}",
                    self.ledger_stands(),
                    range.what_the_holder_says()
                ),
                format!(
                    "Look at that agent: tock agent get {holder} tells its clock and what waits \
                     there, its log and its metrics what is in its way."
                ),
            ),
            Verdict::Unheld => self.unheld(),
            Verdict::HolderSilent => with(
                format!(
                    "It has been due for {late}. Agent {holder} holds its range {hex}, but has \
                     written nothing for {}: it is frozen or cut off, and may start nothing.",
                    range.quiet.map_or_else(|| "a while".to_owned(), rounded)
                ),
                format!(
                    "Look at the host of {holder}. Another agent of the pool takes the range over \
                     once its lease ends, seconds from now."
                ),
            ),
            Verdict::HolderUnreachable => with(
                format!(
                    "It has been due for {late}. Agent {holder} holds its range {hex} and writes \
                     to the shared state, but does not answer this coordinator: whether it runs is \
                     not known here."
                ),
                format!(
                    "Ask another coordinator, and look at the network to the host of {holder}."
                ),
            ),
            Verdict::StoreUnavailable => with(
                format!(
                    "It has been due for {late}. This coordinator cannot reach the shared state, \
                     so who holds its range now is not known; agents that cannot reach it either \
                     start nothing."
                ),
                "Look at etcd: has it a majority, and room?",
            ),
            Verdict::Running => plain(format!(
                "It is running, as the ledger of its range says; {holder}, who knows more, does \
                 not answer this coordinator."
            )),
            Verdict::WaitingRetry => plain(format!(
                "An attempt has failed, as the ledger of its range says. {}",
                self.next_attempt()
            )),
            Verdict::HistoryAway => with(
                format!(
                    "It has ended: {} How is known to agents that do not answer.",
                    self.ledger_stands()
                ),
                "Ask again when they are back.",
            ),
            Verdict::HistoryGone => plain(format!(
                "It has ended: {} How is not known any more: history is kept by age and size, and \
                 goes with its host.",
                self.ledger_stands()
            )),
            _ => self.queued(holder),
        }
    }

    /// As `due`, of a task that one agent runs.
    fn due_pinned(&self, verdict: Verdict, pinned: &Pinned) -> Both {
        let (late, agent) = (self.late(), &pinned.agent);
        let bound = match pinned.selected {
            None => "to which it is pinned",
            Some(_) => "whose share it is",
        };
        match verdict {
            Verdict::Starting => plain(format!(
                "It has been due for {late} on {agent}, {bound}: it is being started."
            )),
            Verdict::Late => with(
                format!(
                    "It has been due for {late}. Agent {agent}, {bound}, answers, but has not \
                     decided it."
                ),
                format!(
                    "It may not have heard of the task yet. Look at that agent: tock agent get \
                     {agent}, and its log."
                ),
            ),
            _ => self.away(pinned),
        }
    }

    /// Of an agent that has no share of a task of every agent.
    fn not_selected(&self) -> Both {
        let agent = self.facts.range.pinned.as_ref();
        let name = agent.map_or("", |pinned| pinned.agent.as_str());
        let placed = self.facts.task().map(|task| (&task.spec.placement, &task.spec.broadcast));
        let Some((placement, broadcast)) = placed else { return plain("It is not selected.") };
        let labels = broadcast.labels.iter().map(|(key, value)| format!("{key}={value}"));
        let labels = labels.collect::<Vec<_>>().join(", ");
        let whom = match labels.is_empty() {
            true => placement.to_string(),
            false => format!("{placement} that has the labels {labels}"),
        };
        match agent.is_some_and(|pinned| pinned.known) {
            true => with(
                format!("The task is for {whom}, and {name} is none of them."),
                format!("Its pool and its labels: tock agent get {name}"),
            ),
            false => plain(format!("The task is for {whom}, and no agent is called {name}.")),
        }
    }

    fn away(&self, pinned: &Pinned) -> Both {
        let agent = &pinned.agent;
        let bound = match pinned.selected {
            None => "is pinned to",
            Some(_) => "is the share of",
        };
        match pinned.known {
            true => with(
                format!(
                    "It {bound} agent {agent}, which has no link to this coordinator. If the agent \
                     is up, it runs it all the same: what came of it is told when the agent is \
                     back."
                ),
                format!("Look at the host of {agent} and at its network."),
            ),
            false => with(
                format!("It is pinned to agent {agent}, and there is no agent of that name."),
                format!("Start an agent called {agent}, or place the task elsewhere."),
            ),
        }
    }

    /// Skipped or missed.
    fn came_to_nothing(&self, verdict: Verdict, run: &RunRecord) -> Both {
        let (what, name) = (verdict.as_str(), self.name);
        // Of a task that is gone, as a one-shot is that has ended, nobody knows the policy.
        let known = |before: &str, after: &str| match self.policy {
            Some(policy) => format!("{before}{}{after}", policy.value),
            None => String::new(),
        };
        let reason = run.reason.as_deref().unwrap_or("nobody noted why");
        let (why, advice) = match Cause::of(run) {
            Cause::Overlap => (
                format!(
                    "an earlier run of the task had not ended{}",
                    known(", and its overlap is ", "")
                ),
                Some(format!(
                    "Overlap queue lets it wait, allow lets both run. What takes so long: tock run \
                     list {name}"
                )),
            ),
            Cause::Paused => (
                "the task was paused".to_owned(),
                self.facts.pause_holds().then(|| format!("End the pause: tock task resume {name}")),
            ),
            Cause::Superseded => (
                "nobody could run it in time, and a later instant stands for it".to_owned(),
                self.policy.map(|policy| {
                    format!("Its catch_up is {}; all makes up for each instant.", policy.value)
                }),
            ),
            Cause::Window => (
                format!("nobody could run it within its catch-up window{}", known(" (", ")")),
                Some("See which hosts were down then; a longer window makes up for more.".into()),
            ),
            Cause::StartDeadline => (
                format!("it could not start within its start deadline{}", known(" of ", "")),
                Some(format!("See what was in its way then: tock run list {name}")),
            ),
            Cause::EditedLate => {
                ("the edit that brought it was written when it was over".to_owned(), None)
            }
            Cause::Duplicate => {
                let first = reason.trim_start_matches("duplicate_of ");
                (
                    "the create of the task was sent again after it had run".to_owned(),
                    Some(format!("What it came to: tock run get {first}")),
                )
            }
            Cause::Deleted | Cause::Other => (reason.to_owned(), None),
        };
        let many = match run.span {
            Some(span) if span.count > 1 => format!(
                " So were {} instants in a row, from {} to {}.",
                span.count,
                format_instant(run.instant),
                format_instant(span.until)
            ),
            _ => String::new(),
        };
        (format!("It was {what}: {why}.{many}"), advice)
    }

    fn upcoming(&self) -> Both {
        let due = self.facts.due().unwrap_or(self.facts.at.wall());
        let left = rounded(due.since(self.facts.now));
        let splay = self.facts.task().is_some_and(|task| !task.spec.broadcast.splay.is_zero());
        let delay = if splay { "splay" } else { "jitter" };
        let jitter = match due == self.facts.at.wall() {
            true => String::new(),
            false => format!(", with its {delay} at {}", format_wall(due)),
        };
        let text = format!("It is still to come: due in {left}{jitter}.");
        if let Some(pinned) = &self.facts.range.pinned {
            if pinned.linked {
                return plain(text);
            }
            let (why, advice) = self.away(pinned);
            return (format!("{text} {why}"), advice);
        }
        match self.facts.range.holder {
            Some(_) => plain(text),
            None => {
                let (why, advice) = self.unheld();
                (format!("{text} As things stand it would be late. {why}"), advice)
            }
        }
    }

    fn paused(&self) -> Both {
        let facts = self.facts;
        let one_shot = facts.task().is_some_and(|task| task.spec.one_shot_at().is_some());
        let begun = facts.run.is_some() || facts.range.entry.is_some();
        let text = match (begun, one_shot, facts.late().is_zero()) {
            (true, ..) => "The task is paused: what is left of the run waits for the end of it.",
            (_, true, _) => {
                "The task is paused: it waits, and its catch-up policy decides when the pause ends."
            }
            (_, _, true) => {
                "The task is paused: this instant will be skipped unless the pause ends before."
            }
            (_, _, false) => "The task is paused: this instant ends as skipped.",
        };
        with(text, format!("End the pause: tock task resume {}", self.name))
    }

    fn queued(&self, holder: &str) -> Both {
        let late = self.late();
        match is_made_up_for(self.facts) {
            true => plain(format!(
                "It waits at {holder} to be made up for: it has been due for {late}, and such runs \
                 start a few at a time."
            )),
            false => with(
                format!("It has been due for {late} and waits at {holder} for a free place."),
                format!(
                    "Wait, or see what fills that agent: tock agent get {holder}. More agents, or \
                     a higher priority of the task, let it start sooner."
                ),
            ),
        }
    }

    fn behind(&self) -> Both {
        let overlap = self.policy.map_or("queue", |policy| policy.value.as_str());
        match &self.facts.ahead {
            Some(ahead) => with(
                format!(
                    "It waits until the run of {} has ended, which is {} on {}: overlap is \
                     {overlap}.",
                    format_instant(ahead.instant),
                    ahead.state.as_str().replace('_', " "),
                    ahead.agent
                ),
                format!("If that one hangs: tock run cancel {}", format_run_id(&ahead.id)),
            ),
            None => {
                plain(format!("It waits until an earlier run has ended: overlap is {overlap}."))
            }
        }
    }

    fn unheld(&self) -> Both {
        let range = &self.facts.range;
        let (pool, agents) = (self.pool(), range.agents);
        let what = match self.facts.late().is_zero() {
            true => format!("Nobody holds its range {}", range.hex),
            false => format!(
                "It has been due for {}, and nobody holds its range {}",
                self.late(),
                range.hex
            ),
        };
        let since = range.quiet.map(|quiet| format!(" (for {})", rounded(quiet)));
        let what = format!("{what}{}", since.unwrap_or_default());
        match (agents.present, agents.able, agents.taking) {
            (0, ..) => with(
                format!("{what}: no agent of pool {pool} is there."),
                format!("Start an agent in pool {pool}, or move the task to a pool that has one."),
            ),
            (present, 0, _) => with(
                format!("{what}: all {present} agents of pool {pool} weigh 0."),
                "An agent weighs 0 when it is stopping, its disk is nearly full, its clock is off, \
                 or it was set so: tock agent list",
            ),
            (_, _, 0) => with(
                format!("{what}: the agents of pool {pool} are cordoned or drained."),
                "As there are no others, one of them claims it within seconds; tock agent uncordon \
                 lets them take ranges in the usual way.",
            ),
            (_, _, taking) => with(
                format!("{what}: one of the {taking} agents of pool {pool} is about to claim it."),
                "That takes seconds. If it does not end, look at the logs of these agents.",
            ),
        }
    }

    fn not_an_instant(&self) -> String {
        let Subject::Task { task, previous, next, .. } = &self.facts.subject else {
            return "The task has no such instant.".to_owned();
        };
        let at = |shown: &Shown| shown.local.clone();
        let text = "The task has no instant at that time.";
        match (previous, next) {
            (None, Some(only)) | (Some(only), None) if task.spec.one_shot_at().is_some() => {
                format!("{text} It has one, {}.", at(only))
            }
            (Some(previous), Some(next)) => {
                format!("{text} The one before is {}, the one after {}.", at(previous), at(next))
            }
            (Some(last), None) => format!("{text} Its last one was {}.", at(last)),
            (None, Some(first)) => format!("{text} The next one is {}.", at(first)),
            (None, None) => format!("{text} It has none before and none after."),
        }
    }

    fn gone(&self) -> String {
        let name = self.name;
        let Subject::Gone { newest: Some(run) } = &self.facts.subject else {
            return format!("There is no task {name} now, and no run of that moment is known.");
        };
        // Only the run of a one-shot carries a request; it leaves when it has ended.
        let why = match run.request {
            Some(_) => format!("The task {name} was a one-shot and has ended"),
            None => format!("The task {name} was deleted"),
        };
        let (instant, state) = (format_instant(run.instant), run.state);
        format!(
            "{why}; no run of that moment is known. Its newest run that is known was of {instant}: \
             {state}."
        )
    }

    /// Where silence leaves the answer open.
    fn who_may_know(&self, verdict: Verdict) -> Option<String> {
        let open = matches!(
            verdict,
            Verdict::HistoryAway
                | Verdict::TaskGone
                | Verdict::BeforeTask
                | Verdict::BeforeEdit
                | Verdict::TaskUnreadable
        );
        let names = self.facts.incomplete.join(", ");
        (open && !names.is_empty())
            .then(|| format!("Agents that may know did not answer: {names}."))
    }

    fn next_attempt(&self) -> String {
        let entry = self.facts.range.entry.as_ref();
        match entry.map(|entry| entry.state) {
            Some(EntryState::Waiting { at }) if at > self.facts.now => format!(
                "The next attempt is at {}, in {}.",
                format_wall(at),
                rounded(at.since(self.facts.now))
            ),
            _ => "The next attempt follows soon.".to_owned(),
        }
    }

    fn ledger_stands(&self) -> String {
        let through = self.facts.range.marks.map(|marks| marks.through);
        match through.filter(|through| *through > Instant::MIN) {
            Some(through) => {
                format!("the ledger of its range stands at {}.", format_instant(through))
            }
            None => "its range has no ledger yet.".to_owned(),
        }
    }

    fn pool(&self) -> &str {
        self.facts.range.pool.as_ref().map_or("?", |pool| pool.as_str())
    }

    fn late(&self) -> String {
        rounded(self.facts.late())
    }
}

fn agent(run: &RunRecord) -> &str {
    run.newest().map_or(run.agent.as_str(), |attempt| attempt.agent.as_str())
}

/// Attempts, lateness and duration, in brackets.
fn course(run: &RunRecord) -> String {
    let mut parts = Vec::new();
    if let Some(attempt) = run.newest().filter(|attempt| attempt.attempt.number > 1) {
        parts.push(format!("attempt {}", attempt.attempt.number));
    }
    if let Some(late) = run.lateness_micros.and_then(|late| u64::try_from(late).ok()) {
        parts.push(format!("started {} after its due", rounded(Duration::from_micros(late))));
    }
    let took = run.newest().and_then(|attempt| attempt.duration_us());
    if let Some(took) = took.and_then(|took| u64::try_from(took).ok()) {
        parts.push(format!("took {}", rounded(Duration::from_micros(took))));
    }
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

fn error(run: &RunRecord) -> Option<String> {
    run.reason.clone().or_else(|| run.newest().and_then(|attempt| attempt.error()))
}

/// As people say it: whole seconds from ten seconds on.
fn rounded(span: Duration) -> String {
    match span.as_secs() {
        0..10 => format_duration(span),
        seconds => format_duration(Duration::from_secs(seconds)),
    }
}
