//! etcd is lost, and put back from a backup of some seconds before: revisions come again, and what
//! was started since stands nowhere. A witness that shares nothing with the product counts calls.

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use tocktower_core::limits::CLOCK_OFFSET;

use crate::support::api::{has_ended, instant_text, now};
use crate::support::daemon::Daemon;
use crate::support::fleet::{Fleet, spent, text};
use crate::support::logs::Trouble;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, alone, binaries, until};

/// Within which every daemon must have noticed.
const NOTICED: Duration = Duration::from_secs(15);
const RECURRING: usize = 10;
/// One-shots of each kind, one every 100 ms from the backup on.
const ONE_SHOTS: u32 = 300;
const WHAT_TO_DO: &str = "raise the cluster's epoch with `tocktower raise-epoch`";

/// A task in the namespace `backup` that calls the witness, with what the story adds.
fn body(witness: &Witness, delivery: &str, more: Value) -> Value {
    let mut body = json!({
        "namespace": "backup", "action": {"http": {"method": "GET", "url": witness.url}},
        "delivery": delivery, "overlap": "allow",
        "catch_up": {"policy": "all", "window": "1h"},
    });
    let more = more.as_object().expect("fields").clone();
    body.as_object_mut().expect("fields").extend(more);
    if body["schedules"][0]["at"].is_string() {
        body.as_object_mut().expect("fields").remove("overlap");
    }
    body
}

/// What is due from the backup on, in the kinds that there are.
async fn place(fleet: &Fleet, witness: &Witness) -> Duration {
    let from = now() + Duration::from_secs(8);
    let mut tasks = Vec::new();
    for (kind, delivery) in [("once", "at_most_once"), ("again", "at_least_once")] {
        let every = json!([{"every": "1s"}]);
        for number in 0..RECURRING {
            let name = format!("{kind}-r{number}");
            tasks.push(body(witness, delivery, json!({"name": name, "schedules": every})));
        }
        let name = format!("{kind}-pinned");
        let placed = json!({"name": name, "schedules": every, "placement": {"agent": "a0"}});
        tasks.push(body(witness, delivery, placed));
        for number in 0..ONE_SHOTS {
            let (name, at) = (format!("{kind}-o{number}"), from + number * SPACING);
            let at = json!({"name": name, "schedules": [{"at": instant_text(at)}]});
            tasks.push(body(witness, delivery, at));
        }
    }
    let made = fleet.api().post("/v1/tasks/batch", &json!({"tasks": tasks})).await.ok();
    let results = made["results"].as_array().expect("results");
    assert!(results.iter().all(|result| result["status"] == "created"), "{made}");
    assert!(now() < from, "the load must be there before it begins");
    from
}

const SPACING: Duration = Duration::from_millis(100);

/// Calls of tasks whose name begins so, by run.
fn calls_of(witness: &Witness, prefix: &str) -> BTreeMap<String, Vec<Duration>> {
    let start = format!("backup/{prefix}");
    witness.calls().into_iter().filter(|(run, _)| run.starts_with(&start)).collect()
}

fn newest_call(calls: &BTreeMap<String, Vec<Duration>>) -> Duration {
    calls.values().flatten().copied().max().unwrap_or_default()
}

fn raise_epoch(fleet: &Fleet, arguments: &[&str]) -> Output {
    let etcd = fleet.etcd.endpoint(0);
    let mut command = Command::new(binaries::tocktower());
    command.args(["raise-epoch", "--etcd", &etcd]).args(arguments).env_clear();
    command.output().expect("it runs")
}

