//! An agent whose disk hangs, fills up or fails: it starts nothing, others take its ranges over
//! within the promise, and it says what is wrong. The disks are real ones, in files.

use std::time::Duration;

use crate::support::api::now;
use crate::support::daemon::{Daemon, free_port};
use crate::support::disk::SmallDisk;
use crate::support::fleet::{Fleet, spent};
use crate::support::load::{Load, Weather};
use crate::support::logs::Trouble;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, alone, until};

const PROMISE: Duration = Duration::from_secs(10);
const AHEAD: Duration = Duration::from_secs(4);
/// What every run starts within where nobody dies, on a machine that may be loaded.
const CALM: Duration = Duration::from_secs(2);
/// Room for a store and its log, and not much more.
const DISK_MIB: u64 = 192;
/// A twentieth of it.
const RESERVE_MIB: u64 = 9;

fn load(namespace: &'static str) -> Load {
    Load { namespace, one_shots: 1_600, rate: 100, recurring: 30 }
}

/// A fleet of two agents, of which `a1` has its data on a disk of its own.
async fn fleet() -> Option<(Fleet, SmallDisk)> {
    let mut fleet = Fleet::start(1, 1).await;
    let disk = SmallDisk::mount(fleet.folder.path(), "disk", DISK_MIB)?;
    let mut arguments = fleet.agent_arguments("a1", "disk/a1");
    let port = free_port();
    arguments.extend(["--metrics-listen".to_owned(), format!("127.0.0.1:{port}")]);
    fleet.agent_ports.push(port);
    fleet.agents.push(Daemon::start("a1", fleet.folder.path(), arguments));
    fleet.agents[1].ready().await;
    fleet.held_by(&["a0", "a1"]).await;
    Some((fleet, disk))
}

async fn says(agent: &Daemon, what: &str) {
    let said = || agent.log().contains(what);
    until(
        &format!("it says {what:?}"),
        PATIENCE,
        async || {
            if said() { Ok(()) } else { Err("not yet") }
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_delays_nothing_by_ten_seconds_and_the_agent_comes_back() {
    let _turn = alone().await;
    let Some((mut fleet, disk)) = fleet().await else { return };
    let witness = Witness::start().await;
    fleet.expects(Trouble::DiskHung);
    let placed = load("hung").place(&fleet.client(), &witness, AHEAD).await;
    placed.reaches(0.2).await;
    disk.hang();
    let hung = now();
    fleet.held_by(&["a0"]).await;
    println!("its ranges were held by the other after {}", spent(now() - hung));
    placed.reaches(0.9).await;
    disk.go_on();
    fleet.held_by(&["a0", "a1"]).await;
    placed.judge(fleet.api(), &witness, Weather::Crash, PROMISE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_comes_down_to_its_reserve_hands_its_ranges_over_and_repeats_nothing() {
    let _turn = alone().await;
    let Some((mut fleet, disk)) = fleet().await else { return };
    let witness = Witness::start().await;
    fleet.agents[1].expects(Trouble::DiskFull);
    let placed = load("reserve").place(&fleet.client(), &witness, AHEAD).await;
    placed.reaches(0.2).await;
    disk.fill_but(RESERVE_MIB - 2);
    let filled = now();
    fleet.held_by(&["a0"]).await;
    println!("its ranges were held by the other after {}", spent(now() - filled));
    assert_eq!(fleet.metric(1, "ready").await, 0, "it says that it takes none");
    disk.make_room();
    fleet.held_by(&["a0", "a1"]).await;
    assert!(!fleet.agents[1].has_ended(), "it had room enough for what it does");
    placed.judge(fleet.api(), &witness, Weather::Calm, CALM).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_at_once_delays_nothing_by_ten_seconds() {
    let _turn = alone().await;
    let Some((mut fleet, disk)) = fleet().await else { return };
    let witness = Witness::start().await;
    fleet.agents[1].expects(Trouble::DiskFull);
    let placed = load("full").place(&fleet.client(), &witness, AHEAD).await;
    placed.reaches(0.2).await;
    disk.fill();
    let filled = now();
    fleet.held_by(&["a0"]).await;
    println!("its ranges were held by the other after {}", spent(now() - filled));
    placed.reaches(0.7).await;
    disk.make_room();
    if fleet.agents[1].has_ended() {
        fleet.agents[1].spawn();
    }
    fleet.held_by(&["a0", "a1"]).await;
    placed.judge(fleet.api(), &witness, Weather::Crash, PROMISE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_disk_fails_gives_its_session_up_says_so_and_ends() {
    let _turn = alone().await;
    let Some((mut fleet, disk)) = fleet().await else { return };
    let witness = Witness::start().await;
    fleet.agents[1].expects(Trouble::DiskFailed);
    let placed = load("failed").place(&fleet.client(), &witness, AHEAD).await;
    placed.reaches(0.3).await;
    disk.fail();
    let failed = now();
    fleet.held_by(&["a0"]).await;
    println!("its ranges were held by the other after {}", spent(now() - failed));
    let status = fleet.agents[1].ended(PATIENCE).await;
    assert!(!status.success(), "a supervisor has to see it");
    says(&fleet.agents[1], "the store has failed: the session is given up").await;
    // Its history went with its disk: the witness alone has seen every call.
    placed.reaches(1.0).await;
    let all = usize::try_from(load("failed").one_shots / 2).expect("fits");
    until("every call has come", PATIENCE, async || {
        let seen = witness.calls().len();
        if seen == all { Ok(()) } else { Err(format!("{seen} of {all}")) }
    })
    .await;
}
