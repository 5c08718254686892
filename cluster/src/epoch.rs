//! Whether the cluster is still in the epoch that an agent began in: the record that tells is as it
//! was put then. A session is registered only while it is. What is pinned to an agent starts
//! without one: a list of that is taken only if the record, read after it, was still the same.

use tocktower_core::agent::effect::ShareRequest;
use tocktower_core::ids::Revision;

use crate::agents::{AgentOps, got};
use crate::keys::Key;
use crate::port::{Answer, Compare, KeyValue, Op, PortError, Request, Txn};

impl AgentOps {
    /// As given, for the epoch of the cluster's record that was put at this revision.
    pub fn of_record(mut self, revision: Revision) -> AgentOps {
        self.record = Some(revision);
        self
    }

    /// Has a transaction happen only in this epoch; else it answers with the record as well.
    pub(crate) fn only_in_epoch(&self, txn: &mut Txn) {
        if let Some(at) = self.record {
            let key = self.keys.build(&Key::Cluster);
            txn.when.push(Compare::Modified { key: key.clone(), at });
            txn.otherwise.push(Op::Get { key });
        }
    }

    /// Asks for the record, where there is one to go by.
    pub fn read_record(&self) -> Option<Request> {
        let key = self.keys.build(&Key::Cluster);
        self.record.map(|_| Request::Txn(Txn { then: vec![Op::Get { key }], ..Txn::default() }))
    }

    /// Whether the record that was asked for is still the same. `None`: it was not told.
    pub fn is_same_record(&self, answer: &Result<Answer, PortError>) -> Option<bool> {
        let Ok(Answer::Txn { answers, .. }) = answer else { return None };
        Some(self.is_of_epoch(got(answers.first())))
    }

    /// Whether an answer says that the cluster's record is another by now: the epoch was raised.
    pub fn outdated(&self, request: &ShareRequest, answer: &Result<Answer, PortError>) -> bool {
        let ShareRequest::Register { .. } = request else { return false };
        let Ok(Answer::Txn { succeeded: false, answers, .. }) = answer else { return false };
        answers.get(2).is_some_and(|found| !self.is_of_epoch(got(Some(found))))
    }

    fn is_of_epoch(&self, found: Option<&KeyValue>) -> bool {
        self.record.is_none_or(|record| found.is_some_and(|item| item.mod_revision == record))
    }
}
