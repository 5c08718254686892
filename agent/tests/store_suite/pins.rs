//! What an agent runs by itself, pinned or its share of what every agent runs, outlives a process,
//! its session and the host's boot.

use std::path::Path;

use tocktower_cluster::cluster::Cluster;
use tocktower_core::agent::Kept;
use tocktower_core::agent::effect::{Fences, LoadRequest, PinsRecord, StoreOp};
use tocktower_core::agent::input::LoadAnswer;
use tocktower_core::hash::RangeCount;
use tocktower_core::ids::{
    AgentName, Attempt, Epoch, Fence, LeaseId, LedgerNumber, RangeId, Revision, RunId, Session,
};
use tocktower_core::ledger::{Entry, EntryState, Ledger, Marks};
use tocktower_core::run::{RunRecord, RunState};
use tocktower_core::time::{Instant, Wall};

use crate::support::{Disk, RANGE, recurring_in, run};

fn fence() -> Fence {
    Fence { epoch: Epoch(1), revision: Revision(1_800_000_000_000) }
}

/// A run of a local range.
fn begun(range: RangeId, name: &str) -> RunId {
    let agent = (range == RangeId::BROADCAST).then(|| AgentName::parse("w1").unwrap());
    RunId { agent, ..run(name, 7_000, RunState::Running).id }
}

fn ledger(range: RangeId) -> Ledger {
    let begun = begun(range, "a");
    let incarnation = begun.incarnation;
    let attempt = Attempt { fence: fence(), number: 1 };
    let due = Instant::from_millis(7_000);
    let entry = Entry { run: begun, due, attempt, state: EntryState::Permitted };
    let marks = Marks { through: Instant::from_millis(6_000), incarnation };
    let number = LedgerNumber { process: 3, count: 9 };
    Ledger { fence: fence(), number, marks, open: vec![entry] }
}

fn kept(disk: &mut Disk, range: RangeId) {
    disk.apply([
        StoreOp::Pins(range, PinsRecord::Born(Wall::from_millis(5_000))),
        StoreOp::Pins(range, PinsRecord::Delivered(Revision(44))),
        StoreOp::Pins(range, PinsRecord::Ledger(ledger(range))),
        recurring_in(range, "a", 1),
    ]);
}

#[test]
fn a_new_store_knows_nothing_of_it() {
    let disk = Disk::new();
    assert!(disk.opened().pins.is_empty());
    assert_eq!(disk.opened().cluster, None);
}

#[test]
fn the_next_process_goes_on_from_what_was_kept() {
    for range in RangeId::LOCAL {
        let mut disk = Disk::new();
        kept(&mut disk, range);
        disk.open().unwrap();
        let before = disk.opened().pins.clone();
        assert_eq!(before.keys().collect::<Vec<_>>(), [&range], "the other is new still");
        let before = before[&range].clone();
        assert_eq!((before.born, before.delivered), (Wall::from_millis(5_000), Revision(44)));
        assert_eq!((before.ledger, before.intact), (ledger(range), true));
        let scan = LoadRequest::Scan { range, after: None, limit: 9 };
        let LoadAnswer::Scan { tasks, more: false } = disk.load(scan).answer else { panic!() };
        assert_eq!(tasks.len(), 1);
    }
}

#[test]
fn after_another_boot_something_may_be_lost_of_it() {
    let mut disk = Disk::new();
    let intact = |disk: &Disk, range| disk.opened().pins[&range].intact;
    for range in RangeId::LOCAL {
        kept(&mut disk, range);
    }
    disk.open_after_boot();
    assert!(RangeId::LOCAL.into_iter().all(|range| !intact(&disk, range)));
    // Opened once more on that boot: nobody has kept a ledger since.
    disk.open_after_boot();
    assert!(RangeId::LOCAL.into_iter().all(|range| !intact(&disk, range)));
    let ledger = ledger(RangeId::BROADCAST);
    disk.apply([StoreOp::Pins(RangeId::BROADCAST, PinsRecord::Ledger(ledger))]);
    disk.open_after_boot();
    assert!(intact(&disk, RangeId::BROADCAST) && !intact(&disk, RangeId::PINS));
}

