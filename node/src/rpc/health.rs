//! `GET /health`: alive as long as the consensus loop turns; blocks, peers and the database do not matter.

use super::Api;
use super::error::ApiError;
use super::query::Parameters;
use crate::pulse::Pulse;
use aitbc_core::key::Address;
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A loop that has not turned for this long hangs; it ticks several times a second.
const STALLED_AFTER: Duration = Duration::from_secs(10);

/// The node is alive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// Always `ok`: anything else is an error answer.
    pub status: String,
    /// Name of the chain.
    pub chain_id: String,
    /// The same, as the prototype lists it.
    #[serde(default)]
    pub supported_chains: Vec<String>,
    /// Address of the own key, as the prototype calls it; `None` without a key.
    #[serde(default)]
    pub proposer_id: Option<Address>,
    /// Milliseconds since the loop turned.
    pub last_turn_ms_ago: u64,
}

pub(super) async fn health(State(api): State<Api>, uri: Uri) -> Result<Json<Health>, ApiError> {
    Parameters::read(&uri, &[])?;
    let age = turning(&api.view.pulse, STALLED_AFTER)?;
    let chain_id = api.view.identity.genesis.chain_id.clone();
    Ok(Json(Health {
        status: "ok".into(),
        supported_chains: vec![chain_id.clone()],
        chain_id,
        proposer_id: api.view.identity.key.map(|key| key.address()),
        last_turn_ms_ago: age.as_millis() as u64,
    }))
}

/// Time since the last turn of the loop, as long as it is no longer than `limit`.
fn turning(pulse: &Pulse, limit: Duration) -> Result<Duration, ApiError> {
    let last = Duration::from_millis(pulse.last_turn_ms.load(Ordering::Relaxed));
    let age = pulse.started.elapsed().saturating_sub(last);
    if age > limit { Err(ApiError::Stalled { age }) } else { Ok(age) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_loop_that_does_not_turn_is_told_from_one_that_does() {
        let ago = Duration::from_millis(500);
        let pulse = Pulse { started: Instant::now().checked_sub(ago).expect("uptime"), ..Pulse::default() };
        let error = turning(&pulse, Duration::from_millis(100)).expect_err("hangs");
        assert_eq!((error.status().as_u16(), error.code()), (503, "STALLED"));
        pulse.last_turn_ms.store(pulse.started.elapsed().as_millis() as u64, Ordering::Relaxed);
        assert!(turning(&pulse, Duration::from_millis(100)).is_ok());
    }
}
