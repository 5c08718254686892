use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{api, at, client, json_body, paths, task};

#[tokio::test]
async fn every_mistake_of_a_task_is_reported_with_its_path() {
    let api = api().await;
    let wrong = json!({
        "name": "a", "schedules": [{"cron": "61 * * * *"}], "delivery": "at_most_once",
        "timeout": "soon", "retry": {"max_attempts": 1000}, "action": {"noop": {}},
    });
    let problem = api.create(&wrong).await.problem(400, "invalid_task");
    let mut paths = paths(&problem);
    paths.sort();
    assert_eq!(paths, ["delivery", "retry.max_attempts", "schedules[0].cron", "timeout"]);
    assert!(problem["detail"].is_string() && problem["title"].is_string());
}

#[tokio::test]
async fn a_body_that_is_no_json_is_told_where_it_breaks() {
    let api = api().await;
    let send = |text: &'static str, kind: &'static str| {
        let request = api.request(Method::POST, "/v1/namespaces/default/tasks");
        request.header("content-type", kind).body(text)
    };
    let problem = api.send(send("{\"name\": ", "application/json")).await;
    let problem = problem.problem(400, "invalid_request");
    assert!(problem["errors"][0]["message"].as_str().unwrap().contains("line 1"), "{problem}");
    api.send(send("", "application/json")).await.problem(400, "invalid_request");
    api.send(send("a: b", "application/yaml")).await.problem(415, "unsupported_media_type");
}

#[tokio::test]
async fn methods_that_nobody_knows_share_one_series() {
    let api = api().await;
    for n in 0..20 {
        let method = Method::from_bytes(format!("METHOD{n}").as_bytes()).unwrap();
        api.send(api.request(method, "/v1/agents")).await.problem(405, "method_not_allowed");
    }
    let metrics = api.get("/metrics").await.ok();
    let metrics = metrics.as_str().unwrap();
    let series = metrics.lines().filter(|line| line.contains("route=\"/v1/agents\",method="));
    let series: Vec<&str> = series.collect();
    assert_eq!(series.len(), 1, "{series:?}");
    assert!(series[0].contains("method=\"other\"") && series[0].ends_with(" 20"), "{series:?}");
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused() {
    let api = api().await;
    let mut big = task("big");
    big["description"] = Value::String("x".repeat(17 * 1_024 * 1_024));
    api.create(&big).await.problem(413, "too_large");
    let mut record = task("record");
    let line = "x".repeat(60_000);
    record["action"] = json!({"command": {"shell": line, "stdin": "y".repeat(10_000)}});
    api.create(&record).await.problem(413, "too_large");
}

#[tokio::test]
async fn what_does_not_exist_is_a_problem_like_all_others() {
    let api = api().await;
    api.get("/v1/nothing").await.problem(404, "not_found");
    let reply = api.delete("/v1/agents").await;
    assert!(reply.header("allow").contains("GET"), "{reply:?}");
    reply.problem(405, "method_not_allowed");
    let head = api.send(api.request(Method::HEAD, "/v1/nothing")).await;
    assert_eq!((head.status.as_u16(), head.body), (404, json!("")));
    api.create(&task("a")).await.ok();
    let head = api.send(api.request(Method::HEAD, &at("a"))).await;
    assert_eq!(head.status.as_u16(), 200);
    assert!(!head.header("etag").is_empty());
    api.get("/v1/namespaces/default/tasks/%FF").await.problem(400, "invalid_request");
}

#[tokio::test]
async fn answers_are_compressed_when_asked_for() {
    let api = api().await;
    let tasks: Vec<Value> = (0..100).map(|n| task(&format!("t{n}"))).collect();
    api.post("/v1/tasks/batch", &json!({"tasks": tasks})).await.ok();
    let plain = client(reqwest::Client::builder().no_gzip().no_zstd());
    for encoding in ["zstd", "gzip"] {
        let request = plain.get(api.url("/v1/namespaces/-/tasks"));
        let reply = request.header("accept-encoding", encoding).send().await.unwrap();
        assert_eq!(reply.headers()["content-encoding"], encoding);
        assert!(reply.bytes().await.unwrap().len() < 10_000);
    }
    let whole = api.get("/v1/namespaces/-/tasks").await.ok();
    assert_eq!(whole["items"].as_array().unwrap().len(), 100);
}

#[tokio::test]
async fn a_person_and_a_machine_find_what_they_look_for() {
    let api = api().await;
    let index = api.get("/").await;
    assert!(index.body.as_str().unwrap().contains("Tocktower"));
    assert_eq!(api.get("/healthz").await.status.as_u16(), 200);
    assert_eq!(api.get("/readyz").await.status.as_u16(), 200);
    api.create(&task("a")).await.ok();
    let metrics = api.get("/metrics").await;
    let text = metrics.body.as_str().unwrap();
    for line in [
        "tocktower_coordinator_tasks_created_total 1",
        "tocktower_coordinator_requests_total{route=\"/v1/namespaces/{namespace}/tasks\",\
         method=\"POST\",code=\"201\"} 1",
        "tocktower_coordinator_commit_creates_sum 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let openapi = api.get("/v1/openapi.json").await.ok();
    assert!(openapi["openapi"].as_str().unwrap().starts_with("3.1"));
    assert!(openapi["paths"]["/v1/namespaces/{namespace}/tasks"]["post"].is_object());
}

#[tokio::test]
async fn unknown_fields_and_parameters_are_refused_by_name() {
    let api = api().await;
    let mut unknown = task("a");
    unknown["shedules"] = json!([]);
    let problem = api.create(&unknown).await.problem(400, "invalid_task");
    assert_eq!(paths(&problem), ["shedules"]);
    let request = api.request(Method::POST, "/v1/namespaces/default/tasks?dry_run=true");
    let problem = api.send(json_body(request, &task("a"))).await.problem(400, "invalid_request");
    assert_eq!(paths(&problem), ["dry_run"]);
}
