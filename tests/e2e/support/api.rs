//! The client API over REST, and `tock`, as scripts use them.

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::{PATIENCE, binaries, until};

/// One coordinator.
#[derive(Clone)]
pub struct Api {
    pub base: String,
    http: reqwest::Client,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The JSON of an answer that must be good.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert!((200..300).contains(&self.status), "{self:?}");
        self.json()
    }

    /// Paths of what is wrong, sorted.
    pub fn paths(&self) -> Vec<String> {
        let errors = self.json()["errors"].as_array().cloned().unwrap_or_default();
        let path = |error: &Value| error["path"].as_str().unwrap_or_default().to_owned();
        let mut paths: Vec<String> = errors.iter().map(path).collect();
        paths.sort();
        paths
    }
}

impl Api {
    pub fn new(port: u16) -> Api {
        // A second one in this process changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().timeout(PATIENCE).build().expect("a client");
        Api { base: format!("http://127.0.0.1:{port}"), http }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    pub async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await.expect("an answer")
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, path).json(body)).await.expect("an answer")
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::PUT, path).json(body)).await.expect("an answer")
    }

    pub async fn delete(&self, path: &str) -> Answer {
        send(self.request(Method::DELETE, path)).await.expect("an answer")
    }

    /// Every run of a namespace, all pages.
    pub async fn runs(&self, namespace: &str) -> Result<Vec<Value>, Answer> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/runs?namespace={namespace}&limit=1000{cursor}");
            let answer = self.get(&path).await;
            if answer.status != 200 {
                return Err(answer);
            }
            let mut page = answer.json();
            all.append(page["items"].as_array_mut().expect("items"));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(all),
            }
        }
    }

    /// The runs of one task, once there are `count` that have ended.
    pub async fn ended_runs(&self, task: &str, count: usize) -> Vec<Value> {
        let path = format!("/v1/namespaces/default/tasks/{task}/runs");
        until(&format!("{task} has {count} ended runs"), PATIENCE, async || {
            let answer = self.get(&path).await;
            let items = answer.json()["items"].as_array().cloned().unwrap_or_default();
            let ended = items.iter().filter(|run| has_ended(run)).count();
            if ended >= count { Ok(items) } else { Err(answer) }
        })
        .await
    }

    /// Runs `tock` against it, without any configuration of the host.
    pub fn tock(&self, arguments: &[&str]) -> Output {
        Command::new(binaries::tock())
            .args(arguments)
            .env_clear()
            .env("TOCK_SERVER", &self.base)
            .env("TOCK_CONFIG", "/dev/null")
            .env("TZ", "Europe/Berlin")
            .env("HOME", "/home/me")
            .output()
            .expect("tock runs")
    }

    /// Runs `tock` for JSON; it must exit with 0.
    #[track_caller]
    pub fn tock_json(&self, arguments: &[&str]) -> Value {
        let output = self.tock(&[&["-o", "json"], arguments].concat());
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
        serde_json::from_slice(&output.stdout).expect("tock answers in JSON")
    }
}

/// Sends a request; an error is that of the connection.
pub async fn send(request: RequestBuilder) -> Result<Answer, reqwest::Error> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    let header = |(name, value): (&reqwest::header::HeaderName, &reqwest::header::HeaderValue)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let headers = response.headers().iter().map(header).collect();
    Ok(Answer { status, headers, text: response.text().await? })
}

pub fn has_ended(run: &Value) -> bool {
    !matches!(run["state"].as_str(), Some("queued" | "running" | "waiting_retry") | None)
}

pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

/// RFC 3339, to the millisecond.
pub fn instant_text(since_epoch: Duration) -> String {
    let millis = i64::try_from(since_epoch.as_millis()).expect("this side of the year 9999");
    let wall = tocktower_core::time::Wall::from_millis(millis);
    tocktower_proto::json::format_wall(wall)
}

/// A one-shot that does nothing.
pub fn noop_at(namespace: &str, name: &str, at: Duration) -> Value {
    json!({
        "namespace": namespace, "name": name,
        "schedules": [{"at": instant_text(at)}], "action": {"noop": {}},
    })
}
