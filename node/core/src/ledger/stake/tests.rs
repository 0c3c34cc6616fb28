//! Stakes and votes through the ledger: each code, what a block does before and after its transactions, no unit lost.

use crate::batch::{Batch, VerifiedBatch};
use crate::block::{Header, VERSION};
use crate::epoch::Sets;
use crate::evidence::{Class, Offence};
use crate::genesis::{Genesis, GenesisAccount, GenesisValidator, Mode, Staking};
use crate::hash::Hash;
use crate::key::{PublicKey, SecretKey, Signature};
use crate::ledger::{Context, Executed, ResultCode, Rules, execute};
use crate::params::{MAX_VALIDATORS, Parameters};
use crate::record::{Record, RecordKey};
use crate::staking::motion::{MAX_VOTES, UPGRADE_NOTICE};
use crate::staking::{Candidate, Cause, Jail, MAX_CANDIDATES};
use crate::state::{Account, State};
use crate::supply::Supply;
use crate::transaction::{Action, Motion, Payment, SignedTransaction, Stake, Term, Transaction};
use crate::validators::ValidatorSet;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

/// Validators of genesis are keys 1 to 4, each with a stake of 1,000 where there are stakes; 1 to 9 hold 10,000 each.
const VALIDATORS: u8 = 4;
const FUNDS: u64 = 10_000;
const FEE: u64 = 1;

/// Keys that somebody has, as genesis wants them, ascending.
static KEYS: LazyLock<Vec<PublicKey>> = LazyLock::new(|| {
    let mut keys: Vec<PublicKey> = (0..=u8::MAX).map(|n| SecretKey::from_seed([n; 32]).public()).collect();
    keys.sort_unstable();
    keys
});

fn key(n: u8) -> PublicKey {
    KEYS[usize::from(n)]
}

struct Chain {
    genesis: Genesis,
    rules: Rules,
    state: State,
    context: Context,
}

impl Chain {
    fn new(mode: Mode) -> Chain {
        Chain::with(mode, Staking::default())
    }

    fn with(mode: Mode, staking: Staking) -> Chain {
        let stake = if mode == Mode::Poa { 0 } else { 1_000 };
        let genesis = Genesis {
            chain_id: "stakes".into(),
            mode,
            validators: (1..=VALIDATORS).map(|n| GenesisValidator { public_key: key(n), weight: 1, stake }).collect(),
            accounts: (1..10).map(|n| GenesisAccount { address: key(n).address(), balance: FUNDS }).collect(),
            faucet: None,
            receipts: None,
            parameters: Parameters { min_fee: 0, ..Parameters::default() },
            staking,
        };
        genesis.check().expect("valid");
        let set = Some(Arc::new(genesis.validator_set().expect("a set")));
        let context =
            Context { epoch: 5, height: 50, time_ms: 50_000, set, leader: Some(key(1)), ..Context::default() };
        Chain { rules: Rules::of(&genesis), state: State::from_genesis(&genesis), genesis, context }
    }

    /// One block of these; its state is the chain's from then on.
    fn block(&mut self, context: &Context, txs: Vec<(u8, Action)>) -> Executed {
        let signature = Signature([0; 64]);
        let mut nonces = BTreeMap::new();
        let signed = |(sender, action): (u8, Action)| {
            let next = nonces.entry(sender).or_insert(self.state.account(&key(sender).address()).nonce);
            let nonce = *next;
            *next += 1;
            let transaction = Transaction { sender: key(sender), nonce, fee: FEE, expiry_height: u64::MAX, action };
            SignedTransaction { transaction, signature }
        };
        let txs = txs.into_iter().map(signed).collect();
        let batch = Batch { epoch: 0, author: 0, seq: 1, expiry_height: u64::MAX, txs, signature };
        let digest = batch.digest();
        let batch = VerifiedBatch::trusted(Arc::new(batch), digest, &self.rules.chain);
        let executed = execute(&self.state, &self.rules, context, [&batch]);
        self.state = executed.state.clone();
        assert_eq!(units(&self.state), self.state.supply().total(self.rules.supply), "no unit made or lost");
        executed
    }

