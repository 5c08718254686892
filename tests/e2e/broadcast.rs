//! Tasks of every agent: each agent that is selected runs its own share, and goes on with it
//! whatever becomes of etcd and the coordinators; what came of them is told when those are back.

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
const AWAY: Duration = Duration::from_secs(16);
/// How late a run may be.
const PROMPT: Duration = Duration::from_secs(1);
/// How long an agent is away when it is killed and started again.
const GAP: Duration = Duration::from_secs(4);

fn body(role: &str, url: &str, delivery: &str) -> Value {
    json!({
        "schedules": [{"every": "1s"}], "overlap": "allow", "delivery": delivery,
        "action": {"http": {"method": "GET", "url": url}},
        "placement": {"every_agent": {"pool": "edge", "labels": {"role": role}}},
    })
}

/// An agent of the pool `edge`, so that the fleet's ranges stay where they are.
fn edge(fleet: &Fleet, name: &str, role: &str, etcd: Option<&str>) -> Daemon {
    let own = fleet.etcd.endpoints().join(",");
    let given = fleet.agent_arguments(name, name).into_iter();
    let mut arguments: Vec<String> = given
        .map(|argument| match etcd {
            Some(other) if argument == own => other.to_owned(),
            _ => argument,
        })
        .collect();
    let label = format!("role={role}");
    arguments.extend(["--pool", "edge", "--label", &label].map(str::to_owned));
    Daemon::start(name, fleet.folder.path(), arguments)
}

/// The second of the instant of a share, and its agent, by the name of its run.
fn share(run_id: &str) -> (u64, String) {
    let (_, run) = run_id.split_once('@').expect("a run id");
    let (ms, rest) = run.split_once('-').expect("an instant");
    let agent = rest.splitn(3, '.').nth(2).expect("an agent");
    (ms.parse::<u64>().expect("milliseconds") / 1_000, agent.to_owned())
}

/// When the shares of a task called, by the second of their instant and their agent.
fn calls_of(witness: &Witness, task: &str) -> BTreeMap<(u64, String), Vec<Duration>> {
    let calls = witness.calls().into_iter();
    calls.filter(|(run, _)| run.starts_with(task)).map(|(run, at)| (share(&run), at)).collect()
}

