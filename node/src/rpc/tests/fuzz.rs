//! Damaged requests and subscriptions: each answer has its documented shape, comes soon, and no panic is behind it.

use super::super::ROUTES;
use super::fixture::{Chain, alice};
use crate::fuzz::{corpus, damaged, mutate, peak_bytes, runtime, seed};
use crate::rpc::error::ErrorBody;
use aitbc_core::{codec, json};
use futures_util::{SinkExt, StreamExt};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::{Bytes, Message};

/// Requests of a case.
const REQUESTS: usize = 10;
/// Messages of a subscriber in a case: it may send 50 a second.
const MESSAGES: usize = 20;
/// Most that one answer may take; they take milliseconds, the rest is for a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most by which the process may grow, all tests of this binary together.
const GROWTH: u64 = 128 << 20;

const METHODS: [&str; 7] = ["GET", "GET", "POST", "POST", "PUT", "DELETE", "PATCH"];
const TYPES: [&str; 4] =
    ["application/json", "application/octet-stream", "text/plain", "application/octet-stream; x=\"y"];
const NAMES: [&str; 8] = ["wait", "timeout_ms", "proof", "full", "limit", "from_height", "x", ""];
const VALUES: [&str; 16] = [
    "true",
    "false",
    "none",
    "final&timeout_ms=1",
    "0",
    "1",
    "00",
    "-1",
    "+1",
    "1.5",
    "1e9",
    "18446744073709551615",
    "18446744073709551616",
    "%ff%fe",
    "%00",
    "latest",
];
/// Pieces that JSON parsers stumble over.
const PIECES: [&str; 14] = [
    "null",
    "{}",
    "[]",
    "\"\"",
    "-1",
    "1e400",
    "18446744073709551616",
    "\"\\ud800\"",
    "\\u0000",
    "{\"a\":",
    "[[[[[[[[",
    ",",
    "\"fee\":1",
    "ü",
];

/// What there is to damage: bodies that are accepted, and what stands in paths.
struct Valid {
    bodies: Vec<Vec<u8>>,
    segments: Vec<String>,
}

impl Valid {
    fn of(chain: &Chain) -> Valid {
        let signed: Vec<_> = (0..4).map(|nonce| chain.pay(&alice(), nonce)).collect();
        let texts: Vec<Value> = signed.iter().map(|tx| json::to_value(tx, &chain.chain)).collect();
        let raw = json!({ "transaction": format!("0x{}", hex::encode(codec::encode(&signed[0]))) });
        let bodies = [texts[0].clone(), raw, Value::Array(texts)].map(|value| value.to_string().into_bytes());
        let address = alice().public().address();
        let segments = [address.to_string(), format!("0x{}", hex::encode(address.0)), chain.head().hash.to_string()];
        let others = ["0", "1", "latest", "18446744073709551615", "..", ""].map(str::to_owned);
        Valid {
            bodies: bodies.into_iter().chain([codec::encode(&signed)]).collect(),
            segments: segments.into_iter().chain(others).collect(),
        }
    }

    fn body(&self, rng: &mut StdRng) -> Vec<u8> {
        let body = self.bodies.choose(rng).expect("some");
        match rng.random_range(0..10) {
            0 => body.clone(),
            1 => mutate::noise(rng, 3_000),
            2 => PIECES.choose(rng).expect("some").repeat(rng.random_range(1..3_000)).into_bytes(),
            3..6 => {
                let (at, piece) = (rng.random_range(0..=body.len()), PIECES.choose(rng).expect("some"));
                let end = (at + rng.random_range(0..12)).min(body.len());
                [&body[..at], piece.as_bytes(), &body[end..]].concat()
            }
            _ => {
                let other = self.bodies.choose(rng).expect("some");
                damaged(rng, body, other)
            }
        }
    }

    /// One of the routes, or something near it, with a query.
    fn target(&self, rng: &mut StdRng) -> String {
        let route = ROUTES.choose(rng).and_then(|route| route.split(' ').nth(1)).expect("method and path");
        let segment = |rng: &mut StdRng, part: &str| {
            let value = if part.starts_with('{') { self.segments.choose(rng).expect("some").as_str() } else { part };
            let bytes = value.as_bytes().to_vec();
            if rng.random_bool(0.2) { escaped(&damaged(rng, &bytes, b"../%2e?#")) } else { escaped(&bytes) }
        };
        let path: Vec<String> = route.split('/').map(|part| segment(rng, part)).collect();
        let pair = |rng: &mut StdRng| {
            let name = NAMES.choose(rng).expect("some");
            let value = VALUES.choose(rng).expect("some");
            if rng.random_bool(0.8) { format!("{name}={value}") } else { escaped(&mutate::noise(rng, 40)) }
        };
        let query: Vec<String> = (0..rng.random_range(0..3)).map(|_| pair(rng)).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        format!("/{}{mark}{}", path.join("/").trim_start_matches('/'), query.join("&"))
    }
}

