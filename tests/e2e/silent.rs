//! Watches that fall silent without an end, while leases and writes go on: what is known of the
//! tasks of a range that lies idle grows old, and nothing else says so.
//!
//! Nothing may start by that after a lease time. What is still wanted starts once the watch was
//! opened anew, within the ten seconds that are promised.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::api::{instant_text, now};
use crate::support::etcd::EtcdCluster;
use crate::support::fleet::{Fleet, spent};
use crate::support::logs::Trouble;
use crate::support::watches::WatchRelay;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, beside_others, until};

/// How long the lease of an agent lives.
const LEASE: Duration = Duration::from_secs(3);
/// The promise of what is due.
const PROMISE: Duration = Duration::from_secs(10);
/// From the creates to the due: ranges come to rest within a second.
const AHEAD: Duration = Duration::from_secs(6);
/// From the silence to the due.
const SILENT: Duration = Duration::from_millis(3_800);
/// How much later it is due after the edit.
const MOVED_BY: Duration = Duration::from_secs(2);

const NAMES: [&str; 4] = ["deleted", "paused", "moved", "stays"];
const DELIVERIES: [&str; 2] = ["at_least_once", "at_most_once"];

fn one_shot(at: Duration, url: &str, delivery: &str) -> Value {
    json!({
        "schedules": [{"at": instant_text(at)}], "delivery": delivery,
        "action": {"http": {"method": "GET", "url": url}},
    })
}

fn path(name: &str, delivery: &str) -> String {
    format!("/v1/namespaces/silent/tasks/{name}-{delivery}")
}

async fn sleep_until(moment: Duration) {
    tokio::time::sleep(moment.saturating_sub(now())).await;
}

/// A one-shot of each kind, alone in its range but for chance, and the agent knows them.
async fn place(fleet: &Fleet, witness: &Witness, due: Duration) {
    for delivery in DELIVERIES {
        for name in NAMES {
            let body = one_shot(due, &witness.url, delivery);
            fleet.api().put(&path(name, delivery), &body).await.ok();
        }
    }
    until("the agent has read what is due soon", PATIENCE, async || {
        let near = fleet.metric(0, "near_entries").await;
        if near == (NAMES.len() * DELIVERIES.len()) as u64 { Ok(()) } else { Err(near) }
    })
    .await;
}

/// Some are deleted, paused and moved; gives back when the last of them was answered.
async fn change(fleet: &Fleet, witness: &Witness, later: Duration) -> Duration {
    for delivery in DELIVERIES {
        let deleted = fleet.api().delete(&path("deleted", delivery)).await;
        assert_eq!(deleted.status, 204, "{deleted:?}");
        let pause = format!("{}/pause", path("paused", delivery));
        fleet.api().post(&pause, &json!({})).await.ok();
        let body = one_shot(later, &witness.url, delivery);
        fleet.api().put(&path("moved", delivery), &body).await.ok();
    }
    now()
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_silent_watches_what_was_deleted_paused_or_moved_does_not_start() {
    let _turn = beside_others().await;
    let etcd = EtcdCluster::start(1).await;
    let relay = WatchRelay::start(&etcd.endpoint(0)).await;
    let mut fleet = Fleet::start_behind(etcd, &relay.endpoint, 1, 1).await;
    fleet.agents[0].expects(Trouble::WatchSilent);
    let witness = Witness::start().await;
    let due = Duration::from_secs((now() + AHEAD).as_secs() + 1);
    place(&fleet, &witness, due).await;

    sleep_until(due - SILENT).await;
    relay.fall_silent();
    let later = due + MOVED_BY;
    let changed = change(&fleet, &witness, later).await;
    assert!(changed + LEASE < due, "too late to prove anything: {}", spent(due - changed));
    sleep_until(due + Duration::from_millis(500)).await;
    let calls = witness.calls();
    assert!(calls.is_empty(), "started by what a silent watch had told: {calls:?}");

    relay.new_ones_speak();
    let speaks = now();
    let runs = until("what is still wanted has run", due + PROMISE - now(), async || {
        let runs = fleet.api().runs("silent").await.map_err(|answer| answer.text)?;
        let ran = runs.iter().filter(|run| run["state"] == "succeeded").count();
        if ran == 2 * DELIVERIES.len() { Ok(runs) } else { Err(format!("{ran}: {runs:?}")) }
    })
    .await;
    println!("all had ended {} after new watches spoke", spent(now() - speaks));
    assert_eq!(runs.len(), 2 * DELIVERIES.len(), "{runs:?}");
    for delivery in DELIVERIES {
        let why = format!("{}/why?at={}", path("paused", delivery), instant_text(due));
        let why = fleet.api().get(&why).await.ok();
        assert_eq!(why["verdict"], "paused", "it waits for its end: {why}");
    }
    called_as_wanted(&witness, due, later);
}

/// Each of those that stay, and of those that were moved at their later time: once, and nothing
/// else.
fn called_as_wanted(witness: &Witness, due: Duration, later: Duration) {
    let mut called = BTreeSet::new();
    for (run, at) in witness.calls() {
        let (task, _) = run.split_once('@').expect("a run id");
        let from = if task.starts_with("silent/moved-") { later } else { due };
        assert!(at.len() == 1 && at[0] >= from && at[0] < from + PROMISE, "{run}: {at:?}");
        called.insert(task.trim_start_matches("silent/").to_owned());
    }
    let wanted = ["moved", "stays"].map(|name| DELIVERIES.map(|d| format!("{name}-{d}")));
    assert_eq!(called, wanted.into_iter().flatten().collect());
}
