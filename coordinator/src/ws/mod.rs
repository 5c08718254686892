//! WIP
use crate::rest::App;
use axum::extract::State;
/// The live feed.
#[utoipa::path(get, path = "/v1/watch", tag = "runs", responses((status = 101)))]
pub async fn watch(State(_app): State<App>) -> &'static str {
    ""
}
