//! The members of the pool and the ring that follows from them: which ranges to watch, which to
//! claim, which to hand on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::agent::Agent;
use crate::agent::desk::Call;
use crate::agent::effect::ShareRequest;
use crate::agent::input::{Asked, Member, SharedNews};
use crate::ids::{AgentName, Epoch, Revision, Session};
use crate::ring::{Capacity, Ring};
use crate::time::Mono;

/// The common beat is written by an agent when it is this old; coordinators are quicker.
const COMMON_BEAT: Duration = Duration::from_millis(2_500);

#[derive(Debug)]
pub(crate) struct Fleet {
    members: BTreeMap<AgentName, Member>,
    /// Members that the list under way has not named yet.
    unseen: BTreeSet<AgentName>,
    listed: bool,
    /// What the watch has come to.
    delivered: Revision,
    pub ring: Ring,
    changed: bool,
    pub changed_at: Mono,
    beat: (Revision, Mono),
    /// Of this agent.
    pub asked: Asked,
}

impl Fleet {
    pub fn new() -> Fleet {
        Fleet {
            members: BTreeMap::new(),
            unseen: BTreeSet::new(),
            listed: false,
            delivered: Revision(0),
            ring: Ring::default(),
            changed: false,
            changed_at: Mono::default(),
            beat: (Revision(0), Mono::default()),
            asked: Asked::default(),
        }
    }

    pub fn sessions(&self) -> BTreeMap<AgentName, Session> {
        self.members.values().map(|member| (member.agent.clone(), member.session)).collect()
    }

    /// Whether a session is over. One that is newer than what the watch has come to may be alive.
    pub fn gone(&self, session: Session, epoch: Epoch) -> bool {
        let known = session.epoch != epoch || session.revision <= self.delivered;
        known && self.listed && !self.members.values().any(|member| member.session == session)
    }

    /// What the watch has told of an agent, and so what the ring goes by.
    pub fn capacity(&self, agent: &AgentName) -> Capacity {
        self.members.get(agent).map(|member| member.capacity).unwrap_or_default()
    }

    /// Whether the members are known at all.
    pub fn known(&self) -> bool {
        self.listed
    }
}

impl Agent {
    pub(super) fn shared_news(&mut self, news: SharedNews) {
        let now = self.desk.now.mono;
        let me = self.desk.session.session();
        let fleet = &mut self.desk.fleet;
        match news {
            SharedNews::ListBegan => fleet.unseen = fleet.members.keys().cloned().collect(),
            SharedNews::ListEnded { revision } => {
                let gone = std::mem::take(&mut fleet.unseen);
                fleet.delivered = revision;
                fleet.listed = true;
                fleet.changed = true;
                for agent in gone {
                    self.member_gone(&agent, me);
                }
            }
            SharedNews::Delivered { revision } => fleet.delivered = revision,
            SharedNews::Member(member) => {
                fleet.unseen.remove(&member.agent);
                let before = fleet.members.insert(member.agent.clone(), member.clone());
                fleet.changed |= before.as_ref() != Some(&member);
            }
            SharedNews::MemberGone { agent } => self.member_gone(&agent, me),
            // A registration may have found a newer one than the watch has come to.
            SharedNews::Asked(asked) if asked.revision < fleet.asked.revision => {}
            SharedNews::Asked(asked) => self.asked(asked),
            SharedNews::Beat { revision } => fleet.beat = (revision, now),
        }
    }

    fn member_gone(&mut self, agent: &AgentName, me: Option<Session>) {
        let gone = self.desk.fleet.members.remove(agent);
        self.desk.fleet.changed |= gone.is_some();
        if gone.is_some_and(|gone| Some(gone.session) == me) {
            self.lease_lost();
        }
    }

    /// Computes the ring again after a change, and follows what it says.
    pub(super) fn follow_ring(&mut self) {
        let now = self.desk.now.mono;
        let fleet = &mut self.desk.fleet;
        if !fleet.listed {
            return;
        }
        if std::mem::take(&mut fleet.changed) {
            let pool = &self.desk.config.pool;
            let members = fleet
                .members
                .values()
                .filter(|member| member.pool == *pool)
                .map(|member| (member.agent.clone(), member.capacity))
                .collect();
            fleet.ring = Ring::new(self.desk.config.ranges, &members);
            fleet.changed_at = now;
            for range in self.ranges.values_mut().filter(|range| !range.is_local()) {
                range.rank = fleet.ring.rank(range.id, &self.desk.config.agent);
            }
        }
        self.follow_ranges();
        self.beat_for_all();
    }

    /// Keeps the common beat going when no coordinator does.
    fn beat_for_all(&mut self) {
        let now = self.desk.now.mono;
        let (seen, at) = self.desk.fleet.beat;
        let asked = self.desk.calls.values().any(|call| matches!(call, Call::CommonBeat));
        if self.desk.session.session().is_some() && !asked && now.since(at) > COMMON_BEAT {
            self.desk.fleet.beat.1 = now;
            self.desk.share(Call::CommonBeat, ShareRequest::CommonBeat { seen });
        }
    }
}
