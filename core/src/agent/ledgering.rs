//! Writing ledgers (L1 to L8): when a range has something to say, what its record then holds, and
//! what the answers mean. A range has one write under way; ranges that write at the same moment
//! share transactions; a range with nothing to say puts its claim again, which proves as much.

use std::time::Duration;

use crate::agent::Agent;
use crate::agent::desk::{Call, Desk};
use crate::agent::effect::{
    Effect, Notice, RangeWrite, SettleKey, ShareRequest, StoreOp, WriteKind,
};
use crate::agent::input::{ReadBack, ShareAnswer, WriteOutcome};
use crate::agent::listing::{Listing, entry_bytes, listing, size_of};
use crate::agent::permits::{PermitsDue, listed_attempt};
use crate::agent::range::{Hold, Phase, Prepared, Range, Written};
use crate::agent::rules::Rule;
use crate::claim;
use crate::hash::hash_parts;
use crate::ids::{Fence, Incarnation, RangeId, Revision};
use crate::ledger::{Entry, EntryState, Ledger, Marks};
use crate::limits;
use crate::run::life::Stage;
use crate::time::{Instant, Mono, Wall};

/// How often a range with something due or open is written.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// Ranges whose writes would come within so long of each other write at the same moment.
const TOGETHER: Duration = Duration::from_millis(500);
/// Transactions under way beside which no more first ledgers are prepared.
const FIRST_WRITES_MAX: usize = 4;
/// How long a final ledger waits until it can cover all that was started.
const FINAL_WAIT: Duration = Duration::from_millis(300);
/// How long one that fails is sent again.
const FINAL_TRIES: Duration = Duration::from_secs(1);
/// How long a range is held after a hand-off that was given up: several seconds of failure would
/// otherwise be seconds without a start.
const STAY: Duration = Duration::from_secs(1);
/// How long it waits where this clock is ahead of the coordinators'; what is further ahead is not
/// begun.
pub(super) const AHEAD_WAIT: Duration = Duration::from_secs(2);
/// How soon an unknown outcome is read back.
const READ_BACK: Duration = Duration::from_millis(50);
/// How long a ledger that etcd refused is not sent again.
const REFUSED_WAIT: Duration = Duration::from_secs(1);

impl Agent {
    /// Prepares the ledgers and beats whose time has come, and sends what is on disk.
    pub(super) fn write_ledgers(&mut self) {
        self.write_pins();
        let Some(proof) = self.desk.session.proof else { return };
        let mut beats = Vec::new();
        // Permissions that are asked for while others are under way go together in the next one.
        let asking = self.ranges.values().any(Range::asking_under_way);
        let crowded = self.first_ledgers_wait();
        for range in self.ranges.values_mut().filter(|range| !range.is_local()) {
            let Some(fence) = range.fence() else { continue };
            range.read_back(&mut self.desk);
            if range.writer.phase != Phase::Idle || crowded && range.owes_first() {
                continue;
            }
            match range.due_write(&mut self.desk, proof.ttl, asking) {
                DueWrite::Nothing => {}
                DueWrite::Beat => beats.extend(range.beat(&mut self.desk, fence)),
                DueWrite::Ledger => range.prepare(&mut self.desk, fence, false),
                DueWrite::Final => range.prepare(&mut self.desk, fence, true),
            }
        }
        self.send(beats);
    }

    /// Whether first ledgers wait for others, to go together: after a restart or a takeover many
    /// ranges owe one within moments, and alone each would cost etcd a transaction. They wait for
    /// no others than first ones.
    fn first_ledgers_wait(&self) -> bool {
        let writes = || self.desk.calls.values().filter(|call| matches!(call, Call::Write(_)));
        let under_way =
            |range: &Range| range.writer.answered.is_none() && range.writer.phase != Phase::Idle;
        self.ranges.values().any(Range::owes_first)
            && self.ranges.values().any(under_way)
            && writes().count() >= FIRST_WRITES_MAX
    }

