//! What becomes of instants and requests that do not run: paused, or asked for twice.

use std::time::Duration;

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tocktower_proto::json::parse_instant;

use crate::support::api::{has_ended, instant_text, now, send};
use crate::support::fleet::Fleet;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, beside_others, until};

#[tokio::test(flavor = "multi_thread")]
async fn instants_of_a_paused_task_and_of_one_whose_run_goes_on_are_one_growing_row() {
    let _turn = beside_others().await;
    let fleet = Fleet::start(1, 1).await;
    let tasks = [
        json!({"name": "paused", "paused": true, "action": {"noop": {}}}),
        json!({"name": "long", "action": {"command": {"argv": ["sleep", "60"]}}}),
    ];
    for mut task in tasks {
        task["schedules"] = json!([{"every": "1s"}]);
        fleet.api().post("/v1/namespaces/default/tasks", &task).await.ok();
    }
    for (task, reason) in [("paused", "paused"), ("long", "overlap: an earlier run has not ended")]
    {
        let path = format!("/v1/namespaces/default/tasks/{task}/runs?state=skipped");
        let row = until("five instants have ended", PATIENCE, async || {
            let rows = fleet.api().get(&path).await.ok()["items"].clone();
            match rows.as_array().and_then(|rows| rows.first()) {
                Some(row) if row["count"].as_u64() >= Some(5) => Ok(rows),
                _ => Err(rows),
            }
        })
        .await;
        // Two, if an hour's end lay between.
        let rows: &Vec<Value> = row.as_array().expect("a list");
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!(rows[0]["reason"], reason);
        let instant = |name: &str| {
            let text = rows[0][name].as_str().expect("a time");
            parse_instant(text).expect("RFC 3339").millis() / 1_000
        };
        let count = rows[0]["count"].as_i64().expect("a number");
        assert!((instant("until") - instant("instant") + 1 - count).abs() <= 1, "{rows:?}");
    }
}

/// How often something is sent.
const KEYS: usize = 20;

/// The same request through both coordinators at once, and what each answers.
async fn through_both(fleet: &Fleet, path: &str, key: &str, body: &Value) -> [Value; 2] {
    let sent = [0, 1].map(|number| {
        let request = fleet.coordinators[number].api.request(Method::POST, path);
        send(request.header("Idempotency-Key", key).json(body))
    });
    let answers = join_all(sent).await.into_iter();
    let answers: Vec<Value> = answers.map(|answer| answer.expect("an answer").ok()).collect();
    answers.try_into().expect("two")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_sent_through_two_coordinators_at_once_under_one_key_runs_once() {
    let _turn = beside_others().await;
    let fleet = Fleet::start(1, 2).await;
    let witness = Witness::start().await;
    let task = json!({
        "name": "asked",
        "schedules": [{"cron": "0 0 1 1 *"}],
        "action": {"http": {"method": "GET", "url": witness.url}},
    });
    fleet.api().post("/v1/namespaces/default/tasks", &task).await.ok();
    for key in 0..KEYS {
        let path = "/v1/namespaces/default/tasks/asked/trigger";
        through_both(&fleet, path, &format!("key-{key}"), &json!({})).await;
    }
    let runs = until("each request has run and is settled", PATIENCE, async || {
        let runs = fleet.api().runs("default").await.map_err(|answer| format!("{answer:?}"))?;
        let settled = runs.iter().all(|run| has_ended(run) && run["provisional"] != true);
        if settled && runs.len() >= KEYS { Ok(runs) } else { Err(format!("{runs:?}")) }
    })
    .await;
    let calls = witness.calls();
    assert!(calls.values().all(|times| times.len() == 1), "{calls:?}");
    assert_eq!(calls.len(), KEYS, "{calls:?}");
    let twins = runs.iter().filter(|run| run["state"] == "skipped");
    for twin in twins {
        let reason = twin["reason"].as_str().unwrap_or_default();
        let first = reason.strip_prefix("duplicate_of ").expect("it says of which");
        assert!(calls.contains_key(first), "{twin}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_sent_through_two_coordinators_at_once_under_one_key_is_one_task() {
    let _turn = beside_others().await;
    let fleet = Fleet::start(1, 2).await;
    let witness = Witness::start().await;
    for key in 0..KEYS {
        // Later than the answers: what had run by the second would be a duplicate.
        let due = now() + Duration::from_millis(1_500);
        let mut body = json!({
            "schedules": [{"at": instant_text(due)}],
            "action": {"http": {"method": "GET", "url": witness.url}},
        });
        // Where there is none, it is made of the key.
        if key % 2 == 0 {
            body["name"] = json!(format!("once-{key}"));
        }
        let path = "/v1/namespaces/creates/tasks";
        let [one, other] = through_both(&fleet, path, &format!("create-{key}"), &body).await;
        let task = |answer: &Value| (answer["name"].clone(), answer["revision"].clone());
        assert_eq!(task(&one), task(&other), "the same task, and no other version of it");
    }
    let runs = until("each has run and is settled", PATIENCE, async || {
        let runs = fleet.api().runs("creates").await.map_err(|answer| format!("{answer:?}"))?;
        let settled = runs.iter().all(|run| has_ended(run) && run["provisional"] != true);
        if settled && runs.len() >= KEYS { Ok(runs) } else { Err(format!("{runs:?}")) }
    })
    .await;
    let calls = witness.calls();
    assert!(calls.values().all(|times| times.len() == 1), "{calls:?}");
    assert_eq!((runs.len(), calls.len()), (KEYS, KEYS), "{runs:?}");
    assert!(runs.iter().all(|run| run["state"] == "succeeded"), "{runs:?}");
}
