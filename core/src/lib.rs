//! Everything Tocktower decides, as pure functions and state machines: no clock, no randomness, no
//! I/O. Time comes in as an argument, what should be done goes out as data.

pub mod hash;
pub mod ids;
pub mod limits;
pub mod schedule;
pub mod time;
