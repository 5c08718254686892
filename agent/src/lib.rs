//! The agent daemon as a library: the shell round `tocktower_core::agent`.

pub mod driver;
pub mod exec;
pub mod link;
mod notices;
mod reports;
pub mod run;
pub mod store;
pub mod waker;
