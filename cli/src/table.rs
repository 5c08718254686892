//! Tables for people: tasks, runs, the fleet.
//!
//! Without lines, so that a table can be cut into words by `awk`; a column that would be empty for
//! every row is still there, so that the place of a column does not depend on the data. A row is a
//! line of output, however narrow the terminal is.

use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use tocktower_client::proto as v1;
use tocktower_client::time::Timestamp as WireTime;
use tocktower_client::{Agent, Pool, Range, Run, Task, Why, json};

use tocktower_drills::Report;
use tocktower_drills::plan::{Drill, Reach};

use crate::when::{Clock, micros, timestamp};

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    // A line of a table is a line of output, however narrow the terminal is.
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    table
}

pub fn tasks(tasks: &[Task], clock: &Clock) -> Table {
    let mut table = table(&["NAMESPACE", "NAME", "STATE", "SCHEDULE", "NEXT", "ACTION"]);
    for task in tasks {
        let proto = task.proto();
        table.add_row([
            task.namespace().to_owned(),
            task.name().to_owned(),
            json::state_word(task.state()).to_owned(),
            schedules(&proto.schedules),
            clock.both(proto.next_at.as_ref()),
            action(proto),
        ]);
    }
    table
}

pub fn runs(runs: &[Run], clock: &Clock) -> Table {
    let header = ["RUN", "STATE", "INSTANT", "ATTEMPT", "AGENT", "LATE", "TOOK", "RESULT"];
    let mut table = table(&header);
    for run in runs {
        let mut row = vec![run.run_id.clone()];
        row.extend(run_cells(run, clock));
        table.add_row(row);
    }
    table
}

fn run_cells(run: &Run, clock: &Clock) -> [String; 7] {
    let shown = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), micros);
    [
        json::run_state_word(run.state()).to_owned(),
        clock.both(run.instant.as_ref()),
        run.attempt.to_string(),
        dash(&run.agent),
        shown(run.lateness_us),
        shown(run.duration_us),
        result(run, clock),
    ]
}

/// What came of a run, in a few words; of many instants in one row, how many they are.
fn result(run: &Run, clock: &Clock) -> String {
    use v1::run::Code;
    let code = match run.code {
        Some(Code::ExitCode(code)) => format!("exit {code}"),
        Some(Code::Signal(signal)) => format!("signal {signal}"),
        Some(Code::HttpStatus(status)) => format!("http {status}"),
        None => String::new(),
    };
    let many = match run.count {
        0 | 1 => String::new(),
        count => format!("{count} instants until {}", clock.both(run.until.as_ref())),
    };
    let parts = [code.as_str(), run.reason.as_str(), run.error.as_str(), many.as_str()];
    let told: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    dash(&told.join(": ").replace('\n', " "))
}

/// One run with everything that is known of it, a line for each.
pub fn run(run: &Run, clock: &Clock) -> Table {
    let mut table = table(&["RUN", &run.run_id]);
    let names = ["state", "instant", "attempt", "agent", "late", "took", "result"];
    for (name, cell) in names.iter().zip(run_cells(run, clock)) {
        table.add_row([(*name).to_owned(), cell]);
    }
    if run.provisional {
        table.add_row(["provisional", "the loss of its host within seconds can still repeat it"]);
    }
    for attempt in &run.attempts {
        let end = attempt.end().as_str_name().trim_start_matches("ATTEMPT_END_").to_lowercase();
        let end = if end == "unspecified" { "running".to_owned() } else { end };
        let late = match run.late_results.contains(attempt) {
            true => " (told of too late: its holder had been replaced)",
            false => "",
        };
        table.add_row([
            format!("attempt {}", attempt.number),
            format!(
                "{end}{late} on {}, started {} {}",
                dash(&attempt.agent),
                clock.both(attempt.started_at.as_ref()),
                attempt.error
            ),
        ]);
    }
    table
}

pub fn agents(agents: &[Agent], clock: &Clock) -> Table {
    let header = [
        "AGENT",
        "POOL",
        "CONNECTED",
        "SINCE",
        "VERSION",
        "RANGES",
        "RUNNING",
        "QUEUED",
        "P99",
        "ABSENT",
        "WEIGHT",
        "DUTY",
    ];
    let mut table = table(&header);
    let distance = |time: Option<&WireTime>| {
        let time = time.and_then(timestamp);
        time.map_or_else(|| "-".to_owned(), |time| clock.relative(time))
    };
    for agent in agents {
        let counts = agent.counts.unwrap_or_default();
        table.add_row([
            agent.name.clone(),
            agent.pool.clone(),
            if agent.connected { "yes" } else { "no" }.to_owned(),
            distance(agent.since.as_ref()),
            dash(&agent.version),
            agent.ranges_held.to_string(),
            counts.running.to_string(),
            counts.queued.to_string(),
            micros(agent.lateness.map_or(0, |l| i64::try_from(l.p99_us).unwrap_or(i64::MAX))),
            distance(agent.absent_since.as_ref()),
            agent.weight.to_string(),
            duty(agent).to_owned(),
        ]);
    }
    table
}

