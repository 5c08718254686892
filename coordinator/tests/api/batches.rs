use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{api, at, json_body, task};

fn numbered(count: usize) -> Vec<Value> {
    (0..count).map(|n| task(&format!("t{n:05}"))).collect()
}

fn statuses(body: &Value) -> Vec<&str> {
    let results = body["results"].as_array().unwrap();
    results.iter().map(|result| result["status"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn each_task_of_a_batch_is_accepted_or_refused_by_itself() {
    let api = api().await;
    api.create(&task("taken")).await.ok();
    let mut unknown = task("unknown");
    unknown["delivery"] = json!("at_most_once");
    let tasks = json!({"tasks": [
        task("a"), task("taken"), {"name": "BAD"}, unknown, task("a"), task("b"), 7,
    ]});
    let body = api.post("/v1/tasks/batch", &tasks).await.ok();
    assert_eq!(
        statuses(&body),
        ["created", "error", "error", "error", "error", "created", "error"]
    );
    let codes: Vec<&str> = body["results"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|result| result["error"]["code"].as_str())
        .collect();
    let refused = "invalid_task";
    assert_eq!(codes, ["already_exists", refused, refused, "already_exists", refused]);
    assert_eq!(body["results"][3]["error"]["errors"][0]["path"], "delivery");
    assert_eq!(body["results"][0]["name"], "a");
    api.get(&at("b")).await.ok();
}

#[tokio::test]
async fn a_batch_that_is_sent_again_gives_the_same_results() {
    let api = api().await;
    let tasks = json!({"tasks": numbered(500)});
    let send = async || {
        let request = api.request(Method::POST, "/v1/tasks/batch").header("idempotency-key", "k");
        api.send(json_body(request, &tasks)).await.ok()
    };
    let first = send().await;
    assert!(statuses(&first).iter().all(|status| *status == "created"));
    assert_eq!(send().await, first);
    let again = api.post("/v1/tasks/batch", &tasks).await.ok();
    assert!(statuses(&again).iter().all(|status| *status == "error"));
}

#[tokio::test]
async fn a_batch_has_a_bound() {
    let api = api().await;
    let tiny: Vec<Value> = (0..10_001).map(|_| json!({})).collect();
    api.post("/v1/tasks/batch", &json!({"tasks": tiny})).await.problem(413, "too_large");
    api.post("/v1/tasks/batch", &json!({"task": []})).await.problem(400, "invalid_request");
}

#[tokio::test]
async fn lines_may_be_any_number_and_may_be_wrong() {
    let api = api().await;
    let mut text: String = numbered(5_000).iter().map(|task| format!("{task}\n")).collect();
    text.push_str("this is no JSON\n\n");
    text.push_str(&task("last").to_string());
    let request = api.request(Method::POST, "/v1/tasks/batch");
    let request = request.header("content-type", "application/x-ndjson").body(text);
    let body = api.send(request).await.ok();
    let statuses = statuses(&body);
    assert_eq!(statuses.len(), 5_002);
    assert_eq!(
        (statuses[4_999], statuses[5_000], statuses[5_001]),
        ("created", "error", "created")
    );
    let page = api.get("/v1/namespaces/default/tasks?limit=1000").await.ok();
    assert_eq!(page["items"].as_array().unwrap().len(), 1_000);
}
