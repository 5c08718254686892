//! Where the programs are, and that they are those of the sources at hand.
//!
//! Cargo builds a test's own libraries, not the binaries of other crates: a test could run against
//! a program of yesterday without anybody noticing. So the list of sources that cargo keeps beside
//! each binary is looked through, and cargo is asked once more if the binary is missing or older
//! than one of them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The daemons.
pub fn tocktower() -> &'static Path {
    &both().0
}

/// The command line.
pub fn tock() -> &'static Path {
    &both().1
}

fn both() -> &'static (PathBuf, PathBuf) {
    static BOTH: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    BOTH.get_or_init(|| {
        let test = std::env::current_exe().expect("the test is a file");
        let folder = test.parent().and_then(Path::parent).expect("deps has a parent");
        // Other test programs may be at the same.
        let lock = File::create(folder.join(".e2e-binaries.lock")).expect("a lock file");
        lock.lock().expect("a lock");
        let (tocktower, tock) = (folder.join("tocktower"), folder.join("tock"));
        if ![&tocktower, &tock].into_iter().all(|binary| is_fresh(binary)) {
            build(folder.parent().expect("a target folder"));
        }
        (tocktower, tock)
    })
}

fn build(target: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let status = Command::new(env!("CARGO"))
        .args(["build", "-p", "tocktower-server", "-p", "tocktower-cli", "--bins"])
        .arg("--target-dir")
        .arg(target)
        .current_dir(root)
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the programs cannot be built");
}

fn is_fresh(binary: &Path) -> bool {
    let Some(built) = modified(binary) else { return false };
    let Ok(list) = std::fs::read_to_string(binary.with_extension("d")) else { return false };
    let Some((_, sources)) = list.split_once(": ") else { return false };
    // A space within a name is written with a backslash before it.
    let sources = sources.replace("\\ ", "\0");
    let mut sources = sources.split_whitespace().map(|source| source.replace('\0', " "));
    sources.all(|source| modified(Path::new(&source)).is_some_and(|changed| changed <= built))
}

fn modified(file: &Path) -> Option<SystemTime> {
    file.metadata().and_then(|metadata| metadata.modified()).ok()
}
