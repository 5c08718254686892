//! Two processes with one identity: the data directory of an agent was copied, as when a host is
//! cloned, and the copy is started. Only one of them may stay, and whatever they do meanwhile, what
//! may start only once does: a witness that shares nothing with the product counts calls.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::api::now;
use crate::support::daemon::Daemon;
use crate::support::fleet::{Fleet, spent};
use crate::support::logs::Trouble;
use crate::support::relay::Relay;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, alone, until};

const RECURRING: usize = 20;

async fn place(fleet: &Fleet, witness: &Witness) {
    let task = |number: usize| {
        json!({
            "namespace": "twins", "name": format!("r{number}"), "schedules": [{"every": "1s"}],
            "action": {"http": {"method": "GET", "url": witness.url}},
            "delivery": "at_most_once", "overlap": "allow",
        })
    };
    let tasks: Vec<Value> = (0..RECURRING).map(task).collect();
    let made = fleet.api().post("/v1/tasks/batch", &json!({"tasks": tasks})).await.ok();
    let results = made["results"].as_array().expect("results");
    assert!(results.iter().all(|result| result["status"] == "created"), "{made}");
    runs_for(witness, Duration::from_secs(3)).await;
}

/// All tasks go on for so long.
async fn runs_for(witness: &Witness, span: Duration) {
    let end = now() + span;
    until("all tasks run", PATIENCE, async || {
        let calls = witness.calls();
        let late = |number: &usize| {
            let start = format!("twins/r{number}@");
            let mine = calls.iter().filter(|(run, _)| run.starts_with(&start));
            mine.flat_map(|(_, calls)| calls).max().is_none_or(|at| *at < end)
        };
        let late: Vec<usize> = (0..RECURRING).filter(late).collect();
        if late.is_empty() { Ok(()) } else { Err(late) }
    })
    .await;
}

#[track_caller]
fn none_ran_twice(witness: &Witness) {
    let calls = witness.calls();
    let twice: Vec<_> = calls.iter().filter(|(_, calls)| calls.len() > 1).collect();
    assert!(twice.is_empty(), "called for twice: {twice:?}");
    println!("{} runs, each called for once", calls.len());
}

/// The data of an agent as its host's disk has it at one moment.
fn copy(agent: &Daemon, from: &Path, to: &Path) {
    agent.freeze();
    copy_folder(from, to);
    agent.thaw();
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("it can be read") {
        let entry = entry.expect("an entry");
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        match path.is_dir() {
            true => copy_folder(&path, &to),
            false => drop(std::fs::copy(&path, &to).expect("it can be copied")),
        }
    }
}

/// Which of the two has ended, and that it says why.
async fn one_ends(one: &mut Daemon, other: &mut Daemon) -> usize {
    let since = now();
    let ended = until("one of the two has ended", PATIENCE, async || {
        match (one.has_ended(), other.has_ended()) {
            (true, false) => Ok(0),
            (false, true) => Ok(1),
            (false, false) => Err("both run"),
            (true, true) => panic!("both have ended:\n{}\n{}", one.said(), other.said()),
        }
    })
    .await;
    let said = [&*one, &*other][ended].said();
    println!("{} ended after {}", ["the first", "the copy"][ended], spent(now() - since));
    assert!(said.contains("another process runs an agent of this name"), "{said}");
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_started_beside_its_agent_ends_and_nothing_runs_twice() {
    let _turn = alone().await;
    let mut fleet = Fleet::start(2, 1).await;
    let witness = Witness::start().await;
    place(&fleet, &witness).await;
    let folder = fleet.folder.path().to_owned();
    copy(&fleet.agents[0], &folder.join("a0"), &folder.join("copy"));
    runs_for(&witness, Duration::from_secs(2)).await;
    let mut twin = Daemon::start("twin", &folder, fleet.agent_arguments("a0", "copy"));
    twin.expects(Trouble::Twin);
    // It has the session of the first and all its records, on the same boot of the same host, and
    // must not go on from them: the first, which is not expected to say anything, still does.
    let ended = one_ends(&mut fleet.agents[0], &mut twin).await;
    assert_eq!(ended, 1, "the one that was there goes on");
    fleet.held_by(&["a0", "a1"]).await;
    runs_for(&witness, Duration::from_secs(3)).await;
    none_ran_twice(&witness);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_comes_back_finds_its_copy_in_its_place_and_ends() {
    let _turn = alone().await;
    let fleet = Fleet::start(1, 1).await;
    let witness = Witness::start().await;
    let relay = Relay::start(&fleet.etcd.endpoints()[0]).await;
    let folder = fleet.folder.path().to_owned();
    let own = fleet.etcd.endpoints().join(",");
    let through =
        |argument: String| if argument == own { relay.endpoint.clone() } else { argument };
    let arguments = fleet.agent_arguments("b", "b").into_iter().map(through).collect();
    let mut first = Daemon::start("b", &folder, arguments);
    first.ready().await;
    fleet.held_by(&["a0", "b"]).await;
    place(&fleet, &witness).await;
    for trouble in [Trouble::Twin, Trouble::EtcdDown] {
        first.expects(trouble);
    }
    copy(&first, &folder.join("b"), &folder.join("copy"));
    relay.close();
    fleet.held_by(&["a0"]).await;
    let mut twin = Daemon::start("twin", &folder, fleet.agent_arguments("b", "copy"));
    twin.expects(Trouble::Twin);
    twin.ready().await;
    fleet.held_by(&["a0", "b"]).await;
    runs_for(&witness, Duration::from_secs(2)).await;
    relay.open();
    let ended = one_ends(&mut first, &mut twin).await;
    assert_eq!(ended, 0, "the one that was there goes on");
    fleet.held_by(&["a0", "b"]).await;
    runs_for(&witness, Duration::from_secs(3)).await;
    none_ran_twice(&witness);
}
