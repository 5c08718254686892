//! `tocktower dev`: everything in one process, used as a newcomer would.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::api::{Api, has_ended, noop_at, now, send};
use crate::support::daemon::{Daemon, free_port};
use crate::support::logs::Trouble;
use crate::support::{PATIENCE, alone, beside_others, until};

pub struct Dev {
    pub daemon: Daemon,
    pub api: Api,
    _folder: TempDir,
}

impl Dev {
    pub async fn start() -> Dev {
        Dev::start_with(&[]).await
    }

    async fn start_with(more: &[&str]) -> Dev {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let data = folder.path().join("data").display().to_string();
        let listen = format!("127.0.0.1:{port}");
        let arguments = ["dev", "--name", "dev", "--listen", &listen, "--data-dir", &data];
        let arguments = arguments.iter().chain(more).map(|part| (*part).to_owned()).collect();
        let mut daemon = Daemon::start("dev", folder.path(), arguments);
        daemon.ready().await;
        Dev { daemon, api: Api::new(port), _folder: folder }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_made_by_tock_or_rest_runs_and_its_output_can_be_read() {
    let _turn = beside_others().await;
    let dev = Dev::start().await;
    let api = &dev.api;
    let line = "echo hello from $TOCKTOWER_RUN_ID";
    api.tock_json(&["task", "create", "by-tock", "--every", "1s", "--shell", line]);
    let body = json!({
        "schedules": [{"every": "1s"}],
        "action": {"command": {"argv": ["sh", "-c", "echo to stderr >&2; echo to stdout"]}},
    });
    let made = api.put("/v1/namespaces/default/tasks/by-rest", &body).await;
    assert_eq!(made.status, 201, "{made:?}");

    for (task, said) in [("by-tock", "hello from default/by-tock@"), ("by-rest", "to stdout\n")] {
        let run = api.ended_runs(task, 1).await.pop().expect("the oldest");
        assert_eq!(run["state"], "succeeded", "{run}");
        assert_eq!(run["exit_code"], 0, "{run}");
        let run_id = run["run_id"].as_str().expect("an id");
        let (_, part) = run_id.split_once('@').expect("its last part");
        let path = format!("/v1/namespaces/default/tasks/{task}/runs/{part}/output");
        let output = api.get(&path).await;
        assert!(output.text.starts_with(said), "{output:?}");
        let by_tock = api.tock(&["run", "output", run_id]);
        assert_eq!(String::from_utf8_lossy(&by_tock.stdout), output.text);
        let listed = api.tock_json(&["run", "list", task]);
        assert!(listed.to_string().contains(run_id), "{listed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_says_what_it_is_and_how_it_is() {
    let _turn = beside_others().await;
    let dev = Dev::start().await;
    let page = dev.api.get("/").await;
    assert!(page.status == 200 && page.text.contains("Tocktower"), "{page:?}");
    assert_eq!(dev.api.get("/healthz").await.status, 200);
    assert_eq!(dev.api.get("/readyz").await.status, 200);
    let metrics = dev.api.get("/metrics").await;
    assert!(metrics.text.contains("# TYPE tocktower_"), "{metrics:?}");
    assert!(metrics.text.ends_with("# EOF\n"), "{metrics:?}");
    let description = dev.api.get("/v1/openapi.json").await.ok();
    assert!(description["openapi"].as_str().expect("a version").starts_with("3.1"));
    assert!(description["paths"]["/v1/tasks/batch"].is_object());
    let nothing = dev.api.get("/v1/nothing").await;
    assert_eq!((nothing.status, &nothing.json()["code"]), (404, &json!("not_found")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_task_is_refused_with_every_wrong_path_at_once() {
    let _turn = beside_others().await;
    let dev = Dev::start().await;
    let tasks = "/v1/namespaces/default/tasks";
    let refused = async |body: &Value| {
        let answer = dev.api.post(tasks, body).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(answer.json()["code"], "invalid_task", "{answer:?}");
        answer
    };
    let wrong = json!({
        "name": "Wrong Name", "schedules": [{"cron": "61 * * * *"}, {"every": "10ms"}],
        "action": {"noop": {}}, "timeout": "soon", "retry": {"max_attempts": 0},
    });
    let answer = refused(&wrong).await;
    let paths =
        ["name", "retry.max_attempts", "schedules[0].cron", "schedules[1].every", "timeout"];
    assert_eq!(answer.paths(), paths, "{answer:?}");

    let good = json!({"name": "a", "schedules": [{"every": "1m"}], "action": {"noop": {}}});
    let with = |field: &str, value: Value| {
        let mut task = good.clone();
        task[field] = value;
        task
    };
    // A field that does not exist, and one whose feature is not there yet.
    for (field, value) in [("shedules", json!([])), ("notify", json!(["ops"]))] {
        let answer = refused(&with(field, value)).await;
        assert!(answer.text.contains(field), "{answer:?}");
    }
    let queue = with("action", json!({"queue": {"queue": "emails", "payload": 1}}));
    let answer = refused(&queue).await;
    assert!(answer.text.contains("queue"), "{answer:?}");
    assert_eq!(dev.api.get("/v1/namespaces/default/tasks/a").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_or_a_task_that_is_too_large_is_413() {
    let _turn = beside_others().await;
    let dev = Dev::start().await;
    let too_large = async |path: &str, body: String| {
        let request = dev.api.request(Method::POST, path).body(body);
        let answer = send(request.header("content-type", "application/json")).await;
        let answer = answer.expect("an answer");
        assert_eq!((answer.status, &answer.json()["code"]), (413, &json!("too_large")));
    };
    let task = |bytes: usize| {
        let body = json!({
            "name": "a", "schedules": [{"every": "1m"}],
            "action": {"command": {"argv": ["cat"], "stdin": "x".repeat(bytes)}},
        });
        body.to_string()
    };
    too_large("/v1/namespaces/default/tasks", task(17 * 1024 * 1024)).await;
    too_large("/v1/tasks/batch", format!("{{\"tasks\": [{}]}}", task(17 * 1024 * 1024))).await;
}

/// Processes of this host whose command line holds `mark` as an argument.
fn processes(mark: &str) -> usize {
    let entries = std::fs::read_dir("/proc").expect("a list of processes");
    entries
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .filter(|line| line.split(|byte| *byte == 0).any(|part| part == mark.as_bytes()))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ignores_its_term_is_gone_with_the_agent_and_its_end_is_known() {
    let _turn = beside_others().await;
    let mut dev = Dev::start_with(&["--drain-timeout", "8s"]).await;
    // Should the test fail, they are gone in two minutes all the same.
    let line = "trap '' TERM; setsid sleep 120.71 & sleep 120.71 & sleep 120.71";
    let mut task = noop_at("default", "stubborn", now() + Duration::from_secs(1));
    task["action"] = json!({"command": {"argv": ["sh", "-c", line]}});
    dev.api.post("/v1/tasks/batch", &json!({"tasks": [task]})).await.ok();
    until("the tree is up", PATIENCE, async || match processes("120.71") {
        3 => Ok(()),
        count => Err(count),
    })
    .await;
    dev.daemon.terminate();
    let status = dev.daemon.ended(PATIENCE).await;
    assert!(status.success(), "{status}: {}", dev.daemon.said());
    assert_eq!(processes("120.71"), 0, "{}", dev.daemon.said());

    dev.daemon.spawn();
    dev.daemon.ready().await;
    let runs = until("its run has ended", PATIENCE, async || {
        let runs = dev.api.runs("default").await.map_err(|answer| answer.text)?;
        if runs.iter().all(has_ended) && !runs.is_empty() {
            Ok(runs)
        } else {
            Err(format!("{runs:?}"))
        }
    })
    .await;
    let states: Vec<&Value> = runs.iter().map(|run| &run["state"]).collect();
    assert_eq!(states, ["cancelled"], "{runs:?}");
    assert_eq!(processes("120.71"), 0, "nothing is repeated");
}

/// One-shots that are created in one request.
const BATCH: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_under_load_loses_nothing_that_was_acknowledged() {
    kill_9_at(300).await;
}

/// Kills it in the middle of six seconds of so many runs a second.
pub async fn kill_9_at(rate: usize) {
    let _turn = alone().await;
    let mut dev = Dev::start().await;
    let begun = now();
    let mut acknowledged = BTreeSet::new();
    let mut sent = 0;
    // Created as fast as the machine gives.
    while sent < rate * 6 {
        let task = |number: usize| {
            let due = begun + Duration::from_millis(1_000 + (number * 1_000 / rate) as u64);
            noop_at("crash", &format!("t{number}"), due)
        };
        let tasks: Vec<Value> = (sent..sent + BATCH).map(task).collect();
        sent += BATCH;
        let answer = dev.api.post("/v1/tasks/batch", &json!({"tasks": tasks})).await.ok();
        for result in answer["results"].as_array().expect("results") {
            assert_eq!(result["status"], "created", "{result}");
            acknowledged.insert(result["name"].as_str().expect("a name").to_owned());
        }
    }
    let middle = begun + Duration::from_millis(1_000 + 3_000);
    tokio::time::sleep(middle.saturating_sub(now())).await;
    dev.daemon.kill();
    dev.daemon.expects(Trouble::Killed);
    println!("kill -9 {:.1} s after the first of {sent} was due", seconds(now() - begun) - 1.0);
    dev.daemon.spawn();
    dev.daemon.ready().await;
    println!("ready again after {:.1} s", seconds(now() - begun - Duration::from_secs(4)));

    let runs = until("every task has a run that has ended", PATIENCE, async || {
        let runs = dev.api.runs("crash").await.map_err(|answer| answer.text)?;
        let ended = runs.iter().filter(|run| has_ended(run)).count();
        if ended >= acknowledged.len() { Ok(runs) } else { Err(format!("{ended} have")) }
    })
    .await;
    let of: Vec<String> = runs.iter().map(|run| text(&run["task"])).collect();
    let distinct: BTreeSet<String> = of.iter().cloned().collect();
    assert_eq!(distinct, acknowledged, "each task has a run");
    assert_eq!(of.len(), distinct.len(), "and one only");
    let wrong: Vec<&Value> = runs.iter().filter(|run| run["state"] != "succeeded").collect();
    assert!(wrong.is_empty(), "{} are not succeeded: {:?}", wrong.len(), &wrong[..1]);
    let again = runs.iter().filter(|run| run["attempt"] != 1).count();
    let worst = runs.iter().filter_map(|run| run["lateness_us"].as_i64()).max().unwrap_or(0);
    println!("{} runs, {again} with a second attempt, latest {} ms", runs.len(), worst / 1_000);
    // Of one that was tried again after the kill it is not known.
    let early = |run: &&Value| run["lateness_us"].as_i64().is_some_and(|late| late < 0);
    assert_eq!(runs.iter().filter(early).count(), 0, "none was early");
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn seconds(span: Duration) -> f64 {
    span.as_secs_f64()
}
