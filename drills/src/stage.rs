//! Where a drill takes place: a fleet of its own, or one that the user names. It is set up, acted
//! on and left as it was, whatever becomes of the drill in between.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use tocktower_client::time::system_time;
use tocktower_client::{Client, ClientConfig, Task, TaskFilter};

use crate::clock::{moment, now};
use crate::error::Error;
use crate::judge::Deed;
use crate::limits::{self, DRAIN, WHOLE};
use crate::local::LocalFleet;
use crate::net::DRILL;
use crate::observer::look;
use crate::plan::{Act, Drill, Reach, Step, Target};
use crate::programs::{Places, find};
use crate::wait::until;
use crate::witness::Witness;
use crate::{load, net};

/// Which fleet.
#[derive(Debug, Clone)]
pub enum Ground {
    /// One of the drill's own, on this machine.
    Local(Places),
    Named(Named),
}

/// A fleet that the user names, and who has confirmed that it is meant.
#[derive(Debug, Clone)]
pub struct Named {
    pub servers: Vec<String>,
    pub token: Option<String>,
    /// Whose agents run the load.
    pub pool: String,
    /// The agent that faults are done to.
    pub agent: Option<String>,
}

/// Of the namespaces of drills.
const PREFIX: &str = "drill-";

pub struct Stage {
    pub client: Client,
    pub pool: String,
    pub witness: Option<Witness>,
    /// What everything that the drill creates is called.
    pub id: String,
    agents: BTreeSet<String>,
    /// The agent that stands for `Target::Agent(0)` where the fleet is not ours.
    agent: Option<String>,
    drained: BTreeSet<String>,
    local: Option<LocalFleet>,
}

impl Stage {
    /// Builds or finds the fleet; nothing is started or created yet.
    pub fn set(drill: &Drill, ground: &Ground, keep: bool) -> Result<Stage, Error> {
        let id = format!("{PREFIX}{}", ulid::Ulid::generate().to_string().to_lowercase());
        let (agents, drained, witness) = (BTreeSet::new(), BTreeSet::new(), None);
        match ground {
            Ground::Local(places) => {
                let programs = find(places, std::slice::from_ref(drill))?;
                net::sweep()?;
                let local = LocalFleet::build(programs, keep)?;
                let (client, pool, agent) = (local.client()?, "default".to_owned(), None);
                let local = Some(local);
                Ok(Stage { client, pool, witness, id, agents, agent, drained, local })
            }
            Ground::Named(named) => {
                possible(drill, named)?;
                let (servers, token) = (named.servers.clone(), named.token.clone());
                let config = ClientConfig { servers, token, ..ClientConfig::default() };
                let client = Client::connect(config).map_err(Error::api("connecting"))?;
                let (pool, agent) = (named.pool.clone(), named.agent.clone());
                Ok(Stage { client, pool, witness, id, agents, agent, drained, local: None })
            }
        }
    }

    /// Brings the fleet to where a drill can begin: every range held, every agent with its share.
    pub async fn ready(&mut self) -> Result<(), Error> {
        match &mut self.local {
            Some(local) => {
                local.start().await?;
                let callers = local.agents();
                self.agents = callers.values().cloned().collect();
                self.witness = Some(Witness::start(DRILL, callers, local.lines()).await?);
            }
            None => {
                let sight = look(&self.client, &self.pool).await;
                let sight = sight.map_err(Error::api("looking at the fleet"))?.unwrap_or_default();
                self.agents = sight.connected;
                self.agent_is_ours().await?;
                self.remove_leftovers().await?;
            }
        }
        self.settle().await
    }

    /// The agent that is named is there, and nobody has asked anything of it that the end of the
    /// drill would undo.
    async fn agent_is_ours(&self) -> Result<(), Error> {
        let Some(agent) = &self.agent else { return Ok(()) };
        if !self.agents.contains(agent) {
            let (pool, known) = (&self.pool, &self.agents);
            let what = format!("no agent {agent} of pool {pool} is connected: {known:?}");
            return Err(Error::Refused(what));
        }
        let told = self.client.agent(agent).await.map_err(Error::api("looking at the agent"))?;
        if told.value.cordoned || told.value.draining {
            return Err(Error::Refused(format!(
                "{agent} is cordoned or drained by somebody, and a drill would end that: name \
                 another, or uncordon it first"
            )));
        }
        Ok(())
    }

    /// What to do if the drill is killed and cannot take anything back.
    pub fn if_killed(&self) -> Option<String> {
        let agent = self.agent.as_ref().filter(|_| self.local.is_none())?;
        Some(format!("if this is killed (kill -9): `tock agent uncordon {agent}`"))
    }

    /// Where the logs and the data of the drill's own fleet stay, if they are to.
    pub fn kept(&self) -> Option<&Path> {
        self.local.as_ref().and_then(LocalFleet::kept)
    }

