//! The life of a link: Hello, Welcome, clocks, statistics, ends and new beginnings.

use std::io;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use tocktower_core::ids::RangeId;
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::waker::now;

#[tokio::test]
async fn a_link_begins_with_hello_and_statistics() {
    let agent = Agent::start();
    agent.stats.send_modify(|stats| {
        stats.core.running = 2;
        stats.ranges_held = vec![RangeId(3)];
        stats.history_ranges = LinkStats::bitmap([RangeId(9)]);
        stats.session = Some(Session { epoch: Epoch(1), revision: Revision(44) });
    });
    let mut coordinator = Coordinator::start().await;
    agent.dials("c1", coordinator.address);
    let mut peer = coordinator.accept().await;
    let hello = peer.hello().await;
    assert_eq!((hello.protocol_min, hello.protocol_max), (1, 1));
    assert_eq!((hello.agent.as_str(), hello.pool.as_str()), ("agent-1", "default"));
    assert_eq!((hello.build.as_str(), hello.tz_version.as_str()), ("test", "2026f"));
    assert_eq!(hello.host, "host-1");
    assert_eq!(hello.session.map(|session| session.revision), Some(44));
    peer.say(Down::Welcome(v1::Welcome { protocol: 1, coordinator: "c1".to_owned() })).await;
    let Some(Up::Stats(stats)) = peer.hear().await else { panic!("statistics come first") };
    assert_eq!((stats.running, stats.ranges_held), (2, vec![3]));
    assert_eq!(stats.history_ranges, [0, 2]);
    agent.lateness.record([1_500]);
    let Some(Up::Stats(stats)) = peer.hear().await else { panic!("and each second") };
    let mut bytes = stats.lateness_hdr.as_slice();
    let late: Histogram<u64> = Deserializer::new().deserialize(&mut bytes).unwrap();
    assert_eq!((late.len(), late.max() / 100), (1, 15));
    assert_eq!(agent.count(|metrics| &metrics.connected), 1);
}

#[tokio::test]
async fn a_server_that_dies_is_dialled_until_it_is_back() {
    let agent = Agent::start();
    let (coordinator, peer) = agent.linked().await;
    drop(peer);
    let address = coordinator.die().await;
    until("failed dials", || agent.count(|metrics| &metrics.dials_failed) >= 2).await;
    assert_eq!(agent.count(|metrics| &metrics.connected), 0);
    let mut coordinator = Coordinator::at(address).await;
    let mut peer = coordinator.welcome().await;
    peer.settle().await;
    assert_eq!(agent.count(|metrics| &metrics.connected), 1);
    assert_eq!(agent.count(|metrics| &metrics.links_lost), 1);
}

#[tokio::test]
async fn a_coordinator_that_is_gone_or_has_moved_loses_its_link() {
    let agent = Agent::start();
    let (mut coordinator, mut peer) = agent.linked().await;
    agent.dials("c1", coordinator.address);
    let mut other = Coordinator::start().await;
    agent.dials("c1", other.address);
    while peer.hear().await.is_some() {}
    let mut peer = other.welcome().await;
    assert!(coordinator.links.try_recv().is_err(), "the same address is not dialled again");
    agent.links.set_coordinator(id("c1"), None);
    while peer.hear().await.is_some() {}
    drop(peer);
    until("no link", || agent.count(|metrics| &metrics.connected) == 0).await;
    assert_eq!(agent.count(|metrics| &metrics.dials), 2);
}

#[tokio::test]
async fn a_coordinator_that_does_not_answer_holds_up_no_other() {
    let agent = Agent::start();
    let mut silent = Coordinator::start().await;
    agent.dials("silent", silent.address);
    let _no_welcome = silent.accept().await;
    let (_coordinator, mut peer) = agent.linked().await;
    peer.settle().await;
}

#[tokio::test]
async fn a_clock_probe_is_answered_at_once_and_the_offset_reaches_the_loop() {
    let agent = Agent::start();
    let (_coordinator, mut peer) = agent.linked().await;
    let before = now().wall.micros();
    peer.say(Down::ClockProbe(v1::ClockProbe { probe_id: 8, sent_us: 77 })).await;
    let answer = peer
        .hear_of(|message| match message {
            Up::ClockAnswer(answer) => Some(answer),
            _ => None,
        })
        .await;
    let after = now().wall.micros();
    assert_eq!((answer.probe_id, answer.sent_us), (8, 77));
    assert!(before <= answer.received_us && answer.received_us <= answer.answered_us);
    assert!(answer.answered_us <= after);
    let offset = |offset_us, round_trip_us, answered_us| {
        let others_agree = true;
        Down::ClockOffset(v1::ClockOffset { offset_us, round_trip_us, answered_us, others_agree })
    };
    peer.say(offset(9_000_000, 1_000_001, after)).await;
    peer.say(offset(9_000_000, 1_000, after - 5_000_000)).await;
    peer.say(offset(300, 1_000, after)).await;
    until("the offset of this clock, measured quickly and as it is now", || {
        agent.told.lock().unwrap().offsets == [-300]
    })
    .await;
}

#[tokio::test]
async fn shutdown_sends_what_waits_and_ends_the_links() {
    let agent = Agent::start();
    let (_coordinator, mut peer) = agent.linked().await;
    peer.interest(v1::interest::Kind::All(v1::InterestAll {})).await;
    agent.links.report(run("default/a", 1_000, RunState::Succeeded));
    let (read, ()) = tokio::join!(
        async {
            let mut runs = Vec::new();
            while let Some(message) = peer.hear().await {
                if let Up::RunEvents(events) = message {
                    runs.extend(events.runs);
                }
            }
            drop(peer);
            runs
        },
        agent.links.shutdown()
    );
    assert_eq!(ids(&read), ["default/a@1000-7"]);
    assert_eq!(agent.count(|metrics| &metrics.connected), 0);
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}

impl Log {
    /// Of this thread, on which a test's tasks run.
    fn start() -> (Log, tracing::subscriber::DefaultGuard) {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(writer).with_ansi(false).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn says(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.0.lock().unwrap()).contains(text)
    }
}

#[tokio::test]
async fn a_protocol_that_the_agent_does_not_speak_is_refused_and_said_so() {
    let (log, _guard) = Log::start();
    let agent = Agent::start();
    let mut coordinator = Coordinator::start().await;
    agent.dials("c1", coordinator.address);
    let mut peer = coordinator.accept().await;
    peer.hello().await;
    peer.say(Down::Welcome(v1::Welcome { protocol: 2, coordinator: "c1".to_owned() })).await;
    while peer.hear().await.is_some() {}
    until("a refusal", || agent.count(|metrics| &metrics.dials_refused) == 1).await;
    assert!(log.says("it chose protocol 2, and this agent speaks 1 to 1"));
    assert!(log.says("WARN"));
    assert_eq!(agent.count(|metrics| &metrics.connected), 0);
}

#[tokio::test]
async fn what_a_coordinator_refuses_is_in_the_log() {
    let (log, _guard) = Log::start();
    let agent = Agent::start();
    let mut coordinator = Coordinator::start().await;
    agent.dials("c1", coordinator.address);
    let peer = coordinator.accept().await;
    let refusal = Status::failed_precondition("the agent speaks protocols 1 to 1, this one 2");
    peer.down.send(Err(refusal)).await.unwrap();
    drop(peer);
    until("a refusal", || agent.count(|metrics| &metrics.dials_refused) == 1).await;
    assert!(log.says("it refused the link: the agent speaks protocols 1 to 1, this one 2"));
}
