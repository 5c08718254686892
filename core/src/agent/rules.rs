//! The rules of the ledger that this crate keeps (docs/ledger.md), by name. All hold, always, but
//! where the simulator breaks one on purpose, to see that a checker notices: each is looked up at
//! the one place that keeps it.

/// A rule that can be broken on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// L0: nothing starts past the licence.
    Licence,
    /// ...which rests on a lease that was kept alive...
    LeaseProof,
    /// ...and on a write of the range that its watch has shown.
    WriteProof,
    /// L1: nothing starts before the first ledger is answered.
    FirstLedger,
    /// L2: what may start at most once starts only when an answered ledger permits it...
    Permission,
    /// ...and no ledger that was sent since lists it otherwise.
    TakenBack,
    /// What an earlier holder had permission to start is lost.
    Doubt,
    /// Nothing that has not started is handed on as permitted.
    HandOnWaiting,
    /// L3: a ledger of mine is told by its number, after an outcome that was unknown.
    LedgerNumber,
    /// L5: marks do not pass what is undecided...
    Undecided,
    /// ...nor what was not delivered when the newest write that came back was sent.
    Undelivered,
    /// L6: what was inherited is carried into the first ledger...
    Inherited,
    /// ...what has ended is listed until the marks cover it...
    Covered,
    /// ...and until its key, if it has one, was seen to be gone.
    KeyGone,
    /// After a final ledger nothing starts...
    Final,
    /// ...unless that one failed, and a later one is answered.
    FinalFailed,
    /// How a run ended that is listed as left with me is said.
    Settle,
    /// Own records count if nobody else has held the range since.
    OwnRecords,
    /// What own records do not know, and the ledger lists, was not started and still has to be.
    UnknownToOwn,
    /// What has not ended counts for the overlap policy of its task.
    Overlap,
    /// The present clock says what is due, not the furthest that it ever showed.
    Clock,
    /// W4, which the driver around this crate keeps: a watch that was not read for long is not
    /// believed any more.
    Unread,
    /// What ran before an edit was known is over, however late it is due by the edit.
    LateEdit,
    /// What is late by less than ten seconds runs, and waits for no policy.
    OnTime,
    /// W3: a range that another holds and that brings nothing for long is watched anew.
    Silence,
}

impl Rule {
    pub const ALL: [Rule; 25] = [
        Rule::Licence,
        Rule::LeaseProof,
        Rule::WriteProof,
        Rule::FirstLedger,
        Rule::Permission,
        Rule::TakenBack,
        Rule::Doubt,
        Rule::HandOnWaiting,
        Rule::LedgerNumber,
        Rule::Undecided,
        Rule::Undelivered,
        Rule::Inherited,
        Rule::Covered,
        Rule::KeyGone,
        Rule::Final,
        Rule::FinalFailed,
        Rule::Settle,
        Rule::OwnRecords,
        Rule::UnknownToOwn,
        Rule::Overlap,
        Rule::Clock,
        Rule::Unread,
        Rule::LateEdit,
        Rule::OnTime,
        Rule::Silence,
    ];
}
