//! The shared state as an agent may use it that knows better than to trust it: not at all. etcd was
//! put back from a backup, and until the operator has raised the epoch nothing may be written there
//! or believed. What is pinned to the agent needs none of it, and goes on.

use futures::future::{BoxFuture, FutureExt, ready};
use tocktower_cluster::port::{Answer, Port, PortError, Request, WatchStream};
use tokio::sync::mpsc;

pub(crate) struct ClosedPort;

impl Port for ClosedPort {
    fn call(&self, _: Request) -> BoxFuture<'static, Result<Answer, PortError>> {
        let why = "it was put back from a backup, and its epoch was not raised yet";
        ready(Err(PortError::Unreachable(why.to_owned()))).boxed()
    }

    /// Nothing comes, as from a shared state that is far away.
    fn watch(&self, _: usize) -> WatchStream {
        let (commands, mut asked) = mpsc::unbounded_channel();
        let (silent, messages) = mpsc::channel(1);
        tokio::spawn(async move {
            while asked.recv().await.is_some() {}
            drop(silent);
        });
        WatchStream { commands, messages }
    }
}
