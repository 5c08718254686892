//! A run says the same in proto, in history and in JSON.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::time::Duration;

use proptest::prelude::*;
use tocktower_core::ids::{
    AgentName, Attempt, Epoch, Fence, Incarnation, Revision, RunId, RunKey, Session, TaskName,
};
use tocktower_core::run::{AttemptEnd, AttemptRecord, ResultCode, RunRecord, RunState, Span};
use tocktower_core::time::{Instant, Wall};
use tocktower_proto::convert::{decode_run, encode_run, run_from_proto, run_json, run_proto};

fn any_wall() -> impl Strategy<Value = Wall> {
    (0..=Wall::MAX.micros()).prop_map(Wall::from_micros)
}

fn any_instant() -> impl Strategy<Value = Instant> {
    (0..=Instant::MAX.millis()).prop_map(Instant::from_millis)
}

fn any_fence() -> impl Strategy<Value = Fence> {
    (any::<u32>(), 0_i64..)
        .prop_map(|(epoch, revision)| Fence { epoch: Epoch(epoch), revision: Revision(revision) })
}

fn any_agent() -> impl Strategy<Value = AgentName> {
    "[a-z]{1,6}".prop_map(|name| AgentName::parse(&name).unwrap())
}

fn any_attempt() -> impl Strategy<Value = AttemptRecord> {
    let end = prop_oneof![
        Just(None),
        Just(Some(AttemptEnd::Succeeded)),
        Just(Some(AttemptEnd::Cancelled)),
        ".{0,20}".prop_map(|reason| Some(AttemptEnd::Failed { reason })),
        (0_u64..1_000_000_000)
            .prop_map(|ms| { Some(AttemptEnd::TimedOut { after: Duration::from_millis(ms) }) }),
    ];
    let code = prop_oneof![
        any::<i32>().prop_map(ResultCode::Exit),
        any::<i32>().prop_map(ResultCode::Signal),
        any::<u16>().prop_map(ResultCode::HttpStatus),
    ];
    let times = (proptest::option::of(any_wall()), proptest::option::of(any_wall()));
    (any_fence(), any::<u32>(), any_agent(), times, end, proptest::option::of(code)).prop_map(
        |(fence, number, agent, (started_at, finished_at), end, code)| AttemptRecord {
            attempt: Attempt { fence, number },
            agent,
            session: Session { epoch: fence.epoch, revision: fence.revision },
            started_at,
            finished_at,
            end,
            code,
        },
    )
}

fn any_run() -> impl Strategy<Value = RunRecord> {
    let key = prop_oneof![
        any_instant().prop_map(|instant| (RunKey::Instant(instant), instant)),
        (any::<u128>(), any_instant()).prop_map(|(ulid, instant)| (RunKey::Manual(ulid), instant)),
    ];
    let span = proptest::option::of((any_instant(), any::<u64>()))
        .prop_map(|span| span.map(|(until, count)| Span { until, count }));
    let flags = (any::<bool>(), any::<bool>(), proptest::option::of(any::<i64>()));
    (
        (key, any_fence(), proptest::sample::select(&RunState::ALL[..]), any_wall(), any_agent()),
        (proptest::option::of("[a-z]{1,9}"), flags, span, proptest::option::of(any::<u128>())),
        proptest::collection::vec(any_attempt(), 0..4),
    )
        .prop_map(
            |((key, fence, state, due, agent), (reason, flags, span, request), attempts)| {
                let (run, instant) = key;
                let incarnation = Incarnation { epoch: fence.epoch, revision: fence.revision };
                RunRecord {
                    id: RunId {
                        task: TaskName::parse("default/a").unwrap(),
                        incarnation,
                        run,
                        agent: None,
                    },
                    state,
                    reason,
                    instant,
                    due,
                    agent,
                    fence,
                    attempts,
                    lateness_micros: flags.2,
                    waited_by_policy: flags.0,
                    provisional: flags.1,
                    span,
                    request,
                }
            },
        )
}

proptest! {
    #[test]
    fn a_run_passes_through_proto(run in any_run()) {
        prop_assert_eq!(run_from_proto(&run_proto(&run)), Ok(run));
    }

    #[test]
    fn a_run_passes_through_history(run in any_run()) {
        prop_assert_eq!(decode_run(&encode_run(&run)), Ok(run));
    }

    #[test]
    fn any_bytes_are_a_run_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode_run(&bytes);
        let _ = decode_run(&[&[1], bytes.as_slice()].concat());
    }

    #[test]
    fn a_run_in_json_reads_back_as_what_was_written(run in any_run()) {
        let shown = run_json(&run);
        let text = serde_json::to_string(&shown).unwrap();
        prop_assert_eq!(serde_json::from_str::<tocktower_proto::json::Run>(&text).unwrap(), shown);
    }
}

#[test]
fn a_run_in_json_has_the_form_that_scripts_rely_on() {
    let fence = Fence { epoch: Epoch(1), revision: Revision(90) };
    let started = Wall::from_micros(1_795_055_400_000_200);
    let run = RunRecord {
        id: RunId {
            task: TaskName::parse("default/nightly").unwrap(),
            incarnation: Incarnation { epoch: Epoch(1), revision: Revision(71) },
            run: RunKey::Instant(Instant::from_millis(1_795_055_400_000)),
            agent: None,
        },
        state: RunState::Failed,
        reason: None,
        instant: Instant::from_millis(1_795_055_400_000),
        due: Wall::from_millis(1_795_055_400_000),
        agent: AgentName::parse("web-12").unwrap(),
        fence,
        attempts: vec![AttemptRecord {
            attempt: Attempt { fence, number: 1 },
            agent: AgentName::parse("web-12").unwrap(),
            session: Session { epoch: Epoch(1), revision: Revision(80) },
            started_at: Some(started),
            finished_at: Some(started.plus(Duration::from_millis(5))),
            end: Some(AttemptEnd::Failed { reason: "exit code 3".into() }),
            code: Some(ResultCode::Exit(3)),
        }],
        lateness_micros: Some(200),
        waited_by_policy: false,
        provisional: true,
        span: None,
        request: None,
    };
    let shown = serde_json::to_value(run_json(&run)).unwrap();
    assert_eq!(
        shown,
        serde_json::json!({
            "run_id": "default/nightly@1795055400000-1z",
            "namespace": "default",
            "task": "nightly",
            "instant": "2026-11-19T02:30:00Z",
            "due": "2026-11-19T02:30:00Z",
            "attempt": 1,
            "state": "failed",
            "reason": null,
            "provisional": true,
            "agent": "web-12",
            "fence": 90,
            "started_at": "2026-11-19T02:30:00.0002Z",
            "finished_at": "2026-11-19T02:30:00.0052Z",
            "lateness_us": 200,
            "waited_by_policy": false,
            "duration_us": 5_000,
            "exit_code": 3,
            "error": "exit code 3",
            "attempts": [{
                "number": 1,
                "agent": "web-12",
                "session": 80,
                "fence": 90,
                "started_at": "2026-11-19T02:30:00.0002Z",
                "finished_at": "2026-11-19T02:30:00.0052Z",
                "duration_us": 5_000,
                "state": "failed",
                "exit_code": 3,
                "error": "exit code 3",
            }],
        })
    );
}
