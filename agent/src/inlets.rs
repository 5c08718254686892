//! Everywhere that something can come in which wakes the agent's loop, and the taking of it.
//!
//! The loop must never be late for one inlet because another is busy: a store that always has an
//! answer at hand would keep the keep-alive's answer waiting until the lease is gone, and a SIGTERM
//! for as long as the load lasts. A fair choice between the inlets would not help a loop that takes
//! thousands of answers and one watch event a step. So waiting and taking are two things: `wait`
//! returns as soon as any inlet has something, and `gather` takes what is at hand of *every* one,
//! up to a bound each. What came in order through one inlet stays in order.

use std::time::Duration;

use tocktower_cluster::port::Answer;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, watch};

use crate::disk::Disk;
use crate::driver::DriverInput;
use crate::exec::End;
use crate::link::LinkCommand;
use crate::store::StoreAnswer;
use crate::waker::Wakes;

/// What one step takes from one inlet. The rest has its turn in the next.
pub(crate) const STEP_MAX: usize = 4_096;
/// Keys of lists that one step takes, each of which is decoded: after a restart the lists of all
/// ranges come at once, and the first range goes on before the last one is read.
const STEP_KEYS_MAX: usize = 512;

/// Where everything comes in that can wake the loop.
pub(crate) struct Inlets {
    pub inputs: mpsc::Receiver<DriverInput>,
    /// A channel of their own: there is one of these for each run, and every hop costs.
    pub ends: mpsc::Receiver<End>,
    pub store_answers: mpsc::UnboundedReceiver<StoreAnswer>,
    pub wakes: Wakes,
    pub asked: mpsc::Receiver<LinkCommand>,
    pub leaving: mpsc::Receiver<Duration>,
    pub disk: watch::Receiver<Disk>,
}

/// What was at hand, by inlet. It is emptied by the loop and filled again.
#[derive(Default)]
pub(crate) struct Gathered {
    pub answers: Vec<StoreAnswer>,
    pub inputs: Vec<DriverInput>,
    pub ends: Vec<End>,
    pub commands: Vec<LinkCommand>,
    pub deadlines: Vec<Duration>,
    /// The disk was looked at: whether it has its reserve.
    pub disk_free: Option<bool>,
}

impl Inlets {
    /// Returns when something is at hand, when the waker says so, or after `asleep`; then takes
    /// what there is.
    pub async fn next(&mut self, asleep: Duration, taken: &mut Gathered) {
        self.wait(asleep, taken).await;
        self.gather(taken);
    }

    /// An inlet whose other end is gone wakes nobody.
    async fn wait(&mut self, asleep: Duration, taken: &mut Gathered) {
        tokio::select! {
            biased;
            Some(answer) = self.store_answers.recv() => taken.answers.push(answer),
            Some(input) = self.inputs.recv() => taken.inputs.push(input),
            Some(end) = self.ends.recv() => taken.ends.push(end),
            Some(command) = self.asked.recv() => taken.commands.push(command),
            Some(deadline) = self.leaving.recv() => taken.deadlines.push(deadline),
            Ok(()) = self.disk.changed() => self.disk.mark_changed(),
            _ = self.wakes.next() => {}
            () = tokio::time::sleep(asleep) => {}
        }
    }

    /// Takes what is at hand of every inlet; never waits.
    fn gather(&mut self, taken: &mut Gathered) {
        drain(|| self.store_answers.try_recv(), &mut taken.answers);
        let mut keys: usize = taken.inputs.iter().map(keys_of).sum();
        let next = || {
            if keys >= STEP_KEYS_MAX {
                return Err(TryRecvError::Empty);
            }
            self.inputs.try_recv().inspect(|input| keys += keys_of(input))
        };
        drain(next, &mut taken.inputs);
        drain(|| self.ends.try_recv(), &mut taken.ends);
        drain(|| self.asked.try_recv(), &mut taken.commands);
        drain(|| self.leaving.try_recv(), &mut taken.deadlines);
        // An error: the one who looks is gone, and the disk is as it was.
        if self.disk.has_changed().unwrap_or(false) {
            taken.disk_free = Some(!self.disk.borrow_and_update().below_reserve);
        }
    }
}

/// How many keys an answer lists.
fn keys_of(input: &DriverInput) -> usize {
    match input {
        DriverInput::Answered { answer: Ok(Answer::List { items, .. }), .. } => items.len(),
        _ => 0,
    }
}

fn drain<T>(mut next: impl FnMut() -> Result<T, TryRecvError>, into: &mut Vec<T>) {
    while into.len() < STEP_MAX
        && let Ok(item) = next()
    {
        into.push(item);
    }
}

#[cfg(test)]
mod tests {
    use tocktower_cluster::port::KeyValue;
    use tocktower_core::agent::effect::Ticket;
    use tocktower_core::ids::Revision;
    use tokio::sync::oneshot;

    use super::*;
    use crate::driver::{PortCall, Target};
    use crate::store::Trimmed;
    use crate::waker::Waker;

    struct Senders {
        answers: mpsc::UnboundedSender<StoreAnswer>,
        inputs: mpsc::Sender<DriverInput>,
        ends: mpsc::Sender<End>,
        commands: mpsc::Sender<LinkCommand>,
        leave: mpsc::Sender<Duration>,
        disk: watch::Sender<Disk>,
        _waker: Waker,
    }

