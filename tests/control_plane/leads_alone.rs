//! Of two operators one leads; the other takes over when the first gives the Lease back.

use crate::world::World;
use aitbc_operator::lease::{Candidate, Settings};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_waits_while_another_leads_and_follows_at_once_when_it_is_released() {
    let world = World::without_operator("leads").await;
    let candidate = |identity: &str| {
        let settings =
            Settings { namespace: world.namespace.clone(), name: "aitbc-operator".into(), identity: identity.into() };
        Candidate::new(world.client.clone(), settings)
    };
    let (mut first, mut second) = (candidate("first"), candidate("second"));
    first.acquire().await;
    let early = tokio::time::timeout(Duration::from_secs(3), second.acquire()).await;
    assert!(early.is_err(), "two lead at once");
    first.release().await;
    second.acquire().await;
    let lost = tokio::time::timeout(Duration::from_secs(10), first.keep()).await.expect("notices");
    assert!(lost.to_string().contains("second"), "{lost}");
}
