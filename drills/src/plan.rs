//! What a drill does, as data: acts at times of a steady load. Nothing here touches anything.
//!
//! What may follow from a drill (who may repeat a run, whose history may be gone, when nobody is
//! promised anything because etcd has no majority) is read from its acts by whoever judges, and
//! not written down a second time here.

use std::time::Duration;

use crate::limits::AGENTS;

/// One drill of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drill {
    pub name: String,
    /// What happens, in one line.
    pub about: String,
    /// By time.
    pub steps: Vec<Step>,
    /// How long the load goes on.
    pub lasts: Duration,
}

/// An act, not before its time and not before the one before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// From the first instant of the load on.
    pub at: Duration,
    pub act: Act,
    pub target: Target,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// kill -9.
    Kill,
    /// SIGTERM, and waiting for the end.
    Terminate,
    /// Starting what was killed or terminated, on its own data.
    Start,
    /// SIGSTOP: connections stay open, and silent.
    Pause,
    /// SIGCONT.
    Resume,
    /// Nothing gets through to or from the host any more, and nobody is told.
    Cut,
    Mend,
    /// The host is gone for good: off the network, its processes dead, its disk wiped.
    Lose,
    /// Each sync of its disk takes longer.
    Slow,
    Steady,
    /// The API's drain, and waiting until the agent says that it is drained.
    Drain,
    Uncordon,
    /// Waiting until every range is held and each agent has its share.
    Settle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Agent(usize),
    Coordinator(usize),
    /// The member of etcd that leads when it is first hit; the same one from then on.
    Leader,
    /// Some member of etcd that does not lead.
    Follower,
    /// Every member of etcd.
    Etcd,
    Fleet,
}

/// What a drill needs beyond the API of a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Nothing.
    Api,
    /// Its processes, links and disks: a fleet of the drill's own.
    Processes,
}

impl Drill {
    pub fn reach(&self) -> Reach {
        match self.steps.iter().all(|step| step.act.reach() == Reach::Api) {
            true => Reach::Api,
            false => Reach::Processes,
        }
    }

    /// The programs that its faults need beside the fleet's own.
    pub fn tools(&self) -> Vec<&'static str> {
        let slow = self.steps.iter().any(|step| step.act == Act::Slow);
        if slow { vec!["strace"] } else { Vec::new() }
    }
}

impl Act {
    fn reach(self) -> Reach {
        match self {
            Act::Drain | Act::Uncordon | Act::Settle => Reach::Api,
            Act::Kill
            | Act::Terminate
            | Act::Start
            | Act::Pause
            | Act::Resume
            | Act::Cut
            | Act::Mend
            | Act::Lose
            | Act::Slow
            | Act::Steady => Reach::Processes,
        }
    }

    /// What ends what this began; nothing for an act that stands for itself.
    pub fn undone_by(self) -> Option<Act> {
        match self {
            Act::Kill | Act::Terminate => Some(Act::Start),
            Act::Pause => Some(Act::Resume),
            Act::Cut => Some(Act::Mend),
            Act::Slow => Some(Act::Steady),
            Act::Drain => Some(Act::Uncordon),
            Act::Start
            | Act::Resume
            | Act::Mend
            | Act::Lose
            | Act::Steady
            | Act::Uncordon
            | Act::Settle => None,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Act::Kill => "kill -9",
            Act::Terminate => "SIGTERM",
            Act::Start => "start",
            Act::Pause => "SIGSTOP",
            Act::Resume => "SIGCONT",
            Act::Cut => "cut the link",
            Act::Mend => "mend the link",
            Act::Lose => "lose the host and its disk",
            Act::Slow => "slow the disk",
            Act::Steady => "free the disk",
            Act::Drain => "drain",
            Act::Uncordon => "uncordon",
            Act::Settle => "wait until all ranges are held",
        }
    }
}

/// The time of the fault: the load has found its pace.
const FAULT: u64 = 6;