    /// Does a step, and says what was done.
    pub async fn act(&mut self, step: &Step) -> Result<Deed, Error> {
        let (act, target, from) = (step.act, step.target, now());
        let hosts = match (act, &mut self.local) {
            (Act::Drain, _) => self.drain(target).await?,
            (Act::Uncordon, _) => self.uncordon(target).await?,
            (Act::Settle, _) => {
                self.settle().await?;
                Vec::new()
            }
            (_, Some(local)) => local.act(act, target).await?,
            (_, None) => {
                let what = format!("{} cannot be done to a fleet that is not ours", act.word());
                return Err(Error::Refused(what));
            }
        };
        if act == Act::Lose {
            self.agents.retain(|agent| !hosts.contains(agent));
        }
        Ok(Deed { act, target, hosts, from, until: now() })
    }

    /// Takes back all that the drill has made or asked of a fleet that is not its own. Its own
    /// goes with this value.
    pub async fn clear(&mut self) -> Result<(), Error> {
        if self.local.is_some() {
            return Ok(());
        }
        for agent in std::mem::take(&mut self.drained) {
            let uncordoned = self.client.uncordon_agent(&agent).await;
            uncordoned.map_err(Error::api("uncordoning the drained agent"))?;
        }
        self.remove(Some(self.id.clone()), |_| true).await
    }

    /// What drills have left that ended before they could remove it: tasks whose end is over.
    async fn remove_leftovers(&self) -> Result<(), Error> {
        let over = |task: &Task| {
            let end = task.proto().end_at.as_ref();
            end.is_some_and(|end| moment(system_time(end)) + Duration::from_secs(3_600) < now())
        };
        self.remove(None, over).await
    }

    /// Removes the tasks of drills, in this namespace or in all, for which this holds.
    async fn remove(
        &self,
        namespace: Option<String>,
        which: impl Fn(&Task) -> bool,
    ) -> Result<(), Error> {
        let (label, value) = load::LABEL;
        let labels = [(label.to_owned(), value.to_owned())].into();
        let filter = TaskFilter { namespace, labels, ..TaskFilter::default() };
        let tasks = self.client.list(filter).try_filter(|task| {
            // Somebody's own label says nothing of a namespace that no drill has made.
            let ours = task.namespace().starts_with(PREFIX) && which(task);
            std::future::ready(ours)
        });
        let tasks: Vec<Task> = tasks.try_collect().await.map_err(Error::api("listing"))?;
        let delete = |task: Task| {
            let client = self.client.clone();
            async move { client.delete(task.namespace(), task.name(), None).await.map(drop) }
        };
        let mut deletes = stream::iter(tasks).map(delete).buffer_unordered(limits::DELETES);
        while let Some(deleted) = deletes.next().await {
            match deleted {
                // A one-shot may have run and gone by itself.
                Err(error) if !error.is_not_found() => {
                    return Err(Error::Api { what: "removing the load", source: error });
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), Error> {
        let what = format!("every range of pool {} is held, by {:?}", self.pool, self.agents);
        until(&what, WHOLE, async || {
            let sight = look(&self.client, &self.pool).await.map_err(|error| error.to_string())?;
            let sight = sight.ok_or("what is known is out of date")?;
            match &self.local {
                Some(_) => sight.is_whole(&self.agents),
                None => sight.is_held(),
            }
        })
        .await
    }

    async fn drain(&mut self, target: Target) -> Result<Vec<String>, Error> {
        let agent = self.agent(target)?;
        // Noted first: what is interrupted from here on is taken back.
        self.drained.insert(agent.clone());
        self.client.drain_agent(&agent).await.map_err(Error::api("draining"))?;
        until(&format!("{agent} is drained"), DRAIN, async || {
            let told = self.client.agent(&agent).await.map_err(|error| error.to_string())?.value;
            let held = format!("it holds {} ranges", told.ranges_held);
            if told.drained { Ok(()) } else { Err(held) }
        })
        .await?;
        Ok(vec![agent])
    }

    async fn uncordon(&mut self, target: Target) -> Result<Vec<String>, Error> {
        let agent = self.agent(target)?;
        self.client.uncordon_agent(&agent).await.map_err(Error::api("uncordoning"))?;
        self.drained.remove(&agent);
        Ok(vec![agent])
    }

    fn agent(&self, target: Target) -> Result<String, Error> {
        let nobody = || Error::Refused(format!("{target:?} is no agent of this fleet"));
        match (&self.agent, target) {
            (Some(agent), Target::Agent(0)) => Ok(agent.clone()),
            (None, Target::Agent(number)) => {
                self.agents.iter().nth(number).cloned().ok_or_else(nobody)
            }
            _ => Err(nobody()),
        }
    }
}

/// Refuses what cannot be done by the API of a fleet alone.
fn possible(drill: &Drill, named: &Named) -> Result<(), Error> {
    let name = &drill.name;
    if drill.reach() == Reach::Processes {
        let all = crate::plan::catalogue();
        let possible = all.iter().filter(|drill| drill.reach() == Reach::Api);
        let possible: Vec<&str> = possible.map(|drill| drill.name.as_str()).collect();
        return Err(Error::Refused(format!(
            "{name} needs the processes, links or disks of the fleet, and on a fleet that is named \
             only its API can be reached: possible there are {}",
            possible.join(", ")
        )));
    }
    let hits = drill.steps.iter().any(|step| matches!(step.target, Target::Agent(_)));
    if hits && named.agent.is_none() {
        let what = format!("{name} is done to an agent: name it with --agent NAME");
        return Err(Error::Refused(what));
    }
    Ok(())
}
