//! The coordinator: a stateless server of the client API. Any number of them serve one cluster, all
//! equal; none of them is needed for a run to start.
//!
//! From the inside out: `catalog` is a copy of the shared state, kept whole by one watch; `links`
//! are the agents that dialled in; `absence` forgets those that are gone for good; `audit` tells
//! which ranges do not come on; `feed` carries
//! what changes to who follows; `service` decides on these, without a transport; `rest`, `grpc` and
//! `ws` are thin coats over the services, on one port. This file ties all together, and stops it.
//!
//! Contract: [`Coordinator::start`] returns once the listener is open and the cluster is known.
//! Reads are refused until the first list is whole (`/readyz` says when). [`Running::stopped`]
//! returns when it ended by itself, which it does when the shared state was put back from a backup.

mod absence;
mod audit;
pub mod bootstrap;
pub mod catalog;
mod clock;
mod config;
pub mod feed;
pub mod grpc;
pub mod links;
mod live;
pub mod metrics;
pub mod rest;
pub mod service;
pub mod stop;
mod timeline;
pub mod ws;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt;
use tocktower_cluster::keys::Keys;
use tocktower_cluster::port::Port;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub use absence::ForgetRules;
pub use catalog::{Outdated, Pace};
pub use config::{CoordinatorConfig, StartError};

use absence::Forgetter;
use audit::{Auditor, Findings};
use catalog::{Catalog, Comparer, Keeper, KeeperConfig, own};
use feed::Feed;
use links::{Interests, Links};
use metrics::Metrics;
use rest::{App, Parts};
use service::{Fleet, Runs, Tasks};
use stop::{Stop, Stopper, stop};

/// Notes of the keeper and the comparer that wait for the catalog's owner.
const NOTES: usize = 16;
/// How long requests in hand may take once the coordinator stops.
const DRAIN: Duration = Duration::from_secs(10);

pub struct Coordinator;

/// A coordinator that serves. It stops when this is dropped; [`Running::shutdown`] waits for that.
pub struct Running {
    local_addr: SocketAddr,
    app: App,
    stopper: Stopper,
    keeper: JoinHandle<Result<(), Outdated>>,
    /// Everything else that goes on.
    tasks: Vec<JoinHandle<()>>,
    ended: watch::Receiver<Option<Outdated>>,
}

impl Coordinator {
    /// Opens the listener, joins the cluster (or makes it) and serves.
    pub async fn start(
        config: CoordinatorConfig,
        port: Arc<dyn Port>,
    ) -> Result<Running, StartError> {
        config.check()?;
        let listen = config.listen;
        let failed = |error| StartError::Listen { listen, error };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let local_addr = listener.local_addr().map_err(failed)?;
        let cluster =
            bootstrap::cluster(&port, &config.prefix, config.range_count_for_new_cluster).await?;

        let (stopper, stop) = stop();
        let catalog = Catalog::new(Keys::new(&config.prefix, cluster.ranges));
        let feed = Feed::new();
        let metrics = Arc::new(Metrics::new());
        let links = Links::new(Interests::new(), feed.clone());
        let runs = Runs::new(catalog.clone(), links.clone(), feed.clone());
        let tasks = Tasks::new(
            catalog.clone(),
            port.clone(),
            cluster.epoch,
            links.clone(),
            runs.clone(),
            metrics.clone(),
        );
        let findings = Findings::default();
        let fleet = Fleet::new(catalog.clone(), links.clone(), port.clone(), findings.clone());
        let app = Arc::new(Parts {
            tasks,
            runs,
            fleet,
            catalog,
            links,
            feed,
            metrics,
            stop: stop.clone(),
        });

        let (notes, notes_in) = mpsc::channel(NOTES);
        let owner = own(
            app.catalog.clone(),
            config.id.clone(),
            port.clone(),
            app.feed.clone(),
            notes_in,
            stop.clone(),
        );
        let owner = tokio::spawn(owner);
        let keeper = KeeperConfig {
            id: config.id.clone(),
            address: config.address(local_addr),
            cluster: cluster.clone(),
            compact: config.compact,
        };
        let comparer = Comparer::new(
            app.catalog.clone(),
            port.clone(),
            notes.clone(),
            app.metrics.clone(),
            config.compare,
        );
        let comparer = tokio::spawn(comparer.compare(stop.clone()));
        let forgetter =
            Forgetter::new(app.catalog.clone(), app.links.clone(), port.clone(), config.forget);
        let forgetter = tokio::spawn(forgetter.look_after(stop.clone()));
        let auditor =
            Auditor::new(app.catalog.clone(), app.links.clone(), app.metrics.clone(), findings);
        let auditor = tokio::spawn(auditor.audit(stop.clone()));
        let keeper = Keeper::new(keeper, app.catalog.clone(), port, notes);
        let (ended_tx, ended) = watch::channel(None);
        let keeper = tokio::spawn(kept(keeper, stop.clone(), ended_tx));
        let server = tokio::spawn(serve(listener, app.clone(), config.id.to_string(), stop));
        tracing::info!(id = %config.id, %local_addr, cluster = cluster.id, "coordinator serves");
        let tasks = vec![owner, comparer, forgetter, auditor, server];
        Ok(Running { local_addr, app, stopper, keeper, tasks, ended })
    }
}

