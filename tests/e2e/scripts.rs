//! What scripts do that is easy to get wrong: send a request again, import twice, follow a run.

use std::path::Path;
use std::time::{Duration, Instant};

use futures::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::api::{Api, instant_text, now, send};
use crate::support::fleet::Fleet;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, beside_others, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_create_sent_three_times_under_one_key_is_one_run() {
    let _turn = beside_others().await;
    let fleet = Fleet::start(1, 1).await;
    let witness = Witness::start().await;
    let body = json!({
        "name": "once",
        "schedules": [{"at": instant_text(now() + Duration::from_millis(1_500))}],
        "action": {"http": {"method": "GET", "url": witness.url}},
    });
    let create = async || {
        let request = fleet.api().request(Method::POST, "/v1/namespaces/default/tasks");
        let request = request.header("Idempotency-Key", "the-same").json(&body);
        send(request).await.expect("an answer")
    };
    let first = create().await;
    assert_eq!(first.status, 201, "{first:?}");
    let second = create().await;
    assert!(second.status < 300, "{second:?}");
    assert_eq!(second.json()["revision"], first.json()["revision"], "the first answer again");

    fleet.api().ended_runs("once", 1).await;
    until("the one-shot has left the list", PATIENCE, async || {
        let list = fleet.api().get("/v1/namespaces/default/tasks").await.ok();
        if list["items"] == json!([]) { Ok(()) } else { Err(list) }
    })
    .await;
    let third = create().await;
    assert!(third.status < 300, "{third:?}");
    let runs = fleet.api().ended_runs("once", 2).await;
    let of = |state: &str| runs.iter().filter(|run| run["state"] == state).collect::<Vec<_>>();
    let (ran, skipped) = (of("succeeded"), of("skipped"));
    assert_eq!((ran.len(), skipped.len()), (1, 1), "{runs:?}");
    let id = ran[0]["run_id"].as_str().expect("an id");
    assert_eq!(skipped[0]["reason"], format!("duplicate_of {id}"), "{:?}", skipped[0]);
    let calls = witness.calls();
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert!(calls.values().all(|times| times.len() == 1), "{calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crontab_that_is_imported_twice_changes_nothing_the_second_time() {
    let _turn = beside_others().await;
    let fleet = Fleet::start(1, 2).await;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/crontabs/user-backups.crontab");
    let file = file.display().to_string();
    let import = ["import", "crontab", "--zone", "Europe/Berlin", &file];
    let first = fleet.api().tock_json(&import);
    assert_eq!((&first["created"], &first["failed"]), (&json!(16), &json!(0)), "{first}");
    let tasks = async |api: &Api| api.get("/v1/namespaces/-/tasks?view=full").await.ok();
    let before = tasks(fleet.api()).await;
    assert_eq!(before["items"].as_array().map(Vec::len), Some(16));

    let second = fleet.coordinators[1].api.tock_json(&import);
    let counts = (&second["created"], &second["changed"], &second["unchanged"]);
    assert_eq!(counts, (&json!(0), &json!(0), &json!(16)), "{second}");
    // Revisions, too.
    assert_eq!(tasks(fleet.api()).await["items"], before["items"]);
}

struct Feed(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Feed {
    async fn open(api: &Api, query: &str) -> Feed {
        let url = format!("{}/v1/watch{query}", api.base).replace("http://", "ws://");
        Feed(connect_async(url).await.expect("a socket").0)
    }

    async fn next(&mut self) -> Value {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await;
            let message = message.expect("in time").expect("an open socket").expect("a message");
            if let Message::Text(text) = message {
                return serde_json::from_str(&text).expect("JSON");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_gives_a_snapshot_and_then_each_change_within_a_second() {
    let _turn = beside_others().await;
    let fleet = Fleet::start(1, 1).await;
    let line = json!({"argv": ["sleep", "0.3"]});
    let body = json!({"schedules": [{"every": "1h"}], "action": {"command": line}});
    let task = "/v1/namespaces/default/tasks/watched";
    fleet.api().put(task, &body).await.ok();
    let mut feed = Feed::open(fleet.api(), "?namespace=default&task=watched&kinds=run").await;
    loop {
        let page = feed.next().await;
        assert_eq!(page["type"], "snapshot", "{page}");
        if page["last"] == true {
            break;
        }
    }
    let asked = Instant::now();
    let triggered = fleet.api().post(&format!("{task}/trigger"), &json!({})).await.ok();
    let run_id = triggered["run_id"].clone();
    let mut seq = 0;
    let mut states = Vec::new();
    loop {
        let event = feed.next().await;
        assert_eq!((&event["type"], &event["kind"]), (&json!("event"), &json!("run")), "{event}");
        let number = event["seq"].as_u64().expect("a number");
        assert_eq!(number, seq + 1, "no gap: {event}");
        seq = number;
        let run = &event["run"];
        assert_eq!(run["run_id"], run_id, "{event}");
        let mut state = run["state"].as_str().unwrap_or_default().to_owned();
        if run["state"] == "succeeded" && run["provisional"] != true {
            assert!(states.iter().any(|(seen, _)| *seen == state), "told at once: {states:?}");
            state = "settled".to_owned();
        }
        states.push((state, asked.elapsed()));
        if states.last().is_some_and(|(state, _)| state == "settled") {
            break;
        }
    }
    println!("a trigger and what was seen of it: {states:?}");
    let when = |state: &str| states.iter().find(|(seen, _)| seen == state).map(|(_, at)| *at);
    let (running, ended) = (when("running").expect("it ran"), when("succeeded").expect("ended"));
    let settled = when("settled").expect("settled");
    assert!(running < Duration::from_secs(1), "{states:?}");
    assert!(ended < Duration::from_millis(300) + Duration::from_secs(1), "{states:?}");
    assert!(settled < ended + Duration::from_secs(5), "{states:?}");
    let (_, part) = run_id.as_str().and_then(|id| id.split_once('@')).expect("an id");
    let run = fleet.api().get(&format!("{task}/runs/{part}")).await.ok();
    assert_eq!((&run["state"], &run["provisional"]), (&json!("succeeded"), &json!(false)));
}
