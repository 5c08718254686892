//! What an agent writes under a claim that is not its own any more is refused (L3), whatever it
//! knows of the ledger: of a range that nobody has written since, the ledger alone would not say.

use std::collections::BTreeMap;
use std::time::Duration;

use tocktower_cluster::agents::{AgentOps, Identity};
use tocktower_cluster::embedded::Embedded;
use tocktower_cluster::keys::{Keys, PREFIX};
use tocktower_cluster::port::Port;
use tocktower_core::agent::effect::{RangeWrite, ShareRequest, WriteKind};
use tocktower_core::agent::input::{Asked, ShareAnswer, WriteOutcome};
use tocktower_core::hash::RangeCount;
use tocktower_core::ids::{
    AgentName, Epoch, Fence, LeaseId, LedgerNumber, PoolName, RangeId, Revision, Session,
};
use tocktower_core::ledger::{Ledger, Marks};
use tocktower_core::ring::{Capacity, Duty};
use tocktower_core::time::Wall;

const RANGE: RangeId = RangeId(3);

/// An agent with a session.
struct Agent<'p> {
    port: &'p Embedded,
    ops: AgentOps,
    lease: LeaseId,
    session: Session,
}

impl Agent<'_> {
    async fn come<'p>(port: &'p Embedded, name: &str) -> Agent<'p> {
        let identity = Identity {
            agent: AgentName::parse(name).expect("a name"),
            pool: PoolName::parse("default").expect("a name"),
            labels: BTreeMap::new(),
            version: "1".to_owned(),
            tz_version: "1".to_owned(),
            host_id: name.to_owned(),
        };
        let ranges = RangeCount::new(8).expect("a count");
        let ops = AgentOps::new(Keys::new(PREFIX, ranges), identity, Epoch(1));
        let (lease, session) = (LeaseId(0), Session::default());
        let agent = Agent { port, ops, lease, session };
        let ttl = Duration::from_secs(60);
        let ShareAnswer::Lease { lease, .. } = agent.ask(ShareRequest::GrantLease { ttl }).await
        else {
            panic!("it is granted")
        };
        let (capacity, asked) = (Capacity { weight: 100, duty: Duty::Full }, Asked::default());
        let register = ShareRequest::Register { lease, capacity, asked };
        let ShareAnswer::Registered { session, .. } = agent.ask(register).await else {
            panic!("it is registered")
        };
        Agent { lease, session, ..agent }
    }

    async fn ask(&self, request: ShareRequest) -> ShareAnswer {
        let answer = self.port.call(self.ops.request(&request, Wall::MIN)).await;
        self.ops.answer(&request, answer)
    }

    async fn claim(&self) -> Fence {
        let (session, lease) = (self.session, self.lease);
        let claim = ShareRequest::Claim { range: RANGE, session, lease };
        let ShareAnswer::Claimed { revision } = self.ask(claim).await else {
            panic!("nobody holds it")
        };
        Fence { epoch: Epoch(1), revision }
    }

    async fn write(&self, fence: Fence, kind: WriteKind) -> WriteOutcome {
        let write = ShareRequest::Write(vec![RangeWrite { range: RANGE, fence, kind }]);
        match self.ask(write).await {
            ShareAnswer::Wrote(mut outcomes) => outcomes.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn beat(&self) -> WriteKind {
        WriteKind::Beat { session: self.session, lease: self.lease, beat: 1 }
    }
}

fn ledger(fence: Fence, count: u64) -> Ledger {
    let number = LedgerNumber { process: 1, count };
    Ledger { fence, number, marks: Marks::NONE, open: Vec::new() }
}

#[tokio::test]
async fn under_a_claim_that_is_gone_or_another_s_nothing_is_written() {
    let port = Embedded::in_memory().expect("it needs no disk");
    let (one, other) = (Agent::come(&port, "a").await, Agent::come(&port, "b").await);
    let fence = one.claim().await;
    let taken = Vec::new();
    let first = WriteKind::Ledger { seen: Revision(0), ledger: ledger(fence, 1), taken };
    let WriteOutcome::Written { revision: seen } = one.write(fence, first).await else {
        panic!("it is its own")
    };
    assert!(matches!(one.write(fence, one.beat()).await, WriteOutcome::Written { .. }));
    let last = WriteKind::Final { seen, ledger: ledger(fence, 2), taken: Vec::new() };
    let WriteOutcome::Written { revision: seen } = one.write(fence, last).await else {
        panic!("it is its own")
    };
    for held_by_another in [false, true] {
        if held_by_another {
            other.claim().await;
        }
        // The ledger is still as it was left, and what comes late would find it so.
        let late = [
            one.beat(),
            WriteKind::Ledger { seen, ledger: ledger(fence, 3), taken: Vec::new() },
            WriteKind::Final { seen, ledger: ledger(fence, 3), taken: Vec::new() },
        ];
        for kind in late {
            let WriteOutcome::Differs(found) = one.write(fence, kind.clone()).await else {
                panic!("{kind:?} was written, held by another: {held_by_another}")
            };
            let holder = found.claim.map(|claim| claim.agent.to_string());
            assert_eq!(holder.as_deref(), held_by_another.then_some("b"));
            assert_eq!(found.ledger.map(|found| found.revision), Some(seen));
        }
    }
}
