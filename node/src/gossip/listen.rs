//! Accepts connections, few at a time until they have proven a key.

use super::handshake::{HandshakeError, Refusal};
use super::limits::{ACCEPT_PAUSE, UNAUTHENTICATED_MAX, UNAUTHENTICATED_PER_IP_MAX};
use super::{Shared, peer};
use aitbc_core::hello::Role;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

/// Accepts until the node stops.
pub async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let door = Arc::new(Door::default());
    loop {
        let accepted = tokio::select! {
            () = shared.stopped() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, address)) => match Door::enter(&door, address.ip()) {
                Ok(pass) => {
                    tokio::spawn(greet(tcp, address, pass, shared.clone()));
                }
                Err(reason) => {
                    shared.refused(reason);
                    debug!(%address, reason, "connection refused");
                }
            },
            Err(error) => {
                shared.refused("accept");
                warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Handshake of one inbound connection; an open channel runs on here.
async fn greet(tcp: TcpStream, address: SocketAddr, pass: Pass, shared: Arc<Shared>) {
    let opened = match tcp.set_nodelay(true) {
        Ok(()) => shared.establish(tcp, Role::Listener, "").await,
        Err(error) => Err(HandshakeError::Connect(error)),
    };
    drop(pass);
    match opened {
        Ok(opened) => peer::run(opened, shared).await,
        Err(HandshakeError::Duplicate(_)) => {}
        Err(error) => {
            shared.refused(error.name());
            let reason = error.name();
            match error {
                HandshakeError::Refused(Refusal::OwnKey) => {
                    warn!(%address, reason, "another process runs with this validator's key: stop one of them");
                }
                HandshakeError::Refused(Refusal::OwnAddress) => debug!(%address, "dialed by this node itself"),
                // Unproven strangers may fill the metric, not the log.
                error => debug!(%address, reason, %error, "connection refused"),
            }
        }
    }
}

/// Counts the sockets that have not proven a key yet.
#[derive(Default)]
struct Door {
    waiting: Mutex<HashMap<IpAddr, usize>>,
}

/// A place among the unauthenticated, given back when dropped.
struct Pass {
    door: Arc<Door>,
    ip: IpAddr,
}

impl Door {
    fn waiting(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place, or says which limit forbids it.
    fn enter(door: &Arc<Door>, ip: IpAddr) -> Result<Pass, &'static str> {
        let mut waiting = door.waiting();
        if waiting.values().sum::<usize>() >= UNAUTHENTICATED_MAX {
            return Err("unauthenticated_max");
        }
        let from_here = waiting.entry(ip).or_default();
        if *from_here >= UNAUTHENTICATED_PER_IP_MAX {
            return Err("unauthenticated_per_ip_max");
        }
        *from_here += 1;
        drop(waiting);
        Ok(Pass { door: door.clone(), ip })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut waiting = self.door.waiting();
        if let Some(count) = waiting.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    #[test]
    fn one_address_takes_8_places_and_all_together_64_and_leaving_frees_them() {
        let door = Arc::new(Door::default());
        let mut passes = Vec::new();
        for host in 0..8 {
            for _ in 0..8 {
                passes.push(Door::enter(&door, ip(host)).expect("a place"));
            }
            if host < 7 {
                assert_eq!(Door::enter(&door, ip(host)).err(), Some("unauthenticated_per_ip_max"));
            }
        }
        assert_eq!(Door::enter(&door, ip(99)).err(), Some("unauthenticated_max"));
        passes.clear();
        assert!(door.waiting().is_empty());
    }
}
