//! A load whose every instant is known beforehand, and the judge of what became of it.
//!
//! One-shots due at a steady rate, every second one an HTTP call to the witness, beside tasks that
//! come again by `every` and by cron. The schedules have a start and an end, so that their instants
//! can be counted out by arithmetic that shares nothing with the product.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use tocktower_client::{Client, Cron, Http, Overlap, Schedule, Task};
use tocktower_proto::json::parse_wall_down;

use super::api::{Api, has_ended, instant_text, now};
use super::fleet::{percentiles, spent, text};
use super::until;
use super::witness::Witness;

/// Every run that must be: its task and its instant.
type Instants = BTreeSet<(String, String)>;

pub struct Load {
    pub namespace: &'static str,
    pub one_shots: u32,
    /// One-shots due in a second.
    pub rate: u32,
    /// A third each by `every 1s`, by `every 2s` with a phase, and by cron each second.
    pub recurring: u32,
}

/// A load that has been created.
pub struct Placed {
    namespace: &'static str,
    /// The first instant may be from here on; half a second, so that no whole one is at the edge.
    pub from: Duration,
    pub until: Duration,
    expected: Instants,
}

/// How strictly a load is judged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Nobody died: one attempt each.
    Calm,
    /// An agent died: what was open or unsettled there may have a second attempt.
    Crash,
}

impl Load {
    /// Creates it through the SDK; it begins when `after` has passed.
    pub async fn place(&self, client: &Client, witness: &Witness, after: Duration) -> Placed {
        let begun = now();
        let from = Duration::from_secs((begun + after).as_secs()) + Duration::from_millis(500);
        let span = Duration::from_secs(1) * self.one_shots / self.rate;
        let until = from + Duration::from_secs(span.as_secs().max(4));
        let mut expected = Instants::new();
        let mut tasks = Vec::new();
        for number in 0..self.one_shots {
            let at = from + Duration::from_secs(1) * number / self.rate;
            let at = Duration::from_millis(u64::try_from(at.as_millis()).expect("fits"));
            let name = format!("o{number}");
            expected.insert((name.clone(), instant_text(at)));
            let task = Task::new(self.namespace, name).at(std::time::UNIX_EPOCH + at);
            tasks.push(if number % 2 == 0 {
                task.noop()
            } else {
                task.http(Http::get(&witness.url))
            });
        }
        for number in 0..self.recurring {
            let (task, period, phase) = self.recurring(number);
            for second in from.as_secs() + 1..=until.as_secs() {
                if second % period == phase {
                    let instant = instant_text(Duration::from_secs(second));
                    expected.insert((task.name().to_owned(), instant));
                }
            }
            let (start, end) = (std::time::UNIX_EPOCH + from, std::time::UNIX_EPOCH + until);
            // Instants that come together after a takeover must run, too, and not be skipped.
            tasks.push(task.start_at(start).end_at(end).overlap(Overlap::Allow).noop());
        }
        let count = tasks.len();
        for item in client.batch(tasks).await.expect("a batch is taken") {
            item.result.unwrap_or_else(|error| panic!("{}: {error}", item.name));
        }
        println!("created {count} tasks in {}", spent(now() - begun));
        assert!(now() < from, "the load must be there before it begins");
        Placed { namespace: self.namespace, from, until, expected }
    }

    fn recurring(&self, number: u32) -> (Task, u64, u64) {
        let task = Task::new(self.namespace, format!("r{number}"));
        let seconds = Duration::from_secs;
        match number % 3 {
            0 => (task.every(seconds(1)), 1, 0),
            1 => (task.schedule(Schedule::every_with_phase(seconds(2), seconds(1))), 2, 1),
            _ => (task.cron(Cron::new("* * * * * *")), 1, 0),
        }
    }
}

impl Placed {
    /// Waits for this moment of the load.
    pub async fn reaches(&self, share: f64) {
        let at = self.from + (self.until - self.from).mul_f64(share);
        tokio::time::sleep(at.saturating_sub(now())).await;
    }

