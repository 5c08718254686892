//! A fleet of the drill's own: three members of etcd, two coordinators, four agents, each a process
//! on a host of its own, and the faults that can be done to them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tocktower_client::{Client, ClientConfig};

use crate::error::Error;
use crate::limits::{self, AGENTS, COORDINATORS, DAEMON, ETCD_MEMBERS};
use crate::net::{Net, address};
use crate::plan::{Act, Target};
use crate::process::Process;
use crate::programs::Programs;
use crate::wait::until;
use crate::{http, load, witness};

pub struct LocalFleet {
    hosts: Vec<Host>,
    /// The members that were picked by what they were; they stay picked.
    picked: Vec<(Target, usize)>,
    programs: Programs,
    folder: PathBuf,
    /// Dropped after the hosts: their processes end before their namespaces do.
    net: Net,
    keep: bool,
}

/// A host and the daemon on it.
struct Host {
    role: Role,
    address: IpAddr,
    daemon: Process,
    /// What makes each sync of its daemon slow, while it does.
    brake: Option<Process>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Etcd,
    Coordinator,
    Agent,
}

/// Of coordinators, for clients and agents alike.
const PORT: u16 = 7080;
const ETCD_CLIENTS: u16 = 2379;
const ETCD_PEERS: u16 = 2380;

impl LocalFleet {
    /// Makes the hosts, and starts nothing. The calling thread moves into their network.
    pub fn build(programs: Programs, keep: bool) -> Result<LocalFleet, Error> {
        let mut net = Net::create()?;
        let folder = net.folder(keep);
        std::fs::create_dir_all(&folder).map_err(Error::io("making a folder for the drill"))?;
        net.enter()?;
        let mut hosts = Vec::new();
        let kinds = [
            (Role::Etcd, "etcd", 11, ETCD_MEMBERS),
            (Role::Coordinator, "coordinator", 21, COORDINATORS),
            (Role::Agent, "agent", 31, AGENTS),
        ];
        for (role, word, first, count) in kinds {
            for (number, octet) in (first..).take(count).enumerate() {
                let (name, address) = (format!("{word}{number}"), address(octet));
                net.host(&name, address)?;
                let daemon = Process::new(&name, &folder);
                hosts.push(Host { role, address, daemon, brake: None });
            }
        }
        let fleet = LocalFleet { hosts, picked: Vec::new(), programs, folder, net, keep };
        fleet.scripts()?;
        Ok(fleet)
    }

    /// Starts all of them and waits until they say that they are ready.
    pub async fn start(&mut self) -> Result<(), Error> {
        for role in [Role::Etcd, Role::Coordinator, Role::Agent] {
            let of_role: Vec<usize> = self.of(role);
            for host in &of_role {
                self.spawn(*host)?;
            }
            for host in of_role {
                self.ready(host).await?;
            }
        }
        Ok(())
    }

    /// The SDK, with all coordinators.
    pub fn client(&self) -> Result<Client, Error> {
        let coordinators = self.hosts.iter().filter(|host| host.role == Role::Coordinator);
        let servers = coordinators.map(|host| format!("http://{}:{PORT}", host.address)).collect();
        let config = ClientConfig { servers, timeout: limits::CALL, ..ClientConfig::default() };
        Client::connect(config).map_err(Error::api("connecting to the fleet"))
    }

    /// Who calls from which address.
    pub fn agents(&self) -> BTreeMap<IpAddr, String> {
        let agents = self.hosts.iter().filter(|host| host.role == Role::Agent);
        agents.map(|host| (host.address, host.daemon.name().to_owned())).collect()
    }

    /// Where its files stay, if they are to.
    pub fn kept(&self) -> Option<&Path> {
        self.keep.then_some(self.folder.as_path())
    }

    /// Where commands tell the witness of their starts.
    pub fn lines(&self) -> PathBuf {
        self.folder.join("calls")
    }

    /// Carries an act out on every host that is meant, and names them.
    pub async fn act(&mut self, act: Act, target: Target) -> Result<Vec<String>, Error> {
        let hosts = self.meant(target).await?;
        for host in &hosts {
            self.act_on(*host, act).await?;
        }
        if act == Act::Start {
            for host in &hosts {
                self.ready(*host).await?;
            }
        }
        Ok(hosts.into_iter().map(|host| self.hosts[host].daemon.name().to_owned()).collect())
    }

