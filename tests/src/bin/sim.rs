//! Walks seeds of the simulator and prints what broke.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Parser;
use tocktower_tests::sim::{self, Break, Tasks};

/// Simulate a fleet under faults: `sim --seeds 2000`; one walk again: `sim --first 17 --seeds 1`.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to walk.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Pin every other task to a host.
    #[arg(long)]
    pinned: bool,
    /// The same, and some tasks are of every agent.
    #[arg(long, conflicts_with = "pinned")]
    broadcast: bool,
    /// Walk processes that stand still for long, on an etcd that skips events for their watches.
    #[arg(long, conflicts_with_all = ["pinned", "broadcast"])]
    lagging: bool,
    /// Break a rule on purpose; the walk of each seed that notices is printed.
    #[arg(long)]
    broken: Option<String>,
    /// Break each rule on purpose, one after the other, each until a checker notices or so many
    /// seeds are walked, and print a table of that.
    #[arg(long, conflicts_with_all = ["broken", "trace"])]
    breaks: bool,
    /// Print what happened, lines with this text only.
    #[arg(long)]
    trace: Option<String>,
}

#[expect(clippy::print_stdout, reason = "the program's whole purpose is its report")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.breaks {
        return break_all(&arguments);
    }
    let broken = match arguments.broken.as_deref() {
        None => None,
        Some(name) => match Break::all().find(|rule| rule.to_string() == name) {
            Some(rule) => Some(rule),
            None => {
                let there: Vec<_> = Break::all().map(|rule| rule.to_string()).collect();
                println!("no rule {name:?}; there are {}", there.join(", "));
                return ExitCode::from(2);
            }
        },
    };
    let tasks = tasks(&arguments);
    let (mut bad, mut starts, mut pinned, mut shares) = (0, 0, 0, 0);
    let mut faults = BTreeMap::new();
    for seed in arguments.first..arguments.first + arguments.seeds {
        let trace = arguments.trace.is_some();
        let report = match arguments.lagging || broken.is_some_and(Break::lags) {
            true => sim::walk_lagging(seed, broken, trace),
            false => sim::walk_noted(seed, tasks, broken, trace),
        };
        let wanted = arguments.trace.as_deref().unwrap_or_default();
        for line in report.trace.iter().filter(|line| line.contains(wanted)) {
            println!("{line}");
        }
        starts += report.starts;
        pinned += report.pinned;
        shares += report.shares;
        for (kind, count) in report.faults {
            *faults.entry(kind).or_insert(0) += count;
        }
        if !report.violations.is_empty() {
            bad += 1;
            println!("seed {seed} ({:?}): {} violations", report.class, report.violations.len());
            for violation in report.violations.iter().take(8) {
                println!("  {violation}");
            }
        }
    }
    println!(
        "{} seeds, {starts} starts, {pinned} of them pinned, {shares} of shares, {bad} with \
         violations",
        arguments.seeds
    );
    let faults: Vec<_> = faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    println!("faults: {}", faults.join(", "));
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tasks(arguments: &Arguments) -> Tasks {
    match (arguments.broadcast, arguments.pinned) {
        (true, _) => Tasks::Broadcast,
        (_, true) => Tasks::Pinned,
        _ => Tasks::Pooled,
    }
}

/// Which checker notices each broken rule, and after how many walks.
#[expect(clippy::print_stdout, reason = "the program's whole purpose is its report")]
fn break_all(arguments: &Arguments) -> ExitCode {
    let mut unnoticed = 0;
    println!("| broken rule | noticed by | in walk | how |");
    println!("|---|---|---|---|");
    for rule in Break::all() {
        let seeds = arguments.first..arguments.first + arguments.seeds;
        let mut walks = seeds.map(|seed| rule.walk(seed, tasks(arguments)));
        match walks.find_map(|report| Some((report.seed, report.violations.into_iter().next()?))) {
            Some((seed, violation)) => {
                let walk = seed - arguments.first + 1;
                println!("| {rule} | {:?} | {walk} | {} |", violation.checker, violation.what);
            }
            None => {
                unnoticed += 1;
                println!("| {rule} | nobody | {} |  |", arguments.seeds);
            }
        }
    }
    if unnoticed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
