//! Clients that create, read, replace and delete the same few tasks through two coordinators, over
//! a shared state that is slow, loses answers, and brings changes late: for each task, what they
//! were told can have happened one after the other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use reqwest::Method;
use serde_json::{Value, json};
use tocktower_cluster::embedded::Embedded;
use tocktower_cluster::etcd::{Etcd, EtcdOptions};
use tocktower_cluster::port::{Answer, Port, PortError, Request, WatchStream};
use tocktower_coordinator::Pace;
use tocktower_core::hash::hash_parts;
use tokio::sync::mpsc;

use crate::etcd::EtcdCluster;
use crate::harness::{Api, at, json_body, task};
use crate::history::{Call, Done, Reply, Text, check};

const CLIENTS: u64 = 6;
const TASKS: u64 = 4;
const CALLS: u64 = 120;
const SEEDS: u64 = 6;

/// Numbers from a seed, one after the other.
struct Dice(Mutex<(u64, u64)>);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(Mutex::new((seed, 0)))
    }

    fn below(&self, end: u64) -> u64 {
        let mut at = self.0.lock().unwrap();
        at.1 += 1;
        hash_parts(&[&at.0.to_be_bytes(), &at.1.to_be_bytes()]) % end
    }
}

/// A port that is slow now and then, loses answers, and whose watch is behind.
struct Shaky {
    inner: Arc<dyn Port>,
    dice: Arc<Dice>,
}

impl Shaky {
    fn nap(&self, most: u64) -> Duration {
        Duration::from_millis(self.dice.below(most))
    }
}

impl Port for Shaky {
    fn call(&self, request: Request) -> BoxFuture<'static, Result<Answer, PortError>> {
        let lost = matches!(request, Request::Txn(_)) && self.dice.below(40) == 0;
        let slow = if self.dice.below(10) == 0 { 30 } else { 3 };
        let (before, after) = (self.nap(slow), self.nap(slow));
        let inner = self.inner.clone();
        async move {
            tokio::time::sleep(before).await;
            let answer = inner.call(request).await;
            tokio::time::sleep(after).await;
            match lost {
                true => Err(PortError::Unknown("the answer was lost".to_owned())),
                false => answer,
            }
        }
        .boxed()
    }

    fn watch(&self, capacity: usize) -> WatchStream {
        let WatchStream { commands, mut messages } = self.inner.watch(capacity);
        let (out, late) = mpsc::channel(capacity);
        let (on_its_way, mut arriving) = mpsc::unbounded_channel();
        let dice = self.dice.clone();
        tokio::spawn(async move {
            while let Some(message) = messages.recv().await {
                let at = Instant::now() + Duration::from_millis(dice.below(120));
                if on_its_way.send((at, message)).is_err() {
                    return;
                }
            }
        });
        tokio::spawn(async move {
            while let Some((at, message)) = arriving.recv().await {
                tokio::time::sleep_until(at.into()).await;
                if out.send(message).await.is_err() {
                    return;
                }
            }
        });
        WatchStream { commands, messages: late }
    }
}

/// What one client asks for, and what it was told of each task.
struct Client<'a> {
    api: &'a Api,
    number: u64,
    dice: Dice,
    /// The newest text and revision that it has seen of each task.
    seen: BTreeMap<u64, (Text, i64)>,
    /// Calls that said nothing.
    silent: usize,
}

