//! Which channel is open to whom: at most one a peer, by a rule that both ends keep without flapping.
//!
//! Both validators of a pair dial each other, since neither knows which address is whose. The smaller key decides:
//!
//! ```text
//! larger:  Offer{live}           live = it has a channel with this very process of the other
//! smaller: none yet              → Open
//!          other process         → Open, the old channel is closed: the peer has restarted
//!          live, or just opened  → Duplicate: dials that cross end in one channel
//!          not live              → Open: the peer has lost the channel that still looks open here
//! larger:  on Open closes whatever it has
//! ```
//! Of two processes with one key, the one of the lower lease generation is refused while the other is connected. One process
//! has one channel, whatever keys it shows; and of strangers, whose keys cost nothing, only those keep theirs whose process is
//! the last one that answered at some address of PEERS.

use super::handshake::{Greeting, HandshakeError, Identity, Refusal, Session};
use super::limits::CROSSING;
use super::peer::Outbound;
use super::roster;
use aitbc_core::key::PublicKey;
use aitbc_core::validators::Index;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::watch;

/// Why a channel is ended from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A newer channel has replaced it, or another process its own.
    Replaced,
    /// The other end is no validator of these epochs any more, or has become one: then it may connect anew.
    NotOfEpoch,
}

impl Ending {
    /// Label in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Ending::Replaced => "replaced",
            Ending::NotOfEpoch => "not_of_epoch",
        }
    }

    /// For people.
    pub fn explanation(self) -> &'static str {
        match self {
            Ending::Replaced => "replaced by a newer channel",
            Ending::NotOfEpoch => "another epoch has begun: it is no validator there any more, or has become one",
        }
    }
}

/// An open channel, as the rest of gossip sees it.
pub struct Channel {
    /// Other end.
    pub peer: Index,
    /// Its key.
    pub key: PublicKey,
    /// What waits to be sent.
    pub outbound: Outbound,
    process: [u8; 32],
    generation: u32,
    opened: Instant,
    /// Set once it is to end.
    ending: watch::Sender<Option<Ending>>,
    /// True: its end has been told to the node.
    finished: watch::Sender<bool>,
}

impl Channel {
    /// Returns when this one is to end.
    pub async fn ending(&self) -> Ending {
        // The sender lives as long as self, so waiting cannot fail.
        let ending = self.ending.subscribe().wait_for(Option::is_some).await.ok().and_then(|ending| *ending);
        ending.unwrap_or(Ending::Replaced)
    }

    /// Ends it.
    pub fn end(&self, ending: Ending) {
        self.ending.send_replace(Some(ending));
    }

    /// Returns when the node knows that this channel is gone.
    pub async fn finished(&self) {
        let _ = self.finished.subscribe().wait_for(|finished| *finished).await;
    }

    /// The node knows that this channel is gone.
    pub fn finish(&self) {
        self.finished.send_replace(true);
    }
}

/// The open channels by number.
#[derive(Default)]
pub struct Channels {
    table: Mutex<BTreeMap<Index, Arc<Channel>>>,
    changes: watch::Sender<u64>,
}

/// A channel to run, and the one it replaces.
pub struct Opened {
    /// The encrypted socket and who is at its other end.
    pub session: Session,
    /// Its place in the table.
    pub channel: Arc<Channel>,
    /// To be waited for, so that the node hears of its end first.
    pub old: Option<Arc<Channel>>,
    /// True: the other end still waits for `Open`.
    pub open_due: bool,
}

/// A channel in the table, and the one it replaces.
type Entered = (Arc<Channel>, Option<Arc<Channel>>);

impl Channels {
    fn table(&self) -> MutexGuard<'_, BTreeMap<Index, Arc<Channel>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The channel to a peer.
    pub fn get(&self, peer: Index) -> Option<Arc<Channel>> {
        self.table().get(&peer).cloned()
    }

    /// All open channels, by number.
    pub fn open(&self) -> Vec<Arc<Channel>> {
        self.table().values().cloned().collect()
    }

    /// Calls `act` with each open channel.
    pub fn for_each(&self, act: impl FnMut(&Arc<Channel>)) {
        self.table().values().for_each(act);
    }

