//! That a write has failed outlives the process, in a file beside the database.
//!
//! When a write or a sync fails, the kernel may drop what was written before and not synced, and
//! whoever opens the database next finds a good one that lacks it. So each failure begins another
//! *life* of the store: what was written in the one before is not gone on with, as after a power
//! cut. The file holds the name of the life. It is open from the beginning and is written over,
//! since a full disk takes no longer one; where it is gone or cannot be read that is a failure too.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

const FILE: &str = "life";
/// Where the kernel gives names that nobody else has.
const NAMES: &str = "/proc/sys/kernel/random/uuid";
const NAME_BYTES: usize = 36;

/// The life that this process found, and whether a write has failed since.
pub(super) struct Failures {
    path: PathBuf,
    file: File,
    name: String,
    noted: AtomicBool,
    told: AtomicBool,
}

impl Failures {
    pub(super) fn open(dir: &Path) -> io::Result<Failures> {
        let path = dir.join(FILE);
        let found = fs::read_to_string(&path).ok().map(|text| text.trim().to_owned());
        let mut open = OpenOptions::new();
        let file = open.write(true).create(true).truncate(false).open(&path)?;
        let (noted, told) = (AtomicBool::new(false), AtomicBool::new(false));
        let failures = |name| Failures { path, file, name, noted, told };
        match found.filter(|name| name.len() == NAME_BYTES) {
            Some(name) => Ok(failures(name)),
            None => {
                let mut failures = failures(String::new());
                // Of what was longer nothing may be left behind the name.
                failures.file.set_len(0)?;
                failures.name = failures.begin()?;
                failures.file.sync_data()?;
                Ok(failures)
            }
        }
    }

    pub(super) fn life(&self) -> &str {
        &self.name
    }

    /// The next process begins another life. Once for each process, however often it is told;
    /// whoever tells does not wait for the disk.
    pub(super) fn note(&self) {
        if self.noted.load(Ordering::Relaxed) {
            return;
        }
        let begun = self.begin().and_then(|_| self.file.try_clone());
        match begun {
            Ok(file) => {
                self.noted.store(true, Ordering::Relaxed);
                let path = self.path.clone();
                // The next process reads it from memory as a rule, and after another boot it is
                // another life anyway.
                std::thread::spawn(move || {
                    if let Err(error) = file.sync_data() {
                        not_noted(&path, &error);
                    }
                });
            }
            // It is tried again each time, and said once.
            Err(_) if self.told.swap(true, Ordering::Relaxed) => {}
            Err(error) => not_noted(&self.path, &error),
        }
    }

    fn begin(&self) -> io::Result<String> {
        let name = fs::read_to_string(NAMES)?.trim().to_owned();
        self.file.write_all_at(format!("{name}\n").as_bytes(), 0)?;
        Ok(name)
    }
}

fn not_noted(path: &Path, error: &io::Error) {
    tracing::error!(
        %error, file = %path.display(),
        "that the disk has failed may not be noted: remove this file before the agent is started \
         again, or what it had started may start twice"
    );
}

#[cfg(test)]
mod tests {
    use rocksdb::DB;
    use tocktower_core::agent::Kept;
    use tocktower_core::agent::effect::{Batch, BatchNumber, StoreOp};
    use tocktower_core::ids::{Epoch, LeaseId, Revision, Session};

    use super::*;
    use crate::store::{Opened, Store, StoreConfig};

    fn open(dir: &Path) -> Opened {
        let config = StoreConfig { boot: "this one".to_owned(), ..StoreConfig::default() };
        Store::open(dir, config).unwrap()
    }

    fn with_session(dir: &Path) -> Opened {
        let opened = open(dir);
        let session = Session { epoch: Epoch(1), revision: Revision(9) };
        let kept = Kept { lease: LeaseId(3), session, clock: None, latest: None };
        let ops = vec![StoreOp::Session(Some(kept))];
        opened.store.apply(&Batch { number: BatchNumber(1), ops, sync: true }).unwrap();
        opened
    }

    fn error() -> rocksdb::Error {
        DB::open_default("/proc/none").unwrap_err()
    }

    #[test]
    fn nothing_is_gone_on_with_after_a_write_has_failed() {
        let dir = tempfile::tempdir().unwrap();
        drop(with_session(dir.path()));
        assert!(open(dir.path()).former.is_some(), "it ended, and all that it wrote is there");
        let opened = with_session(dir.path());
        opened.store.failed(error());
        drop(opened);
        assert!(open(dir.path()).former.is_some(), "a read that failed takes nothing away");
        let opened = with_session(dir.path());
        for _ in 0..2 {
            opened.store.unwritten(error());
        }
        drop(opened);
        assert!(open(dir.path()).former.is_none(), "what was not synced may be lost");
        drop(with_session(dir.path()));
        assert!(open(dir.path()).former.is_some(), "the process after it is as any other");
    }

    #[test]
    fn where_the_note_is_gone_or_cut_off_it_is_another_life() {
        let dir = tempfile::tempdir().unwrap();
        let life = || Failures::open(dir.path()).unwrap().life().to_owned();
        let first = life();
        assert_eq!((first.len(), life()), (NAME_BYTES, first.clone()));
        fs::write(dir.path().join(FILE), &first[..9]).unwrap();
        let cut = life();
        assert_ne!(cut, first);
        fs::write(dir.path().join(FILE), [first.as_str(); 3].concat()).unwrap();
        let second = life();
        assert_eq!((second.len(), life()), (NAME_BYTES, second.clone()), "it is a good one again");
        fs::remove_file(dir.path().join(FILE)).unwrap();
        assert_ne!(life(), second);
    }
}
