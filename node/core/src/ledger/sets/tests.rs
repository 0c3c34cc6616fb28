//! Which sets the state holds after each block of some epochs, and what is judged by them.

use super::*;
use crate::block::{Header, VERSION};
use crate::evidence::Evidence;
use crate::hash::{Hash, plain};
use crate::key::{PublicKey, SecretKey};
use crate::ledger::{Context, Executed, execute};
use crate::validators::Validator;
use crate::vote::{Kind, Statement, Vote};

/// Heights of an epoch.
const BLOCKS: u64 = 3;

fn secret(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

/// Validators and their weights.
fn set(members: &[(u8, u32)]) -> Arc<ValidatorSet> {
    let member = |(n, weight): &(u8, u32)| Validator { key: secret(*n).public(), weight: *weight };
    Arc::new(ValidatorSet::new(members.iter().map(member).collect()).expect("valid set"))
}

/// One joins, one weighs more, one leaves.
fn scheduled() -> Vec<Arc<ValidatorSet>> {
    vec![set(&[(1, 1), (2, 1), (3, 1)]), set(&[(1, 1), (2, 5), (3, 1)]), set(&[(2, 5), (3, 1)])]
}

/// By epoch, as the schedule has them.
fn expected(epoch: u64) -> Arc<ValidatorSet> {
    let scheduled = scheduled();
    match epoch {
        0 | 1 => set(&[(1, 1), (2, 1)]),
        later => scheduled[(later as usize - 2).min(scheduled.len() - 1)].clone(),
    }
}

fn sets(epoch: u64) -> Sets {
    let of = |epoch: u64| expected(epoch);
    Sets {
        epoch,
        older: of(epoch.saturating_sub(2)),
        previous: of(epoch.saturating_sub(1)),
        current: of(epoch),
        next: of(epoch + 1),
    }
}

fn rules() -> Rules {
    Rules { scheduled: scheduled(), ..Rules::default() }
}

/// The header at a height; each slot has a block.
fn header(height: u64) -> Header {
    let epochs = Epochs::new(BLOCKS);
    let slot = (height - 1) % BLOCKS + 1;
    Header {
        version: VERSION,
        epoch: epochs.of(height),
        slot,
        height,
        parent_slot: slot - 1,
        parent: Hash::ZERO,
        parent_state_root: Hash::ZERO,
        parent_results_root: Hash::ZERO,
        time_ms: height,
        proposer: 0,
        set_hash: Hash::ZERO,
        next_set_hash: Hash::ZERO,
        batches: Vec::new(),
        evidence: Vec::new(),
    }
}

fn block(state: &State, rules: &Rules, header: &Header) -> Executed {
    execute(state, rules, &Context::of(header, &sets(header.epoch)), [])
}

/// Epochs whose sets the state holds.
fn written(state: &State) -> Vec<u64> {
    let epoch = |key: &RecordKey| if let RecordKey::ValidatorSet { epoch } = key { Some(*epoch) } else { None };
    let mut epochs: Vec<u64> = state.records().filter_map(|(key, _)| epoch(key)).collect();
    epochs.sort_unstable();
    epochs
}

#[test]
fn e1_the_first_block_of_an_epoch_writes_the_next_set_and_the_last_three_stay() {
    let mut state = State::from_accounts([]);
    let mut history = Vec::new();
    for height in 1..=7 * BLOCKS {
        let executed = block(&state, &rules(), &header(height));
        let changes = executed.changed_records.len();
        assert_eq!(changes > 0, height % BLOCKS == 1 && height > 1, "height {height}");
        state = executed.state;
        history.push(written(&state));
    }
    let at = |epoch: u64| history[(epoch * BLOCKS) as usize].clone();
    assert_eq!([at(0), at(1), at(2), at(3)], [vec![], vec![2], vec![2, 3], vec![2, 3, 4]]);
    assert_eq!([at(4), at(5), at(6)], [vec![2, 3, 4, 5], vec![3, 4, 5, 6], vec![4, 5, 6, 7]], "one ahead, two behind");
}

#[test]
fn e1_the_state_gives_the_sets_of_the_next_block_at_each_height_also_between_two_epochs() {
    let (epochs, genesis) = (Epochs::new(BLOCKS), expected(0));
    let (mut state, mut followed) = (State::from_accounts([]), sets(0));
    assert_eq!(state.sets(&rules(), epochs, &genesis, 0), Some(sets(0)));
    for height in 1..=7 * BLOCKS {
        state = block(&state, &rules(), &header(height)).state;
        let found = state.sets(&rules(), epochs, &genesis, height);
        assert_eq!(found, Some(sets(epochs.after(height))), "height {height}");
        followed = state.sets_after(&rules(), epochs, &followed, height);
        assert_eq!(followed, sets(epochs.after(height)), "height {height}");
    }
}

#[test]
fn e1_of_epochs_of_one_block_each_is_the_first_and_the_last() {
    let (epochs, genesis) = (Epochs::new(1), expected(0));
    let mut state = State::from_accounts([]);
    for height in 1..=6u64 {
        let header = Header { epoch: height - 1, slot: 1, parent_slot: 0, ..header(height) };
        state = block(&state, &rules(), &header).state;
        assert_eq!(state.sets(&rules(), epochs, &genesis, height), Some(sets(height)), "height {height}");
    }
}

#[test]
fn e1_a_state_that_lacks_a_set_gives_none() {
    let state = State::from_accounts([]);
    assert_eq!(state.sets(&rules(), Epochs::new(BLOCKS), &expected(0), 2 * BLOCKS + 1), None);
}

#[test]
fn e1_without_a_schedule_the_set_stays() {
    let current = expected(0);
    assert_eq!(State::from_accounts([]).elect(&Rules::default(), 2, &current), current);
}

#[test]
fn x1_evidence_convicts_the_validator_that_its_own_epoch_had_under_that_index() {
    let chain = plain(b"chain");
    // An index under which epoch 5 has another validator than epoch 3, or none.
    let key_of = |epoch: u64, index| expected(epoch).get(index).map(|member| member.key);
    let index = (0..3).find(|index| key_of(3, *index) != key_of(5, *index)).expect("one has left");
    let signer = (1..=3).map(secret).find(|key| Some(key.public()) == key_of(3, index)).expect("a member");
    let vote = |digest| {
        let statement = Statement { epoch: 3, slot: 2, kind: Kind::Notar, digest };
        Vote::sign(statement, &chain, index, &signer)
    };
    let evidence = Evidence::of_votes(vote(plain(b"a")), vote(plain(b"b")), &chain);
    let header = Header { epoch: 5, evidence: vec![evidence], ..header(5 * BLOCKS + 2) };
    let offences = Context::of(&header, &sets(5)).offences;
    let convicted: Vec<PublicKey> = offences.iter().map(|offence| offence.key).collect();
    assert_eq!(convicted, [signer.public()]);
}