    /// One transaction in a block of the usual context.
    fn send(&mut self, sender: u8, action: Action) -> ResultCode {
        let context = self.context.clone();
        self.block(&context, vec![(sender, action)]).results[0].code
    }

    /// Refused with this code: the fee is taken and the nonce used, and nothing else changes.
    fn refused(&mut self, sender: u8, action: Action, code: ResultCode) {
        let (before, records) = (self.state.account(&key(sender).address()), all_records(&self.state));
        assert_eq!(self.send(sender, action), code);
        assert!(code.had_effect(), "its nonce is used");
        let after = Account { balance: before.balance - FEE, nonce: before.nonce + 1 };
        assert_eq!(self.state.account(&key(sender).address()), after, "{code:?}");
        assert_eq!(all_records(&self.state), records, "{code:?}");
    }

    fn candidate(&self, n: u8) -> Candidate {
        self.state.candidate(&key(n)).cloned().unwrap_or_default()
    }

    fn balance(&self, n: u8) -> u64 {
        self.state.account(&key(n).address()).balance
    }

    /// Votes of validators 1 to 3, which are more than two thirds.
    fn carry(&mut self, motion: Motion) {
        for voter in 1..=3 {
            assert_eq!(self.send(voter, Action::AuthorityVote(motion)), ResultCode::Ok);
        }
    }

    /// Of genesis, with which the chain began.
    fn set(&self) -> Arc<ValidatorSet> {
        Arc::new(self.genesis.validator_set().expect("a set"))
    }

    /// The set after `current`, by the present state.
    fn next_set(&self, current: &Arc<ValidatorSet>) -> Arc<ValidatorSet> {
        self.state.next_set(&self.rules, self.context.epoch + 2, current)
    }

    /// From now on the first member, validator 1, weighs so much; 0: it is none.
    fn weigh_first(&mut self, weight: u32) {
        let mut members = self.set().members().to_vec();
        members[0].weight = weight;
        members.retain(|member| member.weight > 0);
        self.context.set = Some(Arc::new(ValidatorSet::new(members).expect("a set")));
    }

    fn first_of(&self, epoch: u64, time_ms: u64) -> Context {
        Context { epoch, is_first: true, time_ms, ..self.context.clone() }
    }
}

fn all_records(state: &State) -> Vec<(RecordKey, Record)> {
    state.records().map(|(key, record)| (key.clone(), record.clone())).collect()
}

/// All units there are: in accounts, at stake and unbonding.
fn units(state: &State) -> u64 {
    let balances: u64 = state.iter().map(|(_, account)| account.balance).sum();
    let locked = |(_, record): (&RecordKey, &Record)| match record {
        Record::Candidate(candidate) => candidate.locked(),
        _ => 0,
    };
    balances + state.records().map(locked).sum::<u64>()
}

fn bond(n: u8, amount: u64) -> Action {
    Action::Bond(Stake { validator: key(n), amount })
}

fn unbond(n: u8, amount: u64) -> Action {
    Action::Unbond(Stake { validator: key(n), amount })
}

fn activate(owner: u8) -> Action {
    Action::Activate { owner: key(owner).address() }
}

#[test]
fn a_chain_starts_with_its_validators_as_candidates() {
    let poa = Chain::new(Mode::Poa);
    assert_eq!(poa.state.candidates(), [key(1), key(2), key(3), key(4)]);
    assert_eq!(poa.candidate(1), Candidate::of_genesis(key(1).address(), 0, 1));
    let pos = Chain::new(Mode::Pos);
    let expected = Candidate { admitted: false, ..Candidate::of_genesis(key(1).address(), 1_000, 0) };
    assert_eq!(pos.candidate(1), expected);
    assert_eq!((pos.rules.supply, pos.state.supply()), (9 * FUNDS + 4_000, Supply::default()));
    let set = pos.set();
    assert_eq!(pos.next_set(&set), set);
}

#[test]
fn a_validator_activates_its_owner_bonds_and_the_set_after_next_has_it() {
    let mut chain = Chain::new(Mode::Pos);
    assert_eq!(chain.send(5, activate(6)), ResultCode::Ok);
    assert_eq!(chain.state.candidates().len(), 4, "who has only activated is not listed");
    assert_eq!(chain.send(6, bond(5, 1_500)), ResultCode::Ok);
    assert_eq!((chain.balance(6), chain.candidate(5).stake), (FUNDS - FEE - 1_500, 1_500));
    let set = chain.set();
    let next = chain.next_set(&set);
    assert_eq!((next.len(), next.total_weight()), (5, 5_000), "a quarter of the weight joins");
}