/// What operators ask of it, and whether it has come to that.
fn duty(agent: &Agent) -> &'static str {
    match (agent.drained, agent.draining, agent.cordoned) {
        (true, ..) => "drained",
        (_, true, _) => "draining",
        (_, _, true) => "cordoned",
        _ => "full",
    }
}

pub fn pools(pools: &[Pool]) -> Table {
    let mut table = table(&["POOL", "AGENTS", "CONNECTED", "TASKS", "RANGES", "VACANT"]);
    for pool in pools {
        table.add_row([
            pool.name.clone(),
            pool.agents.to_string(),
            pool.agents_connected.to_string(),
            pool.tasks.to_string(),
            pool.ranges.to_string(),
            pool.ranges_vacant.to_string(),
        ]);
    }
    table
}

pub fn ranges(ranges: &[Range], clock: &Clock) -> Table {
    let header =
        ["POOL", "RANGE", "HOLDER", "OWNER", "TASKS", "OPEN", "LEDGER", "UNDECIDED", "STALLED"];
    let mut table = table(&header);
    for range in ranges {
        let through = range.ledger_through.as_ref().and_then(timestamp);
        table.add_row([
            range.pool.clone(),
            range.id.clone(),
            dash(&range.holder),
            dash(&range.owner),
            range.tasks.to_string(),
            range.open_entries.to_string(),
            through.map_or_else(|| "-".to_owned(), |through| clock.relative(through)),
            range.oldest_undecided.as_ref().map_or_else(|| "-".to_owned(), span),
            dash(&range.stalled),
        ]);
    }
    table
}

/// The facts behind a verdict, a line for each.
pub fn why(why: &Why, clock: &Clock) -> Table {
    let mut table = table(&["VERDICT", &why.verdict]);
    let mut row = |name: &str, told: String| {
        if !told.is_empty() {
            table.add_row([name.to_owned(), told]);
        }
    };
    let local = |shown: Option<&v1::WhyInstant>| match shown {
        Some(shown) => {
            let time = shown.instant.as_ref().and_then(timestamp);
            let distance = time.map_or_else(String::new, |time| clock.relative(time));
            format!("{} ({distance})", shown.local)
        }
        None => String::new(),
    };
    row("task", format!("{}/{}", why.namespace, why.task));
    row("instant", local(why.at.as_ref()));
    row("due", why.due.as_ref().map(|due| clock.both(Some(due))).unwrap_or_default());
    row("before", local(why.previous.as_ref()));
    row("after", local(why.next.as_ref()));
    let policy = why.policy.as_ref();
    row("policy", policy.map(|p| format!("{}: {}", p.field, p.value)).unwrap_or_default());
    row("run", why.run.as_ref().map(|run| run.run_id.clone()).unwrap_or_default());
    row("waits for", why.ahead.as_ref().map(|run| run.run_id.clone()).unwrap_or_default());
    if let Some(range) = &why.range {
        row("range", format!("{} of pool {}", range.id, range.pool));
        row("holder", holder(range));
        let through = range.ledger_through.as_ref();
        let passed = match range.covered {
            Some(true) => ", has passed the instant",
            Some(false) => ", has not passed the instant",
            None => "",
        };
        let through = through.map(|at| format!("stands at {}{passed}", clock.both(Some(at))));
        row("ledger", through.unwrap_or_else(|| "none yet".to_owned()));
        let entry = range.entry.as_ref();
        row(
            "listed",
            entry.map(|e| format!("{}, attempt {}", e.state, e.attempt)).unwrap_or_default(),
        );
        row("ledger unread", range.ledger_error.clone());
    }
    row("did not answer", why.silent_agents.join(", "));
    table
}

fn holder(range: &v1::WhyRange) -> String {
    let quiet = range.quiet.as_ref().map(span);
    let fence = range.fence.map_or(0, |fence| fence.revision);
    let linked = if range.connected { "connected" } else { "not connected" };
    match (range.holder.as_str(), quiet) {
        ("", None) => "nobody, ever".to_owned(),
        ("", Some(quiet)) => format!("nobody, for {quiet}"),
        (holder, None) => format!("{holder}, fence {fence}, {linked}"),
        (holder, Some(quiet)) => {
            format!("{holder}, fence {fence}, {linked}, wrote {quiet} ago")
        }
    }
}