/// By this process itself: one that is begun for it would hold the locks of other tests' stores for
/// a moment.
fn copy_folder(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let copy = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&copy).unwrap();
            copy_folder(&entry.path(), &copy);
        } else {
            std::fs::copy(entry.path(), copy).unwrap();
        }
    }
}

#[test]
fn a_copy_of_a_data_directory_is_nothing_to_go_on_from() {
    let mut disk = Disk::new();
    kept(&mut disk, RangeId::PINS);
    let session = Session { epoch: Epoch(1), revision: Revision(9) };
    let session = Kept { lease: LeaseId(3), session, clock: None, latest: None };
    disk.apply([StoreOp::Session(Some(session))]);
    disk.open().unwrap();
    assert!(disk.opened().former.is_some(), "the same boot and folder");
    disk.open_after_boot();
    assert!(disk.opened().former.is_none(), "what was not synced may be lost");
    disk.close();
    let copy = tempfile::tempdir().unwrap();
    copy_folder(disk.dir.path(), copy.path());
    disk.dir = copy;
    disk.open().unwrap();
    assert_eq!(disk.opened().former.as_ref().map(|former| former.kept), None);
    assert!(!disk.opened().pins[&RangeId::PINS].intact, "what it permitted may have started");
}

#[test]
fn of_another_cluster_an_agent_runs_nothing_by_itself() {
    let cluster = |id: &str, epoch| Cluster {
        id: id.to_owned(),
        epoch: Epoch(epoch),
        epoch_began: Wall::from_millis(9),
        ranges: RangeCount::DEFAULT,
        revision: Revision(3),
    };
    for range in RangeId::LOCAL {
        let mut disk = Disk::new();
        disk.store().know_cluster(&cluster("one", 1)).unwrap();
        kept(&mut disk, range);
        disk.store().know_cluster(&cluster("one", 2)).unwrap();
        disk.open().unwrap();
        assert_eq!(disk.opened().pins.len(), 1, "it is gone on with in a new epoch");
        disk.store().know_cluster(&cluster("two", 1)).unwrap();
        disk.open().unwrap();
        assert!(disk.opened().pins.is_empty());
    }
}

#[test]
fn what_was_begun_stays_known_without_a_session() {
    let mut disk = Disk::new();
    let attempt = Attempt { fence: fence(), number: 1 };
    let open = |range, name| StoreOp::OpenRun { range, run: begun(range, name), attempt };
    for range in RangeId::LOCAL {
        kept(&mut disk, range);
        disk.apply([open(range, "a")]);
    }
    disk.apply([StoreOp::Session(None), open(RANGE, "pooled")]);
    disk.open().unwrap();
    assert!(disk.opened().former.is_none());
    let own = |disk: &Disk, range| {
        let (runs, tasks) = (Vec::new(), Vec::new());
        let under = Fences { newest: fence(), earlier: false };
        match disk.load(LoadRequest::Own { range, under, runs, tasks }).answer {
            LoadAnswer::Own(own) => own.into_iter().map(|own| own.run).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    for range in RangeId::LOCAL {
        assert_eq!(own(&disk, range), [begun(range, "a")], "also whose share it is");
    }
    assert_eq!(own(&disk, RANGE), []);
}

#[test]
fn a_row_of_history_says_whose_share_it_was() {
    let mut disk = Disk::new();
    let row = run("a", 7_000, RunState::Succeeded);
    let id = RunId { agent: Some(row.agent.clone()), ..row.id.clone() };
    let other = RunId { agent: Some(AgentName::parse("other").unwrap()), ..row.id.clone() };
    let share = RunRecord { id: id.clone(), ..row.clone() };
    disk.apply([StoreOp::History(std::sync::Arc::new(share))]);
    let found = |asked: &RunId| disk.store().run(asked).unwrap().len();
    assert_eq!((found(&id), found(&other), found(&row.id)), (1, 0, 0));
}
