//! Hosts that are taken out of a fleet under load and put back: drained by an operator, killed once
//! that is said to be safe, started again, uncordoned; and all agents restarted, one by one.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::api::{instant_text, now};
use crate::support::etcd::EtcdCluster;
use crate::support::fleet::{Fleet, spent};
use crate::support::load::{Load, Weather};
use crate::support::logs::Trouble;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, alone, beside_others, until};

/// What every run starts within, on a machine that may be loaded; what it was is printed.
const CALM: Duration = Duration::from_secs(2);
/// Until the first instant of a load, for creating it.
const AHEAD: Duration = Duration::from_secs(5);

/// Half a minute of load.
const fn load(namespace: &'static str) -> Load {
    Load { namespace, one_shots: 6_000, rate: 200, recurring: 60 }
}

async fn agent(fleet: &Fleet, name: &str) -> Value {
    fleet.api().get(&format!("/v1/agents/{name}")).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_agent_can_be_killed_and_stays_empty_until_it_is_uncordoned() {
    let _turn = alone().await;
    let mut fleet = Fleet::start(3, 2).await;
    let witness = Witness::start().await;
    let placed = load("drained").place(&fleet.client(), &witness, AHEAD).await;
    placed.reaches(0.1).await;
    let asked = now();
    let drained = fleet.api().tock(&["agent", "drain", "a0", "--timeout", "20s"]);
    let told = String::from_utf8_lossy(&drained.stderr);
    assert_eq!(drained.status.code(), Some(0), "{told}");
    println!("drained after {}; told meanwhile:\n{told}", spent(now() - asked));
    // Nothing of it may be missed now.
    fleet.agents[0].kill();
    fleet.agents[0].expects(Trouble::Killed);
    fleet.held_by(&["a1", "a2"]).await;
    placed.reaches(0.4).await;
    fleet.agents[0].spawn();
    fleet.agents[0].ready().await;
    until("it is back, and drained", PATIENCE, async || {
        let agent = agent(&fleet, "a0").await;
        if agent["drained"] == true { Ok(()) } else { Err(agent) }
    })
    .await;
    placed.reaches(0.6).await;
    assert_eq!(agent(&fleet, "a0").await["ranges_held"], 0);
    assert_eq!(fleet.api().tock_json(&["agent", "uncordon", "a0"])["draining"], false);
    fleet.held_by(&["a0", "a1", "a2"]).await;
    placed.judge(fleet.api(), &witness, Weather::Calm, CALM).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_all_agents_repeats_nothing() {
    let _turn = alone().await;
    let mut fleet = Fleet::start(3, 2).await;
    let witness = Witness::start().await;
    let placed = load("rolling").place(&fleet.client(), &witness, AHEAD).await;
    placed.reaches(0.05).await;
    for number in 0..3 {
        let asked = now();
        fleet.agents[number].terminate();
        let status = fleet.agents[number].ended(PATIENCE).await;
        assert!(status.success(), "it has left: {status}");
        println!("a{number} had left after {}", spent(now() - asked));
        fleet.agents[number].spawn();
        fleet.agents[number].ready().await;
        fleet.held_by(&["a0", "a1", "a2"]).await;
    }
    assert!(now() < placed.until, "the load must last for longer than the restarts");
    placed.judge(fleet.api(), &witness, Weather::Calm, CALM).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_agent_keeps_its_ranges_and_the_drain_says_so() {
    let _turn = beside_others().await;
    let mut fleet = Fleet::start(1, 1).await;
    let refused = fleet.api().tock(&["agent", "drain", "a0", "--timeout", "3s"]);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains("agent a0 keeps its 256 ranges: no other of pool default"), "{told}");
    assert!(told.contains("error: after 3s "), "{told}");
    fleet.held_by(&["a0"]).await;
    let task = json!({"schedules": [{"every": "1s"}], "action": {"noop": {}}});
    fleet.api().put("/v1/namespaces/default/tasks/tick", &task).await.ok();
    fleet.api().ended_runs("tick", 3).await;
    // Somebody comes, and the drain that goes on comes to its end.
    fleet.add_agent();
    fleet.agents[1].ready().await;
    let drained = fleet.api().tock(&["agent", "drain", "a0", "--timeout", "20s"]);
    assert_eq!(drained.status.code(), Some(0), "{}", String::from_utf8_lossy(&drained.stderr));
    fleet.held_by(&["a1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_outlasts_the_time_to_drain_is_cancelled_and_nobody_repeats_it() {
    let _turn = beside_others().await;
    let flags = ["--drain-timeout", "6s"];
    let mut fleet = Fleet::start_with(EtcdCluster::start(1).await, 2, 1, &flags).await;
    let sleep = json!({"command": {"argv": ["sleep", "60"]}});
    let at = instant_text(now() + Duration::from_secs(1));
    let task = json!({"name": "long", "schedules": [{"at": at}], "action": sleep});
    fleet.api().post("/v1/namespaces/default/tasks", &task).await.ok();
    let api = fleet.api().clone();
    let run =
        async || api.get("/v1/namespaces/default/tasks/long/runs").await.ok()["items"][0].clone();
    let running = until("it runs", PATIENCE, async || {
        let run = run().await;
        if run["state"] == "running" { Ok(run) } else { Err(run) }
    })
    .await;
    let number = usize::from(running["agent"] == "a1");
    let (asked, other) = (now(), ["a1", "a0"][number]);
    fleet.agents[number].terminate();
    let status = fleet.agents[number].ended(Duration::from_secs(10)).await;
    assert!(status.success(), "{status}");
    println!("it had left after {}", spent(now() - asked));
    fleet.held_by(&[other]).await;
    // How it ended is told by the one that knows.
    fleet.agents[number].spawn();
    fleet.agents[number].ready().await;
    let ended = until("its end is known", PATIENCE, async || {
        let run = run().await;
        if run["state"] == "cancelled" && run["provisional"] != true { Ok(run) } else { Err(run) }
    })
    .await;
    assert_eq!(ended["attempts"].as_array().map_or(0, Vec::len), 1, "{ended}");
}
