//! Queries for runs, and cancels.

use std::sync::mpsc as std_mpsc;

use tocktower_proto::v1::query::Kind;

use super::*;

fn list(limit: u32) -> v1::RunsQuery {
    v1::RunsQuery { limit, ..v1::RunsQuery::default() }
}

fn one(run_id: &str) -> Kind {
    Kind::Run(v1::RunQuery { run_id: run_id.to_owned() })
}

#[tokio::test]
async fn a_list_joins_open_runs_and_history_the_newest_first() {
    let agent = Agent::start();
    agent.keep([
        run("default/a", 1_000, RunState::Succeeded),
        run("default/b", 3_000, RunState::Failed),
        run_under("default/c", 4_000, 5, RunState::Succeeded),
    ]);
    // Under a higher fence, so it counts and not the row.
    agent.open([
        run("default/d", 2_000, RunState::Running),
        run_under("default/c", 4_000, 6, RunState::Running),
    ]);
    let (_coordinator, mut peer) = agent.linked().await;
    peer.ask(1, Kind::Runs(list(10))).await;
    let runs = peer.runs(1).await.unwrap();
    let expected = ["default/c@4000-7", "default/b@3000-7", "default/d@2000-7", "default/a@1000-7"];
    assert_eq!(ids(&runs), expected);
    assert_eq!(runs[0].state(), v1::RunState::Running);
    assert!(runs[1].provisional, "the loop says so of rows");
    let failed = v1::RunsQuery { states: vec![v1::RunState::Failed.into()], ..list(10) };
    peer.ask(2, Kind::Runs(failed)).await;
    assert_eq!(ids(&peer.runs(2).await.unwrap()), ["default/b@3000-7"]);
    let task = v1::RunsQuery {
        namespace: "default".to_owned(),
        task: "d".to_owned(),
        since_ms: Some(2_000),
        until_ms: Some(2_001),
        ..list(10)
    };
    peer.ask(3, Kind::Runs(task)).await;
    assert_eq!(ids(&peer.runs(3).await.unwrap()), ["default/d@2000-7"]);
}

#[tokio::test]
async fn pages_leave_out_nothing_and_repeat_nothing_even_within_one_instant() {
    let agent = Agent::start();
    let tasks: Vec<String> = (0..60).map(|n| format!("default/t{n:02}")).collect();
    agent.keep(tasks.iter().map(|task| run(task, 5_000, RunState::Succeeded)));
    agent.keep((0..20).map(|n| run("default/t00", 1_000 + n, RunState::Failed)));
    let open = ["default/t07x", "default/t33x"];
    agent.open(open.map(|task| run(task, 5_000, RunState::Running)));
    let (_coordinator, mut peer) = agent.linked().await;
    let mut seen: Vec<(i64, String)> = Vec::new();
    for page in 0.. {
        let before = seen.last().cloned();
        let before = before.map(|(instant_ms, run_id)| v1::RunCursor { instant_ms, run_id });
        peer.ask(page, Kind::Runs(v1::RunsQuery { before, ..list(9) })).await;
        let runs = peer.runs(page).await.unwrap();
        let full = runs.len() == 9;
        seen.extend(runs.into_iter().map(|run| {
            let instant = run.instant.unwrap();
            (instant.seconds * 1_000 + i64::from(instant.nanos / 1_000_000), run.run_id)
        }));
        if !full {
            break;
        }
    }
    assert_eq!(seen.len(), 82);
    assert!(seen.is_sorted_by(|one, other| one > other));
}

fn manual(ulid: u128, ms: i64, state: RunState) -> RunRecord {
    let mut run = run("default/a", ms, state);
    run.id = RunId::manual(run.id.task, ulid);
    run
}

#[tokio::test]
async fn the_runs_of_one_request_are_found_by_the_end_of_their_ulid() {
    let agent = Agent::start();
    let end: u128 = 0xabcd_ef01_2345;
    let ulid = |ms: u128, end: u128| (ms << 80) | end;
    agent.keep((0..40).map(|n| run("default/a", 5_000 + n, RunState::Succeeded)));
    agent.keep([
        manual(ulid(1_000, end), 1_000, RunState::Succeeded),
        manual(ulid(2_000, end + 1), 2_000, RunState::Succeeded),
    ]);
    agent.open([manual(ulid(3_000, end), 3_000, RunState::Running)]);
    let (_coordinator, mut peer) = agent.linked().await;
    let ulid_end = end.to_be_bytes()[6..].to_vec();
    peer.ask(1, Kind::Runs(v1::RunsQuery { ulid_end, ..list(10) })).await;
    let states: Vec<_> = peer.runs(1).await.unwrap().iter().map(v1::Run::state).collect();
    assert_eq!(states, [v1::RunState::Running, v1::RunState::Succeeded]);
    peer.ask(2, Kind::Runs(v1::RunsQuery { ulid_end: vec![1], ..list(10) })).await;
    assert_eq!(peer.runs(2).await.unwrap_err().code, "invalid_query");
}

