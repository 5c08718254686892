//! What a run of a recurring task costs an agent, from its instant to its row of history: a figure,
//! not a fact. The shared state is in this process and in memory, and the action is `noop`, so that
//! nearly all that is measured is the agent.
//!
//!     TASKS=50000 cargo test --workspace --test rate -- --ignored --nocapture
//!
//! All tasks are due at each full second; with `SPREAD=1` evenly over it. `PLACES` are the attempts
//! that may run at once. On a machine that does other things besides, go by the processor's time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tocktower_agent::exec::ExecConfig;
use tocktower_agent::run::{self, AgentConfig, RunningAgent};
use tocktower_agent::store::Retention;
use tocktower_agent::waker::now;
use tocktower_cluster::cluster;
use tocktower_cluster::embedded::Embedded;
use tocktower_cluster::keys::{Keys, PREFIX};
use tocktower_cluster::port::{Op, Port, Request, Txn};
use tocktower_cluster::tasks::{self, Create};
use tocktower_core::hash::RangeCount;
use tocktower_core::ids::{AgentName, Epoch, PoolName, TaskName};
use tocktower_core::schedule::{Every, Schedule};
use tocktower_core::task::{
    self, Action, Broadcast, CatchUp, CatchUpPolicy, Delivery, Overlap, Retry, Spec,
};

const WARM: Duration = Duration::from_secs(8);
const MEASURED: Duration = Duration::from_secs(10);

