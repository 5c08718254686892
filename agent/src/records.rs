//! The store's records in the forms of the `proto` crate: a task is a row with its name, revisions
//! and record in one, a run is a row of history.

use tocktower_core::ids::{Revision, TaskName};
use tocktower_core::run::RunRecord;
use tocktower_core::task::Task;
use tocktower_proto::convert::{decode_record, decode_run, decode_task_row, encode_run};
use tocktower_proto::store::TaskRow;
use tocktower_proto::store::schedule_record::Kind;

use crate::store::{CodecError, RecordCodec};

/// Reads and writes records.
pub struct ProtoCodec;

impl RecordCodec for ProtoCodec {
    fn decode_task(&self, _: &TaskName, _: Revision, raw: &[u8]) -> Result<Task, CodecError> {
        decode_task_row(raw).map_err(|error| CodecError(error.to_string()))
    }

    fn is_one_shot(&self, raw: &[u8]) -> bool {
        let row: Option<TaskRow> = decode_record(raw).ok();
        let schedules = row.and_then(|row| row.record).map(|record| record.schedules);
        schedules.is_some_and(|schedules| {
            matches!(schedules.as_slice(), [one] if matches!(one.kind, Some(Kind::AtMs(_))))
        })
    }

    fn encode_run(&self, run: &RunRecord) -> Vec<u8> {
        encode_run(run)
    }

    fn decode_run(&self, bytes: &[u8]) -> Result<RunRecord, CodecError> {
        decode_run(bytes).map_err(|error| CodecError(error.to_string()))
    }
}
