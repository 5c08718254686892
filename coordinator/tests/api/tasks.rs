use reqwest::Method;
use serde_json::{Value, json};
use tocktower_cluster::keys::Key;
use tocktower_core::ids::{PoolName, TaskName};

use crate::harness::{Api, Cluster, api, at, json_body, paths, task, until};

#[tokio::test]
async fn a_task_lives_from_create_to_delete() {
    let api = api().await;
    let created = api.create(&task("nightly")).await;
    assert_eq!(created.status.as_u16(), 201);
    let tag = created.header("etag").to_owned();
    let created = created.ok();
    assert_eq!(tag, format!("\"{}\"", created["revision"]));
    assert_eq!(created["state"], "active");
    assert_eq!(created["warnings"][0]["code"], "unknown_pool");

    let read = api.get(&at("nightly")).await;
    assert_eq!(read.header("etag"), tag);
    let read = read.ok();
    assert_eq!(read["schedules"][0]["every"], "1h");
    assert!(read["next_at"].is_string() && read["stale"].is_null());

    let mut changed = read.clone();
    changed["description"] = json!("every hour");
    let put = api.put(&at("nightly"), &changed).await;
    assert_eq!(put.status.as_u16(), 200);
    let put = put.ok();
    assert!(put["revision"].as_i64() > read["revision"].as_i64());
    assert_eq!(api.get(&at("nightly")).await.ok()["description"], "every hour");

    let deleted = api.delete(&at("nightly")).await;
    assert_eq!(deleted.status.as_u16(), 204);
    api.get(&at("nightly")).await.problem(404, "not_found");
    api.delete(&at("nightly")).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_name_that_is_taken_is_refused() {
    let api = api().await;
    api.create(&task("a")).await.ok();
    api.create(&task("a")).await.problem(409, "already_exists");
    let mut elsewhere = task("a");
    elsewhere["placement"] = json!({"pool": "other"});
    api.create(&elsewhere).await.problem(409, "already_exists");
}

#[tokio::test]
async fn a_task_without_a_name_gets_one() {
    let api = api().await;
    let mut nameless = task("x");
    nameless.as_object_mut().unwrap().remove("name");
    let first = api.create(&nameless).await.ok();
    let second = api.create(&nameless).await.ok();
    assert_ne!(first["name"], second["name"]);
    assert_eq!(first["name"].as_str().unwrap().len(), 26);
}

#[tokio::test]
async fn a_create_that_is_sent_again_gives_the_first_answer_again() {
    let api = api().await;
    let once = json!({"schedules": [{"at": "2099-01-01T00:00:00Z"}], "action": {"noop": {}}});
    let send = async |body: &serde_json::Value, key: &str| {
        let request = api.request(Method::POST, "/v1/namespaces/default/tasks");
        api.send(json_body(request.header("idempotency-key", key), body)).await
    };
    let mut answers = Vec::new();
    for _ in 0..3 {
        let reply = send(&once, "key-1").await;
        assert_eq!(reply.status.as_u16(), 201);
        answers.push(reply.ok());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let list = api.get("/v1/namespaces/default/tasks").await.ok();
    assert_eq!(list["items"].as_array().unwrap().len(), 1);

    send(&task("named"), "key-2").await.ok();
    send(&task("named"), "key-2").await.ok();
    send(&task("named"), "key-3").await.problem(409, "already_exists");
    send(&task("named"), "").await.problem(400, "invalid_request");
}

#[tokio::test]
async fn put_creates_replaces_and_minds_the_revision() {
    let api = api().await;
    let created = api.put(&at("a"), &task("a")).await;
    assert_eq!(created.status.as_u16(), 201);
    let first = created.ok()["revision"].as_i64().unwrap();
    let same = api.put(&at("a"), &task("a")).await.ok();
    assert_eq!(same["revision"].as_i64(), Some(first), "nothing to write");

    let mut changed = task("a");
    changed["priority"] = json!(5);
    let send = async |tag: String, body: &serde_json::Value| {
        api.send(json_body(api.request(Method::PUT, &at("a")).header("if-match", tag), body)).await
    };
    let second = send(format!("\"{first}\""), &changed).await.ok()["revision"].as_i64().unwrap();
    assert!(second > first);
    changed["priority"] = json!(6);
    send(first.to_string(), &changed).await.problem(412, "revision_conflict");
    send("many".to_owned(), &changed).await.problem(400, "invalid_request");
    let other = api.request(Method::PUT, &at("b")).header("if-match", "7");
    api.send(json_body(other, &task("b"))).await.problem(412, "revision_conflict");
    let wrong = api.put(&at("b"), &task("a")).await.problem(400, "invalid_task");
    assert_eq!(paths(&wrong), ["name"]);
}

#[tokio::test]
async fn put_minds_whether_there_must_be_a_task() {
    let cluster = Cluster::new();
    let (api, other) = (cluster.coordinator("c1").await, cluster.coordinator("c2").await);
    let send = async |api: &Api, header: &str, text: &str, body: &Value| {
        let request = api.request(Method::PUT, &at("a")).header(header, text);
        api.send(json_body(request, body)).await
    };
    for there_must_be in ["*", "5"] {
        let absent = send(&api, "if-match", there_must_be, &task("a")).await;
        let problem = absent.problem(412, "revision_conflict");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("there is no task default/a"), "{detail}");
    }
    let created = send(&api, "if-none-match", "*", &task("a")).await;
    assert_eq!(created.status.as_u16(), 201);
    let mut changed = task("a");
    changed["priority"] = json!(5);
    send(&api, "if-none-match", "*", &changed).await.problem(412, "revision_conflict");
    assert_eq!(api.get(&at("a")).await.ok()["priority"], 0);
    // Another coordinator may not have seen the task yet; the shared state has.
    let replaced = send(&other, "if-match", "*", &changed).await;
    assert_eq!((replaced.status.as_u16(), &replaced.body["priority"]), (200, &json!(5)));
    send(&api, "if-none-match", "\"5\"", &changed).await.problem(400, "invalid_request");
}

#[tokio::test]
async fn a_merge_patch_changes_what_it_names() {
    let api = api().await;
    let mut full = task("a");
    full["labels"] = json!({"team": "db", "tier": "1"});
    full["description"] = json!("old");
    api.create(&full).await.ok();
    let patch =
        json!({"labels": {"tier": null, "site": "b"}, "description": null, "timeout": "5m"});
    let patched = api.patch(&at("a"), &patch).await.ok();
    assert_eq!(patched["labels"], json!({"team": "db", "site": "b"}));
    assert_eq!((&patched["description"], &patched["timeout"]), (&json!(""), &json!("5m")));
    let wrong = api.patch(&at("a"), &json!({"timeout": "soon"})).await.problem(400, "invalid_task");
    assert_eq!(paths(&wrong), ["timeout"]);
    api.patch(&at("none"), &patch).await.problem(404, "not_found");
    api.patch(&at("a"), &json!([1])).await.problem(400, "invalid_task");
}

#[tokio::test]
async fn pausing_and_resuming_are_said_twice_without_harm() {
    let api = api().await;
    api.create(&task("a")).await.ok();
    let paused = api.post(&format!("{}/pause", at("a")), &json!({})).await.ok();
    assert_eq!((&paused["state"], &paused["next_at"]), (&json!("paused"), &json!(null)));
    let again = api.post(&format!("{}/pause", at("a")), &json!({})).await.ok();
    assert_eq!(again["revision"], paused["revision"]);
    let resumed = api.post(&format!("{}/resume", at("a")), &json!({})).await.ok();
    assert_eq!(resumed["state"], "active");
    api.post(&format!("{}/pause", at("none")), &json!({})).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_one_shot_whose_instant_has_come_is_not_changed() {
    let api = api().await;
    let now = json!({"name": "once", "schedules": [{"at": "2020-01-01T00:00:00Z"}],
        "action": {"noop": {}}, "catch_up": {"policy": "all", "window": "3650d"}});
    api.create(&now).await.ok();
    api.patch(&at("once"), &json!({"priority": 3})).await.problem(409, "already_due");
}

#[tokio::test]
async fn a_move_to_another_pool_is_said_and_keeps_the_name() {
    let api = api().await;
    api.create(&task("a")).await.ok();
    let to = |pool: &str| json!({"placement": {"pool": pool}});
    let moved = api.patch(&at("a"), &to("blue")).await.ok();
    assert_eq!(moved["moved"], true);
    assert_eq!(api.get(&at("a")).await.ok()["placement"]["pool"], "blue");
    api.create(&task("a")).await.problem(409, "already_exists");
    let back = api.patch(&at("a"), &to("default")).await.ok();
    assert_eq!(back["moved"], true);
    api.delete(&at("a")).await;
    api.create(&task("a")).await.ok();
}

#[tokio::test]
async fn a_task_is_pinned_to_an_agent_and_goes_from_place_to_place() {
    let api = api().await;
    let mut pinned = task("a");
    pinned["placement"] = json!({"agent": "web-1"});
    let made = api.create(&pinned).await.ok();
    assert_eq!(made["placement"], json!({"agent": "web-1"}));
    assert_eq!(made["warnings"][0]["code"], "unknown_agent");
    assert!(made["warnings"][0]["message"].as_str().unwrap().contains("no agent is called web-1"));
    api.create(&task("a")).await.problem(409, "already_exists");
    let listed = api.get("/v1/namespaces/default/tasks").await.ok();
    assert_eq!(listed["items"][0]["placement"], json!({"agent": "web-1"}));
    // An edit keeps its place, a trigger lies beside it.
    let edited = api.patch(&at("a"), &json!({"description": "x"})).await.ok();
    assert_eq!((&edited["moved"], &edited["placement"]), (&json!(null), &made["placement"]));
    api.post(&format!("{}/trigger", at("a")), &json!({})).await.ok();
    for (placement, shown) in [
        (json!({"agent": "web-2"}), json!({"agent": "web-2"})),
        (json!({"pool": "blue"}), json!({"pool": "blue"})),
        (json!({"agent": "web-1"}), json!({"agent": "web-1"})),
        (json!({"pool": "default"}), json!({"pool": "default"})),
    ] {
        let moved = api.patch(&at("a"), &json!({"placement": placement})).await.ok();
        assert_eq!((&moved["moved"], &moved["placement"]), (&json!(true), &shown));
        assert_eq!(api.get(&at("a")).await.ok()["placement"], shown);
        api.create(&pinned).await.problem(409, "already_exists");
    }
    assert_eq!(api.delete(&at("a")).await.status.as_u16(), 204);
    api.create(&pinned).await.ok();
    assert_eq!(api.delete(&at("a")).await.status.as_u16(), 204);
    api.get(&at("a")).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_placement_that_cannot_be_names_its_field() {
    let api = api().await;
    for (placement, path) in [
        (json!({"agent": "Web 1"}), "placement.agent"),
        (json!({"agent": "web-1", "pool": "default"}), "placement"),
        (json!({"agents": ["web-1"]}), "placement.agents"),
    ] {
        let mut wrong = task("a");
        wrong["placement"] = placement;
        assert_eq!(paths(&api.create(&wrong).await.problem(400, "invalid_task")), [path]);
    }
}

#[tokio::test]
async fn what_one_coordinator_writes_another_shows() {
    let cluster = Cluster::new();
    let (one, other) = (cluster.coordinator("c1").await, cluster.coordinator("c2").await);
    one.create(&task("a")).await.ok();
    until("the other coordinator has it", async || {
        other.get(&at("a")).await.status.is_success().then_some(())
    })
    .await;
    // It may be behind; its edit is not.
    let edit = other.patch(&at("a"), &json!({"priority": 1})).await.ok();
    let edit = one.patch(&at("a"), &json!({"description": edit["priority"].to_string()})).await;
    assert_eq!(edit.ok()["priority"], 1);
}

#[tokio::test]
async fn an_etag_that_is_known_saves_the_body() {
    let api = api().await;
    let tag = api.create(&task("a")).await.header("etag").to_owned();
    let known = |tag: &str| api.request(Method::GET, &at("a")).header("if-none-match", tag);
    let reply = api.send(known(&tag)).await;
    assert_eq!((reply.status.as_u16(), reply.header("etag")), (304, tag.as_str()));
    assert_eq!(api.send(known(&format!("W/{tag}"))).await.status.as_u16(), 304);
    assert_eq!(api.send(known("\"1\"")).await.status.as_u16(), 200);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_shown_and_can_be_deleted() {
    let cluster = Cluster::new();
    let api = cluster.coordinator("c1").await;
    api.create(&task("good")).await.ok();
    let (pool, name) =
        (PoolName::parse("default").unwrap(), TaskName::parse("default/bad").unwrap());
    cluster.put(cluster.keys().build(&Key::Task(pool.into(), name)), vec![9, 9, 9]).await;
    let bad = until("it is in the catalog", async || {
        let reply = api.get(&at("bad")).await;
        reply.status.is_success().then_some(reply.body)
    })
    .await;
    assert_eq!(bad["state"], "unreadable");
    assert!(bad["error"].as_str().unwrap().contains("format 9"), "{bad}");
    let list = api.get("/v1/namespaces/default/tasks").await.ok();
    let states: Vec<&str> =
        list["items"].as_array().unwrap().iter().map(|t| t["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["unreadable", "active"]);
    let only = api.get("/v1/namespaces/-/tasks?state=unreadable").await.ok();
    assert_eq!(only["items"].as_array().unwrap().len(), 1);
    api.patch(&at("bad"), &json!({"priority": 1})).await.problem(500, "unreadable");
    assert_eq!(api.delete(&at("bad")).await.status.as_u16(), 204);
    api.get(&at("bad")).await.problem(404, "not_found");
}

#[tokio::test]
async fn upcoming_and_preview_tell_instants_and_a_reading() {
    let api = api().await;
    let cron = json!({"cron": "30 2 * * *", "time_zone": "Europe/Berlin"});
    let mut nightly = task("nightly");
    nightly["schedules"] = json!([cron]);
    api.create(&nightly).await.ok();
    let path = format!("{}/upcoming?count=2&after=2099-03-28T00:00:00Z", at("nightly"));
    let upcoming = api.get(&path).await.ok();
    assert_eq!(upcoming["description"], "At 02:30 every day, Europe/Berlin");
    assert_eq!(upcoming["instants"][0], "2099-03-28T02:30:00+01:00");
    let ask = json!({"schedules": [cron], "after": "2099-03-28T00:00:00Z", "count": 3});
    let preview = api.post("/v1/schedules/preview", &ask).await.ok();
    assert_eq!(preview["instants"].as_array().unwrap().len(), 3);
    assert_eq!(preview["warnings"][0]["code"], "dst_gap");
    let wrong = json!({"schedules": [{"cron": "61 * * * *"}], "count": 0});
    let wrong = api.post("/v1/schedules/preview", &wrong).await.problem(400, "invalid_request");
    assert_eq!(paths(&wrong), ["schedules[0].cron"]);
    let none = api.post("/v1/schedules/preview", &json!({})).await.problem(400, "invalid_request");
    assert_eq!(paths(&none), ["schedules"]);
    let many = json!({"schedules": [cron], "count": 2000});
    let many = api.post("/v1/schedules/preview", &many).await.problem(400, "invalid_request");
    assert_eq!(many["errors"][0]["message"], "2000; allowed is 1 to 1000");
    let path = format!("{}/upcoming?count=5000", at("nightly"));
    assert_eq!(paths(&api.get(&path).await.problem(400, "invalid_request")), ["count"]);
}

#[tokio::test]
async fn schedules_that_nobody_has_decided_cannot_be_replaced_for_ever() {
    // There is no agent, so no ledger ever covers an instant.
    let api = api().await;
    let phases = |count: u32| -> Vec<Value> {
        (0..count).map(|part| json!({"every": "1s", "phase": format!("{}ms", part * 50)})).collect()
    };
    let mut dense = task("dense");
    dense["schedules"] = json!(phases(20));
    api.create(&dense).await.ok();
    let mut edits = 0;
    let refused = loop {
        let patch = json!({"schedules": phases(19 + edits % 2)});
        let answer = api.patch(&at("dense"), &patch).await;
        if answer.status.as_u16() != 200 {
            break answer;
        }
        edits += 1;
        assert!(edits < 10_000, "it is never refused");
    };
    assert_eq!(refused.header("retry-after"), "1");
    let problem = refused.problem(429, "rate_limited");
    assert!(problem["detail"].as_str().unwrap().contains("agent of its pool"), "{problem}");
    assert!(edits >= 8);
    // What leaves the instants alone is still taken.
    api.patch(&at("dense"), &json!({"description": "other words"})).await.ok();
}
