//! Records, as the store sees them: bytes that the `proto` crate turns into core types and back.
//!
//! The store keeps a task's row as it came and looks into it once, to see whether it is a one-shot,
//! so that a field that a newer coordinator has added survives an older agent. What cannot be read
//! is an error, never a panic.

use tocktower_core::run::RunRecord;
use tocktower_core::task::Task;
use tocktower_proto::convert;
use tocktower_proto::store::schedule_record::Kind;
use tocktower_proto::store::{ScheduleRecord, TaskRow};

/// Reads `PutTask::raw`.
pub fn decode_task(raw: &[u8]) -> Result<Task, String> {
    convert::decode_task_row(raw).map_err(|error| error.to_string())
}

/// Whether the record's only schedule is `at`; `false` for what is no record.
pub fn is_one_shot(raw: &[u8]) -> bool {
    let row = convert::decode_record::<TaskRow>(raw).ok();
    row.and_then(|row| row.record).is_some_and(|record| {
        matches!(record.schedules.as_slice(), [ScheduleRecord { kind: Some(Kind::AtMs(_)) }])
    })
}

pub fn encode_run(run: &RunRecord) -> Vec<u8> {
    convert::encode_run(run)
}

pub fn decode_run(bytes: &[u8]) -> Option<RunRecord> {
    convert::decode_run(bytes).ok()
}
