//! Who may open a store, what outlives a process, and what becomes of a damaged one.

use std::fs;
use std::path::PathBuf;

use tocktower_agent::store::{OpenError, OutputStream, StoreError};
use tocktower_core::agent::effect::StoreOp;
use tocktower_core::ids::LedgerNumber;
use tocktower_core::run::{Captured, CapturedStream, RunState};

use crate::support::*;

#[test]
fn a_restart_keeps_tasks_history_and_output_and_forgets_what_was_due_and_open() {
    let mut disk = Disk::new();
    let number = LedgerNumber { process: 9, count: 4 };
    let before = LedgerNumber { process: 8, count: 70 };
    let output = Captured {
        stdout: CapturedStream { head: b"hello".to_vec(), tail: vec![], dropped: 0 },
        stderr: CapturedStream::default(),
    };
    let id = run_id("a", 1_000);
    disk.apply([
        recurring("a", 1),
        due(10, 1),
        watermark(5),
        StoreOp::OpenRun { range: RANGE, run: id.clone(), attempt: attempt(1) },
        history(run("a", 1_000, RunState::Failed)),
        StoreOp::Output { run: id.clone(), attempt: attempt(1), output },
        StoreOp::LedgerNumber { range: RANGE, number, before: vec![before] },
    ]);
    assert_eq!(disk.store().open_runs(RANGE).unwrap().len(), 1);
    disk.open().unwrap();
    assert_eq!(disk.task("a").unwrap().0, 1);
    assert_eq!(disk.due_numbers(0, 100), [] as [u64; 0]);
    assert_eq!(disk.store().open_runs(RANGE).unwrap(), []);
    disk.apply([due(3, 1)]);
    assert_eq!(disk.due_numbers(0, 100), [1], "the watermark is forgotten too");
    assert_eq!(disk.store().run(&id).unwrap().len(), 1);
    let out = disk.store().output(&id, attempt(1), OutputStream::Stdout).unwrap();
    assert_eq!(out.unwrap().head, b"hello");
    assert!(disk.store().output(&id, attempt(1), OutputStream::Stderr).unwrap().is_none());
    assert_eq!(disk.store().ledger_numbers(RANGE).unwrap(), Some(vec![number, before]));
}

#[test]
fn an_open_run_that_is_closed_is_gone() {
    let mut disk = Disk::new();
    let id = run_id("a", 1_000);
    disk.apply([StoreOp::OpenRun { range: RANGE, run: id.clone(), attempt: attempt(2) }]);
    assert_eq!(disk.store().open_runs(RANGE).unwrap(), [(id.clone(), attempt(2))]);
    disk.apply([StoreOp::CloseRun { range: RANGE, run: id }]);
    assert_eq!(disk.store().open_runs(RANGE).unwrap(), []);
}

#[test]
fn processes_are_counted_and_never_share_numbers() {
    let mut disk = Disk::new();
    let first = disk.opened().process;
    assert_eq!(disk.open().unwrap().process, first + 1);
    // A store that is begun anew counts on from the clock.
    set_clock(1_704_067_200_000 + 7_000_000);
    disk.close();
    fs::remove_dir_all(disk.dir.path().join("db")).unwrap();
    assert!(disk.open().unwrap().process >= 7_000);
}

#[test]
fn a_second_agent_on_the_folder_is_refused() {
    let disk = Disk::new();
    let error = open(&disk.dir).unwrap_err();
    let OpenError::InUse { process, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*process, Some(std::process::id()));
    assert!(error.to_string().contains(&disk.dir.path().display().to_string()), "{error}");
    assert!(error.retryable());
}

/// Turns every bit of a file from `from` to `end`, both as shares of its length.
fn spoil(path: &PathBuf, from: f64, end: f64) {
    let mut bytes = fs::read(path).unwrap();
    let place = |share: f64| (bytes.len() as f64 * share) as usize;
    let (from, end) = (place(from), place(end));
    bytes[from..end].iter_mut().for_each(|byte| *byte = !*byte);
    fs::write(path, bytes).unwrap();
}

fn tables(disk: &Disk) -> Vec<PathBuf> {
    let files = fs::read_dir(disk.dir.path().join("db")).unwrap();
    let files = files.map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|kind| kind == "sst")).collect()
}

/// A closed store with files of every kind.
fn written() -> Disk {
    let mut disk = Disk::new();
    disk.apply((1..=2_000).map(|n| recurring(&format!("t{n}"), n)));
    disk.store().compact().unwrap();
    disk.close();
    disk
}

#[test]
fn a_store_whose_tables_are_spoilt_is_set_aside() {
    let mut disk = written();
    for table in tables(&disk) {
        spoil(&table, 0.5, 1.0);
    }
    let opened = disk.open().unwrap();
    let aside = opened.set_aside.clone().unwrap();
    assert!(aside.path.join("CURRENT").exists());
    assert!(!aside.reason.is_empty());
    assert_eq!(disk.scan(RANGE, None, 10).0, [] as [u64; 0]);
    disk.apply([recurring("a", 1)]);
    assert!(disk.open().unwrap().set_aside.is_none());
    assert_eq!(disk.scan(RANGE, None, 10).0, [1]);
}