    async fn act_on(&mut self, number: usize, act: Act) -> Result<(), Error> {
        let host = &mut self.hosts[number];
        let name = host.daemon.name().to_owned();
        match act {
            Act::Kill => host.daemon.kill(),
            Act::Terminate => {
                host.daemon.signal(Signal::TERM)?;
                let what = format!("{name} has ended after SIGTERM");
                let ended = async || host.daemon.ended().ok_or_else(|| "it runs".to_owned());
                until(&what, DAEMON, ended).await?;
            }
            Act::Start => self.spawn(number)?,
            Act::Pause => host.daemon.signal(Signal::STOP)?,
            Act::Resume => host.daemon.signal(Signal::CONT)?,
            Act::Cut => self.net.cut(&name)?,
            Act::Mend => self.net.mend(&name)?,
            Act::Lose => {
                // Off the network first: the death of its process must not reach anybody.
                self.net.cut(&name)?;
                host.daemon.kill();
                std::fs::remove_dir_all(self.data(number))
                    .map_err(Error::io(format!("wiping the disk of {name}")))?;
            }
            Act::Slow => self.slow(number)?,
            Act::Steady => {
                if let Some(mut brake) = host.brake.take() {
                    // By a signal that it can handle, so that it lets go of every thread.
                    brake.signal(Signal::TERM)?;
                    let gone = async || brake.ended().ok_or_else(|| "it runs".to_owned());
                    until(&format!("the disk of {name} is free"), DAEMON, gone).await?;
                }
            }
            // These are asked of the API.
            Act::Drain | Act::Uncordon | Act::Settle => {}
        }
        Ok(())
    }

    async fn meant(&mut self, target: Target) -> Result<Vec<usize>, Error> {
        Ok(match target {
            Target::Agent(number) => vec![self.of(Role::Agent)[number]],
            Target::Coordinator(number) => vec![self.of(Role::Coordinator)[number]],
            Target::Etcd => self.of(Role::Etcd),
            Target::Leader | Target::Follower => {
                let known = self.picked.iter().find(|(picked, _)| *picked == target);
                let member = match known {
                    Some((_, member)) => *member,
                    None => self.pick(target).await?,
                };
                vec![member]
            }
            Target::Fleet => Vec::new(),
        })
    }

    /// Finds the member that leads, or one that does not.
    async fn pick(&mut self, target: Target) -> Result<usize, Error> {
        let members = self.of(Role::Etcd);
        let leader = until("a member of etcd leads", DAEMON, async || {
            for member in &members {
                if self.leads(*member).await {
                    return Ok(*member);
                }
            }
            Err("none does".to_owned())
        })
        .await?;
        let follower = members.iter().find(|member| **member != leader).copied().unwrap_or(leader);
        let member = if target == Target::Leader { leader } else { follower };
        self.picked.push((target, member));
        Ok(member)
    }

    /// Whether this member of etcd says that it leads.
    async fn leads(&self, member: usize) -> bool {
        let address = (self.hosts[member].address, ETCD_CLIENTS).into();
        let answer = http::post(address, "/v3/maintenance/status", "{}").await;
        let status: Value = serde_json::from_str(&answer.unwrap_or_default()).unwrap_or_default();
        let leader = &status["leader"];
        leader.is_string() && *leader == status["header"]["member_id"]
    }

