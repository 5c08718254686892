//! Who calls, and when: the account of starts that does not ask the product.
//!
//! Tasks over HTTP call a small server; command tasks append a line to a file, through a script
//! that each host has in its path. Both name the run by the headers and variables that the product
//! promises to every target. The caller is known by its address, as each host has its own.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::account::{Call, Instant};
use crate::clock::{Moment, now, parse};
use crate::error::Error;
use crate::limits::WITNESS_REQUEST_MAX;

pub struct Witness {
    pub url: String,
    calls: Arc<Mutex<Vec<Call>>>,
    lines: PathBuf,
    server: JoinHandle<()>,
}

impl Witness {
    /// Listens on this address; commands write into `lines`. The callers are those of the fleet.
    pub async fn start(
        listen: IpAddr,
        callers: BTreeMap<IpAddr, String>,
        lines: PathBuf,
    ) -> Result<Witness, Error> {
        let cannot = || Error::io(format!("listening on {listen}"));
        let listener = TcpListener::bind((listen, 0)).await.map_err(cannot())?;
        let url = format!("http://{}/", listener.local_addr().map_err(cannot())?);
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (written, callers) = (calls.clone(), Arc::new(callers));
        let server = tokio::spawn(async move {
            while let Ok((stream, address)) = listener.accept().await {
                let (calls, agent) = (written.clone(), callers.get(&address.ip()).cloned());
                // A caller that was killed or cut off breaks its connection off.
                tokio::spawn(async move { serve(stream, agent, &calls).await.ok() });
            }
        });
        Ok(Witness { url, calls, lines, server })
    }

    /// All that was seen, in no order.
    pub fn calls(&self) -> Vec<Call> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let lines = std::fs::read_to_string(&self.lines).unwrap_or_default();
        calls.extend(lines.lines().filter_map(read_line));
        calls
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The script that command tasks of a host call.
pub fn script(agent: &str, lines: &Path) -> String {
    format!(
        "#!/bin/sh\n\
         echo \"{agent} $(date +%s%N) $TOCKTOWER_TASK $TOCKTOWER_INSTANT\" >> '{}'\n",
        lines.display()
    )
}

/// `<agent> <nanoseconds> <namespace>/<task> <instant>`.
fn read_line(line: &str) -> Option<Call> {
    let mut words = line.split_whitespace();
    let agent = words.next()?.to_owned();
    let at = Duration::from_nanos(words.next()?.parse().ok()?);
    let instant = instant(words.next()?, words.next()?)?;
    Some(Call { instant, at, agent: Some(agent) })
}

fn instant(task: &str, instant: &str) -> Option<Instant> {
    let (_, task) = task.split_once('/')?;
    Some(Instant { task: task.to_owned(), at: parse(instant)? })
}

async fn serve(
    stream: TcpStream,
    agent: Option<String>,
    calls: &Mutex<Vec<Call>>,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some((instant, at)) = request(&mut stream).await? {
        if let Some(instant) = instant {
            let call = Call { instant, at, agent: agent.clone() };
            calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
    }
    Ok(())
}

/// Reads a request: what it is for, and when it came. Nothing at the end of the connection.
async fn request(
    stream: &mut BufReader<TcpStream>,
) -> std::io::Result<Option<(Option<Instant>, Moment)>> {
    let mut stream = stream.take(WITNESS_REQUEST_MAX);
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let at = now();
    let (mut task, mut due, mut body) = (String::new(), String::new(), 0);
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "tocktower-task" => task = value.to_owned(),
            "tocktower-instant" => due = value.to_owned(),
            "content-length" => body = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    let mut rest = vec![0; body.min(usize::try_from(WITNESS_REQUEST_MAX).unwrap_or(usize::MAX))];
    stream.read_exact(&mut rest).await?;
    Ok(Some((instant(&task, &due), at)))
}
