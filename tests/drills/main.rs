//! The drills themselves, as `tock drill` runs them: the smoke drill in less than 90 s, on real
//! processes in network namespaces. The others take twenty minutes and are run by hand:
//!
//!     cargo build --workspace --bins && sudo -E tock drill all
//!
//! A machine that cannot do this fails the test with what it lacks, so that nobody takes an
//! untested build for a tested one. `TOCKTOWER_SKIP_DRILLS=1` says that it is known.

#![allow(clippy::print_stdout, reason = "figures are printed for whoever asks with --nocapture")]

#[allow(dead_code, reason = "the end to end tests use more of it")]
#[path = "../e2e/support/binaries.rs"]
mod binaries;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tocktower_drills::{Ground, Options, Places, plan};

const SKIP: &str = "TOCKTOWER_SKIP_DRILLS";
const WITHIN: Duration = Duration::from_secs(90);

#[test]
fn the_smoke_drill_holds_every_promise_in_less_than_90_seconds() {
    if std::env::var_os(SKIP).is_some_and(|value| value == "1") {
        println!("skipped, as {SKIP}=1 asks: no drill has been run");
        return;
    }
    let tocktower = Some(binaries::tocktower().to_owned());
    let places = Places { tocktower, etcd: Some(etcd()) };
    let drill = plan::smoke();
    if let Err(missing) = tocktower_drills::find_programs(&places, std::slice::from_ref(&drill)) {
        panic!("{missing}\n{SKIP}=1 leaves the drill out, and with it the proof");
    }
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

fn etcd() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/etcd-for-tests");
    let output = Command::new(&script).stderr(Stdio::inherit()).output().expect("the script runs");
    assert!(output.status.success(), "{} failed, see above", script.display());
    PathBuf::from(String::from_utf8(output.stdout).expect("a path in UTF-8").trim())
}
