//! A steady load whose every instant is known beforehand, by arithmetic that shares nothing with
//! the product.
//!
//! Half of it are one-shots, spread evenly; the other half comes again each second or two, by
//! `every` and by cron, so that a herd is due at each whole second. A quarter of the tasks run at
//! most once. Where there is a witness every
//! run calls it, most over HTTP and some as a command; on a fleet that the user names they do
//! nothing. The load is in a namespace of its own, under a label that drills have, and everything
//! in it ends by itself, also when nobody is left to remove it.

use std::collections::BTreeMap;
use std::time::Duration;

use tocktower_client::{CatchUpPolicy, Command, Cron, Http, Overlap, Schedule, Task};

use crate::account::{Delivery, Duty, Instant};
use crate::clock::{Moment, system};

/// The label of everything that a drill creates.
pub const LABEL: (&str, &str) = ("made-by", "tock-drill");
/// What command tasks call; each host of a local drill has its own in its path.
pub const COMMAND: &str = "drill-witness";

pub struct Load {
    /// Names the drill: its namespace.
    pub id: String,
    pub pool: String,
    pub runs_per_second: u32,
    pub lasts: Duration,
    /// Where the witness listens, if there is one.
    pub witness: Option<String>,
}

/// Tasks, and the instants that they have.
pub struct Planned {
    pub tasks: Vec<Task>,
    pub duties: BTreeMap<Instant, Duty>,
    pub from: Moment,
    pub until: Moment,
}

/// One in so many one-shots is a command: a process a run costs more than a call.
const COMMANDS: u32 = 10;
/// One in so many tasks runs at most once.
const AT_MOST_ONCE: u32 = 4;

impl Load {
    /// The load that begins with this whole second. Its first instant is half a second later, so
    /// that no whole second lies on its edges.
    pub fn plan(&self, second: u64) -> Planned {
        let from = Duration::from_secs(second) + Duration::from_millis(500);
        let until = from + self.lasts;
        let mut planned = Planned { tasks: Vec::new(), duties: BTreeMap::new(), from, until };
        let recurring = self.runs_per_second / 2;
        let one_shots = self.runs_per_second - recurring;
        self.one_shots(one_shots, &mut planned);
        self.recurring(recurring, &mut planned);
        planned
    }

    fn one_shots(&self, each_second: u32, planned: &mut Planned) {
        let seconds = u32::try_from(self.lasts.as_secs()).unwrap_or(u32::MAX);
        for number in 0..each_second.saturating_mul(seconds) {
            let at = planned.from + Duration::from_secs(1) * number / each_second;
            // Instants have milliseconds.
            let at = Duration::from_millis(u64::try_from(at.as_millis()).unwrap_or(u64::MAX));
            let task = self.task('o', number, number % COMMANDS == 0).at(system(at));
            planned.duties.insert(instant(&task, at), self.duty(number));
            planned.tasks.push(task);
        }
    }

    fn recurring(&self, each_second: u32, planned: &mut Planned) {
        let mut number = 0;
        let mut left = f64::from(each_second);
        while left > 0.0 {
            let task = self.task('r', number, false);
            let second = Duration::from_secs(1);
            let (task, period, phase) = match number % 3 {
                0 => (task.every(second), 1, 0),
                1 => (task.schedule(Schedule::every_with_phase(second * 2, second)), 2, 1),
                _ => (task.cron(Cron::new("* * * * * *")), 1, 0),
            };
            for second in planned.from.as_secs() + 1..=planned.until.as_secs() {
                if second % period == phase {
                    let at = Duration::from_secs(second);
                    planned.duties.insert(instant(&task, at), self.duty(number));
                }
            }
            // What an outage brings together must run, too, and not be skipped.
            let task = task.start_at(system(planned.from)).end_at(system(planned.until));
            let task = task.overlap(Overlap::Allow);
            planned.tasks.push(task.catch_up(CatchUpPolicy::All, Some(second * 3_600)));
            left -= if period == 2 { 0.5 } else { 1.0 };
            number += 1;
        }
    }

    fn task(&self, kind: char, number: u32, command: bool) -> Task {
        let task = Task::new(&self.id, format!("{kind}{number}")).label(LABEL.0, LABEL.1);
        let task = task.pool(&self.pool).delivery(match delivery(number) {
            Delivery::AtLeastOnce => tocktower_client::Delivery::AtLeastOnce,
            Delivery::AtMostOnce => tocktower_client::Delivery::AtMostOnce,
        });
        match &self.witness {
            Some(_) if command => task.command(Command::new([COMMAND])),
            Some(url) => task.http(Http::get(url)),
            None => task.noop(),
        }
    }

    fn duty(&self, number: u32) -> Duty {
        Duty { delivery: delivery(number), witnessed: self.witness.is_some() }
    }
}

fn delivery(number: u32) -> Delivery {
    // Of commands, too, whose numbers are even.
    if number % AT_MOST_ONCE == 2 { Delivery::AtMostOnce } else { Delivery::AtLeastOnce }
}

fn instant(task: &Task, at: Moment) -> Instant {
    Instant { task: task.name().to_owned(), at }
}
