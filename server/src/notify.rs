//! The supervisor of this process: systemd with `Type=notify`, or nobody.
//!
//! It is told when the daemon serves and when it stops. If it set a watchdog, it wants to hear in
//! time that the daemon is alive; it hears that twice per period, and only if there was progress.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

pub struct Supervisor {
    watchdog: Option<Duration>,
    present: bool,
}

impl Supervisor {
    /// The one that started this process, as the environment tells.
    pub fn of_this_process() -> Supervisor {
        let present = std::env::var_os("NOTIFY_SOCKET").is_some();
        Supervisor { watchdog: sd_notify::watchdog_enabled(), present }
    }

    pub fn none() -> Supervisor {
        Supervisor { watchdog: None, present: false }
    }

    /// How often [`Supervisor::alive`] should be said, if at all.
    pub fn feed_every(&self) -> Option<Duration> {
        // An interval of zero would panic in its timer.
        self.watchdog.map(|period| (period / 2).max(Duration::from_millis(1)))
    }

    pub fn ready(&self) {
        self.tell(&[NotifyState::Ready]);
    }

    pub fn stopping(&self) {
        self.tell(&[NotifyState::Stopping]);
    }

    pub fn alive(&self) {
        if self.watchdog.is_some() {
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        if !self.present {
            return;
        }
        if let Err(error) = sd_notify::notify(states) {
            warn!(%error, "the supervisor cannot be told how this process is");
        }
    }
}

/// Decides whether there was progress since it was last asked.
#[derive(Default)]
pub struct Feeder {
    last: Option<u64>,
}

impl Feeder {
    pub fn take(&mut self, progress: u64) -> bool {
        let moved = self.last != Some(progress);
        self.last = Some(progress);
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_fed_only_while_progress_is_made() {
        let mut feeder = Feeder::default();
        let fed: Vec<bool> = [0, 1, 1, 1, 2].into_iter().map(|at| feeder.take(at)).collect();
        assert_eq!(fed, [true, true, false, false, true]);
    }

    #[test]
    fn it_is_fed_twice_per_period() {
        let watched = |period| Supervisor { watchdog: period, present: true }.feed_every();
        assert_eq!(watched(Some(Duration::from_secs(10))), Some(Duration::from_secs(5)));
        assert_eq!(watched(Some(Duration::ZERO)), Some(Duration::from_millis(1)));
        assert_eq!(watched(None), None);
    }
}
