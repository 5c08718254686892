//! Settings: `NAME=value` lines, by the rules of cron's `load_env`.
//!
//! Blanks may stand around the name, the `=` and the value. Name and value may stand in quotes of
//! either kind, which keep blanks; a value without quotes loses its trailing blanks and keeps
//! everything else, a `#` and a `$` too. Nothing is expanded.
//!
//! Whether a line is a setting at all is decided as cron does: a first word, perhaps blanks, then
//! `=`. What is no setting may still have been meant as one; the reasons here are for such lines,
//! which cron would tell about as a broken minute.

/// What a line that is neither empty nor a comment turns out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    Setting {
        name: String,
        value: String,
    },
    /// It can only have been meant as a setting, and is none.
    Broken {
        /// What it would have set, as far as that can be told.
        name: String,
        reason: String,
    },
    /// A schedule, or nothing that is known.
    Other,
}

/// Reads a line without its leading blanks.
pub fn parse(text: &str) -> Line {
    let Some((name, rest)) = name(text) else {
        return meant_as_setting(text);
    };
    let Some(value) = rest.trim_start().strip_prefix('=') else {
        return meant_as_setting(text);
    };
    if name.is_empty() {
        return broken("", "there is no name before the '='".to_owned());
    }
    let value = value.trim_start();
    let Some(quote) = value.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        return Line::Setting { name: name.to_owned(), value: value.trim_end().to_owned() };
    };
    match value[1..].split_once(quote) {
        None => broken(name, format!("the value of {name} has an open quote ({quote})")),
        Some((inner, rest)) if rest.trim().is_empty() => {
            Line::Setting { name: name.to_owned(), value: inner.to_owned() }
        }
        Some((_, rest)) => {
            let more = super::short(rest.trim());
            broken(name, format!("behind the quoted value of {name} there is more: {more:?}"))
        }
    }
}

/// The name and what follows it; `None` if a quote is left open.
fn name(text: &str) -> Option<(&str, &str)> {
    match text.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        Some(quote) => text[1..].split_once(quote),
        None => {
            let end = text.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(text.len());
            Some(text.split_at(end))
        }
    }
}

/// `MY VAR = value`: a word that begins no schedule, and a `=` behind more words.
fn meant_as_setting(text: &str) -> Line {
    let starts_as_name = text.starts_with(|c: char| c.is_ascii_alphabetic() || "_\"'".contains(c));
    match text.split_once('=') {
        // With a star in it, it was meant as a schedule.
        Some((name, _)) if starts_as_name && !name.contains('*') => {
            let name = name.trim();
            let shown = super::short(name);
            let reason =
                format!("{shown:?} is no name of a setting: it has a blank in it or an open quote");
            broken(name, reason)
        }
        _ => Line::Other,
    }
}

fn broken(name: &str, reason: String) -> Line {
    Line::Broken { name: name.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_read_as_cron_reads_them() {
        for (text, name, value) in [
            ("A=b", "A", "b"),
            ("A = b c  ", "A", "b c"),
            ("A=\"\"", "A", ""),
            ("A=", "A", ""),
            ("A='  b  ' ", "A", "  b  "),
            ("A=\"it's\"", "A", "it's"),
            ("A=b=c", "A", "b=c"),
            ("A=b#c", "A", "b#c"),
            ("\"A\"=b", "A", "b"),
            ("A=b\"c", "A", "b\"c"),
        ] {
            let expected = Line::Setting { name: name.to_owned(), value: value.to_owned() };
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn what_was_meant_as_a_setting_is_refused_as_one() {
        for text in ["MY VAR = value", "A='b", "A=\"b\" c", "=b", "\"A=b"] {
            assert!(matches!(parse(text), Line::Broken { .. }), "{text}: {:?}", parse(text));
        }
    }

    #[test]
    fn a_command_with_a_setting_in_it_is_no_setting() {
        for text in ["* * * * * A=1 b", "@daily A=1 b", "0 1 * * * a --b=c"] {
            assert_eq!(parse(text), Line::Other, "{text}");
        }
    }
}
