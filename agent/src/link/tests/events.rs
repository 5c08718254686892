//! Run events: to whom they go, how many go together, and what becomes of those that do not fit.

use tocktower_proto::v1::interest::Kind;

use super::*;

fn filter(namespace: &str, task: &str) -> v1::RunFilter {
    let labels = [("team".to_owned(), "db".to_owned())].into();
    v1::RunFilter { namespace: namespace.to_owned(), task: task.to_owned(), labels }
}

fn only(any_of: Vec<v1::RunFilter>) -> Kind {
    Kind::Filter(v1::InterestFilter { any_of })
}

impl Peer {
    /// Runs until one has this id.
    async fn events_to(&mut self, last: &str) -> Vec<v1::Run> {
        let mut runs: Vec<v1::Run> = Vec::new();
        while runs.last().is_none_or(|run| run.run_id != last) {
            let heard = self.hear_of(|message| match message {
                Up::RunEvents(events) => Some(events.runs),
                _ => None,
            });
            runs.extend(heard.await);
        }
        runs
    }
}

#[tokio::test]
async fn events_go_to_those_who_want_them() {
    let agent = Agent::start();
    let (_coordinator, mut peer) = agent.linked().await;
    peer.settle().await;
    assert!(!agent.links.wanted());
    agent.links.report(run("default/a", 1, RunState::Running));
    peer.interest(only(vec![filter("db", ""), filter("web", "b")])).await;
    assert!(agent.links.wanted());
    for task in ["default/a", "web/a", "db/x", "web/b"] {
        agent.links.report(run(task, 2, RunState::Running));
    }
    assert_eq!(ids(&peer.events_to("web/b@2-7").await), ["db/x@2-7", "web/b@2-7"]);
    peer.interest(Kind::All(v1::InterestAll {})).await;
    agent.links.report(run("default/a", 3, RunState::Running));
    assert_eq!(ids(&peer.events_to("default/a@3-7").await), ["default/a@3-7"]);
    peer.interest(Kind::None(v1::InterestNone {})).await;
    assert!(!agent.links.wanted());
    agent.links.report(run("default/a", 4, RunState::Running));
    peer.interest(only(vec![filter("", "a")])).await;
    agent.links.report(run("default/a", 5, RunState::Running));
    assert_eq!(ids(&peer.events_to("default/a@5-7").await), ["default/a@5-7"]);
}

#[tokio::test]
async fn interest_ends_with_the_link() {
    let agent = Agent::start();
    let (mut coordinator, mut peer) = agent.linked().await;
    peer.interest(Kind::All(v1::InterestAll {})).await;
    drop(peer);
    until("no interest", || !agent.links.wanted()).await;
    let mut peer = coordinator.welcome().await;
    peer.settle().await;
    assert!(!agent.links.wanted());
}

#[tokio::test]
async fn changes_of_one_run_within_a_batch_are_told_once() {
    let agent = Agent::start();
    let (_coordinator, mut peer) = agent.linked().await;
    peer.interest(Kind::All(v1::InterestAll {})).await;
    for state in [RunState::Queued, RunState::Running, RunState::Succeeded] {
        agent.links.report(run("default/a", 1, state));
    }
    agent.links.report(run("default/b", 1, RunState::Queued));
    let runs = peer.events_to("default/b@1-7").await;
    assert_eq!(ids(&runs), ["default/a@1-7", "default/b@1-7"]);
    assert_eq!(runs[0].state(), v1::RunState::Succeeded);
    assert_eq!(agent.count(|metrics| &metrics.events_merged), 2);
}

#[tokio::test]
async fn a_stalled_reader_is_told_how_much_it_missed_and_gets_the_latest() {
    const REPORTED: i64 = 40_000;
    let agent = Agent::start();
    let (_coordinator, mut stalled) = agent.linked().await;
    stalled.interest(Kind::All(v1::InterestAll {})).await;
    let mut other = Coordinator::start().await;
    agent.dials("c2", other.address);
    let mut reader = other.welcome().await;
    for ms in 1..=REPORTED {
        agent.links.report(run("default/a", ms, RunState::Running));
    }
    // The loop was never held up, and the other link still serves.
    reader.settle().await;
    let last = format!("default/a@{REPORTED}-7");
    let (mut seen, mut missed, mut largest) = (Vec::new(), 0, 0);
    while seen.last() != Some(&last) {
        match stalled.hear().await.unwrap() {
            Up::Lagged(lagged) => missed += lagged.missed,
            Up::RunEvents(events) => {
                largest = largest.max(events.runs.len());
                seen.extend(events.runs.into_iter().map(|run| run.run_id));
            }
            _ => {}
        }
    }
    assert!(missed > 0);
    assert_eq!(u64::try_from(seen.len()).unwrap() + missed, u64::try_from(REPORTED).unwrap());
    assert_eq!(agent.count(|metrics| &metrics.events_missed), missed);
    assert_eq!(largest, limits::BATCH_RUNS_MAX);
}
