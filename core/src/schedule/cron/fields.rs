//! The seven fields of an expression and the sets they compile to.
//!
//! What a field may hold depends on the dialect only in the day of the week (`crontab` counts
//! 0 = Sunday to 6 and takes 7 as Sunday too, `quartz` counts 1 = Sunday to 7), so a [`Rule`] turns
//! numbers and names into one inner numbering and nothing behind the parser knows the dialect.
//!
//! A field is kept as a bit set: the evaluator asks for the lowest bit at or above a value, which
//! is one shift and one count of zeros, where walking lists of numbers would be a search.

use std::fmt;

use super::Dialect;
use super::days::Days;

/// First year an expression can name.
pub const YEAR_MIN: u16 = 1970;
/// Last year an expression can name. A year field of `*` has no end.
pub const YEAR_MAX: u16 = 2199;

/// A field of an expression.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Field {
    Second,
    Minute,
    Hour,
    DayOfMonth,
    Month,
    DayOfWeek,
    Year,
}

impl Field {
    /// All of them, in the order in which an expression has them.
    pub const ALL: [Field; 7] = [
        Field::Second,
        Field::Minute,
        Field::Hour,
        Field::DayOfMonth,
        Field::Month,
        Field::DayOfWeek,
        Field::Year,
    ];

    /// The field's number, by which `H` is hashed. The second is 0 also where an expression has
    /// none, so that adding it does not move the other fields.
    pub fn number(self) -> u8 {
        match self {
            Field::Second => 0,
            Field::Minute => 1,
            Field::Hour => 2,
            Field::DayOfMonth => 3,
            Field::Month => 4,
            Field::DayOfWeek => 5,
            Field::Year => 6,
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::Second => "second",
            Field::Minute => "minute",
            Field::Hour => "hour",
            Field::DayOfMonth => "day of month",
            Field::Month => "month",
            Field::DayOfWeek => "day of week",
            Field::Year => "year",
        })
    }
}

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// What one field takes in one dialect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub field: Field,
    pub dialect: Dialect,
    /// Lowest and highest value of the inner numbering.
    pub min: u16,
    pub max: u16,
    /// Lowest and highest number that may be written.
    number_min: u16,
    number_max: u16,
    names: &'static [&'static str],
}

impl Rule {
    pub fn new(field: Field, dialect: Dialect) -> Rule {
        let (min, max, names): (u16, u16, &'static [&'static str]) = match field {
            Field::Second | Field::Minute => (0, 59, &[]),
            Field::Hour => (0, 23, &[]),
            Field::DayOfMonth => (1, 31, &[]),
            Field::Month => (1, 12, &MONTHS),
            Field::DayOfWeek => (0, 6, &DAYS),
            Field::Year => (YEAR_MIN, YEAR_MAX, &[]),
        };
        let (number_min, number_max) = match (field, dialect) {
            (Field::DayOfWeek, Dialect::Crontab) => (0, 7),
            (Field::DayOfWeek, Dialect::Quartz) => (1, 7),
            _ => (min, max),
        };
        Rule { field, dialect, min, max, number_min, number_max, names }
    }

    /// How many values the field goes through before it starts over.
    pub fn size(&self) -> u16 {
        self.max - self.min + 1
    }

    /// The inner value of a number; `None` if it is out of range. In `crontab` the 7 of the day of
    /// the week stays 7, so that a range can end in it.
    pub fn of_number(&self, number: u16) -> Option<u16> {
        let good = (self.number_min..=self.number_max).contains(&number);
        let shift = match (self.field, self.dialect) {
            (Field::DayOfWeek, Dialect::Quartz) => 1,
            _ => 0,
        };
        good.then(|| number - shift)
    }

    /// The inner value of a name of three letters, in any case.
    pub fn of_name(&self, name: &str) -> Option<u16> {
        let at = self.names.iter().position(|known| known.eq_ignore_ascii_case(name))?;
        u16::try_from(at).ok().map(|at| at + self.min)
    }

    /// What may be written, for the end of an error message.
    pub fn allowed(&self) -> String {
        let mut text = format!("{} to {}", self.number_min, self.number_max);
        if let (Some(first), Some(last)) = (self.names.first(), self.names.last()) {
            text.push_str(&format!(" or {first} to {last}"));
        }
        text.push_str(match (self.dialect, self.field) {
            (Dialect::Crontab, Field::DayOfWeek) => " (0 and 7 are Sunday)",
            (Dialect::Quartz, Field::DayOfWeek) => " (1 is Sunday), L, 6L, 6#3, ?",
            (Dialect::Quartz, Field::DayOfMonth) => ", L, L-3, LW, 15W, ?",
            _ => "",
        });
        text
    }
}

