//! Stands in for a node's RPC: answers `/sync_status` and `/rpc/validators` on a loopback address with what the test wants it to say.

use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const RPC_PORT: u16 = 9080;

/// One node.
#[derive(Clone)]
pub struct FakeNode {
    pub address: Ipv4Addr,
    said: Arc<Mutex<Said>>,
}

#[derive(Clone)]
struct Said {
    height: i64,
    signed_height: i64,
    weight: i64,
    /// `None`: a version that does not say.
    voting_state: Option<&'static str>,
    /// Who validates, but for the height; null: it does not say.
    validators: Value,
}

impl Said {
    fn new() -> Self {
        Said { height: 0, signed_height: 0, weight: 1, voting_state: None, validators: Value::Null }
    }
}

impl FakeNode {
    /// Listens and answers until the test ends.
    pub async fn start(address: Ipv4Addr) -> Self {
        let node = FakeNode { address, said: Arc::new(Mutex::new(Said::new())) };
        let listener = TcpListener::bind((address, RPC_PORT)).await.expect("loopback address is free");
        let said = node.said.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let said = said.lock().expect("no panic under it").clone();
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    let _ = stream.read(&mut request).await;
                    let body = match request.starts_with(b"GET /rpc/validators ") {
                        true => who_validates(said).to_string(),
                        false => answer(said).to_string(),
                    };
                    let head = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                        body.len()
                    );
                    let _ = stream.write_all((head + &body).as_bytes()).await;
                });
            }
        });
        node
    }

    /// From now on it is at this height and has signed up to that one.
    pub fn is_at(&self, height: i64, signed_height: i64) {
        let mut said = self.said.lock().expect("no panic under it");
        (said.height, said.signed_height) = (height, signed_height);
    }

    /// From now on it says that it has this voting power.
    pub fn set_weight(&self, weight: i64) {
        self.said.lock().expect("no panic under it").weight = weight;
    }

    /// From now on it says that these validate: an answer of `/rpc/validators` without the height.
    pub fn set_validators(&self, validators: Value) {
        self.said.lock().expect("no panic under it").validators = validators;
    }

    /// From now on it stands so: `checking`, `voting` or `quarantined`.
    pub fn set_voting_state(&self, voting_state: &'static str) {
        self.said.lock().expect("no panic under it").voting_state = Some(voting_state);
    }
}

fn who_validates(said: Said) -> Value {
    let mut validators = said.validators;
    if validators.is_object() {
        validators["height"] = said.height.into();
    }
    validators
}

fn answer(said: Said) -> Value {
    // A new database knows of no vote.
    let signed_height = if said.voting_state == Some("quarantined") { 0 } else { said.signed_height };
    let mut validator =
        json!({ "address": "", "public_key": "", "weight": said.weight, "last_signed_height": signed_height });
    if let Some(voting_state) = said.voting_state {
        validator["voting_state"] = voting_state.into();
        validator["quarantine"] = (voting_state == "quarantined").then_some("the database is new").into();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    json!({
        "chain_id": "fake",
        "height": said.height,
        "best_peer_height": said.height,
        "catching_up": false,
        "ready": true,
        "last_block_time_ms": i64::try_from(now).expect("before the year 292 million"),
        "genesis_hash": "0x00",
        "state_root": "0x00",
        "version": "0.0.0-fake",
        "validator": validator,
        "database_ready": true,
        "peers": 3,
    })
}
