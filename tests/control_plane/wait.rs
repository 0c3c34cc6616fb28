//! The one place that sleeps: polls until something is so, or says what was last seen.

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// Waits until `look` gives `Ok`; `Err` says what is still missing.
pub async fn until<T, E: Debug, F: Future<Output = Result<T, E>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let began = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(missing) if began.elapsed() > PATIENCE => {
                panic!("{what}: not within {PATIENCE:?}; last seen: {missing:?}")
            }
            Err(_) => tokio::time::sleep(BETWEEN_LOOKS).await,
        }
    }
}

/// Watches for a while that something stays so.
pub async fn stays<E: Debug, F: Future<Output = Result<(), E>>>(
    what: &str,
    time: Duration,
    mut look: impl FnMut() -> F,
) {
    let began = Instant::now();
    while began.elapsed() < time {
        if let Err(seen) = look().await {
            panic!("{what}: no longer so after {:?}: {seen:?}", began.elapsed());
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}
