//! Crontabs, read exactly as Debian's cron reads them, and stricter where it lets nonsense pass.
//!
//! The parser is pure: text in, jobs and complaints out. It reads the whole file before anybody
//! decides anything, as who imports five hundred lines should not learn of their mistakes one by
//! one. What each kind of line means lies in a file of its own: settings in `setting`, schedules in
//! `fields`, the percent rules in `percent`; `task` turns a job into a task.
//!
//! A setting that is refused leaves unknown what the lines below it mean: in which zone, by which
//! shell. They are refused with it, up to where the setting is given rightly again, so that what
//! `--keep-going` imports is what was meant and not what was left of it.
//!
//! cron silently runs something else than was meant for some lines (a range that runs backwards
//! never fires, a name with a blank is a broken schedule). Here each such line is refused with its
//! number and a reason, and the order of trial is cron's own: comment, setting, schedule.

mod fields;
mod percent;
mod setting;
mod task;

use std::collections::BTreeMap;

pub use task::{Host, Names, is_zone, task_of};

/// cronie documents this bound; Debian's cron cuts longer commands without a word.
const COMMAND_BYTES_USUAL: usize = 998;

/// Settings that concern cron alone: no job here depends on them.
const NOT_CARRIED_OVER: [&str; 5] =
    ["MAILTO", "MAILFROM", "CONTENT_TYPE", "CONTENT_TRANSFER_ENCODING", "RANDOM_DELAY"];

/// Whose crontab it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// `crontab -l`: five fields and a command.
    User,
    /// `/etc/crontab` and `/etc/cron.d`: a user stands before the command.
    System,
}

/// What a file holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Crontab {
    pub jobs: Vec<Job>,
    /// Lines that no task can be made of, with the reason.
    pub refused: Vec<Remark>,
    /// What is not carried over, or should be looked at.
    pub warnings: Vec<Remark>,
}

/// Something to say about a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remark {
    /// Counts from 1.
    pub line: usize,
    pub message: String,
}

/// One line that runs something, with the settings that stand above it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Job {
    pub line: usize,
    /// The five fields with one blank between them, or a macro.
    pub schedule: String,
    /// `CRON_TZ`.
    pub zone: Option<String>,
    /// `SHELL`.
    pub shell: Option<String>,
    /// `HOME`.
    pub home: Option<String>,
    /// The other settings, but for those that only concern cron itself.
    pub env: BTreeMap<String, String>,
    /// From the user column.
    pub user: Option<String>,
    /// Without the percent signs.
    pub command: String,
    /// What stood behind the first bare percent sign.
    pub stdin: Option<String>,
    /// The command as it is written, for names that stay the same.
    pub written: String,
}

/// Reads a whole file.
pub fn parse(bytes: &[u8], dialect: Dialect) -> Crontab {
    let mut reader = Reader {
        dialect,
        crontab: Crontab::default(),
        settings: BTreeMap::new(),
        unknown: BTreeMap::new(),
    };
    let mut carriage_returns = false;
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").inspect(|_| carriage_returns = true).unwrap_or(line);
        match std::str::from_utf8(line) {
            Ok(text) => reader.line(index + 1, text),
            Err(_) => reader.no_text(index + 1, &String::from_utf8_lossy(line)),
        }
    }
    if carriage_returns {
        reader.warn(1, "lines end in CR LF; cron would take the CR as part of the command".into());
    }
    if !bytes.is_empty() && bytes.last() != Some(&b'\n') {
        let last = bytes.split(|&byte| byte == b'\n').count();
        reader.warn(last, "the last line has no newline; Debian's crontab refuses it".into());
    }
    reader.crontab.warnings.sort_by_key(|remark| remark.line);
    reader.crontab
}

struct Reader {
    dialect: Dialect,
    crontab: Crontab,
    settings: BTreeMap<String, String>,
    /// Settings whose value is not known, each with the line that was refused.
    unknown: BTreeMap<String, usize>,
}

impl Reader {
    fn line(&mut self, number: usize, line: &str) {
        let text = line.trim_start_matches([' ', '\t']);
        if text.is_empty() || text.starts_with('#') {
            return;
        }
        match setting::parse(text) {
            setting::Line::Setting { name, value } => self.setting(number, name, value),
            setting::Line::Broken { name, reason } => self.refuse_setting(number, name, reason),
            setting::Line::Other => match self.job(number, text).and_then(|job| self.known(job)) {
                Ok(Some(job)) => self.crontab.jobs.push(job),
                Ok(None) => {}
                Err(reason) => self.refuse(number, reason),
            },
        }
    }

    /// Bytes that are no text are nothing; what they were meant to set is not known then.
    fn no_text(&mut self, number: usize, lossy: &str) {
        let reason = "the line is not UTF-8".to_owned();
        match setting::parse(lossy.trim_start_matches([' ', '\t'])) {
            setting::Line::Setting { name, .. } | setting::Line::Broken { name, .. } => {
                self.refuse_setting(number, name, reason);
            }
            setting::Line::Other => self.refuse(number, reason),
        }
    }

