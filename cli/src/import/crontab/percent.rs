//! Percent signs in a command, as crontab(5) has them.
//!
//! The first bare `%` ends the command and begins its standard input; each further bare one is a
//! newline there. A backslash right before a percent sign takes away its meaning and goes; before
//! anything else it stays, so `\\%` is a backslash and a percent sign.

/// The command, and its standard input if it has one.
pub fn split(written: &str) -> (String, Option<String>) {
    let mut command = String::with_capacity(written.len());
    let mut stdin: Option<String> = None;
    let mut chars = written.chars().peekable();
    while let Some(c) = chars.next() {
        let escaped = c == '\\' && chars.next_if_eq(&'%').is_some();
        let meant = if escaped { '%' } else { c };
        match &mut stdin {
            None if c == '%' => stdin = Some(String::new()),
            None => command.push(meant),
            Some(input) if c == '%' => input.push('\n'),
            Some(input) => input.push(meant),
        }
    }
    (command, stdin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_signs_mean_what_crontab_5_says() {
        for (written, command, stdin) in [
            ("a", "a", None),
            ("a%", "a", Some("")),
            ("a%b%c", "a", Some("b\nc")),
            (r"a \% b", "a % b", None),
            (r"a%b\%c%%d%", "a", Some("b%c\n\nd\n")),
            (r"a \! \1 \\ b", r"a \! \1 \\ b", None),
            (r"a \\% b", r"a \% b", None),
            (r"a\", r"a\", None),
        ] {
            let expected = (command.to_owned(), stdin.map(str::to_owned));
            assert_eq!(split(written), expected, "{written}");
        }
    }
}
