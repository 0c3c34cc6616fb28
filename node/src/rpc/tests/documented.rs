//! docs/rpc.md names every route and every code.

use super::super::{ROUTES, WS_ROUTES};
use aitbc_core::ledger::ResultCode;

const DOCS: &str = include_str!("../../../../docs/rpc.md");

#[test]
fn every_route_is_documented() {
    for route in ROUTES.iter().chain(WS_ROUTES).chain(&["GET /metrics"]) {
        let path = route.split(' ').nth(1).expect("method and path");
        assert!(DOCS.contains(path), "docs/rpc.md does not mention {route}");
    }
}

#[test]
fn every_code_is_documented() {
    // Upper-case words in quotes: how codes stand in the sources that make them.
    let sources = [
        include_str!("../error.rs"),
        include_str!("../websocket/message.rs"),
        include_str!("../websocket/session.rs"),
        include_str!("../../../core/src/mempool.rs"),
        include_str!("../../../core/src/json.rs"),
        include_str!("../../../core/src/receipt.rs"),
    ];
    let product = sources.iter().map(|text| text.split("#[cfg(test)]").next().unwrap_or_default());
    let words = product.flat_map(|text| text.split('"').skip(1).step_by(2));
    let is_code = |word: &&str| {
        word.len() > 3
            && word.contains(|c: char| c.is_ascii_uppercase())
            && word.chars().all(|c| c.is_ascii_uppercase() || c == '_')
            && !["POST", "TRANSFER", "TRANSFER_MANY", "FAUCET", "HEAD"].contains(word)
    };
    let mut codes: Vec<&str> = words.filter(is_code).chain(ResultCode::ALL.map(ResultCode::name)).collect();
    codes.sort_unstable();
    codes.dedup();
    assert!(codes.len() > 50, "{codes:?}");
    let missing: Vec<_> = codes.iter().filter(|code| !DOCS.contains(&format!("`{code}`"))).collect();
    assert!(missing.is_empty(), "docs/rpc.md does not explain {missing:?}");
}
