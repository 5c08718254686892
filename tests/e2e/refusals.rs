//! What a daemon refuses to start with, and what it says then.

use std::process::{Command, Output};
use std::time::Duration;

use crate::support::api::now;
use crate::support::daemon::Daemon;
use crate::support::fleet::{Fleet, spent};
use crate::support::logs::Trouble;
use crate::support::{beside_others, binaries};

fn tocktower(arguments: &[&str]) -> Output {
    let mut command = Command::new(binaries::tocktower());
    command.args(arguments).env_clear().env("HOME", "/home/me").output().expect("it runs")
}

/// It ends with 78, and says each of these.
#[track_caller]
fn wrong_configuration(arguments: &[&str], said: &[&str]) {
    let output = tocktower(arguments);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{arguments:?}: {told}");
    for text in said {
        assert!(told.contains(text), "{arguments:?} does not say {text:?}: {told}");
    }
}

#[test]
fn a_wrong_configuration_is_78_with_key_value_and_what_is_allowed() {
    let etcd = ["--etcd", "http://127.0.0.1:1"];
    let agent = ["agent", etcd[0], etcd[1], "--name", "Not A Name", "--lease-ttl", "1m"];
    let said = ["name = \"Not A Name\"", "a-z, 0-9", "lease-ttl = \"1m\"", "from 2s to 8s"];
    wrong_configuration(&agent, &said);
    let coordinator = ["coordinator", etcd[0], etcd[1], "--id", "c", "--ranges", "300"];
    wrong_configuration(&coordinator, &["ranges = \"300\"", "a power of two"]);
    wrong_configuration(&["agent", "--name", "a"], &["etcd is missing"]);

    let none = ["dev", "--name", "a", "--data-dir", "/dev/null/nothing", "--listen", "127.0.0.1:0"];
    wrong_configuration(&none, &["data-dir = \"/dev/null/nothing", "cannot be used"]);

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("agent.toml");
    std::fs::write(&file, "nmae = \"a\"\n").expect("a file");
    let file = file.display().to_string();
    let with_file = ["agent", etcd[0], etcd[1], "--config", &file, "--name", "a"];
    wrong_configuration(&with_file, &["nmae is not a key of this daemon", "lease-ttl"]);
}

#[test]
fn a_listener_off_the_loopback_is_refused_without_insecure() {
    let coordinator = ["coordinator", "--id", "c", "--etcd", "http://127.0.0.1:1"];
    let open = [&coordinator[..], &["--listen", "0.0.0.0:0", "--advertise", "a:1"]].concat();
    wrong_configuration(&open, &["listen = \"0.0.0.0:0\"", "insecure = true"]);
    wrong_configuration(&["dev", "--name", "a", "--listen", "0.0.0.0:0"], &["listen = "]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_on_one_folder_is_refused_at_once() {
    let _turn = beside_others().await;
    let fleet = Fleet::start(1, 1).await;
    let asked = now();
    let arguments = fleet.agent_arguments("other", "a0");
    let output = tocktower(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    println!("refused after {}: {}", spent(now() - asked), told.lines().last().unwrap_or(""));
    assert!(now() - asked < Duration::from_secs(2), "at once: {told}");
    let folder = fleet.folder.path().join("a0").display().to_string();
    assert!(told.contains(&folder), "it says which folder: {told}");
    assert!(told.contains("another"), "it says why: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_of_one_name_waits_and_then_says_why_it_ends() {
    // Its wait is measured.
    let _turn = beside_others().await;
    let fleet = Fleet::start(1, 1).await;
    let arguments = fleet.agent_arguments("a0", "other");
    let asked = now();
    let mut second = Daemon::start("second", fleet.folder.path(), arguments);
    second.expects(Trouble::Refused);
    let status = second.ended(Duration::from_secs(15)).await;
    let took = now() - asked;
    println!("the second agent of the name ended after {}", spent(took));
    assert_eq!(status.code(), Some(1), "{}", second.said());
    // The lease of an earlier life, 3 s, and two more.
    assert!(took >= Duration::from_secs(4), "it waits for an earlier life to end: {took:?}");
    assert!(second.said().contains("another process runs an agent of this name"));
    fleet.held_by(&["a0"]).await;
}
