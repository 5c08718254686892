//! The command line of Tocktower, `tock`, on the SDK.

pub mod import;