/// It has ended by itself, and said why and what to do.
async fn has_noticed(daemon: &mut Daemon, name: &str, back: Duration) {
    let status = daemon.ended(NOTICED).await;
    let said = daemon.said();
    println!("{name} ended {} after etcd was back", spent(now() - back));
    assert_eq!(status.code(), Some(1), "{said}");
    let told: Vec<&str> = said.lines().filter(|line| line.contains("from a backup")).collect();
    assert!(told.iter().any(|line| line.contains("raise-epoch")), "{name} says what to do: {said}");
    assert!(told.len() <= 2, "and says it once: {told:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_noticed_and_a_new_epoch_goes_on_from_it() {
    let _turn = alone().await;
    let mut fleet = Fleet::start(2, 1).await;
    let witness = Witness::start().await;
    let from = place(&fleet, &witness).await;
    tokio::time::sleep(from.saturating_sub(now())).await;
    let snapshot = fleet.etcd.back_up("backup.db");
    let backed_up = now();
    let gone = body(&witness, "at_least_once", json!({"schedules": [{"every": "1s"}]}));
    let path = "/v1/namespaces/backup/tasks/gone";
    fleet.api().put(path, &gone).await.ok();
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(calls_of(&witness, "gone").len() >= 5, "what was made since the backup runs");

    for trouble in [Trouble::EtcdDown, Trouble::PutBack] {
        fleet.expects(trouble);
    }
    fleet.etcd.stop(0);
    fleet.etcd.put_back(&snapshot);
    fleet.etcd.restart(0);
    fleet.etcd.healthy().await.expect("etcd is healthy");
    let back = now();
    for number in 0..2 {
        has_noticed(&mut fleet.agents[number], &format!("a{number}"), back).await;
    }
    has_noticed(&mut fleet.coordinators[0].daemon, "c0", back).await;

    stands_by(&mut fleet, &witness).await;
    let raised = a_new_epoch(&mut fleet).await;
    goes_on(&fleet, &witness, raised).await;
    assert_eq!(fleet.api().get(path).await.status, 404, "it is not in the backup");
    let (once, again) = (Span { from, to: raised, backed_up }, calls_of(&witness, "again-"));
    nothing_ran_twice(&fleet, &witness, &once).await;
    let twice = again.values().filter(|calls| calls.len() > 1).count();
    println!("at least once: {} runs, {twice} called again", again.len());
    for number in 0..ONE_SHOTS {
        let run = format!("backup/again-o{number}@");
        assert!(again.keys().any(|known| known.starts_with(&run)), "{run} never ran");
    }
}

/// Started again, as by systemd, before anybody has raised the epoch.
async fn stands_by(fleet: &mut Fleet, witness: &Witness) {
    for agent in &mut fleet.agents {
        agent.spawn();
        agent.ready().await;
        let said = agent.said();
        assert!(said.contains("nothing starts here but what this agent runs by itself"), "{said}");
        assert!(said.contains(WHAT_TO_DO), "{said}");
    }
    let started = now();
    until("what is pinned goes on", PATIENCE, async || {
        let newest = newest_call(&calls_of(witness, "once-pinned"));
        if newest > started + Duration::from_secs(3) { Ok(()) } else { Err(newest) }
    })
    .await;
    for prefix in ["once-r", "again-r", "once-o", "again-o", "gone"] {
        let newest = newest_call(&calls_of(witness, prefix));
        assert!(newest < started, "{prefix} ran while the agents stood by");
    }
    // A coordinator remembers nothing, and so notices nothing.
    fleet.coordinators[0].daemon.spawn();
    fleet.coordinators[0].daemon.ready().await;
}

/// The operator raises the epoch, and whatever stood by or did not know begins anew.
async fn a_new_epoch(fleet: &mut Fleet) -> Duration {
    let told = raise_epoch(fleet, &[]);
    let (out, error) = (String::from_utf8(told.stdout).unwrap(), String::from_utf8(told.stderr));
    let error = error.unwrap();
    assert_eq!(told.status.code(), Some(1), "{error}");
    assert!(out.contains("epoch 1, 256 ranges") && out.contains("coordinator c0"), "{out}");
    let id = out.split_whitespace().nth(1).unwrap().trim_end_matches(':').to_owned();
    assert!(error.contains(&format!("--cluster {id}")), "{error}");
    let other = raise_epoch(fleet, &["--cluster", "another", "--evict"]);
    assert_eq!(other.status.code(), Some(1));

    let told = raise_epoch(fleet, &["--cluster", &id, "--evict"]);
    let raised = now();
    let (out, error) = (String::from_utf8(told.stdout), String::from_utf8(told.stderr));
    let (out, error) = (out.unwrap(), error.unwrap());
    assert!(told.status.success(), "{error}");
    println!("{}", out.trim());
    // Sessions of the agents came back with the backup, and may not have ended yet.
    assert!(out.contains("raised to epoch 2; the sessions of "), "{out}");
    assert!(out.contains("coordinator c0 were ended"), "{out}");
    for (number, agent) in fleet.agents.iter_mut().enumerate() {
        let status = agent.ended(NOTICED).await;
        println!("a{number} ended {} after the raise", spent(now() - raised));
        assert_eq!(status.code(), Some(1));
        assert!(agent.said().contains("its epoch was raised"), "{}", agent.said());
        agent.spawn();
    }
    let coordinator = &mut fleet.coordinators[0].daemon;
    let status = coordinator.ended(NOTICED).await;
    println!("c0 ended {} after the raise", spent(now() - raised));
    assert_eq!(status.code(), Some(1));
    assert!(coordinator.said().contains("epoch 1 is over"), "{}", coordinator.said());
    coordinator.spawn();
    coordinator.ready().await;
    for agent in &mut fleet.agents {
        agent.ready().await;
    }
    fleet.held_by(&["a0", "a1"]).await;
    println!("every range was held {} after the raise", spent(now() - raised));
    raised
}

async fn goes_on(fleet: &Fleet, witness: &Witness, raised: Duration) {
    for prefix in ["once-r", "again-r", "once-pinned", "again-pinned"] {
        until(&format!("{prefix} goes on"), PATIENCE, async || {
            let newest = newest_call(&calls_of(witness, prefix));
            if newest > raised + Duration::from_secs(5) { Ok(()) } else { Err(newest) }
        })
        .await;
    }
    let runs = async || fleet.api().runs("backup").await.map_err(|answer| answer.text);
    until("every one-shot has ended", PATIENCE, async || {
        let one_shot = |run: &&Value| text(&run["task"]).contains("-o");
        let runs = runs().await?;
        let open = runs.iter().filter(one_shot).filter(|run| !has_ended(run)).count();
        let ended = runs.iter().filter(one_shot).count();
        if open == 0 && ended >= 2 * ONE_SHOTS as usize { Ok(()) } else { Err(format!("{ended}")) }
    })
    .await;
}

struct Span {
    from: Duration,
    to: Duration,
    backed_up: Duration,
}

/// Of what may start once each run was called for once at most, and those that were not are named.
async fn nothing_ran_twice(fleet: &Fleet, witness: &Witness, span: &Span) {
    let calls = calls_of(witness, "once-");
    let twice: Vec<_> = calls.iter().filter(|(_, calls)| calls.len() > 1).collect();
    assert!(twice.is_empty(), "{} runs were called for twice: {twice:?}", twice.len());
    let runs = fleet.api().runs("backup").await.expect("runs");
    let lost = |run: &&Value| run["state"] == "lost";
    let (mut told, mut instants) = (0, 0);
    for run in runs.iter().filter(lost) {
        let reason = text(&run["reason"]);
        assert!(text(&run["task"]).starts_with("once-"), "{run}");
        assert!(reason.contains("backup") || reason.contains("host went away"), "{run}");
        told += 1;
        instants += run["count"].as_u64().unwrap_or(1);
    }
    // What was due while nobody could start it, and was not called for, is lost by name.
    let away = (span.to - span.backed_up).as_secs();
    println!(
        "at most once: {} runs called once, none twice; {told} told as lost, {instants} instants; \
         {away} s from the backup to the raise",
        calls.len()
    );
    let never = (0..ONE_SHOTS).filter(|number| {
        let run = format!("backup/once-o{number}@");
        !calls.keys().any(|known| known.starts_with(&run))
    });
    for number in never {
        let due = span.from + number * SPACING;
        let name = format!("once-o{number}");
        let run = runs.iter().find(|run| run["task"] == name.as_str());
        let run = run.unwrap_or_else(|| panic!("{name} came to nothing"));
        assert!(run["state"] == "lost" && due <= span.to + CLOCK_OFFSET, "{run}");
    }
}
