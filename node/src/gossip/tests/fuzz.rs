//! Damaged handshakes and records: each ends with an error and never with a channel, soon and in little memory.
//!
//! ```text
//! hostile dialer    upgrade | e | s, se | Hello | Offer       damaged at one place, as bytes or inside the encryption
//! hostile listener  101     | e, ee, s, es | Hello
//! hostile member    records of valid messages, damaged inside the encryption
//! ```

use super::*;
use crate::fuzz::{corpus, damaged, mutate, peak_bytes, runtime, samples, seed};
use crate::gossip::handshake::Secure;
use crate::gossip::limits::{GREETING_MAX_BYTES, RECORD_MAX_BYTES};
use crate::gossip::wire;
use aitbc_core::codec;
use rand::RngExt;
use rand::rngs::StdRng;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Hostile validators: each has to wait 50 ms between two channels, so they take turns.
const HOSTILE: usize = 19;
/// Handshakes of a case.
const ATTACKS: usize = 4;
/// Records of a case.
const RECORDS: usize = 40;
/// Most by which the process may grow, all tests of this binary together.
const GROWTH: u64 = 128 << 20;

const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Where a hostile dialer departs from the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Upgrade,
    Frame,
    FirstNoise,
    SecondNoise,
    SealedHello,
    Hello,
    OtherGreeting,
    Offer,
}

const PLACES: [Place; 8] = [
    Place::Upgrade,
    Place::Frame,
    Place::FirstNoise,
    Place::SecondNoise,
    Place::SealedHello,
    Place::Hello,
    Place::OtherGreeting,
    Place::Offer,
];

type Socket = WebSocketStream<TcpStream>;
type Ended = Result<(), HandshakeError>;

async fn send(socket: &mut Socket, bytes: Vec<u8>) -> Ended {
    Ok(socket.send(Frame::binary(bytes)).await?)
}

async fn receive(socket: &mut Socket) -> Result<Vec<u8>, HandshakeError> {
    match socket.next().await {
        Some(Ok(Frame::Binary(bytes))) => Ok(bytes.to_vec()),
        _ => Err(HandshakeError::Closed),
    }
}

/// Frames that no node of ours sends.
fn odd_frames(rng: &mut StdRng) -> Vec<Frame> {
    let noise = mutate::noise(rng, 2_000);
    match rng.random_range(0..6) {
        0 => vec![Frame::text("hello")],
        1 => vec![Frame::Ping(Default::default()); 50],
        2 => vec![Frame::binary(vec![0; 70_000])],
        3 => vec![Frame::binary(Vec::new())],
        4 => vec![Frame::Pong(Default::default()), Frame::Close(None)],
        _ => vec![Frame::binary(noise)],
    }
}

/// A greeting in the place of another: `Open` from whoever may not say it, a refusal, an offer before the Hello.
fn greeting(rng: &mut StdRng) -> Greeting {
    match rng.random_range(0..4) {
        0 => Greeting::Open,
        1 => Greeting::Duplicate,
        2 => Greeting::Offer { live: rng.random() },
        _ => Greeting::Refused(Refusal::Stale),
    }
}

/// Bytes that are no `wanted` greeting, though they may be close to one.
fn not(rng: &mut StdRng, greeting: &Greeting, wanted: impl Fn(&Greeting) -> bool) -> Vec<u8> {
    let valid = codec::encode(greeting);
    loop {
        let bytes = damaged(rng, &valid, &valid);
        let fits = bytes.len() <= GREETING_MAX_BYTES;
        if fits && !codec::decode::<Greeting>(&bytes).is_ok_and(|read| read == *greeting || wanted(&read)) {
            return bytes;
        }
    }
}

