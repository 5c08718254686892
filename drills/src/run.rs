//! A drill from its beginning to its report.
//!
//! It runs on a thread of its own, which lives in the drill's network and starts the drill's
//! processes; when the thread ends, so do they. Ctrl-C, SIGTERM and a panic end a drill like its
//! own end does: what it has made is removed.

use std::panic::AssertUnwindSafe;
use std::sync::mpsc;
use std::time::{Duration, Instant as Timer};

use futures::FutureExt;
use tokio::signal::unix::{SignalKind, signal};

use crate::account::{Account, Call, End, Told, Trouble, account};
use crate::clock::now;
use crate::error::Error;
use crate::judge::{Deed, trouble};
use crate::limits::{AHEAD, SETTLED};
use crate::load::{Load, Planned};
use crate::observer::Observer;
use crate::plan::{Act, Drill};
use crate::report::{Facts, Report, report};
use crate::stage::{Ground, Stage};
use crate::{history, limits};

/// Lines for whoever waits for the drill.
type Teller = mpsc::Sender<String>;

#[derive(Debug, Clone)]
pub struct Options {
    pub ground: Ground,
    pub runs_per_second: u32,
    /// Logs and data of a local fleet stay when the drill is over.
    pub keep: bool,
}

/// Runs a drill and blocks until it is over. What happens is told as it does.
///
/// # Errors
/// When the drill could not be carried through. A promise that broke is in the report.
pub fn run(drill: &Drill, options: &Options, tell: &mut dyn FnMut(&str)) -> Result<Report, Error> {
    let (teller, lines) = mpsc::channel();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(Error::io("starting a runtime"))?;
            runtime.block_on(perform(drill, options, teller))
        });
        lines.into_iter().for_each(|line: String| tell(&line));
        thread.join().unwrap_or_else(|panic| Err(Error::Panicked(words(panic.as_ref()))))
    })
}

async fn perform(drill: &Drill, options: &Options, teller: Teller) -> Result<Report, Error> {
    let cannot = || Error::io("waiting for signals");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot())?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot())?;
    let mut stage = Stage::set(drill, &options.ground, options.keep)?;
    let result = tokio::select! {
        played = AssertUnwindSafe(play(drill, options, &mut stage, &teller)).catch_unwind() => {
            played.unwrap_or_else(|panic| Err(Error::Panicked(words(panic.as_ref()))))
        }
        _ = interrupt.recv() => Err(Error::Interrupted),
        _ = terminate.recv() => Err(Error::Interrupted),
    };
    // What went wrong first is what is told; what could not be removed is told when all else went
    // well.
    let cleared = stage.clear().await;
    let report = result?;
    cleared.map(|()| report)
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref().copied()).unwrap_or("no word about it").to_owned()
}

async fn play(
    drill: &Drill,
    options: &Options,
    stage: &mut Stage,
    teller: &Teller,
) -> Result<Report, Error> {
    // Nobody may be left to listen; the drill goes on.
    let tell = |line: &str| drop(teller.send(line.to_owned()));
    tell(&format!("{}: {}", drill.name, drill.about));
    if let Some(folder) = stage.kept() {
        tell(&format!("  logs and data stay in {}", folder.display()));
    }
    stage.ready().await?;
    let planned = place(drill, options, stage).await?;
    tell(&format!("  the fleet is whole; {} instants to come", planned.duties.len()));
    let drains = drill.steps.iter().any(|step| step.act == Act::Drain);
    if let Some(advice) = stage.if_killed().filter(|_| drains) {
        tell(&format!("  {advice}"));
    }
    let observer = Observer::start(&stage.client, &stage.pool, &stage.id);
    let mut deeds = Vec::new();
    for step in &drill.steps {
        sleep_until(planned.from + step.at).await;
        let deed = stage.act(step).await?;
        tell(&told(&deed, &planned));
        deeds.push(deed);
    }
    sleep_until(planned.until).await;
    let (told, calls, trouble) = settled(stage, &planned, &deeds, &observer).await?;
    let account: Account = account(&planned.duties, &calls, &told, &trouble);
    let facts = Facts {
        drill,
        fleet: match &options.ground {
            Ground::Local(_) => "local".to_owned(),
            Ground::Named(named) => named.servers.join(","),
        },
        runs_per_second: options.runs_per_second,
        witnessed: stage.witness.is_some(),
        from: planned.from,
        until: planned.until,
        deeds: &deeds,
        seen: &observer.seen(),
    };
    Ok(report(&account, &facts))
}

/// Creates the load; it begins a few seconds later.
async fn place(drill: &Drill, options: &Options, stage: &Stage) -> Result<Planned, Error> {
    let load = Load {
        id: stage.id.clone(),
        pool: stage.pool.clone(),
        runs_per_second: options.runs_per_second,
        lasts: drill.lasts,
        witness: stage.witness.as_ref().map(|witness| witness.url.clone()),
    };
    let mut planned = load.plan((now() + AHEAD).as_secs());
    let tasks = std::mem::take(&mut planned.tasks);
    let items = stage.client.batch(tasks).await.map_err(Error::api("creating the load"))?;
    for item in items {
        item.result.map_err(Error::api("creating a task of the load"))?;
    }
    if now() > planned.from {
        let within = AHEAD;
        let (what, last) = ("the load is created".to_owned(), "it has begun".to_owned());
        return Err(Error::Late { what, within, last });
    }
    Ok(planned)
}

/// Waits until every instant has a settled end, or for as long as that may take: what is not told
/// then is judged as it is.
async fn settled(
    stage: &Stage,
    planned: &Planned,
    deeds: &[Deed],
    observer: &Observer,
) -> Result<(Vec<Told>, Vec<Call>, Trouble), Error> {
    let begun = Timer::now();
    loop {
        let told = history::read(&stage.client, &stage.id, &planned.duties).await;
        let told = told.map_err(Error::api("reading the history"))?;
        let calls = stage.witness.as_ref().map(|witness| witness.calls()).unwrap_or_default();
        let trouble = trouble(deeds, &observer.seen(), planned.until);
        let open = told.iter().any(|told| told.end == End::Open);
        let known: std::collections::BTreeSet<_> = if trouble.history_gone {
            told.iter().map(|told| &told.instant).chain(calls.iter().map(|c| &c.instant)).collect()
        } else {
            told.iter().map(|told| &told.instant).collect()
        };
        let all = planned.duties.keys().all(|instant| known.contains(instant));
        if (all && !open) || begun.elapsed() > SETTLED {
            return Ok((told, calls, trouble));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn told(deed: &Deed, planned: &Planned) -> String {
    let at = deed.from.saturating_sub(planned.from).as_secs_f64();
    let (what, took) = (deed.act.word(), (deed.until - deed.from).as_secs_f64());
    let whom = deed.hosts.join(", ");
    format!("  {at:5.1} s  {what} {whom} ({took:.1} s)")
}

async fn sleep_until(moment: crate::clock::Moment) {
    tokio::time::sleep(moment.saturating_sub(now())).await;
}

/// The load that is asked for, within what a drill carries.
///
/// # Errors
/// With what is allowed.
pub fn check_rate(runs_per_second: u32) -> Result<(), Error> {
    let most = limits::RUNS_PER_SECOND_MAX;
    if (2..=most).contains(&runs_per_second) {
        return Ok(());
    }
    Err(Error::Refused(format!("{runs_per_second} runs per second: 2 to {most} are allowed")))
}