impl Running {
    /// Where it listens, with the port that it got.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Whether its copy of the shared state is whole.
    pub fn ready(&self) -> bool {
        self.app.catalog.ready()
    }

    /// Returns once its copy of the shared state is whole.
    pub async fn until_ready(&self) {
        let mut standing = self.app.catalog.follow_standing();
        // An error would mean that the catalog is gone, which this handle holds.
        let _ = standing.wait_for(|standing| standing.listed && standing.proved.is_some()).await;
    }

    /// Returns when it has ended by itself, with the reason.
    pub async fn stopped(&self) -> Outdated {
        let mut ended = self.ended.clone();
        let ended = ended.wait_for(Option::is_some).await.map(|reason| *reason);
        match ended {
            Ok(Some(reason)) => reason,
            // It was shut down, and has no reason of its own.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// What it serves from, for programs that embed it.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Takes nothing new in, finishes what is in hand, and leaves the cluster.
    pub async fn shutdown(self) {
        self.stopper.stop();
        let all = async {
            // A task that panicked has said so; the others are waited for all the same.
            let _ = self.keeper.await;
            let _ = futures::future::join_all(self.tasks).await;
        };
        if tokio::time::timeout(DRAIN + Duration::from_secs(1), all).await.is_err() {
            tracing::warn!("the coordinator stops with requests in hand");
        }
    }
}

async fn kept(
    keeper: Keeper,
    stop: Stop,
    ended: watch::Sender<Option<Outdated>>,
) -> Result<(), Outdated> {
    let result = keeper.keep(stop).await;
    // Whoever waits for the end says why it came.
    if let Err(outdated) = &result {
        ended.send_replace(Some(*outdated));
    }
    result
}

/// REST, gRPC and WebSocket on one port, HTTP/1 and HTTP/2 without TLS.
async fn serve(listener: TcpListener, app: App, id: String, stop: Stop) {
    let grpc = grpc::routes(&app, id);
    let router = rest::router(app, grpc);
    let listener = listener.tap_io(|stream| {
        // An answer is written in one piece; waiting for more only adds to its latency.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps Nagle's delay");
        }
    });
    let (mut pulled, mut late) = (stop.clone(), stop);
    let serve =
        axum::serve(listener, router).with_graceful_shutdown(async move { pulled.stopped().await });
    let deadline = async move {
        late.stopped().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        result = serve => if let Err(error) = result {
            tracing::error!(%error, "the listener failed");
        },
        () = deadline => {}
    }
}