#[test]
fn damage_that_a_read_meets_sets_the_store_aside_at_the_next_start() {
    let mut disk = written();
    let largest = tables(&disk).into_iter().max_by_key(|table| fs::metadata(table).unwrap().len());
    spoil(&largest.unwrap(), 0.0, 0.2);
    assert!(disk.open().unwrap().set_aside.is_none(), "data blocks are not read at open");
    let request = tocktower_core::agent::effect::LoadRequest::Scan {
        range: RANGE,
        after: None,
        limit: 10_000,
    };
    let error = disk.store().load(&request).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    assert!(!error.retryable());
    let aside = disk.open().unwrap().set_aside.clone().unwrap();
    assert!(aside.reason.contains("noted while running"));
    assert!(disk.open().unwrap().set_aside.is_none());
}

#[test]
fn only_the_newest_damaged_stores_are_kept() {
    let mut disk = Disk::new();
    for _ in 0..4 {
        disk.close();
        fs::write(disk.dir.path().join("damaged"), "for a test").unwrap();
        disk.open().unwrap();
    }
    let names = fs::read_dir(disk.dir.path()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with("db.aside-")).count(), 2);
}

#[test]
fn a_store_of_a_newer_version_is_refused_and_left_alone() {
    let mut disk = Disk::new();
    disk.close();
    {
        let path = disk.dir.path().join("db");
        let options = rocksdb::Options::default();
        let families = rocksdb::DB::list_cf(&options, &path).unwrap();
        let db = rocksdb::DB::open_cf(&options, &path, families).unwrap();
        let meta = db.cf_handle("meta").unwrap();
        db.put_cf(meta, [1], [9, 0, 0, 0, 1]).unwrap();
    }
    let error = open(&disk.dir).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 9, known: 1, .. }), "{error:?}");
    assert!(disk.dir.path().join("db").exists());
}

/// The newest file of the log, which is torn by a power cut.
fn newest_log(disk: &Disk) -> PathBuf {
    disk.logs().into_iter().max().unwrap()
}

/// RocksDB reads a log up to where it is torn. What a later process wrote must not end there too,
/// whether that began on another boot, or a power cut goes unnoticed.
#[test]
fn what_is_written_after_a_power_cut_outlives_the_torn_log_before_it() {
    let mut disk = Disk::new();
    let ran = |n: i64| history(run("a", n * 1_000, RunState::Succeeded));
    let kept = |disk: &Disk, n: i64| {
        let rows = disk.store().run(&run_id("a", n * 1_000)).unwrap();
        rows.len() == 1
    };
    for cut in 0..6 {
        let (first, last) = (cut * 10, cut * 10 + 9);
        for n in first..=last {
            disk.apply([ran(n), session()]);
            if n == first + 4 {
                // One that is killed leaves two logs.
                disk.open().unwrap();
            }
        }
        disk.close();
        let torn = newest_log(&disk);
        let length = fs::metadata(&torn).unwrap().len();
        fs::File::options().write(true).open(&torn).unwrap().set_len(length - 7).unwrap();
        match cut % 2 {
            0 => drop(disk.open().unwrap()),
            _ => disk.open_after_boot(),
        }
        assert!(!kept(&disk, last), "cut {cut} takes what it has torn");
        for n in (0..last).filter(|n| n % 10 < 9) {
            assert!(kept(&disk, n), "after cut {cut}: {n}");
        }
    }
    // And once more without a cut, also where files are made of it.
    disk.open().unwrap();
    disk.store().compact().unwrap();
    disk.open().unwrap();
    assert!((0..59).filter(|n| n % 10 < 9).all(|n| kept(&disk, n)));
}

/// After a sync that failed it may be in memory alone, and no later sync says so.
#[test]
fn on_a_log_that_is_not_gone_on_with_nothing_is_built() {
    for other_boot in [false, true] {
        let mut disk = Disk::new();
        disk.apply([recurring("a", 1), session()]);
        disk.close();
        let before = disk.logs();
        if other_boot {
            disk.open_after_boot();
        } else {
            disk.open().unwrap();
        }
        let kept = before.iter().filter(|log| log.exists()).count();
        assert_eq!(kept, if other_boot { 0 } else { before.len() });
        assert_eq!(disk.task("a").unwrap().0, 1);
    }
}

/// A start reads the log before anything else: it may not grow as long as one goes on.
#[test]
fn the_log_that_a_start_has_to_read_is_short_however_much_was_written() {
    let disk = Disk::new();
    let mut longest = 0;
    for n in 0..200 {
        let rows = (0..500).map(|m| history(run("a", n * 500 + m, RunState::Succeeded)));
        // A family of little rows would keep the log for long.
        disk.store().write(&batch(1, false, rows.chain([watermark(n)]))).unwrap();
        longest = longest.max(disk.log_bytes());
    }
    let mib = 1_024 * 1_024;
    assert!(longest > 4 * mib, "{longest} bytes are no more than one file");
    assert!(longest < 12 * mib, "{longest} bytes");
}