#[test]
fn a_bond_is_refused_below_the_minimum_without_activation_by_a_stranger_and_without_the_units() {
    let mut chain = Chain::new(Mode::Hybrid);
    chain.refused(6, bond(5, 5_000), ResultCode::NotActivated);
    chain.send(5, activate(6));
    chain.refused(6, bond(5, 999), ResultCode::BondTooSmall);
    chain.refused(7, bond(5, 5_000), ResultCode::NotOwner);
    chain.refused(6, bond(5, FUNDS), ResultCode::InsufficientBalance);
    chain.refused(5, activate(6), ResultCode::AlreadyActive);
    let mut poa = Chain::new(Mode::Poa);
    poa.refused(1, bond(1, 5_000), ResultCode::StakingDisabled);
    poa.refused(1, unbond(1, 5), ResultCode::StakingDisabled);
}

#[test]
fn more_than_is_bonded_is_not_unbonded_nor_a_rest_below_the_minimum() {
    let mut chain = Chain::new(Mode::Pos);
    chain.refused(1, unbond(1, 1_001), ResultCode::UnbondTooMuch);
    chain.refused(1, unbond(1, 1), ResultCode::BondTooSmall);
    chain.refused(2, unbond(1, 1_000), ResultCode::NotOwner);
    chain.refused(1, unbond(9, 1), ResultCode::NotOwner);
    assert_eq!(chain.send(1, unbond(1, 1_000)), ResultCode::Ok);
    assert_eq!((chain.candidate(1).stake, chain.candidate(1).locked()), (0, 1_000));
    chain.refused(1, bond(1, 1_000), ResultCode::NotActivated);
}

#[test]
fn a_stake_comes_back_in_the_first_block_of_an_epoch_and_the_candidate_goes() {
    let mut chain = Chain::with(Mode::Pos, Staking { unbonding_ms: 1_000, ..Staking::default() });
    chain.send(1, unbond(1, 1_000));
    chain.weigh_first(0);
    let before = chain.balance(1);
    for (epoch, time_ms) in [(6, 60_000), (7, 70_000), (8, 80_000)] {
        let first = chain.first_of(epoch, time_ms);
        assert_eq!(chain.block(&first, vec![]).changed, []);
    }
    let late = Context { is_first: false, ..chain.first_of(9, 90_000) };
    assert_eq!(chain.block(&late, vec![]).changed, [], "only in the first block of an epoch");
    let first = chain.first_of(9, 91_000);
    chain.block(&first, vec![]);
    assert_eq!(chain.balance(1), before + 1_000);
    assert_eq!((chain.state.candidate(&key(1)), chain.state.candidates().len()), (None, 3));
}

#[test]
fn as_many_candidates_are_kept_as_are_allowed() {
    for mode in [Mode::Pos, Mode::Hybrid] {
        let mut chain = Chain::new(mode);
        chain.send(5, activate(5));
        let mut keys: Vec<_> = (0..MAX_CANDIDATES as u64)
            .map(|n| {
                let mut key = [200; 32];
                key[..8].copy_from_slice(&n.to_be_bytes());
                PublicKey(key)
            })
            .collect();
        keys.sort_unstable();
        let mut more = keys.clone();
        chain.state.set_record(RecordKey::Candidates, Some(Record::Candidates { keys }));
        chain.refused(5, bond(5, 2_000), ResultCode::CandidatesFull);
        if mode == Mode::Hybrid {
            more.extend((0..MAX_VALIDATORS as u8).map(|n| PublicKey([201 + n / 50; 32])));
            chain.carry(Motion::Admit(key(5)));
            assert_eq!(chain.send(5, bond(5, 2_000)), ResultCode::Ok, "authorities find room for whom they want");
            chain.state.set_record(RecordKey::Candidates, Some(Record::Candidates { keys: more }));
            chain.refused(1, Action::AuthorityVote(Motion::Admit(key(6))), ResultCode::CandidatesFull);
        }
    }
}

