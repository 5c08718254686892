//! Whose turn it is to ask an agent something.
//!
//! An agent takes so many queries of one coordinator at a time and refuses the rest. To who reads,
//! a refused question looks like one that nobody knows an answer to. So questions wait here, in
//! the order in which they came, until the agent has room; who asks brings a deadline. Those who
//! follow output stay for hours, so they have places of their own and never stand in the way of a
//! short question.
//!
//! A turn is over when the link has the last part of the answer or has told the agent to stop, not
//! when the asker has read it: a slow reader costs the agent nothing.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::LinkError;

/// Short questions that are with one agent. Agents take 32 from each coordinator.
const SHORT_MAX: usize = 24;
/// Short questions that wait for their turn on one link.
const WAITING_MAX: usize = 4_096;
/// Followers of output on one link. Agents take 256 from each coordinator.
const FOLLOWERS_MAX: usize = 200;

/// Held by a question for as long as the agent is at it.
pub(super) type Turn = OwnedSemaphorePermit;

/// The turns of one link. Cheap to clone.
#[derive(Clone)]
pub(super) struct Turns {
    short: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    followers: Arc<Semaphore>,
}

impl Turns {
    pub fn new() -> Turns {
        Turns {
            short: Arc::new(Semaphore::new(SHORT_MAX)),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
        }
    }

    /// Waits for a short question's turn. A link that ends gives back all turns, and whoever gets
    /// one then finds the link closed.
    pub async fn short(&self) -> Result<Turn, LinkError> {
        let _place = self.waiting.try_acquire().map_err(|_| LinkError::Full)?;
        Arc::clone(&self.short).acquire_owned().await.map_err(|_| LinkError::NotLinked)
    }

    /// A follower's place, if there is one.
    pub fn follower(&self) -> Result<Turn, LinkError> {
        Arc::clone(&self.followers).try_acquire_owned().map_err(|_| LinkError::Full)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn short_questions_wait_for_each_other_and_not_for_followers() {
        let turns = Turns::new();
        let followers: Vec<Turn> = (0..FOLLOWERS_MAX).map(|_| turns.follower().unwrap()).collect();
        assert_eq!(turns.follower().unwrap_err(), LinkError::Full);
        let mut held = Vec::new();
        for _ in 0..SHORT_MAX {
            held.push(turns.short().await.unwrap());
        }
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(turns.short())).collect();
        for one in &mut waiting {
            assert!(one.now_or_never().is_none(), "every turn is taken");
        }
        assert_eq!(turns.short().await.unwrap_err(), LinkError::Full);
        held.pop();
        let first = waiting.remove(0).now_or_never();
        assert!(first.is_some_and(|turn| turn.is_ok()), "the first in line is next");
        drop(followers);
    }
}
