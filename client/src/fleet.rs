//! The calls on the fleet: agents, the pools they form, and who holds which range.
//!
//! All but one only look. They answer what one coordinator knows at the moment, which is why an
//! agent is `connected` or not from the view of the one that was asked. None is paged: a fleet has
//! some thousand agents, which fit one answer.

use tocktower_proto::v1;

use crate::client::{Client, Repeat, fleet};
use crate::error::Error;
use crate::read::Read;

pub use v1::{Agent, Pool, Range};

impl Client {
    /// The agents of a pool; left out: of every pool.
    pub async fn agents(&self, pool: Option<&str>) -> Result<Read<Vec<Agent>>, Error> {
        let message = v1::ListAgentsRequest { pool: pool.unwrap_or_default().to_owned() };
        let answer = self.read(|channel| {
            let request = self.request(message.clone());
            async move { fleet(channel).list_agents(request).await }
        });
        let answer = answer.await?;
        Ok(Read { value: answer.agents, stale: answer.stale })
    }

    /// One agent.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn agent(&self, name: &str) -> Result<Read<Agent>, Error> {
        let message = v1::GetAgentRequest { name: name.to_owned() };
        let answer = self.read(|channel| {
            let request = self.request(message.clone());
            async move { fleet(channel).get_agent(request).await }
        });
        let answer = answer.await?;
        let value = answer.agent.ok_or(Error::Incomplete("agent"))?;
        Ok(Read { value, stale: answer.stale })
    }

    /// Forgets an agent that is gone for good: it is not shown any more, and lists of runs do not
    /// miss its answer. One that comes back registers again.
    ///
    /// # Errors
    /// `not_found`; `agent_alive` while it has a session or a link.
    pub async fn forget_agent(&self, name: &str) -> Result<(), Error> {
        let message = v1::ForgetAgentRequest { name: name.to_owned() };
        let answer = self.call("the forgetting", Repeat::Harmless, |channel| {
            let request = self.request(message.clone());
            async move { fleet(channel).forget_agent(request).await }
        });
        let answer = answer.await;
        match answer.result {
            Ok(_) => Ok(()),
            // The answer of an earlier attempt was lost, and it had done its work.
            Err(error) if error.is_not_found() && answer.maybe_done_before => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Every pool.
    pub async fn pools(&self) -> Result<Read<Vec<Pool>>, Error> {
        let answer = self.read(|channel| {
            let request = self.request(v1::ListPoolsRequest {});
            async move { fleet(channel).list_pools(request).await }
        });
        let answer = answer.await?;
        Ok(Read { value: answer.pools, stale: answer.stale })
    }

    /// The ranges of a pool; left out: of every pool.
    pub async fn ranges(&self, pool: Option<&str>) -> Result<Read<Vec<Range>>, Error> {
        let message = v1::ListRangesRequest { pool: pool.unwrap_or_default().to_owned() };
        let answer = self.read(|channel| {
            let request = self.request(message.clone());
            async move { fleet(channel).list_ranges(request).await }
        });
        let answer = answer.await?;
        Ok(Read { value: answer.ranges, stale: answer.stale })
    }
}
