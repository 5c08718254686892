//! Where answers go: each request was noted with what it was for, and its answer finds the state
//! that waits for it. One that comes too late finds nothing and changes nothing.

use crate::agent::Agent;
use crate::agent::desk::{Call, Load};
use crate::agent::effect::{CallId, LoadId, Notice};
use crate::agent::input::{LoadAnswer, ShareAnswer};
use crate::agent::range::{Hold, Range};
use crate::ids::RangeId;

/// How long a claim that was not made is not tried again.
const CLAIM_AGAIN: std::time::Duration = std::time::Duration::from_millis(200);

impl Agent {
    pub(super) fn answered(&mut self, id: CallId, answer: ShareAnswer) {
        let Some(call) = self.desk.calls.remove(&id) else { return };
        if let ShareAnswer::Refused { error, retryable: false } = &answer {
            let what = name_of(&call);
            self.desk.notice(Notice::Refused { what, error: error.clone() });
        }
        match call {
            Call::Grant { coming, .. }
            | Call::KeepAlive { coming, .. }
            | Call::Register { coming }
            | Call::Reweigh { coming, .. }
            | Call::Adopt { coming, .. }
                if coming != self.desk.session.coming => {}
            Call::Grant { sent, .. } => self.granted(sent, answer),
            Call::KeepAlive { sent, .. } => self.kept_alive(sent, answer),
            Call::Register { .. } => self.registered(answer),
            Call::Reweigh { capacity, .. } => self.reweighed(capacity, &answer),
            Call::Adopt { capacity, .. } => self.adopted(capacity, &answer),
            Call::CommonBeat | Call::PinsBeat | Call::Drop => {}
            Call::Settle => self.settles_put(&answer),
            Call::Revoke => self.gone(),
            Call::Claim { range } => self.claim_answered(range, &answer),
            Call::Write(ranges) => self.wrote(ranges, answer),
            Call::ReadBack { range, sequence } => self.did_read_back(range, sequence, answer),
            Call::Delete(deletes) => self.deleted(deletes, &answer),
            Call::ReadSettle { range, holding, run } => {
                self.settle_read(range, holding, &run, answer);
            }
            Call::Look { range } => self.looked(range, &answer),
            Call::ReadCompact | Call::PutCompact { .. } | Call::Compact { .. } => {
                self.compact_answered(&call, answer);
            }
        }
    }

    /// Only the watch says that a claim is mine; the answer says when there is nothing to wait for.
    fn claim_answered(&mut self, id: RangeId, answer: &ShareAnswer) {
        let Some(range) = self.ranges.get_mut(&id) else { return };
        if let ShareAnswer::Claimed { revision } = answer {
            let (range, revision) = (id, *revision);
            self.desk.effect(crate::agent::effect::Effect::ExpectWatch { range, revision });
        } else if range.hold == Hold::Claiming {
            if matches!(answer, ShareAnswer::NotClaimed) {
                range.silence.claim_refused(self.desk.now.mono);
            }
            // Vacant for a while again, and its owner waits as well: a refusal is not tried in a
            // tight loop.
            range.hold = Hold::No;
            range.copy.vacant_since = range.copy.vacant_since.map(|_| self.desk.now.mono);
            range.claim_after = self.desk.now.mono.plus(CLAIM_AGAIN);
        }
    }

    pub(super) fn loaded(&mut self, id: LoadId, answer: LoadAnswer) {
        let Some(load) = self.desk.loads.remove(&id) else { return };
        let desk = &mut self.desk;
        match (load, answer) {
            (Load::Due { range, holding }, LoadAnswer::Due { entries, through }) => {
                if let Some(range) = current(self.ranges.get_mut(&range), holding) {
                    range.due_loaded(desk, entries, through);
                }
            }
            (Load::Scan { range, holding }, LoadAnswer::Scan { tasks, more }) => {
                if let Some(range) = current(self.ranges.get_mut(&range), holding) {
                    range.scanned(desk, tasks, more);
                }
            }
            (Load::Trigger { range, holding, run }, LoadAnswer::Task(found)) => {
                if let Some(range) = current(self.ranges.get_mut(&range), holding) {
                    range.trigger_task(desk, run, found);
                }
            }
            (Load::Duplicate(read), LoadAnswer::Task(Some((_, task)))) => {
                if task.incarnation.revision == read.revision
                    && let Some(range) = self.ranges.get_mut(&read.range)
                {
                    range.end_as_duplicate(desk, &task, &read.earlier);
                }
            }
            (Load::Orphan { range, row }, LoadAnswer::Task(found)) => {
                // Also where the range was listed again meanwhile, and is held all the same.
                if let Some(range) = self.ranges.get(&range).filter(|range| range.fence().is_some())
                {
                    range.orphan_read(desk, &row, found.map(|(_, task)| task));
                }
            }
            (Load::Own { range, holding }, LoadAnswer::Own(own)) => {
                if let Some(range) = current(self.ranges.get_mut(&range), holding) {
                    range.own_loaded(desk, own);
                }
            }
            (Load::Ran { range, holding }, LoadAnswer::Own(rows)) => {
                if let Some(range) = current(self.ranges.get_mut(&range), holding) {
                    range.what_ran(desk, &rows);
                }
            }
            _ => {}
        }
    }
}

fn current(range: Option<&mut Range>, holding: u32) -> Option<&mut Range> {
    range.filter(|range| range.holding == holding && range.fence().is_some())
}

fn name_of(call: &Call) -> &'static str {
    match call {
        Call::Grant { .. } => "lease",
        Call::KeepAlive { .. } => "keep-alive",
        Call::Register { .. } | Call::Reweigh { .. } | Call::Adopt { .. } => "session",
        Call::Revoke | Call::Drop => "revoke",
        Call::Claim { .. } => "claim",
        Call::Write(_) => "ledger",
        Call::ReadBack { .. } | Call::Look { .. } => "read back",
        Call::Delete(_) => "delete",
        Call::Settle | Call::ReadSettle { .. } => "settle",
        Call::CommonBeat | Call::PinsBeat => "beat",
        Call::ReadCompact | Call::PutCompact { .. } | Call::Compact { .. } => "compaction",
    }
}
