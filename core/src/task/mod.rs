//! Tasks: what a client may ask for, how it is checked, what an edit may change.

mod edit;
mod placement;
mod prior;
mod spec;
mod validate;

pub use edit::{EditError, NewVersion, create, pause, replace, resume};
pub use placement::{Broadcast, Placement};
pub use prior::Prior;
pub use spec::{
    Action, CatchUp, CatchUpPolicy, Command, Delivery, Http, Overlap, Program, Retry, Spec, Task,
};
pub use validate::{FieldError, check, check_future, timetable};
