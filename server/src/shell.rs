//! What a daemon's process does round the daemon: it says when it is ready, feeds the watchdog, and
//! turns SIGTERM and SIGINT into an orderly end with a deadline.
//!
//! ready ─▶ serving ─(signal)─▶ draining ─(ended, deadline or second signal)─▶ over
//!
//! The watchdog is fed only while the daemon's count of progress grows: a process that is up and
//! does nothing is the failure that a watchdog is for. A daemon that ends without having been asked
//! to is an error, whatever it says.

use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};
use tracing::{info, warn};

use crate::notify::{Feeder, Supervisor};

/// Without a supervisor that asks for it, nobody is fed; the interval only has to be some.
const UNWATCHED: Duration = Duration::from_secs(3_600);

/// What of the deadline is left for the end itself: an agent then cancels what still runs, gives
/// processes a second to obey and ends 2 s to be written, and closes its links and its store.
const AFTER_DRAIN: Duration = Duration::from_secs(5);

/// A daemon that serves.
pub struct Running {
    /// What it listens on, by purpose.
    pub addresses: Vec<(&'static str, String)>,
    /// Grows as long as the daemon does its work: every few seconds, also when nothing is due.
    pub progress: Box<dyn Fn() -> u64 + Send>,
    /// Asks for an orderly end within this time; called once.
    pub drain: Box<dyn FnOnce(Duration) + Send>,
    /// Ends when the daemon has ended.
    pub ended: Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>,
}

/// A count that grows as long as the runtime turns: the progress of a daemon that only answers.
pub fn pulse() -> Box<dyn Fn() -> u64 + Send> {
    let count = Arc::new(AtomicU64::new(0));
    let beating = Arc::downgrade(&count);
    tokio::spawn(async move {
        let mut second = interval(Duration::from_secs(1));
        // Ends when nobody asks any more.
        while let Some(count) = beating.upgrade() {
            count.fetch_add(1, Ordering::Relaxed);
            second.tick().await;
        }
    });
    Box::new(move || count.load(Ordering::Relaxed))
}

/// The signals that end a daemon.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From here on they no longer kill the process.
    pub fn catch() -> anyhow::Result<Signals> {
        let catch = |kind| signal(kind).context("signals cannot be caught");
        Ok(Signals {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
        })
    }

    /// The name of the next one.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// How a daemon that was asked to end did so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Drained,
    Deadline,
    Insisted,
}

/// Says `ready`, and serves until the daemon has ended.
pub async fn serve(
    running: Running,
    mut signals: Signals,
    supervisor: &Supervisor,
    drain_timeout: Duration,
) -> anyhow::Result<End> {
    let Running { addresses, progress, drain, mut ended } = running;
    info!(addresses = %spelled(&addresses), "ready");
    supervisor.ready();
    let mut watch = Watch::new(supervisor, progress);
    let name = tokio::select! {
        name = signals.next() => name,
        result = &mut ended => {
            result?;
            bail!("the daemon ended without having been asked to");
        }
        never = watch.feed() => never,
    };
    info!(signal = name, deadline = ?drain_timeout, "draining");
    supervisor.stopping();
    drain(drain_timeout.saturating_sub(AFTER_DRAIN.min(drain_timeout / 2)));
    tokio::select! {
        result = &mut ended => {
            result?;
            info!("ended");
            Ok(End::Drained)
        }
        () = sleep(drain_timeout) => {
            warn!(deadline = ?drain_timeout, "ended before everything was drained");
            Ok(End::Deadline)
        }
        name = signals.next() => {
            warn!(signal = name, "ended before everything was drained, as asked again");
            Ok(End::Insisted)
        }
        never = watch.feed() => never,
    }
}

/// Feeds the supervisor's watchdog for as long as there is progress.
struct Watch<'a> {
    supervisor: &'a Supervisor,
    progress: Box<dyn Fn() -> u64 + Send>,
    feeder: Feeder,
    interval: Interval,
}

impl<'a> Watch<'a> {
    fn new(supervisor: &'a Supervisor, progress: Box<dyn Fn() -> u64 + Send>) -> Watch<'a> {
        let mut interval = interval(supervisor.feed_every().unwrap_or(UNWATCHED));
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Watch { supervisor, progress, feeder: Feeder::default(), interval }
    }

    async fn feed<T>(&mut self) -> T {
        loop {
            self.interval.tick().await;
            if self.feeder.take((self.progress)()) {
                self.supervisor.alive();
            } else if self.supervisor.feed_every().is_some() {
                warn!("no progress: the watchdog is not fed");
            }
        }
    }
}

fn spelled(addresses: &[(&'static str, impl Display)]) -> String {
    let each = addresses.iter().map(|(purpose, address)| format!("{purpose}={address}"));
    each.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal as Kind, getpid, kill_process};
    use tokio::sync::{Mutex, oneshot};

    use super::*;

    /// Signals reach every listener of a process, so these tests take turns.
    static TURN: Mutex<()> = Mutex::const_new(());

    /// A daemon that ends once it was drained, or never.
    fn daemon(obeys: bool) -> Running {
        let (sender, receiver) = oneshot::channel::<()>();
        let count = Arc::new(AtomicU64::new(0));
        let mut sender = Some(sender);
        Running {
            addresses: vec![("listen", "127.0.0.1:1".to_owned())],
            progress: Box::new(move || count.fetch_add(1, Ordering::Relaxed)),
            drain: Box::new(move |_| {
                if obeys && let Some(sender) = sender.take() {
                    let _ = sender.send(());
                } else {
                    std::mem::forget(sender);
                }
            }),
            ended: Box::pin(async move {
                receiver.await.ok();
                Ok(())
            }),
        }
    }

    async fn ends(running: Running, drain_timeout: Duration, asked: usize) -> End {
        let _turn = TURN.lock().await;
        let signals = Signals::catch().unwrap();
        let supervisor = Supervisor::none();
        let asking = async {
            for _ in 0..asked {
                kill_process(getpid(), Kind::TERM).unwrap();
                sleep(Duration::from_millis(100)).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            end = serve(running, signals, &supervisor, drain_timeout) => end.unwrap(),
            () = asking => unreachable!("asking never ends"),
        }
    }

    #[tokio::test]
    async fn a_signal_drains() {
        assert_eq!(ends(daemon(true), Duration::from_secs(60), 1).await, End::Drained);
    }

    #[tokio::test]
    async fn a_drain_has_a_deadline() {
        assert_eq!(ends(daemon(false), Duration::from_millis(50), 1).await, End::Deadline);
    }

    #[tokio::test]
    async fn a_second_signal_ends_at_once() {
        assert_eq!(ends(daemon(false), Duration::from_secs(60), 2).await, End::Insisted);
    }

    #[tokio::test]
    async fn a_daemon_that_ends_unasked_is_an_error() {
        let mut running = daemon(true);
        running.ended = Box::pin(async { Ok(()) });
        let signals = Signals::catch().unwrap();
        let ended = serve(running, signals, &Supervisor::none(), Duration::ZERO).await;
        assert!(ended.is_err());
    }

    #[test]
    fn addresses_are_spelled_with_their_purpose() {
        let addresses = [("listen", "127.0.0.1:7080"), ("metrics", "127.0.0.1:9090")];
        assert_eq!(spelled(&addresses), "listen=127.0.0.1:7080 metrics=127.0.0.1:9090");
    }
}