    fn refuse_setting(&mut self, line: usize, name: String, reason: String) {
        self.refuse(line, reason);
        if !NOT_CARRIED_OVER.contains(&name.as_str()) {
            self.unknown.insert(name, line);
        }
    }

    /// The job, if every setting above it is known.
    fn known(&self, job: Option<Job>) -> Result<Option<Job>, String> {
        match (job, self.unknown.first_key_value()) {
            (Some(_), Some((name, line))) if name.is_empty() => {
                Err(format!("the setting of line {line} above it was refused: correct that first"))
            }
            (Some(_), Some((name, line))) => {
                let name = short(name);
                Err(format!("{name} is not known here: line {line} was refused, correct it first"))
            }
            (job, _) => Ok(job),
        }
    }

    fn setting(&mut self, line: usize, name: String, value: String) {
        match name.as_str() {
            "RANDOM_DELAY" => {
                self.warn(line, "RANDOM_DELAY is not carried over: use jitter".to_owned());
            }
            mail if NOT_CARRIED_OVER.contains(&mail) => {
                let hint = if value.is_empty() { "" } else { "; see the runs and their output" };
                self.warn(line, format!("{name} is not carried over: nothing is mailed{hint}"));
            }
            "CRON_TZ" if !value.is_empty() && !is_zone(&value) => {
                let reason = format!("CRON_TZ: {value:?} is no time zone, such as Europe/Berlin");
                self.refuse_setting(line, name, reason);
            }
            _ => {
                self.unknown.remove(&name);
                self.settings.insert(name, value);
            }
        }
    }

    /// A job; `None` if it is one that cannot be carried over, which is no error.
    fn job(&mut self, line: usize, text: &str) -> Result<Option<Job>, String> {
        let (schedule, rest) = fields::schedule(text)?;
        let (user, written) = match self.dialect {
            Dialect::User => (None, rest),
            Dialect::System => {
                let (user, command) = fields::word(rest);
                (Some(user_name(user)?), command)
            }
        };
        if written.is_empty() {
            return Err("there is no command behind the schedule".to_owned());
        }
        if written.starts_with('*') {
            return Err(format!(
                "the command begins with '*' ({:?}): six schedule fields where a crontab has five",
                short(written)
            ));
        }
        if written.contains('\0') {
            return Err("the command has a NUL character".to_owned());
        }
        if schedule == "@reboot" {
            let message = "@reboot is not importable: nothing here starts with a host".to_owned();
            self.warn(line, message);
            return Ok(None);
        }
        self.look_at(line, written);
        let (command, stdin) = percent::split(written);
        if command.trim().is_empty() {
            return Err("there is no command before the first '%'".to_owned());
        }
        let mut env = self.settings.clone();
        let zone = env.remove("CRON_TZ").filter(|zone| !zone.is_empty());
        let (shell, home) = (env.remove("SHELL"), env.remove("HOME"));
        let job = Job {
            line,
            schedule,
            zone,
            shell: shell.filter(|shell| !shell.is_empty()),
            home: home.filter(|home| !home.is_empty()),
            env,
            user,
            command,
            stdin,
            written: written.to_owned(),
        };
        Ok(Some(job))
    }

    /// Says what is accepted and looks wrong.
    fn look_at(&mut self, line: usize, command: &str) {
        if self.dialect == Dialect::User && fields::word(command).0 == "root" {
            let message = "the command begins with \"root\": is this a crontab with a user column? \
                           Then use --system";
            self.warn(line, message.to_owned());
        }
        if command.len() > COMMAND_BYTES_USUAL {
            let message = format!(
                "the command has {} bytes; cron cuts it at {COMMAND_BYTES_USUAL}, here it is whole",
                command.len()
            );
            self.warn(line, message);
        }
    }

    fn refuse(&mut self, line: usize, message: String) {
        self.crontab.refused.push(Remark { line, message });
    }

    fn warn(&mut self, line: usize, message: String) {
        self.crontab.warnings.push(Remark { line, message });
    }
}

fn user_name(word: &str) -> Result<String, String> {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let name = word.strip_suffix('$').unwrap_or(word);
    if name.starts_with(first) && name.chars().all(inner) {
        return Ok(word.to_owned());
    }
    if word.is_empty() {
        return Err("there is no user and no command behind the schedule".to_owned());
    }
    Err(format!(
        "{:?} stands where the user should be and is no user name; a user's own crontab has no \
         such column: leave out --system",
        short(word)
    ))
}