/// Runs the Noise handshake with damage at a place; `None` where that has ended it.
async fn noise(socket: &mut Socket, role: Role, private: &[u8], place: Place, rng: &mut StdRng) -> Option<Ciphers> {
    let builder = handshake::builder().expect("primitives").local_private_key(private).expect("a key");
    let mut state = match role {
        Role::Dialer => builder.build_initiator().expect("built"),
        Role::Listener => builder.build_responder().expect("built"),
    };
    let mut turn = 0;
    while !state.is_handshake_finished() {
        if !state.is_my_turn() {
            let message = receive(socket).await.ok()?;
            state.read_message(&message, &mut [0; GREETING_MAX_BYTES]).ok()?;
            continue;
        }
        let mut message = vec![0; GREETING_MAX_BYTES];
        let len = state.write_message(&[], &mut message).expect("fits");
        message.truncate(len);
        turn += 1;
        if (turn, place) == (1, Place::FirstNoise) || (turn, place) == (2, Place::SecondNoise) {
            let message = damaged(rng, &message, &message);
            let _ = send(socket, message).await;
            return None;
        }
        send(socket, message).await.ok()?;
    }
    let binding = Hash(state.get_handshake_hash().try_into().expect("32 bytes"));
    Some(Ciphers { noise: state.into_stateless_transport_mode().expect("finished"), binding })
}

struct Ciphers {
    noise: snow::StatelessTransportState,
    binding: Hash,
}

/// The end that attacks, from the upgraded socket on. Whatever happens to it: the other end must not have a channel.
async fn attack(mut socket: Socket, role: Role, own: &Identity, place: Place, rng: &mut StdRng) -> Ended {
    if place == Place::Frame {
        for frame in odd_frames(rng) {
            socket.send(frame).await?;
        }
        return drained(socket).await;
    }
    let Some(Ciphers { noise, binding }) = noise(&mut socket, role, &own.process.private, place, rng).await else {
        return drained(socket).await;
    };
    let mut secure = Secure { socket, noise, send_nonce: 0, receive_nonce: 0 };
    let hello = Greeting::Hello(handshake::say_hello(own, role, binding));
    if role == Role::Listener {
        secure.hear().await?;
    }
    match place {
        Place::SealedHello => {
            let sealed = handshake::seal(&secure.noise, &mut secure.send_nonce, &codec::encode(&hello))?;
            send(&mut secure.socket, damaged(rng, &sealed, &sealed)).await?;
        }
        Place::Hello => say(&mut secure, &not(rng, &hello, |_| false)).await?,
        Place::OtherGreeting => secure.say(&greeting(rng)).await?,
        _ => {
            secure.say(&hello).await?;
            if role == Role::Dialer {
                secure.hear().await?;
            }
            let offer = Greeting::Offer { live: rng.random() };
            say(&mut secure, &not(rng, &offer, |read| matches!(read, Greeting::Offer { .. }))).await?;
        }
    }
    drained(secure.socket).await
}

async fn say(secure: &mut Secure, plain: &[u8]) -> Ended {
    let sealed = handshake::seal(&secure.noise, &mut secure.send_nonce, plain)?;
    send(&mut secure.socket, sealed.to_vec()).await
}

/// Says no more and waits until the other end has closed.
async fn drained(mut socket: Socket) -> Ended {
    let _ = socket.get_mut().shutdown().await;
    while let Some(Ok(_)) = socket.next().await {}
    Ok(())
}

