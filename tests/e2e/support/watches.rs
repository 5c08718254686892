//! A road to etcd on which watches fall silent without an end, while all else goes on: leases are
//! kept alive, lists and transactions are answered, connections stay open and answer pings. So it
//! is with a member that applies nothing, and behind a proxy that has lost what it carried.
//!
//! It has to know streams from one another, so it carries requests of HTTP/2, and not bytes as
//! `relay` does. A watch has a connection of its own to etcd: what is held back in it fills no
//! window of others.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use futures::{StreamExt, stream};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::body::Body as GrpcBody;
use tonic::client::GrpcService;
use tonic::transport::{Channel, Endpoint};

const WATCH: &str = "/etcdserverpb.Watch/Watch";

pub struct WatchRelay {
    pub endpoint: String,
    road: Arc<Road>,
}

struct Road {
    etcd: Endpoint,
    /// Where all but watches goes.
    calls: Channel,
    /// Streams of watches are numbered as they are opened.
    opened: AtomicU64,
    silence: watch::Sender<Silence>,
}

/// Which streams of watches say nothing.
#[derive(Clone, Copy, Default)]
struct Silence {
    /// All before this one, for good.
    before: u64,
    /// And all that are opened later, as long as this is set: they speak then.
    later: bool,
}

impl WatchRelay {
    /// Carries what comes to `endpoint` on to `target`, which is `http://<host>:<port>`.
    pub async fn start(target: &str) -> WatchRelay {
        let etcd = Endpoint::from_shared(target.to_owned()).expect("a URL").tcp_nodelay(true);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("its address"));
        let silence = watch::Sender::new(Silence::default());
        let (calls, opened) = (etcd.connect_lazy(), AtomicU64::new(0));
        let road = Arc::new(Road { etcd, calls, opened, silence });
        let router = Router::new().fallback(carry).with_state(road.clone());
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap_or_default());
        tokio::spawn(async move { axum::serve(listener, router).await });
        WatchRelay { endpoint, road }
    }

    /// Watches say nothing any more, and do not end: those that are open for good, those that are
    /// opened from now on until they may speak.
    pub fn fall_silent(&self) {
        let before = self.road.opened.load(Ordering::Relaxed);
        self.road.silence.send_replace(Silence { before, later: true });
    }

    /// Watches that were opened since they fell silent say what they have to say.
    pub fn new_ones_speak(&self) {
        self.road.silence.send_modify(|silence| silence.later = false);
    }
}

async fn carry(State(road): State<Arc<Road>>, request: Request) -> Response {
    match road.carried(request).await {
        Ok(answer) => answer,
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

impl Road {
    async fn carried(&self, request: Request) -> Result<Response, tonic::transport::Error> {
        let watches = request.uri().path() == WATCH;
        let mut etcd = if watches { self.etcd.connect().await? } else { self.calls.clone() };
        poll_fn(|context| GrpcService::<GrpcBody>::poll_ready(&mut etcd, context)).await?;
        let answer = GrpcService::call(&mut etcd, request.map(GrpcBody::new)).await?;
        Ok(answer.map(|answers| match watches {
            true => self.silenced(answers),
            false => Body::new(answers),
        }))
    }

    /// The answers of a watch, as long as it may speak.
    fn silenced(&self, answers: GrpcBody) -> Body {
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        let (parts, silence) = (Body::new(answers).into_data_stream(), self.silence.subscribe());
        let told = stream::unfold((parts, silence), move |(mut parts, mut silence)| async move {
            let part = parts.next().await?;
            silence.wait_for(|silence| !silence.falls_on(number)).await.ok()?;
            Some((part, (parts, silence)))
        });
        Body::from_stream(told)
    }
}

impl Silence {
    fn falls_on(self, number: u64) -> bool {
        self.later || number < self.before
    }
}
