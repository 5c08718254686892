//! What is pinned to this agent outlives a process, its session and the host's boot.

use tocktower_core::agent::Kept;
use tocktower_core::agent::effect::{LoadRequest, PinsRecord, StoreOp};
use tocktower_core::agent::input::LoadAnswer;
use tocktower_core::ids::{
    Attempt, Epoch, Fence, LeaseId, LedgerNumber, RangeId, Revision, Session,
};
use tocktower_core::ledger::{Entry, EntryState, Ledger, Marks};
use tocktower_core::run::RunState;
use tocktower_core::time::{Instant, Wall};

use crate::support::{Disk, RANGE, recurring_in, run};

fn fence() -> Fence {
    Fence { epoch: Epoch(1), revision: Revision(1_800_000_000_000) }
}

fn ledger() -> Ledger {
    let begun = run("a", 7_000, RunState::Running).id;
    let incarnation = begun.incarnation;
    let attempt = Attempt { fence: fence(), number: 1 };
    let due = Instant::from_millis(7_000);
    let entry = Entry { run: begun, due, attempt, state: EntryState::Permitted };
    let marks = Marks { through: Instant::from_millis(6_000), incarnation };
    let number = LedgerNumber { process: 3, count: 9 };
    Ledger { fence: fence(), number, marks, open: vec![entry] }
}

fn kept(disk: &mut Disk) {
    disk.apply([
        StoreOp::Pins(PinsRecord::Born(Wall::from_millis(5_000))),
        StoreOp::Pins(PinsRecord::Delivered(Revision(44))),
        StoreOp::Pins(PinsRecord::Ledger(ledger())),
        recurring_in(RangeId::PINS, "a", 1),
    ]);
}

#[test]
fn a_new_store_knows_nothing_of_it() {
    let disk = Disk::new();
    assert_eq!(disk.opened().pins, None);
    assert_eq!(disk.opened().cluster, None);
}

#[test]
fn the_next_process_goes_on_from_what_was_kept() {
    let mut disk = Disk::new();
    kept(&mut disk);
    disk.open().unwrap();
    let before = disk.opened().pins.clone().unwrap();
    assert_eq!((before.born, before.delivered), (Wall::from_millis(5_000), Revision(44)));
    assert_eq!((before.ledger, before.intact), (ledger(), true));
    let scan = LoadRequest::Scan { range: RangeId::PINS, after: None, limit: 9 };
    let LoadAnswer::Scan { tasks, more: false } = disk.load(scan).answer else { panic!() };
    assert_eq!(tasks.len(), 1);
}

#[test]
fn after_another_boot_something_may_be_lost_of_it() {
    let mut disk = Disk::new();
    kept(&mut disk);
    disk.open_after_boot();
    assert!(!disk.opened().pins.as_ref().unwrap().intact);
    // Opened once more on that boot: nobody has kept a ledger since.
    disk.open_after_boot();
    assert!(!disk.opened().pins.as_ref().unwrap().intact);
    disk.apply([StoreOp::Pins(PinsRecord::Ledger(ledger()))]);
    disk.open_after_boot();
    assert!(disk.opened().pins.as_ref().unwrap().intact);
}

#[test]
fn a_copy_of_a_data_directory_is_nothing_to_go_on_from() {
    let mut disk = Disk::new();
    kept(&mut disk);
    let session = Session { epoch: Epoch(1), revision: Revision(9) };
    let session = Kept { lease: LeaseId(3), session, clock: None };
    disk.apply([StoreOp::Session(Some(session))]);
    disk.open().unwrap();
    assert!(disk.opened().former.is_some(), "the same boot and folder");
    disk.close();
    let copy = tempfile::tempdir().unwrap();
    let from = format!("{}/.", disk.dir.path().display());
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(copy.path()).status();
    assert!(copied.unwrap().success());
    disk.dir = copy;
    disk.open().unwrap();
    assert_eq!(disk.opened().former.as_ref().map(|former| former.kept), None);
    assert!(!disk.opened().pins.as_ref().unwrap().intact, "what it permitted may have started");
}

#[test]
fn what_was_begun_stays_known_without_a_session() {
    let mut disk = Disk::new();
    kept(&mut disk);
    let attempt = Attempt { fence: fence(), number: 1 };
    let begun = |range, name| {
        let run = run(name, 7_000, RunState::Running).id;
        StoreOp::OpenRun { range, run, attempt }
    };
    disk.apply([StoreOp::Session(None), begun(RangeId::PINS, "a"), begun(RANGE, "pooled")]);
    disk.open().unwrap();
    assert!(disk.opened().former.is_none());
    let own = |disk: &Disk, range| {
        let (runs, tasks) = (Vec::new(), Vec::new());
        match disk.load(LoadRequest::Own { range, fence: fence(), runs, tasks }).answer {
            LoadAnswer::Own(own) => own.len(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((own(&disk, RangeId::PINS), own(&disk, RANGE)), (1, 0));
}
