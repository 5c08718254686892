//! Small pieces of English that all readings share: lists, ordinals, spans, steps.
//!
//! Only what is said the same way everywhere is here, each as a function from values to text, so
//! that "1st, 2nd and 11th" is spelled right in one place. Whole sentences stay with what they are
//! about. There is one language: a reading is for a quick look, beside the expression itself.

use std::time::Duration;

/// `a`, `a and b`, `a, b and c`.
pub(super) fn list(items: &[String], last: &str) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., end] => format!("{} {last} {end}", most.join(", ")),
    }
}

/// `1st`, `2nd`, `3rd`, `4th`, `11th`, `21st`.
pub(super) fn ordinal(number: u32) -> String {
    let ending = match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

/// `1 minute`, `5 minutes`.
pub(super) fn count(number: u64, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
}

/// `every minute`, `every 5 minutes`.
pub(super) fn every(number: u32, noun: &str) -> String {
    if number == 1 { format!("every {noun}") } else { format!("every {number} {noun}s") }
}

/// `1 hour and 30 minutes`.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let parts = [
        (seconds / 86_400, "day"),
        (seconds / 3_600 % 24, "hour"),
        (seconds / 60 % 60, "minute"),
        (seconds % 60, "second"),
        (u64::from(span.subsec_millis()), "millisecond"),
    ];
    let parts = parts.iter().filter(|(number, _)| *number > 0);
    list(&parts.map(|(number, noun)| count(*number, noun)).collect::<Vec<_>>(), "and")
}

/// The sentence with its first letter in upper case.
pub(super) fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

/// The members of a bit set, lowest first.
pub(super) fn members(set: u64) -> Vec<u32> {
    (0..u64::BITS).filter(|bit| set >> bit & 1 == 1).collect()
}

/// Values with the same distance from one to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Steps {
    pub first: u32,
    pub last: u32,
    pub step: u32,
}

impl Steps {
    /// `None` for fewer than three values or uneven distances.
    pub fn of(values: &[u32]) -> Option<Steps> {
        let (&[first, second, ..], &[.., last]) = (values, values) else {
            return None;
        };
        let step = second - first;
        let even = values.windows(2).all(|pair| pair[1] - pair[0] == step);
        (values.len() > 2 && even).then_some(Steps { first, last, step })
    }

    /// From the lowest value of a field round to its start again, without a longer or shorter step
    /// there: `*/15` of 60 minutes, not `*/7`.
    pub fn goes_round(self, size: u32) -> bool {
        self.first == 0 && self.last + self.step == size
    }
}

/// Values as short text: `1 to 5, 7 and 9`.
pub(super) fn runs(values: &[u32]) -> String {
    runs_of(values, |value| value.to_string())
}

/// As [`runs`], with each value as `text` gives it.
pub(super) fn runs_of(values: &[u32], text: impl Fn(u32) -> String) -> String {
    let runs = values.chunk_by(|a, b| b - a == 1);
    let texts = runs.flat_map(|run| match run {
        [first, _, .., last] => vec![format!("{} to {}", text(*first), text(*last))],
        short => short.iter().map(|value| text(*value)).collect(),
    });
    list(&texts.collect::<Vec<_>>(), "and")
}

/// The ends of the one run that the members of a set make when the highest value is followed by the
/// lowest: Friday to Monday. `None` for a full set and for fewer than three members.
pub(super) fn run_around(values: &[u32], lowest: u32, size: u32) -> Option<(u32, u32)> {
    let full = u32::try_from(values.len()).is_ok_and(|count| count >= size);
    if full || values.len() < 3 {
        return None;
    }
    let turn = |value: u32, by: u32| lowest + (value - lowest + by) % size;
    let mut starts = values.iter().filter(|value| !values.contains(&turn(**value, size - 1)));
    let mut ends = values.iter().filter(|value| !values.contains(&turn(**value, 1)));
    match (starts.next(), starts.next(), ends.next()) {
        (Some(start), None, Some(end)) => Some((*start, *end)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals_know_the_teens() {
        let all = [1, 2, 3, 4, 11, 12, 13, 21, 22, 31].map(ordinal).join(" ");
        assert_eq!(all, "1st 2nd 3rd 4th 11th 12th 13th 21st 22nd 31st");
    }

    #[test]
    fn lists_and_runs_read_as_people_write_them() {
        assert_eq!(runs(&[1]), "1");
        assert_eq!(runs(&[1, 2]), "1 and 2");
        assert_eq!(runs(&[1, 2, 3, 4, 7, 9, 10, 11]), "1 to 4, 7 and 9 to 11");
        assert_eq!(run_around(&[0, 1, 5, 6], 0, 7), Some((5, 1)));
        assert_eq!(run_around(&[1, 2, 11, 12], 1, 12), Some((11, 2)));
        assert_eq!(run_around(&[0, 2, 4], 0, 7), None);
    }

    #[test]
    fn spans_leave_out_what_is_zero() {
        assert_eq!(span(Duration::from_secs(5_400)), "1 hour and 30 minutes");
        assert_eq!(span(Duration::from_millis(1_500)), "1 second and 500 milliseconds");
        assert_eq!(span(Duration::from_secs(86_400)), "1 day");
    }
}
