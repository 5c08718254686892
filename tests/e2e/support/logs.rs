//! Which WARN and ERROR lines a daemon may log, and why.
//!
//! A line is listed for a trouble that the test makes on purpose; the same line in a calm fleet is
//! a failure. A line that is no log line, as a panic is, is never allowed.

/// What a test does to a daemon, or to those around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It was killed, and started again before its session had ended.
    Killed,
    /// A coordinator was killed.
    CoordinatorGone,
    /// etcd was down for a while.
    EtcdDown,
    /// It stood still for longer than its lease.
    Stopped,
    /// It is started beside one that it must not run beside.
    Refused,
    /// An agent is stopped for longer than its lease lives, and no other takes over.
    Frozen,
    /// Somebody revokes its lease by hand.
    LeaseRevoked,
    /// The disk under its data hangs for a while.
    DiskHung,
    /// The disk under its data has no room for a while.
    DiskFull,
    /// The disk under its data is broken.
    DiskFailed,
    /// Another process has its name, with a copy of its data.
    Twin,
    /// etcd is put back from a backup, and the epoch is raised.
    PutBack,
    /// Watches fall silent, without an end.
    WatchSilent,
}

struct Allowed {
    trouble: Trouble,
    /// Part of the line.
    text: &'static str,
    #[expect(dead_code, reason = "said to the reader")]
    why: &'static str,
}

const ALLOWED: &[Allowed] = &[
    Allowed {
        trouble: Trouble::Twin,
        text: "another session has this agent's name; waiting for it to end",
        why: "one of them is quicker",
    },
    Allowed {
        trouble: Trouble::Twin,
        text: "another process runs an agent of this name: give each its own `name`",
        why: "and the other says so when it ends",
    },
    Allowed {
        trouble: Trouble::PutBack,
        text: "put back from a backup",
        why: "who has seen more than the backup knows says so, and what to do",
    },
    Allowed {
        trouble: Trouble::PutBack,
        text: "the cluster is another than it was, start again: its epoch was raised",
        why: "an agent that stood by ends, to begin anew",
    },
    Allowed {
        trouble: Trouble::PutBack,
        text: "the cluster's epoch 1 is over, it was raised: start again",
        why: "a coordinator that did not know ends",
    },
    Allowed {
        trouble: Trouble::PutBack,
        text: "the lease of this coordinator is gone; it registers again",
        why: "the raise has ended its session",
    },
    Allowed {
        trouble: Trouble::Killed,
        text: "another session has this agent's name; waiting for it to end",
        why: "what it left behind cannot be told from another process until its lease ends",
    },
    Allowed {
        trouble: Trouble::Refused,
        text: "another session has this agent's name; waiting for it to end",
        why: "it has to wait before it may say that the name is taken",
    },
    Allowed {
        trouble: Trouble::Refused,
        text: "another process runs an agent of this name: give each its own `name`",
        why: "a daemon says as its last line why it ends",
    },
    Allowed {
        trouble: Trouble::Frozen,
        text: "ranges are stalled, what is due in them does not start",
        why: "each coordinator says once that nobody comes on with them",
    },
    Allowed {
        trouble: Trouble::Frozen,
        text: "the lease is lost: coming again as a new session",
        why: "it was stopped for longer than its lease lives",
    },
    Allowed {
        trouble: Trouble::Frozen,
        text: "claims are lost: nothing of their ranges starts here any more",
        why: "a claim goes with its lease",
    },
    Allowed {
        trouble: Trouble::LeaseRevoked,
        text: "the lease is lost: coming again as a new session",
        why: "it is gone",
    },
    Allowed {
        trouble: Trouble::LeaseRevoked,
        text: "claims are lost: nothing of their ranges starts here any more",
        why: "a claim goes with its lease",
    },
    Allowed {
        trouble: Trouble::DiskHung,
        text: "the store does not answer, so nothing can start",
        why: "it says what it gives up, and why",
    },
    Allowed {
        trouble: Trouble::DiskHung,
        text: "the agent's loop stands still, so nothing starts",
        why: "under load the loop waits for the store before that has been silent for long",
    },
    Allowed {
        trouble: Trouble::DiskHung,
        text: "ranges are stalled, what is due in them does not start",
        why: "coordinators see it before the agent gives up",
    },
    Allowed {
        trouble: Trouble::DiskHung,
        text: "the lease is lost: coming again as a new session",
        why: "it was given up",
    },
    Allowed {
        trouble: Trouble::DiskHung,
        text: "claims are lost: nothing of their ranges starts here any more",
        why: "a claim goes with its lease",
    },
    Allowed {
        trouble: Trouble::DiskFailed,
        text: "the store was not synced",
        why: "it is closed with what could not be written",
    },
    Allowed {
        trouble: Trouble::DiskFull,
        text: "disk",
        why: "it says how much is free and what it does about it",
    },
    Allowed {
        trouble: Trouble::DiskFull,
        text: "the store has failed",
        why: "what fills the disk at once leaves no room for handing over",
    },
    Allowed {
        trouble: Trouble::DiskFailed,
        text: "the store has failed",
        why: "it says what it gives up",
    },
    Allowed {
        trouble: Trouble::DiskFailed,
        text: "that the disk has failed may not be noted",
        why: "a file system that became read-only takes no note, and a person is told what to do",
    },
    Allowed {
        trouble: Trouble::DiskFailed,
        text: "the store failed: the disk failed: ",
        why: "a daemon says as its last line why it ends",
    },
    Allowed {
        trouble: Trouble::EtcdDown,
        text: "ranges are stalled, what is due in them does not start",
        why: "agents that are slow to come back after an outage are told of",
    },
    Allowed {
        trouble: Trouble::CoordinatorGone,
        text: "no link; dialling goes on",
        why: "an agent says once that a coordinator cannot be reached",
    },
    Allowed {
        trouble: Trouble::Stopped,
        text: "the lease is lost: coming again as a new session",
        why: "nobody kept it alive",
    },
    Allowed {
        trouble: Trouble::Stopped,
        text: "claims are lost: nothing of their ranges starts here any more",
        why: "a claim goes with its lease",
    },
    Allowed {
        trouble: Trouble::WatchSilent,
        text: "following the shared state failed; trying again",
        why: "a write of its own did not come back through its watch",
    },
    Allowed {
        trouble: Trouble::WatchSilent,
        text: "a watch stream was lost",
        why: "it is left, and another one opened",
    },
    Allowed {
        trouble: Trouble::EtcdDown,
        text: "following the shared state failed; trying again",
        why: "its watches and lists end with etcd",
    },
    Allowed {
        trouble: Trouble::EtcdDown,
        text: "the shared state is out of reach: only what this agent runs by itself goes on",
        why: "an agent that is started meanwhile begins from its store",
    },
    Allowed {
        trouble: Trouble::EtcdDown,
        text: "the lease is lost: coming again as a new session",
        why: "etcd was away for longer than the lease lives",
    },
    Allowed {
        trouble: Trouble::EtcdDown,
        text: "claims are lost: nothing of their ranges starts here any more",
        why: "a claim goes with its lease",
    },
    Allowed {
        trouble: Trouble::EtcdDown,
        text: "the catalog tries again",
        why: "a coordinator's watch ends with etcd",
    },
    Allowed {
        trouble: Trouble::EtcdDown,
        text: "the shared state does not answer",
        why: "so it says",
    },
    Allowed {
        trouble: Trouble::EtcdDown,
        text: "the lease of this coordinator is gone; it registers again",
        why: "as an agent's",
    },
    Allowed {
        trouble: Trouble::EtcdDown,
        text: "a watch stream was lost",
        why: "each one that ends is told once",
    },
    Allowed {
        trouble: Trouble::EtcdDown,
        text: "a commit is looked into",
        why: "what was on its way when etcd went may have been done",
    },
    Allowed {
        trouble: Trouble::EtcdDown,
        text: "the commit cannot be looked into yet",
        why: "not before etcd is back",
    },
];