#[test]
fn e2_a_stake_that_counts_still_is_not_paid_out_and_is_slashed() {
    // Four of at least four: without validator 1 there is no set, and the one there is stays.
    let staking = Staking { min_validators: 4, unbonding_ms: 0, ..Staking::default() };
    let mut chain = Chain::with(Mode::Pos, staking);
    chain.send(1, unbond(1, 1_000));
    assert_eq!(chain.next_set(&chain.set()), chain.set());
    for epoch in 6..20 {
        let first = chain.first_of(epoch, epoch * 10_000);
        chain.block(&first, vec![]);
    }
    assert_eq!(chain.candidate(1).locked(), 1_000);
    let offences = vec![Offence { key: key(1), class: Class::Finals, epoch: 19, slot: 4 }];
    let proven = Context { offences, ..chain.context.clone() };
    chain.block(&proven, vec![]);
    assert_eq!(chain.candidate(1).locked(), 950);
}

#[test]
fn e2_a_stake_below_what_is_needed_now_leaves_the_list() {
    let mut chain = Chain::with(Mode::Pos, Staking { unbonding_ms: 0, ..Staking::default() });
    chain.send(5, activate(5));
    chain.send(5, bond(5, 1_000));
    chain.carry(Motion::SetTerm { term: Term::MinStake, value: 1_001 });
    let before = chain.balance(5);
    for epoch in 6..=10 {
        let first = chain.first_of(epoch, epoch * 10_000);
        chain.block(&first, vec![]);
    }
    assert_eq!((chain.balance(5), chain.state.candidate(&key(5))), (before + 1_000, None));
    assert_eq!(chain.state.candidates().len(), 4, "members keep their stake while they are members");
}

#[test]
fn e2_more_than_two_thirds_of_the_authorities_admit_and_remove() {
    let mut chain = Chain::new(Mode::Poa);
    let admit = Action::AuthorityVote(Motion::Admit(key(5)));
    chain.send(5, activate(5));
    chain.send(1, admit.clone());
    chain.send(2, admit.clone());
    assert!(!chain.candidate(5).admitted, "two of four");
    chain.send(3, admit.clone());
    assert_eq!((chain.candidate(5).admitted, chain.candidate(5).weight), (true, 1));
    assert!(all_records(&chain.state).iter().all(|(key, _)| !matches!(key, RecordKey::Ballot { .. })), "carried");
    let set = chain.set();
    let next = chain.next_set(&set);
    assert_eq!((next.len(), next.total_weight()), (5, 5));
    chain.carry(Motion::Remove(key(2)));
    let next = chain.next_set(&next);
    assert_eq!((next.len(), next.index_of(&key(2))), (4, None));
}

#[test]
fn a_vote_is_refused_from_who_is_no_authority_and_for_the_same_motion_twice() {
    let mut chain = Chain::new(Mode::Hybrid);
    let admit = Action::AuthorityVote(Motion::Admit(key(5)));
    chain.refused(5, admit.clone(), ResultCode::NotAuthority);
    assert_eq!(chain.send(1, admit.clone()), ResultCode::Ok);
    chain.refused(1, admit.clone(), ResultCode::AlreadyVoted);
    chain.context.epoch += 1;
    chain.refused(1, admit.clone(), ResultCode::AlreadyVoted);
    chain.context.epoch += 1;
    chain.send(2, admit.clone());
    chain.send(3, admit.clone());
    assert!(!chain.candidate(5).admitted, "the first vote is over");
    assert_eq!(chain.send(1, admit), ResultCode::Ok);
    assert!(chain.candidate(5).admitted);
}

#[test]
fn a_vote_is_refused_where_it_would_change_nothing_or_is_of_another_mode() {
    let vote = Action::AuthorityVote;
    let mut chain = Chain::new(Mode::Poa);
    chain.refused(1, vote(Motion::Admit(key(2))), ResultCode::MotionPointless);
    chain.refused(1, vote(Motion::Remove(key(5))), ResultCode::MotionPointless);
    chain.refused(1, vote(Motion::SetTerm { term: Term::MinFee, value: 0 }), ResultCode::MotionPointless);
    let mut pos = Chain::new(Mode::Pos);
    pos.refused(1, vote(Motion::Admit(key(5))), ResultCode::MotionPointless);
    for value in 0..MAX_VOTES as u64 {
        pos.send(1, vote(Motion::SetTerm { term: Term::MinFee, value: 10 + value }));
    }
    pos.refused(1, vote(Motion::SetTerm { term: Term::MinFee, value: 9 }), ResultCode::VotesFull);
}

