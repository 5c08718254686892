//! Values on the command line: durations, moments, pairs and words.
//!
//! Each parser says what is allowed when it refuses, as clap prints its words beside the name of
//! the argument. Words (`skip`, `cancel_running`) are enums of our own and not those of the SDK, as
//! clap wants to list them, and are spelt as in JSON, so that there is one spelling to remember.

use std::time::Duration;

use clap::ValueEnum;
use jiff::Timestamp;
use tocktower_client as sdk;

/// `90s`, `5m`, `1h30m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    sdk::json::parse_duration(text)
}

/// RFC 3339 with an offset.
pub fn moment(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| {
        "write RFC 3339 with an offset, such as 2026-11-24T10:00:00Z or 2026-11-24T11:00:00+01:00"
            .to_owned()
    })
}

/// A moment, or how long ago it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    At(Timestamp),
    Ago(Duration),
}

impl When {
    pub fn moment(self, now: Timestamp) -> Timestamp {
        match self {
            When::At(moment) => moment,
            When::Ago(span) => now.checked_sub(span).unwrap_or(Timestamp::MIN),
        }
    }
}

/// RFC 3339 with an offset, or a duration that says how long ago.
pub fn when(text: &str) -> Result<When, String> {
    match duration(text) {
        Ok(span) => Ok(When::Ago(span)),
        Err(_) => moment(text)
            .map(When::At)
            .map_err(|reason| format!("{reason}; or how long ago, such as 24h")),
    }
}

/// `name=value`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write name=value".to_owned()),
    }
}

/// `Name: value`, as in HTTP.
pub fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("write 'Name: value'".to_owned()),
    }
}

/// Words of the command line that stand for words of the SDK.
macro_rules! words {
    ($($(#[$doc:meta])* $type:ident => $sdk:path { $($variant:ident),+ $(,)? })+) => {
        $(
            $(#[$doc])*
            #[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
            #[value(rename_all = "snake_case")]
            pub enum $type { $($variant),+ }

            impl From<$type> for $sdk {
                fn from(word: $type) -> $sdk {
                    match word { $($type::$variant => <$sdk>::$variant),+ }
                }
            }
        )+
    };
}

words! {
    Gap => sdk::Gap { Skip, After }
    Fold => sdk::Fold { First, Second, Both }
    Delivery => sdk::Delivery { AtLeastOnce, AtMostOnce }
    Overlap => sdk::Overlap { Skip, Allow, Queue, CancelRunning }
    CatchUp => sdk::CatchUpPolicy { None, Latest, All }
    TaskState => sdk::TaskState { Active, Paused, Finished }
    RunState => sdk::RunState {
        Queued, Running, WaitingRetry,
        Succeeded, Failed, TimedOut, Cancelled, Lost, Skipped, Missed,
    }
    Stream => sdk::OutputStream { Stdout, Stderr }
}

/// Whose rules a cron expression follows.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Default)]
#[value(rename_all = "snake_case")]
pub enum Dialect {
    #[default]
    Crontab,
    Quartz,
}
