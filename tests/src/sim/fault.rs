//! What may go wrong in a walk, and what operators do; `World::fault` is what comes of it.

use tocktower_agent::driver::Driver;
use tocktower_cluster::duty::Ask;

use super::world::World;

/// What happens to a host or to etcd, and when.
#[derive(Clone, Debug)]
pub enum Fault {
    Crash {
        host: usize,
        back_after: u64,
        power: bool,
    },
    Pause {
        host: usize,
        for_us: u64,
    },
    Cut {
        host: usize,
        for_us: u64,
    },
    /// Answers are lost, requests arrive.
    Deaf {
        host: usize,
        for_us: u64,
    },
    ClockJump {
        host: usize,
        by_us: i64,
    },
    /// NTP comes, or an operator.
    ClockSet {
        host: usize,
    },
    /// The disk has no room for a while.
    DiskLow {
        host: usize,
        for_us: u64,
    },
    DiskFree {
        host: usize,
    },
    /// An operator does something about the host's agent.
    Operator {
        host: usize,
        act: Act,
    },
    Leave {
        host: usize,
        back_after: u64,
    },
    Join {
        host: usize,
    },
    Compact,
    /// As coordinators do: to the newest revision that is so old.
    CompactOld {
        age_us: u64,
    },
    RevokeLease,
    /// As that, and for a while keep-alives of it are answered as if it lived.
    DeadLease {
        for_us: u64,
    },
    LeaderChange,
    EndWatches {
        host: usize,
    },
    /// One of its watches brings nothing any more, without a word.
    Hush {
        host: usize,
    },
    EtcdDown {
        for_us: u64,
    },
    /// etcd is out of space: it takes no puts.
    NoSpace {
        for_us: u64,
    },
    /// The next write of its disk fails: nothing of it is there, and the process ends. `lost`:
    /// nor is what was written before and not synced.
    DiskFails {
        host: usize,
        back_after: u64,
        lost: bool,
    },
    DiskFailed {
        host: usize,
        life: u32,
        back_after: u64,
        lost: bool,
    },
    BackUp,
    /// etcd is again what it was then. `stopped`: the operator has stopped every agent before.
    PutBack {
        stopped: bool,
    },
    RaiseEpoch,
}

/// What an operator does.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// Asks something of it, and takes that back after a while.
    Ask {
        ask: Ask,
        for_us: u64,
    },
    /// Who is drained by now may be stopped: it is killed, and started again still drained.
    StopDrained,
    Uncordon,
}

impl World {
    /// What etcd does, as it may.
    pub(super) fn etcd_fails(&mut self, fault: Fault) {
        match fault {
            Fault::Compact => {
                let behind = i64::try_from(self.rng.between(0, 40)).expect("small");
                self.etcd.compact(self.etcd.revision().0 - behind);
            }
            Fault::CompactOld { age_us } => {
                let to = self.truth.newest_of(self.now.saturating_sub(age_us));
                self.etcd.compact(to.0);
            }
            Fault::RevokeLease => {
                self.hosts.iter_mut().for_each(|host| host.disturbed = true);
                let leases = self.etcd.lease_ids();
                if let Some(lease) = self.rng.pick(&leases).copied() {
                    self.etcd.end_lease(lease);
                    self.changed();
                }
            }
            Fault::DeadLease { for_us } => {
                self.hosts.iter_mut().for_each(|host| host.disturbed = true);
                let leases = self.etcd.lease_ids();
                if let Some(lease) = self.rng.pick(&leases).copied() {
                    self.etcd.end_unnoticed(lease, self.now + for_us);
                    self.changed();
                }
            }
            Fault::NoSpace { for_us } => {
                self.hosts.iter_mut().for_each(|host| host.disturbed = true);
                self.etcd.full_until = self.now + for_us;
            }
            Fault::LeaderChange => self.etcd.renew_all(self.now),
            Fault::EtcdDown { for_us } => {
                self.hosts.iter_mut().for_each(|host| host.disturbed = true);
                self.etcd_down_until = self.now + for_us;
            }
            other => unreachable!("{other:?} is none of etcd's"),
        }
    }

    /// An agent whose disk has failed gives its session up, if that gets there.
    pub(super) fn give_up(&mut self, host: usize) {
        let lease = self.hosts[host].driver.as_ref().and_then(Driver::lease);
        if let Some(lease) = lease.filter(|_| self.reaches(host)) {
            self.etcd.end_lease(lease);
            self.changed();
        }
    }
}
