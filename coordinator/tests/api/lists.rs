use serde_json::{Value, json};
use tocktower_cluster::keys::Key;
use tocktower_core::ids::{PoolName, RangeId};
use tocktower_proto::convert::encode_record;
use tocktower_proto::store;

use crate::harness::{Api, Cluster, api, at, paths, task, until};

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

async fn filled() -> Api {
    let api = api().await;
    for (namespace, name, team) in
        [("a", "x1", "db"), ("a", "x2", "web"), ("a", "y1", "db"), ("b", "x1", "db")]
    {
        let mut task = task(name);
        task["labels"] = json!({"team": team});
        task["description"] = json!(format!("Backs up {name}"));
        api.post(&format!("/v1/namespaces/{namespace}/tasks"), &task).await.ok();
    }
    api.post("/v1/namespaces/a/tasks/x2/pause", &json!({})).await.ok();
    api
}

#[tokio::test]
async fn filters_narrow_a_list() {
    let api = filled().await;
    for (query, expected) in [
        ("/v1/namespaces/a/tasks", vec!["x1", "x2", "y1"]),
        ("/v1/namespaces/-/tasks", vec!["x1", "x2", "y1", "x1"]),
        ("/v1/namespaces/a/tasks?prefix=x", vec!["x1", "x2"]),
        ("/v1/namespaces/-/tasks?prefix=x", vec!["x1", "x2", "x1"]),
        ("/v1/namespaces/a/tasks?label=team=db", vec!["x1", "y1"]),
        ("/v1/namespaces/a/tasks?state=paused", vec!["x2"]),
        ("/v1/namespaces/a/tasks?state=active,paused", vec!["x1", "x2", "y1"]),
        ("/v1/namespaces/-/tasks?search=BACKS+UP+Y", vec!["y1"]),
        ("/v1/namespaces/-/tasks?search=x1&label=team=web", vec![]),
        ("/v1/namespaces/none/tasks", vec![]),
    ] {
        let list = api.get(query).await.ok();
        assert_eq!(names(&list), expected, "{query}");
        assert_eq!(list["next_cursor"], Value::Null, "{query}");
    }
}

#[tokio::test]
async fn wrong_parameters_are_refused_by_name() {
    let api = filled().await;
    for (query, name) in [
        ("lable=team=db", "lable"),
        ("label=team", "label"),
        ("state=done", "state"),
        ("limit=0", "limit"),
        ("limit=many", "limit"),
        ("limit=1001", "limit"),
        ("cursor=xyz", "cursor"),
        ("view=most", "view"),
        ("prefix=a&prefix=b", "prefix"),
    ] {
        let reply = api.get(&format!("/v1/namespaces/a/tasks?{query}")).await;
        assert_eq!(paths(&reply.problem(400, "invalid_request")), [name], "{query}");
    }
    api.get("/v1/namespaces/A/tasks").await.problem(400, "invalid_request");
}

#[tokio::test]
async fn pages_are_stable_while_tasks_come_and_go() {
    let api = api().await;
    let tasks: Vec<Value> = (0..50).map(|n| task(&format!("t{:02}", n * 2))).collect();
    api.post("/v1/tasks/batch", &json!({"tasks": tasks})).await.ok();
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/namespaces/default/tasks?limit=10{cursor}");
        let page = api.get(&path).await.ok();
        seen.extend(names(&page));
        // Behind the page and ahead of it.
        api.create(&task(&format!("s{}", seen.len()))).await.ok();
        api.delete(&at(seen.first().unwrap())).await;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let expected: Vec<String> = (0..50).map(|n| format!("t{:02}", n * 2)).collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_list_leaves_out_what_may_be_large() {
    let api = api().await;
    let mut big = task("big");
    big["action"] = json!({"command": {"argv": ["/bin/cat"], "env": {"A": "b"}, "stdin": "text"}});
    api.create(&big).await.ok();
    let basic = api.get("/v1/namespaces/default/tasks").await.ok();
    assert_eq!(basic["items"][0]["action"]["command"]["stdin"], Value::Null);
    let full = api.get("/v1/namespaces/default/tasks?view=full").await.ok();
    assert_eq!(full["items"][0]["action"]["command"]["stdin"], "text");
    let one = api.get(&at("big")).await.ok();
    assert_eq!(one["action"]["command"]["env"], json!({"A": "b"}));
}

#[tokio::test]
async fn a_list_of_more_tasks_than_one_look_holds_is_whole() {
    let api = api().await;
    let tasks: Vec<Value> = (0..3_500)
        .map(|n| {
            let mut task = task(&format!("t{n:04}"));
            task["labels"] = json!({"kind": if n % 1_000 == 999 { "rare" } else { "common" }});
            task
        })
        .collect();
    api.post("/v1/tasks/batch", &json!({"tasks": tasks})).await.ok();
    let rare = api.get("/v1/namespaces/default/tasks?label=kind=rare").await.ok();
    assert_eq!(names(&rare), ["t0999", "t1999", "t2999"]);
    let rare = api.get("/v1/namespaces/default/tasks?label=kind=rare&limit=2").await.ok();
    assert_eq!(names(&rare), ["t0999", "t1999"]);
    let rest = format!("&cursor={}", rare["next_cursor"].as_str().unwrap());
    let path = format!("/v1/namespaces/default/tasks?label=kind=rare&limit=2{rest}");
    assert_eq!(names(&api.get(&path).await.ok()), ["t2999"]);
}

#[tokio::test]
async fn a_range_of_which_nothing_is_done_yet_says_no_time() {
    let cluster = Cluster::new();
    let api = cluster.coordinator("c1").await;
    api.create(&task("a")).await.ok();
    let pool = PoolName::parse("default").unwrap();
    for (range, through_ms) in [(0, 0), (1, 1_790_000_000_000)] {
        let ledger = store::LedgerRecord { through_ms, ..store::LedgerRecord::default() };
        let key = cluster.keys().build(&Key::Ledger(pool.clone(), RangeId(range)));
        cluster.put(key, encode_record(&ledger)).await;
    }
    let ranges = until("the second ledger is seen", async || {
        let ranges = api.get("/v1/ranges?limit=2").await.ok();
        ranges["items"][1]["ledger_through"].is_string().then_some(ranges)
    })
    .await;
    assert_eq!(ranges["items"][1]["ledger_through"], "2026-09-21T14:13:20Z");
    assert_eq!(ranges["items"][0]["ledger_through"], Value::Null);
}
