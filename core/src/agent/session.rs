//! One lease and one session: how an agent comes, stays and goes. Losing the lease is a normal
//! path: everything held is let go and the agent comes again as a new session.

use std::time::Duration;

use crate::agent::Agent;
use crate::agent::adopt::LeftBefore;
use crate::agent::desk::Call;
use crate::agent::effect::{Effect, ExitReason, Notice, ShareRequest};
use crate::agent::input::ShareAnswer;
use crate::agent::kept::Kept;
use crate::agent::weight::CapacityTold;
use crate::claim::{self, LeaseProof};
use crate::ids::{LeaseId, Session};
use crate::time::{Mono, Wall};

pub(super) const RETRY: Duration = Duration::from_millis(200);
/// How long a name that another session has is waited for, beyond a TTL.
const NAME_WAIT: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Stage {
    /// Nothing yet, or again: ask for a lease at this time.
    None {
        at: Mono,
    },
    Granting,
    /// The process before had this session: it is taken up if it is still there.
    Adopting {
        lease: LeaseId,
        session: Session,
        /// When to ask whether the lease is alive; `None`: the key is being put again.
        at: Option<Mono>,
    },
    /// There is a lease; ask for the session key at this time.
    Leased {
        lease: LeaseId,
        at: Mono,
    },
    Registering {
        lease: LeaseId,
    },
    Live {
        lease: LeaseId,
        session: Session,
    },
    /// Left, or leaving: the lease is being revoked.
    Revoking,
    Gone,
}

#[derive(Debug)]
pub(crate) struct SessionWatch {
    pub stage: Stage,
    pub proof: Option<LeaseProof>,
    keep_alive_sent: Mono,
    pub keeping_alive: bool,
    name_taken_since: Option<Mono>,
    /// Somebody writes with my identity, or my store is older than my ledgers.
    pub distrusted: bool,
    /// Counts how often the agent came; raised when a lease is lost.
    pub coming: u32,
    pub told: CapacityTold,
    /// When the session was asked for, which its key tells.
    pub since: Wall,
    /// When this process learned that it has registered.
    pub registered: Option<Mono>,
    /// What the store has of the session.
    pub kept: Option<Kept>,
}

impl SessionWatch {
    pub fn new(kept: Option<Kept>) -> SessionWatch {
        SessionWatch {
            stage: Stage::None { at: Mono::default() },
            proof: None,
            keep_alive_sent: Mono::default(),
            keeping_alive: false,
            name_taken_since: None,
            distrusted: false,
            coming: 0,
            told: CapacityTold::default(),
            since: Wall::MIN,
            registered: None,
            kept,
        }
    }

    /// The session that a process that comes after may go on with.
    pub fn to_keep(&self) -> Option<(LeaseId, Session)> {
        match self.stage {
            Stage::Adopting { lease, session, .. } | Stage::Live { lease, session } => {
                Some((lease, session))
            }
            // It is asked for first of all.
            Stage::None { .. } if self.coming == 0 => {
                self.kept.map(|kept| (kept.lease, kept.session))
            }
            _ => None,
        }
    }

    pub fn live(&self) -> Option<(LeaseId, Session)> {
        match self.stage {
            Stage::Live { lease, session } => Some((lease, session)),
            _ => None,
        }
    }

    pub fn session(&self) -> Option<Session> {
        self.live().map(|(_, session)| session)
    }

    pub fn keep_alive_now(&mut self, now: Mono) {
        self.keep_alive_sent = now;
        self.keeping_alive = true;
    }

    pub fn lease(&self) -> Option<LeaseId> {
        match self.stage {
            Stage::Adopting { lease, .. }
            | Stage::Leased { lease, .. }
            | Stage::Registering { lease }
            | Stage::Live { lease, .. } => Some(lease),
            _ => None,
        }
    }
}

impl Agent {
    pub(super) fn keep_session(&mut self) {
        let now = self.desk.now.mono;
        if std::mem::take(&mut self.desk.session.distrusted) {
            self.come_as_stranger();
        }
        self.try_former();
        match self.desk.session.stage {
            // Nothing could be run.
            Stage::None { .. } if self.desk.stored.stalled => {}
            Stage::None { at } if at <= now => {
                self.desk.session.stage = Stage::Granting;
                let ttl = self.desk.config.ttl;
                let coming = self.desk.session.coming;
                self.desk
                    .share(Call::Grant { sent: now, coming }, ShareRequest::GrantLease { ttl });
            }
            Stage::Leased { lease, at } if at <= now => {
                self.desk.session.stage = Stage::Registering { lease };
                let (capacity, asked) = (self.desk.capacity(), self.desk.fleet.asked);
                self.desk.session.told.registering(capacity);
                self.desk.session.since = self.desk.now.wall;
                let coming = self.desk.session.coming;
                let request = ShareRequest::Register { lease, capacity, asked };
                self.desk.share(Call::Register { coming }, request);
            }
            Stage::None { at } | Stage::Leased { at, .. } => self.desk.wake_by(at),
            _ => {}
        }
        self.keep_alive();
    }