    /// A batch was answered: the ledgers that waited for it may be sent (L4).
    pub(super) fn ledgers_synced(&mut self) {
        let synced = self.desk.synced;
        let mut writes = Vec::new();
        for range in self.ranges.values_mut() {
            let Some(fence) = range.fence() else { continue };
            let Phase::Syncing { batch, prepared } = &range.writer.phase else { continue };
            if *batch > synced {
                continue;
            }
            if range.is_local() {
                range.pins_synced(&mut self.desk);
                continue;
            }
            let prepared = prepared.clone();
            if let WriteKind::Ledger { ledger, .. } | WriteKind::Final { ledger, .. } =
                &prepared.kind
            {
                range.writer.note_sent(Written::Ledger(ledger.number), self.desk.now);
            }
            let last = matches!(prepared.kind, WriteKind::Final { .. });
            if last && self.desk.holds(Rule::Final) {
                // It may happen for as long as no later ledger has: nothing starts until one is
                // answered, whatever is said of this one.
                range.writer.answered = None;
            }
            let kind = prepared.kind.clone();
            range.writer.phase = Phase::InFlight { prepared };
            range.writer.sequence = self.desk.next_write();
            writes.push((range.writer.sequence, RangeWrite { range: range.id, fence, kind }));
        }
        self.send(writes);
    }

    /// Sends writes in as few transactions as L8 allows.
    fn send(&mut self, writes: Vec<(u64, RangeWrite)>) {
        let mut chunk: Vec<(u64, RangeWrite)> = Vec::new();
        let mut bytes = 0;
        for write in writes {
            let size = size_of(&write.1.kind);
            if self.ranges.get(&write.1.range).is_some_and(|range| range.writer.alone) {
                self.send_chunk(vec![write]);
                continue;
            }
            let full = chunk.len() == limits::LEDGER_RANGES_MAX;
            if !chunk.is_empty() && (full || bytes + size > limits::TXN_BYTES_MAX) {
                self.send_chunk(std::mem::take(&mut chunk));
                bytes = 0;
            }
            bytes += size;
            chunk.push(write);
        }
        if !chunk.is_empty() {
            self.send_chunk(chunk);
        }
    }

    fn send_chunk(&mut self, chunk: Vec<(u64, RangeWrite)>) {
        let ranges = chunk.iter().map(|(number, write)| (write.range, *number)).collect();
        let writes = chunk.into_iter().map(|(_, write)| write).collect();
        self.desk.share(Call::Write(ranges), ShareRequest::Write(writes));
    }

    pub(super) fn wrote(&mut self, ranges: Vec<(RangeId, u64)>, answer: ShareAnswer) {
        let refused = matches!(answer, ShareAnswer::Refused { retryable: false, .. });
        let mut outcomes = match answer {
            ShareAnswer::Wrote(outcomes) => outcomes.into_iter().map(Some).collect(),
            _ => Vec::new(),
        };
        outcomes.resize_with(ranges.len(), || None);
        for ((id, sequence), outcome) in ranges.into_iter().zip(outcomes) {
            let range = self.ranges.get_mut(&id);
            let Some(range) = range.filter(|range| range.writer.sequence == sequence) else {
                continue;
            };
            match outcome {
                Some(outcome) => range.write_answered(&mut self.desk, outcome),
                None if refused => range.write_refused(self.desk.now.mono),
                None => range.write_unknown(self.desk.now.mono),
            }
        }
    }

    pub(super) fn did_read_back(&mut self, id: RangeId, sequence: u64, answer: ShareAnswer) {
        let range = self.ranges.get_mut(&id);
        let Some(range) = range.filter(|range| range.writer.sequence == sequence) else { return };
        let Phase::ReadingBack { prepared } = range.writer.phase.clone() else { return };
        match answer {
            ShareAnswer::ReadBack(found) => range.found(&mut self.desk, prepared, found),
            _ => {
                let at = self.desk.now.mono.plus(READ_BACK * 4);
                range.writer.phase = Phase::Unknown { at, prepared };
            }
        }
    }
}

impl Desk {
    /// The last moment before `at` at which this agent's ranges write together: each of them once a
    /// second, and all of them in a few transactions, since they share them. Other agents write at
    /// other moments.
    fn together(&self, at: Mono) -> Mono {
        let every = u64::try_from(TOGETHER.as_micros()).unwrap_or(u64::MAX);
        let own = hash_parts(&[b"together", self.config.agent.as_str().as_bytes()]) % every;
        let since = at.micros().saturating_sub(own);
        Mono::from_micros(since - since % every + own)
    }
}

