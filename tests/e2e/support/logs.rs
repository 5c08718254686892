//! Which WARN and ERROR lines a daemon may log, and why.
//!
//! A line is listed for a trouble that the test makes on purpose; the same line in a calm fleet is
//! a failure. A line that is no log line, as a panic is, is never allowed.

/// What a test does to a daemon, or to those around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It was killed, and started again before its session had ended.
    Killed,
}

struct Allowed {
    trouble: Trouble,
    /// Part of the line.
    text: &'static str,
    #[expect(dead_code, reason = "said to the reader")]
    why: &'static str,
}

const ALLOWED: [Allowed; 1] = [Allowed {
    trouble: Trouble::Killed,
    text: "another session has this agent's name; waiting for it to end",
    why: "what it left behind cannot be told from another process until its lease ends",
}];

/// The lines that no entry of the list covers.
pub fn unlisted(log: &str, troubles: &[Trouble]) -> Vec<String> {
    let allowed = |line: &&str| {
        let covers =
            |allowed: &&Allowed| troubles.contains(&allowed.trouble) && line.contains(allowed.text);
        ALLOWED.iter().any(|allowed| covers(&allowed))
    };
    let lines = log.lines().filter(|line| !is_calm(line)).filter(|line| !allowed(line));
    lines.map(str::to_owned).collect()
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