#[test]
fn in_pos_votes_weigh_as_stakes_do() {
    let mut chain = Chain::new(Mode::Pos);
    chain.weigh_first(9_000);
    let motion = Action::AuthorityVote(Motion::SetTerm { term: Term::MinStake, value: 2_000 });
    chain.send(1, motion);
    assert_eq!(chain.state.terms(&chain.rules).min_stake, 2_000);
}

#[test]
fn a_term_within_bounds_changes_from_the_next_block_on() {
    let mut chain = Chain::new(Mode::Poa);
    let motion = Motion::SetTerm { term: Term::MinFee, value: 7 };
    let over = Motion::SetTerm { term: Term::MinFee, value: 1_000_001 };
    chain.refused(1, Action::AuthorityVote(over), ResultCode::ParameterOutOfRange);
    let votes = (1..=3).map(|voter| (voter, Action::AuthorityVote(motion)));
    let pay = (9, Action::Transfer(Payment { to: key(8).address(), amount: 1 }));
    let context = chain.context.clone();
    let executed = chain.block(&context, votes.chain([pay.clone()]).collect());
    assert!(executed.results.iter().all(|result| result.code == ResultCode::Ok));
    assert_eq!(chain.state.terms(&chain.rules).min_fee, 7);
    assert_eq!(chain.block(&context, vec![pay]).results[0].code, ResultCode::FeeTooLow);
}

#[test]
fn v1_an_upgrade_that_authorities_schedule_is_the_version_from_its_height_on() {
    let mut chain = Chain::new(Mode::Hybrid);
    let height = chain.context.height + UPGRADE_NOTICE;
    let too_soon = Motion::ScheduleUpgrade { version: 2, height: height - 1 };
    chain.refused(1, Action::AuthorityVote(too_soon), ResultCode::UpgradeOutOfRange);
    let skipped = Motion::ScheduleUpgrade { version: 3, height };
    chain.refused(1, Action::AuthorityVote(skipped), ResultCode::UpgradeOutOfRange);
    chain.carry(Motion::ScheduleUpgrade { version: 2, height });
    assert_eq!([height - 1, height, height + 1].map(|height| chain.state.version_at(height)), [1, 2, 2]);
}

#[test]
fn x7_an_offence_burns_a_part_of_the_stake_once_and_keeps_the_validator_out() {
    let mut chain = Chain::new(Mode::Pos);
    chain.send(1, Action::Transfer(Payment { to: key(2).address(), amount: 1 }));
    let offence = Offence { key: key(1), epoch: 5, class: Class::Finals, slot: 3 };
    let guilty = Context { offences: vec![offence], ..chain.context.clone() };
    chain.block(&guilty, vec![]);
    assert_eq!((chain.candidate(1).stake, chain.state.supply().burnt), (950, 50));
    assert_eq!(chain.candidate(1).jail, Some(Jail { until: 15, cause: Cause::DoubleSigning }));
    let again = Context { height: 51, ..guilty };
    chain.block(&again, vec![]);
    assert_eq!(chain.state.supply().burnt, 50);
    let set = chain.set();
    assert_eq!(chain.next_set(&set).index_of(&key(1)), None);
    chain.refused(1, Action::Unjail, ResultCode::StillJailed);
    chain.context.epoch = 15;
    assert_eq!(chain.send(1, Action::Unjail), ResultCode::Ok);
    chain.refused(1, Action::Unjail, ResultCode::NotJailed);
}

