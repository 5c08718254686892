//! WIP
use crate::links::LinkServer;
use crate::rest::App;
use axum::Router;
use tocktower_proto::v1::agent_link_server::AgentLinkServer;
pub fn routes(app: &App, id: String) -> Router {
    let link = AgentLinkServer::new(LinkServer::new(app.links.clone(), id, app.stop.clone()));
    tonic::service::Routes::new(link).into_axum_router()
}
