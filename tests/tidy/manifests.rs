//! What every `Cargo.toml` says, and the one build that all of them share.

use toml::{Table, Value};

use crate::repo::{Finding, Repo};

/// What a crate takes over from the workspace.
const INHERITED: [&str; 5] = ["version", "edition", "rust-version", "license", "publish"];
/// Where all dependencies come from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn read(repo: &Repo, file: &str) -> Table {
    repo.source(file).parse().unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn members(repo: &Repo) -> Vec<String> {
    let root = read(repo, "Cargo.toml");
    let members = root["workspace"]["members"].as_array().expect("members are a list");
    members.iter().filter_map(Value::as_str).map(|name| format!("{name}/Cargo.toml")).collect()
}

pub fn inherited(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in members(repo) {
        let manifest = read(repo, &file);
        let from_workspace = |value: Option<&Value>| {
            value.and_then(|value| value.get("workspace")) == Some(&Value::Boolean(true))
        };
        if !from_workspace(manifest.get("lints")) {
            let what = "lints are its own: write `[lints]` with `workspace = true`";
            findings.push(Finding::new(&file, 0, what));
        }
        for key in INHERITED {
            let value = manifest.get("package").and_then(|package| package.get(key));
            if !from_workspace(value) {
                let what = format!("{key} is its own: write `{key}.workspace = true`");
                findings.push(Finding::new(&file, 0, what));
            }
        }
        if manifest.contains_key("profile") {
            let what = "a profile in a member is ignored: the workspace has one build";
            findings.push(Finding::new(&file, 0, what));
        }
    }
    findings
}

pub fn one_build(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(repo.source("Cargo.lock").lines()) {
        if line.strip_prefix("source = ").is_some_and(|from| from.trim_matches('"') != REGISTRY) {
            let what = "a dependency from elsewhere: all come from crates.io, by version";
            findings.push(Finding::new("Cargo.lock", number, what));
        }
    }
    let scripts = repo.files().filter(|file| {
        *file == "Makefile" || file.starts_with("scripts/") || file.starts_with(".ci/")
    });
    for file in scripts {
        for (number, line) in (1..).zip(repo.source(file).lines()) {
            let unset = ["unset", "unexport", "#"].iter().any(|word| line.trim().starts_with(word));
            if line.replace("RUSTDOCFLAGS", "").contains("RUSTFLAGS") && !unset {
                let what = "RUSTFLAGS replaces the flags of .cargo/config.toml and compiles \
                            RocksDB again: use [workspace.lints] or clippy's own flags";
                findings.push(Finding::new(file, number, what));
            }
            if line.contains("--release") || line.contains("--profile") {
                let what = "a second profile compiles RocksDB again: build without it";
                findings.push(Finding::new(file, number, what));
            }
        }
    }
    findings
}