/// A set of three needs one that has to go: not who signed twice, though no list of candidates has it any more.
#[test]
fn e2_who_signed_twice_goes_before_who_was_only_removed_where_one_of_them_has_to_stay() {
    let mut chain = Chain::with(Mode::Poa, Staking { min_validators: 3, ..Staking::default() });
    chain.carry(Motion::Remove(key(4)));
    let offence = Offence { key: key(2), epoch: 5, class: Class::Finals, slot: 3 };
    let guilty = Context { offences: vec![offence], ..chain.context.clone() };
    chain.block(&guilty, vec![]);
    assert_eq!(chain.state.candidates(), [key(1), key(3)]);
    let next = chain.next_set(&chain.set());
    let keys: Vec<PublicKey> = next.members().iter().map(|member| member.key).collect();
    assert_eq!(keys, [key(1), key(3), key(4)]);
}

#[test]
fn x7_authorities_have_to_admit_again_who_signed_twice() {
    let mut chain = Chain::new(Mode::Hybrid);
    let offence = Offence { key: key(4), epoch: 5, class: Class::Batches, slot: 3 };
    let guilty = Context { offences: vec![offence], ..chain.context.clone() };
    chain.block(&guilty, vec![]);
    assert_eq!((chain.candidate(4).stake, chain.candidate(4).admitted), (1_000, false));
    chain.refused(4, Action::Unjail, ResultCode::NotAdmitted);
    chain.carry(Motion::Admit(key(4)));
    let set = chain.set();
    assert_eq!(chain.next_set(&set).index_of(&key(4)), None, "it has to say that it is ready");
    assert_eq!(chain.send(4, Action::Unjail), ResultCode::Ok);
    assert_eq!(chain.next_set(&set), set);
}

#[test]
fn skipped_slots_count_against_their_leaders_until_they_lead_a_block() {
    let staking = Staking { absence_slots: 3, absence_ms: 1_000, ..Staking::default() };
    let mut chain = Chain::with(Mode::Poa, staking);
    let skipped = |chain: &Chain, time_ms| Context { time_ms, missed: vec![key(2), key(3)], ..chain.context.clone() };
    for time_ms in [50_000, 50_500] {
        let context = skipped(&chain, time_ms);
        chain.block(&context, vec![]);
    }
    let led = Context { leader: Some(key(3)), ..chain.context.clone() };
    chain.block(&led, vec![]);
    assert_eq!((chain.candidate(2).missed, chain.candidate(3).missed), (2, 0));
    let context = skipped(&chain, 51_000);
    chain.block(&context, vec![]);
    assert_eq!(chain.candidate(2).jail, Some(Jail { until: 6, cause: Cause::Absence }));
    assert_eq!(chain.candidate(3).jail, None);
    let set = chain.set();
    assert_eq!(chain.next_set(&set).len(), 3);
    chain.refused(2, Action::Unjail, ResultCode::StillJailed);
    chain.context.epoch = 6;
    assert_eq!(chain.send(2, Action::Unjail), ResultCode::Ok);
    assert_eq!(chain.next_set(&set).len(), 4);
}

#[test]
fn a_leader_is_not_jailed_by_the_block_that_it_leads() {
    let mut chain = Chain::with(Mode::Poa, Staking { absence_slots: 1, absence_ms: 0, ..Staking::default() });
    let leads = Context { missed: vec![key(2)], leader: Some(key(2)), ..chain.context.clone() };
    chain.block(&leads, vec![]);
    assert_eq!((chain.candidate(2).jail, chain.candidate(2).missed), (None, 0));
    let skipped = Context { missed: vec![key(2)], ..chain.context.clone() };
    chain.block(&skipped, vec![]);
    assert!(chain.candidate(2).jail.is_some());
}

#[test]
fn a_member_that_left_the_set_starts_afresh() {
    let mut chain = Chain::new(Mode::Poa);
    let context = Context { missed: vec![key(1)], leader: Some(key(2)), ..chain.context.clone() };
    chain.block(&context, vec![]);
    assert_eq!(chain.candidate(1).missed, 1);
    let begins = |chain: &Chain| Context { leader: Some(key(2)), ..chain.first_of(6, 60_000) };
    let first = begins(&chain);
    chain.block(&first, vec![]);
    assert_eq!(chain.candidate(1).missed, 1, "it is in the set still");
    chain.weigh_first(0);
    let first = begins(&chain);
    chain.block(&first, vec![]);
    assert_eq!(chain.candidate(1).missed, 0);
}

