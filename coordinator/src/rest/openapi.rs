//! The description of the REST API, made from the code and checked in.
//!
//! Handlers carry their own description beside their code, so that it is changed with them; the
//! file in the repository makes a change of the API show in review, and is what clients are made
//! from. A test compares the two; `TOCKTOWER_WRITE=1` writes the file anew. Nothing is written by
//! hand, so it cannot promise what is not built.

use utoipa::OpenApi;

use super::{batch, fleet, health, runs, tasks, why};
use crate::ws;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tocktower",
        description = "Tasks that run on a fleet of hosts at the right moment. Times are RFC 3339 \
            with an offset, durations are written as `90s`, `5m`, `1h30m`. Unknown fields and \
            parameters are refused by name. Errors are RFC 9457 problems with a stable `code`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        tasks::create, tasks::put, tasks::get, tasks::patch, tasks::delete, tasks::list,
        tasks::pause, tasks::resume, tasks::trigger, tasks::upcoming, tasks::preview,
        why::why,
        batch::create,
        runs::list_all, runs::list_of_task, runs::get, runs::cancel, runs::output,
        fleet::agents, fleet::agent, fleet::patch, fleet::cordon, fleet::drain, fleet::uncordon,
        fleet::forget, fleet::pools, fleet::ranges,
        ws::watch,
        health::healthz, health::readyz, health::metrics, health::openapi,
    ),
    tags(
        (name = "tasks", description = "What should run when"),
        (name = "runs", description = "What came of it"),
        (name = "fleet", description = "Agents, pools and ranges"),
        (name = "health", description = "The coordinator itself"),
    ),
)]
pub struct ApiDoc;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_in_the_repository_is_that_of_the_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
        let made = ApiDoc::openapi().to_pretty_json().unwrap() + "\n";
        if std::env::var_os("TOCKTOWER_WRITE").is_some() {
            std::fs::write(path, &made).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(kept == made, "openapi.json differs: run this test with TOCKTOWER_WRITE=1");
    }
}
