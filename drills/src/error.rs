//! What can go wrong with a drill itself. A promise that broke is no error: it is what a drill is
//! for, and stands in the report.

use std::io;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Everything that is missing, at once.
    #[error("this machine cannot run drills: {}", .0.join("; "))]
    Missing(Vec<String>),
    /// What was asked for cannot be done, and why.
    #[error("{0}")]
    Refused(String),
    #[error("{what} failed")]
    Io { what: String, source: io::Error },
    /// A program that the drill uses said no.
    #[error("{what} failed: {told}")]
    Tool { what: String, told: String },
    /// A daemon that should run does not.
    #[error("{name} ended ({status}); the end of its log:\n{log}")]
    Ended { name: String, status: String, log: String },
    #[error("{what} failed")]
    Api { what: &'static str, source: tocktower_client::Error },
    /// A condition that the drill needs did not come about.
    #[error("not within {within:?}: {what}; last seen: {last}")]
    Late { what: String, within: Duration, last: String },
    #[error("interrupted; all that the drill made has been removed")]
    Interrupted,
    #[error("the drill stopped at a fault of its own: {0}")]
    Panicked(String),
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }

    pub(crate) fn api(what: &'static str) -> impl FnOnce(tocktower_client::Error) -> Error {
        move |source| Error::Api { what, source }
    }
}
