//! Validators killed with SIGKILL at random moments under load, sometimes two at a time, and started again.

use super::{BACK, all_vote, tormented};
use aitbc_tests::localnet::{Database, Localnet};
use aitbc_tests::rounds;
use aitbc_tests::wait;
use aitbc_tests::witness::Witness;
use anyhow::Result;
use rand::RngExt;
use rand::rngs::StdRng;
use std::time::{Duration, Instant};

#[test]
fn validators_killed_at_random_moments_under_load_lose_nothing_on_sqlite() {
    tormented("random kills sqlite", Database::Sqlite, random_kills);
}

#[test]
#[ignore = "part of make chaos"]
fn validators_killed_at_random_moments_under_load_lose_nothing_on_postgres() {
    tormented("random kills postgres", Database::Postgres, random_kills);
}

async fn random_kills(net: &mut Localnet, witness: &Witness) -> Result<()> {
    let mut rng = net.seed().rng("kills");
    let (began, kills) = (Instant::now(), rounds::rounds(6, 100));
    let (mut killed, mut slowest) = (0, Duration::ZERO);
    while killed < kills {
        let victim = rng.random_range(0..4);
        // Every fourth time another one meanwhile: three would be a quorum, two are none.
        let victims = if rng.random_range(0..4) == 0 { vec![victim, (victim + 1) % 4] } else { vec![victim] };
        for victim in &victims {
            pause(&mut rng, 400).await;
            net.nodes[*victim].process.kill().await?;
        }
        pause(&mut rng, 1_000).await;
        for victim in &victims {
            net.nodes[*victim].process.start()?;
        }
        let started = Instant::now();
        for victim in &victims {
            net.wait_until_votes(*victim, BACK).await?;
        }
        slowest = slowest.max(started.elapsed());
        killed += victims.len();
    }
    println!(
        "{killed} kills in {:?}: height {}, {} transfers told final, slowest to vote again {slowest:?}",
        began.elapsed(),
        witness.height(),
        witness.transfers()
    );
    all_vote(net).await
}

/// Ends at any moment of a slot.
async fn pause(rng: &mut StdRng, ms_max: u64) {
    wait::let_it_run(Duration::from_millis(rng.random_range(0..ms_max))).await;
}
