//! A thread apart that looks whether the agent's loop gets on. The loop is what keeps the lease
//! alive and what renews licences, so one that stands still starts nothing after a lease time, and
//! its lease ends by itself; but nobody would say so, and an etcd that has just changed its leader
//! gives every lease its whole time again. So the lease is revoked then, and the operator is told.
//!
//! A loop that comes back finds its lease gone, which is a path like any other.

use std::io;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tocktower_cluster::port::{Port, Request};
use tocktower_core::ids::LeaseId;
use tocktower_core::time::Mono;
use tokio::runtime::Handle;

use crate::waker::now;

/// What the loop writes down each time it comes round.
#[derive(Clone)]
pub struct Progress {
    shared: Arc<Shared>,
}

struct Shared {
    at: AtomicU64,
    /// 0: none.
    lease: AtomicI64,
}

impl Progress {
    pub fn begun() -> Progress {
        let at = AtomicU64::new(now().mono.micros());
        Progress { shared: Arc::new(Shared { at, lease: AtomicI64::new(0) }) }
    }

    pub fn made(&self, at: Mono, lease: Option<LeaseId>) {
        self.shared.lease.store(lease.map_or(0, |lease| lease.0), Ordering::Relaxed);
        self.shared.at.store(at.micros(), Ordering::Release);
    }

    /// The lease to give up when nothing more can be run.
    pub fn lease(&self) -> Option<LeaseId> {
        let lease = self.shared.lease.load(Ordering::Relaxed);
        (lease != 0).then_some(LeaseId(lease))
    }

    fn at(&self) -> Mono {
        Mono::from_micros(self.shared.at.load(Ordering::Acquire))
    }
}

/// Decides when the loop stands still.
struct Watch {
    ttl: Duration,
    looked: Mono,
    /// When the whole process went on after it was stopped: the loop has to come round once.
    resumed: Mono,
    /// Progress that was told of as the last before a standstill.
    told: Option<Mono>,
}

impl Watch {
    /// How long the loop has stood still, once per standstill. A look that comes late says nothing:
    /// the whole process, this thread with it, was stopped.
    fn look(&mut self, at: Mono, progress: Mono) -> Option<Duration> {
        let looked = std::mem::replace(&mut self.looked, at);
        if at.since(looked) > self.ttl / 2 {
            self.resumed = at;
        }
        let still = at.since(progress.max(self.resumed));
        if still < self.ttl || self.told == Some(progress) {
            return None;
        }
        self.told = Some(progress);
        Some(still)
    }
}

/// The thread; it ends with this value.
pub struct Watchdog {
    _stop: mpsc::Sender<()>,
}

impl Watchdog {
    /// Called inside a tokio runtime, which sends the revocation.
    pub fn start(progress: Progress, port: Arc<dyn Port>, ttl: Duration) -> io::Result<Watchdog> {
        let (stop, stopped) = mpsc::channel::<()>();
        let runtime = Handle::current();
        let watch = move || {
            let (looked, resumed) = (now().mono, Mono::default());
            let mut watch = Watch { ttl, looked, resumed, told: None };
            while stopped.recv_timeout(ttl / 8) == Err(mpsc::RecvTimeoutError::Timeout) {
                let Some(still) = watch.look(now().mono, progress.at()) else { continue };
                tracing::error!(
                    still_ms = still.as_millis(),
                    "the agent's loop stands still, so nothing starts: the session is given up and \
                     the ranges go to others; look at the disk of the data directory and at what \
                     uses the processor"
                );
                if let Some(lease) = progress.lease() {
                    // Where it does not arrive, the lease ends by itself.
                    runtime.spawn(port.call(Request::RevokeLease { lease }));
                }
            }
        };
        std::thread::Builder::new().name("tock-watchdog".to_owned()).spawn(watch)?;
        Ok(Watchdog { _stop: stop })
    }
}

#[cfg(test)]
mod tests {
    use tocktower_cluster::embedded::Embedded;
    use tocktower_cluster::port::Answer;

    use super::*;

    const TTL: Duration = Duration::from_secs(3);

    fn ms(ms: u64) -> Mono {
        Mono::from_micros(ms * 1_000)
    }

    fn watch() -> Watch {
        Watch { ttl: TTL, looked: ms(0), resumed: ms(0), told: None }
    }

    #[test]
    fn a_loop_that_stands_still_for_a_lease_time_is_told_of_once() {
        let mut watch = watch();
        let looks = (1..40).filter_map(|look| watch.look(ms(look * 375), ms(1_000)));
        let told: Vec<Duration> = looks.collect();
        assert_eq!(told, [Duration::from_millis(3_125)]);
        let again = (40..60).filter_map(|look| watch.look(ms(look * 375), ms(16_000)));
        assert_eq!(again.count(), 1, "it came round once between");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_lease_of_a_loop_that_stands_still_is_revoked() {
        let etcd = Embedded::in_memory().expect("it needs no disk");
        let asked = Request::GrantLease { ttl: Duration::from_secs(60) };
        let Ok(Answer::Lease { lease, .. }) = etcd.call(asked).await else { panic!("no lease") };
        let progress = Progress::begun();
        let ttl = Duration::from_millis(400);
        let port: Arc<dyn Port> = etcd.clone();
        let _watchdog = Watchdog::start(progress.clone(), port, ttl).expect("a thread");
        let lives = async || etcd.call(Request::KeepAlive { lease }).await.is_ok();
        // It comes round again and again, for longer than it may stand still.
        for _ in 0..20 {
            progress.made(now().mono, Some(lease));
            tokio::time::sleep(ttl / 10).await;
        }
        assert!(lives().await, "it got on");
        for _ in 0..100 {
            tokio::time::sleep(ttl / 4).await;
            if !lives().await {
                return;
            }
        }
        panic!("it stood still for 25 times as long as it may");
    }

    #[test]
    fn a_process_that_was_stopped_as_a_whole_is_no_standstill() {
        let mut watch = watch();
        assert_eq!(watch.look(ms(20_000), ms(100)), None);
        assert_eq!(watch.look(ms(20_375), ms(100)), None, "the loop has not come round yet");
        assert_eq!(watch.look(ms(20_750), ms(20_500)), None);
    }
}
