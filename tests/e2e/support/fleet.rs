//! A fleet as processes: etcd, coordinators, agents.

use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tocktower_client::{Client, ClientConfig};

use super::api::{Api, now};
use super::daemon::{Daemon, free_port};
use super::etcd::EtcdCluster;
use super::logs::Trouble;
use super::{PATIENCE, until};

pub struct Fleet {
    pub agents: Vec<Daemon>,
    /// Where each agent serves its metrics.
    pub agent_ports: Vec<u16>,
    pub coordinators: Vec<Coordinator>,
    pub etcd: EtcdCluster,
    /// Where agents are told that etcd is.
    agents_etcd: String,
    pub folder: TempDir,
    /// Of every agent.
    flags: Vec<String>,
}

pub struct Coordinator {
    pub daemon: Daemon,
    pub api: Api,
}

/// When etcd and the coordinator went and were back, and when an agent was killed meanwhile.
pub struct Outage {
    pub down: Duration,
    pub killed: Duration,
    pub up: Duration,
}

impl Fleet {
    /// One etcd and so many of each, all at work.
    pub async fn start(agents: usize, coordinators: usize) -> Fleet {
        Fleet::start_on(EtcdCluster::start(1).await, agents, coordinators).await
    }

    /// As `start`, on this etcd.
    pub async fn start_on(etcd: EtcdCluster, agents: usize, coordinators: usize) -> Fleet {
        let endpoints = etcd.endpoints().join(",");
        Fleet::start_as(etcd, &endpoints, agents, coordinators, &[]).await
    }

    /// As `start_on`, with these flags for each agent.
    pub async fn start_with(
        etcd: EtcdCluster,
        agents: usize,
        coordinators: usize,
        flags: &[&str],
    ) -> Fleet {
        let endpoints = etcd.endpoints().join(",");
        Fleet::start_as(etcd, &endpoints, agents, coordinators, flags).await
    }

    /// As `start_on`, with something between the agents and etcd, which they find there.
    pub async fn start_behind(
        etcd: EtcdCluster,
        between: &str,
        agents: usize,
        coordinators: usize,
    ) -> Fleet {
        Fleet::start_as(etcd, between, agents, coordinators, &[]).await
    }

    async fn start_as(
        etcd: EtcdCluster,
        between: &str,
        agents: usize,
        coordinators: usize,
        flags: &[&str],
    ) -> Fleet {
        let folder = tempfile::tempdir().expect("a folder");
        let mut fleet = Fleet {
            agents: Vec::new(),
            agent_ports: Vec::new(),
            coordinators: Vec::new(),
            etcd,
            agents_etcd: between.to_owned(),
            folder,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        };
        for number in 0..coordinators {
            fleet.add_coordinator(number);
        }
        for coordinator in &mut fleet.coordinators {
            coordinator.daemon.ready().await;
        }
        (0..agents).for_each(|_| fleet.add_agent());
        for agent in &mut fleet.agents {
            agent.ready().await;
        }
        let names: Vec<String> = (0..agents).map(|number| format!("a{number}")).collect();
        fleet.held_by(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        fleet
    }

    fn add_coordinator(&mut self, number: usize) {
        let port = free_port();
        let (etcd, listen) = (self.etcd.endpoints().join(","), format!("127.0.0.1:{port}"));
        let id = format!("c{number}");
        let arguments = ["coordinator", "--id", &id, "--etcd", &etcd, "--listen", &listen];
        let arguments = arguments.map(str::to_owned).to_vec();
        let daemon = Daemon::start(&id, self.folder.path(), arguments);
        self.coordinators.push(Coordinator { daemon, api: Api::new(port) });
    }

    /// Starts one more agent, without waiting: a0, a1, …
    pub fn add_agent(&mut self) {
        let name = format!("a{}", self.agents.len());
        let mut arguments = self.agent_arguments(&name, &name);
        let port = free_port();
        self.agent_ports.push(port);
        arguments.extend(["--metrics-listen".to_owned(), format!("127.0.0.1:{port}")]);
        arguments.extend(self.flags.iter().cloned());
        self.agents.push(Daemon::start(&name, self.folder.path(), arguments));
    }

    /// The command line of an agent with its data in `folder` of the fleet's.
    pub fn agent_arguments(&self, name: &str, folder: &str) -> Vec<String> {
        let etcd = self.agents_etcd.clone();
        let data = self.folder.path().join(folder).display().to_string();
        let arguments = ["agent", "--name", name, "--etcd", &etcd, "--data-dir", &data];
        arguments.map(str::to_owned).to_vec()
    }

    /// One figure of an agent, without labels: `ranges_held`, …
    pub async fn metric(&self, agent: usize, name: &str) -> u64 {
        let api = Api::new(self.agent_ports[agent]);
        let text = api.get("/metrics").await.text;
        let start = format!("tocktower_agent_{name} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name}: {text}"))
    }

