//! Failover drills: faults done on purpose to a fleet under a load whose every instant is known,
//! and the account of what became of each.
//!
//! A drill of the catalogue ([`plan`]) is data: acts at times. [`run`] sets a fleet up on this
//! machine, in network namespaces (`net`, `local`), or takes one that the user names and that
//! can be reached by its API only (`stage`); creates the load ([`load`]); does the acts while an
//! [`observer`] looks on and a `witness` counts the starts; and then compares what was seen with
//! what had to be ([`account`], [`judge`]), all of which is pure. What comes out is a [`report`].
//!
//! The parts that decide share nothing with the product: the instants are counted out by
//! arithmetic, the starts are seen from outside, the takeovers are read from what the API shows.

pub mod account;
pub mod clock;
mod error;
mod history;
mod http;
pub mod judge;
pub mod limits;
pub mod load;
mod local;
mod net;
pub mod observer;
pub mod plan;
mod process;
mod programs;
pub mod report;
mod run;
mod stage;
mod wait;
mod witness;

pub use error::Error;
pub use programs::{Places, find as find_programs};
pub use report::Report;
pub use run::{Options, check_rate, run};
pub use stage::{Ground, Named};
