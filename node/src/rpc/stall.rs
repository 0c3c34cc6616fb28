//! A connection that ends where the client does not read: what is written for it must not lie in memory for ever.

use std::future::Future;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How long a write may wait for the client to read.
const LIMIT: Duration = Duration::from_secs(30);

/// A stream whose writes fail once they have made no progress for a while.
pub(super) struct StallLimit<S> {
    stream: S,
    limit: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> StallLimit<S> {
    pub(super) fn new(stream: S) -> Self {
        StallLimit { stream, limit: LIMIT, waiting: None }
    }

    /// `progress` of a write, or an error where there was none for too long.
    fn limited<T>(&mut self, cx: &mut Context<'_>, progress: Poll<Result<T>>) -> Poll<Result<T>> {
        if progress.is_ready() {
            self.waiting = None;
            return progress;
        }
        let until = Instant::now() + self.limit;
        let timer = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        timer.as_mut().poll(cx).map(|()| Err(Error::new(ErrorKind::TimedOut, "the client does not read")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StallLimit<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StallLimit<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.limited(cx, progress)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.limited(cx, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_flush(cx);
        self.limited(cx, progress)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.limited(cx, progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_write_fails_only_after_the_limit_without_progress() {
        let (near, mut far) = tokio::io::duplex(8);
        let limit = Duration::from_millis(200);
        let mut stream = StallLimit { limit, ..StallLimit::new(near) };
        let start = Instant::now();
        let reader = tokio::spawn(async move {
            // Slow, but never slower than the limit.
            let mut byte = [0; 4];
            for _ in 0..20 {
                tokio::time::sleep(limit / 10).await;
                far.read_exact(&mut byte).await.expect("readable");
            }
            far
        });
        stream.write_all(&[0; 80]).await.expect("progress all the time");
        let far = reader.await.expect("no panic");
        let error = stream.write_all(&[0; 40]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() >= limit * 2);
        drop(far);
    }
}
