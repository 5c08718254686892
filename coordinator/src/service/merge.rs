//! Several accounts of one run become one.
//!
//! Every agent that held the run's range may have a row of it: the one it died under, the one that
//! took it over, the standby's copy. The account with the higher fence names the end state
//! (ledger.md, "Takeover"); the attempts of all accounts are united, ordered by fence, then number.

use std::collections::BTreeMap;

use tocktower_core::run::RunRecord;
use tocktower_core::time::Instant;
use tocktower_proto::convert::format_run_id;

/// Where a run stands in a list: the newest first, then by id. Reversed, this is the order.
pub type Place = (Instant, String);

pub fn place(run: &RunRecord) -> Place {
    (run.instant, format_run_id(&run.id))
}

/// One run for each id, the newest first.
pub fn merged(accounts: impl IntoIterator<Item = RunRecord>) -> Vec<RunRecord> {
    let mut runs: BTreeMap<Place, RunRecord> = BTreeMap::new();
    for account in accounts {
        let place = place(&account);
        let run = match runs.remove(&place) {
            Some(known) => united(known, account),
            None => account,
        };
        runs.insert(place, run);
    }
    runs.into_values().rev().collect()
}

fn united(one: RunRecord, other: RunRecord) -> RunRecord {
    // Under one fence an account that has ended is the newer one.
    let rank = |run: &RunRecord| (run.fence, run.state.is_end(), run.attempts.len());
    let (mut newer, older) = if rank(&one) >= rank(&other) { (one, other) } else { (other, one) };
    for attempt in older.attempts {
        let known = newer.attempts.iter_mut().find(|known| known.attempt == attempt.attempt);
        match known {
            // Two accounts of one attempt: the one that knows its end.
            Some(known) if known.end.is_none() && attempt.end.is_some() => *known = attempt,
            Some(_) => {}
            None => newer.attempts.push(attempt),
        }
    }
    newer.attempts.sort_by_key(|attempt| attempt.attempt);
    newer.lateness_micros = match (newer.lateness_micros, older.lateness_micros) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    newer.request = newer.request.or(older.request);
    // A span that a later holder began at the same instant may not have come as far.
    newer.span = newer.span.into_iter().chain(older.span).max_by_key(|span| span.until);
    newer
}

#[cfg(test)]
mod tests {
    use super::*;
    use tocktower_core::ids::{
        AgentName, Attempt, Epoch, Fence, Incarnation, Revision, RunId, RunKey, Session, TaskName,
    };
    use tocktower_core::run::{AttemptEnd, AttemptRecord, RunState};
    use tocktower_core::time::Wall;

    fn account(ms: i64, fence: i64, state: RunState, attempts: &[(i64, u32, bool)]) -> RunRecord {
        let agent = AgentName::parse(&format!("agent-{fence}")).unwrap();
        let fence = |revision: i64| Fence { epoch: Epoch(1), revision: Revision(revision) };
        let attempt = |(revision, number, ended): &(i64, u32, bool)| AttemptRecord {
            attempt: Attempt { fence: fence(*revision), number: *number },
            agent: agent.clone(),
            session: Session::default(),
            started_at: Some(Wall::from_millis(ms)),
            finished_at: None,
            end: ended.then_some(AttemptEnd::Succeeded),
            code: None,
        };
        RunRecord {
            id: RunId {
                task: TaskName::parse("default/a").unwrap(),
                incarnation: Incarnation { epoch: Epoch(1), revision: Revision(5) },
                run: RunKey::Instant(Instant::from_millis(ms)),
                agent: None,
            },
            state,
            reason: None,
            instant: Instant::from_millis(ms),
            due: Wall::from_millis(ms),
            lateness_micros: None,
            waited_by_policy: false,
            provisional: false,
            agent: agent.clone(),
            fence: fence(fence_number(&agent)),
            attempts: attempts.iter().map(attempt).collect(),
            span: None,
            request: None,
        }
    }

    fn fence_number(agent: &AgentName) -> i64 {
        agent.as_str().rsplit('-').next().unwrap().parse().unwrap()
    }

    #[test]
    fn the_higher_fence_names_the_state_and_attempts_are_united() {
        let old = account(1_000, 10, RunState::Running, &[(10, 1, false)]);
        let new = account(1_000, 20, RunState::Succeeded, &[(20, 2, true)]);
        for accounts in [vec![old.clone(), new.clone()], vec![new, old]] {
            let runs = merged(accounts);
            assert_eq!(runs.len(), 1);
            assert_eq!(runs[0].state, RunState::Succeeded);
            let numbers: Vec<u32> = runs[0].attempts.iter().map(|a| a.attempt.number).collect();
            assert_eq!(numbers, [1, 2]);
        }
    }

    #[test]
    fn of_two_accounts_of_one_attempt_the_one_with_its_end_is_kept() {
        let open = account(1_000, 20, RunState::Running, &[(20, 1, false)]);
        let ended = account(1_000, 10, RunState::Succeeded, &[(20, 1, true)]);
        let runs = merged([open, ended]);
        assert_eq!(runs[0].state, RunState::Running);
        assert_eq!(runs[0].attempts.len(), 1);
        assert!(runs[0].attempts[0].end.is_some());
    }

    #[test]
    fn what_a_replaced_holder_reports_is_a_late_result() {
        let lost = account(1_000, 20, RunState::Lost, &[]);
        let ended = account(1_000, 10, RunState::Succeeded, &[(10, 1, true)]);
        let running = account(1_000, 10, RunState::Running, &[(10, 1, false)]);
        let late = |accounts: [RunRecord; 2]| {
            let runs = merged(accounts);
            assert_eq!(runs.len(), 1);
            let late: Vec<u32> = runs[0].late_results().map(|a| a.attempt.number).collect();
            (runs[0].state, late)
        };
        assert_eq!(late([lost.clone(), ended.clone()]), (RunState::Lost, vec![1]));
        assert_eq!(late([lost, running]), (RunState::Lost, vec![]));
        // It succeeded and was repeated all the same.
        let again = account(1_000, 20, RunState::Succeeded, &[(20, 2, true)]);
        assert_eq!(late([ended, again.clone()]), (RunState::Succeeded, vec![1]));
        // It failed, and was tried again by whoever took the range over in order.
        let mut failed = account(1_000, 10, RunState::WaitingRetry, &[(10, 1, true)]);
        failed.attempts[0].end = Some(AttemptEnd::Failed { reason: "exit code 1".to_owned() });
        assert_eq!(late([failed, again]), (RunState::Succeeded, vec![]));
    }

    #[test]
    fn the_newest_run_comes_first() {
        let runs = merged([
            account(1_000, 1, RunState::Succeeded, &[]),
            account(3_000, 1, RunState::Succeeded, &[]),
            account(2_000, 2, RunState::Succeeded, &[]),
        ]);
        let instants: Vec<i64> = runs.iter().map(|run| run.instant.millis()).collect();
        assert_eq!(instants, [3_000, 2_000, 1_000]);
    }
}
