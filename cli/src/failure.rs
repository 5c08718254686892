//! What is said when something went wrong, and which exit code it is.
//!
//! Scripts decide by the code whether to try again: 3 means that nobody was reached or nobody knows
//! what came of it, 1 that the answer was no. A reader that closed the pipe (`tock task list |
//! head`) is no failure at all.

use std::io::ErrorKind;
use std::process::ExitCode;

use tocktower_client::{Error, FieldError};

use crate::print::Printer;

/// How a command that ran to its end came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Something was refused or failed; it has been told.
    Failed,
}

/// What was asked for makes no sense, as only the command itself could find out.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Fields that are wrong, found before anything was sent.
#[derive(Debug, thiserror::Error)]
#[error("{what} is not valid")]
pub struct Invalid {
    pub what: String,
    pub fields: Vec<FieldError>,
}

/// Tells what went wrong, and gives the exit code.
pub fn exit(result: anyhow::Result<Outcome>, printer: &mut Printer) -> ExitCode {
    let error = match result {
        Ok(Outcome::Done) => return ExitCode::SUCCESS,
        Ok(Outcome::Failed) => return ExitCode::from(1),
        Err(error) => error,
    };
    let pipe = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.is_some_and(|io| io.kind() == ErrorKind::BrokenPipe)
    };
    if error.chain().any(pipe) {
        return ExitCode::SUCCESS;
    }
    tell(&error, printer);
    ExitCode::from(code(&error))
}

/// One line for the error, one for each cause, one for each wrong field.
pub fn tell(error: &anyhow::Error, printer: &mut Printer) {
    printer.error(&format!("error: {error}"));
    // Below an error of the SDK lie the layers of the transport: only the lowest says something.
    let own = error.chain().position(|cause| cause.is::<Error>()).unwrap_or(usize::MAX);
    for cause in error.chain().take(own.saturating_add(1)).skip(1) {
        printer.error(&format!("  caused by: {cause}"));
    }
    if let Some(root) = error.downcast_ref::<Error>().and_then(Error::root_cause) {
        printer.error(&format!("  caused by: {root}"));
    }
    for field in fields(error) {
        printer.error(&format!("  {field}"));
    }
}

/// The exit code of an error.
pub fn code(error: &anyhow::Error) -> u8 {
    if error.downcast_ref::<Usage>().is_some() {
        return 2;
    }
    match error.downcast_ref::<Error>() {
        Some(Error::Config(_)) => 2,
        Some(Error::Unreachable { .. } | Error::UnknownOutcome { .. }) => 3,
        _ => 1,
    }
}

fn fields(error: &anyhow::Error) -> &[FieldError] {
    if let Some(invalid) = error.downcast_ref::<Invalid>() {
        return &invalid.fields;
    }
    error.downcast_ref::<Error>().map(Error::fields).unwrap_or_default()
}
