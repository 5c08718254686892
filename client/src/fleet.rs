//! The calls on the fleet: agents, the pools they form, and who holds which range.
//!
//! Those that look answer what one coordinator knows at the moment, which is why an agent is
//! `connected` or not from the view of the one that was asked. None is paged: a fleet has some
//! thousand agents, which fit one answer. What is asked of an agent is a wish that is written down:
//! asking twice does no harm, and whoever wants to know what has come of it looks at the agent.

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

    /// Has an agent hand its ranges over, a few at a time, and take none. It may be stopped once
    /// [`Agent::drained`] says so, and stays empty until it is uncordoned, also when it is started
    /// again. Where no other agent takes ranges it keeps them, as [`Agent::last_resort`] tells.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn drain_agent(&self, name: &str) -> Result<Agent, Error> {
        let message = v1::DrainAgentRequest { name: name.to_owned() };
        let answer = self.call("the drain", Repeat::Harmless, |channel| {
            let request = self.request(message.clone());
            async move { fleet(channel).drain_agent(request).await }
        });
        answer.await.result?.agent.ok_or(Error::Incomplete("agent"))
    }

    /// Lets an agent take no more ranges; it keeps those that it has.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn cordon_agent(&self, name: &str) -> Result<Agent, Error> {
        let message = v1::CordonAgentRequest { name: name.to_owned() };
        let answer = self.call("the cordon", Repeat::Harmless, |channel| {
            let request = self.request(message.clone());
            async move { fleet(channel).cordon_agent(request).await }
        });
        answer.await.result?.agent.ok_or(Error::Incomplete("agent"))
    }

    /// Ends a cordon and a drain.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn uncordon_agent(&self, name: &str) -> Result<Agent, Error> {
        let message = v1::UncordonAgentRequest { name: name.to_owned() };
        let answer = self.call("the end of the cordon", Repeat::Harmless, |channel| {
            let request = self.request(message.clone());
            async move { fleet(channel).uncordon_agent(request).await }
        });
        answer.await.result?.agent.ok_or(Error::Incomplete("agent"))
    }

    /// Sets what an agent weighs beside others, 0 to 1,000; `None`: as it is configured.
    ///
    /// # Errors
    /// `not_found`; `bad_request` for a weight that is too large.
    pub async fn set_agent_weight(&self, name: &str, weight: Option<u32>) -> Result<Agent, Error> {
        let message = v1::SetAgentWeightRequest { name: name.to_owned(), weight };
        let answer = self.call("the weight", Repeat::Harmless, |channel| {
            let request = self.request(message.clone());
            async move { fleet(channel).set_agent_weight(request).await }
        });
        answer.await.result?.agent.ok_or(Error::Incomplete("agent"))
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
