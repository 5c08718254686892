//! The agent's core: one state machine that is told what happened and says what to do.

pub mod effect;
pub mod input;