    async fn ready(&mut self, number: usize) -> Result<(), Error> {
        let host = &mut self.hosts[number];
        let (role, address) = (host.role, host.address);
        let what = format!("{} is ready", host.daemon.name());
        let begun = std::time::Instant::now();
        loop {
            host.daemon.check()?;
            let ready = match role {
                Role::Etcd => {
                    let health = http::get((address, ETCD_CLIENTS).into(), "/health").await;
                    health.is_ok_and(|answer| answer.contains(r#""health":"true""#))
                }
                // Each daemon says so once it serves.
                Role::Coordinator | Role::Agent => host.daemon.said().contains(" ready addresses"),
            };
            if ready {
                return Ok(());
            }
            if begun.elapsed() > DAEMON {
                let said = host.daemon.said();
                let last = said.lines().last().unwrap_or("nothing").to_owned();
                return Err(Error::Late { what, within: DAEMON, last });
            }
            tokio::time::sleep(limits::POLL).await;
        }
    }

    fn spawn(&mut self, number: usize) -> Result<(), Error> {
        let host = &self.hosts[number];
        let name = host.daemon.name();
        let (program, arguments) = match host.role {
            Role::Etcd => (&self.programs.etcd, self.etcd_arguments(number)),
            Role::Coordinator => (&self.programs.tocktower, self.coordinator_arguments(number)),
            Role::Agent => (&self.programs.tocktower, self.agent_arguments(number)),
        };
        let mut command = self.net.command(name, program);
        command.args(arguments);
        let own = self.bin(name);
        let path = std::env::var("PATH").unwrap_or_default();
        self.hosts[number].daemon.spawn(command, &format!("{}:{path}", own.display()))
    }

    /// Makes each sync of a daemon take longer, from outside, by what is made for it: a tracer.
    fn slow(&mut self, number: usize) -> Result<(), Error> {
        let host = &mut self.hosts[number];
        let (name, pid) = (host.daemon.name(), host.daemon.pid());
        let pid = pid.ok_or_else(|| Error::Refused(format!("{name} is not running")))?;
        let delay = limits::SLOW_SYNC.as_micros();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--", "strace", "-f", "-qq", "-o", "/dev/null"]);
        command.args(["-e", "trace=fdatasync,fsync", "-e"]);
        command.arg(format!("inject=fdatasync,fsync:delay_exit={delay}"));
        command.args(["-p", &pid.as_raw_nonzero().to_string()]);
        let mut brake = Process::new(&format!("{name}-brake"), &self.folder);
        brake.spawn(command, &std::env::var("PATH").unwrap_or_default())?;
        host.brake = Some(brake);
        Ok(())
    }

    fn etcd_arguments(&self, number: usize) -> Vec<String> {
        let url = |host: &Host, port: u16| format!("http://{}:{port}", host.address);
        let host = &self.hosts[number];
        let (clients, peers) = (url(host, ETCD_CLIENTS), url(host, ETCD_PEERS));
        let members = self.hosts.iter().filter(|host| host.role == Role::Etcd);
        let all = members.map(|host| format!("{}={}", host.daemon.name(), url(host, ETCD_PEERS)));
        let all = all.collect::<Vec<_>>().join(",");
        let data = self.data(number).display().to_string();
        let arguments = [
            ["--name", host.daemon.name()],
            ["--data-dir", &data],
            ["--listen-client-urls", &clients],
            ["--advertise-client-urls", &clients],
            ["--listen-peer-urls", &peers],
            ["--initial-advertise-peer-urls", &peers],
            ["--initial-cluster", &all],
            ["--initial-cluster-state", "new"],
        ];
        arguments.concat().into_iter().map(str::to_owned).collect()
    }

    fn coordinator_arguments(&self, number: usize) -> Vec<String> {
        let host = &self.hosts[number];
        let listen = format!("{}:{PORT}", host.address);
        let (id, etcd) = (host.daemon.name(), self.etcd_urls());
        let arguments = ["coordinator", "--id", id, "--etcd", &etcd, "--listen", &listen];
        // Off the loopback, and nobody else is in this network.
        arguments.into_iter().chain(["--insecure"]).map(str::to_owned).collect()
    }

    fn agent_arguments(&self, number: usize) -> Vec<String> {
        let (name, etcd) = (self.hosts[number].daemon.name(), self.etcd_urls());
        let data = self.data(number).display().to_string();
        let arguments = ["agent", "--name", name, "--etcd", &etcd, "--data-dir", &data];
        arguments.map(str::to_owned).to_vec()
    }

    fn etcd_urls(&self) -> String {
        let members = self.hosts.iter().filter(|host| host.role == Role::Etcd);
        let urls = members.map(|host| format!("http://{}:{ETCD_CLIENTS}", host.address));
        urls.collect::<Vec<_>>().join(",")
    }

    fn of(&self, role: Role) -> Vec<usize> {
        (0..self.hosts.len()).filter(|number| self.hosts[*number].role == role).collect()
    }

    fn data(&self, number: usize) -> PathBuf {
        self.folder.join(format!("{}-data", self.hosts[number].daemon.name()))
    }

    fn bin(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}-bin"))
    }

    /// What command tasks call, on each agent's host.
    fn scripts(&self) -> Result<(), Error> {
        for name in self.agents().into_values() {
            let (folder, text) = (self.bin(&name), witness::script(&name, &self.lines()));
            script(&folder, &text)
                .map_err(Error::io(format!("writing into the path of {name}")))?;
        }
        Ok(())
    }
}

fn script(folder: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let file = folder.join(load::COMMAND);
    std::fs::create_dir_all(folder)?;
    std::fs::write(&file, text)?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))
}

impl Drop for LocalFleet {
    fn drop(&mut self) {
        // All at once: nobody should have the time to miss another.
        self.hosts.iter_mut().for_each(|host| host.daemon.kill());
        self.hosts.iter_mut().for_each(|host| drop(host.brake.take()));
        if !self.keep {
            // The next drill sweeps what cannot be removed now.
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}
