//! `H`: a value that is fixed for a task but differs between tasks.
//!
//! A thousand tasks written as `0 2 * * *` all start in the same second. `H` spreads them: the
//! value comes from a hash of the task's name and the number of the field, so that it is the same
//! on every host and after every restart, and survives every edit but a rename. The grammar is that
//! of Jenkins, where operators know it from: `H`, `H/n`, `H(a-b)`, `H(a-b)/n`.
//!
//! As in Jenkins, a plain `H` in the day of the month stays within 1 to 28, which every month has,
//! and a step larger than its range is refused, since some tasks would then never fire. Unlike
//! there, `H/1` is what it says, every value, and not one of them.

use super::error::Problem;
use super::fields::{Field, Item, Rule};
use super::parse::{Step, range_of, step_of};
use crate::hash;

/// Days of the month that every month has.
const SAFE_DAY_MAX: u16 = 28;

/// The hash that picks the value of `H` in `field`. The test vectors below fix it for ever.
fn spread(seed: u64, field: Field) -> u64 {
    hash::hash_parts(&[&seed.to_be_bytes(), &[field.number()]])
}

/// Reads what follows an `H`.
pub(super) fn item(rest: &str, rule: &Rule, seed: u64) -> Result<Item, Problem> {
    if rule.field == Field::Year {
        return Err(Problem::HashedYear);
    }
    let (range, step) = match rest.split_once('/') {
        Some((range, step)) => (range, step_of(step)?),
        None => (rest, Step::ONE),
    };
    let (first, last) = match range.strip_prefix('(').map(|inner| inner.strip_suffix(')')) {
        None if range.is_empty() => (rule.min, default_max(rule)),
        None | Some(None) => return Err(Problem::NotHashed),
        Some(Some(inner)) => {
            let (first, last) = inner.split_once('-').ok_or(Problem::NotHashed)?;
            range_of(first, last, rule)?
        }
    };
    let values = u64::from(last - first + 1);
    let hash = spread(seed, rule.field);
    if !rest.contains('/') {
        return Ok(Item::one(first + below(hash, values)));
    }
    if u64::from(step.0) > values {
        return Err(Problem::HashedStep { values });
    }
    let start = first + below(hash, u64::from(step.0));
    Ok(Item::Range { first: start, last, step: step.0 })
}

fn default_max(rule: &Rule) -> u16 {
    if rule.field == Field::DayOfMonth { SAFE_DAY_MAX } else { rule.max }
}

/// `hash` brought below `bound`, which is at most 60.
fn below(hash: u64, bound: u64) -> u16 {
    u16::try_from(hash % bound).expect("a remainder below 60")
}

#[cfg(test)]
mod tests {
    use super::super::Dialect;
    use super::*;

    /// Computed with another implementation of XXH3: the eight bytes of the seed, a zero, the
    /// number of the field, a zero.
    const VECTORS: [u64; 7] = [
        8_906_305_597_991_617_424,
        15_032_761_655_171_192_926,
        646_357_752_486_621_618,
        4_114_725_090_425_025_259,
        1_682_167_191_405_207_447,
        8_877_164_933_938_694_566,
        11_239_791_003_649_416_834,
    ];

    #[test]
    fn the_hash_of_a_field_never_changes() {
        let all = Field::ALL.map(|field| spread(0x0123_4567_89ab_cdef, field));
        assert_eq!(all, VECTORS);
    }

    #[test]
    fn a_step_starts_within_its_first_step_and_keeps_to_the_range() {
        let rule = Rule::new(Field::Minute, Dialect::Crontab);
        for seed in 0..200 {
            let Item::Range { first, last, step } = item("(10-29)/5", &rule, seed).unwrap() else {
                panic!("a step is a range");
            };
            assert!((10..15).contains(&first));
            assert_eq!((last, step), (29, 5));
        }
    }

    #[test]
    fn every_minute_is_taken_by_some_task() {
        let rule = Rule::new(Field::Minute, Dialect::Crontab);
        let mut seen = 0_u64;
        for seed in 0..1_000 {
            for value in item("", &rule, seed).unwrap().values(&rule) {
                seen |= 1 << value;
            }
        }
        assert_eq!(seen, (1 << 60) - 1);
    }
}