#[tokio::test]
async fn runs_that_are_named_are_told_and_no_others() {
    let agent = Agent::start();
    agent.keep([
        run("default/a", 1_000, RunState::Succeeded),
        run("default/a", 2_000, RunState::Succeeded),
        run_under("default/b", 3_000, 5, RunState::Lost),
    ]);
    agent.open([
        run_under("default/b", 3_000, 6, RunState::Running),
        run("default/c", 4_000, RunState::Running),
    ]);
    let (_coordinator, mut peer) = agent.linked().await;
    let named = ["default/a@1000-7", "default/b@3000-7", "default/x@1000-7"];
    let run_ids = named.map(str::to_owned).to_vec();
    peer.ask(1, Kind::Runs(v1::RunsQuery { run_ids, ..list(10) })).await;
    let runs = peer.runs(1).await.unwrap();
    assert_eq!(ids(&runs), ["default/b@3000-7", "default/a@1000-7"]);
    assert_eq!(runs[0].state(), v1::RunState::Running, "the account that counts");
    let run_ids = vec!["nonsense".to_owned()];
    peer.ask(2, Kind::Runs(v1::RunsQuery { run_ids, ..list(10) })).await;
    assert_eq!(peer.runs(2).await.unwrap_err().code, "invalid_query");
    let run_ids = vec!["default/a@1000-7".to_owned(); limits::NAMED_RUNS_MAX + 1];
    peer.ask(3, Kind::Runs(v1::RunsQuery { run_ids, ..list(10) })).await;
    assert_eq!(peer.runs(3).await.unwrap_err().code, "invalid_query");
}

#[tokio::test]
async fn one_run_is_told_in_all_its_accounts() {
    let agent = Agent::start();
    agent.keep([run_under("default/a", 1_000, 5, RunState::Lost)]);
    agent.open([run_under("default/a", 1_000, 6, RunState::Running)]);
    let (_coordinator, mut peer) = agent.linked().await;
    peer.ask(1, one("default/a@1000-7")).await;
    let runs = peer.runs(1).await.unwrap();
    assert_eq!(
        runs.iter().map(v1::Run::state).collect::<Vec<_>>(),
        [v1::RunState::Running, v1::RunState::Lost]
    );
    peer.ask(2, one("default/b@1000-7")).await;
    assert_eq!(peer.runs(2).await.unwrap_err().code, "not_found");
    peer.ask(3, one("nonsense")).await;
    assert_eq!(peer.runs(3).await.unwrap_err().code, "invalid_query");
    peer.say(Down::Query(v1::Query { query_id: 4, kind: None })).await;
    assert_eq!(peer.runs(4).await.unwrap_err().code, "invalid_query");
}

#[tokio::test]
async fn a_cancel_reaches_the_loop_and_is_answered_with_the_run() {
    let agent = Agent::start();
    let going = run("default/a", 1_000, RunState::Running);
    agent.open([going.clone()]);
    agent.keep([run("default/b", 1_000, RunState::Succeeded)]);
    let (_coordinator, mut peer) = agent.linked().await;
    let cancel = |query_id, run_id: &str| {
        Down::CancelRun(v1::CancelRun { run_id: run_id.to_owned(), query_id })
    };
    peer.say(cancel(1, "default/a@1000-7")).await;
    assert_eq!(ids(&peer.runs(1).await.unwrap()), ["default/a@1000-7"]);
    until("the cancel", || agent.told.lock().unwrap().cancelled == [going.id.clone()]).await;
    peer.say(cancel(2, "default/b@1000-7")).await;
    let ended = peer.runs(2).await.unwrap();
    assert_eq!(ended[0].state(), v1::RunState::Succeeded);
    peer.say(cancel(3, "default/c@1000-7")).await;
    assert_eq!(peer.runs(3).await.unwrap_err().code, "not_found");
    assert_eq!(agent.told.lock().unwrap().cancelled.len(), 1);
}

