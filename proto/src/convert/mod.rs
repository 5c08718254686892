//! The only converters between what crosses a border and what `core` works with.
//!
//! Into core there is one road for tasks, whatever the request came in: the JSON form, whose
//! converter knows every rule and every path. A task in proto is turned into it first; that costs
//! a microsecond and saves a second set of rules that would drift from the first.
//!
//! What is stored has a road of its own, since it was checked when it was written: there an error
//! means a newer program or damage, and it is returned as data, never a panic. One record that
//! cannot be read must not walk through the fleet killing agents.

mod numbers;
mod record;
mod run;
mod run_id;
mod run_row;
mod task_json;
mod task_out;
mod task_proto;
mod task_record;
mod words;

pub use numbers::{
    fence_from_record, fence_record, incarnation_from_record, incarnation_record, request_bytes,
    request_from_bytes, request_of, session_from_record, session_record, ulid_bytes,
    ulid_from_bytes,
};
pub use record::{DecodeError, FORMAT, decode_record, encode_record};
pub use run::{run_from_proto, run_json, run_proto, run_state_from_proto, run_state_proto};
pub use run_id::{
    RunIdError, RunName, format_epoched, format_incarnation, format_run_id, parse_epoched,
    parse_incarnation, parse_run_id,
};
pub use run_row::{decode_run, encode_run};
pub use task_json::{
    Given, Purpose, patch_task, schedules_from_json, task_from_json, task_from_value,
};
pub use task_out::{TaskState, TaskStatus, placement_json, spec_json, task_json, task_proto};
pub use task_proto::{
    apply_mask, schedule_json_of_proto, task_from_proto, task_json_of_proto, without_payload,
};
pub use task_record::{
    StoredTask, decode_task, decode_task_row, encode_task, encode_task_row, every_agent_text,
    placement_of,
};