enum DueWrite {
    Nothing,
    Beat,
    Ledger,
    Final,
}

impl Range {
    /// Nothing of it starts before its first ledger (L1), which is not on its way yet.
    fn owes_first(&self) -> bool {
        let held = matches!(self.hold, Hold::Held { .. }) && self.own.is_none();
        let owed = self.writer.urgent && self.writer.answered.is_none();
        held && owed && self.writer.phase == Phase::Idle
    }

    fn due_write(&mut self, desk: &mut Desk, ttl: Duration, asking: bool) -> DueWrite {
        if let Hold::Leaving { since, .. } = self.hold {
            return self.due_final(desk, since);
        }
        let now = desk.now.mono;
        self.permits.under_way = false;
        // A first ledger under this fence would hide from the next holder under which one runs were
        // written down that are still being read.
        let refused = self.writer.ledger_after > now || self.own.is_some();
        if self.writer.urgent && !refused {
            return DueWrite::Ledger;
        }
        let permits = self.permits_due(desk);
        if permits == PermitsDue::Now && !refused && !asking {
            self.permits.under_way = true;
            return DueWrite::Ledger;
        }
        let owes = !self.writer.marks.cover(self.writer.owed.through, self.writer.owed.incarnation);
        let has_news = self.writer.urgent
            || self.writer.dirty
            || owes
            || permits == PermitsDue::Soon
            || self.writer.bytes > 0
            || !self.open.is_empty();
        let answered = self.writer.answered.is_some() && self.copy.listed;
        if has_news && answered {
            // A large one is written less often (L8); beats go on in between.
            let size = self.writer.bytes / limits::LEDGER_BYTES_CALM;
            let calm = WRITE_EVERY * u32::try_from(size).unwrap_or(u32::MAX).max(1);
            let at = desk.together(self.writer.ledger_sent.plus(calm));
            let at = at.max(self.writer.ledger_after);
            if at <= now {
                return DueWrite::Ledger;
            }
            desk.wake_by(at);
        }
        let every = if has_news { WRITE_EVERY } else { claim::beat_every(ttl) };
        let at = desk.together(self.writer.last_sent.plus(every));
        if at <= now {
            return DueWrite::Beat;
        }
        desk.wake_by(at);
        DueWrite::Nothing
    }

    /// A final ledger has to cover everything that was started, and marks go only as far as the
    /// newest write that came back was sent (L5): so one more beat is sent after the last start,
    /// and the final ledger when that has come back, a few milliseconds later.
    fn due_final(&mut self, desk: &mut Desk, since: Mono) -> DueWrite {
        if self.open.values().any(|run| matches!(run.stage, Stage::Opening { .. })) {
            return DueWrite::Nothing;
        }
        let proved = self.writer.proof.map_or(Instant::MIN, |proof| proof.wall.instant());
        let ahead = self.ahead_of_others(desk);
        let refused = self.writer.ledger_after > desk.now.mono;
        // What came late and waits to be decided holds the marks back, perhaps behind runs that
        // have ended without being listed: then the range is held again to decide it first.
        let owed = self.writer.owed;
        let covers = self.marks(desk).cover(owed.through, owed.incarnation);
        if proved >= self.window.decided_to && ahead.is_zero() && covers && !refused {
            return DueWrite::Final;
        }
        let give_up = since.plus(if ahead.is_zero() { FINAL_WAIT } else { AHEAD_WAIT });
        if give_up <= desk.now.mono {
            // Better late than repeated: go on, and try again when the watch is quick.
            self.stay(desk);
            return DueWrite::Nothing;
        }
        desk.wake_by(give_up);
        match self.writer.last_sent < since {
            true => DueWrite::Beat,
            false => DueWrite::Nothing,
        }
    }

    /// The hand-off is given up: the range is held as before, for long enough to decide and start
    /// what came due meanwhile.
    fn stay(&mut self, desk: &Desk) {
        let Hold::Leaving { fence, .. } = self.hold else { return };
        if desk.holds(Rule::FinalFailed) {
            self.hold = Hold::Held { fence };
            self.hand_off_after = desk.now.mono.plus(STAY);
        }
    }