fn given(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Processor time of each of this process's threads, by name.
fn cpu() -> BTreeMap<String, f64> {
    let mut spent = BTreeMap::new();
    for thread in std::fs::read_dir("/proc/self/task").expect("threads").flatten() {
        let Ok(stat) = std::fs::read_to_string(thread.path().join("stat")) else { continue };
        let (name, fields) = stat.rsplit_once(')').expect("a name");
        let name = name.split_once('(').expect("a name").1.to_owned();
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>().expect("a number")
            + fields[12].parse::<f64>().expect("a number");
        *spent.entry(name).or_default() += ticks / 100.0;
    }
    spent
}

fn every_second(number: u64, phase: Duration) -> Spec {
    let every = Every::new(Duration::from_secs(1), phase).expect("a second");
    Spec {
        name: TaskName::parse(&format!("rate/r{number}")).expect("a name"),
        description: String::new(),
        labels: BTreeMap::new(),
        schedules: vec![Schedule::Every(every)],
        start_at: None,
        end_at: None,
        max_runs: None,
        jitter: Duration::ZERO,
        exclude: Default::default(),
        action: Action::Noop,
        placement: PoolName::parse("default").expect("a name").into(),
        broadcast: Broadcast::default(),
        delivery: Delivery::default(),
        catch_up: CatchUp { policy: CatchUpPolicy::All, window: Duration::from_secs(3_600) },
        overlap: Overlap::Skip,
        retry: Retry::default(),
        timeout: None,
        start_deadline: None,
        priority: 0,
        paused: false,
    }
}

async fn agent(port: Arc<dyn Port>, folder: &std::path::Path) -> RunningAgent {
    let config = AgentConfig {
        name: AgentName::parse("a").expect("a name"),
        pool: PoolName::parse("default").expect("a name"),
        labels: BTreeMap::new(),
        weight: 100,
        data_dir: folder.join("agent"),
        prefix: PREFIX.to_owned(),
        lease_ttl: Duration::from_secs(8),
        running_max: usize::try_from(given("PLACES", 1_000)).expect("a count"),
        compact: false,
        exec: ExecConfig::default(),
        retention: Retention::default(),
        disk_reserve: None,
        version: "0".to_owned(),
        host_id: "host".to_owned(),
    };
    run::start(config, port).await.expect("an agent")
}

async fn create(port: &Arc<dyn Port>, keys: &Keys, count: u64) {
    let spread = given("SPREAD", 0) > 0;
    let creates = (0..count).map(|number| {
        let phase = if spread { number % 1_000 } else { 0 };
        let spec = every_second(number, Duration::from_millis(phase));
        let version = task::create(spec, now().wall, None).expect("a good task");
        Create::new(&version, Epoch(1)).expect("a small one")
    });
    let mut waiting = creates.collect();
    loop {
        let group = tasks::next_group(keys, &mut waiting);
        if group.is_empty() {
            return;
        }
        let txn = Request::Txn(tasks::create(keys, &group));
        port.call(txn).await.expect("they are created");
    }
}

/// Lines of the agent's metrics that begin with `name`, with what they say.
fn figures(agent: &RunningAgent, name: &str) -> BTreeMap<String, f64> {
    let text = agent.metrics().text();
    let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
    lines.map(|(rest, value)| (rest.to_owned(), value.parse().unwrap_or(0.0))).collect()
}

fn lateness(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>, share: f64) -> String {
    let of = |key: &str| after[key] - before.get(key).unwrap_or(&0.0);
    let bound = |key: &str| {
        let text = key.strip_prefix("{le=\"")?.strip_suffix("\"}")?;
        text.replace("+Inf", "inf").parse::<f64>().ok()
    };
    let mut all: Vec<(f64, f64)> =
        after.keys().filter_map(|key| Some((bound(key)?, of(key)))).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total = all.last().map_or(0.0, |(_, count)| *count);
    let at = all.iter().find(|(_, count)| *count >= total * share);
    at.map_or("-".to_owned(), |(bound, _)| format!("{bound} s"))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn runs_of_recurring_tasks_by_what_they_cost() {
    let folder = tempfile::tempdir().expect("a folder");
    let port: Arc<dyn Port> = Embedded::in_memory().expect("a shared state");
    let ranges = RangeCount::DEFAULT;
    let (key, value) = (cluster::key(PREFIX), cluster::new_record("c".to_owned(), ranges));
    let put = Op::Put { key, value, lease: None };
    port.call(Request::Txn(Txn { when: vec![], then: vec![put], otherwise: vec![] }))
        .await
        .expect("a cluster");
    let agent = agent(port.clone(), folder.path()).await;
    let count = given("TASKS", 50_000);
    create(&port, &Keys::new(PREFIX, ranges), count).await;
    tokio::time::sleep(WARM).await;

    let buckets = "tocktower_agent_lateness_seconds_bucket";
    let (late, stored) = (figures(&agent, buckets), figures(&agent, "tocktower_agent_store_"));
    let (before, spent, begun) = (agent.stats.borrow().ended, cpu(), Instant::now());
    tokio::time::sleep(MEASURED).await;
    let (after, spent_after) = (agent.stats.borrow().ended, cpu());
    let took = begun.elapsed().as_secs_f64();
    let late_after = figures(&agent, buckets);
    let stored_after = figures(&agent, "tocktower_agent_store_");

    let runs = (after.succeeded - before.succeeded) as f64;
    let skipped = (after.skipped - before.skipped) as f64;
    println!("{count} tasks: {:.0} runs/s, {:.0} skipped/s", runs / took, skipped / took);
    let shares = [0.5, 0.99].map(|share| lateness(&late, &late_after, share));
    println!("lateness p50 <= {}, p99 <= {}", shares[0], shares[1]);
    let of = |name: &str| stored_after[name] - stored[name];
    println!(
        "store: {:.0} batches/s, {:.1} operations a run, {:.0} bytes a run, {:.1} syncs/s",
        of("batches_total") / took,
        of("operations_total") / runs,
        of("written_bytes_total") / runs,
        of("syncs_total") / took
    );
    let mut all = 0.0;
    for (name, spent_after) in spent_after {
        let spent = spent_after - spent.get(&name).unwrap_or(&0.0);
        all += spent;
        if spent > 0.02 * took {
            println!("{name}: {:.2} cores, {:.1} us a run", spent / took, spent * 1e6 / runs);
        }
    }
    println!("all: {:.2} cores, {:.1} us a run", all / took, all * 1e6 / runs);
    let core = agent.stats.borrow().core;
    println!("open {}, full {}, oldest due {:?}", core.open, core.full, core.oldest_due);
}
