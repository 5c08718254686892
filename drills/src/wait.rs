//! Waiting for a condition, with a limit, and with what was seen last when it is not met.

use std::time::{Duration, Instant};

use crate::error::Error;
use crate::limits::POLL;

/// Looks until there is a value.
pub async fn until<T>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, Error> {
    let begun = Instant::now();
    loop {
        match look().await {
            Ok(value) => return Ok(value),
            Err(last) if begun.elapsed() > within => {
                return Err(Error::Late { what: what.to_owned(), within, last });
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}
