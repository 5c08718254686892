use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{api, at, client, json_body, paths, task};

#[tokio::test]
async fn every_mistake_of_a_task_is_reported_with_its_path() {
    let api = api().await;
    let wrong = json!({
        "name": "a", "schedules": [{"cron": "61 * * * *"}], "delivery": "exactly_once",
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
async fn mistakes_beyond_the_bound_are_counted_and_what_was_given_is_told_in_part() {
    let api = api().await;
    // Each of the schedules, and the action that is missing.
    let many = json!({"name": "a", "schedules": vec![json!({}); 50_000]});
    let problem = api.create(&many).await.problem(400, "invalid_task");
    let errors = problem["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 51);
    assert_eq!(errors[50], json!({"path": "", "message": "and 49951 more"}));
    let mut long = task("a");
    long["timeout"] = Value::String("x".repeat(1_000_000));
    let problem = api.create(&long).await.problem(400, "invalid_task");
    assert!(problem.to_string().len() < 2_000);
    let values = json!({"name": "a", "labels": vec![1; 200_000]});
    let problem = api.create(&values).await.problem(400, "invalid_request");
    assert!(problem["errors"][0]["message"].as_str().unwrap().contains("100000 values"));
}

#[tokio::test]
async fn nothing_is_taken_and_ignored() {
    let api = api().await;
    api.create(&task("a")).await.ok();
    let send = |method: Method, path: &str, text: &str| {
        let request = api.request(method, path);
        api.send(request.header("content-type", "application/json").body(text.to_owned()))
    };
    let patch = r#"{"state": "paused", "revision": 1, "priority": "x"}"#;
    let problem = send(Method::PATCH, &at("a"), patch).await.problem(400, "invalid_task");
    assert_eq!(paths(&problem), ["revision", "state", "priority"]);
    let create = r#"{"name": "b", "state": "paused", "schedules": [{"every": "1h"}],
        "action": {"noop": {}}}"#;
    let tasks = "/v1/namespaces/default/tasks";
    let problem = send(Method::POST, tasks, create).await.problem(400, "invalid_task");
    assert_eq!(paths(&problem), ["state"]);
    let twice = r#"{"name": "dup1", "name": "dup2", "schedules": [{"every": "1h"}],
        "action": {"noop": {}}}"#;
    let problem = send(Method::POST, tasks, twice).await.problem(400, "invalid_request");
    assert_eq!(paths(&problem), ["name"]);
    let problem = send(Method::PATCH, &at("a"), r#"{"retry": {"factor": 2, "factor": 3}}"#).await;
    assert_eq!(paths(&problem.problem(400, "invalid_request")), ["retry.factor"]);
    for call in ["pause", "resume"] {
        let path = format!("{}/{call}", at("a"));
        let problem = send(Method::POST, &path, r#"{"bogus": 1}"#).await;
        assert_eq!(paths(&problem.problem(400, "invalid_request")), ["bogus"]);
        send(Method::POST, &path, "").await.ok();
        api.send(api.request(Method::POST, &path)).await.ok();
    }
    let problem = send(Method::DELETE, &at("a"), "[1]").await.problem(400, "invalid_request");
    assert_eq!(paths(&problem), [""]);
    assert_eq!(api.get(&at("a")).await.ok()["state"], "active");
}

#[tokio::test]
async fn a_list_does_not_pass_for_an_object() {
    let api = api().await;
    let lists = json!({
        "name": "a", "retry": [3, "2s"], "placement": ["edge"], "action": {"noop": []},
        "schedules": [[null, "* * * * *"]],
    });
    let problem = api.create(&lists).await.problem(400, "invalid_task");
    let mut paths = paths(&problem);
    paths.sort();
    assert_eq!(paths, ["action.noop", "placement", "retry", "schedules[0]"]);
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
