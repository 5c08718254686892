//! What an operator asks of agents: cordon, drain, uncordon, weigh. A wish is written into the
//! record that outlives the agent's sessions, so it holds as well for one that is down, and for its
//! next process. Whether it has come to what was asked is in the view of the agent; nothing here
//! waits for it.

use tocktower_cluster::duty::{self, Ask, Wrote};
use tocktower_cluster::port::Txn;
use tocktower_core::ids::{AgentName, Revision};
use tocktower_proto::convert::encode_record;
use tocktower_proto::store::AgentRecord;

use super::error::FleetError;
use super::fleet::{AgentView, Fleet, ROUNDS_MAX};

impl Fleet {
    /// Asks something of an agent, and shows it as it is now.
    pub async fn ask(&self, name: &AgentName, ask: Ask) -> Result<AgentView, FleetError> {
        self.ready()?;
        let keys = self.catalog.keys();
        let known = |state: &crate::catalog::State| {
            state.agents.get(name).map(|kept| (kept.record.clone(), kept.revision))
        };
        let mut seen = self.catalog.look(known);
        for _ in 0..ROUNDS_MAX {
            let (txn, put) = match &seen {
                None => (duty::read(keys, name), None),
                Some((record, at)) => {
                    let asked = ask.apply(record);
                    // Written also where it says the same: what was seen may be old.
                    (duty::write(keys, name, *at, &asked), Some(asked))
                }
            };
            match (self.wrote(txn).await?, put) {
                (Wrote::Done { revision }, Some(asked)) => {
                    return self.asked(name, ask, &asked, revision);
                }
                (Wrote::Changed { record, now }, _) => seen = Some((record, now)),
                (Wrote::NotThere | Wrote::Done { .. }, _) => {
                    return Err(FleetError::NotFound(name.clone()));
                }
            }
        }
        Err(FleetError::Contended)
    }

    async fn wrote(&self, txn: Txn) -> Result<Wrote, FleetError> {
        Ok(duty::read_wrote(&self.write(txn).await?)?)
    }

    fn asked(
        &self,
        name: &AgentName,
        ask: Ask,
        asked: &AgentRecord,
        revision: Revision,
    ) -> Result<AgentView, FleetError> {
        self.catalog.wrote_agent(name, encode_record(asked), revision);
        tracing::info!(agent = %name, ?ask, "asked of the agent");
        Ok(self.agent(name)?.value)
    }
}
