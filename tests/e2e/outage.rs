//! etcd goes away and comes back; nobody lends a hand.
//!
//! It stays away longer than any lease lives, so that every licence ends and every session is lost.
//! What was due meanwhile runs when it is back.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::api::{has_ended, noop_at, now};
use crate::support::fleet::{Fleet, spent, text};
use crate::support::logs::Trouble;
use crate::support::{PATIENCE, alone, until};

/// By when everything must be as before.
const AGAIN: Duration = Duration::from_secs(15);
const ONE_SHOTS: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_carries_on_by_itself_when_etcd_is_back() {
    let _turn = alone().await;
    let mut fleet = Fleet::start(2, 2).await;
    fleet.expects(Trouble::EtcdDown);
    let body = json!({"schedules": [{"every": "1s"}], "action": {"noop": {}}});
    fleet.api().put("/v1/namespaces/default/tasks/ticks", &body).await.ok();
    let begun = now() + Duration::from_secs(1);
    let due = |number: usize| begun + Duration::from_millis(number as u64 * 50);
    let task = |number: usize| noop_at("outage", &format!("o{number}"), due(number));
    let tasks: Vec<Value> = (0..ONE_SHOTS).map(task).collect();
    let made = fleet.api().post("/v1/tasks/batch", &json!({"tasks": tasks})).await.ok();
    assert!(made["results"].as_array().expect("results").iter().all(|r| r["status"] == "created"));
    fleet.api().ended_runs("ticks", 1).await;
    // Due when every licence is over, and to start at once or not at all.
    let mut punctual = noop_at("default", "punctual", now() + Duration::from_millis(4_500));
    punctual["start_deadline"] = json!("1s");
    fleet.api().post("/v1/namespaces/default/tasks", &punctual).await.ok();

    fleet.etcd.stop(0);
    let down = now();
    writes_are_refused_and_reads_are_stale(&fleet).await;
    let away = Duration::from_secs(7);
    tokio::time::sleep((down + away).saturating_sub(now())).await;

    fleet.etcd.restart(0);
    fleet.etcd.healthy().await.expect("etcd is healthy");
    let back = now();
    for coordinator in &fleet.coordinators {
        until("writes are taken and reads are fresh", AGAIN, async || {
            let written = coordinator.api.put("/v1/namespaces/default/tasks/again", &body).await;
            let read = coordinator.api.get("/v1/namespaces/default/tasks/again").await;
            let ready = coordinator.api.get("/readyz").await;
            let fresh = read.status == 200 && read.json()["stale"] != true;
            let good = written.status < 300 && fresh && ready.status == 200;
            if good { Ok(()) } else { Err((written, read, ready)) }
        })
        .await;
    }
    println!("writes and reads as before {} after etcd was back", spent(now() - back));
    until("the agents run what is due", AGAIN.saturating_sub(now() - back), async || {
        let runs = fleet.api().ended_runs("ticks", 1).await;
        let fresh = |run: &Value| run["state"] == "succeeded" && started_after(run, back);
        if runs.iter().any(fresh) { Ok(()) } else { Err(runs.into_iter().next()) }
    })
    .await;
    println!("agents run again {} after etcd was back", spent(now() - back));
    every_one_shot_ran_once(&fleet).await;
    what_had_to_start_meanwhile_is_missed(&fleet).await;
}

async fn writes_are_refused_and_reads_are_stale(fleet: &Fleet) {
    let body = json!({"schedules": [{"every": "1h"}], "action": {"noop": {}}});
    for coordinator in &fleet.coordinators {
        let path = "/v1/namespaces/default/tasks/refused";
        until("writes are refused, with when to come back", PATIENCE, async || {
            let write = coordinator.api.put(path, &body).await;
            assert_eq!(write.status, 503, "{write:?}");
            // What was on its way when etcd went may have been done: nobody can say when to come.
            let known = write.json()["code"] == "store_unavailable";
            let when = write.headers.contains_key("retry-after");
            if known && when { Ok(()) } else { Err(write) }
        })
        .await;
        until("reads say that they are stale", PATIENCE, async || {
            let one = coordinator.api.get("/v1/namespaces/default/tasks/ticks").await;
            let all = coordinator.api.get("/v1/namespaces/-/tasks").await;
            let stale = one.ok()["stale"] == true && all.ok()["stale"] == true;
            if stale { Ok(()) } else { Err(one) }
        })
        .await;
        let ready = coordinator.api.get("/readyz").await;
        assert_eq!(ready.status, 503, "{ready:?}");
        assert_eq!(coordinator.api.get("/healthz").await.status, 200);
    }
}

async fn what_had_to_start_meanwhile_is_missed(fleet: &Fleet) {
    let runs = fleet.api().ended_runs("punctual", 1).await;
    let reason = "it could not start before its start deadline";
    assert_eq!((&runs[0]["state"], &runs[0]["reason"]), (&json!("missed"), &json!(reason)));
    assert_eq!((runs.len(), &runs[0]["started_at"]), (1, &Value::Null), "{runs:?}");
    let at = text(&runs[0]["instant"]);
    let path = format!("/v1/namespaces/default/tasks/punctual/why?at={at}");
    let why = fleet.api().get(&path).await.ok();
    let words = "It was missed: it could not start within its start deadline.";
    assert_eq!((&why["verdict"], &why["explanation"]), (&json!("missed"), &json!(words)));
}

async fn every_one_shot_ran_once(fleet: &Fleet) {
    let runs = until("every one-shot has ended", PATIENCE, async || {
        let runs = fleet.api().runs("outage").await.map_err(|answer| answer.text)?;
        let ended = runs.iter().filter(|run| has_ended(run) && run["provisional"] != true).count();
        let all = ended == ONE_SHOTS && runs.len() == ONE_SHOTS;
        if all { Ok(runs) } else { Err(format!("{ended} of {}", runs.len())) }
    })
    .await;
    for run in &runs {
        assert_eq!((&run["state"], &run["attempt"]), (&json!("succeeded"), &json!(1)), "{run}");
        assert!(run["lateness_us"].as_i64() >= Some(0), "early: {run}");
    }
    let worst = runs.iter().filter_map(|run| run["lateness_us"].as_i64()).max().unwrap_or(0);
    println!("{} one-shots over the outage, each once, latest {} ms", runs.len(), worst / 1_000);
}

fn started_after(run: &Value, moment: Duration) -> bool {
    let started = tocktower_proto::json::parse_wall_down(&text(&run["started_at"]));
    let moment = i64::try_from(moment.as_micros()).expect("fits");
    started.is_ok_and(|started| started.micros() > moment)
}