    /// How long it takes until the coordinators' time lets the marks cover what was decided.
    pub(super) fn ahead_of_others(&self, desk: &Desk) -> Duration {
        let Some(theirs) = latest_by_others(desk) else { return Duration::ZERO };
        let ahead = self.window.decided_to.millis().saturating_sub(theirs.millis());
        Duration::from_millis(u64::try_from(ahead).unwrap_or(0))
    }

    fn beat(&mut self, desk: &mut Desk, fence: Fence) -> Option<(u64, RangeWrite)> {
        let (lease, session) = desk.session.live()?;
        self.writer.beat += 1;
        let beat = self.writer.beat;
        let kind = WriteKind::Beat { session, lease, beat };
        self.writer.note_sent(Written::Beat(beat), desk.now);
        let prepared = Prepared { kind: kind.clone(), dropped: Vec::new() };
        self.writer.phase = Phase::InFlight { prepared };
        self.writer.sequence = desk.next_write();
        Some((self.writer.sequence, RangeWrite { range: self.id, fence, kind }))
    }

    /// Takes the snapshot and has it synced together with its number; `ledgers_synced` sends it.
    pub(super) fn prepare(&mut self, desk: &mut Desk, fence: Fence, last: bool) {
        self.take_settles(desk);
        let marks = self.marks(desk);
        let number = desk.next_ledger_number();
        let session = desk.session.session().unwrap_or_default();
        let (mut open, mut dropped) = (Vec::new(), Vec::new());
        let inherits = self.writer.answered.is_some() || desk.holds(Rule::Inherited);
        for (id, run) in self.open.iter().filter(|(_, run)| inherits || !run.listed) {
            let session = last.then_some(session);
            match listing(id, run, marks, desk, session) {
                Listing::As(state) => {
                    let attempt = listed_attempt(run, state, fence);
                    open.push(Entry { run: id.clone(), due: run.due, attempt, state });
                }
                Listing::Leaves => dropped.push((id.clone(), run.due)),
                Listing::NotYet => {}
            }
        }
        open.extend(self.carried().iter().cloned());
        for entry in &open {
            if let Some(run) = self.open.get_mut(&entry.run) {
                run.listed = true;
            }
        }
        if !last {
            self.list_ahead(desk, fence, &mut open);
        }
        self.take_permissions_back(desk, &open);
        self.writer.bytes = open.iter().map(entry_bytes).sum();
        self.writer.put_off = self.first_put_off(&open, marks);
        self.writer.marks = marks;
        self.writer.dirty = false;
        self.writer.urgent = false;
        let ledger = Ledger { fence, number, marks, open };
        desk.store(self.row_of(desk, &ledger));
        // What is behind the marks but was not read yet is still wanted: one-shots are not covered.
        let through = marks.through.min(self.window.loaded_to);
        if through > Instant::MIN {
            desk.store(StoreOp::Watermark { range: self.id, through });
        }
        desk.sync_wanted = true;
        let (seen, taken) = (self.writer.seen, self.taken(&ledger));
        let kind = match last {
            false => WriteKind::Ledger { seen, ledger, taken },
            true => WriteKind::Final { seen, ledger, taken },
        };
        let prepared = Prepared { kind, dropped };
        self.writer.phase = Phase::Syncing { batch: desk.batch(), prepared };
    }

    /// The first entry that is over and waits for nothing but marks that cover it.
    fn first_put_off(&self, open: &[Entry], marks: Marks) -> Option<(Instant, Incarnation)> {
        let over = open.iter().filter(|entry| entry.state == EntryState::Ended && self.is_local());
        let waiting = over.filter(|entry| {
            let run = self.open.get(&entry.run);
            run.is_some_and(|run| !run.waits_for_key())
                && !marks.cover(entry.due, entry.run.incarnation)
        });
        waiting.map(|entry| (entry.due, entry.run.incarnation)).min()
    }

