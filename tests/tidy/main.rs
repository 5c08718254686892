//! The house rules of the project, as tests: what a reviewer would otherwise have to look for.
//!
//! Each rule walks over the files of the repository and answers with what it found: file, line,
//! what is wrong and what to do about it. What the compiler or clippy can hold is left to them
//! (`[workspace.lints]`, `clippy.toml`); here is what they cannot see: sizes, who may use whom, and
//! whether the docs keep up with the code. Where a rule needs a list of exceptions, the list stands
//! in that rule's file with reasons.

mod data;
mod docs;
mod edges;
mod manifests;
mod names;
mod paths;
mod repo;
mod sizes;
mod source;
mod words;

use repo::{Finding, Repo};

/// Fails with all that was found.
#[track_caller]
fn hold(rule: &str, findings: Vec<Finding>) {
    let list: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
    assert!(findings.is_empty(), "{rule}\n\n{list}");
}

#[test]
fn files_stay_small() {
    hold("a file has at most 600 lines without its tests", sizes::files(&Repo::open()));
}

#[test]
fn functions_stay_small() {
    hold("a function has at most 80 lines", sizes::functions(&Repo::open()));
}

#[test]
fn lines_stay_short() {
    hold("a line has at most 100 columns", sizes::lines(&Repo::open()));
}

#[test]
fn a_file_opens_with_why() {
    hold("a source file opens with a `//!` header", words::headers(&Repo::open()));
}

#[test]
fn nothing_is_left_to_do_and_nothing_unwraps() {
    let rule = "no unwrap(), todo! or unimplemented! outside tests";
    hold(rule, words::unfinished(&Repo::open()));
}

#[test]
fn unsafe_code_is_where_it_is_known_to_be() {
    hold("unsafe code stands in listed files only", words::unsafe_code(&Repo::open()));
}

#[test]
fn crates_use_only_those_below_them() {
    hold("the edges between crates are those of ARCHITECTURE.md", edges::own(&Repo::open()));
}

#[test]
fn heavy_libraries_have_one_home() {
    hold(
        "RocksDB, etcd and their like are linked by one crate each",
        edges::foreign(&Repo::open()),
    );
}

#[test]
fn every_crate_keeps_the_rules_of_the_workspace() {
    let rule = "a crate inherits lints, edition and version from the workspace";
    hold(rule, manifests::inherited(&Repo::open()));
}

#[test]
fn there_is_one_build_for_all() {
    hold("one registry, one profile, no RUSTFLAGS", manifests::one_build(&Repo::open()));
}

#[test]
fn links_between_documents_lead_somewhere() {
    hold("a relative link in a document names a file that is there", docs::links(&Repo::open()));
}

#[test]
fn every_daemon_is_in_the_readme() {
    hold("README.md names each daemon", docs::daemons(&Repo::open()));
}

#[test]
fn every_key_is_documented() {
    let rule = "docs/configuration.md tells every key of the daemons, and no other";
    hold(rule, docs::keys(&Repo::open()));
}

#[test]
fn every_metric_is_documented() {
    let rule = "docs/metrics.md tells every metric of the daemons, and no other";
    hold(rule, docs::metrics(&Repo::open()));
}

#[test]
fn every_test_that_holds_a_promise_is_there() {
    let rule = "docs/promises.md names tests that are there, each with its file";
    hold(rule, docs::promises(&Repo::open()));
}

#[test]
fn no_machine_shows_in_a_file() {
    hold("no committed file names a place of one machine", paths::machines(&Repo::open()));
}

#[test]
fn golden_data_is_all_there() {
    hold("the golden tables and crontabs are complete", data::golden(&Repo::open()));
}
