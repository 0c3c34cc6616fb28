//! A votes table that refuses, or is gone: without its row no vote leaves, and without its table none ever will.

use super::{BACK, LONGEST_PAUSE, all_vote, begin_and_end, log_tells, shape};
use aitbc_tests::localnet::{Database, Localnet, run};
use aitbc_tests::seed::Seed;
use aitbc_tests::wait;
use aitbc_tests::witness::Witness;
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

/// How long the others go on without it.
const TIME: Duration = Duration::from_secs(2);
/// Whose table it is.
const VICTIM: usize = 3;
/// Those that go on.
const OTHERS: [usize; 3] = [0, 1, 2];
/// Starts after which it is believed that no start helps.
const STARTS: usize = 3;

#[test]
fn a_validator_that_may_not_insert_votes_casts_none_and_one_whose_votes_are_gone_never_votes_again() {
    run("votes table", async {
        let mut net = Localnet::prepare(shape(Database::Postgres, Seed::of("votes table"))).await?;
        let database = net.nodes[VICTIM].database_url.rsplit('/').next().context("a database's name")?.to_owned();
        // Nobody may revoke a superuser's rights.
        net.servers[0].psql("postgres", "CREATE ROLE validator LOGIN")?;
        net.servers[0].psql("postgres", &format!("ALTER DATABASE \"{database}\" OWNER TO validator"))?;
        let url = net.nodes[VICTIM].database_url.replace("postgres@", "validator@");
        net.nodes[VICTIM].process.set_env("DATABASE_URL", &url);
        begin_and_end(&mut net, async |net, witness| {
            revoked(net, witness, &database).await?;
            dropped(net, witness, &database).await
        })
        .await?;
        net.finish().await
    });
}

async fn revoked(net: &mut Localnet, witness: &Witness, database: &str) -> Result<()> {
    let revoked_at = Instant::now();
    net.servers[0].psql(database, "REVOKE INSERT ON ledger.votes FROM validator")?;
    let node = &mut net.nodes[VICTIM];
    log_tells(node, &["a vote could not be stored", "permission denied for table votes"], BACK).await?;
    let status = node.process.exit(BACK).await?;
    ensure!(status.code() == Some(1), "ended with {status}");
    wait::let_it_run(TIME).await;
    let pause = witness.longest_pause(revoked_at, &OTHERS);
    println!("INSERT revoked: longest pause {pause:?}");
    ensure!(pause < LONGEST_PAUSE, "no block for {pause:?}");
    net.servers[0].psql(database, "GRANT INSERT ON ledger.votes TO validator")?;
    net.nodes[VICTIM].process.start()?;
    net.start_again_until_votes(VICTIM, BACK).await?;
    all_vote(net).await
}

/// Its votes of the past are lost, and it must not vote without knowing them, however often it is started.
async fn dropped(net: &mut Localnet, witness: &Witness, database: &str) -> Result<()> {
    let dropped_at = Instant::now();
    net.servers[0].psql(database, "DROP TABLE ledger.votes")?;
    let node = &mut net.nodes[VICTIM];
    log_tells(node, &["ledger.votes", "does not exist"], BACK).await?;
    for _ in 0..STARTS {
        let status = node.process.exit(BACK).await?;
        ensure!(!status.success(), "ended with {status}");
        node.process.start()?;
    }
    node.process.exit(BACK).await?;
    let pause = witness.longest_pause(dropped_at, &OTHERS);
    println!("table dropped: longest pause {pause:?}, and no start helps");
    ensure!(pause < LONGEST_PAUSE, "no block for {pause:?}");
    for index in OTHERS {
        net.wait_until_votes(index, BACK).await?;
    }
    Ok(())
}
