//! Hosts of a local drill: network namespaces with addresses of their own, on one bridge.
//!
//! The bridge lies in a namespace, too (the hub), and so does the drill itself while it runs: the
//! machine's own network has no link, no address and no rule of a drill, two drills can use the
//! same addresses at the same time, and no packet of a drill can get out. A link is cut by taking
//! its port off the bridge: packets vanish on the way, as when a switch fails, and both ends still
//! have their carrier. That needs nothing but `ip`.
//!
//! What a drill leaves behind when it is killed itself: its daemons die with it (`setpriv
//! --pdeathsig`), and its namespaces and folder bear the number and the start of its process, so
//! that the next drill can tell them from those of a drill that runs, and removes them.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::Error;

const PREFIX: &str = "tocktower-drill-";
/// Files that were asked to stay; no later drill removes them.
const KEPT: &str = "tocktower-kept-drill-";
const NAMESPACES: &str = "/run/netns";
const HUB: &str = "hub";
/// The drill's own address, on the bridge.
pub const DRILL: IpAddr = address(1);

/// An address of the drill's network; no packet leaves it, so it may be used elsewhere, too.
pub const fn address(host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 99, 0, host))
}

pub struct Net {
    /// Names everything that this drill makes on the machine.
    id: String,
    hosts: Vec<String>,
}

impl Net {
    /// Makes the hub.
    pub fn create() -> Result<Net, Error> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let start = started(pid).unwrap_or_default();
        let mut net = Net { id: format!("{PREFIX}{pid}-{start}-{count}"), hosts: Vec::new() };
        net.namespace(HUB)?;
        let hub = net.name(HUB);
        ip(&format!("-n {hub} link add name bridge0 type bridge"))?;
        ip(&format!("-n {hub} addr add {DRILL}/24 dev bridge0"))?;
        ip(&format!("-n {hub} link set dev bridge0 up"))?;
        Ok(net)
    }

    /// Adds a host with this address.
    pub fn host(&mut self, host: &str, address: IpAddr) -> Result<(), Error> {
        self.namespace(host)?;
        let (hub, own) = (self.name(HUB), self.name(host));
        ip(&format!("-n {hub} link add name {host} type veth peer name eth0 netns {own}"))?;
        ip(&format!("-n {hub} link set dev {host} up"))?;
        ip(&format!("-n {own} addr add {address}/24 dev eth0"))?;
        ip(&format!("-n {own} link set dev eth0 up"))?;
        self.mend(host)
    }

    /// Nothing gets through to or from the host any more.
    pub fn cut(&self, host: &str) -> Result<(), Error> {
        ip(&format!("-n {} link set dev {host} nomaster", self.name(HUB)))
    }

    pub fn mend(&self, host: &str) -> Result<(), Error> {
        ip(&format!("-n {} link set dev {host} master bridge0", self.name(HUB)))
    }

    /// A command on a host. It becomes the program itself, so its pid is the program's, and dies
    /// with the thread that starts it.
    pub fn command(&self, host: &str, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(host), "setpriv", "--pdeathsig", "KILL", "--"]);
        command.arg(program);
        command
    }

    /// Moves the calling thread, and those that it starts from now on, to the hub.
    pub fn enter(&self) -> Result<(), Error> {
        let path = Path::new(NAMESPACES).join(self.name(HUB));
        let namespace = File::open(path).map_err(Error::io("opening the drill's namespace"))?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| Error::io("entering the drill's namespace")(error.into()))
    }

    /// Where the drill's files may lie, until the drill is over; those that are to stay, for good.
    pub fn folder(&self, keep: bool) -> PathBuf {
        let name = if keep { self.id.replace(PREFIX, KEPT) } else { self.id.clone() };
        std::env::temp_dir().join(name)
    }

    fn name(&self, host: &str) -> String {
        format!("{}-{host}", self.id)
    }

    fn namespace(&mut self, host: &str) -> Result<(), Error> {
        let name = self.name(host);
        ip(&format!("netns add {name}"))?;
        self.hosts.push(host.to_owned());
        ip(&format!("-n {name} link set dev lo up"))
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // The hub last: the drill's own thread is in it, and no process of a host is.
        for host in self.hosts.iter().rev() {
            // What commands of tasks have left running goes, too.
            remove(&self.name(host));
        }
    }
}

/// Removes what drills left that did not come to their own end.
pub fn sweep() -> Result<(), Error> {
    let names = |folder: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    };
    for name in names(Path::new(NAMESPACES)).into_iter().filter(|name| is_stale(name)) {
        remove(&name);
    }
    let folder = std::env::temp_dir();
    for name in names(&folder).into_iter().filter(|name| is_stale(name)) {
        std::fs::remove_dir_all(folder.join(&name))
            .map_err(Error::io(format!("removing {name}")))?;
    }
    Ok(())
}

/// The process that made what has this name is gone.
fn is_stale(name: &str) -> bool {
    let Some((pid, start)) = maker(name) else { return false };
    started(pid) != Some(start)
}

/// Whose it is: the process, and when that started, as numbers of processes come again.
fn maker(name: &str) -> Option<(u32, u64)> {
    let mut parts = name.strip_prefix(PREFIX)?.split('-');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// When a process started, in ticks since the machine did.
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything; 20 fields after it comes the start.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

/// Ends what runs in a namespace of a drill, and removes it. Failing is no reason to stop here:
/// the next drill tries again.
fn remove(namespace: &str) {
    if !namespace.ends_with(HUB) {
        let pids = Command::new("ip").args(["netns", "pids", namespace]).output();
        let pids = pids.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        for pid in pids.unwrap_or_default().lines() {
            if let Some(pid) = pid.trim().parse().ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
    let _ = Command::new("ip").args(["netns", "del", namespace]).output();
}

/// Runs `ip` with these words.
fn ip(words: &str) -> Result<(), Error> {
    let what = || format!("ip {words}");
    let output = Command::new("ip").args(words.split(' ')).output().map_err(Error::io(what()))?;
    if output.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Tool { what: what(), told })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_made_is_stale_once_that_very_process_is_gone() {
        let pid = std::process::id();
        let start = started(pid).unwrap();
        assert!(!is_stale(&format!("{PREFIX}{pid}-{start}-0-a0")));
        // The same number, another process.
        assert!(is_stale(&format!("{PREFIX}{pid}-{}-0-a0", start + 1)));
        assert!(!is_stale("somebody-else"));
        assert!(!is_stale(&format!("{PREFIX}by-hand")));
    }
}
