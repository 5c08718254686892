use std::sync::atomic::Ordering;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Api, Cluster, api, at, json_body, task};

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
    unknown["notify"] = json!(["ops"]);
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
    assert_eq!(body["results"][3]["error"]["errors"][0]["path"], "notify");
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
    let numbers = json!({"tasks": vec![1; 500_000]});
    let problem = api.post("/v1/tasks/batch", &numbers).await.problem(413, "too_large");
    assert!(problem["detail"].as_str().unwrap().contains("500000 tasks"), "{problem}");
}

#[tokio::test]
async fn the_mistakes_of_a_batch_have_a_bound_and_each_task_is_told_its_first() {
    let api = api().await;
    let wrong = json!({"name": "a", "schedules": vec![json!({"x": 1}); 60]});
    let body = api.post("/v1/tasks/batch", &json!({"tasks": vec![wrong; 200]})).await.ok();
    let told = |at: usize| body["results"][at]["error"]["errors"].as_array().unwrap().clone();
    assert_eq!(told(0).len(), 51, "{}", body["results"][0]);
    assert_eq!(told(0)[50]["message"], "and 10 more");
    assert_eq!(told(199).len(), 2, "{}", body["results"][199]);
    assert_eq!(told(199)[1]["message"], "and 59 more");
    let all: usize = (0..200).map(|at| told(at).len()).sum();
    assert!(all <= 1_000 + 2 * 200, "{all}");
}

#[tokio::test]
async fn a_field_that_is_twice_in_a_task_spoils_that_task_only() {
    let api = api().await;
    let twice = task("b").to_string().replacen('{', "{\"name\": \"c\", ", 1);
    let text = format!("{{\"tasks\": [{}, {twice}]}}", task("a"));
    let request = api.request(Method::POST, "/v1/tasks/batch");
    let request = request.header("content-type", "application/json").body(text);
    let body = api.send(request).await.ok();
    assert_eq!(statuses(&body), ["created", "error"]);
    assert_eq!(body["results"][1]["error"]["errors"][0]["path"], "name");
}

#[tokio::test]
async fn a_batch_that_the_shared_state_takes_nothing_of_is_refused_as_a_single_create_is() {
    let cluster = Cluster::new();
    let api = cluster.coordinator("c1").await;
    cluster.cut.store(true, Ordering::SeqCst);
    let refused = api.post("/v1/tasks/batch", &json!({"tasks": numbered(300)})).await;
    assert_eq!(refused.header("retry-after"), "1");
    refused.problem(503, "store_unavailable");
    let lines: String = numbered(300).iter().map(|task| format!("{task}\n")).collect();
    let request = api.request(Method::POST, "/v1/tasks/batch");
    let request = request.header("content-type", "application/x-ndjson").body(lines);
    api.send(request).await.problem(503, "store_unavailable");
    // One of them failed by itself: each is told what became of it.
    let mixed = json!({"tasks": [task("a"), {"name": "BAD"}]});
    let body = api.post("/v1/tasks/batch", &mixed).await.ok();
    assert_eq!(statuses(&body), ["error", "error"]);
    assert_eq!(body["results"][0]["error"]["code"], "store_unavailable");

    cluster.cut.store(false, Ordering::SeqCst);
    let body = api.post("/v1/tasks/batch", &json!({"tasks": numbered(300)})).await.ok();
    assert!(statuses(&body).iter().all(|status| *status == "created"));
}

/// What the server answers to lines whose upload breaks off after `whole` of them.
async fn broken_off_after(api: &Api, whole: usize) -> String {
    let mut stream = TcpStream::connect(api.running.local_addr()).await.unwrap();
    let head = "POST /v1/tasks/batch HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
        content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut lines: String = numbered(whole).iter().map(|task| format!("{task}\n")).collect();
    lines.push_str("{\"name\": \"half\"");
    let chunk = format!("{:x}\r\n{lines}\r\n", lines.len());
    stream.write_all(chunk.as_bytes()).await.unwrap();
    // No length of a chunk: the body cannot be read from here on.
    stream.write_all(b"zz\r\n").await.unwrap();
    let mut answer = Vec::new();
    // The server may reset a connection that it cannot read on.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn lines_that_break_off_are_not_answered_as_if_they_were_all() {
    let api = api().await;
    let short = broken_off_after(&api, 10).await;
    assert!(short.starts_with("HTTP/1.1 400"), "{short}");
    assert!(short.contains("broke off"), "{short}");
    api.get(&at("t00000")).await.problem(404, "not_found");

    // Past the first piece the response has begun, and can only break off as well.
    let long = broken_off_after(&api, 5_000).await;
    assert!(long.starts_with("HTTP/1.1 200"), "{}", &long[..200]);
    // What was created is told as far as the connection still carried it.
    let told = long.matches("\"created\"").count();
    assert!((2_000..=4_000).contains(&told), "{told}");
    assert!(!long.ends_with("0\r\n\r\n"), "it must not end as a whole response does");
    api.get(&at("t03999")).await.ok();
    api.get(&at("t04000")).await.problem(404, "not_found");
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
