//! What the executor tells of who validates, at the end of an epoch and after it.

use super::*;
use crate::tests::chain::{BLOCKS, Chain, Executing, Stored, chain, set_of, sets_of};

impl Executing {
    /// What the core hears of the block at a height, which is executed.
    async fn execute(&mut self, chain: &Chain, height: u64) -> (Roots, Option<Arc<ValidatorSet>>) {
        let block = &chain.blocks[height as usize - 1];
        let candidate = Box::new(block.candidate.clone());
        assert!(self.commands.send(Command::Execute { digest: block.digest, candidate }).await.is_ok());
        let Some(Input::Executed { roots, set, .. }) = self.core.recv().await else { panic!("executed") };
        (roots, set)
    }

    async fn finalize(&mut self, chain: &Chain, height: u64) {
        let block = &chain.blocks[height as usize - 1];
        let blocks = vec![(block.digest, block.candidate.clone())];
        assert!(self.commands.send(Command::Finalize { blocks, cert: block.cert.clone() }).await.is_ok());
        assert!(self.commits.recv().await.is_some(), "it is let out");
    }
}

/// The batches of all blocks are there, as they are where a block is executed ahead of finality.
async fn with_batches(chain: &Chain, blocks: u64) -> Stored {
    let stored = chain.store(blocks, blocks).await;
    let batches = chain.blocks.iter().flat_map(|block| &block.batches);
    let batches = batches.map(|b| BatchWrite { digest: b.digest, batch: b.batch.clone() }).collect();
    stored.storage.commit_batches(batches).await.expect("batches");
    stored
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e1_the_last_block_of_an_epoch_tells_the_set_after_the_next_and_later_blocks_are_judged_by_the_new_sets() {
    let chain = chain(4 * BLOCKS);
    let stored = with_batches(&chain, 2 * BLOCKS - 1).await;
    let mut running = chain.executing(&stored).await;
    for height in 2 * BLOCKS..=3 * BLOCKS {
        let ends = height % BLOCKS == 0;
        let (roots, set) = running.execute(&chain, height).await;
        assert_eq!(set, ends.then(|| set_of(height / BLOCKS + 1)), "block {height}");
        let made = &chain.blocks[height as usize - 1].executed;
        assert_eq!((roots.state, roots.results), (made.state_root, made.results_root), "block {height}");
        let before = running.snapshots.borrow().sets.clone();
        running.finalize(&chain, height).await;
        let after = running.snapshots.borrow().sets.clone();
        assert_eq!((before, after), (sets_of((height - 1) / BLOCKS), sets_of(height / BLOCKS)), "block {height}");
    }
    // Block sync may have been faster than the order to execute it: the core is told the same.
    let (_, set) = running.execute(&chain, 3 * BLOCKS).await;
    assert_eq!(set, Some(set_of(4)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e5_a_block_of_an_epoch_that_is_over_is_not_executed() {
    let chain = chain(2 * BLOCKS);
    let stored = with_batches(&chain, 2 * BLOCKS).await;
    let mut running = chain.executing(&stored).await;
    let mut late = chain.blocks[2 * BLOCKS as usize - 1].clone();
    // On the tip, whose state is there: only its epoch forbids it.
    late.candidate.header.parent = late.digest;
    let (digest, candidate) = (late.candidate.header.digest(), Box::new(late.candidate));
    assert!(running.commands.send(Command::Execute { digest, candidate }).await.is_ok());
    // The tip is answered for, and nothing came before that.
    let (_, set) = running.execute(&chain, 2 * BLOCKS).await;
    assert_eq!(set, Some(set_of(3)));
    assert!(running.core.try_recv().is_err());
}