/// Percent-encoded, so that it may stand in a request line.
fn escaped(bytes: &[u8]) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    bytes.iter().map(|b| if plain(*b) { char::from(*b).to_string() } else { format!("%{b:02X}") }).collect()
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

/// What a client does when it has sent its bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Waits for the answer.
    Listens,
    /// Says that nothing more comes.
    HangsUp,
}

/// Sends bytes on a connection of their own and reads to its end.
async fn exchange(to: std::net::SocketAddr, bytes: &[u8], then: Then) -> Vec<u8> {
    let mut tcp = TcpStream::connect(to).await.expect("connects");
    // The node may answer, and close, before it has read all.
    let _ = tcp.write_all(bytes).await;
    if then == Then::HangsUp {
        let _ = tcp.shutdown().await;
    }
    let mut answer = Vec::new();
    let _ = tcp.read_to_end(&mut answer).await;
    answer
}

async fn ask(chain: &Chain, method: &str, target: &str, kind: &str, body: &[u8]) -> Answer {
    let head = format!(
        "{method} {target} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: {kind}\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    let what = format!("{method} {target} {kind} {}", hex::encode(body));
    let bytes = [head.as_bytes(), body].concat();
    let answer = tokio::time::timeout(PATIENCE, exchange(chain.rpc, &bytes, Then::Listens)).await;
    let answer = answer.unwrap_or_else(|_| panic!("no answer to {what}"));
    let end = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap_or_else(|| panic!("no head of {what}"));
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let body = &answer[end + 4..];
    let body = if head.contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_vec() };
    Answer { status, head, body }
}

/// A body of pieces, each after its length.
fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = rest.windows(2).position(|end| end == b"\r\n") {
        let len = std::str::from_utf8(&rest[..end]).ok().and_then(|hex| usize::from_str_radix(hex, 16).ok());
        let piece = rest.get(end + 2..end + 2 + len.unwrap_or(0)).unwrap_or_default();
        out.extend_from_slice(piece);
        rest = rest.get(end + 4 + piece.len()..).unwrap_or_default();
    }
    out
}

/// 2xx with JSON (metrics aside), or 4xx with the shape of every error; never 5xx, for nothing here is the node's fault.
fn check(answer: &Answer, what: &str) -> Option<ErrorBody> {
    let text = String::from_utf8_lossy(&answer.body);
    if answer.status < 300 {
        let readable = answer.head.contains("text/plain") || serde_json::from_slice::<Value>(&answer.body).is_ok();
        assert!(readable, "{what}: {} {text}", answer.status);
        return None;
    }
    assert!((400..500).contains(&answer.status), "{what}: {} {text}", answer.status);
    let error: ErrorBody = serde_json::from_slice(&answer.body)
        .unwrap_or_else(|cause| panic!("{what}: {cause} in {} {text}", answer.status));
    let stable = !error.code.is_empty() && error.code.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    assert!(stable && !error.message.is_empty() && error.detail.is_object(), "{what}: {text}");
    assert!(text.len() < 4_096, "an error of {} bytes for {what}", text.len());
    assert_eq!(answer.head.contains("retry-after"), answer.status == 429, "{what}: {}", answer.head);
    Some(error)
}

