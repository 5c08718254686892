//! etcd for tests: one member or three, on free ports of the loopback, with their data in a folder
//! that goes away with them. fsync stays on, as it is where we run.
//!
//! Ports are chosen by asking the kernel for free ones and letting them go again, which another
//! process may win: a cluster that does not come up is thrown away and started again on others.
//! Members die with their [`EtcdCluster`], killed by their own pid.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const STARTS_MAX: usize = 5;
const HEALTHY_WITHIN: Duration = Duration::from_secs(30);

pub struct EtcdCluster {
    members: Vec<Member>,
    folder: TempDir,
    binary: PathBuf,
}

struct Member {
    client_port: u16,
    peer_port: u16,
    process: Option<Child>,
}

impl EtcdCluster {
    /// Starts `members` of them and waits until all are healthy.
    pub async fn start(members: usize) -> EtcdCluster {
        assert!(members % 2 == 1, "an odd number of members");
        let binary = binary();
        let mut failure = String::new();
        for _ in 0..STARTS_MAX {
            let mut cluster = EtcdCluster::new(members, &binary);
            (0..members).for_each(|member| cluster.spawn(member));
            match cluster.healthy().await {
                Ok(()) => return cluster,
                Err(error) => failure = format!("{error}\n{}", cluster.logs()),
            }
        }
        panic!("etcd did not start: {failure}");
    }

    /// The URLs of all members.
    pub fn endpoints(&self) -> Vec<String> {
        (0..self.members.len()).map(|member| self.endpoint(member)).collect()
    }

    pub fn endpoint(&self, member: usize) -> String {
        format!("http://127.0.0.1:{}", self.members[member].client_port)
    }

    /// Kills a member, as a crash of its host would.
    pub fn stop(&mut self, member: usize) {
        if let Some(mut process) = self.members[member].process.take() {
            process.kill().expect("a child can be killed");
            process.wait().expect("a child can be waited for");
        }
    }

    /// Starts a stopped member on its own data, without waiting.
    pub fn restart(&mut self, member: usize) {
        assert!(self.members[member].process.is_none(), "it is running");
        self.spawn(member);
    }

    /// Saves a snapshot of a single member, as an operator does for a backup.
    pub fn back_up(&self, name: &str) -> PathBuf {
        let file = self.folder.path().join(name);
        let path = file.display().to_string();
        let etcdctl = program("etcdctl");
        run(&etcdctl, &["--endpoints", &self.endpoint(0), "snapshot", "save", &path]);
        file
    }

    /// Puts the data of a single member that is stopped back from a snapshot; what was there
    /// before is gone.
    pub fn put_back(&mut self, snapshot: &Path) {
        assert!(self.members.len() == 1 && self.members[0].process.is_none(), "one, stopped");
        let data = self.folder.path().join("m0");
        std::fs::remove_dir_all(&data).expect("its data can be removed");
        let peer = format!("http://127.0.0.1:{}", self.members[0].peer_port);
        let (data, snapshot) = (data.display().to_string(), snapshot.display().to_string());
        let all = format!("m0={peer}");
        let to = ["--data-dir", &data, "--name", "m0", "--initial-advertise-peer-urls", &peer];
        let restore = ["snapshot", "restore", &snapshot, "--initial-cluster", &all];
        // From 3.6 on etcdctl restores nothing, and its etcdutl does.
        let etcdctl = program("etcdctl");
        let etcdutl = etcdctl.with_file_name("etcdutl");
        let tool = if etcdutl.exists() { etcdutl } else { etcdctl };
        run(&tool, &[&restore[..], &to].concat());
    }

    /// SIGSTOP: the member's connections stay open, and silent.
    pub fn pause(&self, member: usize) {
        self.signal(member, Signal::STOP);
    }

    pub fn resume(&self, member: usize) {
        self.signal(member, Signal::CONT);
    }

    /// Waits until every member that runs is healthy: it sees a leader and answers a read.
    pub async fn healthy(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        for member in 0..self.members.len() {
            while let Some(process) = &mut self.members[member].process {
                if let Some(status) = process.try_wait().expect("a child can be asked") {
                    return Err(format!("member {member} ended: {status}"));
                }
                if is_healthy(self.members[member].client_port).await {
                    break;
                }
                if begun.elapsed() > HEALTHY_WITHIN {
                    return Err(format!("member {member} is not healthy in time"));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// What the members have logged.
    pub fn logs(&self) -> String {
        let log = |member| std::fs::read_to_string(self.log(member)).unwrap_or_default();
        (0..self.members.len()).map(log).collect::<Vec<_>>().join("\n")
    }

    fn new(members: usize, binary: &Path) -> EtcdCluster {
        // Held until all are chosen, so that none is chosen twice.
        let listen = |_| TcpListener::bind("127.0.0.1:0").expect("a free port");
        let listeners: Vec<TcpListener> = (0..members * 2).map(listen).collect();
        let port = |listener: &TcpListener| listener.local_addr().expect("its port").port();
        let ports: Vec<u16> = listeners.iter().map(port).collect();
        let member =
            |ports: &[u16]| Member { client_port: ports[0], peer_port: ports[1], process: None };
        EtcdCluster {
            members: ports.chunks(2).map(member).collect(),
            folder: tempfile::tempdir().expect("a folder"),
            binary: binary.to_path_buf(),
        }
    }

    fn spawn(&mut self, number: usize) {
        let peer = |number: usize| format!("http://127.0.0.1:{}", self.members[number].peer_port);
        let all = (0..self.members.len()).map(|number| format!("m{number}={}", peer(number)));
        let all = all.collect::<Vec<_>>().join(",");
        let client = self.endpoint(number);
        let log = File::options().create(true).append(true).open(self.log(number));
        let log = log.expect("a log file");
        let process = Command::new(&self.binary)
            .args(["--name", &format!("m{number}")])
            .arg("--data-dir")
            .arg(self.folder.path().join(format!("m{number}")))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer(number)])
            .args(["--initial-advertise-peer-urls", &peer(number)])
            .args(["--initial-cluster", &all, "--initial-cluster-state", "new"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("etcd starts");
        self.members[number].process = Some(process);
    }

    fn log(&self, member: usize) -> PathBuf {
        self.folder.path().join(format!("m{member}.log"))
    }

    fn signal(&self, member: usize, signal: Signal) {
        let process = self.members[member].process.as_ref().expect("it is running");
        let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("a child can be signalled");
    }
}

impl Drop for EtcdCluster {
    fn drop(&mut self) {
        (0..self.members.len()).for_each(|member| self.stop(member));
    }
}

fn run(tool: &Path, arguments: &[&str]) {
    let mut command = Command::new(tool);
    let output = command.args(arguments).env("ETCDCTL_API", "3").output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} {arguments:?}: {told}", tool.display());
}

fn binary() -> PathBuf {
    program("etcd")
}

fn program(name: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/etcd-for-tests");
    let mut command = Command::new(&script);
    let output = command.arg(name).stderr(Stdio::inherit()).output().expect("the script runs");
    assert!(output.status.success(), "{} failed, see above", script.display());
    let path = String::from_utf8(output.stdout).expect("a path in UTF-8");
    PathBuf::from(path.trim())
}

async fn is_healthy(port: u16) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    match tokio::time::timeout(Duration::from_secs(2), ask).await {
        Ok(Ok(answer)) => answer.contains(r#""health":"true""#),
        _ => false,
    }
}
