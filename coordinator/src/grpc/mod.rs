//! gRPC over the same services and on the same port as REST, with reflection and health.
//!
//! Thin as `rest` is: each call reads its message, calls a service, writes the answer. `status` is
//! the one table of refusals. Health says what `/readyz` says, for load balancers that ask in gRPC;
//! reflection lets `grpcurl` work without our files. The link of agents is served here too, with
//! larger messages, since an answer to a query may hold a thousand runs. What a message may hold is
//! looked at in `bounds`, before any of it is decoded.

mod bounds;
mod fleet;
mod runs;
mod status;
mod tasks;
mod values;
mod why;

use axum::{Router, middleware};
use tocktower_core::limits;
use tocktower_proto::FILE_DESCRIPTOR_SET;
use tocktower_proto::v1::agent_link_server::AgentLinkServer;
use tocktower_proto::v1::fleet_service_server::FleetServiceServer;
use tocktower_proto::v1::run_service_server::RunServiceServer;
use tocktower_proto::v1::task_service_server::TaskServiceServer;
use tonic::service::Routes;
use tonic_health::ServingStatus;

use crate::catalog::Catalog;
use crate::links::LinkServer;
use crate::rest::App;
use crate::stop::Stop;

pub use status::{PROBLEM_METADATA, code_of};

/// Largest message of an agent: an answer of a thousand runs with all their attempts.
const LINK_MESSAGE_BYTES_MAX: usize = 16 * 1_024 * 1_024;

/// All gRPC services. `id` is this coordinator's, for agents.
pub fn routes(app: &App, id: String) -> Router {
    let (health, health_server) = tonic_health::server::health_reporter();
    tokio::spawn(report(health, app.catalog.clone(), app.stop.clone()));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptors are made by the build");
    let request_max = limits::REQUEST_BYTES_MAX;
    let link = LinkServer::new(app.links.clone(), id, app.stop.clone());
    let link = AgentLinkServer::new(link)
        .max_decoding_message_size(LINK_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(LINK_MESSAGE_BYTES_MAX);
    let tasks = TaskServiceServer::new(tasks::TaskApi::new(app.clone()))
        .max_decoding_message_size(request_max);
    let runs = RunServiceServer::new(runs::RunApi::new(app.clone()))
        .max_decoding_message_size(request_max);
    let fleet = FleetServiceServer::new(fleet::FleetApi::new(app.clone()));
    Routes::new(link)
        .add_service(tasks)
        .add_service(runs)
        .add_service(fleet)
        .add_service(health_server)
        .add_service(reflection)
        .into_axum_router()
        .layer(middleware::from_fn(bounds::bounded))
}

/// Serving means what `/readyz` means: the copy of the shared state is whole and fresh.
async fn report(health: tonic_health::server::HealthReporter, catalog: Catalog, mut stop: Stop) {
    let mut standing = catalog.follow_standing();
    loop {
        let serving = catalog.ready() && !catalog.stale();
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        health.set_service_status("", status).await;
        tokio::select! {
            // A change of the standing, or the time after which silence means stale.
            changed = standing.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(crate::catalog::STALE_AFTER) => {}
            () = stop.stopped() => return,
        }
        // Once a second is often enough; the standing changes with every write.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
}