#[test]
fn damaged_requests_are_answered_with_4xx_and_the_shape_of_every_error() {
    let (runtime, before) = (runtime(), peak_bytes());
    let chain = runtime.block_on(Chain::start());
    let valid = Valid::of(&chain);
    let (mut asked, mut taken) = (0u64, 0u64);
    seed::cases("requests", |rng| {
        for _ in 0..REQUESTS {
            let (method, target) = (METHODS.choose(rng).expect("some"), valid.target(rng));
            let (kind, body) = (TYPES.choose(rng).expect("some"), valid.body(rng));
            // Half of them reach the handlers that read bodies.
            let (method, target) = match rng.random_range(0..4) {
                0 => ("POST", "/rpc/send_tx".to_owned()),
                1 => ("POST", "/rpc/send_txs".to_owned()),
                _ => (*method, target),
            };
            let answer = runtime.block_on(ask(&chain, method, &target, kind, &body));
            asked += 1;
            taken += u64::from(check(&answer, &format!("{method} {target} {kind} {}", hex::encode(&body))).is_none());
        }
    });
    let head = runtime.block_on(ask(&chain, "GET", "/rpc/get_head", TYPES[0], b""));
    assert_eq!(head.status, 200, "and the node goes on");
    let grown = peak_bytes().saturating_sub(before);
    assert!(grown < GROWTH, "grew by {} MiB", grown >> 20);
    println!("{asked} requests, {taken} of them answered with 2xx");
}

