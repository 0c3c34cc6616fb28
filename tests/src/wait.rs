//! Waiting for conditions: the only place of the tests that sleeps.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// Pause between two looks: short against what is waited for, long against a look's cost.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until `condition` returns something, and returns that.
///
/// # Errors
/// After `limit`, saying what was waited for.
pub async fn until<T>(what: &str, limit: Duration, condition: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    until_every(LOOK_EVERY, what, limit, condition).await
}

/// As [`until`], with a pause of its own between two looks, for those that cost more: a process, an API server.
///
/// # Errors
/// After `limit`, saying what was waited for.
pub async fn until_every<T>(
    pause: Duration,
    what: &str,
    limit: Duration,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        // A look may hang as well as fail: a killed peer, a stopped server.
        let left = limit.saturating_sub(start.elapsed());
        if let Ok(Some(value)) = tokio::time::timeout(left.max(pause), condition()).await {
            return Ok(value);
        }
        if start.elapsed() >= limit {
            bail!("waited {limit:?} in vain: {what}");
        }
        tokio::time::sleep(pause.min(left)).await;
    }
}

/// As [`until_every`], where a look that fails says why: the last reason is in the error.
///
/// # Errors
/// After `limit`, saying what was waited for and what was there instead.
pub async fn until_ok<T>(
    pause: Duration,
    what: &str,
    limit: Duration,
    mut condition: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let mut last = "no answer".to_owned();
    let start = Instant::now();
    loop {
        let left = limit.saturating_sub(start.elapsed());
        match tokio::time::timeout(left.max(pause), condition()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(cause)) => last = format!("{cause:#}"),
            Err(_) => {}
        }
        if start.elapsed() >= limit {
            bail!("waited {limit:?} in vain: {what}; last: {last}");
        }
        tokio::time::sleep(pause.min(left)).await;
    }
}

/// Lets the system under test run on its own for a while: only where the passing of time is what is tested.
pub async fn let_it_run(time: Duration) {
    tokio::time::sleep(time).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_in_vain_says_for_what() {
        let error = until("the moon", Duration::from_millis(30), || async { None::<()> }).await.expect_err("never");
        assert!(error.to_string().contains("the moon"), "{error}");
    }

    #[tokio::test]
    async fn a_look_that_hangs_does_not_hang_the_wait() {
        let error = until("an answer", Duration::from_millis(30), std::future::pending::<Option<()>>).await;
        assert!(error.is_err());
    }

    #[tokio::test]
    async fn the_last_reason_is_told() {
        let look = || async { anyhow::bail!("it is cloudy") };
        let error = until_ok::<()>(LOOK_EVERY, "the moon", Duration::from_millis(30), look).await.expect_err("never");
        assert!(error.to_string().contains("cloudy"), "{error}");
    }
}
