//! Gossip over real sockets: who is let in, one channel a pair, priorities, slow and hostile peers.

mod fuzz;

use super::handshake::{self, Greeting, Refusal, Session};
use super::limits::PROTOCOL;
use super::wire::{Assembler, Incoming};
use super::*;
use crate::tests::unsigned;
use aitbc_core::batch::Batch;
use aitbc_core::epoch::Sets;
use aitbc_core::hash::plain;
use aitbc_core::hello::{Hello, Role};
use aitbc_core::key::{Address, PublicKey, Signature};
use aitbc_core::message::{Blocks, MAX_MESSAGE_BYTES, Status};
use aitbc_core::transaction::{Action, Payment, SignedTransaction, Transaction};
use aitbc_core::validators::{Validator, ValidatorSet};
use aitbc_core::vote::{Kind, Statement, Vote};
use futures_util::{SinkExt, StreamExt};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message as Frame;

/// Longest a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until something holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "still waiting: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn keys(n: u8) -> Vec<Arc<SecretKey>> {
    let mut keys: Vec<_> = (1..=n).map(|i| Arc::new(SecretKey::from_seed([i; 32]))).collect();
    keys.sort_by_key(|key| key.public());
    keys
}

fn set_of(keys: &[Arc<SecretKey>]) -> Arc<ValidatorSet> {
    let members = keys.iter().map(|key| Validator { key: key.public(), weight: 1 }).collect();
    Arc::new(ValidatorSet::new(members).expect("a set"))
}

