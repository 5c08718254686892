//! What is wrong with a configuration, in words that a person can act on.

use std::fmt;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Flag(String),
    Environment(String),
    File(String),
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag(name) | Source::Environment(name) | Source::File(name) => {
                f.write_str(name)
            }
            Source::Default => f.write_str("default"),
        }
    }
}

/// One key that cannot be used as it was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("{key} = {value:?} ({source_name}): {allowed}")]
    Value { key: String, value: String, source_name: Source, allowed: String },
    #[error("{key} is missing: {allowed}")]
    Missing { key: &'static str, allowed: String },
    #[error("{key} is not a key of this daemon ({file}); its keys are {known}")]
    Unknown { key: String, file: String, known: String },
    #[error("{key} = {value:?}: it cannot be used: {why}")]
    Unusable { key: &'static str, value: String, why: String },
    #[error("config = {file:?}: {why}")]
    File { file: String, why: String },
}

/// All that is wrong, at least one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "configuration: {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