    /// Waits until every instant has a settled end, and judges: each exactly one run that
    /// succeeded, none early, none later than `latest`; the witness must agree.
    pub async fn judge(&self, api: &Api, witness: &Witness, weather: Weather, latest: Duration) {
        let within = self.until.saturating_sub(now()) + Duration::from_secs(45);
        let what = format!("{} instants are settled", self.expected.len());
        let runs = until(&what, within, async || {
            let runs = api.runs(self.namespace).await.map_err(|answer| format!("{answer:?}"))?;
            let settled = |run: &&Value| has_ended(run) && run["provisional"] != true;
            let count = runs.iter().filter(settled).count();
            if count >= self.expected.len() && count == runs.len() {
                return Ok(runs);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            let open = runs.iter().find(|run| !settled(run));
            Err(format!("{count} of {} runs, {}; {open:?}", runs.len(), self.lacking(&runs)))
        })
        .await;
        self.history(&runs, weather, latest);
        self.testimony(&runs, witness, weather);
    }

    /// The first instants without a run, for the message of a failure.
    fn lacking(&self, runs: &[Value]) -> String {
        let seen: Instants = runs.iter().map(instant).collect();
        let lacking: Vec<_> = self.expected.difference(&seen).collect();
        format!("{} are lacking: {:?}", lacking.len(), &lacking[..lacking.len().min(5)])
    }

    fn history(&self, runs: &[Value], weather: Weather, latest: Duration) {
        let seen: Instants = runs.iter().map(instant).collect();
        let phantoms: Vec<_> = seen.difference(&self.expected).take(5).collect();
        assert!(phantoms.is_empty(), "runs of no instant: {phantoms:?}");
        assert_eq!(seen.len(), self.expected.len(), "{}", self.lacking(runs));
        assert_eq!(runs.len(), seen.len(), "an instant has two runs");
        let wrong: Vec<&Value> = runs.iter().filter(|run| run["state"] != "succeeded").collect();
        assert!(wrong.is_empty(), "{} did not succeed: {:?}", wrong.len(), wrong.first());
        let repeated: Vec<&Value> = runs.iter().filter(|run| attempts(run) != 1).collect();
        if weather == Weather::Calm {
            assert!(repeated.is_empty(), "{} repeated: {:?}", repeated.len(), repeated.first());
        }
        let lateness = |run: &Value| run["lateness_us"].as_i64().expect("it has started");
        let early: Vec<&Value> = runs.iter().filter(|run| lateness(run) < 0).collect();
        assert!(early.is_empty(), "{} were early: {:?}", early.len(), early.first());
        let all: Vec<i64> = runs.iter().map(lateness).collect();
        let worst = runs.iter().max_by_key(|run| lateness(run)).expect("there are runs");
        let mut agents = BTreeMap::<String, usize>::new();
        runs.iter().for_each(|run| *agents.entry(text(&run["agent"])).or_default() += 1);
        println!(
            "{}: {} runs, {} repeated, by {agents:?}",
            self.namespace,
            runs.len(),
            repeated.len()
        );
        println!("{}: {}", self.namespace, percentiles(all));
        let most = i64::try_from(latest.as_micros()).expect("fits");
        assert!(lateness(worst) <= most, "later than {latest:?}: {worst}");
    }

    /// What the target of the HTTP runs saw.
    fn testimony(&self, runs: &[Value], witness: &Witness, weather: Weather) {
        let calls = witness.calls();
        let (mut counted, mut twice) = (0, 0);
        for run in runs {
            let number = text(&run["task"]).strip_prefix('o').and_then(|n| n.parse::<u32>().ok());
            if number.is_none_or(|number| number % 2 == 0) {
                continue;
            }
            let times = calls.get(&text(&run["run_id"]));
            let times = times.unwrap_or_else(|| panic!("nobody called for {run}"));
            counted += 1;
            twice += usize::from(times.len() > 1);
            let due = parse_wall_down(&text(&run["due"])).expect("a time").micros();
            let at = i64::try_from(times[0].as_micros()).expect("fits");
            assert!(at >= due, "called {} µs before its due: {run}", due - at);
            assert!(weather == Weather::Crash || times.len() == 1, "called twice: {run}");
        }
        println!("{}: the witness was called for {counted} runs, {twice} twice", self.namespace);
    }
}

fn instant(run: &Value) -> (String, String) {
    (text(&run["task"]), text(&run["instant"]))
}

fn attempts(run: &Value) -> usize {
    let listed = run["attempts"].as_array().map_or(0, Vec::len);
    let number = run["attempt"].as_u64().and_then(|number| usize::try_from(number).ok());
    number.unwrap_or(0).max(listed)
}