impl Client<'_> {
    async fn ask(mut self) -> (Vec<(u64, Done)>, usize) {
        let mut told = Vec::new();
        for number in 0..CALLS {
            let task = self.dice.below(TASKS);
            let call = self.choose(task, number);
            let began = Instant::now();
            let reply = self.send(&format!("t{task}"), call).await;
            let ended = Instant::now();
            if let Some(newest) = reply.and_then(|reply| shown(call, reply)) {
                self.seen.insert(task, newest);
            }
            self.silent += usize::from(reply.is_none());
            told.extend(reply.map(|reply| (task, Done { began, ended, call, reply })));
        }
        (told, self.silent)
    }

    fn choose(&self, task: u64, number: u64) -> Call {
        let newest = self.seen.get(&task).copied();
        let again = newest.filter(|_| self.dice.below(3) == 0);
        let text = again.map_or(1_000 * self.number + number, |(text, _)| text);
        match (self.dice.below(10), newest) {
            (0, _) => Call::Create(text),
            (1..3, _) => Call::Put(text),
            (3..5, Some((_, revision))) => Call::PutIf(revision, text),
            (5, _) => Call::Delete,
            (6, Some((_, revision))) => Call::DeleteIf(revision),
            _ => Call::Get,
        }
    }

    /// `None`: it says nothing, since it was given up or is known to be out of date.
    async fn send(&self, name: &str, call: Call) -> Option<Reply> {
        let (path, request) = (at(name), |method| self.api.request(method, &at(name)));
        let answer = match call {
            Call::Create(text) => self.api.create(&described(name, text)).await,
            Call::Put(text) => self.api.put(&path, &described(name, text)).await,
            Call::PutIf(revision, text) => {
                let put = request(Method::PUT).header("if-match", revision.to_string());
                self.api.send(json_body(put, &described(name, text))).await
            }
            Call::Delete => self.api.delete(&path).await,
            Call::DeleteIf(revision) => {
                let delete = request(Method::DELETE).header("if-match", revision.to_string());
                self.api.send(delete).await
            }
            Call::Get => self.api.get(&path).await,
        };
        let deletes = matches!(call, Call::Delete | Call::DeleteIf(_));
        let code = answer.body["code"].as_str().unwrap_or_default();
        let revision = answer.body["revision"].as_i64();
        match (answer.status.as_u16(), code) {
            (200..300, _) if deletes => Some(Reply::Deleted),
            (200, _) if call == Call::Get && answer.body["stale"] == true => None,
            (200, _) if call == Call::Get => Some(Reply::Read(text_of(&answer.body), revision?)),
            (200..300, _) => Some(Reply::Wrote(revision?)),
            (404, "not_found") => Some(Reply::None),
            (409, "already_exists") => Some(Reply::Exists),
            // Given up, as others were quicker each time.
            (412, _) if answer.body["detail"].as_str()?.contains("changes faster") => None,
            (412, "revision_conflict") => Some(Reply::Conflict),
            (503, "outcome_unknown") => Some(Reply::Unknown),
            (503, "store_unavailable") => None,
            _ => panic!("{call:?}: {answer:?}"),
        }
    }
}

fn shown(call: Call, reply: Reply) -> Option<(Text, i64)> {
    match (call, reply) {
        (_, Reply::Read(text, at)) => Some((text, at)),
        (Call::Create(text) | Call::Put(text) | Call::PutIf(_, text), Reply::Wrote(at)) => {
            Some((text, at))
        }
        _ => None,
    }
}

/// A task that says the text, in a pool that follows from it: many replacements are moves.
fn described(name: &str, text: Text) -> Value {
    let mut task = task(name);
    task["description"] = json!(text.to_string());
    task["placement"] = json!({"pool": if text.is_multiple_of(3) { "blue" } else { "default" }});
    task
}

fn text_of(body: &Value) -> Text {
    body["description"].as_str().and_then(|text| text.parse().ok()).expect("as it was described")
}

async fn walk(seed: u64, shared: Arc<dyn Port>) {
    let mut apis = Vec::new();
    for id in ["c1", "c2"] {
        let dice = Arc::new(Dice::new(hash_parts(&[&seed.to_be_bytes(), id.as_bytes()])));
        let port = Arc::new(Shaky { inner: shared.clone(), dice });
        apis.push(Api::on(port, id, Pace::default()).await);
    }
    let clients = (0..CLIENTS).map(|number| {
        let api = &apis[usize::from(number % 2 == 1)];
        Client {
            api,
            number,
            dice: Dice::new(seed * CLIENTS + number),
            seen: BTreeMap::new(),
            silent: 0,
        }
        .ask()
    });
    let (told, silent): (Vec<Vec<(u64, Done)>>, Vec<usize>) =
        join_all(clients).await.into_iter().unzip();
    let (told, silent): (Vec<(u64, Done)>, usize) =
        (told.into_iter().flatten().collect(), silent.into_iter().sum());
    assert!(silent * 10 < told.len(), "{silent} calls were given up, or known to be out of date");
    let count = |is: fn(&Reply) -> bool| told.iter().filter(|(_, done)| is(&done.reply)).count();
    let wrote = count(|reply| matches!(reply, Reply::Wrote(_) | Reply::Deleted));
    let read = count(|reply| matches!(reply, Reply::Read(..)));
    assert!(wrote > 100 && read > 50, "{wrote} written, {read} read: that says little");
    for task in 0..TASKS {
        let of = told.iter().filter(|(of, _)| *of == task).map(|(_, done)| done.clone());
        let judged = check(&of.collect::<Vec<_>>());
        assert!(judged.is_ok(), "seed {seed}, t{task}: {}", judged.unwrap_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_one_task_through_two_coordinators_happen_one_after_the_other() {
    for seed in 0..SEEDS {
        walk(seed, Embedded::in_memory().unwrap()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute and a half"]
async fn many_more_of_them() {
    for seed in 1_000..1_100 {
        walk(seed, Embedded::in_memory().unwrap()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_real_etcd_they_do_too() {
    let etcd = EtcdCluster::start(1).await;
    let port = Etcd::connect(&etcd.endpoints(), EtcdOptions::default()).unwrap();
    walk(100, port).await;
}