    pub fn api(&self) -> &Api {
        &self.coordinators[0].api
    }

    /// The SDK, with all coordinators.
    pub fn client(&self) -> Client {
        let servers = self.coordinators.iter().map(|c| c.api.base.clone()).collect();
        let config = ClientConfig { servers, ..ClientConfig::default() };
        Client::connect(config).expect("a client")
    }

    /// Waits until every coordinator sees each range held, by all of these agents and no other,
    /// each with its share, and has a link to each of them.
    pub async fn held_by(&self, agents: &[&str]) {
        for coordinator in &self.coordinators {
            until(&format!("the ranges are held by {agents:?}"), PATIENCE, async || {
                let api = &coordinator.api;
                held(api, agents).await
            })
            .await;
        }
    }

    /// etcd and the first coordinator go for so long. In the middle of that an agent is killed, and
    /// another process of it begins at once.
    pub async fn left_alone(&mut self, span: Duration, agent: usize) -> Outage {
        self.coordinators[0].daemon.kill();
        self.etcd.stop(0);
        let down = now();
        tokio::time::sleep(span / 2).await;
        self.agents[agent].kill();
        let killed = now();
        self.agents[agent].spawn();
        self.agents[agent].ready().await;
        tokio::time::sleep((down + span).saturating_sub(now())).await;
        let up = now();
        self.etcd.restart(0);
        self.etcd.healthy().await.expect("etcd is healthy");
        self.coordinators[0].daemon.spawn();
        self.coordinators[0].daemon.ready().await;
        Outage { down, killed, up }
    }

    /// Tells every daemon's log about a trouble.
    pub fn expects(&mut self, trouble: Trouble) {
        self.agents.iter_mut().for_each(|agent| agent.expects(trouble));
        self.coordinators.iter_mut().for_each(|c| c.daemon.expects(trouble));
    }
}

async fn held(api: &Api, agents: &[&str]) -> Result<(), String> {
    let ranges = api.get("/v1/ranges?limit=1000").await.ok();
    let ranges = ranges["items"].as_array().expect("items");
    let holders: Vec<&str> = ranges.iter().filter_map(|range| range["holder"].as_str()).collect();
    let count = |agent: &&str| holders.iter().filter(|holder| *holder == agent).count();
    let counts: Vec<usize> = agents.iter().map(count).collect();
    // Once nothing moves any more; the ring's bound on the load is the ring's own test.
    let average = ranges.len() / agents.len();
    let all = counts.iter().sum::<usize>() == ranges.len() && !ranges.is_empty();
    let fair = counts.iter().all(|count| *count * 2 >= average);
    let told = api.get("/v1/agents").await.ok();
    let linked = |agent: &&str| {
        let agents = told["items"].as_array().into_iter().flatten();
        let mut same = agents.filter(|told| told["name"] == **agent);
        same.any(|told| told["connected"] == true)
    };
    if all && fair && agents.iter().all(linked) {
        Ok(())
    } else {
        Err(format!("{counts:?} of {} ranges; {told}", ranges.len()))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // All at once: nobody should have the time to miss another.
        self.agents.iter_mut().for_each(Daemon::kill);
        self.coordinators.iter_mut().for_each(|c| c.daemon.kill());
    }
}

/// Sorted lateness as it is told: half of them, all but a hundredth, the worst.
pub fn percentiles(mut micros: Vec<i64>) -> String {
    micros.sort_unstable();
    let at = |share: usize| {
        let index = (micros.len() * share / 1000).min(micros.len().saturating_sub(1));
        micros.get(index).copied().unwrap_or(0)
    };
    let ms = |micros: i64| micros as f64 / 1_000.0;
    let (p50, p99, p999, most) = (ms(at(500)), ms(at(990)), ms(at(999)), ms(at(1000)));
    format!("lateness p50 {p50:.1} ms, p99 {p99:.1} ms, p99.9 {p999:.1} ms, max {most:.1} ms")
}

/// When something took place, for the lines that tests print.
pub fn spent(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

/// A text of an answer.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
