//! Tasks: what a client may ask for, how it is checked, what an edit may change.

mod spec;

pub use spec::{
    Action, CatchUp, CatchUpPolicy, Command, Http, Overlap, Program, Retry, Spec, Task,
};