/// One item of a field's list, in the inner numbering.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Item {
    /// `*`, and the `?` of Quartz.
    All,
    /// From `first` to `last`, every `step`-th; it wraps if `last` is below `first`.
    Range { first: u16, last: u16, step: u16 },
    /// `L`, `L-3`, `LW`: so many days before the last day of the month; with `workday` the day from
    /// Monday to Friday that is nearest to it.
    Last { before: u8, workday: bool },
    /// `15W`: the day from Monday to Friday that is nearest to this one, within the month.
    Nearest { day: u8 },
    /// `6L`: the last such day of the week in the month.
    LastOfWeek { day: u8 },
    /// `6#3`: the third such day of the week in the month.
    Nth { day: u8, nth: u8 },
}

impl Item {
    /// One value.
    pub fn one(value: u16) -> Item {
        Item::Range { first: value, last: value, step: 1 }
    }

    /// The values of a plain item in the order of their range; none for the special days.
    pub fn values(self, rule: &Rule) -> impl Iterator<Item = u16> + use<> {
        let (min, size) = (rule.min, rule.size());
        let (first, last, step) = match self {
            Item::All => (rule.min, rule.max, 1),
            Item::Range { first, last, step } if last < first => (first, last + size, step),
            Item::Range { first, last, step } => (first, last, step),
            _ => (1, 0, 1),
        };
        (first..=last).step_by(usize::from(step)).map(move |value| min + (value - min) % size)
    }
}

/// One field as it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Written {
    /// The text starts with `*`, a step included: the two rules that hang on it follow Debian's
    /// cron, where this is what counts as "not restricted".
    pub starred: bool,
    pub items: Vec<Item>,
}

impl Written {
    pub fn all() -> Written {
        Written { starred: true, items: vec![Item::All] }
    }

    pub fn one(value: u16) -> Written {
        Written { starred: false, items: vec![Item::one(value)] }
    }

    /// The plain values as bits, counted from `base`.
    pub fn bits(&self, rule: &Rule, base: u16) -> u64 {
        let values = self.items.iter().flat_map(|item| item.values(rule));
        values.fold(0, |bits, value| bits | 1 << (value - base))
    }
}

/// An expression as it was written: one entry for each of [`Field::ALL`].
pub(super) type Fields = [Written; 7];

/// The years of an expression: any, or a set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Years(Option<Box<[u64; 4]>>);

impl Years {
    fn new(written: &Written, rule: &Rule) -> Years {
        if written.items.contains(&Item::All) {
            return Years(None);
        }
        let mut words = [0_u64; 4];
        for year in written.items.iter().flat_map(|item| item.values(rule)) {
            let at = year - YEAR_MIN;
            words[usize::from(at / 64)] |= 1 << (at % 64);
        }
        Years(Some(Box::new(words)))
    }

    /// The first year of the set at or after `year`.
    pub fn at_or_after(&self, year: i16) -> Option<i16> {
        let Some(words) = &self.0 else {
            return Some(year);
        };
        let year = u16::try_from(year).unwrap_or(0).max(YEAR_MIN);
        let at = usize::from(year - YEAR_MIN);
        let mut word = at / 64;
        let mut bits = words.get(word)? & (u64::MAX << (at % 64));
        while bits == 0 {
            word += 1;
            bits = *words.get(word)?;
        }
        let at = word * 64 + usize::try_from(bits.trailing_zeros()).ok()?;
        i16::try_from(usize::from(YEAR_MIN) + at).ok()
    }
}

/// An expression ready to be evaluated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sets {
    pub seconds: u64,
    pub minutes: u64,
    pub hours: u32,
    /// Bits 1 to 12.
    pub months: u16,
    pub days: Days,
    pub years: Years,
}

impl Sets {
    pub fn new(fields: &Fields, dialect: Dialect) -> Sets {
        let [second, minute, hour, day, month, week_day, year] = fields;
        let bits = |written: &Written, field| written.bits(&Rule::new(field, dialect), 0);
        let narrow = "a field of at most 31 values sets no higher bit";
        Sets {
            seconds: bits(second, Field::Second),
            minutes: bits(minute, Field::Minute),
            hours: u32::try_from(bits(hour, Field::Hour)).expect(narrow),
            months: u16::try_from(bits(month, Field::Month)).expect(narrow),
            days: Days::new(
                u32::try_from(bits(day, Field::DayOfMonth)).expect(narrow),
                u8::try_from(bits(week_day, Field::DayOfWeek)).expect(narrow),
                day,
                week_day,
            ),
            years: Years::new(year, &Rule::new(Field::Year, dialect)),
        }
    }
}

// The years fit the words of their set.
const _: () = assert!(YEAR_MAX - YEAR_MIN < 4 * 64);