#[test]
fn a_damaged_head_is_answered_or_closed_soon_and_the_node_goes_on() {
    let runtime = runtime();
    let chain = runtime.block_on(Chain::start());
    let valid = Valid::of(&chain);
    seed::cases("request heads", |rng| {
        let (target, body) = (valid.target(rng), valid.body(rng));
        let head = format!(
            "POST {target} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let bytes =
            damaged(rng, &[head.as_bytes(), &body].concat(), b"transfer-encoding: chunked\r\ncontent-length: 9\r\n");
        let start = Instant::now();
        let exchanged = async { tokio::time::timeout(PATIENCE, exchange(chain.rpc, &bytes, Then::HangsUp)).await };
        let answer = runtime.block_on(exchanged);
        let answer = answer.unwrap_or_else(|_| panic!("open after {:?}: {}", start.elapsed(), hex::encode(&bytes)));
        assert!(!answer.starts_with(b"HTTP/1.1 5"), "{}", String::from_utf8_lossy(&answer));
    });
    let head = runtime.block_on(ask(&chain, "GET", "/rpc/get_head", TYPES[0], b""));
    assert_eq!(head.status, 200);
}

/// A file: `METHOD target content-type status CODE`, then the body; `hex` after the code where it is no text.
#[test]
fn each_request_of_the_corpus_is_refused_as_its_file_says() {
    let runtime = runtime();
    let chain = runtime.block_on(Chain::start());
    for (path, text) in corpus("http") {
        let (line, body) = text.split_once('\n').expect("a line, then the body");
        let words: Vec<&str> = line.split(' ').collect();
        let body = match words.get(5) {
            Some(&"hex") => hex::decode(body.trim()).expect("hex"),
            _ => body.trim_end_matches('\n').as_bytes().to_vec(),
        };
        let answer = runtime.block_on(ask(&chain, words[0], words[1], words[2], &body));
        let error = check(&answer, line).map(|error| error.code).unwrap_or_default();
        assert_eq!((answer.status.to_string().as_str(), error.as_str()), (words[3], words[4]), "{}", path.display());
    }
}

const SAID: [&str; 8] = [
    r#"{"subscribe":["new_blocks","consensus_events"],"from_height":1}"#,
    r#"{"subscribe":["new_blocks"],"from_height":18446744073709551615}"#,
    r#"{"subscribe":["new_blocks"],"from_height":18446744073709551614}"#,
    r#"{"subscribe":["new_transactions"]}"#,
    r#"{"subscribe":[]}"#,
    r#"{"unsubscribe":["new_blocks"]}"#,
    r#"{"unsubscribe":["new_blocks","new_transactions","consensus_events"]}"#,
    r#"{"ping":{"a":[1,2,3]}}"#,
];

fn said(rng: &mut StdRng) -> Message {
    let text = *SAID.choose(rng).expect("some");
    let changed = match rng.random_range(0..4) {
        0 => text.to_owned(),
        1 => PIECES.choose(rng).expect("some").repeat(rng.random_range(1..400)),
        _ => String::from_utf8_lossy(&damaged(rng, text.as_bytes(), SAID[0].as_bytes())).into_owned(),
    };
    // Longer ones close the connection, as documented.
    let changed: String = changed.chars().take(1_000).collect();
    match rng.random_range(0..12) {
        0 => Message::binary(changed.into_bytes()),
        1 => Message::Ping(Bytes::from_static(b"?")),
        2 => Message::Pong(Bytes::new()),
        _ => Message::text(changed),
    }
}

/// What a subscriber may hear: an event, or an answer of one of four kinds.
fn check_heard(text: &str) -> bool {
    let heard: Value = serde_json::from_str(text).expect("json");
    if heard["topic"].is_string() {
        return false;
    }
    let object = heard.as_object().expect("an object");
    let known = ["subscribed", "unsubscribed", "pong", "error"].iter().filter(|key| object.contains_key(**key)).count();
    assert_eq!(known, 1, "{text}");
    if let Some(error) = object.get("error") {
        let error: ErrorBody = serde_json::from_value(error.clone()).expect("the shape of every error");
        assert!(["MALFORMED_JSON", "UNKNOWN_TOPIC"].contains(&error.code.as_str()), "{text}");
        assert!(text.len() < 2_048 && error.detail.is_object(), "{text}");
    }
    true
}

#[test]
fn damaged_messages_of_a_subscriber_get_an_answer_each_and_the_connection_goes_on() {
    let runtime = runtime();
    let chain = runtime.block_on(Chain::start());
    runtime.block_on(async {
        for nonce in 0..3 {
            chain.client().send(&chain.pay(&alice(), nonce)).await.expect("taken");
            chain.block().await;
        }
    });
    seed::cases("subscriptions", |rng| {
        runtime.block_on(async {
            let (mut socket, _) = connect_async(format!("ws://{}/ws", chain.ws)).await.expect("connected");
            let mut due = 1;
            for _ in 0..MESSAGES {
                let message = said(rng);
                due += usize::from(message.is_text() || message.is_binary());
                socket.send(message).await.expect("open");
            }
            socket.send(Message::text(r#"{"ping":"the last"}"#)).await.expect("open");
            loop {
                let next = tokio::time::timeout(PATIENCE, socket.next()).await.expect("an answer in time");
                let Message::Text(text) = next.expect("open").expect("sound") else { continue };
                due -= usize::from(check_heard(&text));
                if text.contains("the last") && text.contains("pong") {
                    break;
                }
            }
            assert_eq!(due, 0, "an answer each");
        });
    });
}

#[test]
fn damaged_frames_of_a_subscriber_close_its_connection_and_no_other() {
    let runtime = runtime();
    let chain = runtime.block_on(Chain::start());
    seed::cases("frames", |rng| {
        runtime.block_on(async {
            let (mut socket, _) = connect_async(format!("ws://{}/ws/new_blocks", chain.ws)).await.expect("connected");
            // A masked text frame: its head, mask and payload are damaged alike.
            let frame = [&[0x81, 0x80 | 12, 0, 0, 0, 0][..], b"{\"ping\":1234}"].concat();
            let bytes: Vec<u8> = (0..3).flat_map(|_| damaged(rng, &frame, &[0x88, 0x82, 0xff, 0xfe, 0x09])).collect();
            let raw = socket.get_mut();
            let _ = raw.write_all(&bytes).await;
            let _ = raw.shutdown().await;
            let closed = tokio::time::timeout(PATIENCE, raw.read_to_end(&mut Vec::new())).await;
            assert!(closed.is_ok(), "open after {}", hex::encode(&bytes));
        });
    });
    let (mut socket, _) = runtime.block_on(connect_async(format!("ws://{}/ws", chain.ws))).expect("still served");
    let answer = runtime.block_on(async {
        socket.send(Message::text(SAID[7])).await.expect("open");
        tokio::time::timeout(PATIENCE, socket.next()).await.expect("in time").expect("open").expect("sound")
    });
    assert!(answer.to_text().expect("text").contains("pong"));
}

/// A file: the code, then the message.
#[test]
fn each_message_of_the_corpus_is_refused_as_its_file_says() {
    let runtime = runtime();
    let chain = runtime.block_on(Chain::start());
    for (path, text) in corpus("websocket") {
        let (code, message) = text.split_once('\n').expect("a code, then the message");
        let answer = runtime.block_on(async {
            let (mut socket, _) = connect_async(format!("ws://{}/ws", chain.ws)).await.expect("connected");
            socket.send(Message::text(message.trim_end_matches('\n').to_owned())).await.expect("open");
            tokio::time::timeout(PATIENCE, socket.next()).await.expect("in time").expect("open").expect("sound")
        });
        let answer: Value = serde_json::from_str(answer.to_text().expect("text")).expect("json");
        assert_eq!(answer["error"]["code"], code, "{}: {answer}", path.display());
    }
}