/// The runs of a task as they are told, by the second of their instant and their agent.
async fn told(fleet: &Fleet, task: &str) -> Result<BTreeMap<(u64, String), Value>, String> {
    let runs = fleet.api().runs("all").await.map_err(|answer| answer.text)?;
    let of = runs.into_iter().filter(|run| run["task"] == task);
    Ok(of.map(|run| (share(&text(&run["run_id"])), run)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_selected_agent_runs_its_share_while_etcd_and_the_coordinators_are_away() {
    let _turn = beside_others().await;
    let mut fleet = Fleet::start(1, 1).await;
    for (name, role) in [("w1", "web"), ("w2", "web"), ("d1", "db")] {
        fleet.agents.push(edge(&fleet, name, role, None));
    }
    for agent in &mut fleet.agents[1..] {
        agent.ready().await;
    }
    fleet.expects(Trouble::EtcdDown);
    fleet.expects(Trouble::CoordinatorGone);
    let witness = Witness::start().await;
    let tasks = [("ticks", "web", "at_least_once"), ("once", "web", "at_most_once")];
    for (name, role, delivery) in tasks.into_iter().chain([("db", "db", "at_least_once")]) {
        let path = format!("/v1/namespaces/all/tasks/{name}");
        let made = fleet.api().put(&path, &body(role, &witness.url, delivery)).await.ok();
        let placed = json!({"pool": "edge", "labels": {"role": role}, "splay": "0s"});
        assert_eq!(made["placement"], json!({"every_agent": placed}), "{made}");
        assert!(made["warnings"].as_array().is_none_or(Vec::is_empty), "{made}");
    }
    until("all shares have run", PATIENCE, async || {
        let (ticks, once) = (told(&fleet, "ticks").await?, told(&fleet, "once").await?);
        let db = told(&fleet, "db").await?;
        let by = |runs: &BTreeMap<(u64, String), Value>| {
            runs.keys().map(|(_, agent)| agent.clone()).collect::<BTreeSet<String>>().len()
        };
        let all = (by(&ticks), by(&once), by(&db));
        if all == (2, 2, 1) { Ok(()) } else { Err(format!("{all:?}")) }
    })
    .await;

    let Outage { down, killed, up } = fleet.left_alone(AWAY, 1).await;
    let gap = killed..killed + GAP;
    let mut late = Vec::new();
    let (mut shares, mut repeats) = (0, 0);
    for (task, agent) in [("ticks", "w1"), ("ticks", "w2"), ("once", "w1"), ("once", "w2")] {
        let calls = calls_of(&witness, &format!("all/{task}"));
        for second in down.as_secs() + 1..up.as_secs() {
            let due = Duration::from_secs(second);
            let called = calls.get(&(second, agent.to_owned())).map_or(&[][..], Vec::as_slice);
            let near = agent == "w1" && (gap.contains(&due) || gap.contains(&(due + PROMPT)));
            assert!(near || called.len() == 1, "{task} of {second} on {agent}: {called:?}");
            assert!(task == "ticks" || called.len() <= 1, "twice: {called:?}");
            (shares, repeats) = (shares + called.len().min(1), repeats + called.len() / 2);
            if let (false, [at]) = (near, called) {
                let lateness = at.checked_sub(due).expect("not before its due");
                assert!(lateness < PROMPT, "{task} of {second} on {agent}: {lateness:?}");
                late.extend(i64::try_from(lateness.as_micros()));
            }
        }
    }
    println!(
        "{shares} shares ran on 2 agents while nobody else was there, {repeats} again after a \
         kill -9; {}",
        percentiles(late)
    );
    its_history_arrives(&fleet, down.as_secs() + 1, up.as_secs()).await;
}

/// Each instant of the time has come to something on each agent, and is told as a run of its own.
async fn its_history_arrives(fleet: &Fleet, from: u64, to: u64) {
    for (task, agents) in [("ticks", &["w1", "w2"][..]), ("once", &["w1", "w2"]), ("db", &["d1"])] {
        until(&format!("the history of {task} arrives"), PATIENCE, async || {
            let runs = told(fleet, task).await?;
            for ((_, agent), run) in &runs {
                assert!(agents.contains(&agent.as_str()) && run["agent"] == **agent, "{run}");
                let state = text(&run["state"]);
                let good = ["succeeded", "running", "queued"].contains(&state.as_str());
                assert!(good || task == "once" && state == "lost", "{run}");
            }
            let missing = |agent: &&str| {
                let told = |second: &u64| runs.contains_key(&(*second, (*agent).to_owned()));
                (from..to).filter(|second| !told(second)).collect::<Vec<u64>>()
            };
            let missing: Vec<_> = agents.iter().map(missing).collect();
            if missing.iter().all(Vec::is_empty) { Ok(()) } else { Err(format!("{missing:?}")) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_stops_when_an_agent_that_was_cut_off_is_back() {
    let _turn = beside_others().await;
    let mut fleet = Fleet::start(1, 1).await;
    let relay = Relay::start(&fleet.etcd.endpoints()[0]).await;
    let mut away = edge(&fleet, "w1", "web", Some(&relay.endpoint));
    away.expects(Trouble::EtcdDown);
    away.ready().await;
    let mut near = edge(&fleet, "w2", "web", None);
    near.ready().await;
    let witness = Witness::start().await;
    let path = |name: &str| format!("/v1/namespaces/all/tasks/{name}");
    for name in ["goes", "stays"] {
        let body = body("web", &witness.url, "at_least_once");
        fleet.api().put(&path(name), &body).await.ok();
    }
    let count = |task: &str, agent: &str| {
        let calls = calls_of(&witness, &format!("all/{task}"));
        calls.keys().filter(|(_, of)| of == agent).count()
    };
    let runs_on = async |task: &str, agent: &str| {
        let before = count(task, agent);
        until(&format!("{task} runs on {agent}"), PATIENCE, async || {
            let calls = count(task, agent);
            if calls >= before + 2 { Ok(()) } else { Err(calls) }
        })
        .await;
    };
    let stops_on = async |agent: &str| {
        until(&format!("what was deleted does not run on {agent}"), PATIENCE, async || {
            let before = count("goes", agent);
            runs_on("stays", agent).await;
            runs_on("stays", agent).await;
            let calls = count("goes", agent);
            if calls == before { Ok(()) } else { Err(calls) }
        })
        .await;
    };
    runs_on("goes", "w1").await;
    runs_on("goes", "w2").await;
    relay.close();
    assert_eq!(fleet.api().delete(&path("goes")).await.status, 204);
    stops_on("w2").await;
    // Longer than a lease lives.
    tokio::time::sleep(Duration::from_secs(5)).await;
    runs_on("goes", "w1").await;
    relay.open();
    stops_on("w1").await;
    assert_eq!(fleet.api().get(&path("goes")).await.status, 404);
    fleet.agents.extend([away, near]);
}
