//! The mistakes of one request, up to a bound.
//!
//! A request of a megabyte can hold half a million mistakes, and each of them costs more to tell
//! than it cost to make. So the first fifty are kept, the rest are counted, and a last entry says
//! how many they are. Path and message repeat what was given, so they are cut short as well.

use tocktower_core::limits;
use tocktower_core::task::FieldError;

/// What is wrong with one request or one task.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mistakes {
    told: Vec<FieldError>,
    more: usize,
}

impl Mistakes {
    pub fn add(&mut self, error: FieldError) {
        match self.told.len() < limits::MISTAKES_MAX {
            true => self.told.push(shortened(error)),
            false => self.more += 1,
        }
    }

    /// Adds what a later look has found, but for what only repeats that a field is wrong.
    pub fn add_news(&mut self, found: impl IntoIterator<Item = FieldError>) {
        let known = self.told.len();
        for error in found {
            let echo = |known: &FieldError| {
                within(&error.path, &known.path) || within(&known.path, &error.path)
            };
            if !self.told.iter().take(known).any(echo) {
                self.add(error);
            }
        }
    }

    /// As [`Mistakes::add_news`], with those of `later` that were only counted.
    pub fn join(&mut self, later: Mistakes) {
        self.add_news(later.told);
        self.more += later.more;
    }

    pub fn is_empty(&self) -> bool {
        self.told.is_empty() && self.more == 0
    }

    /// There are more than can be told: what else is wrong need not be looked for.
    pub fn is_full(&self) -> bool {
        self.more > 0
    }

    /// Those that are told.
    pub fn told(&self) -> &[FieldError] {
        &self.told
    }

    /// Those that are told and, if there are others, how many.
    pub fn into_errors(self) -> Vec<FieldError> {
        let mut errors = self.told;
        errors.extend((self.more > 0).then(|| and_more(self.more)));
        errors
    }
}

/// Back from what [`Mistakes::into_errors`] gave.
impl From<Vec<FieldError>> for Mistakes {
    fn from(mut told: Vec<FieldError>) -> Mistakes {
        let more = told.last().and_then(how_many_more);
        if more.is_some() {
            told.pop();
        }
        Mistakes { told, more: more.unwrap_or(0) }
    }
}

/// The first `keep` of `errors`, with how many there are beyond them.
pub fn cut(errors: Vec<FieldError>, keep: usize) -> Vec<FieldError> {
    let mut mistakes = Mistakes::from(errors);
    mistakes.more += mistakes.told.len().saturating_sub(keep);
    mistakes.told.truncate(keep);
    mistakes.into_errors()
}

/// `text` within `bytes_max`, with a mark where something was left out.
pub fn shorten(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
    }
    text
}

fn within(inner: &str, outer: &str) -> bool {
    let rest = inner.strip_prefix(outer);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn shortened(error: FieldError) -> FieldError {
    let FieldError { path, message } = error;
    let max = limits::MISTAKE_BYTES_MAX;
    FieldError { path: shorten(path, max), message: shorten(message, max) }
}

fn and_more(count: usize) -> FieldError {
    FieldError::new("", format!("and {count} more"))
}

fn how_many_more(error: &FieldError) -> Option<usize> {
    let count = error.message.strip_prefix("and ")?.strip_suffix(" more")?;
    count.parse().ok().filter(|_| error.path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(count: usize) -> Mistakes {
        let mut mistakes = Mistakes::default();
        mistakes.add_news((0..count).map(|n| FieldError::new(format!("labels.{n}"), "is wrong")));
        mistakes
    }

    #[test]
    fn beyond_the_bound_mistakes_are_counted() {
        assert_eq!(wrong(50).into_errors().len(), 50);
        let errors = wrong(1_234).into_errors();
        assert_eq!(errors.len(), 51);
        assert_eq!(errors.last(), Some(&FieldError::new("", "and 1184 more")));
    }

    #[test]
    fn echoes_are_dropped_and_the_rest_stays() {
        let mut mistakes = Mistakes::default();
        mistakes.add(FieldError::new("action.command.argv[1]", ""));
        let found = ["action.command", "action.command.argv", "action.command.cwd", "name"]
            .map(|path| FieldError::new(path, ""));
        mistakes.add_news(found);
        let paths: Vec<&str> = mistakes.told().iter().map(|error| error.path.as_str()).collect();
        assert_eq!(paths, ["action.command.argv[1]", "action.command.cwd", "name"]);
    }

    #[test]
    fn what_was_only_counted_is_counted_in_the_whole() {
        let mut mistakes = Mistakes::default();
        mistakes.add(FieldError::new("name", "is wrong"));
        mistakes.join(wrong(60));
        let errors = mistakes.into_errors();
        assert_eq!((errors.len(), errors[50].message.as_str()), (51, "and 11 more"));
    }

    #[test]
    fn what_is_cut_again_still_counts_all() {
        let errors = cut(wrong(1_234).into_errors(), 2);
        assert_eq!(errors.len(), 3);
        assert_eq!(errors.last(), Some(&FieldError::new("", "and 1232 more")));
        assert_eq!(cut(wrong(2).into_errors(), 2), wrong(2).into_errors());
    }

    #[test]
    fn what_was_given_is_repeated_in_part_only() {
        let mut mistakes = Mistakes::default();
        mistakes.add(FieldError::new("ä".repeat(1_000_000), "ö".repeat(1_000_000)));
        let error = mistakes.told().first().unwrap();
        assert!(error.path.len() < 500 && error.message.len() < 500);
        assert!(error.message.ends_with("ö…"), "{error}");
    }
}
