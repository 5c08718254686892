//! Waking at a moment of the wall clock, and reading the clocks.
//!
//! Tokio's timer counts in milliseconds from its own start: a wake-up comes one to two milliseconds
//! late, and a step of the wall clock goes unnoticed until the next one. Instants live on the wall
//! clock, so this file keeps one thread that sleeps on a timer of that clock (`timerfd`, absolute,
//! `TFD_TIMER_CANCEL_ON_SET`): the kernel moves the timer along when somebody sets the clock, and
//! says so besides.
//!
//! Arming is one system call on the caller's thread; the sleeping thread only turns expiry into a
//! wake-up, so a new deadline needs no message to it. Wake-ups merge: a reader that is slow finds
//! one `Due`, whatever number of deadlines passed, and never loses a `ClockSet`. The timer is never
//! disarmed but set to the end of time, since a disarmed timer would miss the clock being set.

use std::io;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tocktower_core::time::{Mono, Now, Wall};
use tokio::sync::Notify;

/// Reads both clocks.
pub fn now() -> Now {
    let wall = clock_gettime(ClockId::Realtime);
    let mono = clock_gettime(ClockId::Boottime);
    Now {
        wall: Wall::from_micros(wall.tv_sec * 1_000_000 + wall.tv_nsec / 1_000),
        mono: Mono::from_micros(
            u64::try_from(mono.tv_sec * 1_000_000 + mono.tv_nsec / 1_000)
                .expect("the boot clock starts at 0"),
        ),
    }
}

/// Why the reader was woken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wake {
    /// The deadline has passed.
    Due,
    /// Somebody set the wall clock. The deadline stays armed.
    ClockSet,
}

/// The handle that arms the timer. Dropping it ends the thread.
pub struct Waker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// The end that is woken; there is one.
pub struct Wakes {
    shared: Arc<Shared>,
}

struct Shared {
    timer: OwnedFd,
    stop: OwnedFd,
    due: AtomicBool,
    clock_set: AtomicBool,
    notify: Notify,
}

impl Waker {
    /// Starts the thread. Nothing is armed yet.
    pub fn start() -> io::Result<(Waker, Wakes)> {
        let shared = Arc::new(Shared {
            timer: timerfd_create(
                TimerfdClockId::Realtime,
                TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
            )?,
            stop: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            due: AtomicBool::new(false),
            clock_set: AtomicBool::new(false),
            notify: Notify::new(),
        });
        shared.arm(None)?;
        let sleeper = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("waker".to_owned())
            .spawn(move || sleeper.sleep_and_wake())?;
        Ok((Waker { shared: Arc::clone(&shared), thread: Some(thread) }, Wakes { shared }))
    }

    /// Replaces the deadline: one `Due` comes at or after it, at once if it has passed. `None` lets
    /// the reader sleep. A `Due` of the deadline before may still come, so a reader looks at the
    /// clock and not at the fact that it was woken.
    pub fn wake_at(&self, deadline: Option<Wall>) {
        self.shared.arm(deadline).expect("a timer of our own takes every time after 1970");
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        let written = rustix::io::write(&self.shared.stop, &1_u64.to_ne_bytes());
        if let (Ok(_), Some(thread)) = (written, self.thread.take()) {
            // The thread has nothing to do but to leave; a panic in it was already logged.
            let _ = thread.join();
        }
    }
}

impl Wakes {
    /// Waits for the next wake-up. Cancel-safe.
    pub async fn next(&mut self) -> Wake {
        loop {
            if self.shared.clock_set.swap(false, Ordering::AcqRel) {
                return Wake::ClockSet;
            }
            if self.shared.due.swap(false, Ordering::AcqRel) {
                return Wake::Due;
            }
            self.shared.notify.notified().await;
        }
    }
}

