//! How long a stream that broke goes on trying.
//!
//! A call ends within its time; a watch may live for weeks and see many servers come and go. So its
//! patience is counted from the last sign of progress, not from its start: as long as something
//! comes now and then it lives for ever, and when nobody can be reached any more it ends with an
//! error instead of standing still.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff};
use tokio::time::Instant;
use tonic::Status;

use crate::client::{Client, backoff, refused};
use crate::error::{Error, Reached, reached};

pub(crate) struct Patience {
    most: Duration,
    since: Option<Instant>,
    waits: ExponentialBackoff,
}

impl Patience {
    pub(crate) fn new(client: &Client) -> Patience {
        Patience { most: client.patience(), since: None, waits: backoff().build() }
    }

    /// Something came: what failed before is forgiven.
    pub(crate) fn progress(&mut self) {
        if self.since.take().is_some() {
            self.waits = backoff().build();
        }
    }

    /// Waits before the stream is opened again, on the next server; or gives up.
    pub(crate) async fn wait(
        &mut self,
        client: &Client,
        index: usize,
        status: Status,
    ) -> Result<(), Error> {
        if reached(&status) == Reached::Refused {
            return Err(refused(&status));
        }
        client.pass_over(index);
        let since = *self.since.get_or_insert_with(Instant::now);
        match self.waits.next() {
            Some(wait) if since.elapsed() + wait < self.most => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            _ => Err(client.unreachable(status)),
        }
    }
}