/// The lines that no entry of the list covers. What is behind the last end of a line was cut off
/// by the kill of the daemon.
pub fn unlisted(log: &str, troubles: &[Trouble]) -> Vec<String> {
    let log = log.rfind('\n').map_or("", |end| &log[..end]);
    let allowed = |line: &&str| {
        let covers =
            |allowed: &&Allowed| troubles.contains(&allowed.trouble) && line.contains(allowed.text);
        ALLOWED.iter().any(|allowed| covers(&allowed))
    };
    let lines = log.lines().filter(|line| !is_calm(line)).filter(|line| !allowed(line));
    lines.map(str::to_owned).collect()
}

/// What a failed test should show of a log: all that is not calm, and how it ended.
pub fn excerpt(log: &str) -> String {
    const LAST: usize = 12;
    let (count, mut shown) = (log.lines().count(), String::new());
    for (number, line) in log.lines().enumerate() {
        if number + LAST >= count || !is_calm(line) {
            let start: String = line.chars().take(400).collect();
            shown.push_str(&format!("{start}\n"));
        }
    }
    shown
}

/// `<time> <LEVEL> …` below WARN.
fn is_calm(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let time = words.next().is_some_and(|word| word.ends_with('Z') && word.contains('T'));
    time && matches!(words.next(), Some("INFO" | "DEBUG" | "TRACE"))
}

#[test]
fn a_warning_is_allowed_for_its_trouble_only_and_a_panic_never() {
    let calm = "2026-11-24T10:00:00.000001Z  INFO tocktower_server::shell: ready addresses=a";
    let warned = format!("2026-11-24T10:00:00.000001Z  WARN agent: {}", ALLOWED[0].text);
    let panicked = "thread 'main' panicked at src/main.rs:1:1:";
    let log = format!("{calm}\n{warned}\n{panicked}\n");
    assert_eq!(unlisted(&log, &[]), [&warned, panicked]);
    assert_eq!(unlisted(&log, &[Trouble::Killed]), [panicked]);
}
