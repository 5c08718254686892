//! What a local drill needs of this machine, told all at once when it is not there. Nothing is
//! installed: whose machine it is decides that.

use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::error::Error;
use crate::plan::Drill;

/// The programs of the fleet.
#[derive(Debug, Clone)]
pub struct Programs {
    pub tocktower: PathBuf,
    pub etcd: PathBuf,
}

/// Where the user says that they are; left out: beside this program, else in `PATH`.
#[derive(Debug, Clone, Default)]
pub struct Places {
    pub tocktower: Option<PathBuf>,
    pub etcd: Option<PathBuf>,
}

/// Finds everything that these drills need.
///
/// # Errors
/// [`Error::Missing`] with all that is missing, and what would help.
pub fn find(places: &Places, drills: &[Drill]) -> Result<Programs, Error> {
    let mut missing = Vec::new();
    if !geteuid().is_root() {
        missing.push("network namespaces need root: run it as root".to_owned());
    }
    let tocktower = program("tocktower", places.tocktower.as_deref(), &mut missing);
    let etcd = program("etcd", places.etcd.as_deref(), &mut missing);
    for (tool, package) in [("ip", "iproute2"), ("setpriv", "util-linux")] {
        if in_path(tool).is_none() {
            missing.push(format!("`{tool}` is not in PATH (package {package})"));
        }
    }
    for drill in drills {
        for tool in drill.tools().into_iter().filter(|tool| in_path(tool).is_none()) {
            missing.push(format!("`{tool}`, which {} needs, is not in PATH", drill.name));
        }
    }
    if missing.is_empty() { Ok(Programs { tocktower, etcd }) } else { Err(Error::Missing(missing)) }
}

fn program(name: &str, given: Option<&Path>, missing: &mut Vec<String>) -> PathBuf {
    if let Some(given) = given {
        if !given.is_file() {
            missing.push(format!("--{name} {} is no file", given.display()));
        }
        return given.to_owned();
    }
    let own = std::env::current_exe().ok();
    let beside = own.and_then(|own| Some(own.parent()?.join(name))).filter(|file| file.is_file());
    beside.or_else(|| in_path(name)).unwrap_or_else(|| {
        missing.push(format!(
            "`{name}` is neither beside this program nor in PATH: name it with --{name} FILE"
        ));
        PathBuf::new()
    })
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