    fn inlets() -> (Senders, Inlets) {
        let (answers, store_answers) = mpsc::unbounded_channel();
        let (input, inputs) = mpsc::channel(2 * STEP_MAX);
        let (end, ends) = mpsc::channel(2 * STEP_MAX);
        let (commands, asked) = mpsc::channel(256);
        let (leave, leaving) = mpsc::channel(4);
        let (waker, wakes) = Waker::start().unwrap();
        let (disk, looked_at) = watch::channel(Disk::default());
        let senders =
            Senders { answers, inputs: input, ends: end, commands, leave, disk, _waker: waker };
        (senders, Inlets { inputs, ends, store_answers, wakes, asked, leaving, disk: looked_at })
    }

    impl Senders {
        fn answer(&self, times: usize) {
            for _ in 0..times {
                self.answers.send(StoreAnswer::Trimmed(Ok(Trimmed::default()))).unwrap();
            }
        }

        fn unstarted(&self, ticket: u64) {
            let input = DriverInput::Unstarted { ticket: Ticket(ticket) };
            self.inputs.try_send(input).unwrap();
        }
    }

    /// Far longer than any test: who waits for it hangs, and does not pass by luck.
    const ASLEEP: Duration = Duration::from_secs(86_400);

    #[tokio::test]
    async fn lists_are_taken_a_few_keys_at_a_step() {
        let (senders, mut inlets) = inlets();
        let item = KeyValue {
            key: b"k".to_vec(),
            value: Vec::new(),
            create_revision: Revision(1),
            mod_revision: Revision(1),
            lease: None,
        };
        for number in 0..4 {
            let items = vec![item.clone(); STEP_KEYS_MAX / 2];
            let answer = Ok(Answer::List { revision: Revision(1), items, more: false });
            let call = PortCall::List { target: Target::Shared, number };
            senders.inputs.send(DriverInput::Answered { call, answer }).await.unwrap();
        }
        senders.inputs.send(DriverInput::Unstarted { ticket: Ticket(1) }).await.unwrap();
        for expected in [2, 2, 1] {
            let mut taken = Gathered::default();
            inlets.next(Duration::ZERO, &mut taken).await;
            assert_eq!(taken.inputs.len(), expected, "the rest has its turn in the next step");
        }
    }

    #[tokio::test]
    async fn a_store_that_always_has_an_answer_holds_no_other_inlet_up() {
        let (senders, mut inlets) = inlets();
        senders.answer(3 * STEP_MAX);
        senders.unstarted(7);
        senders.ends.try_send((crate::exec::Ticket(8), None)).unwrap();
        senders.commands.try_send(LinkCommand::Unstored(oneshot::channel().0)).unwrap();
        senders.disk.send_replace(Disk { space: None, below_reserve: true });
        senders.leave.try_send(Duration::from_secs(3)).unwrap();
        let mut taken = Gathered::default();
        inlets.next(ASLEEP, &mut taken).await;
        assert_eq!(taken.answers.len(), STEP_MAX, "the others want their turn");
        assert!(matches!(&taken.inputs[..], [DriverInput::Unstarted { ticket: Ticket(7) }]));
        assert!(matches!(&taken.ends[..], [(crate::exec::Ticket(8), None)]));
        assert!(matches!(&taken.commands[..], [LinkCommand::Unstored(_)]));
        assert_eq!(taken.disk_free, Some(false));
        assert_eq!(taken.deadlines, [Duration::from_secs(3)]);
    }

    #[tokio::test]
    async fn inputs_that_never_end_hold_neither_the_store_nor_the_end_up() {
        let (senders, mut inlets) = inlets();
        for ticket in 0..2 * u64::try_from(STEP_MAX).unwrap() {
            senders.unstarted(ticket);
        }
        senders.answer(1);
        senders.leave.try_send(Duration::ZERO).unwrap();
        let mut taken = Gathered::default();
        inlets.next(ASLEEP, &mut taken).await;
        assert_eq!((taken.answers.len(), taken.deadlines.len()), (1, 1));
        let mut all = std::mem::take(&mut taken).inputs;
        assert_eq!(all.len(), STEP_MAX);
        inlets.next(ASLEEP, &mut taken).await;
        all.append(&mut taken.inputs);
        let in_order = all.iter().enumerate().all(|(at, input)| {
            matches!(input, DriverInput::Unstarted { ticket } if ticket.0 == at as u64)
        });
        assert!(in_order && all.len() == 2 * STEP_MAX);
    }

    #[tokio::test]
    async fn an_inlet_whose_other_end_is_gone_keeps_nobody_awake() {
        let (senders, mut inlets) = inlets();
        let Senders { answers, inputs, ends, commands, leave, disk, _waker } = senders;
        drop((answers, ends, commands, leave, disk));
        let mut taken = Gathered::default();
        let nothing =
            tokio::time::timeout(Duration::from_millis(20), inlets.next(ASLEEP, &mut taken));
        assert!(nothing.await.is_err(), "it spins on a closed inlet");
        inputs.try_send(DriverInput::Wake).unwrap();
        inlets.next(ASLEEP, &mut taken).await;
        assert!(matches!(&taken.inputs[..], [DriverInput::Wake]));
    }
}
