//! The operator's own HTTP: `/healthz` (the process turns), `/readyz` (it watches, or stands by), `/metrics`.

use crate::metrics::Metrics;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// What keeps the operator from working; shared by those who know.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<Option<String>>>);

impl Readiness {
    /// Not ready yet, for this reason.
    pub fn waiting(reason: impl Into<String>) -> Self {
        Readiness(Arc::new(Mutex::new(Some(reason.into()))))
    }

    /// Says what is in the way; `None`: nothing.
    pub fn set(&self, obstacle: Option<String>) {
        if let Ok(mut current) = self.0.lock() {
            *current = obstacle;
        }
    }

    fn obstacle(&self) -> Option<String> {
        self.0.lock().ok().and_then(|current| current.clone())
    }
}

/// Serves until the process ends.
///
/// # Errors
/// Where the address cannot be listened on.
pub async fn serve(address: SocketAddr, metrics: Metrics, readiness: Readiness) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz).with_state(readiness))
        .route("/metrics", get(text).with_state(metrics));
    let listener = tokio::net::TcpListener::bind(address).await?;
    axum::serve(listener, routes).await
}

async fn readyz(State(readiness): State<Readiness>) -> (StatusCode, String) {
    match readiness.obstacle() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(obstacle) => (StatusCode::SERVICE_UNAVAILABLE, format!("{obstacle}\n")),
    }
}

async fn text(State(metrics): State<Metrics>) -> String {
    metrics.text()
}