impl Shared {
    fn arm(&self, deadline: Option<Wall>) -> io::Result<()> {
        let micros = deadline.unwrap_or(Wall::MAX).micros();
        // All zero would disarm the timer: what is long past becomes 1 ns after the epoch.
        let value = if micros <= 0 {
            Timespec { tv_sec: 0, tv_nsec: 1 }
        } else {
            Timespec { tv_sec: micros / 1_000_000, tv_nsec: micros % 1_000_000 * 1_000 }
        };
        let spec = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        match timerfd_settime(&self.timer, flags, &spec) {
            Ok(_) => Ok(()),
            Err(Errno::CANCELED) => {
                // The clock was set since the last look: the timer is armed all the same.
                self.wake(&self.clock_set);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn wake(&self, why: &AtomicBool) {
        why.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    fn sleep_and_wake(&self) {
        // The slack of 50 µs that threads start with is there to save power; without the right to
        // change it the wake-ups only get that much later.
        if let Err(error) = rustix::thread::set_current_timer_slack(NonZeroU64::new(1)) {
            tracing::warn!(%error, "the timer slack of the waker stays as it is");
        }
        loop {
            let mut fds =
                [PollFd::new(&self.timer, PollFlags::IN), PollFd::new(&self.stop, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => panic!("poll on two descriptors of our own failed: {error}"),
            }
            if fds[1].revents().contains(PollFlags::IN) {
                return;
            }
            let mut expirations = [0_u8; 8];
            match rustix::io::read(&self.timer, &mut expirations) {
                Ok(_) => self.wake(&self.due),
                Err(Errno::CANCELED) => self.wake(&self.clock_set),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => panic!("reading a timer of our own failed: {error}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hdrhistogram::Histogram;

    use super::*;

    async fn wake(wakes: &mut Wakes) -> Wake {
        tokio::time::timeout(Duration::from_secs(5), wakes.next()).await.expect("a wake-up")
    }

    #[tokio::test]
    async fn a_wake_never_comes_before_its_deadline() {
        let (waker, mut wakes) = Waker::start().unwrap();
        for ms in [1, 3, 20] {
            let deadline = now().wall.plus(Duration::from_millis(ms));
            waker.wake_at(Some(deadline));
            assert_eq!(wake(&mut wakes).await, Wake::Due);
            assert!(now().wall >= deadline);
        }
    }

    #[tokio::test]
    async fn a_deadline_that_has_passed_wakes_at_once() {
        let (waker, mut wakes) = Waker::start().unwrap();
        for past in [Wall::MIN, Wall::from_micros(-5), now().wall.minus(Duration::from_secs(1))] {
            waker.wake_at(Some(past));
            assert_eq!(wake(&mut wakes).await, Wake::Due);
        }
    }

    #[tokio::test]
    async fn an_earlier_deadline_replaces_a_later_one_and_none_replaces_both() {
        let (waker, mut wakes) = Waker::start().unwrap();
        waker.wake_at(Some(now().wall.plus(Duration::from_secs(3_600))));
        waker.wake_at(Some(now().wall.plus(Duration::from_millis(5))));
        assert_eq!(wake(&mut wakes).await, Wake::Due);
        waker.wake_at(Some(now().wall.plus(Duration::from_millis(30))));
        waker.wake_at(None);
        let nothing = tokio::time::timeout(Duration::from_millis(80), wakes.next()).await;
        assert!(nothing.is_err());
    }

    #[test]
    fn both_clocks_move_forward() {
        let first = now();
        let second = now();
        assert!(second.mono >= first.mono);
        assert!(first.wall > Wall::from_millis(1_600_000_000_000));
    }

    const WAKES: u64 = 2_000;

    fn print(what: &str, late: &Histogram<u64>) {
        println!(
            "{what}: p50 {} us, p99 {} us, max {} us",
            late.value_at_quantile(0.5),
            late.value_at_quantile(0.99),
            late.max()
        );
    }

    fn spread(index: u64) -> Duration {
        Duration::from_micros(1_000 + index * 397 % 4_000)
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "a measurement"]
    async fn lateness_of_the_waker_and_of_tokio() {
        let mut ours = Histogram::<u64>::new(3).unwrap();
        let (waker, mut wakes) = Waker::start().unwrap();
        for index in 0..WAKES {
            let deadline = now().wall.plus(spread(index));
            waker.wake_at(Some(deadline));
            wakes.next().await;
            ours.record(u64::try_from(now().wall.micros_since(deadline)).unwrap()).unwrap();
        }
        let mut tokios = Histogram::<u64>::new(3).unwrap();
        for index in 0..WAKES {
            let deadline = now().wall.plus(spread(index));
            tokio::time::sleep(spread(index)).await;
            tokios.record(u64::try_from(now().wall.micros_since(deadline)).unwrap()).unwrap();
        }
        print("waker", &ours);
        print("tokio sleep", &tokios);
    }
}