/// Enough of a text to know it again.
fn short(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> Crontab {
        parse(text.as_bytes(), Dialect::User)
    }

    fn only_reason(text: &str) -> String {
        let crontab = user(text);
        assert!(crontab.jobs.is_empty(), "{:?}", crontab.jobs);
        let [refused] = crontab.refused.as_slice() else { panic!("{:?}", crontab.refused) };
        refused.message.clone()
    }

    #[test]
    fn settings_hold_for_the_lines_below_them() {
        let crontab = user(
            "0 1 * * * a\nCRON_TZ=Europe/Berlin\nX=1\n0 1 * * * b\n\
             X=2\nCRON_TZ=\"\"\n0 1 * * * c\n",
        );
        assert_eq!(crontab.refused, []);
        let zones: Vec<_> = crontab.jobs.iter().map(|job| job.zone.as_deref()).collect();
        assert_eq!(zones, [None, Some("Europe/Berlin"), None]);
        let values: Vec<_> =
            crontab.jobs.iter().map(|job| job.env.get("X").map(String::as_str)).collect();
        assert_eq!(values, [None, Some("1"), Some("2")]);
    }

    #[test]
    fn shell_and_home_are_no_env_and_tz_is() {
        let crontab = user("SHELL=/bin/bash\nHOME=/srv\nTZ=Asia/Tokyo\n0 1 * * * a\n");
        let job = &crontab.jobs[0];
        assert_eq!(job.shell.as_deref(), Some("/bin/bash"));
        assert_eq!(job.home.as_deref(), Some("/srv"));
        assert_eq!(job.zone, None);
        assert_eq!(job.env, BTreeMap::from([("TZ".to_owned(), "Asia/Tokyo".to_owned())]));
    }

    #[test]
    fn what_only_cron_does_is_told_and_is_no_error() {
        let crontab = user("MAILTO=root\n@reboot a\n@daily b\n");
        assert_eq!((crontab.jobs.len(), crontab.refused.len()), (1, 0));
        let told: Vec<usize> = crontab.warnings.iter().map(|remark| remark.line).collect();
        assert_eq!(told, [1, 2]);
    }

    #[test]
    fn a_zone_that_does_not_exist_is_refused_where_it_stands() {
        assert!(only_reason("CRON_TZ=Mars/Phobos\n").contains("Mars/Phobos"));
    }

    #[test]
    fn below_a_refused_setting_jobs_are_refused_until_it_is_given_rightly_again() {
        for (wrong, right) in [
            ("CRON_TZ=Mars/Phobos", "CRON_TZ=UTC"),
            ("CRON_TZ=Mars/Phobos", "CRON_TZ="),
            ("SHELL=\"/bin/bash", "SHELL=/bin/bash"),
            ("X='1' 2", "X=1"),
        ] {
            let crontab = user(&format!(
                "0 1 * * * a\n{wrong}\n0 2 * * * b\nY=1\n@reboot c\n{right}\n0 3 * * * d\n"
            ));
            let refused: Vec<usize> = crontab.refused.iter().map(|remark| remark.line).collect();
            assert_eq!(refused, [2, 3], "{wrong}: {:?}", crontab.refused);
            let name = wrong.split_once('=').unwrap().0;
            let reason = &crontab.refused[1].message;
            assert!(reason.starts_with(&format!("{name} is not known here: line 2")), "{reason}");
            let jobs: Vec<&str> = crontab.jobs.iter().map(|job| job.command.as_str()).collect();
            assert_eq!(jobs, ["a", "d"], "{wrong}");
        }
        // What it would have set cannot be told, so nothing gives it rightly again.
        let crontab = user("MY VAR=1\nMY=1\n0 1 * * * a\n=1\n0 2 * * * b\n");
        assert_eq!((crontab.jobs.len(), crontab.refused.len()), (0, 4));
        let crontab = parse(b"X=\xff\n0 1 * * * a\nX=1\n0 2 * * * b\n", Dialect::User);
        assert_eq!((crontab.jobs.len(), crontab.refused.len()), (1, 2));
    }

    #[test]
    fn a_broken_setting_that_only_cron_needs_spoils_no_job() {
        let crontab = user("MAILTO=\"root\n0 1 * * * a\n");
        assert_eq!((crontab.jobs.len(), crontab.refused.len()), (1, 1));
    }

    #[test]
    fn windows_line_ends_and_a_missing_last_one_are_told() {
        let crontab = user("0 1 * * * a\r\n0 2 * * * b");
        let commands: Vec<&str> = crontab.jobs.iter().map(|job| job.command.as_str()).collect();
        assert_eq!(commands, ["a", "b"]);
        assert_eq!(crontab.warnings.len(), 2);
    }

    #[test]
    fn a_user_column_is_missed_or_suspected() {
        let system = parse(b"0 1 * * * /bin/true\n", Dialect::System);
        assert!(system.refused[0].message.contains("leave out --system"), "{system:?}");
        let system = parse(b"0 1 * * * root\n", Dialect::System);
        assert!(system.refused[0].message.contains("no command"), "{system:?}");
        let user = user("0 1 * * * root /bin/true\n");
        assert!(user.warnings[0].message.contains("--system"));
    }

    #[test]
    fn a_very_long_command_stays_whole() {
        let command = format!("echo {}", "x".repeat(5_000));
        let crontab = user(&format!("0 1 * * * {command}\n"));
        assert_eq!(crontab.jobs[0].command, command);
        assert_eq!(crontab.warnings.len(), 1);
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_by_line() {
        let crontab = parse(b"0 1 * * * a\n0 1 * * * \xff\n", Dialect::User);
        assert_eq!((crontab.jobs.len(), crontab.refused[0].line), (1, 2));
    }

    #[test]
    fn a_line_that_only_has_input_is_refused() {
        assert!(only_reason("0 1 * * * %input\n").contains("before the first '%'"));
    }
}
