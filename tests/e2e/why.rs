//! `why`, asked of a fleet about instants that came to something, to nothing, and are none.

use serde_json::{Value, json};

use crate::support::api::{Api, instant_text, now};
use crate::support::fleet::{Fleet, text};
use crate::support::{PATIENCE, beside_others, until};

async fn why(api: &Api, task: &str, at: &str) -> Value {
    api.get(&format!("/v1/namespaces/default/tasks/{task}/why?at={at}")).await.ok()
}

/// A row of so many instants that were not run: its first one, and one of those within it.
async fn skipped_row(api: &Api, task: &str) -> (String, String) {
    let path = format!("/v1/namespaces/default/tasks/{task}/runs?state=skipped");
    let row = until("three instants are skipped", PATIENCE, async || {
        let rows = api.get(&path).await.ok();
        let row = rows["items"][0].clone();
        if row["count"].as_u64() >= Some(3) { Ok(row) } else { Err(rows) }
    })
    .await;
    let first = tocktower_proto::json::parse_instant(&text(&row["instant"])).expect("a time");
    let second = first.plus(std::time::Duration::from_secs(1));
    (text(&row["instant"]), tocktower_proto::json::format_instant(second))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_instant_has_an_answer() {
    let _turn = beside_others().await;
    let fleet = Fleet::start(1, 1).await;
    let api = fleet.api();
    let second = json!([{"every": "1s"}]);
    let sleep = json!({"command": {"argv": ["sleep", "60"]}});
    for task in [
        json!({"name": "ran", "schedules": second, "action": {"noop": {}}}),
        json!({"name": "long", "schedules": second, "action": sleep}),
        json!({"name": "paused", "paused": true, "schedules": second, "action": {"noop": {}}}),
        json!({"name": "yearly", "schedules": [{"cron": "0 0 1 1 *"}], "action": {"noop": {}}}),
    ] {
        api.post("/v1/namespaces/default/tasks", &task).await.ok();
    }

    let runs = api.ended_runs("ran", 3).await;
    let ran = text(&runs[1]["instant"]);
    let answer = why(api, "ran", &ran).await;
    assert_eq!(answer["verdict"], "succeeded", "{answer}");
    assert_eq!((&answer["run"]["agent"], &answer["at"]), (&json!("a0"), &json!(ran)));
    let newest = api.get("/v1/namespaces/default/tasks/ran/why").await.ok();
    let known = ["succeeded", "running", "queued", "starting"];
    assert!(known.contains(&newest["verdict"].as_str().unwrap_or_default()), "{newest}");

    let (overlapped, within) = skipped_row(api, "long").await;
    for instant in [&overlapped, &within] {
        let answer = why(api, "long", instant).await;
        assert_eq!(answer["verdict"], "skipped", "{answer}");
        assert_eq!(answer["policy"], json!({"field": "overlap", "value": "skip"}));
    }
    let (first, within) = skipped_row(api, "paused").await;
    for instant in [&first, &within] {
        let answer = why(api, "paused", instant).await;
        assert_eq!(
            (&answer["verdict"], &answer["policy"]["field"]),
            (&json!("skipped"), &json!("paused"))
        );
    }
    let soon = instant_text(std::time::Duration::from_secs(now().as_secs() + 60));
    assert_eq!(why(api, "paused", &soon).await["verdict"], "paused");

    let to_come = api.get("/v1/namespaces/default/tasks/yearly/why").await.ok();
    assert_eq!(
        (&to_come["verdict"], &to_come["range"]["holder"]),
        (&json!("upcoming"), &json!("a0"))
    );
    let none = why(api, "yearly", &soon.replace("Z", ".5Z")).await;
    assert_eq!((&none["verdict"], &none["next"]), (&json!("not_an_instant"), &to_come["at"]));

    let told = api.tock_json(&["task", "why", "ran", "--at", &ran]);
    let rest = why(api, "ran", &ran).await;
    for field in ["verdict", "explanation", "at", "due", "previous", "next", "policy", "run"] {
        assert_eq!(told[field], rest[field], "{field}");
    }
    let table = api.tock(&["task", "why", "long", "--at", &overlapped]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.starts_with("It was skipped: an earlier run"), "{table}");
    assert!(table.contains("VERDICT") && table.contains("overlap: skip"), "{table}");
}
