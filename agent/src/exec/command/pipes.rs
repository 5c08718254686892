//! Reading what a command writes, without a task or a buffer for each pipe.
//!
//! Bytes go from the pipe through a buffer on the stack into the capture; between reads a run that
//! is silent costs nothing. When the run has ended and something in the background still holds a
//! pipe, it is read on, to nowhere: a daemon whose pipe is closed dies of SIGPIPE at its next line.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::exec::limits;
use crate::exec::live::{RunOutput, Stream};

/// The read ends of one command's pipes; `None` once closed by all who could write.
pub(super) struct Pipes {
    stdout: Pipe,
    stderr: Pipe,
}

struct Pipe {
    receiver: Option<Receiver>,
    /// `None` reads to nowhere.
    output: Option<Arc<RunOutput>>,
    stream: Stream,
}

impl Pipes {
    /// Makes both pipes and gives the write ends for stdout and stderr. Called inside the runtime.
    pub(super) fn open(output: &Arc<RunOutput>) -> io::Result<(Pipes, OwnedFd, OwnedFd)> {
        let (stdout, stdout_write) = Pipe::new(output, Stream::Stdout)?;
        let (stderr, stderr_write) = Pipe::new(output, Stream::Stderr)?;
        Ok((Pipes { stdout, stderr }, stdout_write, stderr_write))
    }

    /// Reads both pipes, for ever. Cancel-safe: nothing is held between two waits.
    pub(super) async fn pump(&mut self) {
        tokio::join!(self.stdout.pump(), self.stderr.pump());
        std::future::pending().await
    }

    /// After the command has exited: reads until both are closed, silent, or long enough.
    pub(super) async fn drain(&mut self, output: &RunOutput) {
        let until = Instant::now() + limits::DRAIN_MAX;
        while Instant::now() < until {
            let before = output.total();
            let both = async { tokio::join!(self.stdout.pump(), self.stderr.pump()) };
            let closed = tokio::time::timeout(limits::DRAIN_IDLE, both).await.is_ok();
            if closed || output.total() == before {
                return;
            }
        }
    }

    fn is_open(&self) -> bool {
        self.stdout.receiver.is_some() || self.stderr.receiver.is_some()
    }
}

impl Pipe {
    fn new(output: &Arc<RunOutput>, stream: Stream) -> io::Result<(Pipe, OwnedFd)> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        let receiver = Some(Receiver::from_owned_fd(read)?);
        Ok((Pipe { receiver, output: Some(Arc::clone(output)), stream }, write))
    }

    async fn pump(&mut self) {
        while let Some(receiver) = &self.receiver {
            let open = match receiver.readable().await {
                Ok(()) => self.read(),
                Err(_) => false,
            };
            if !open {
                self.receiver = None;
            } else {
                tokio::task::consume_budget().await;
            }
        }
    }

    /// Reads what is there; false at the end.
    fn read(&self) -> bool {
        let Some(receiver) = &self.receiver else {
            return false;
        };
        let mut buffer = [0_u8; limits::PIPE_READ_BYTES];
        for _ in 0..limits::PIPE_READS_PER_TURN {
            match receiver.try_read(&mut buffer) {
                Ok(0) => return false,
                Ok(length) => {
                    if let Some(output) = &self.output {
                        output.push(self.stream, &buffer[..length]);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }
}

/// Pipes whose run is over. Beyond the bound they are closed, and the log says so.
pub(super) struct LeftPipes {
    places: Arc<Semaphore>,
}

impl LeftPipes {
    pub(super) fn new() -> LeftPipes {
        LeftPipes { places: Arc::new(Semaphore::new(limits::LEFT_PIPES_MAX)) }
    }

    pub(super) fn keep(&self, mut pipes: Pipes) {
        if !pipes.is_open() {
            return;
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            tracing::warn!("a background process of an ended command lost its output pipe");
            return;
        };
        pipes.stdout.output = None;
        pipes.stderr.output = None;
        tokio::spawn(async move {
            tokio::join!(pipes.stdout.pump(), pipes.stderr.pump());
            drop(place);
        });
    }
}
