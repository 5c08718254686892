//! Tasks that are pinned to an agent go on there, whatever becomes of etcd and the coordinators;
//! what came of them is told when those are back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::fleet::{Fleet, Outage, percentiles, text};
use crate::support::logs::Trouble;
use crate::support::relay::Relay;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, beside_others, until};

/// How long everybody else is away.
const AWAY: Duration = Duration::from_secs(22);
/// How late a run may be.
const PROMPT: Duration = Duration::from_secs(1);
/// How long the agent is away when it is killed and started again.
const GAP: Duration = Duration::from_secs(4);

fn body(agent: &str, url: &str, delivery: &str) -> Value {
    json!({
        "schedules": [{"every": "1s"}], "overlap": "allow", "delivery": delivery,
        "action": {"http": {"method": "GET", "url": url}}, "placement": {"agent": agent},
    })
}

/// The second of the instant of a run, by its name.
fn second(run_id: &str) -> u64 {
    let (_, run) = run_id.split_once('@').expect("a run id");
    let (ms, _) = run.split_once('-').expect("an instant");
    ms.parse::<u64>().expect("milliseconds") / 1_000
}

/// When the runs of a task called, by the second of their instant.
fn calls_of(witness: &Witness, task: &str) -> BTreeMap<u64, Vec<Duration>> {
    let calls = witness.calls().into_iter();
    calls.filter(|(run, _)| run.starts_with(task)).map(|(run, at)| (second(&run), at)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_runs_on_its_agent_while_etcd_and_the_coordinators_are_away() {
    let _turn = beside_others().await;
    let mut fleet = Fleet::start(2, 1).await;
    fleet.expects(Trouble::EtcdDown);
    fleet.expects(Trouble::CoordinatorGone);
    let witness = Witness::start().await;
    for (name, delivery) in [("ticks", "at_least_once"), ("once", "at_most_once")] {
        let path = format!("/v1/namespaces/pinned/tasks/{name}");
        let made = fleet.api().put(&path, &body("a1", &witness.url, delivery)).await.ok();
        assert_eq!(made["placement"], json!({"agent": "a1"}), "{made}");
        assert!(made["warnings"].as_array().is_none_or(Vec::is_empty), "{made}");
    }
    until("both have run", PATIENCE, async || {
        let runs = fleet.api().runs("pinned").await.map_err(|answer| answer.text)?;
        let some = |name: &str| runs.iter().any(|run| run["task"] == name);
        if some("ticks") && some("once") { Ok(()) } else { Err(format!("{runs:?}")) }
    })
    .await;

    let Outage { down, killed, up } = fleet.left_alone(AWAY, 1).await;
    let gap = killed..killed + GAP;
    let mut late = Vec::new();
    for task in ["pinned/ticks", "pinned/once"] {
        let calls = calls_of(&witness, task);
        for second in down.as_secs() + 1..up.as_secs() {
            let due = Duration::from_secs(second);
            let called = calls.get(&second).map_or(&[][..], Vec::as_slice);
            let near = gap.contains(&due) || gap.contains(&(due + PROMPT));
            assert!(near || called.len() == 1, "{task} of {second}: {called:?}");
            assert!(task == "pinned/ticks" || called.len() <= 1, "twice: {called:?}");
            if let (false, [at]) = (near, called) {
                assert!(*at >= due && *at - due < PROMPT, "{task} of {second}: {:?}", *at - due);
                late.extend(i64::try_from((*at - due).as_micros()));
            }
        }
    }
    println!("{} calls while nobody else was there, {}", late.len(), percentiles(late));
    its_history_arrives(&fleet, down.as_secs() + 1, up.as_secs()).await;
    let settled = until("the agents are back", PATIENCE, async || {
        let agents = fleet.api().get("/v1/agents").await.ok();
        let agents = agents["items"].as_array().cloned().unwrap_or_default();
        let there = agents.iter().filter(|agent| agent["connected"] == true).count();
        if there == 2 { Ok(()) } else { Err(agents) }
    });
    settled.await;
}

/// Each instant of the time has come to something, and is told by the agent.
async fn its_history_arrives(fleet: &Fleet, from: u64, to: u64) {
    for task in ["ticks", "once"] {
        until(&format!("the history of {task} arrives"), PATIENCE, async || {
            let runs = fleet.api().runs("pinned").await.map_err(|answer| answer.text)?;
            let runs = runs.iter().filter(|run| run["task"] == task);
            let mut told = BTreeSet::new();
            for run in runs {
                assert_eq!(run["agent"], "a1", "{run}");
                let state = text(&run["state"]);
                let good = ["succeeded", "running", "queued"].contains(&state.as_str());
                assert!(good || task == "once" && state == "lost", "{run}");
                told.insert(second(&text(&run["run_id"])));
            }
            let missing: Vec<u64> = (from..to).filter(|at| !told.contains(at)).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("missing: {missing:?}")) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_deleted_while_its_agent_was_cut_off_stops_when_it_is_back() {
    let _turn = beside_others().await;
    let mut fleet = Fleet::start(1, 1).await;
    let relay = Relay::start(&fleet.etcd.endpoints()[0]).await;
    let arguments = fleet.agent_arguments("edge", "edge").into_iter();
    let own = fleet.etcd.endpoints().join(",");
    let through =
        |argument: String| if argument == own { relay.endpoint.clone() } else { argument };
    let mut arguments: Vec<String> = arguments.map(through).collect();
    // A pool of its own: the fleet's ranges stay where they are.
    arguments.extend(["--pool", "edge"].map(str::to_owned));
    let mut edge = Daemon::start("edge", fleet.folder.path(), arguments);
    edge.expects(Trouble::EtcdDown);
    edge.ready().await;
    let witness = Witness::start().await;
    for name in ["goes", "stays"] {
        let path = format!("/v1/namespaces/pinned/tasks/{name}");
        fleet.api().put(&path, &body("edge", &witness.url, "at_least_once")).await.ok();
    }
    let runs_on = async |task: &str| {
        let before = calls_of(&witness, task).len();
        until(&format!("{task} runs"), PATIENCE, async || {
            let calls = calls_of(&witness, task).len();
            if calls >= before + 2 { Ok(()) } else { Err(calls) }
        })
        .await;
    };
    runs_on("pinned/goes").await;
    relay.close();
    let path = "/v1/namespaces/pinned/tasks/goes";
    let deleted = fleet.api().delete(path).await;
    assert_eq!(deleted.status, 204, "{deleted:?}");
    // Longer than a lease lives.
    tokio::time::sleep(Duration::from_secs(5)).await;
    runs_on("pinned/goes").await;
    runs_on("pinned/stays").await;
    relay.open();
    until("what was deleted does not run", PATIENCE, async || {
        let before = calls_of(&witness, "pinned/goes").len();
        runs_on("pinned/stays").await;
        runs_on("pinned/stays").await;
        let calls = calls_of(&witness, "pinned/goes").len();
        if calls == before { Ok(()) } else { Err(calls) }
    })
    .await;
    assert_eq!(fleet.api().get(path).await.status, 404);
    // A name that nobody has is taken, and said to be unknown.
    let made = fleet.api().put(path, &body("nobody", &witness.url, "at_least_once")).await.ok();
    assert_eq!(made["warnings"][0]["code"], "unknown_agent", "{made}");
    let why = fleet.api().get(&format!("{path}/why")).await.ok();
    assert!(["agent_away", "upcoming"].contains(&text(&why["verdict"]).as_str()), "{why}");
    assert!(text(&why["explanation"]).contains("there is no agent of that name"), "{why}");
    // From there it goes to a pool, as another task.
    let mut placed = body("nobody", &witness.url, "at_least_once");
    placed["placement"] = json!({"pool": "default"});
    let moved = fleet.api().put(path, &placed).await.ok();
    assert_eq!(moved["moved"], true, "{moved}");
    runs_on("pinned/goes").await;
    fleet.agents.push(edge);
}
