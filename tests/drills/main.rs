//! The drills themselves, as `tock drill` runs them: the smoke drill in less than 90 s, on real
//! processes in network namespaces. The others take a quarter of an hour and are run by hand, by
//! `tock drill all` or here:
//!
//!     cargo test --workspace --test drills -- big_every_drill --ignored --nocapture
//!
//! A machine that cannot do this fails the test with what it lacks, so that nobody takes an
//! untested build for a tested one. `TOCKTOWER_SKIP_DRILLS=1` says that it is known.

#![allow(clippy::print_stdout, reason = "figures are printed for whoever asks with --nocapture")]

#[allow(dead_code, reason = "the end to end tests use more of it")]
#[path = "../e2e/support/binaries.rs"]
mod binaries;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tocktower_drills::{Ground, Options, Places, plan};

const SKIP: &str = "TOCKTOWER_SKIP_DRILLS";
const WITHIN: Duration = Duration::from_secs(90);
/// How long something may take that takes seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn the_smoke_drill_holds_every_promise_in_less_than_90_seconds() {
    let drill = plan::smoke();
    let Some(places) = places(&drill) else { return };
    let options = Options { ground: Ground::Local(places), runs_per_second: 100, keep: false };
    let begun = Instant::now();
    let report = tocktower_drills::run(&drill, &options, &mut |line| println!("{line}"));
    let report = report.unwrap_or_else(|error| panic!("{error}: {error:?}"));
    let took = begun.elapsed();
    println!("{}", serde_json::to_string_pretty(&report).expect("a report is JSON"));
    assert!(report.passed, "{:#?}", report.broken);
    // Both faults were seen to do something.
    assert!(report.takeover_ms.is_some_and(|ms| ms > 1_000), "{:?}", report.takeover_ms);
    assert!(report.lateness_ms.worst > 1_000.0, "nothing was late: there was no fault");
    assert!(took < WITHIN, "it took {took:?}");
}

#[test]
#[ignore = "it takes a quarter of an hour"]
fn big_every_drill_holds_what_it_promises() {
    let mut broken = Vec::new();
    for drill in plan::catalogue() {
        let Some(places) = places(&drill) else { return };
        let options = Options { ground: Ground::Local(places), runs_per_second: 200, keep: false };
        let report = tocktower_drills::run(&drill, &options, &mut |line| println!("{line}"));
        let report = report.unwrap_or_else(|error| panic!("{}: {error}: {error:?}", drill.name));
        println!("{}", serde_json::to_string_pretty(&report).expect("a report is JSON"));
        broken.extend(report.broken.iter().map(|what| format!("{}: {what}", drill.name)));
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// One drill is killed and cannot remove anything; the next does it, is interrupted, and removes
/// what is its own. The smoke drill goes on beside them all the while.
#[test]
fn what_a_killed_drill_leaves_the_next_removes_and_an_interrupted_one_leaves_nothing() {
    let Some(places) = places(&plan::smoke()) else { return };
    let mut killed = Drill::start(&places);
    killed.has_daemons();
    killed.signal(Signal::KILL);
    assert!(!killed.namespaces().is_empty() && killed.folder_is_there(), "it had no time to");
    until("its daemons have died with it", || killed.pids().is_empty());

    let mut next = Drill::start(&places);
    next.has_daemons();
    assert_eq!(killed.namespaces(), [""; 0]);
    assert!(!killed.folder_is_there());
    assert_eq!(next.signal(Signal::INT), Some(1));
    assert_eq!((next.namespaces(), next.folder_is_there()), (vec![], false));
}

/// `tock drill run calm` as a process.
struct Drill {
    process: Child,
    mark: String,
}

impl Drill {
    fn start(places: &Places) -> Drill {
        let mut command = Command::new(binaries::tock());
        command.args(["drill", "run", "calm"]);
        for (flag, file) in [("--tocktower", &places.tocktower), ("--etcd", &places.etcd)] {
            command.arg(flag).arg(file.as_ref().expect("the test names it"));
        }
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let process = process.expect("tock runs");
        let mark = format!("tocktower-drill-{}-", process.id());
        Drill { process, mark }
    }

    fn has_daemons(&self) {
        until("an agent runs", || self.pids().len() > 5);
    }

    fn signal(&mut self, signal: Signal) -> Option<i32> {
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("a child can be signalled");
        self.process.wait().expect("a child can be waited for").code()
    }

    fn namespaces(&self) -> Vec<String> {
        let listed = ip(&["netns", "list"]);
        let names = listed.lines().filter_map(|line| line.split_whitespace().next());
        names.filter(|name| name.starts_with(&self.mark)).map(str::to_owned).collect()
    }

    /// What runs on its hosts.
    fn pids(&self) -> Vec<String> {
        let hosts = self.namespaces().into_iter().filter(|name| !name.ends_with("-hub"));
        hosts.flat_map(|name| words(&ip(&["netns", "pids", &name]))).collect()
    }

    fn folder_is_there(&self) -> bool {
        let entries = std::fs::read_dir(std::env::temp_dir()).expect("a folder").flatten();
        entries.into_iter().any(|e| e.file_name().to_string_lossy().starts_with(&self.mark))
    }
}

impl Drop for Drill {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().expect("ip runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The programs, unless the machine is to be left alone.
fn places(drill: &plan::Drill) -> Option<Places> {
    if std::env::var_os(SKIP).is_some_and(|value| value == "1") {
        println!("skipped, as {SKIP}=1 asks: no drill has been run");
        return None;
    }
    let tocktower = Some(binaries::tocktower().to_owned());
    let places = Places { tocktower, etcd: Some(etcd()) };
    if let Err(missing) = tocktower_drills::find_programs(&places, std::slice::from_ref(drill)) {
        panic!("{missing}\n{SKIP}=1 leaves the drills out, and with them the proof");
    }
    Some(places)
}

fn etcd() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/etcd-for-tests");
    let output = Command::new(&script).stderr(Stdio::inherit()).output().expect("the script runs");
    assert!(output.status.success(), "{} failed, see above", script.display());
    PathBuf::from(String::from_utf8(output.stdout).expect("a path in UTF-8").trim())
}