    /// How far the marks may go now (L5). They never go back.
    pub(super) fn marks(&self, desk: &Desk) -> Marks {
        let before = self.writer.marks;
        let ready = self.window.scanned && self.copy.listed && self.writer.answered.is_some();
        // An agent whose clock is wrong has decided nothing since; its last ledger may say what it
        // had decided before, as far as the coordinators' time allows.
        let off = desk.clock.off_since().is_some();
        let leaving = matches!(self.hold, Hold::Leaving { .. });
        let believed = desk.clock.verified() || off && (leaving || self.is_local());
        // Nobody else decides what is pinned here, and what was not delivered is not covered.
        let delivered = desk.holds(Rule::Undelivered);
        let proof = if self.is_local() || !delivered { Some(desk.now) } else { self.writer.proof };
        let (true, true, Some(proof)) = (ready, believed, proof) else {
            return before;
        };
        let mut through = self.window.decided_to.min(proof.wall.instant());
        if !desk.holds(Rule::Undecided) {
            through = desk.now.wall.instant();
        }
        if let Some(theirs) = latest_by_others(desk).filter(|_| !self.is_local()) {
            through = through.min(theirs);
        }
        let through = before.through.max(through);
        // A mark may stand ahead of this clock: then newer tasks have instants before it that are
        // still to come, and must not be covered.
        let mut decided = self.decided_marks(desk.config.epoch);
        if !delivered {
            decided.incarnation.revision = decided.incarnation.revision.max(self.writer.seen);
        }
        let incarnation = match decided.through >= through {
            true => before.incarnation.max(decided.incarnation),
            false => before.incarnation,
        };
        Marks { through, incarnation }
    }

    /// Settle keys that this ledger makes unneeded: those it took in, and those nobody waits for.
    fn taken(&self, ledger: &Ledger) -> Vec<SettleKey> {
        let held = |key: &SettleKey| {
            ledger.open.iter().any(|entry| {
                entry.run == key.run
                    && entry.attempt == key.attempt
                    && matches!(entry.state, EntryState::Held { .. })
            })
        };
        let keys = self.copy.settles.keys().filter(|key| !held(key));
        keys.take(limits::LEDGER_OPS_MAX - 4).cloned().collect()
    }

    fn write_answered(&mut self, desk: &mut Desk, outcome: WriteOutcome) {
        let Phase::InFlight { prepared } = std::mem::replace(&mut self.writer.phase, Phase::Idle)
        else {
            return;
        };
        match outcome {
            WriteOutcome::Written { revision } => self.written(desk, prepared, revision),
            WriteOutcome::Differs(found) => self.found(desk, prepared, found),
        }
    }

    /// The whole transaction was refused, and nothing of it happened. Which range of it was too
    /// much nobody says: each goes by itself from now on, and beats meanwhile.
    fn write_refused(&mut self, now: Mono) {
        self.writer.phase = Phase::Idle;
        self.writer.dirty = true;
        self.writer.alone = true;
        // Nothing of the range starts before its first ledger: that one stays owed.
        self.writer.urgent |= self.writer.answered.is_none();
        self.writer.ledger_after = now.plus(REFUSED_WAIT);
    }

    fn write_unknown(&mut self, now: Mono) {
        let at = now.plus(READ_BACK);
        let phase = std::mem::replace(&mut self.writer.phase, Phase::Idle);
        self.writer.phase = match phase {
            // A beat says nothing that would have to be known.
            Phase::InFlight { prepared } if matches!(prepared.kind, WriteKind::Beat { .. }) => {
                Phase::Idle
            }
            Phase::InFlight { prepared } => Phase::Unknown { at, prepared },
            other => other,
        };
    }

    /// After an unknown outcome, before anything else: what is there? (L3)
    fn read_back(&mut self, desk: &mut Desk) {
        let Phase::Unknown { at, prepared } = &self.writer.phase else { return };
        if *at > desk.now.mono {
            desk.wake_by(*at);
            return;
        }
        let prepared = prepared.clone();
        self.writer.phase = Phase::ReadingBack { prepared };
        let call = Call::ReadBack { range: self.id, sequence: self.writer.sequence };
        desk.share(call, ShareRequest::ReadBack { range: self.id });
    }

