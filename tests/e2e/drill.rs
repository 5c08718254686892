//! Drills on a fleet that a person names, by its API alone: what is done to it is undone, also when
//! the drill is interrupted, and what somebody else has asked of it stays.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tocktower_drills::plan::{self, Act};
use tocktower_drills::{Error, Ground, Named, Options, Report};

use crate::support::fleet::Fleet;
use crate::support::{PATIENCE, beside_others, binaries, until};

const AGENT: &str = "a0";

async fn agent(fleet: &Fleet) -> Value {
    fleet.api().get(&format!("/v1/agents/{AGENT}")).await.ok()
}

/// Waits until nobody asks anything of the agent.
async fn is_free(fleet: &Fleet) {
    until("the agent is uncordoned", PATIENCE, async || {
        let agent = agent(fleet).await;
        let asked = [&agent["draining"], &agent["cordoned"]].iter().any(|asked| **asked == true);
        if asked { Err(agent) } else { Ok(()) }
    })
    .await;
}

async fn has_no_load(fleet: &Fleet) {
    let left = fleet.api().get("/v1/namespaces/-/tasks?label=made-by=tock-drill").await.ok();
    assert_eq!(left["items"].as_array().map(Vec::len), Some(0), "{left}");
}

/// The drill of the list, in a shorter time.
async fn drill(fleet: &Fleet) -> Result<Report, Error> {
    let mut drill = plan::find("drain").expect("there is one");
    drill.lasts = Duration::from_secs(8);
    for step in &mut drill.steps {
        step.at = Duration::from_secs(if step.act == Act::Drain { 1 } else { 5 });
    }
    let ground = Ground::Named(Named {
        servers: vec![fleet.api().base.clone()],
        token: None,
        pool: "default".to_owned(),
        agent: Some(AGENT.to_owned()),
    });
    let options = Options { ground, runs_per_second: 100, keep: false };
    let run = move || tocktower_drills::run(&drill, &options, &mut |line| println!("{line}"));
    tokio::task::spawn_blocking(run).await.expect("it ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_on_a_named_fleet_leaves_it_as_it_was() {
    let _turn = beside_others().await;
    let fleet = Fleet::start(2, 1).await;
    let report = drill(&fleet).await.expect("it is carried through");
    assert!(report.passed, "{:?}", report.broken);
    assert_eq!((report.due, report.witnessed), (800, false));
    let done: Vec<_> = report.steps.iter().map(|step| step.hosts.join(" ")).collect();
    assert_eq!(done, [AGENT, AGENT, ""], "{:?}", report.steps);
    is_free(&fleet).await;
    has_no_load(&fleet).await;
    // Interrupted in the middle.
    let base = &fleet.api().base;
    let mut process = Command::new(binaries::tock())
        .args(["drill", "run", "drain", "--fleet", base, "--confirm", base, "--agent", AGENT])
        .stderr(Stdio::null())
        .spawn()
        .expect("tock runs");
    until("the agent is drained", PATIENCE, async || {
        let agent = agent(&fleet).await;
        if agent["draining"] == true { Ok(()) } else { Err(agent) }
    })
    .await;
    let pid = rustix::process::Pid::from_child(&process);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    let ended = until("the drill ends", PATIENCE, async || {
        let status = process.try_wait().expect("a child can be waited for");
        status.ok_or("it runs")
    })
    .await;
    assert_eq!(ended.code(), Some(1));
    is_free(&fleet).await;
    has_no_load(&fleet).await;
    // What an operator has asked for is not the drill's to end.
    fleet.api().tock_json(&["agent", "cordon", AGENT]);
    let refused = drill(&fleet).await.expect_err("it is cordoned").to_string();
    assert!(refused.contains("a0 is cordoned or drained by somebody"), "{refused}");
    assert_eq!(agent(&fleet).await["cordoned"], true);
    has_no_load(&fleet).await;
}