#[tokio::test]
async fn a_run_whose_end_is_on_its_way_to_the_disk_is_shown_as_ended() {
    let agent = Agent::start();
    agent.open([
        run("default/a", 1_000, RunState::Succeeded),
        run("default/a", 2_000, RunState::Running),
    ]);
    let (_coordinator, mut peer) = agent.linked().await;
    peer.ask(1, Kind::Runs(list(10))).await;
    let states: Vec<_> = peer.runs(1).await.unwrap().iter().map(v1::Run::state).collect();
    assert_eq!(states, [v1::RunState::Running, v1::RunState::Succeeded]);
    let running = v1::RunsQuery { states: vec![v1::RunState::Running.into()], ..list(10) };
    peer.ask(2, Kind::Runs(running)).await;
    assert_eq!(ids(&peer.runs(2).await.unwrap()), ["default/a@2000-7"]);
    peer.ask(3, one("default/a@1000-7")).await;
    assert_eq!(peer.runs(3).await.unwrap()[0].state(), v1::RunState::Succeeded);
    let run_id = "default/a@1000-7".to_owned();
    peer.say(Down::CancelRun(v1::CancelRun { run_id, query_id: 4 })).await;
    assert_eq!(peer.runs(4).await.unwrap()[0].state(), v1::RunState::Succeeded);
    assert!(agent.told.lock().unwrap().cancelled.is_empty(), "it is over");
}

#[tokio::test]
async fn too_many_queries_are_refused_and_stopped_ones_make_room() {
    let agent = Agent::start();
    agent.told.lock().unwrap().stuck = true;
    let (_coordinator, mut peer) = agent.linked().await;
    let most = u64::try_from(limits::QUERIES_MAX).unwrap();
    for id in 1..=most {
        peer.ask(id, Kind::Runs(list(1))).await;
    }
    peer.ask(1_000, Kind::Runs(list(1))).await;
    let refused = peer.answer().await;
    assert_eq!((refused.query_id, refused.done), (1_000, true));
    for query_id in 1..=most {
        peer.say(Down::StopQuery(v1::StopQuery { query_id })).await;
    }
    until("their end", || agent.count(|metrics| &metrics.queries_open) == 0).await;
    agent.told.lock().unwrap().stuck = false;
    peer.ask(1_001, Kind::Runs(list(1))).await;
    assert!(peer.runs(1_001).await.unwrap().is_empty(), "and of the others nothing is said");
    until("an end", || agent.count(|metrics| &metrics.queries_open) == 0).await;
    assert_eq!(agent.count(|metrics| &metrics.queries_refused), 1);
}

#[tokio::test]
async fn followers_of_output_leave_room_for_short_queries() {
    let agent = Agent::start();
    agent.open([run("default/a", 1_000, RunState::Queued)]);
    let (_coordinator, mut peer) = agent.linked().await;
    let follow = Kind::Output(v1::OutputQuery {
        run_id: "default/a@1000-7".to_owned(),
        follow: true,
        ..v1::OutputQuery::default()
    });
    let more = u64::try_from(limits::QUERIES_MAX).unwrap() + 8;
    for id in 1..=more {
        peer.ask(id, follow.clone()).await;
    }
    peer.ask(1_000, Kind::Runs(list(1))).await;
    assert_eq!(peer.runs(1_000).await.unwrap().len(), 1);
    assert_eq!(agent.count(|metrics| &metrics.queries_open), more, "they go on");
    assert_eq!(agent.count(|metrics| &metrics.queries_refused), 0);
}

#[tokio::test]
async fn a_loop_that_does_not_answer_fails_the_query_and_not_the_link() {
    let agent = Agent::start();
    agent.told.lock().unwrap().stuck = true;
    let (_coordinator, mut peer) = agent.linked().await;
    peer.ask(1, Kind::Runs(list(1))).await;
    assert_eq!(peer.runs(1).await.unwrap_err().code, "store_unavailable");
    peer.settle().await;
}

/// Panics, or blocks until it is let go.
struct Difficult(Mutex<std_mpsc::Receiver<()>>);

impl History for Difficult {
    fn runs(&self, _: &HistoryRuns) -> Result<HistoryPage, HistoryError> {
        self.0.lock().unwrap().recv().unwrap();
        Ok(HistoryPage::default())
    }

    fn accounts(&self, _: &RunId) -> Result<Vec<RunRecord>, HistoryError> {
        panic!("on purpose");
    }

    fn output(
        &self,
        _: &RunId,
        _: Attempt,
        _: Stream,
    ) -> Result<Option<CapturedStream>, HistoryError> {
        Err(HistoryError("on purpose".to_owned()))
    }
}

#[tokio::test]
async fn a_history_that_blocks_or_panics_harms_only_its_query() {
    let (let_go, gate) = std_mpsc::channel();
    let difficult = Arc::new(Difficult(Mutex::new(gate)));
    let agent = Agent::reading(difficult, Arc::default(), Arc::new(Nothing));
    let (_coordinator, mut peer) = agent.linked().await;
    peer.ask(1, Kind::Runs(list(1))).await;
    peer.ask(2, one("default/a@1000-7")).await;
    assert_eq!(peer.runs(2).await.unwrap_err().code, "internal");
    peer.settle().await;
    let_go.send(()).unwrap();
    assert!(peer.runs(1).await.unwrap().is_empty());
}