    /// Changes whenever a channel opens or closes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Agrees with the other end whether this is the channel, and enters it.
    ///
    /// # Errors
    /// `Duplicate` where another one stays, `Refused` for an outdated process or one that may have no channel any more; the peer
    /// has been told, or sees the socket closed where it has opened the channel already.
    pub async fn agree(&self, mut session: Session, identity: &Identity) -> Result<Opened, HandshakeError> {
        let peer = session.peer;
        let key = session.heard.hello.key;
        if self.get(peer).is_some_and(|open| open.key == key && open.generation > session.heard.hello.generation) {
            return Err(session.secure.refuse(Refusal::Stale).await);
        }
        if identity.public < session.heard.hello.key {
            let live = match session.secure.hear().await? {
                Greeting::Offer { live } => live,
                Greeting::Refused(refusal) => return Err(HandshakeError::RefusedByPeer(refusal)),
                _ => return Err(HandshakeError::Unexpected),
            };
            match self.enter_unless_duplicate(&session, live, identity) {
                // Open is said by whoever runs the channel: nothing here may be cut short once the channel is entered.
                Ok((channel, old)) => Ok(Opened { session, channel, old, open_due: true }),
                Err(HandshakeError::Refused(refusal)) => Err(session.secure.refuse(refusal).await),
                Err(duplicate) => {
                    session.secure.say(&Greeting::Duplicate).await?;
                    Err(duplicate)
                }
            }
        } else {
            let live = self.get(peer).is_some_and(|open| open.key == key && open.process == session.process);
            session.secure.say(&Greeting::Offer { live }).await?;
            match session.secure.hear().await? {
                Greeting::Open => {
                    let (channel, old) = self.enter(&session, identity)?;
                    Ok(Opened { session, channel, old, open_due: false })
                }
                Greeting::Duplicate => Err(HandshakeError::Duplicate(peer)),
                Greeting::Refused(refusal) => Err(HandshakeError::RefusedByPeer(refusal)),
                _ => Err(HandshakeError::Unexpected),
            }
        }
    }

    /// The decision of the smaller key.
    fn enter_unless_duplicate(
        &self,
        session: &Session,
        live: bool,
        identity: &Identity,
    ) -> Result<Entered, HandshakeError> {
        let mut table = self.table();
        // A stranger's process keeps its number with another key, whose channel takes the place of the one it had.
        let duplicate = table.get(&session.peer).is_some_and(|open| {
            let same = open.key == session.heard.hello.key && open.process == session.process;
            same && (live || open.opened.elapsed() < CROSSING)
        });
        if duplicate {
            return Err(HandshakeError::Duplicate(session.peer));
        }
        let entered = replace(&mut table, session, identity)?;
        drop(table);
        self.changed();
        Ok(entered)
    }

    fn enter(&self, session: &Session, identity: &Identity) -> Result<Entered, HandshakeError> {
        let mut table = self.table();
        let entered = replace(&mut table, session, identity)?;
        drop(table);
        self.changed();
        Ok(entered)
    }

    /// Takes a channel out, if it is still the one.
    pub fn remove(&self, channel: &Arc<Channel>) {
        let mut table = self.table();
        if table.get(&channel.peer).is_some_and(|open| Arc::ptr_eq(open, channel)) {
            table.remove(&channel.peer);
        }
        drop(table);
        self.changed();
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

fn replace(
    table: &mut BTreeMap<Index, Arc<Channel>>,
    session: &Session,
    identity: &Identity,
) -> Result<Entered, HandshakeError> {
    // While the two agreed an epoch may have begun, or the number have gone to another, whose channel must not end for this one.
    // Under the table's lock: a change that comes later finds the channel here.
    if identity.roster().number_of(&session.heard.hello.key) != Some(session.peer) {
        return Err(HandshakeError::Refused(Refusal::UnknownKey));
    }
    for open in table.values().filter(|open| open.peer != session.peer) {
        let gone = roster::is_stranger(open.peer) && !identity.answered.contains(&open.process);
        if gone || open.process == session.process {
            open.end(Ending::Replaced);
        }
    }
    let channel = Arc::new(Channel {
        peer: session.peer,
        key: session.heard.hello.key,
        outbound: Outbound::default(),
        process: session.process,
        generation: session.heard.hello.generation,
        opened: Instant::now(),
        ending: watch::Sender::new(None),
        finished: watch::Sender::new(false),
    });
    let old = table.insert(channel.peer, channel.clone());
    if let Some(old) = &old {
        old.end(Ending::Replaced);
    }
    Ok((channel, old))
}
