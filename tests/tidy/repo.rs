//! The files of the repository, as git sees them, and what rules say about them.
//!
//! Files that are new and not yet added count too: a rule should be broken before the commit, not
//! after it. What git ignores does not count.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One place that breaks a rule.
pub struct Finding {
    file: String,
    line: usize,
    what: String,
}

impl Finding {
    /// `what` says what is wrong and what to do about it. Line 0: the whole file.
    pub fn new(file: &str, line: usize, what: impl Into<String>) -> Finding {
        Finding { file: file.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line.max(1), self.what)
    }
}

pub struct Repo {
    root: PathBuf,
    files: Vec<String>,
}

impl Repo {
    pub fn open() -> Repo {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent");
        let listed = Command::new("git")
            // The files may belong to another user, as in containers.
            .args(["-c", "safe.directory=*"])
            .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
            .current_dir(root)
            .output()
            .expect("git runs");
        assert!(listed.status.success(), "this is no git checkout: {listed:?}");
        let text = String::from_utf8(listed.stdout).expect("file names are text");
        let mut files: Vec<String> = text
            .split('\0')
            .filter(|file| !file.is_empty() && root.join(file).is_file())
            .map(str::to_owned)
            .collect();
        files.sort();
        files.dedup();
        Repo { root: root.to_owned(), files }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(String::as_str)
    }

    /// The files whose name ends so.
    pub fn ending(&self, end: &str) -> impl Iterator<Item = &str> {
        self.files().filter(move |file| file.ends_with(end))
    }

    pub fn has(&self, file: &str) -> bool {
        self.files.binary_search_by(|known| known.as_str().cmp(file)).is_ok()
    }

    /// Whether there is such a file or folder among the files of the repository.
    pub fn holds(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        path.is_empty() || self.has(path) || self.files().any(|file| file.starts_with(&folder))
    }

    /// The text of a file; nothing if it is not text or not there.
    pub fn text(&self, file: &str) -> Option<String> {
        std::fs::read_to_string(self.root.join(file)).ok()
    }

    /// The text of a source file.
    pub fn source(&self, file: &str) -> String {
        self.text(file).unwrap_or_else(|| panic!("{file} cannot be read as text"))
    }
}

/// Whether a source file holds tests only.
pub fn is_test(file: &str) -> bool {
    file.starts_with("tests/") || file.contains("/tests/") || file.ends_with("/tests.rs")
}