async fn dial(to: SocketAddr, own: &Identity, place: Place, rng: &mut StdRng) {
    let mut tcp = TcpStream::connect(to).await.expect("connects");
    tcp.set_nodelay(true).expect("a socket");
    let ended = async {
        if place != Place::Upgrade {
            let Ok(socket) = handshake::upgrade(tcp, Role::Dialer, "test").await else { return };
            let _ = attack(socket, Role::Dialer, own, place, rng).await;
            return;
        }
        // What follows is no handshake: however little the upgrade was damaged, no channel may come of it.
        let bytes = if rng.random_bool(0.8) { damaged(rng, UPGRADE, UPGRADE) } else { mutate::noise(rng, 70_000) };
        let _ = tcp.write_all(&[bytes, mutate::noise(rng, 500)].concat()).await;
        let _ = tcp.shutdown().await;
        let _ = tcp.read_to_end(&mut Vec::new()).await;
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap_or_else(|_| panic!("{place:?}: the node holds the connection"));
}

/// All connections that the node refused or closed so far.
fn refused(node: &Node) -> u64 {
    let text = node.metrics.render().expect("metrics");
    let of_name = text.lines().filter(|line| line.starts_with("blockchain_network_refused_total"));
    of_name.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[test]
fn a_damaged_handshake_of_a_dialer_ends_with_an_error_and_never_with_a_channel() {
    let (runtime, before) = (runtime(), peak_bytes());
    let _entered = runtime.enter();
    let keys = keys(HOSTILE as u8 + 1);
    let mut node = Setup { timing: quick(), ..Setup::new(&keys) }.start(0);
    let hostile: Vec<Identity> = (1..=HOSTILE).map(|index| identity(&keys, index, 1)).collect();
    let mut attacks = 0;
    seed::cases("handshake of a dialer", |rng| {
        runtime.block_on(async {
            for _ in 0..ATTACKS {
                attacks += 1;
                let place = PLACES[rng.random_range(0..PLACES.len())];
                dial(node.address(), &hostile[attacks % HOSTILE], place, rng).await;
                assert!(node.gossip.connected().is_empty(), "a channel after {place:?}");
            }
            until("each is counted with its reason", || refused(&node) >= attacks as u64).await;
        });
    });
    assert!(node.events.try_recv().is_err(), "the node was told of a channel");
    runtime.block_on(async {
        let _honest = open_by_hand(node.address(), &hostile[0]).await;
        node.connected_to(&[1]).await;
    });
    let grown = peak_bytes().saturating_sub(before);
    assert!(grown < GROWTH, "grew by {} MiB", grown >> 20);
    println!("{attacks} damaged handshakes");
}

/// Takes one connection and departs from the protocol; drops it then.
async fn listen(listener: &TcpListener, own: &Identity, place: Place, rng: &mut StdRng) {
    let (mut tcp, _) = listener.accept().await.expect("accepts");
    tcp.set_nodelay(true).expect("a socket");
    if place != Place::Upgrade {
        let Ok(socket) = handshake::upgrade(tcp, Role::Listener, "").await else { return };
        let _ = attack(socket, Role::Listener, own, place, rng).await;
        return;
    }
    let mut request = vec![0; 2_048];
    let len = tcp.read(&mut request).await.unwrap_or(0);
    let text = String::from_utf8_lossy(&request[..len]).into_owned();
    let key = text.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap_or_default();
    let accept = derive_accept_key(key.trim().as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    let bytes = damaged(rng, answer.as_bytes(), answer.as_bytes());
    let _ = tcp.write_all(&[bytes, mutate::noise(rng, 70_000)].concat()).await;
    let _ = tcp.shutdown().await;
    let _ = tcp.read_to_end(&mut Vec::new()).await;
}

#[test]
fn a_damaged_handshake_of_a_listener_ends_with_an_error_at_the_dialer() {
    // A listener says one Noise message and has no Offer to make before the dialer has checked its Hello.
    const OF_LISTENER: [Place; 6] =
        [Place::Upgrade, Place::Frame, Place::FirstNoise, Place::SealedHello, Place::Hello, Place::OtherGreeting];
    let runtime = runtime();
    let keys = keys(2);
    let (own, hostile) = (identity(&keys, 1, 1), identity(&keys, 0, 1));
    let listener = runtime.block_on(TcpListener::bind(any_port())).expect("binds");
    let to = listener.local_addr().expect("bound");
    seed::cases("handshake of a listener", |rng| {
        for _ in 0..ATTACKS {
            let place = OF_LISTENER[rng.random_range(0..OF_LISTENER.len())];
            let both = async { tokio::join!(dial_by_hand(to, &own), listen(&listener, &hostile, place, rng)) };
            let ended = runtime.block_on(async { tokio::time::timeout(PATIENCE, both).await });
            let (dialed, ()) = ended.unwrap_or_else(|_| panic!("{place:?}: the dialer waits"));
            assert!(dialed.is_err(), "authenticated after {place:?}");
        }
    });
}

/// Records of valid messages, as a writer packs them.
fn records(rng: &mut StdRng) -> Vec<Vec<u8>> {
    let mut records = vec![Vec::new()];
    for _ in 0..rng.random_range(1..6) {
        let tag = rng.random_range(0..samples::MESSAGES);
        let Ok(encoded) = wire::encode(&samples::message(rng, tag)) else { continue };
        let mut sent = 0;
        while sent < encoded.bytes.len() {
            let record = records.last_mut().expect("one");
            match wire::pack(record, &encoded, sent) {
                0 => records.push(Vec::new()),
                packed => sent += packed,
            }
            // Cut a message in two now and then.
            if rng.random_bool(0.2) {
                records.push(Vec::new());
            }
        }
    }
    records.retain(|record| !record.is_empty());
    records
}

/// Reads records until one is refused; answers how many messages came out.
fn assemble(records: &[Vec<u8>]) -> Option<usize> {
    let (mut assembler, mut messages) = (Assembler::default(), 0);
    for record in records {
        let mut rest = record.as_slice();
        loop {
            match assembler.next(&mut rest) {
                Ok(Some(Incoming::Message { tag, bytes, .. })) => {
                    assert!(bytes <= wire::KINDS[usize::from(tag)].max_bytes, "{bytes} bytes of type {tag}");
                    messages += 1;
                }
                Ok(Some(Incoming::Ping)) => {}
                Ok(None) => break,
                Err(_) => return None,
            }
        }
        assert!(assembler.held_bytes() <= records.iter().map(Vec::len).sum(), "holds more than has come");
    }
    Some(messages)
}

#[test]
fn damaged_records_never_panic_and_nothing_is_kept_that_did_not_come() {
    let (mut tried, mut read) = (0u64, 0u64);
    seed::cases("records", |rng| {
        let mut valid = records(rng);
        assert!(assemble(&valid).is_some(), "valid records are refused");
        for _ in 0..RECORDS {
            let at = rng.random_range(0..valid.len());
            let before = std::mem::take(&mut valid[at]);
            let mut bytes = damaged(rng, &before, &before);
            bytes.truncate(RECORD_MAX_BYTES);
            valid[at] = bytes;
            tried += 1;
            read += u64::from(assemble(&valid).is_some());
            valid[at] = before;
        }
    });
    println!("{tried} damaged records, {read} of them valid");
}

#[test]
fn each_record_of_the_corpus_is_refused() {
    for (path, text) in corpus("records") {
        let bytes = hex::decode(text.trim()).expect("hex");
        assert!(assemble(&[bytes]).is_none(), "{}", path.display());
    }
}

#[test]
fn a_member_that_sends_damaged_records_is_dropped_or_read_and_the_node_goes_on() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let keys = keys(HOSTILE as u8 + 1);
    let mut node = Setup::new(&keys).start(0);
    let hostile: Vec<Identity> = (1..=HOSTILE).map(|index| identity(&keys, index, 1)).collect();
    let mut turn = 0;
    seed::cases("records of a member", |rng| {
        runtime.block_on(async {
            turn += 1;
            let mut session = open_by_hand(node.address(), &hostile[turn % HOSTILE]).await;
            for record in records(rng) {
                let mut plain = if rng.random_bool(0.5) { damaged(rng, &record, &record) } else { record };
                plain.truncate(RECORD_MAX_BYTES);
                if say(&mut session.secure, &plain).await.is_err() {
                    break;
                }
            }
            let closed = tokio::time::timeout(PATIENCE, drained(session.secure.socket)).await;
            assert!(closed.is_ok(), "the node holds a channel whose other end has left");
            node.connected_to(&[]).await;
            while node.events.try_recv().is_ok() {}
        });
    });
    runtime.block_on(async {
        let _honest = open_by_hand(node.address(), &hostile[0]).await;
        node.connected_to(&[1]).await;
    });
}
