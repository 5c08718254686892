//! What may go wrong in a walk, and what operators do; `World::fault` is what comes of it.

use tocktower_cluster::duty::Ask;

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
    RevokeLease,
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
