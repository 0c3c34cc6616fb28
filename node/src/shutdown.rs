//! The wish to stop, told once to everybody who waits for it.

use tokio::sync::watch;

/// Waits for the wish to stop; cheap to clone.
#[derive(Clone)]
pub struct Shutdown(watch::Receiver<bool>);

/// Tells it; dropping it tells it too.
pub struct ShutdownTrigger(watch::Sender<bool>);

/// A trigger and what it reaches.
pub fn channel() -> (ShutdownTrigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (ShutdownTrigger(sender), Shutdown(receiver))
}

impl ShutdownTrigger {
    /// Asks everybody to stop.
    pub fn trigger(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Returns once stopping was asked for.
    pub async fn asked(&self) {
        let mut receiver = self.0.clone();
        // An error means the trigger is gone, which is the same wish.
        let _ = receiver.wait_for(|stop| *stop).await;
    }

    /// The wish as a value that becomes true.
    pub fn receiver(&self) -> watch::Receiver<bool> {
        self.0.clone()
    }

    /// Whether stopping was asked for.
    pub fn is_asked(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

/// Returns at SIGTERM or SIGINT.
///
/// # Errors
/// Where signals cannot be listened to.
pub async fn signal() -> std::io::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    })
}
