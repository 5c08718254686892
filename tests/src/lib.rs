//! What tests and drills share: the simulator.

pub mod sim;
