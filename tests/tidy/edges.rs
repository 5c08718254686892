//! Who may use whom: the edges between crates, and which libraries have one home.
//!
//! Edges go one way, so that a change below can be judged without reading what stands above, and
//! so that agent and coordinator can be built, tested and deployed apart. Cargo itself is asked
//! what a crate uses.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::repo::{Finding, Repo};

/// Each crate with those of ours that it may use. `tests` may use all.
const ALLOWED: [(&str, &[&str]); 9] = [
    ("core", &[]),
    ("proto", &["core"]),
    ("cluster", &["core", "proto"]),
    ("agent", &["core", "proto", "cluster"]),
    ("coordinator", &["core", "proto", "cluster"]),
    ("client", &["proto"]),
    ("drills", &["client"]),
    ("cli", &["client", "drills"]),
    ("server", &["core", "proto", "cluster", "agent", "coordinator"]),
];

/// Libraries that only the crates beside them may name.
const HOMES: [(&str, &[&str]); 5] = [
    ("rocksdb", &["agent"]),
    ("etcd-client", &["cluster"]),
    ("redb", &["cluster"]),
    ("sd-notify", &["server"]),
    ("cron", &[]),
];

/// All that the pure crate may link: nothing that could read a clock or reach the outside.
const CORE_LIBRARIES: [&str; 3] = ["jiff", "thiserror", "xxhash-rust"];

struct Edge {
    from: String,
    to: String,
    /// For its tests only.
    dev: bool,
}

pub fn own(repo: &Repo) -> Vec<Finding> {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();
    let mut findings = Vec::new();
    for edge in edges(repo) {
        let Some(to) = edge.to.strip_prefix("tocktower-") else { continue };
        if edge.from == "tests" {
            continue;
        }
        let manifest = format!("{}/Cargo.toml", edge.from);
        match allowed.get(edge.from.as_str()) {
            None => {
                let what = "a crate that the map does not know: add it to ARCHITECTURE.md and to \
                            tests/tidy/edges.rs";
                findings.push(Finding::new(&manifest, 0, what));
            }
            Some(allowed) if allowed.contains(&to) => {}
            Some(allowed) => {
                let what = format!(
                    "{} uses {to}, and may use only [{}]: move what it needs down, or hand it over \
                     as an argument",
                    edge.from,
                    allowed.join(", ")
                );
                findings.push(Finding::new(&manifest, 0, what));
            }
        }
    }
    findings
}

pub fn foreign(repo: &Repo) -> Vec<Finding> {
    let homes: BTreeMap<&str, &[&str]> = HOMES.into_iter().collect();
    let mut findings = Vec::new();
    for edge in edges(repo).iter().filter(|edge| !edge.dev && edge.from != "tests") {
        let manifest = format!("{}/Cargo.toml", edge.from);
        let foreign = !edge.to.starts_with("tocktower-");
        if foreign && edge.from == "core" && !CORE_LIBRARIES.contains(&edge.to.as_str()) {
            let what = format!(
                "core links {}, and may link only [{}]: core decides, others do",
                edge.to,
                CORE_LIBRARIES.join(", ")
            );
            findings.push(Finding::new(&manifest, 0, what));
        }
        let at_home = homes.get(edge.to.as_str()).is_none_or(|at| at.contains(&edge.from.as_str()));
        if !at_home {
            let what = format!(
                "{} is linked by {}: it has its home in [{}], behind a type of ours",
                edge.to,
                edge.from,
                homes.get(edge.to.as_str()).map_or(String::new(), |at| at.join(", "))
            );
            findings.push(Finding::new(&manifest, 0, what));
        }
    }
    findings
}

/// What the crates of the workspace depend on. Needs neither network nor a registry's index.
fn edges(repo: &Repo) -> Vec<Edge> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let told = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(repo.root())
        .output()
        .expect("cargo runs");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let told: Value = serde_json::from_slice(&told.stdout).expect("cargo answers in JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut edges = Vec::new();
    for package in told["packages"].as_array().expect("packages are a list") {
        let from = text(&package["name"]);
        let from = from.strip_prefix("tocktower-").unwrap_or(&from).to_owned();
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let dev = dependency["kind"] == "dev";
            edges.push(Edge { from: from.clone(), to: text(&dependency["name"]), dev });
        }
    }
    edges
}
