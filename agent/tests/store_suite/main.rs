//! The store against a real disk, told as stories in the words of `support`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests, outside of any #[test]"
)]

mod due;
mod history;
mod measure;
mod opening;
mod own;
mod pins;
mod support;
mod tasks;
mod thread;