/// Instants, by the clocks of their zones.
pub fn instants(instants: &[v1::ScheduledInstant], clock: &Clock) -> Table {
    let mut table = table(&["INSTANT", "IN"]);
    for instant in instants {
        let time = instant.instant.as_ref().and_then(timestamp);
        let distance = time.map_or_else(|| "-".to_owned(), |time| clock.relative(time));
        table.add_row([instant.local.clone(), distance]);
    }
    table
}

/// The catalogue of drills.
pub fn drills(drills: &[Drill]) -> Table {
    let mut table = table(&["DRILL", "LASTS", "ON", "WHAT"]);
    for drill in drills {
        table.add_row([
            drill.name.clone(),
            format!("{} s", drill.lasts.as_secs()),
            if drill.reach() == Reach::Api { "any fleet" } else { "own fleet" }.to_owned(),
            drill.about.clone(),
        ]);
    }
    table
}

/// What came of drills.
pub fn reports(reports: &[Report]) -> Table {
    let header = [
        "DRILL", "RESULT", "DUE", "ON TIME", "LATE", "P50", "P99", "WORST", "LOST", "GIVEN UP",
        "REPEATED", "WRONGLY", "TAKEOVER", "WRITES",
    ];
    let mut table = table(&header);
    let ms = |ms: Option<u64>| {
        ms.map_or_else(
            || "-".to_owned(),
            |ms| format!("{:.1} s", Duration::from_millis(ms).as_secs_f64()),
        )
    };
    for report in reports {
        let late = |ms: f64| format!("{ms:.1} ms");
        let lateness = &report.lateness_ms;
        table.add_row([
            report.drill.clone(),
            if report.passed { "passed" } else { "BROKEN" }.to_owned(),
            report.due.to_string(),
            report.on_time.to_string(),
            report.late.to_string(),
            late(lateness.p50),
            late(lateness.p99),
            late(lateness.worst),
            report.lost.to_string(),
            report.given_up.to_string(),
            report.repeated.to_string(),
            report.repeated_wrongly.to_string(),
            ms(report.takeover_ms),
            ms(report.writes_again_ms),
        ]);
    }
    table
}

fn schedules(schedules: &[v1::Schedule]) -> String {
    let told: Vec<String> = schedules.iter().map(schedule).collect();
    dash(&told.join("; "))
}

fn schedule(schedule: &v1::Schedule) -> String {
    use v1::schedule::Kind;
    let span = |span: &tocktower_client::time::Span| {
        json::format_duration(tocktower_client::time::duration(span))
    };
    match &schedule.kind {
        Some(Kind::At(at)) => {
            let time = timestamp(at).map(|time| time.to_string());
            format!("at {}", time.unwrap_or_default())
        }
        Some(Kind::Cron(cron)) => {
            let zone = if cron.time_zone.is_empty() { "UTC" } else { &cron.time_zone };
            format!("{} {zone}", cron.expression)
        }
        Some(Kind::Every(every)) => {
            format!("every {}", every.interval.as_ref().map(span).unwrap_or_default())
        }
        None => "-".to_owned(),
    }
}

/// The beginning of what a task does.
fn action(task: &v1::Task) -> String {
    const CHARS_MAX: usize = 48;
    use v1::action::Kind;
    use v1::command::Program;
    let told = match task.action.as_ref().and_then(|action| action.kind.as_ref()) {
        Some(Kind::Command(command)) => match &command.program {
            Some(Program::Argv(argv)) => argv.args.join(" "),
            Some(Program::Shell(line)) => line.clone(),
            None => String::new(),
        },
        Some(Kind::Http(http)) => {
            let method = if http.method.is_empty() { "POST" } else { &http.method };
            format!("{method} {}", http.url)
        }
        Some(Kind::Noop(_)) => "noop".to_owned(),
        None => String::new(),
    };
    let line = told.replace(['\n', '\t'], " ");
    match line.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => dash(&line),
    }
}

fn span(span: &tocktower_client::time::Span) -> String {
    let span = tocktower_client::time::duration(span).as_micros();
    micros(i64::try_from(span).unwrap_or(i64::MAX))
}

fn dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_many_instants_says_how_many_and_until_when() {
        let clock = Clock::of_host();
        let reason = "paused".to_owned();
        let one = Run { reason: reason.clone(), ..Run::default() };
        assert_eq!(result(&one, &clock), "paused");
        let until = Some(WireTime { seconds: 1_795_546_093, nanos: 0 });
        let many = Run { reason, count: 14, until, ..Run::default() };
        let told = result(&many, &clock);
        assert!(told.starts_with("paused: 14 instants until "), "{told}");
        assert!(told.contains(&clock.both(many.until.as_ref())), "{told}");
    }
}
