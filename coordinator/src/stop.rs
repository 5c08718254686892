//! One stop for all tasks of a coordinator: cheap to clone, awaited anywhere, pulled once.
//!
//! Long answers (output that is followed, live feeds, agent links) would keep a graceful shutdown
//! waiting for ever, so each of them listens for this beside its work. Dropping the one who pulls
//! is a stop as well: a coordinator whose handle is gone must not run on unseen. A crate for
//! cancellation would do the same with a tree of tokens; there is one level here.

use tokio::sync::watch;

/// Pulls the stop; also when it is dropped.
pub struct Stopper {
    sender: watch::Sender<bool>,
}

/// Waits for it.
#[derive(Clone)]
pub struct Stop {
    receiver: watch::Receiver<bool>,
}

pub fn stop() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(false);
    (Stopper { sender }, Stop { receiver })
}

impl Stopper {
    pub fn stop(&self) {
        self.sender.send_replace(true);
    }
}

impl Stop {
    /// Returns once the stop was pulled.
    pub async fn stopped(&mut self) {
        // An error: the stopper is gone, which is a stop as well.
        let _ = self.receiver.wait_for(|stopped| *stopped).await;
    }
}
