//! A target of HTTP runs that writes down who called and when.
//!
//! What the history says of a run is the agents' own account. This is another's: a run that started
//! twice, or before its time, shows here whatever the history says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::api::now;

/// One request of a run.
#[derive(Clone, Debug)]
pub struct Call {
    pub run_id: String,
    /// Since the Unix epoch.
    pub at: Duration,
}

pub struct Witness {
    pub url: String,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Witness {
    /// Listens until the test's runtime ends.
    pub async fn start() -> Witness {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("its address"));
        let calls = Arc::new(Mutex::new(Vec::new()));
        let written = calls.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let calls = written.clone();
                // A caller that was killed breaks its connection off.
                tokio::spawn(async move { serve(stream, &calls).await.ok() });
            }
        });
        Witness { url, calls }
    }

    /// When each run called, the earliest first.
    pub fn calls(&self) -> BTreeMap<String, Vec<Duration>> {
        let mut runs = BTreeMap::<String, Vec<Duration>>::new();
        for call in self.calls.lock().expect("no holder panics").iter() {
            runs.entry(call.run_id.clone()).or_default().push(call.at);
        }
        runs
    }
}

async fn serve(stream: TcpStream, calls: &Mutex<Vec<Call>>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let at = now();
        let (mut run_id, mut body) = (String::new(), 0);
        loop {
            line.clear();
            stream.read_line(&mut line).await?;
            match line.trim_end().split_once(": ") {
                Some(("idempotency-key", value)) => run_id = value.to_owned(),
                Some(("content-length", value)) => body = value.parse().unwrap_or(0),
                Some(_) => {}
                None => break,
            }
        }
        let mut rest = vec![0; body];
        stream.read_exact(&mut rest).await?;
        calls.lock().expect("no holder panics").push(Call { run_id, at });
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
    }
}