    /// A write of mine is answered: it happened at `revision`.
    pub(super) fn written(&mut self, desk: &mut Desk, prepared: Prepared, revision: Revision) {
        if !self.is_local() {
            desk.effect(Effect::ExpectWatch { range: self.id, revision });
        }
        match prepared.kind {
            WriteKind::Beat { .. } => {}
            WriteKind::Ledger { ledger, .. } => {
                self.writer.alone = false;
                self.writer.seen = revision;
                self.writer.answered = Some(ledger.marks);
                self.permit(desk, &ledger);
                let series = |entry: &Entry| matches!(entry.state, EntryState::CatchUp { .. });
                self.writer.series = ledger.open.into_iter().filter(series).collect();
                for (id, due) in prepared.dropped {
                    // Unless an edit has put it off meanwhile, or given it a key: then a later one
                    // lets it go.
                    let run = self.open.get(&id).filter(|run| run.ended() && run.key.is_none());
                    if run.is_some_and(|run| run.due == due) {
                        self.open.remove(&id);
                    }
                }
            }
            WriteKind::Final { ledger, .. } => {
                self.note_handed_on(&ledger);
                self.handed_off(desk, &ledger, revision);
            }
        }
    }

    /// A compare failed, or an unknown outcome was read back.
    fn found(&mut self, desk: &mut Desk, prepared: Prepared, found: ReadBack) {
        self.writer.phase = Phase::Idle;
        let mine = found.claim.as_ref().filter(|claim| Some(claim.fence) == self.fence());
        let ledger = match &prepared.kind {
            WriteKind::Beat { .. } => {
                if mine.is_none() {
                    self.lose(desk);
                }
                return;
            }
            WriteKind::Ledger { ledger, .. } | WriteKind::Final { ledger, .. } => ledger,
        };
        let there = found.ledger.as_ref().and_then(|seen| seen.ledger.as_ref().ok());
        let revision = found.ledger.as_ref().map_or(Revision(0), |seen| seen.revision);
        let any = !desk.holds(Rule::LedgerNumber);
        let it_is_there =
            there.is_some_and(|l| l.fence == ledger.fence && (l.number == ledger.number || any));
        if it_is_there {
            self.written(desk, prepared, revision);
        } else if mine.is_none() && matches!(prepared.kind, WriteKind::Final { .. }) {
            // It may have happened, and a successor have written since: what it left running is
            // settled as far as the ledgers after it ask for it.
            let ledger = ledger.clone();
            self.handed_off(desk, &ledger, self.writer.seen.next());
        } else if mine.is_none() {
            // Maybe a final one of mine, which asks how runs ended that it lists as left here.
            self.left_at = self.left_at.max(revision);
            self.lose(desk);
        } else if revision == self.writer.seen {
            // It did not happen; the next one says the same and more.
            self.writer.dirty = true;
            self.writer.urgent = true;
            if let Hold::Leaving { since, .. } = self.hold
                && desk.now.mono.since(since) > FINAL_TRIES
            {
                self.stay(desk);
            }
        } else if there.is_some_and(|there| is_mine_before(there, ledger)) {
            // One of mine that was read back too early has happened after all. It permits nothing,
            // and this one says the same and more.
            self.writer.seen = revision;
            self.writer.dirty = true;
            self.writer.urgent = true;
        } else if there.is_none_or(|there| Some(there.fence) != self.fence())
            || there.is_some_and(|there| desk.former_wrote(self.id, there.number))
        {
            // My watch has lost a ledger, or the process before has sent one that came after I had
            // looked: what I took up is not what there was.
            self.release(desk);
            self.fence_taken = Fence::default();
            self.forget_copy();
            desk.effect(Effect::Relist { range: self.id });
        } else {
            // Somebody writes under my fence, or my store is older than my ledgers.
            desk.notice(Notice::Stranger { range: self.id });
            desk.session.distrusted = true;
        }
    }
}

/// Whether this process wrote a ledger under the same fence before another one.
fn is_mine_before(there: &Ledger, mine: &Ledger) -> bool {
    let (there, mine) = ((there.fence, there.number), (mine.fence, mine.number));
    there.0 == mine.0 && there.1.process == mine.1.process && there.1.count < mine.1.count
}

/// How far a mark may go by the coordinators' time, if they have measured ours lately (L5).
fn latest_by_others(desk: &Desk) -> Option<Instant> {
    let offset = desk.clock.offset()?;
    let theirs = Wall::from_micros(desk.now.wall.micros().saturating_add(offset));
    Some(theirs.plus(limits::CLOCK_OFFSET).instant())
}
