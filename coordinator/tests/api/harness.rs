//! A coordinator and a client in a few words, and a port that can be made to fail.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tocktower_cluster::embedded::Embedded;
use tocktower_cluster::keys::{Keys, PREFIX};
use tocktower_cluster::port::{
    Answer, Op, Port, PortError, Request, Txn, WatchCommand, WatchMessage, WatchStream,
};
use tocktower_coordinator::{Coordinator, CoordinatorConfig, Pace, Running};
use tocktower_core::hash::RangeCount;
use tocktower_core::ids::CoordinatorId;
use tokio::sync::mpsc;

/// How long a condition may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A port that answers with `NoLeader` while it is cut, and whose watch is silent then; it can also
/// skip events.
pub struct CutPort {
    pub inner: Arc<dyn Port>,
    pub cut: Arc<AtomicBool>,
    pub back: Arc<AtomicI64>,
    pub lost: Lost,
    /// Nobody answers.
    pub hangs: Arc<AtomicBool>,
}

/// Keys whose next event the watch skips without a word.
pub type Lost = Arc<Mutex<BTreeSet<Vec<u8>>>>;

impl Port for CutPort {
    fn call(&self, request: Request) -> BoxFuture<'static, Result<Answer, PortError>> {
        if self.hangs.load(Ordering::SeqCst) {
            return std::future::pending().boxed();
        }
        match self.cut.load(Ordering::SeqCst) {
            true => async { Err(PortError::NoLeader) }.boxed(),
            false => {
                let (answer, back) = (self.inner.call(request), self.back.load(Ordering::SeqCst));
                async move { answer.await.map(|answer| set_back(answer, back)) }.boxed()
            }
        }
    }

    fn watch(&self, capacity: usize) -> WatchStream {
        let WatchStream { commands, messages } = self.inner.watch(capacity);
        let (out, filtered) = mpsc::channel(capacity);
        tokio::spawn(pass(messages, out, self.cut.clone(), self.lost.clone()));
        let commands: mpsc::UnboundedSender<WatchCommand> = commands;
        WatchStream { commands, messages: filtered }
    }
}

/// As a store answers that was put back by so many revisions.
fn set_back(mut answer: Answer, by: i64) -> Answer {
    if let Answer::Txn { revision, .. } = &mut answer {
        revision.0 -= by;
    }
    answer
}

async fn pass(
    mut messages: mpsc::Receiver<WatchMessage>,
    out: mpsc::Sender<WatchMessage>,
    cut: Arc<AtomicBool>,
    lost: Lost,
) {
    while let Some(mut message) = messages.recv().await {
        if let WatchMessage::Events { events, .. } = &mut message {
            let mut lost = lost.lock().unwrap();
            events.retain(|event| !lost.remove(event.key()));
        }
        if !cut.load(Ordering::SeqCst) && out.send(message).await.is_err() {
            return;
        }
    }
}

/// A cluster: a store that outlives its coordinators.
pub struct Cluster {
    pub store: Arc<Embedded>,
    pub cut: Arc<AtomicBool>,
    /// By how much the revisions in answers are behind.
    pub back: Arc<AtomicI64>,
    pub hangs: Arc<AtomicBool>,
}

impl Cluster {
    pub fn new() -> Cluster {
        let store = Embedded::in_memory().unwrap();
        Cluster { store, cut: Arc::default(), back: Arc::default(), hangs: Arc::default() }
    }

    pub fn keys(&self) -> Keys {
        Keys::new(PREFIX, RangeCount::DEFAULT)
    }

    pub async fn coordinator(&self, id: &str) -> Api {
        let (inner, cut, back) = (self.store.clone(), self.cut.clone(), self.back.clone());
        let port = Arc::new(CutPort {
            inner,
            cut,
            back,
            lost: Lost::default(),
            hangs: self.hangs.clone(),
        });
        Api { store: self.store.clone(), ..Api::on(port, id, Pace::default()).await }
    }

    pub async fn put(&self, key: Vec<u8>, value: Vec<u8>) {
        let then = vec![Op::Put { key, value, lease: None }];
        let txn = Txn { then, ..Txn::default() };
        self.store.call(Request::Txn(txn)).await.unwrap();
    }
}

/// One coordinator on an empty cluster.
pub async fn api() -> Api {
    Cluster::new().coordinator("c1").await
}

/// A client of one coordinator.
pub struct Api {
    pub running: Running,
    pub client: reqwest::Client,
    pub store: Arc<Embedded>,
}

/// A client, once the process knows which cryptography TLS would use.
pub fn client(builder: reqwest::ClientBuilder) -> reqwest::Client {
    // Only the first call installs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    builder.build().unwrap()
}

/// An answer, read.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Reply {
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.status.is_success(), "{self:?}");
        self.body
    }

    /// Checks that it is a problem with this status and code, and returns it.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        assert_eq!(self.body["code"], code, "{self:?}");
        assert_eq!(self.body["status"], status, "{self:?}");
        self.body
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// The paths of a problem's errors.
pub fn paths(problem: &Value) -> Vec<String> {
    let errors = problem["errors"].as_array().cloned().unwrap_or_default();
    errors.iter().map(|error| error["path"].as_str().unwrap().to_owned()).collect()
}

impl Api {
    /// A coordinator on this shared state, once it serves.
    pub async fn on(port: Arc<dyn Port>, id: &str, compare: Pace) -> Api {
        let id = CoordinatorId::parse(id).unwrap();
        let config = CoordinatorConfig::new(id, SocketAddr::from(([127, 0, 0, 1], 0)));
        let running =
            Coordinator::start(CoordinatorConfig { compare, ..config }, port).await.unwrap();
        tokio::time::timeout(PATIENCE, running.until_ready()).await.unwrap();
        let store = Embedded::in_memory().unwrap();
        Api { running, client: client(reqwest::Client::builder()), store }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.local_addr())
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path))
    }

    pub async fn send(&self, request: RequestBuilder) -> Reply {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.bytes().await.unwrap();
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| text());
        Reply { status, headers, body }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(json_body(self.request(Method::POST, path), body)).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Reply {
        self.send(json_body(self.request(Method::PUT, path), body)).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Reply {
        self.send(json_body(self.request(Method::PATCH, path), body)).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// Creates a task in the namespace `default`.
    pub async fn create(&self, task: &Value) -> Reply {
        self.post("/v1/namespaces/default/tasks", task).await
    }
}

pub fn json_body(request: RequestBuilder, body: &Value) -> RequestBuilder {
    request.header("content-type", "application/json").body(body.to_string())
}

/// Takes a key away, as an agent does that has settled something.
pub async fn delete(api: &Api, key: Vec<u8>) {
    let then = vec![Op::Delete { key }];
    api.store.call(Request::Txn(Txn { then, ..Txn::default() })).await.unwrap();
}

/// A recurring task that does nothing.
pub fn task(name: &str) -> Value {
    json!({"name": name, "schedules": [{"every": "1h"}], "action": {"noop": {}}})
}

/// The path of a task in the namespace `default`.
pub fn at(name: &str) -> String {
    format!("/v1/namespaces/default/tasks/{name}")
}

/// Asks again until `found` says what was waited for.
pub async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut found: impl FnMut() -> F,
) -> T {
    let ask = async {
        loop {
            if let Some(result) = found().await {
                return result;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ask).await.unwrap_or_else(|_| panic!("never happened: {what}"))
}
