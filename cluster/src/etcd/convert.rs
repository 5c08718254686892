//! Between the port's data and etcd-client's. No decisions here.

use etcd_client::{Compare as EtcdCompare, CompareOp, GetOptions, PutOptions, TxnOp};
use etcd_client::{GetResponse, TxnOpResponse, TxnResponse};
use tocktower_core::ids::{LeaseId, Revision};

use crate::port::{Answer, Compare, Event, KeyValue, ListRequest, Op, OpAnswer, Txn};

pub(super) fn txn(txn: Txn) -> etcd_client::Txn {
    let ops = |ops: Vec<Op>| ops.into_iter().map(op).collect::<Vec<_>>();
    etcd_client::Txn::new()
        .when(txn.when.into_iter().map(compare).collect::<Vec<_>>())
        .and_then(ops(txn.then))
        .or_else(ops(txn.otherwise))
}

fn compare(compare: Compare) -> EtcdCompare {
    match compare {
        Compare::Created { key, at } => EtcdCompare::create_revision(key, CompareOp::Equal, at.0),
        Compare::Modified { key, at } => EtcdCompare::mod_revision(key, CompareOp::Equal, at.0),
    }
}

fn op(op: Op) -> TxnOp {
    match op {
        Op::Get { key } => TxnOp::get(key, None),
        Op::Put { key, value, lease } => {
            let lease = lease.map(|lease| PutOptions::new().with_lease(lease.0));
            TxnOp::put(key, value, lease)
        }
        Op::Delete { key } => TxnOp::delete(key, None),
        Op::Txn(nested) => TxnOp::txn(txn(nested)),
    }
}

pub(super) fn txn_answer(response: &TxnResponse) -> Answer {
    Answer::Txn {
        revision: revision(response.header()),
        succeeded: response.succeeded(),
        answers: op_answers(response),
    }
}

fn op_answers(response: &TxnResponse) -> Vec<OpAnswer> {
    let answer = |response| match response {
        TxnOpResponse::Put(_) => OpAnswer::Put,
        TxnOpResponse::Get(mut got) => {
            OpAnswer::Got(got.take_kvs().into_iter().next().map(key_value))
        }
        TxnOpResponse::Delete(deleted) => {
            OpAnswer::Deleted { count: u64::try_from(deleted.deleted()).unwrap_or(0) }
        }
        TxnOpResponse::Txn(nested) => {
            OpAnswer::Txn { succeeded: nested.succeeded(), answers: op_answers(&nested) }
        }
    };
    response.op_responses().into_iter().map(answer).collect()
}

/// The keys come sorted as they are. Asking etcd to sort would make it read the whole range before
/// it cuts the page.
pub(super) fn list(request: &ListRequest) -> GetOptions {
    let limit = i64::try_from(request.limit).unwrap_or(i64::MAX);
    let mut options = GetOptions::new().with_range(request.range.end.clone()).with_limit(limit);
    if let Some(at) = request.at {
        options = options.with_revision(at.0);
    }
    if request.keys_only {
        options = options.with_keys_only();
    }
    options
}

pub(super) fn list_answer(mut response: GetResponse, at: Option<Revision>) -> Answer {
    Answer::List {
        revision: at.unwrap_or_else(|| revision(response.header())),
        more: response.more(),
        items: response.take_kvs().into_iter().map(key_value).collect(),
    }
}

pub(super) fn key_value(item: etcd_client::KeyValue) -> KeyValue {
    let create_revision = Revision(item.create_revision());
    let mod_revision = Revision(item.mod_revision());
    let lease = Some(LeaseId(item.lease())).filter(|lease| lease.0 != 0);
    let (key, value) = item.into_key_value();
    KeyValue { key, value, create_revision, mod_revision, lease }
}

/// An event is told apart by the key's version, which a delete sets to 0: asking etcd-client for
/// the type would panic on one that it does not know.
pub(super) fn event(event: &etcd_client::Event) -> Option<Event> {
    let item = event.kv()?;
    if item.version() == 0 {
        let mod_revision = Revision(item.mod_revision());
        return Some(Event::Delete { key: item.key().to_vec(), mod_revision });
    }
    Some(Event::Put(key_value(item.clone())))
}

pub(super) fn revision(header: Option<&etcd_client::ResponseHeader>) -> Revision {
    Revision(header.map_or(0, etcd_client::ResponseHeader::revision))
}