/// Every drill, in the order in which `all` runs them.
pub fn catalogue() -> Vec<Drill> {
    let mut drills = vec![
        drill("calm", "nothing happens: what the others are compared with", 20, vec![]),
        drill(
            "drain",
            "an agent is drained by the API and uncordoned",
            40,
            vec![
                step(FAULT, Act::Drain, Target::Agent(0)),
                step(18, Act::Uncordon, Target::Agent(0)),
                step(20, Act::Settle, Target::Fleet),
            ],
        ),
        rolling_upgrade(),
    ];
    let victims = [
        ("agent", "an agent", Target::Agent(0)),
        ("coordinator", "a coordinator", Target::Coordinator(0)),
        ("etcd-leader", "the leader of etcd", Target::Leader),
        ("etcd-follower", "a minority of etcd", Target::Follower),
    ];
    for (word, about, target) in victims {
        drills.extend(faults(word, about, target));
    }
    drills.extend([
        drill(
            "etcd-down",
            "every member of etcd is killed and comes back after 15 s",
            40,
            vec![step(FAULT, Act::Kill, Target::Etcd), step(FAULT + 15, Act::Start, Target::Etcd)],
        ),
        drill(
            "etcd-slow-disk",
            "each sync of etcd's disks takes 200 ms longer for 15 s",
            32,
            vec![step(FAULT, Act::Slow, Target::Etcd), step(FAULT + 15, Act::Steady, Target::Etcd)],
        ),
        drill(
            "host-loss",
            "the host of an agent is gone for good, with its disk",
            26,
            vec![step(FAULT, Act::Lose, Target::Agent(0))],
        ),
        drill(
            "host-and-leader-loss",
            "the hosts of an agent and of etcd's leader are gone at the same moment, for good",
            26,
            vec![step(FAULT, Act::Lose, Target::Agent(0)), step(FAULT, Act::Lose, Target::Leader)],
        ),
    ]);
    drills
}

/// The one that `make test` runs: two faults within one fleet, in little time.
pub fn smoke() -> Drill {
    drill(
        "smoke",
        "an agent is killed and comes back, then another is cut off for 8 s; not one of `all`",
        34,
        vec![
            step(4, Act::Kill, Target::Agent(0)),
            step(10, Act::Start, Target::Agent(0)),
            step(16, Act::Cut, Target::Agent(1)),
            step(24, Act::Mend, Target::Agent(1)),
        ],
    )
}

/// The drill of this name.
pub fn find(name: &str) -> Option<Drill> {
    catalogue().into_iter().chain([smoke()]).find(|drill| drill.name == name)
}

/// Dead, silent, cut off, and dead for a moment only.
fn faults(word: &str, about: &str, target: Target) -> [Drill; 4] {
    let pair = |name: &str, what: &str, act: Act, after: u64, lasts: u64| {
        let undo = act.undone_by().unwrap_or(Act::Settle);
        let steps = vec![step(FAULT, act, target), step(FAULT + after, undo, target)];
        drill(&format!("{word}-{name}"), &format!("{about} is {what}"), lasts, steps)
    };
    [
        pair("kill", "killed (kill -9) and comes back after 10 s", Act::Kill, 10, 26),
        pair("pause", "stopped (SIGSTOP) for 12 s", Act::Pause, 12, 28),
        pair("cut", "cut off for 12 s", Act::Cut, 12, 28),
        pair("restart", "killed (kill -9) and started again at once", Act::Kill, 0, 20),
    ]
}

fn rolling_upgrade() -> Drill {
    let mut steps = Vec::new();
    for agent in 0..AGENTS {
        let at = FAULT + 6 * u64::try_from(agent).unwrap_or(u64::MAX);
        steps.push(step(at, Act::Terminate, Target::Agent(agent)));
        steps.push(step(at, Act::Start, Target::Agent(agent)));
        steps.push(step(at, Act::Settle, Target::Fleet));
    }
    let about = "every agent in turn is asked to end (SIGTERM) and started again";
    drill("rolling-upgrade", about, 40, steps)
}

fn drill(name: &str, about: &str, lasts: u64, steps: Vec<Step>) -> Drill {
    let lasts = Duration::from_secs(lasts);
    Drill { name: name.to_owned(), about: about.to_owned(), steps, lasts }
}

fn step(at: u64, act: Act, target: Target) -> Step {
    Step { at: Duration::from_secs(at), act, target }
}