    fn keep_alive(&mut self) {
        let now = self.desk.now.mono;
        let (Some(lease), Some(proof)) = (self.desk.session.lease(), self.desk.session.proof)
        else {
            return;
        };
        let next = self.desk.session.keep_alive_sent.plus(claim::keep_alive_every(proof.ttl));
        if self.desk.session.keeping_alive || now < next {
            self.desk.wake_by(next);
            return;
        }
        self.desk.session.keep_alive_now(now);
        let coming = self.desk.session.coming;
        self.desk.share(Call::KeepAlive { sent: now, coming }, ShareRequest::KeepAlive { lease });
    }

    pub(super) fn granted(&mut self, sent: Mono, answer: ShareAnswer) {
        let now = self.desk.now.mono;
        match answer {
            ShareAnswer::Lease { lease, ttl } => {
                self.desk.session.proof = Some(LeaseProof { sent, ttl });
                self.desk.session.keep_alive_sent = sent;
                self.desk.session.keeping_alive = false;
                self.desk.session.stage = Stage::Leased { lease, at: now };
            }
            _ => self.desk.session.stage = Stage::None { at: now.plus(RETRY) },
        }
    }

    pub(super) fn kept_alive(&mut self, sent: Mono, answer: ShareAnswer) {
        self.desk.session.keeping_alive = false;
        match answer {
            ShareAnswer::KeptAlive { ttl } if self.desk.session.lease().is_some() => {
                self.desk.session.proof = Some(LeaseProof { sent, ttl });
                self.put_former();
            }
            ShareAnswer::NoLease => self.lease_lost(),
            // Unanswered: the licence runs out by itself; try again at once rather than in TTL/3.
            _ => {
                self.try_former_again();
                let retry = self.desk.now.mono.plus(RETRY);
                if let Some(proof) = self.desk.session.proof {
                    let every = claim::keep_alive_every(proof.ttl);
                    self.desk.session.keep_alive_sent = retry.minus(every);
                }
            }
        }
    }

    pub(super) fn registered(&mut self, answer: ShareAnswer) {
        let Stage::Registering { lease } = self.desk.session.stage else { return };
        let now = self.desk.now.mono;
        let retry = Stage::Leased { lease, at: now.plus(RETRY) };
        match answer {
            ShareAnswer::Registered { session } => {
                self.desk.session.name_taken_since = None;
                self.desk.session.stage = Stage::Live { lease, session };
                self.desk.session.registered = Some(now);
                self.desk.notice(Notice::Registered { session });
            }
            ShareAnswer::Asked(asked) => {
                self.desk.session.stage = Stage::Leased { lease, at: now };
                self.asked(asked);
            }
            ShareAnswer::NameTaken { holder } => {
                let since = match self.desk.session.name_taken_since {
                    Some(since) => since,
                    None => {
                        self.desk.notice(Notice::NameTaken { holder });
                        *self.desk.session.name_taken_since.insert(now)
                    }
                };
                self.desk.session.stage = retry;
                if now.since(since) > self.desk.config.ttl + NAME_WAIT {
                    self.desk.effect(Effect::Exit { reason: ExitReason::NameTaken });
                    self.desk.session.stage = Stage::Gone;
                }
            }
            ShareAnswer::NoLease => self.lease_lost(),
            _ => self.desk.session.stage = retry,
        }
    }

    /// The lease or the session key is gone: stop starting, let everything go, come again.
    pub(super) fn lease_lost(&mut self) {
        if matches!(self.desk.session.stage, Stage::Revoking | Stage::Gone) {
            return;
        }
        match self.desk.session.stage {
            Stage::Adopting { .. } => {}
            _ => self.desk.notice(Notice::LeaseLost),
        }
        self.desk.session.coming += 1;
        self.desk.session.proof = None;
        self.desk.session.keeping_alive = false;
        self.desk.session.told = CapacityTold::default();
        self.desk.session.stage = Stage::None { at: self.desk.now.mono };
        for range in self.ranges.values_mut().filter(|range| !range.is_local()) {
            range.left_before = LeftBefore::Nothing;
            range.lose(&mut self.desk);
        }
    }

    /// Gives the session up at once and begins a new one, which trusts nothing of the old (L3).
    pub(super) fn come_as_stranger(&mut self) {
        if let Some(lease) = self.desk.session.lease() {
            self.desk.share(Call::Drop, ShareRequest::RevokeLease { lease });
        }
        self.lease_lost();
    }

    /// Ends the session for good.
    pub(super) fn revoke(&mut self) {
        let Some(lease) = self.desk.session.lease() else {
            self.gone();
            return;
        };
        self.desk.session.stage = Stage::Revoking;
        self.desk.share(Call::Revoke, ShareRequest::RevokeLease { lease });
    }

    /// The lease is revoked, or will run out by itself.
    pub(super) fn gone(&mut self) {
        self.desk.session.stage = Stage::Gone;
        self.desk.effect(Effect::Exit { reason: ExitReason::Left });
    }
}
