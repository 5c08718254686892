//! The few words of HTTP that a drill has with etcd: its health and who leads. A library of HTTP
//! would be a second one in this program, for two requests to a process of our own.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const WITHIN: Duration = Duration::from_secs(2);
/// An answer of etcd's has a few hundred bytes.
const ANSWER_MAX: u64 = 64 * 1024;

pub async fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    ask(address, &format!("GET {path} HTTP/1.0\r\n\r\n")).await
}

pub async fn post(address: SocketAddr, path: &str, body: &str) -> io::Result<String> {
    let length = body.len();
    ask(address, &format!("POST {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}")).await
}

/// The body of the answer.
async fn ask(address: SocketAddr, request: &str) -> io::Result<String> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.take(ANSWER_MAX).read_to_string(&mut answer).await?;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        io::Result::Ok(body.to_owned())
    };
    tokio::time::timeout(WITHIN, asked).await?
}