fn chain() -> Hash {
    plain(b"test chain")
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A port that was free a moment ago.
fn free_address() -> SocketAddr {
    std::net::TcpListener::bind(any_port()).and_then(|listener| listener.local_addr()).expect("a free port")
}

fn quick() -> Timing {
    let ms = Duration::from_millis;
    Timing { handshake: ms(500), ping: ms(100), dead: ms(1_500) }
}

struct Setup {
    keys: Vec<Arc<SecretKey>>,
    set: Arc<ValidatorSet>,
    listen: SocketAddr,
    peers: Vec<String>,
    chain: Hash,
    generation: u32,
    timing: Timing,
    events: usize,
}

impl Setup {
    fn new(keys: &[Arc<SecretKey>]) -> Self {
        Setup {
            keys: keys.to_vec(),
            set: set_of(keys),
            listen: any_port(),
            peers: vec![],
            chain: chain(),
            generation: 1,
            timing: Timing::default(),
            events: 1_024,
        }
    }

    fn peers(mut self, peers: &[SocketAddr]) -> Self {
        self.peers = peers.iter().map(ToString::to_string).collect();
        self
    }

    fn start(self, index: usize) -> Node {
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let config = GossipConfig {
            listen: self.listen,
            peers: self.peers,
            chain: self.chain,
            allowed: Peers::of_set(&self.set),
            key: self.keys[index].clone(),
            generation: self.generation,
            metrics: metrics.clone(),
        };
        let (sender, events) = mpsc::channel(self.events);
        let (stop, stopped) = watch::channel(false);
        let gossip = Gossip::start_with(config, self.timing, sender, stopped).expect("starts");
        Node { gossip, events, stop, metrics }
    }
}

struct Node {
    gossip: GossipHandle,
    events: mpsc::Receiver<GossipEvent>,
    stop: watch::Sender<bool>,
    metrics: Arc<Metrics>,
}

impl Node {
    fn address(&self) -> SocketAddr {
        self.gossip.local_addr()
    }

    fn refused(&self, reason: &str) -> u64 {
        self.metrics.network_refused.with_label_values(&[reason]).get()
    }

    async fn connected_to(&self, peers: &[Index]) {
        until(&format!("connected to {peers:?}"), || self.gossip.connected() == peers).await;
    }

    async fn event(&mut self) -> GossipEvent {
        tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("an event in time").expect("gossip runs")
    }

    /// The next message, whatever connects or disconnects before it.
    async fn message(&mut self) -> (Index, Message) {
        loop {
            if let GossipEvent::Message(from, message) = self.event().await {
                return (from, message);
            }
        }
    }
}

fn status(height: u64) -> Message {
    Message::Status(Status { epoch: 0, final_slot: 0, frontier: 1, height, ready: true })
}

fn vote(slot: u64) -> Message {
    let statement = Statement { epoch: 0, slot, kind: Kind::Skip, digest: Hash::ZERO };
    Message::Vote(Vote { statement, signer: 0, signature: Signature([0; 64]) })
}

/// A batch of about `kib` KiB.
fn batch(seq: u64, kib: usize) -> Batch {
    let payments = vec![Payment { to: Address([1; 20]), amount: 1 }; 32];
    let action = Action::TransferMany { payments };
    let transaction = Transaction { sender: PublicKey([2; 32]), nonce: 0, fee: 1, expiry_height: 9, action };
    let tx = SignedTransaction { transaction, signature: Signature([3; 64]) };
    let txs = vec![tx.clone(); kib * 1_024 / tx.encoded_len()];
    Batch { epoch: 0, author: 0, seq, expiry_height: 9, txs, signature: Signature([4; 64]) }
}

/// An answer of block sync of nearly 4 MiB.
fn blocks(n: u64) -> Message {
    let batches = (0..15).map(|seq| batch(seq, 255)).collect();
    let blocks = vec![aitbc_core::block::Block { header: unsigned(n).header, batches }];
    Message::Blocks(Blocks { blocks, ..Blocks::default() })
}

fn identity(keys: &[Arc<SecretKey>], index: usize, generation: u32) -> Identity {
    Identity {
        chain: chain(),
        roster: Mutex::new(Roster::new(Peers::of_set(&set_of(keys)))),
        key: keys[index].clone(),
        public: keys[index].public(),
        generation,
        process: Identity::generate_process_key().expect("randomness"),
        bindings: handshake::Bindings::default(),
        answered: handshake::Answered::default(),
        turns: Turns::default(),
    }
}

/// A dialer under the test's control, up to the Hellos.
async fn dial_by_hand(to: SocketAddr, identity: &Identity) -> Result<Session, HandshakeError> {
    let tcp = TcpStream::connect(to).await.expect("connects");
    // As gossip itself dials: else each step of a handshake waits 40 ms for a delayed acknowledgement.
    tcp.set_nodelay(true).expect("a socket");
    let socket = handshake::upgrade(tcp, Role::Dialer, "test").await?;
    handshake::authenticate(socket, Role::Dialer, identity).await
}

/// A peer under the test's control with an open channel to validator 0, which decides.
async fn open_by_hand(to: SocketAddr, identity: &Identity) -> Session {
    let mut session = dial_by_hand(to, identity).await.expect("authenticated");
    session.secure.say(&Greeting::Offer { live: false }).await.expect("said");
    assert_eq!(session.secure.hear().await.expect("heard"), Greeting::Open);
    session
}

#[tokio::test]
async fn two_validators_connect_and_exchange_messages() {
    let keys = keys(2);
    let mut a = Setup::new(&keys).start(0);
    let mut b = Setup::new(&keys).peers(&[a.address()]).start(1);
    assert!(matches!(a.event().await, GossipEvent::Connected(1, _)));
    assert!(matches!(b.event().await, GossipEvent::Connected(0, _)));
    a.gossip.send(1, &status(5)).expect("queued");
    assert_eq!(b.message().await, (0, status(5)));
    b.gossip.broadcast(&vote(7)).expect("queued");
    assert_eq!(a.message().await, (1, vote(7)));
    assert_eq!(a.gossip.send(0, &status(1)), Err(SendError::NotConnected(0)));
    assert_eq!(a.metrics.network_peers.get(), 1);
}

#[tokio::test]
async fn messages_of_4_mib_arrive_whole_and_larger_ones_are_refused_at_the_sender() {
    let keys = keys(2);
    let a = Setup::new(&keys).start(0);
    let mut b = Setup::new(&keys).peers(&[a.address()]).start(1);
    a.connected_to(&[1]).await;
    let large = Message::Batches { batches: (0..16).map(|seq| batch(seq, 255)).collect() };
    a.gossip.send(1, &large).expect("within the cap");
    assert!(b.message().await == (0, large));
    let too_large = Message::Batches { batches: (0..17).map(|seq| batch(seq, 255)).collect() };
    let error = a.gossip.broadcast(&too_large).expect_err("over the cap");
    assert_eq!((error.name, error.max_bytes), ("batches", MAX_MESSAGE_BYTES));
    a.gossip.send(1, &status(1)).expect("the channel still works");
    assert_eq!(b.message().await, (0, status(1)));
}

#[tokio::test]
async fn a_key_outside_the_set_is_refused() {
    let all = keys(3);
    let a = Setup::new(&all[..2]).start(0);
    let outsider = Setup::new(&all).peers(&[a.address()]).start(2);
    until("refused", || a.refused("unknown_key") > 0 && outsider.refused("refused_by_peer") > 0).await;
    assert!(a.gossip.connected().is_empty());
}

#[tokio::test]
async fn another_genesis_is_refused() {
    let keys = keys(2);
    let a = Setup::new(&keys).start(0);
    let other = Setup { chain: plain(b"another chain"), ..Setup::new(&keys) }.peers(&[a.address()]).start(1);
    until("refused", || a.refused("other_chain") > 0 && other.refused("refused_by_peer") > 0).await;
    assert!(a.gossip.connected().is_empty());
}

#[tokio::test]
async fn a_process_with_the_own_key_is_refused_and_both_count_it() {
    let keys = keys(2);
    let a = Setup::new(&keys).start(0);
    let twin = Setup::new(&keys).peers(&[a.address()]).start(0);
    until("refused", || a.refused("own_key") > 0 && twin.refused("own_key") > 0).await;
    assert!(a.gossip.connected().is_empty());
}

/// Members by index in `keys`, in this order as numbers.
fn roster_of(keys: &[Arc<SecretKey>], members: &[usize]) -> Peers {
    let all: Vec<PublicKey> = keys.iter().map(|key| key.public()).collect();
    let members: Vec<Arc<SecretKey>> = members.iter().map(|index| keys[*index].clone()).collect();
    Peers::of(&all, &Sets::genesis(set_of(&members)))
}

#[tokio::test]
async fn e1_who_becomes_a_validator_is_let_in_and_who_is_none_any_more_loses_its_channel() {
    let keys = keys(3);
    let a = Setup::new(&keys[..2]).start(0);
    // It has the set of genesis too, and is none of it.
    let joiner = Setup { set: set_of(&keys[..2]), ..Setup::new(&keys) }.peers(&[a.address()]).start(2);
    until("refused", || a.refused("unknown_key") > 0).await;
    a.gossip.follow(roster_of(&keys, &[0, 1, 2]));
    a.connected_to(&[2]).await;
    joiner.connected_to(&[0]).await;
    a.gossip.follow(roster_of(&keys, &[0, 1]));
    a.connected_to(&[]).await;
    until("ended", || a.refused("not_of_epoch") > 0).await;
    assert_eq!(a.gossip.number_of(&keys[2].public()), None);
}

#[tokio::test]
async fn e1_a_candidate_is_connected_long_before_the_epoch_in_which_it_validates() {
    let keys = keys(3);
    let a = Setup::new(&keys[..2]).start(0);
    let mut candidate = Setup { set: set_of(&keys[..2]), ..Setup::new(&keys) }.peers(&[a.address()]).start(2);
    until("refused", || a.refused("unknown_key") > 0).await;
    a.gossip.let_in([keys[2].public()].into());
    until("connected", || a.gossip.connected().len() == 1).await;
    let number = a.gossip.connected()[0];
    assert!(number > 2, "none that the core may give");
    candidate.connected_to(&[0]).await;
    a.gossip.broadcast(&Message::Batch(Box::new(batch(1, 4)))).expect("for validators");
    a.gossip.send(number, &Message::Blocks(Blocks::default())).expect("connected");
    assert!(matches!(candidate.message().await, (0, Message::Blocks(_))), "a batch would overtake it");
    // The set of the next epoch has it, and no candidate is let in any more.
    a.gossip.follow(roster_of(&keys, &[0, 1, 2]));
    a.gossip.let_in(BTreeSet::new());
    a.connected_to(&[2]).await;
    candidate.connected_to(&[0]).await;
    a.gossip.follow(roster_of(&keys, &[0, 1]));
    a.connected_to(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_drops_out_while_it_agrees_ends_no_channel_of_who_has_its_number_now() {
    let keys = keys(3);
    let timing = Timing { handshake: PATIENCE, ..Timing::default() };
    let a = Setup { timing, ..Setup::new(&keys[..1]) }.start(0);
    let crowd: BTreeSet<PublicKey> = (0..1_000u32).map(|n| PublicKey(plain(&n.to_le_bytes()).0)).collect();
    let let_in = |index: usize| a.gossip.let_in(crowd.iter().copied().chain([keys[index].public()]).collect());
    let_in(1);
    let mut former = dial_by_hand(a.address(), &identity(&keys, 1, 1)).await.expect("a candidate");
    let number = a.gossip.number_of(&keys[1].public()).expect("admitted");
    let admit = |key: &PublicKey| a.gossip.shared.identity.roster().admit(key, &key.0, |_| false);
    assert!(crowd.iter().any(|key| admit(key).is_none()), "one that drops out leaves its number to the next");
    let_in(2);
    let mut heir = open_by_hand(a.address(), &identity(&keys, 2, 1)).await;
    assert_eq!(a.gossip.number_of(&keys[2].public()), Some(number));
    former.secure.say(&Greeting::Offer { live: false }).await.expect("said");
    assert_eq!(former.secure.hear().await.expect("heard"), Greeting::Refused(Refusal::UnknownKey));
    a.gossip.send(number, &status(7)).expect("connected");
    assert_eq!(read_until(&mut heir, |_| true).await, [status(7)]);
}

#[tokio::test]
async fn e1_whom_a_node_dials_it_connects_to_also_where_it_does_not_know_its_epoch_yet() {
    let keys = keys(2);
    let b = Setup::new(&keys).start(1);
    let behind = Setup { set: set_of(&keys[..1]), ..Setup::new(&keys) }.peers(&[b.address()]).start(0);
    b.connected_to(&[0]).await;
    until("connected", || behind.gossip.connected().len() == 1).await;
    let number = behind.gossip.connected()[0];
    assert_eq!(behind.gossip.key_of(number), Some(keys[1].public()));
    assert!(number > 1, "none that the core may give");
    behind.gossip.follow(roster_of(&keys, &[0, 1]));
    behind.connected_to(&[1]).await;
    b.connected_to(&[0]).await;
}

#[tokio::test]
async fn e1_two_nodes_connect_that_know_no_epoch_of_each_other_where_each_dials_the_other() {
    let (keys, addresses) = (keys(2), [free_address(), free_address()]);
    let start = |own: usize| {
        let setup = Setup { set: set_of(&keys[own..=own]), listen: addresses[own], ..Setup::new(&keys) };
        setup.peers(&[addresses[1 - own]]).start(own)
    };
    let (a, b) = (start(0), start(1));
    for (node, other) in [(&a, 1), (&b, 0)] {
        let other = Some(keys[other].public());
        until("connected", || node.gossip.connected().iter().any(|peer| node.gossip.key_of(*peer) == other)).await;
    }
}

/// What listens at an address of PEERS, once: it shows which process it is, and nothing more.
async fn answer_by_hand(listener: &TcpListener, identity: &Identity) {
    loop {
        let (tcp, _) = listener.accept().await.expect("dialed");
        let Ok(socket) = handshake::upgrade(tcp, Role::Listener, "").await else { continue };
        if handshake::noise(socket, Role::Listener, &identity.process.private).await.is_ok() {
            return;
        }
    }
}

/// [`open_by_hand`] as soon as it is let in.
async fn open_once_let_in(to: SocketAddr, identity: &Identity) -> Session {
    let end = Instant::now() + PATIENCE;
    while dial_by_hand(to, identity).await.is_err() {
        assert!(Instant::now() < end, "still not let in");
    }
    open_by_hand(to, identity).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_of_peers_brings_one_channel_to_unknown_keys_however_many_are_shown() {
    let keys = keys(4);
    let listener = TcpListener::bind(any_port()).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let a = Setup { set: set_of(&keys[..1]), ..Setup::new(&keys) }.peers(&[address]).start(0);
    let (first, mut second, third) = (identity(&keys, 1, 1), identity(&keys, 2, 1), identity(&keys, 3, 1));
    second.process = snow::Keypair { private: first.process.private.clone(), public: first.process.public.clone() };
    let connected_to = |index: usize| {
        let key = keys[index].public();
        move |a: &Node| {
            a.gossip.connected().iter().map(|peer| a.gossip.key_of(*peer)).collect::<Vec<_>>() == [Some(key)]
        }
    };
    answer_by_hand(&listener, &first).await;
    let _one = open_once_let_in(a.address(), &first).await;
    until("the first", || connected_to(1)(&a)).await;
    let _two = open_by_hand(a.address(), &second).await;
    until("the second alone: it is the same process", || connected_to(2)(&a)).await;
    let refused = dial_by_hand(a.address(), &third).await;
    assert!(matches!(refused, Err(HandshakeError::RefusedByPeer(Refusal::UnknownKey))), "nobody leads to it");
    answer_by_hand(&listener, &third).await;
    let _three = open_once_let_in(a.address(), &third).await;
    until("the third alone: the address is its own now", || connected_to(3)(&a)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_shows_key_after_key_waits_its_turn_before_it_gets_a_hello_or_a_number() {
    let keys = keys(12);
    let listener = TcpListener::bind(any_port()).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let a = Setup { set: set_of(&keys[..1]), ..Setup::new(&keys) }.peers(&[address]).start(0);
    let first = identity(&keys, 1, 1);
    answer_by_hand(&listener, &first).await;
    let _first = open_once_let_in(a.address(), &first).await;
    let started = Instant::now();
    for index in 2..12 {
        let pair = snow::Keypair { private: first.process.private.clone(), public: first.process.public.clone() };
        let next = Identity { process: pair, ..identity(&keys, index, 1) };
        dial_by_hand(a.address(), &next).await.expect("a Hello");
    }
    assert!(started.elapsed() >= 9 * limits::REOPEN_AFTER, "{:?}", started.elapsed());
    let numbers = keys[1..].iter().filter_map(|key| a.gossip.number_of(&key.public()));
    assert_eq!(numbers.count(), 1, "of the last key alone");
}

/// Passes one connection on to `to`, and returns what the dialer sent.
async fn record(listener: TcpListener, to: SocketAddr, heard: watch::Sender<Vec<u8>>) {
    let (mut dialer, _) = listener.accept().await.expect("accepts");
    let mut target = TcpStream::connect(to).await.expect("connects");
    let (mut from_target, mut from_dialer) = ([0; 4_096], [0; 4_096]);
    loop {
        tokio::select! {
            n = dialer.read(&mut from_dialer) => {
                let bytes = &from_dialer[..n.unwrap_or(0)];
                heard.send_modify(|all| all.extend_from_slice(bytes));
                if bytes.is_empty() || target.write_all(bytes).await.is_err() { return }
            }
            n = target.read(&mut from_target) => {
                let bytes = &from_target[..n.unwrap_or(0)];
                if bytes.is_empty() || dialer.write_all(bytes).await.is_err() { return }
            }
        }
    }
}

#[tokio::test]
async fn a_recorded_handshake_opens_no_second_channel() {
    let keys = keys(2);
    let a = Setup::new(&keys).start(0);
    let proxy = TcpListener::bind(any_port()).await.expect("binds");
    let through = proxy.local_addr().expect("bound");
    let (heard, recording) = watch::channel(Vec::new());
    tokio::spawn(record(proxy, a.address(), heard));
    let b = Setup::new(&keys).peers(&[through]).start(1);
    a.connected_to(&[1]).await;
    b.stop.send_replace(true);
    a.connected_to(&[]).await;
    let recorded = recording.borrow().clone();
    let mut again = TcpStream::connect(a.address()).await.expect("connects");
    let request = recorded.windows(4).position(|end| end == b"\r\n\r\n").expect("an upgrade") + 4;
    again.write_all(&recorded[..request]).await.expect("sent");
    let upgraded = again.read(&mut [0; 1_024]).await.expect("answered");
    assert!(upgraded > 0);
    again.write_all(&recorded[request..]).await.expect("sent");
    until("the replay is refused", || a.refused("noise") == 1).await;
    assert!(a.gossip.connected().is_empty());
}

#[tokio::test]
async fn a_hello_made_for_another_channel_is_refused() {
    let keys = keys(3);
    let a = Setup::new(&keys).start(0);
    let (relay, victim) = (identity(&keys, 1, 1), identity(&keys, 2, 1));
    let tcp = TcpStream::connect(a.address()).await.expect("connects");
    let socket = handshake::upgrade(tcp, Role::Dialer, "test").await.expect("upgraded");
    let (mut secure, binding, _) =
        handshake::noise(socket, Role::Dialer, &relay.process.private).await.expect("encrypted");
    let mut hello = handshake::say_hello(&victim, Role::Dialer, plain(b"the channel between the victim and the relay"));
    hello.binding = if hello.binding == binding { Hash::ZERO } else { hello.binding };
    secure.say(&Greeting::Hello(hello)).await.expect("said");
    assert_eq!(secure.hear().await.expect("answer"), Greeting::Refused(Refusal::Binding));
}

#[test]
fn a_hello_fits_only_its_own_role_key_chain_protocol_and_channel() {
    let keys = keys(2);
    let (from, to) = (identity(&keys, 1, 3), identity(&keys, 0, 1));
    let binding = plain(b"channel");
    let hello = handshake::say_hello(&from, Role::Dialer, binding);
    let check = handshake::check_hello;
    assert_eq!(check(&hello, &to, Role::Dialer, binding), Ok(()));
    assert_eq!(check(&hello, &to, Role::Listener, binding), Err(Refusal::Signature));
    assert_eq!(check(&hello, &to, Role::Dialer, plain(b"other")), Err(Refusal::Binding));
    assert_eq!(check(&hello, &from, Role::Dialer, binding), Err(Refusal::OwnKey));
    let cases = [
        (Hello { protocol: PROTOCOL - 1, ..hello.clone() }, Refusal::Protocol),
        (Hello { protocol: PROTOCOL + 1, ..hello.clone() }, Refusal::Protocol),
        (Hello { chain: plain(b"other"), ..hello.clone() }, Refusal::Chain),
        (Hello { generation: 4, ..hello.clone() }, Refusal::Signature),
        (Hello { key: keys[0].public(), ..hello.clone() }, Refusal::Signature),
        (Hello { binding: plain(b"other"), ..hello }, Refusal::Binding),
    ];
    for (hello, refusal) in cases {
        assert_eq!(check(&hello, &to, Role::Dialer, binding), Err(refusal));
    }
    let told = format!("speaks another protocol version, {PROTOCOL} is spoken here");
    assert_eq!(Refusal::Protocol.to_string(), told);
}

#[tokio::test]
async fn a_frame_that_announces_a_gigabyte_is_refused_by_its_header() {
    let keys = keys(2);
    let a = Setup::new(&keys).start(0);
    let tcp = TcpStream::connect(a.address()).await.expect("connects");
    let mut socket = handshake::upgrade(tcp, Role::Dialer, "test").await.expect("upgraded");
    let mut header = vec![0x82, 0xff];
    header.extend_from_slice(&(1u64 << 30).to_be_bytes());
    header.extend_from_slice(&[0; 4]);
    socket.get_mut().write_all(&header).await.expect("sent");
    until("refused", || a.refused("websocket") == 1).await;
}

#[tokio::test]
async fn a_stranger_who_says_nothing_or_dribbles_is_cut_off_in_time() {
    let keys = keys(2);
    let a = Setup { timing: quick(), ..Setup::new(&keys) }.start(0);
    let started = Instant::now();
    let silent = TcpStream::connect(a.address()).await.expect("connects");
    let mut dribbling = TcpStream::connect(a.address()).await.expect("connects");
    dribbling.write_all(b"GET / HTT").await.expect("sent");
    let tcp = TcpStream::connect(a.address()).await.expect("connects");
    let upgraded = handshake::upgrade(tcp, Role::Dialer, "test").await.expect("upgraded");
    until("all cut off", || a.refused("handshake_timeout") == 3).await;
    assert!(started.elapsed() < Duration::from_secs(3));
    drop((silent, dribbling, upgraded));
}

#[tokio::test]
async fn one_address_may_hold_eight_unproven_sockets() {
    let keys = keys(2);
    let a = Setup::new(&keys).start(0);
    let mut sockets = Vec::new();
    for _ in 0..9 {
        sockets.push(TcpStream::connect(a.address()).await.expect("connects"));
    }
    until("the ninth is refused", || a.refused("unauthenticated_per_ip_max") == 1).await;
    sockets.truncate(1);
    let b = Setup::new(&keys).peers(&[a.address()]).start(1);
    b.connected_to(&[0]).await;
}

#[tokio::test]
async fn a_restarted_peer_is_back_within_a_second() {
    let keys = keys(2);
    let (at_a, at_b) = (free_address(), free_address());
    for restarted in [0, 1] {
        let a = Setup { listen: at_a, ..Setup::new(&keys) }.peers(&[at_b]).start(0);
        let b = Setup { listen: at_b, ..Setup::new(&keys) }.peers(&[at_a]).start(1);
        a.connected_to(&[1]).await;
        b.connected_to(&[0]).await;
        let (stays, goes) = if restarted == 0 { (b, a) } else { (a, b) };
        goes.stop.send_replace(true);
        stays.connected_to(&[]).await;
        until("the port is free", || std::net::TcpListener::bind(goes.address()).is_ok()).await;
        let started = Instant::now();
        let (listen, other) = (goes.address(), stays.address());
        let back = Setup { listen, generation: 2, ..Setup::new(&keys) }.peers(&[other]).start(restarted);
        stays.connected_to(&[restarted as Index]).await;
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        for node in [back, stays] {
            node.stop.send_replace(true);
            until("the port is free", || std::net::TcpListener::bind(node.address()).is_ok()).await;
        }
    }
}

#[tokio::test]
async fn a_peer_that_restarts_is_taken_back_while_its_old_channel_still_looks_open() {
    let keys = keys(2);
    let mut a = Setup::new(&keys).start(0);
    let _frozen = open_by_hand(a.address(), &identity(&keys, 1, 1)).await;
    assert!(matches!(a.event().await, GossipEvent::Connected(1, _)));
    let mut restarted = open_by_hand(a.address(), &identity(&keys, 1, 2)).await;
    assert!(matches!(a.event().await, GossipEvent::Disconnected(1)));
    assert!(matches!(a.event().await, GossipEvent::Connected(1, _)));
    let Err(error) = dial_and_offer(a.address(), &identity(&keys, 1, 1)).await else { panic!("taken back") };
    assert!(matches!(error, HandshakeError::RefusedByPeer(Refusal::Stale)), "{error:?}");
    let sealed = handshake::seal(&restarted.secure.noise, &mut restarted.secure.send_nonce, &[super::wire::PING]);
    restarted.secure.socket.send(Frame::Binary(sealed.expect("sealed"))).await.expect("still open");
}

async fn dial_and_offer(to: SocketAddr, identity: &Identity) -> Result<Greeting, HandshakeError> {
    let mut session = dial_by_hand(to, identity).await?;
    session.secure.say(&Greeting::Offer { live: false }).await?;
    match session.secure.hear().await? {
        Greeting::Refused(refusal) => Err(HandshakeError::RefusedByPeer(refusal)),
        greeting => Ok(greeting),
    }
}

#[tokio::test]
async fn a_second_dial_of_the_same_process_is_a_duplicate_unless_it_lost_the_first() {
    let keys = keys(2);
    let a = Setup::new(&keys).start(0);
    let peer = identity(&keys, 1, 1);
    let _first = open_by_hand(a.address(), &peer).await;
    assert_eq!(dial_and_offer(a.address(), &peer).await.expect("answered"), Greeting::Duplicate);
    let opened = Instant::now();
    until("no longer a crossing", || opened.elapsed() > limits::CROSSING).await;
    let mut session = dial_by_hand(a.address(), &peer).await.expect("authenticated");
    session.secure.say(&Greeting::Offer { live: true }).await.expect("said");
    assert_eq!(session.secure.hear().await.expect("heard"), Greeting::Duplicate);
    assert_eq!(dial_and_offer(a.address(), &peer).await.expect("answered"), Greeting::Open);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dials_that_cross_leave_exactly_one_channel() {
    let keys = keys(2);
    for _ in 0..20 {
        let (at_a, at_b) = (free_address(), free_address());
        let mut a = Setup { listen: at_a, ..Setup::new(&keys) }.peers(&[at_b, at_b]).start(0);
        let mut b = Setup { listen: at_b, ..Setup::new(&keys) }.peers(&[at_a, at_a, at_b]).start(1);
        assert!(matches!(a.event().await, GossipEvent::Connected(1, _)));
        assert!(matches!(b.event().await, GossipEvent::Connected(0, _)));
        for height in 0..100 {
            a.gossip.send(1, &status(height)).expect("connected");
            b.gossip.send(0, &status(height)).expect("connected");
            let (at_a, at_b) = (a.event().await, b.event().await);
            assert!(matches!(at_a, GossipEvent::Message(1, message) if message == status(height)));
            assert!(matches!(at_b, GossipEvent::Message(0, message) if message == status(height)));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seven_validators_with_one_list_of_peers_form_a_full_mesh() {
    let keys = keys(7);
    let addresses: Vec<_> = keys.iter().map(|_| free_address()).collect();
    let start = |index: usize| Setup { listen: addresses[index], ..Setup::new(&keys) }.peers(&addresses).start(index);
    let nodes: Vec<Node> = (0..7).map(start).collect();
    for (index, node) in nodes.iter().enumerate() {
        let others: Vec<Index> = (0..7).filter(|other| usize::from(*other) != index).collect();
        node.connected_to(&others).await;
    }
}

#[tokio::test]
async fn a_name_that_stands_for_several_addresses_is_dialed_at_each() {
    let keys = keys(2);
    let a = Setup::new(&keys).start(0);
    let name = format!("localhost:{}", a.address().port());
    let b = Setup { peers: vec![name], ..Setup::new(&keys) }.start(1);
    b.connected_to(&[0]).await;
}

/// Everything a peer under the test's control receives until `stop` says so.
async fn read_until(session: &mut Session, mut stop: impl FnMut(&Message) -> bool) -> Vec<Message> {
    let (mut assembler, mut plain, mut got) = (Assembler::default(), vec![0; limits::SEALED_MAX_BYTES], Vec::new());
    loop {
        let frame = tokio::time::timeout(PATIENCE, session.secure.socket.next()).await.expect("in time");
        let Some(Ok(Frame::Binary(sealed))) = frame else { panic!("closed after {} messages", got.len()) };
        let nonce = &mut session.secure.receive_nonce;
        let len = handshake::open(&session.secure.noise, nonce, &sealed, &mut plain).expect("opens");
        let mut record = &plain[..len];
        while let Some(incoming) = assembler.next(&mut record).expect("well-formed") {
            if let Incoming::Message { message, .. } = incoming {
                let last = stop(&message);
                got.push(message);
                if last {
                    return got;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_vote_overtakes_the_batches_and_the_batches_overtake_block_sync() {
    let keys = keys(2);
    let a = Setup::new(&keys).start(0);
    let mut slow = open_by_hand(a.address(), &identity(&keys, 1, 1)).await;
    a.gossip.send(1, &blocks(1)).expect("queued");
    a.gossip.send(1, &blocks(2)).expect("queued");
    for seq in 0..8 {
        a.gossip.send(1, &Message::Batch(Box::new(batch(seq, 255)))).expect("queued");
    }
    a.gossip.send(1, &vote(1)).expect("queued");
    let mut blocks_left = 2;
    let got = read_until(&mut slow, |message| {
        blocks_left -= usize::from(message.name() == "blocks");
        blocks_left == 0
    })
    .await;
    let at = |name: &str| got.iter().rposition(|message| message.name() == name).expect("came");
    assert!(at("vote") < at("batch"), "{:?}", got.iter().map(Message::name).collect::<Vec<_>>());
    assert!(at("batch") < at("blocks"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_read_loses_messages_and_slows_nobody() {
    let keys = keys(3);
    let a = Setup::new(&keys).start(0);
    let stuck = open_by_hand(a.address(), &identity(&keys, 1, 1)).await;
    let mut reads = Setup::new(&keys).peers(&[a.address()]).start(2);
    a.connected_to(&[1, 2]).await;
    for seq in 0..200 {
        let message = Message::Batch(Box::new(batch(seq, 200)));
        let started = Instant::now();
        a.gossip.broadcast(&message).expect("queued");
        assert!(started.elapsed() < Duration::from_millis(500));
        assert!(reads.message().await == (0, message));
    }
    assert!(a.metrics.network_dropped.with_label_values(&["batches"]).get() > 100);
    assert_eq!(a.gossip.connected(), [1, 2]);
    drop(stuck);
    until("queues of a closed channel are counted out", || {
        a.metrics.queue_depth.with_label_values(&["gossip_batches"]).get() == 0
    })
    .await;
}

#[tokio::test]
async fn a_node_that_does_not_take_its_events_slows_its_peers_only_by_their_queues() {
    let keys = keys(2);
    let mut a = Setup { events: 2, ..Setup::new(&keys) }.start(0);
    let b = Setup::new(&keys).peers(&[a.address()]).start(1);
    b.connected_to(&[0]).await;
    for height in 0..1_000 {
        b.gossip.send(0, &status(height)).expect("never waits");
    }
    for height in 0..1_000 {
        assert_eq!(a.message().await, (1, status(height)));
    }
}

#[tokio::test]
async fn a_silent_peer_is_closed_and_an_idle_one_stays_by_pings() {
    let keys = keys(3);
    let mut a = Setup { timing: quick(), ..Setup::new(&keys) }.start(0);
    let idle = Setup { timing: quick(), ..Setup::new(&keys) }.peers(&[a.address()]).start(2);
    idle.connected_to(&[0]).await;
    assert!(matches!(a.event().await, GossipEvent::Connected(2, _)));
    for _ in 0..2 {
        let _silent = open_by_hand(a.address(), &identity(&keys, 1, 1)).await;
        assert!(matches!(a.event().await, GossipEvent::Connected(1, _)));
        assert!(matches!(a.event().await, GossipEvent::Disconnected(1)));
    }
    assert_eq!(a.refused("silent"), 2);
    assert_eq!(a.gossip.connected(), [2]);
}

#[tokio::test]
async fn a_tampered_record_and_a_malformed_message_close_the_channel_with_their_reason() {
    let keys = keys(2);
    let a = Setup::new(&keys).start(0);
    // A frame that is no record, a vote cut short, a gigabyte announced, a text frame.
    let cases: [(&str, Option<&[u8]>); 4] = [
        ("bad_mac", None),
        ("malformed_message", Some(&[0, 3, 0, 0, 0, 2, 0, 0])),
        ("too_large", Some(&[2, 0, 0, 0, 64, 12])),
        ("malformed_frame", Some(&[])),
    ];
    for (generation, (reason, record)) in (1..).zip(cases) {
        let mut peer = open_by_hand(a.address(), &identity(&keys, 1, generation)).await;
        let frame = match record {
            None => Frame::binary(vec![7; 100]),
            Some([]) => Frame::text("hello"),
            Some(record) => {
                let sealed = handshake::seal(&peer.secure.noise, &mut peer.secure.send_nonce, record);
                Frame::Binary(sealed.expect("sealed"))
            }
        };
        peer.secure.socket.send(frame).await.expect("sent");
        until(reason, || a.refused(reason) == 1).await;
        a.connected_to(&[]).await;
    }
}

#[tokio::test]
async fn what_is_queued_when_the_node_stops_still_leaves() {
    let keys = keys(2);
    let a = Setup::new(&keys).start(0);
    let mut b = Setup::new(&keys).peers(&[a.address()]).start(1);
    a.connected_to(&[1]).await;
    for seq in 0..10 {
        a.gossip.broadcast(&Message::Batch(Box::new(batch(seq, 250)))).expect("queued");
    }
    a.gossip.broadcast(&vote(9)).expect("queued");
    a.stop.send_replace(true);
    let mut kinds = Vec::new();
    for _ in 0..11 {
        kinds.push(b.message().await.1.name());
    }
    assert_eq!(kinds.iter().filter(|kind| **kind == "batch").count(), 10);
    assert!(kinds.contains(&"vote"));
}

#[tokio::test]
async fn the_port_is_free_once_gossip_has_closed() {
    let keys = keys(2);
    let a = Setup::new(&keys).start(0);
    assert!(bind(a.address()).is_err(), "it listens there");
    a.stop.send_replace(true);
    a.gossip.closed().await;
    bind(a.address()).expect("nobody listens there");
}

#[tokio::test]
async fn there_is_room_for_an_answer_where_a_channel_is_open_and_its_queue_not_full() {
    let keys = keys(2);
    let a = Setup::new(&keys).start(0);
    assert!(!a.gossip.has_room(1, 1), "nobody is connected");
    let stuck = open_by_hand(a.address(), &identity(&keys, 1, 1)).await;
    a.connected_to(&[1]).await;
    assert!(a.gossip.has_room(1, MAX_MESSAGE_BYTES));
    // The peer reads nothing: what does not fit into the sockets waits.
    until("its queue is full", || {
        a.gossip.send(1, &blocks(1)).expect("queued or dropped");
        !a.gossip.has_room(1, MAX_MESSAGE_BYTES)
    })
    .await;
    drop(stuck);
}

/// What the way costs: `cargo test --release -p aitbc-node --lib -- --ignored --nocapture a_vote_and_a_batch_cost`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn a_vote_and_a_batch_cost() {
    let keys = keys(2);
    let mut a = Setup::new(&keys).start(0);
    let mut b = Setup::new(&keys).peers(&[a.address()]).start(1);
    a.connected_to(&[1]).await;
    b.connected_to(&[0]).await;
    let mut trips = Vec::new();
    for slot in 0..5_000 {
        let started = Instant::now();
        a.gossip.send(1, &vote(slot)).expect("connected");
        b.message().await;
        b.gossip.send(0, &vote(slot)).expect("connected");
        a.message().await;
        trips.push(started.elapsed());
    }
    trips.sort();
    println!("round trip of a vote: p50 {:?}, p99 {:?}", trips[2_500], trips[4_950]);
    let message = Message::Batch(Box::new(batch(0, 64)));
    // Together less than a peer may send at once: beyond it the quota is what is measured.
    let (rounds, at_once) = (28, 16);
    let started = Instant::now();
    for _ in 0..rounds {
        for _ in 0..at_once {
            a.gossip.send(1, &message).expect("connected");
        }
        for _ in 0..at_once {
            b.message().await;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let bytes = f64::from(rounds * at_once) * (64 << 10) as f64;
    println!("batches of 64 KiB: {:.0} MB/s, encoding and decoding included", bytes / seconds / 1e6);
    assert_eq!(a.metrics.network_dropped.with_label_values(&["batches"]).get(), 0);
}