#[test]
fn the_block_reward_is_shared_by_weight_among_members_that_work() {
    let mut chain = Chain::with(Mode::Poa, Staking { block_reward: 11, ..Staking::default() });
    let idle = Context { missed: vec![key(4)], ..chain.context.clone() };
    chain.block(&idle, vec![]);
    assert_eq!([1, 2, 3, 4].map(|n| chain.balance(n) - FUNDS), [3, 3, 3, 0], "of 11, by three");
    assert_eq!(chain.state.supply(), Supply { minted: 9, burnt: 0 });
    chain.weigh_first(8);
    chain.send(9, Action::Transfer(Payment { to: key(8).address(), amount: 1 }));
    assert_eq!([1, 2, 3, 4].map(|n| chain.balance(n) - FUNDS), [3 + 8, 3 + 1, 3 + 1, 0]);
}

#[test]
fn no_reward_is_paid_where_there_would_be_more_than_may_exist() {
    let mut chain = Chain::with(Mode::Poa, Staking { block_reward: 100, ..Staking::default() });
    let room = crate::params::MAX_SUPPLY - chain.rules.supply;
    let whole = Record::Supply(Supply { minted: room - 99, burnt: 0 });
    chain.state.set_record(RecordKey::Supply, Some(whole));
    let executed = execute(&chain.state, &chain.rules, &chain.context, []);
    assert_eq!((executed.changed, executed.changed_records), (vec![], vec![]));
}

#[test]
fn a_context_names_who_skipped_of_the_last_slots_and_whether_an_epoch_begins() {
    let set = Chain::new(Mode::Poa).set();
    let header = |parent_slot, slot| {
        let header = Header {
            version: VERSION,
            epoch: 2,
            slot,
            height: 41,
            parent_slot,
            parent: Hash::ZERO,
            parent_state_root: Hash::ZERO,
            parent_results_root: Hash::ZERO,
            time_ms: 7,
            proposer: set.leader(2, slot),
            set_hash: set.hash(),
            next_set_hash: set.hash(),
            batches: vec![],
            evidence: vec![],
        };
        Context::of(&header, &Sets { epoch: 2, ..Sets::genesis(set.clone()) })
    };
    let first = header(0, 3);
    assert!(first.is_first);
    assert_eq!(first.missed, [1, 2].map(|slot| set.get(set.leader(2, slot)).expect("a member").key));
    assert_eq!(first.leader, set.get(set.leader(2, 3)).map(|member| member.key));
    let next = header(3, 4);
    assert!(!next.is_first && next.missed.is_empty());
    assert_eq!(header(3, 10_000).missed.len() as u64, crate::staking::MAX_COUNTED_SKIPS);
}

#[test]
fn who_waits_for_a_set_are_the_greatest_stakes_outside_ready_or_not_and_nobody_below_the_minimum() {
    let mut chain = Chain::new(Mode::Pos);
    let put = |chain: &mut Chain, n: u8, candidate: Candidate| {
        let record = Some(Record::Candidate(candidate));
        chain.state.set_record(RecordKey::Candidate { key: key(n) }, record);
        let mut keys = chain.state.candidates().to_vec();
        keys.push(key(n));
        keys.sort_unstable();
        chain.state.set_record(RecordKey::Candidates, Some(Record::Candidates { keys }));
    };
    let jail = Some(Jail { until: 9, cause: Cause::Absence });
    let staked = |stake| Candidate { stake, active: true, ..Candidate::default() };
    put(&mut chain, 5, Candidate { active: false, ..staked(2_000) });
    put(&mut chain, 6, Candidate { jail, ..staked(3_000) });
    put(&mut chain, 7, staked(999));
    put(&mut chain, 8, staked(2_000));
    put(&mut chain, 9, Candidate { admitted: true, ..Candidate::default() });
    let set = Arc::new(chain.genesis.validator_set().expect("a set"));
    let sets = Sets::genesis(set);
    let waiting = |chain: &Chain, most| chain.state.waiting(&chain.rules, &sets, most);
    assert_eq!(waiting(&chain, 9), [key(6), key(5), key(8)], "those of genesis are in the sets");
    assert_eq!(waiting(&chain, 2), [key(6), key(5)]);
    chain.rules.staking.mode = Mode::Poa;
    assert_eq!(waiting(&chain, 9), [key(9)], "whom authorities admit, without a stake");
}
