//! The words of the API and what they mean, one table each: reading, writing and the list of what
//! is allowed come from the same lines.

use tocktower_core::schedule::{Dialect, Fold, Gap};
use tocktower_core::task::{CatchUpPolicy, Delivery, Overlap};

use crate::{store, v1};

/// A word, what it means, and its numbers in the API and in the store.
pub struct Word<T, P, S> {
    pub text: &'static str,
    pub value: T,
    pub proto: P,
    pub record: S,
}

macro_rules! table {
    ($name:ident: $core:ident, $proto:ident, $record:ident {
        $($text:literal $variant:ident)+
    }) => {
        pub const $name: &[Word<$core, v1::$proto, store::$record>] = &[
            $(Word {
                text: $text,
                value: $core::$variant,
                proto: v1::$proto::$variant,
                record: store::$record::$variant,
            }),+
        ];
    };
}

table!(DIALECTS: Dialect, Dialect, DialectRecord { "crontab" Crontab "quartz" Quartz });
table!(GAPS: Gap, Gap, GapRecord { "skip" Skip "after" After });
table!(FOLDS: Fold, Fold, FoldRecord { "first" First "second" Second "both" Both });
table!(POLICIES: CatchUpPolicy, CatchUpPolicy, CatchUpPolicyRecord {
    "none" None "latest" Latest "all" All
});
table!(DELIVERIES: Delivery, Delivery, DeliveryRecord {
    "at_least_once" AtLeastOnce "at_most_once" AtMostOnce
});
table!(OVERLAPS: Overlap, Overlap, OverlapRecord {
    "skip" Skip "allow" Allow "queue" Queue "cancel_running" CancelRunning
});

/// The line of a value. Every value has one, which the tests check.
pub fn word_of<T: PartialEq, P, S>(
    table: &'static [Word<T, P, S>],
    value: T,
) -> &'static Word<T, P, S> {
    let found = table.iter().find(|word| word.value == value);
    found.or(table.first()).expect("no table is empty")
}

/// The line of a word.
pub fn word_named<T, P, S>(
    table: &'static [Word<T, P, S>],
    text: &str,
) -> Option<&'static Word<T, P, S>> {
    table.iter().find(|word| word.text == text)
}

/// The words of a table, for an error: `"skip", "allow"`.
pub fn allowed<T, P, S>(table: &[Word<T, P, S>]) -> String {
    let words: Vec<String> = table.iter().map(|word| format!("{:?}", word.text)).collect();
    words.join(", ")
}
