//! From a job of a crontab to a task.
//!
//! A task's name is the stem of the file and a hash of (schedule, zone, command), with an ordinal
//! for twins, so that importing a file twice changes nothing and a new line in the middle renames
//! no other. What cron gives its jobs, the task gives them too: the shell, the home directory as
//! working directory and as `HOME`, the user's name as `LOGNAME`, and a newline at the end of an
//! input that has none.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use tocktower_client::{Command, Cron, Task};
use xxhash_rust::xxh3::xxh3_64;

use super::Job;

/// The shell of a crontab that names none.
const SHELL: &str = "/bin/sh";
/// Longest stem: with a hash and an ordinal the name stays below 128.
const STEM_BYTES_MAX: usize = 100;

/// What is known of the host and the asker's wishes.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// For jobs without a `CRON_TZ`.
    pub zone: String,
    /// Whose crontab it is, if it has no user column.
    pub user: Option<String>,
    /// Home directories by user.
    pub homes: BTreeMap<String, String>,
    /// Home of whoever imports, for crontabs of nobody in particular.
    pub own_home: Option<String>,
}

/// Gives each job of one file its name.
pub struct Names {
    stem: String,
    given: BTreeMap<u64, u32>,
}

impl Names {
    /// For a file of this stem.
    pub fn new(file_stem: &str) -> Names {
        Names { stem: stem(file_stem), given: BTreeMap::new() }
    }

    fn name(&mut self, schedule: &str, zone: &str, command: &str) -> String {
        let hash = xxh3_64(format!("{schedule}\n{zone}\n{command}").as_bytes()) >> 32;
        let ordinal = self.given.entry(hash).or_insert(0);
        *ordinal += 1;
        match *ordinal {
            1 => format!("{}-{hash:08x}", self.stem),
            twin => format!("{}-{hash:08x}-{twin}", self.stem),
        }
    }
}

/// The task of a job.
pub fn task_of(job: &Job, namespace: &str, names: &mut Names, host: &Host) -> Task {
    let zone = job.zone.as_deref().unwrap_or(&host.zone);
    let shell = job.shell.as_deref().unwrap_or(SHELL);
    let user = job.user.as_ref().or(host.user.as_ref());
    let home = match (&job.home, user) {
        (Some(home), _) => Some(home),
        (None, Some(user)) => host.homes.get(user),
        (None, None) => host.own_home.as_ref(),
    };

    let mut command = Command::new([shell, "-c", &job.command]);
    if let Some(home) = home {
        command = command.cwd(home).env("HOME", home);
    }
    if let Some(user) = user {
        command = command.user(user).env("LOGNAME", user);
    }
    if job.shell.is_some() {
        command = command.env("SHELL", shell);
    }
    for (name, value) in &job.env {
        command = command.env(name, value);
    }
    if let Some(stdin) = &job.stdin {
        let newline = if stdin.is_empty() || stdin.ends_with('\n') { "" } else { "\n" };
        command = command.stdin(format!("{stdin}{newline}"));
    }
    let name = names.name(&job.schedule, zone, &job.written);
    Task::new(namespace, name).cron(Cron::new(&job.schedule).in_zone(zone)).command(command)
}

/// A zone of the IANA database.
pub fn is_zone(name: &str) -> bool {
    TimeZone::get(name).is_ok()
}

/// A file's stem as the beginning of a name.
fn stem(file_stem: &str) -> String {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let lower = file_stem.to_lowercase();
    let mapped: String = lower.chars().map(|c| if allowed(c) { c } else { '-' }).collect();
    let edges = |c: char| !c.is_ascii_alphanumeric();
    let cut = &mapped.trim_matches(edges);
    let cut = cut.get(..STEM_BYTES_MAX).unwrap_or(cut).trim_matches(edges);
    if cut.is_empty() { "crontab".to_owned() } else { cut.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::{Dialect, parse};
    use super::*;
    use tocktower_client::proto as v1;

    fn tasks(text: &str, dialect: Dialect, host: &Host) -> Vec<v1::Task> {
        let mut names = Names::new("jobs");
        let crontab = parse(text.as_bytes(), dialect);
        assert_eq!(crontab.refused, []);
        crontab
            .jobs
            .iter()
            .map(|job| task_of(job, "default", &mut names, host).into_proto())
            .collect()
    }

    fn command(task: &v1::Task) -> &v1::Command {
        let Some(v1::action::Kind::Command(command)) = &task.action.as_ref().unwrap().kind else {
            panic!("{task:?}");
        };
        command
    }

    fn host() -> Host {
        Host {
            zone: "Europe/Berlin".to_owned(),
            homes: BTreeMap::from([("backup".to_owned(), "/srv/backup".to_owned())]),
            own_home: Some("/home/me".to_owned()),
            user: None,
        }
    }

    #[test]
    fn names_stay_when_lines_move_and_twins_are_counted() {
        let first = tasks("0 1 * * * a\n0 1 * * * a\n0 2 * * * b\n", Dialect::User, &host());
        let second = tasks(
            "# new\n@daily c\n0  2 * * *\tb\n0 1 * * * a\n0 1 * * * a\n",
            Dialect::User,
            &host(),
        );
        let names = |tasks: &[v1::Task]| tasks.iter().map(|t| t.name.clone()).collect::<Vec<_>>();
        let (first, second) = (names(&first), names(&second));
        assert_eq!(first[1], format!("{}-2", first[0]));
        assert_eq!(second[1..], [first[2].clone(), first[0].clone(), first[1].clone()]);
    }

    #[test]
    fn a_name_is_a_promise() {
        let task = &tasks("0 1 * * * a\n", Dialect::User, &host())[0];
        assert_eq!(task.name, "jobs-b0f7fd94");
    }

    #[test]
    fn the_zone_is_part_of_the_name() {
        let name = |zone: &str| {
            let host = Host { zone: zone.to_owned(), ..Host::default() };
            tasks("0 1 * * * a\n", Dialect::User, &host)[0].name.clone()
        };
        assert_ne!(name("UTC"), name("Europe/Berlin"));
    }

    #[test]
    fn a_job_gets_what_cron_gives_it() {
        let text = "SHELL=/bin/bash\nX=1\n0 1 * * * backup a%input\n0 1 * * * nobody b\n";
        let tasks = tasks(text, Dialect::System, &host());
        let first = command(&tasks[0]);
        let Some(v1::command::Program::Argv(argv)) = &first.program else { panic!() };
        assert_eq!(argv.args, ["/bin/bash", "-c", "a"]);
        assert_eq!(first.cwd.as_deref(), Some("/srv/backup"));
        assert_eq!(first.user.as_deref(), Some("backup"));
        assert_eq!(first.stdin.as_deref(), Some("input\n"));
        let env: Vec<(&str, &str)> =
            first.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let expected =
            [("HOME", "/srv/backup"), ("LOGNAME", "backup"), ("SHELL", "/bin/bash"), ("X", "1")];
        assert_eq!(env, expected);
        assert_eq!(command(&tasks[1]).cwd, None, "nobody's home is not known");
    }

    #[test]
    fn a_file_of_any_name_makes_a_good_stem() {
        for (given, expected) in [
            ("nightly", "nightly"),
            ("My Crontab!", "my-crontab"),
            ("_x_", "x"),
            ("…", "crontab"),
            ("", "crontab"),
        ] {
            assert_eq!(stem(given), expected);
        }
        assert_eq!(stem(&"x".repeat(300)).len(), STEM_BYTES_MAX);
    }
}
