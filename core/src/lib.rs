//! Everything Tocktower decides, as pure functions and state machines: no clock, no randomness, no
//! I/O. Time comes in as an argument, what should be done goes out as data.

pub mod agent;
pub mod claim;
pub mod due;
pub mod hash;
pub mod ids;
pub mod ledger;
pub mod limits;
pub mod ring;
pub mod run;
pub mod schedule;
pub mod steady;
pub mod task;
pub mod time;
