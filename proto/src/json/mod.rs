//! The JSON forms of the REST API, as structs; the OpenAPI description is made from them.
//!
//! They hold what was written, not what it means: times, durations and words are strings here, and
//! nearly everything may be left out. So a request with five mistakes becomes a struct all the
//! same, and the converter can report all five, each with its path. `null` and left out are the
//! same. What the schema does not name is refused by name.

mod calls;
mod duration;
mod fleet;
mod mistakes;
mod parse;
mod patch;
mod place;
mod read;
mod run;
mod task;
mod time;
mod why;

pub use calls::{
    Batch, BatchAnswer, BatchItem, BatchStatus, Preview, PreviewAnswer, Problem, ProblemField,
    RunList, TaskList, TaskWritten, Trigger, TriggerAnswer, Upcoming, Warning,
};
pub use duration::{format_duration, parse_duration};
pub use fleet::{
    Agent, AgentList, AgentPatch, Lateness, Pool, PoolList, Range, RangeList, RunCounts,
};
pub use mistakes::{Mistakes, cut, shorten};
pub use parse::{BatchTexts, parse, parse_batch};
pub use patch::merge_patch;
pub use read::{gather, read};
pub use run::{Attempt, Run, RunState};
pub use task::{
    Action, CatchUp, CatchUpPolicy, Command, Delivery, Dialect, EveryAgent, Exclude, Fold, Gap,
    Http, Noop, Overlap, Placement, Retry, Schedule, Task, TaskState,
};
pub use time::{format_instant, format_wall, parse_instant, parse_wall_down, parse_wall_up};
pub use why::{Why, WhyEntry, WhyPolicy, WhyRange, WhyVerdict};
