//! A coordinator whose copy is behind: what others have changed through another coordinator counts
//! all the same.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use tocktower_cluster::keys::Key;
use tocktower_coordinator::Pace;
use tocktower_core::ids::{PoolName, TaskName};

use crate::harness::{Api, Cluster, CutPort, Lost, at, json_body, task};
use crate::watch::open;

/// Two coordinators of one cluster. The copy of the second one misses the next change of each task
/// in `pools` that is named, and does not find out in the time of a test.
async fn two(names: &[&str], pools: &[&str]) -> (Api, Api) {
    let cluster = Cluster::new();
    let lost = Lost::default();
    let keys = cluster.keys();
    let one = cluster.coordinator("c1").await;
    for name in names {
        one.create(&described(name, "first")).await.ok();
    }
    let port = CutPort {
        inner: cluster.store.clone(),
        cut: cluster.cut.clone(),
        back: cluster.back.clone(),
        lost: lost.clone(),
        hangs: cluster.hangs.clone(),
    };
    let two = Api::on(Arc::new(port), "c2", Pace::default()).await;
    for name in names {
        let name = TaskName::parse(&format!("default/{name}")).unwrap();
        for pool in pools {
            let pool = PoolName::parse(pool).unwrap();
            lost.lock().unwrap().insert(keys.build(&Key::Task(pool.into(), name.clone())));
        }
    }
    (one, two)
}

fn described(name: &str, text: &str) -> Value {
    let mut task = task(name);
    task["description"] = json!(text);
    task
}

async fn edit(api: &Api, name: &str, text: &str) -> i64 {
    let written = api.put(&at(name), &described(name, text)).await.ok();
    revision(&written)
}

fn revision(task: &Value) -> i64 {
    task["revision"].as_i64().unwrap_or_else(|| panic!("{task}"))
}

/// What the copy of a coordinator shows: pages are of it.
async fn copied(api: &Api, name: &str) -> Value {
    let page = api.get(&format!("/v1/namespaces/default/tasks?prefix={name}&view=full")).await;
    page.ok()["items"][0].clone()
}

#[tokio::test]
async fn a_task_is_read_as_it_is_whatever_the_copy_says() {
    let (one, two) = two(&["edited", "deleted", "again"], &["default"]).await;
    let was = revision(&two.get(&at("edited")).await.ok());
    let is = edit(&one, "edited", "second").await;
    one.delete(&at("deleted")).await.ok();
    one.create(&task("created")).await.ok();
    one.delete(&at("again")).await.ok();
    let again = two.put(&at("again"), &described("again", "first")).await;
    assert_eq!(again.status.as_u16(), 201, "it is created, and no conflict: {again:?}");
    let read = two.get(&at("edited")).await.ok();
    assert_eq!((read["description"].as_str(), revision(&read)), (Some("second"), is));
    assert!(read["stale"].is_null(), "{read}");
    two.get(&at("deleted")).await.problem(404, "not_found");
    two.get(&at("created")).await.ok();

    let known = two.request(Method::GET, &at("edited")).header("if-none-match", was.to_string());
    assert_eq!(two.send(known).await.status.as_u16(), 200, "the copy has this revision");
    let known = two.request(Method::GET, &at("edited")).header("if-none-match", is.to_string());
    assert_eq!(two.send(known).await.status.as_u16(), 304);
    assert_eq!(copied(&two, "edited").await["description"], "first", "it is behind");
    let mut socket = open(&two, "?namespace=default&task=edited&kinds=task").await;
    let page = &socket.snapshot().await[0]["tasks"];
    assert_eq!(page[0]["description"], "first", "what follows is as old: {page}");
}

#[tokio::test]
async fn what_the_copy_has_already_is_written_where_somebody_has_changed_it_since() {
    let (one, two) = two(&["edited", "paused"], &["default"]).await;
    edit(&one, "edited", "second").await;
    let back = edit(&two, "edited", "first").await;
    let read = one.get(&at("edited")).await.ok();
    assert_eq!((read["description"].as_str(), revision(&read)), (Some("first"), back));
    assert_eq!(edit(&two, "edited", "first").await, back, "nothing to write, and known for sure");

    one.post(&format!("{}/pause", at("paused")), &json!({})).await.ok();
    let resumed = two.post(&format!("{}/resume", at("paused")), &json!({})).await.ok();
    assert!(resumed["paused"].is_null() || resumed["paused"] == false, "{resumed}");
    let read = one.get(&at("paused")).await.ok();
    assert!(read["paused"].is_null() || read["paused"] == false, "{read}");
}

#[tokio::test]
async fn a_revision_that_the_copy_does_not_have_yet_is_a_match() {
    let (one, two) = two(&["put", "deleted"], &["default"]).await;
    for name in ["put", "deleted"] {
        let stale = revision(&two.get(&at(name)).await.ok());
        let is = edit(&one, name, "second").await;
        let change = |if_match: i64| match name {
            "deleted" => two.request(Method::DELETE, &at(name)).header("if-match", if_match),
            _ => {
                let put = two.request(Method::PUT, &at(name)).header("if-match", if_match);
                json_body(put, &described(name, "third"))
            }
        };
        two.send(change(is + 1_000)).await.problem(412, "revision_conflict");
        let refused = two.send(change(stale)).await.problem(412, "revision_conflict");
        let detail = refused["detail"].as_str().unwrap();
        assert!(detail.contains(&is.to_string()), "it names what is there: {detail}");
        assert!(two.send(change(is)).await.status.is_success(), "{name}");
    }
}

#[tokio::test]
async fn a_task_that_has_moved_is_found_where_it_is() {
    let (one, two) = two(&["moved"], &["default", "blue"]).await;
    let placed = |pool: &str| json!({"placement": {"pool": pool}});
    one.patch(&at("moved"), &placed("blue")).await.ok();
    let read = two.get(&at("moved")).await.ok();
    assert_eq!(read["placement"]["pool"], "blue");
    let edited = two.patch(&at("moved"), &json!({"description": "third"})).await.ok();
    assert_eq!(edited["placement"]["pool"], "blue");
    assert_eq!(two.delete(&at("moved")).await.status.as_u16(), 204);
    one.get(&at("moved")).await.problem(404, "not_found");
}
