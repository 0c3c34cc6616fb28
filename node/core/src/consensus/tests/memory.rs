//! Lost votes: noticed before the first vote, and cured by the others (A2-A8).

use super::rig::{Parent, Rig, WALL, chain, genesis, nothing, statement};
use crate::block::Header;
use crate::consensus::input::{Input, Now, Recovered, WriteFailure};
use crate::consensus::output::{Halt, Output, Rows, Write};
use crate::consensus::{Config, Core, VotingState};
use crate::epoch::Sets;
use crate::hash::Hash;
use crate::hello::{Heard, Hello, Role};
use crate::key::{PublicKey, SecretKey, Signature};
use crate::memory::{Cause, MAX_VOTES_SHOWN, Mark, Memory, Seen};
use crate::message::Message;
use crate::params::{ANSWER_BYTES, Parameters};
use crate::validators::{Index, Validator, ValidatorSet};
use crate::vote::{Kind, Statement, Vote};
use std::sync::Arc;

/// Number 3 of four, that has just started on what its database holds and hears nobody.
fn started(recovered: Recovered) -> Rig {
    Rig::alone(&[1; 4], 3, Parameters::default(), recovered)
}

fn quarantined() -> Rig {
    started(Recovered { memory: Memory::default().quarantined(Cause::NewDatabase), ..nothing() })
}

fn own_vote(rig: &Rig, kind: Kind, slot: u64) -> Vote {
    let digest = if kind == Kind::Skip { Hash::ZERO } else { Hash([9; 32]) };
    rig.sign(3, statement(kind, slot, digest))
}

fn hello(rig: &Rig, signer: Index, generation: u32) -> Heard {
    let key = &rig.keys[usize::from(signer)];
    let hello = Hello {
        chain: chain(),
        protocol: 1,
        key: key.public(),
        generation,
        binding: Hash([8; 32]),
        signature: Signature([0; 64]),
    };
    Heard { role: Role::Dialer, hello: hello.signed(Role::Dialer, key) }
}

fn seen_vote(vote: Vote) -> Seen {
    Seen { vote: Some(vote), hello: None }
}

fn memories(rig: &Rig) -> Vec<(Memory, Option<u32>)> {
    let rows = rig.writes().into_iter().map(|write| write.rows);
    rows.filter_map(
        |rows| if let Rows::Memory { memory, generation } = rows { Some((memory, generation)) } else { None },
    )
    .collect()
}

#[test]
fn a2_no_vote_before_two_others_have_answered() {
    let mut rig = started(nothing());
    let header = rig.header(1, &genesis());
    rig.propose(header);
    rig.execute();
    rig.pass(100);
    assert_eq!((rig.core.voting_state(), rig.persisted()), (VotingState::Checking, vec![]), "nobody answered");
    rig.answer(0, 0, Seen::default());
    rig.answer(0, 0, Seen::default());
    assert_eq!(rig.persisted(), vec![], "one peer twice is one peer");
    rig.answer(1, 0, Seen::default());
    assert_eq!(rig.core.voting_state(), VotingState::Voting);
    assert_eq!(rig.persisted_kinds(), [(Kind::Notar, 1)], "what was held back is voted for now");
}

#[test]
fn a2_who_is_alone_or_outweighs_the_faulty_by_itself_asks_nobody() {
    assert_eq!(Rig::alone(&[1], 0, Parameters::default(), nothing()).core.voting_state(), VotingState::Voting);
    let pair = Rig::alone(&[1, 1], 0, Parameters::default(), nothing());
    assert_eq!(pair.core.voting_state(), VotingState::Checking, "of two, the other must answer");
    let heavy = Rig::alone(&[9, 1], 0, Parameters::default(), nothing());
    assert_eq!(heavy.core.voting_state(), VotingState::Voting, "all the others may be faulty");
}

#[test]
fn a2_who_has_answered_counts_by_its_weight() {
    let started = || Rig::alone(&[3, 1, 1, 1], 3, Parameters::default(), nothing());
    let mut by_light = started();
    by_light.answer(1, 0, Seen::default());
    assert_eq!(by_light.core.voting_state(), VotingState::Checking, "weight 1, and 1 may be faulty");
    let mut by_heavy = started();
    by_heavy.answer(0, 0, Seen::default());
    assert_eq!(by_heavy.core.voting_state(), VotingState::Voting);
}

#[test]
fn a2_everybody_is_asked_at_once_and_again() {
    let mut rig = started(nothing());
    let first = rig.nonce();
    rig.give(Input::Connected { peer: 1 });
    assert!(rig.sent().contains(&(1, Message::MarkQuery { nonce: first, votes_above: None })));
    rig.take();
    rig.pass(1_000);
    assert_eq!(rig.nonce(), first, "the same question");
}

#[test]
fn a2_a_vote_that_is_in_no_row_quarantines_durably() {
    for kind in [Kind::Notar, Kind::Skip, Kind::Final] {
        let mut rig = started(nothing());
        let vote = own_vote(&rig, kind, 17);
        rig.answer(0, 0, seen_vote(vote));
        assert_eq!(rig.core.voting_state(), VotingState::Quarantined, "{kind:?}");
        let (memory, generation) = memories(&rig).pop().expect("stored");
        assert_eq!((memory.quarantine, generation), (Some(Cause::VoteMissing { slot: 17 }), None));
    }
}

#[test]
fn a2_known_votes_and_votes_at_or_below_floors_are_not_missing() {
    let rig = started(nothing());
    let (known, low, floored) =
        (own_vote(&rig, Kind::Skip, 9), own_vote(&rig, Kind::Skip, 5), own_vote(&rig, Kind::Skip, 7));
    let memory = Memory { floors: [(0, 7), (1, 1)].into(), clean_from: 2, ..Memory::default() };
    let recovered = Recovered { votes: vec![known.clone()], vote_floor: (0, 5), memory, ..nothing() };
    for vote in [known, low, floored] {
        let mut rig = started(recovered.clone());
        rig.answer(0, 0, seen_vote(vote.clone()));
        rig.answer(1, 0, Seen::default());
        assert_eq!(rig.core.voting_state(), VotingState::Voting, "{vote:?}");
    }
}

#[test]
fn a2_nobody_can_lie_a_validator_into_quarantine() {
    let mut rig = started(nothing());
    let (forged, other) =
        (rig.forged(3, statement(Kind::Skip, 9, Hash::ZERO)), rig.sign(0, statement(Kind::Skip, 9, Hash::ZERO)));
    rig.answer(0, 0, seen_vote(forged));
    rig.answer(0, 0, seen_vote(Vote { signer: 3, ..other }));
    let mut older = hello(&rig, 3, 1);
    older.hello.generation = 9;
    rig.answer(0, 0, Seen { vote: None, hello: Some(older) });
    let of_another = hello(&rig, 0, 9);
    rig.answer(0, 0, Seen { vote: None, hello: Some(of_another) });
    assert_eq!(rig.core.voting_state(), VotingState::Checking);
    rig.answer(1, 0, Seen::default());
    assert_eq!(rig.core.voting_state(), VotingState::Voting);
}

#[test]
fn a2_a_generation_not_below_the_own_quarantines() {
    for (shown, voting_state) in
        [(4, VotingState::Checking), (5, VotingState::Quarantined), (6, VotingState::Quarantined)]
    {
        let mut rig = started(Recovered { generation: 5, ..nothing() });
        let hello = hello(&rig, 3, shown);
        rig.answer(0, 0, Seen { vote: None, hello: Some(hello) });
        assert_eq!(rig.core.voting_state(), voting_state, "generation {shown} was shown to generation 5");
    }
}

#[test]
fn a2_an_answer_to_another_question_or_with_a_wrong_signature_is_dropped() {
    let mut rig = started(nothing());
    let vote = own_vote(&rig, Kind::Skip, 9);
    let stale = Mark { nonce: Hash([1; 32]), epoch: 0, clean_from: 0, quarantined: false, slot: 0 };
    rig.answer_with(0, stale, seen_vote(vote.clone()));
    let reply = crate::memory::MarkReply {
        mark: Mark { nonce: rig.nonce(), ..stale },
        signature: Signature([1; 64]),
        seen: seen_vote(vote),
        votes: Vec::new(),
    };
    rig.give(Input::MarkReply { from: 0, reply });
    assert_eq!((rig.core.voting_state(), rig.dropped()), (VotingState::Checking, vec!["mark", "mark"]));
}

#[test]
fn a3_quarantined_it_says_not_ready_executes_and_votes_for_nothing() {
    let mut rig = quarantined();
    for peer in 0..3 {
        rig.give(Input::Connected { peer });
    }
    let statuses =
        rig.sent().into_iter().filter_map(|(_, m)| if let Message::Status(s) = m { Some(s.ready) } else { None });
    assert_eq!(statuses.collect::<Vec<_>>(), [false; 3]);
    let header = rig.header(1, &genesis());
    let digest = rig.propose(header);
    rig.serve();
    rig.cert(Kind::Notar, 1, digest);
    rig.cert(Kind::Final, 1, digest);
    rig.pass(60_000);
    assert_eq!((rig.asked_to_execute(), rig.finalized(), rig.persisted()), (vec![digest], vec![1], vec![]));
}

#[test]
fn a4_the_mark_is_the_highest_own_vote_stored_or_under_way_or_forgotten_below_the_floor() {
    let mark = |rig: &mut Rig| {
        rig.pass(100);
        rig.take();
        rig.ask(0, Hash([5; 32]));
        let mark =
            rig.out.iter().find_map(|o| if let Output::Mark { to: 0, mark, .. } = o { Some(*mark) } else { None });
        mark.expect("answered")
    };
    let mut rig = Rig::new(4, 3);
    let fresh = Mark { nonce: Hash([5; 32]), epoch: 0, clean_from: 0, quarantined: false, slot: 0 };
    assert_eq!(mark(&mut rig), fresh);
    rig.durable_batch(0, 1, 1);
    rig.pass(10_000);
    assert_eq!(rig.persisted_kinds(), [(Kind::Skip, 1)]);
    assert_eq!(mark(&mut rig).slot, 1, "its Skip is asked for, not yet durable");
    let votes = vec![own_vote(&rig, Kind::Skip, 12)];
    let mut restarted = Rig::recovered(4, 3, Recovered { votes, vote_floor: (0, 4), ..nothing() });
    assert_eq!(mark(&mut restarted).slot, 12);
    let mut pruned = Rig::recovered(4, 3, Recovered { vote_floor: (0, 40), ..nothing() });
    assert_eq!(mark(&mut pruned).slot, 40);
    let mut checking = started(nothing());
    assert!(mark(&mut checking).quarantined, "one that may have lost votes itself does not count");
    assert!(mark(&mut quarantined()).quarantined);
}

#[test]
fn a4_the_answer_shows_the_askers_highest_vote_and_generation() {
    let mut rig = Rig::new(4, 3);
    for slot in [2, 5, 3] {
        rig.vote(0, statement(Kind::Skip, slot, Hash::ZERO));
    }
    for generation in [4, 6, 5] {
        let heard = hello(&rig, 0, generation);
        rig.give(Input::Greeted { peer: 0, heard });
    }
    rig.ask(0, Hash::ZERO);
    rig.ask(0, Hash::ZERO);
    let answers: Vec<_> =
        rig.out.iter().filter_map(|o| if let Output::Mark { seen, .. } = o { Some(seen) } else { None }).collect();
    assert_eq!(answers.len(), 1, "at most one answer in 50 ms");
    assert_eq!(answers[0].vote.as_ref().map(|vote| vote.statement.slot), Some(5));
    assert_eq!(answers[0].hello.as_ref().map(|heard| heard.hello.generation), Some(6));
}

#[test]
fn a4_who_is_in_no_set_is_answered_like_a_peer_and_as_often() {
    let mut rig = Rig::new(4, 3);
    // The number is the shell's, which alone knows whose it is.
    let ask = |rig: &mut Rig, from: Index, name: u8| {
        rig.take();
        let asker = SecretKey::from_seed([name; 32]).public();
        rig.give(Input::MarkQuery { from, asker, nonce: Hash([5; 32]), votes_above: None });
        let answered = |o: &Output| match o {
            Output::Mark { to, asker: key, mark, seen, .. } => {
                assert_eq!((*key, mark.nonce, &seen.vote), (asker, Hash([5; 32]), &None));
                assert!(mark.counts_toward(0) && mark.counts_toward(1));
                Some(*to)
            }
            _ => None,
        };
        rig.out.iter().find_map(answered)
    };
    assert_eq!(ask(&mut rig, 60_000, 50), Some(60_000));
    assert_eq!(ask(&mut rig, 60_001, 51), Some(60_001), "another one");
    assert_eq!(ask(&mut rig, 60_000, 50), None, "at most one answer in 50 ms");
    rig.pass(50);
    assert_eq!(ask(&mut rig, 60_000, 50), Some(60_000));
    for name in 100..131 {
        assert!(ask(&mut rig, 60_000, name).is_some());
    }
    assert_eq!((ask(&mut rig, 60_000, 131), rig.dropped()), (None, vec!["mark_query"]), "32 at a time");
    rig.take();
    rig.ask(0, Hash::ZERO);
    assert!(rig.out.iter().any(|o| matches!(o, Output::Mark { to: 0, .. })), "a peer has its own turn");
}

#[test]
fn a1_a_joiner_recovers_by_the_answers_of_a_set_that_it_is_not_in() {
    let keys: Vec<SecretKey> = (1..=3).map(|seed| SecretKey::from_seed([seed; 32])).collect();
    let members = keys.iter().map(|key| Validator { key: key.public(), weight: 1 }).collect();
    let sets = Sets::genesis(Arc::new(ValidatorSet::new(members).expect("valid set")));
    let own = SecretKey::from_seed([9; 32]).public();
    let numbers: Vec<PublicKey> = sets.current.members().iter().map(|member| member.key).collect();
    let config = Config::at(chain(), own, sets, numbers.clone(), Parameters::default(), 7);
    let recovered = Recovered { memory: Memory::default().quarantined(Cause::NewDatabase), ..nothing() };
    let (now, mut out) = (Now { mono_ms: 1_000, wall_ms: WALL }, Vec::new());
    let mut joiner = Core::new(config, recovered, now);
    joiner.start(now, &mut out);
    let question =
        |o: &Output| if let Output::Broadcast(Message::MarkQuery { nonce, .. }) = o { Some(*nonce) } else { None };
    let nonce = out.iter().find_map(question).expect("it asks");
    for (from, number) in numbers.iter().enumerate() {
        let key = keys.iter().find(|key| key.public() == *number).expect("a member");
        let mark = Mark { nonce, epoch: 0, clean_from: 0, quarantined: false, slot: 4 };
        let signature = key.sign(&mark.sign_bytes(&chain(), &own));
        let reply = crate::memory::MarkReply { mark, signature, seen: Seen::default(), votes: Vec::new() };
        joiner.step(now, Input::MarkReply { from: from as Index, reply }, &mut out);
    }
    let stored = |o: &Output| match o {
        Output::Persist(Write { rows: Rows::Memory { memory, .. }, .. }) => Some(memory.clone()),
        _ => None,
    };
    let memory = out.iter().find_map(stored).expect("A6");
    assert_eq!((memory.quarantine, memory.clean_from, memory.floors), (None, 2, [(0, 5), (1, 1)].into()));
}

/// What is shown to number 0, who asks.
fn shown(rig: &mut Rig) -> Seen {
    rig.take();
    rig.ask(0, Hash::ZERO);
    let seen = rig.out.iter().find_map(|o| if let Output::Mark { seen, .. } = o { Some(seen.clone()) } else { None });
    seen.expect("answered")
}

#[test]
fn a2_of_two_hellos_of_one_generation_the_earlier_is_shown_for_the_later_may_be_the_askers_own() {
    let mut rig = Rig::new(4, 3);
    for binding in [1, 2] {
        let mut heard = hello(&rig, 0, 7);
        heard.hello.binding = Hash([binding; 32]);
        rig.give(Input::Greeted { peer: 0, heard });
    }
    assert_eq!(shown(&mut rig).hello.map(|heard| heard.hello.binding), Some(Hash([1; 32])));
}

#[test]
fn a2_in_one_slot_the_outcome_is_shown_and_a_vote_beyond_the_window_too() {
    let mut rig = Rig::new(4, 3);
    rig.vote(0, statement(Kind::Final, 4, Hash([4; 32])));
    rig.vote(0, statement(Kind::Notar, 4, Hash([4; 32])));
    assert_eq!(shown(&mut rig).vote.map(|vote| vote.statement.kind), Some(Kind::Final));
    rig.vote(0, statement(Kind::Skip, 4_000, Hash::ZERO));
    rig.pass(100);
    assert_eq!(shown(&mut rig).vote.map(|vote| vote.statement.slot), Some(4_000));
}

#[test]
fn a2_an_answer_that_comes_after_the_first_vote_still_counts() {
    let mut rig = Rig::new(4, 3);
    rig.out.push(Output::Broadcast(Message::MarkQuery { nonce: rig.core.inquiry_nonce(), votes_above: None }));
    let vote = own_vote(&rig, Kind::Skip, 9);
    rig.answer(2, 0, seen_vote(vote));
    assert_eq!(rig.halts(), [Halt::Twin]);
    let mut rig = Rig::new(4, 3);
    rig.out.push(Output::Broadcast(Message::MarkQuery { nonce: rig.core.inquiry_nonce(), votes_above: None }));
    let newer = hello(&rig, 3, 9);
    rig.answer(2, 0, Seen { vote: None, hello: Some(newer) });
    assert_eq!(rig.core.voting_state(), VotingState::Quarantined);
}

#[test]
fn a4_one_whose_last_write_failed_or_who_was_fenced_does_not_count() {
    for failure in [WriteFailure::Unknown, WriteFailure::Fenced] {
        let mut rig = Rig::new(4, 3);
        let header = rig.header(1, &genesis());
        rig.propose(header);
        rig.execute();
        let write = rig.writes()[0].id;
        rig.give(Input::WriteFailed { write, failure });
        rig.take();
        rig.ask(0, Hash::ZERO);
        let mark = rig.out.iter().find_map(|o| if let Output::Mark { mark, .. } = o { Some(*mark) } else { None });
        assert!(mark.is_some_and(|mark| mark.quarantined), "{failure:?}: another process may have voted since");
    }
}

#[test]
fn a4_after_a_restart_the_votes_in_the_last_final_certificate_are_remembered() {
    let rig = Rig::new(4, 3);
    let cert = rig.make_cert(&[0, 1, 2], statement(Kind::Final, 7, Hash([7; 32])));
    let mut rig = Rig::recovered(4, 3, Recovered { final_cert: Some(cert), ..nothing() });
    rig.ask(1, Hash::ZERO);
    let vote = rig.out.iter().find_map(|o| if let Output::Mark { seen, .. } = o { seen.vote.clone() } else { None });
    assert_eq!(vote.map(|vote| (vote.signer, vote.statement.slot)), Some((1, 7)));
}

#[test]
fn a5_a_quorum_of_clean_others_ends_it_with_the_floor_above_their_highest_mark() {
    let mut rig = quarantined();
    let shown = hello(&rig, 3, 11);
    rig.answer(0, 20, Seen { vote: None, hello: Some(shown) });
    rig.answer(1, 31, Seen::default());
    assert_eq!(memories(&rig), [], "weight 2 is no quorum of 4");
    rig.answer(2, 8, Seen::default());
    let [(memory, generation)] = &memories(&rig)[..] else { panic!("one record is stored: {:?}", memories(&rig)) };
    assert_eq!(memory.floors, [(0, 32), (1, 1)].into());
    assert_eq!((memory.clean_from, memory.quarantine, *generation), (2, None, Some(1_700_000_001)));
    assert_eq!(rig.halts(), [], "not before it is durable");
    rig.serve();
    assert_eq!(rig.halts(), [Halt::Recovered]);
    assert_eq!(rig.persisted(), [], "only a restart votes");
}

#[test]
fn a6_the_generation_is_above_all_that_were_shown_however_high() {
    let mut rig = quarantined();
    for peer in 0..3 {
        let shown = hello(&rig, 3, 2_000_000_000 + u32::from(peer == 1));
        rig.answer(peer, 0, Seen { vote: None, hello: Some(shown) });
    }
    let generations: Vec<_> = memories(&rig).into_iter().map(|(_, generation)| generation).collect();
    assert_eq!(generations, [Some(2_000_000_002)], "the clock is far below");
}

#[test]
fn a4_the_mark_of_one_that_recovered_is_not_below_its_floor() {
    let memory = Memory { floors: [(0, 9), (1, 1)].into(), clean_from: 2, ..Memory::default() };
    let mut rig = Rig::recovered(4, 3, Recovered { memory, ..nothing() });
    rig.take();
    rig.ask(0, Hash::ZERO);
    let mark = rig.out.iter().find_map(|o| if let Output::Mark { mark, .. } = o { Some(*mark) } else { None });
    assert_eq!(mark.map(|mark| (mark.epoch, mark.slot)), Some((0, 9)), "what it lost is at or below");
}

#[test]
fn a5_answers_of_quarantined_unclean_or_same_validators_do_not_count() {
    let mut rig = quarantined();
    let mark = Mark { nonce: rig.nonce(), epoch: 0, clean_from: 0, quarantined: false, slot: 3 };
    rig.answer_with(0, mark, Seen::default());
    rig.answer_with(1, mark, Seen::default());
    rig.answer_with(1, mark, Seen::default());
    rig.answer_with(2, Mark { quarantined: true, ..mark }, Seen::default());
    rig.answer_with(2, Mark { clean_from: 1, ..mark }, Seen::default());
    rig.answer_with(3, mark, Seen::default());
    assert_eq!(memories(&rig), []);
    rig.answer_with(2, mark, Seen::default());
    assert_eq!(memories(&rig).len(), 1);
}

#[test]
fn a5_of_two_answers_of_one_validator_the_higher_counts_and_one_taken_back_does_not() {
    let mut rig = quarantined();
    let mark = Mark { nonce: rig.nonce(), epoch: 0, clean_from: 0, quarantined: false, slot: 30 };
    rig.answer_with(0, mark, Seen::default());
    rig.answer_with(0, Mark { slot: 10, ..mark }, Seen::default());
    rig.answer_with(1, mark, Seen::default());
    rig.answer_with(1, Mark { quarantined: true, ..mark }, Seen::default());
    rig.answer_with(2, Mark { slot: 5, ..mark }, Seen::default());
    assert_eq!(memories(&rig), [], "number 1 has taken its word back");
    rig.answer_with(1, Mark { slot: 6, ..mark }, Seen::default());
    assert_eq!(memories(&rig).pop().map(|(memory, _)| memory.floors), Some([(0, 31), (1, 1)].into()));
}

#[test]
fn a5_a_mark_far_beyond_the_frontier_waits_until_the_frontier_is_there() {
    let mut rig = quarantined();
    rig.answer(0, 3, Seen::default());
    rig.answer(1, 3, Seen::default());
    rig.answer(2, u64::MAX, Seen::default());
    rig.answer(2, 66, Seen::default());
    assert_eq!(memories(&rig), [], "a liar could forbid every vote to come");
    rig.answer(2, 65, Seen::default());
    assert_eq!(memories(&rig).len(), 1);
}

#[test]
fn a6_below_its_floor_a_recovered_validator_says_not_ready_so_that_nobody_waits_for_it() {
    let memory = Memory { floors: [(0, 1), (1, 1)].into(), clean_from: 2, ..Memory::default() };
    let mut rig = Rig::recovered(4, 3, Recovered { memory, ..nothing() });
    let ready = |rig: &Rig| {
        let statuses =
            rig.broadcasts().into_iter().filter_map(|m| if let Message::Status(s) = m { Some(s.ready) } else { None });
        statuses.collect::<Vec<_>>().pop()
    };
    rig.take();
    rig.pass(600);
    assert_eq!(ready(&rig), Some(false));
    rig.final_block(1, &genesis());
    rig.take();
    rig.pass(600);
    assert_eq!(ready(&rig), Some(true));
}

#[test]
fn a6_a_recovered_validator_votes_above_its_floors_only_and_a7_does_not_count_as_clean() {
    let memory = Memory { floors: [(0, 2), (1, 1)].into(), clean_from: 2, ..Memory::default() };
    let mut rig = Rig::recovered(4, 3, Recovered { memory, ..nothing() });
    let mut parent = genesis();
    for slot in 1..=3 {
        parent = rig.final_block(slot, &parent);
    }
    assert_eq!(rig.persisted_kinds(), [(Kind::Notar, 3), (Kind::Final, 3)]);
    rig.take();
    rig.ask(0, Hash::ZERO);
    let mark = rig.out.iter().find_map(|o| if let Output::Mark { mark, .. } = o { Some(*mark) } else { None });
    assert!(mark.is_some_and(|mark| !mark.counts_toward(0) && !mark.counts_toward(1) && mark.counts_toward(2)));
}

#[test]
fn a8_an_own_vote_that_is_in_no_row_halts_whoever_votes() {
    let mut rig = Rig::new(4, 3);
    let vote = own_vote(&rig, Kind::Skip, 1);
    rig.give(Input::Vote { from: 0, vote });
    assert_eq!(rig.halts(), [Halt::Twin]);
    let stored = memories(&rig).pop().and_then(|(memory, _)| memory.quarantine);
    assert_eq!(stored, Some(Cause::VoteMissing { slot: 1 }), "the next start must know");
    let mut rig = Rig::new(4, 3);
    let cert = rig.make_cert(&[0, 1, 3], statement(Kind::Notar, 1, Hash([9; 32])));
    rig.give(Input::Cert { from: 0, cert });
    assert_eq!(rig.halts(), [Halt::Twin], "in a certificate");
    rig = started(nothing());
    let vote = own_vote(&rig, Kind::Skip, 1);
    rig.give(Input::Vote { from: 0, vote });
    assert_eq!(
        (rig.halts(), rig.core.voting_state()),
        (vec![], VotingState::Quarantined),
        "before the first vote it is A3"
    );
}

#[test]
fn a8_own_votes_that_came_back_forged_ones_and_those_below_floors_do_not_halt() {
    let mut rig = Rig::new(4, 3);
    let header = rig.header(1, &genesis());
    let digest = rig.propose(header);
    rig.serve();
    let vote = rig.sign(3, statement(Kind::Notar, 1, digest));
    rig.give(Input::Vote { from: 0, vote });
    let vote = rig.forged(3, statement(Kind::Skip, 2, Hash::ZERO));
    rig.give(Input::Vote { from: 0, vote });
    let cert = rig.make_cert(&[0, 1, 3], statement(Kind::Notar, 1, digest));
    rig.give(Input::Cert { from: 0, cert });
    assert_eq!(rig.halts(), []);
    let memory = Memory { floors: [(0, 9), (1, 1)].into(), clean_from: 2, ..Memory::default() };
    let mut rig = Rig::recovered(4, 3, Recovered { memory, ..nothing() });
    let vote = own_vote(&rig, Kind::Skip, 9);
    rig.give(Input::Vote { from: 0, vote });
    assert_eq!(rig.halts(), []);
}

/// Number 3, whose database was lost and has every block up to slot 7 again, with a word of its owner for it.
fn vouched_for() -> Rig {
    let floors = [(0, 3), (1, 1)].into();
    at_slot_7(Memory { floors, ..Memory::default() }.quarantined(Cause::NewDatabase).vouched_for((0, 7)))
}

fn at_slot_7(memory: Memory) -> Rig {
    let cert = Rig::new(4, 3).others_cert(Kind::Final, 7, Hash([9; 32]));
    started(Recovered { final_cert: Some(cert), memory, ..nothing() })
}

#[test]
fn a9_what_a_database_that_is_vouched_for_lacks_at_or_below_the_last_final_slot_of_then_does_no_harm() {
    let mut rig = vouched_for();
    let vote = own_vote(&rig, Kind::Final, 7);
    for peer in 0..3 {
        rig.answer(peer, 0, seen_vote(vote.clone()));
    }
    assert_eq!(rig.core.voting_state(), VotingState::Checking, "not before it is durable that the word has ended");
    let [(memory, None)] = &memories(&rig)[..] else { panic!("one record is stored: {:?}", memories(&rig)) };
    assert_eq!((memory.vouched_anew, memory.assumed_clean, &memory.taken_back[..]), (false, true, &[][..]));
    rig.serve();
    assert_eq!(rig.core.voting_state(), VotingState::Voting);
}

/// What is stored last when all others have answered, and have shown something.
fn asked(mut rig: Rig, shown: impl FnOnce(&mut Rig)) -> (Rig, Memory) {
    shown(&mut rig);
    for peer in 0..3 {
        rig.answer(peer, 0, Seen::default());
    }
    let memory = memories(&rig).pop().expect("stored").0;
    (rig, memory)
}

fn vouched_for_at_genesis() -> Rig {
    let memory = Memory::default().quarantined(Cause::NewDatabase).vouched_for((0, 0));
    started(Recovered { memory, ..nothing() })
}

#[test]
fn a9_votes_above_it_that_others_show_are_taken_back_and_forbid_others_at_once_and_after_a_restart() {
    let rig = vouched_for_at_genesis();
    let header = rig.header(1, &genesis());
    let block = Parent { digest: header.digest(), slot: 1, height: 1, time_ms: header.time_ms };
    let notar = rig.sign(3, statement(Kind::Notar, 1, block.digest));
    let skip = own_vote(&rig, Kind::Skip, 2);
    let (mut rig, memory) = asked(rig, |rig| {
        rig.give(Input::Vote { from: 0, vote: notar.clone() });
        rig.answer(1, 0, seen_vote(skip.clone()));
        rig.give(Input::Vote { from: 0, vote: notar.clone() });
    });
    let stored: Vec<(usize, bool)> =
        memories(&rig).iter().map(|(memory, _)| (memory.taken_back.len(), memory.vouched_anew)).collect();
    assert_eq!(stored, [(1, true), (2, true), (2, false)], "each as it comes, and the end of the word last");
    assert_eq!(memory.taken_back, [notar, skip.clone()]);
    rig.give(Input::Vote { from: 2, vote: skip.clone() });
    rig.serve();
    let mut restarted = started(Recovered { memory, ..nothing() });
    for peer in 0..3 {
        restarted.answer(peer, 0, seen_vote(skip.clone()));
    }
    for mut rig in [rig, restarted] {
        assert_eq!(rig.core.voting_state(), VotingState::Voting);
        rig.propose(Header { time_ms: header.time_ms + 1, ..header.clone() });
        rig.propose(header.clone());
        rig.serve();
        rig.cert(Kind::Notar, 1, block.digest);
        rig.serve();
        rig.pass(10_000);
        rig.serve();
        assert_eq!(rig.persisted_kinds(), [], "no other vote in these slots, and no Final on what may lack its data");
        rig.cert(Kind::Skip, 2, Hash::ZERO);
        let next = rig.header(3, &block);
        rig.propose(next);
        rig.serve();
        assert_eq!(rig.persisted_kinds(), [(Kind::Notar, 3)]);
        assert_eq!(rig.halts(), []);
    }
}

#[test]
fn a9_a_final_that_is_taken_back_forbids_a_notar_of_another_block() {
    let vote = own_vote(&vouched_for_at_genesis(), Kind::Final, 1);
    let (mut rig, _) = asked(vouched_for_at_genesis(), |rig| rig.give(Input::Vote { from: 0, vote }));
    rig.serve();
    let header = rig.header(1, &genesis());
    rig.propose(header);
    rig.serve();
    assert_eq!((rig.core.voting_state(), rig.persisted_kinds()), (VotingState::Voting, vec![]));
}

#[test]
fn a9_a_final_that_is_taken_back_lets_its_own_block_be_voted_for_again() {
    let rig = vouched_for_at_genesis();
    let header = rig.header(1, &genesis());
    let vote = rig.sign(3, statement(Kind::Final, 1, header.digest()));
    let (mut rig, _) = asked(rig, |rig| rig.give(Input::Vote { from: 0, vote }));
    rig.serve();
    rig.propose(header);
    rig.serve();
    assert_eq!(rig.persisted_kinds(), [(Kind::Notar, 1)], "or the slot might never be cleared");
}

#[test]
fn a9_a_vote_that_comes_while_the_end_of_the_word_is_written_is_taken_back_too() {
    let (mut rig, _) = asked(vouched_for(), |_| {});
    let vote = own_vote(&rig, Kind::Skip, 8);
    rig.give(Input::Vote { from: 0, vote: vote.clone() });
    rig.serve();
    let memory = memories(&rig).pop().expect("stored").0;
    assert_eq!((memory.vouched_anew, memory.taken_back), (false, vec![vote]));
    assert_eq!(rig.core.voting_state(), VotingState::Voting);
}

#[test]
fn a9_who_is_silent_is_waited_for_ten_seconds_from_when_enough_have_answered_and_a_minute_where_some_of_these_do_not_vote()
 {
    for (quarantined, wait) in [(false, 10_000), (true, 60_000)] {
        let mut rig = vouched_for();
        rig.answer(0, 0, Seen::default());
        rig.pass(90_000);
        assert_eq!(memories(&rig), [], "one of three others is not enough");
        let mark = Mark { nonce: rig.nonce(), epoch: 0, clean_from: 0, quarantined, slot: 0 };
        rig.answer_with(1, mark, Seen::default());
        rig.pass(wait - 1);
        assert_eq!(memories(&rig), []);
        rig.pass(1);
        assert_eq!(memories(&rig).len(), 1);
    }
}

#[test]
fn a9_shown_votes_that_contradict_each_other_or_are_of_another_epoch_quarantine_it_again() {
    let [one, other] = [Kind::Skip, Kind::Final].map(|kind| own_vote(&vouched_for(), kind, 8));
    let mut rig = vouched_for();
    rig.give(Input::Vote { from: 0, vote: one.clone() });
    rig.give(Input::Vote { from: 0, vote: other });
    let memory = memories(&rig).pop().expect("stored").0;
    assert_eq!(
        (memory.quarantine, memory.assumed_clean, memory.vouched_anew, memory.vouched_to),
        (Some(Cause::VoteMissing { slot: 8 }), true, false, (0, 7))
    );
    assert_eq!(memory.taken_back.len(), 1, "what it took back it keeps");
    let mut rig = vouched_for();
    let later = rig.sign(3, Statement { epoch: 1, ..one.statement });
    rig.answer(0, 0, seen_vote(later));
    assert_eq!(rig.core.voting_state(), VotingState::Quarantined);
}

#[test]
fn a9_what_was_taken_back_is_below_the_floor_of_a_later_recovery_and_stays() {
    let (rig, memory) = asked(vouched_for(), |rig| {
        let vote = own_vote(rig, Kind::Skip, 12);
        rig.give(Input::Vote { from: 0, vote });
    });
    drop(rig);
    let (_, memory) = asked(at_slot_7(memory.quarantined(Cause::Command)), |_| {});
    assert_eq!((memory.floors.get(&0), memory.taken_back.len()), (Some(&13), 1));
}

#[test]
fn a9_the_word_holds_once() {
    let (_, memory) = asked(vouched_for(), |_| {});
    let mut rig = at_slot_7(memory);
    let vote = own_vote(&rig, Kind::Skip, 8);
    rig.answer(0, 0, seen_vote(vote));
    assert_eq!(rig.core.voting_state(), VotingState::Quarantined, "an old copy of it was put back");
}

#[test]
fn a9_a_word_ends_also_where_there_is_nobody_to_ask() {
    let memory = Memory::default().quarantined(Cause::NewDatabase).vouched_for((0, 0));
    let mut rig = Rig::alone(&[1], 0, Parameters::default(), Recovered { memory, ..nothing() });
    rig.serve();
    assert_eq!((rig.core.voting_state(), rig.core.memory().vouched_anew), (VotingState::Voting, false));
}

/// The asker's votes that number 3 shows number 0.
fn kept(rig: &mut Rig, above: Option<(u64, u64)>) -> Vec<Vote> {
    rig.pass(400);
    rig.take();
    rig.ask_votes(0, Hash::ZERO, above);
    let votes = |o: &Output| if let Output::Mark { to: 0, votes, .. } = o { Some(votes.clone()) } else { None };
    rig.out.iter().find_map(votes).expect("an answer")
}

#[test]
fn a9_a_member_that_wants_its_votes_is_shown_those_that_are_kept_above_the_last_final_slot_and_the_position_it_names() {
    let mut rig = Rig::new(4, 3);
    let (early, late) = (statement(Kind::Notar, 1, Hash([9; 32])), statement(Kind::Skip, 2, Hash::ZERO));
    rig.vote(0, late);
    rig.vote(1, late);
    let cert = rig.make_cert(&[0, 1, 2], early);
    rig.give(Input::Cert { from: 1, cert });
    let votes = [early, late].map(|statement| rig.sign(0, statement));
    assert_eq!(kept(&mut rig, Some((0, 0))), votes);
    assert_eq!(kept(&mut rig, Some((0, 1))), votes[1..]);
    assert_eq!(kept(&mut rig, Some((1, 0))), [], "of an epoch that has not begun here");
    assert_eq!(kept(&mut rig, None), [], "who does not want them gets none");
    rig.cert(Kind::Final, 1, Hash([9; 32]));
    assert_eq!(kept(&mut rig, Some((0, 0))), votes[1..], "slot 1 is decided");
}

#[test]
fn a9_after_a_restart_it_is_shown_those_in_certificates_and_in_proposals_too() {
    let rig = Rig::new(4, 3);
    let header = rig.header(1, &genesis());
    let (digest, leader) = (header.digest(), header.proposer);
    assert_eq!(leader, 0);
    let own = statement(Kind::Notar, 1, digest);
    let of_another = rig.header(2, &genesis());
    assert_eq!(of_another.proposer, 1);
    let candidates = vec![rig.candidate(header), rig.candidate(of_another)];
    let votes = vec![rig.sign(3, own)];
    let mut started = started(Recovered { candidates, votes: votes.clone(), ..nothing() });
    assert_eq!(kept(&mut started, Some((0, 0))), [rig.sign(0, own)], "a proposal is a vote of its leader");
    let certified = statement(Kind::Notar, 2, Hash([9; 32]));
    let certs = vec![rig.make_cert(&[0, 1, 2], certified)];
    let mut started = Rig::alone(&[1; 4], 3, Parameters::default(), Recovered { certs, votes, ..nothing() });
    assert_eq!(kept(&mut started, Some((0, 0))), [rig.sign(0, certified)]);
}

#[test]
fn a9_votes_shown_count_toward_what_a_peer_may_have_in_a_second() {
    let mut rig = Rig::new(4, 3);
    rig.vote(0, statement(Kind::Skip, 1, Hash::ZERO));
    assert!(rig.core.may_answer(0, ANSWER_BYTES - 100));
    let answered = |rig: &Rig| rig.out.iter().any(|o| matches!(o, Output::Mark { .. }));
    rig.ask_votes(0, Hash::ZERO, Some((0, 0)));
    assert_eq!((answered(&rig), rig.dropped()), (false, vec!["answer_rate"]));
    rig.pass(400);
    rig.ask(0, Hash::ZERO);
    assert!(answered(&rig), "a mark alone is small");
}

#[test]
fn a9_who_is_asked_for_votes_says_first_which_slots_are_final() {
    let mut rig = Rig::new(4, 3);
    rig.take();
    rig.ask_votes(0, Hash::ZERO, Some((0, 0)));
    let to_0 = |o: &Output| match o {
        Output::Send { to: 0, message: Message::Status(status) } => Some(Some(status.final_slot)),
        Output::Mark { to: 0, .. } => Some(None),
        _ => None,
    };
    assert_eq!(rig.out.iter().filter_map(to_0).collect::<Vec<_>>(), [Some(0), None]);
}

#[test]
fn a9_votes_are_searched_for_once_in_400_ms() {
    let mut rig = Rig::new(4, 3);
    for (passes, expected) in [(0, true), (399, false), (1, true)] {
        rig.take();
        rig.pass(passes);
        rig.ask_votes(0, Hash::ZERO, Some((0, 0)));
        assert_eq!(rig.out.iter().any(|o| matches!(o, Output::Mark { .. })), expected, "after {passes} ms more");
    }
}

#[test]
fn a9_the_votes_of_an_answer_are_taken_back_in_one_write() {
    let votes: Vec<Vote> = (8..12).map(|slot| own_vote(&vouched_for(), Kind::Skip, slot)).collect();
    let mut rig = vouched_for();
    // The number may be that of another epoch's set.
    let shown = votes.iter().map(|vote| Vote { signer: 0, ..vote.clone() }).collect();
    rig.answer_showing(0, shown);
    let [(memory, None)] = &memories(&rig)[..] else { panic!("one record is stored: {:?}", memories(&rig)) };
    assert_eq!((&memory.taken_back, memory.vouched_anew), (&votes, true));
}

#[test]
fn a9_an_answer_with_a_forged_vote_or_one_twice_does_not_count() {
    let mut rig = vouched_for();
    let forged = rig.forged(3, statement(Kind::Skip, 8, Hash::ZERO));
    let twice = own_vote(&rig, Kind::Skip, 8);
    for votes in [vec![forged], vec![twice.clone(), twice]] {
        for peer in 0..3 {
            rig.answer_showing(peer, votes.clone());
        }
    }
    assert_eq!((memories(&rig), rig.dropped()), (vec![], vec!["mark_votes"; 6]));
}

#[test]
fn a9_while_a_peer_has_more_final_slots_the_word_holds_as_none_shows_votes_in_them() {
    let mut rig = vouched_for();
    rig.give(Input::Connected { peer: 0 });
    rig.status(0, 9, 10, 9, true);
    for peer in 0..3 {
        rig.answer(peer, 0, Seen::default());
    }
    rig.pass(9_999);
    assert_eq!(memories(&rig), []);
    rig.pass(1);
    assert_eq!(memories(&rig).len(), 1, "or who lies could make it last for ever");
}

#[test]
fn a9_what_was_taken_back_before_another_vote_contradicts_it_is_below_the_floor_of_the_recovery() {
    let mut rig = vouched_for();
    for kind in [Kind::Skip, Kind::Final] {
        let vote = own_vote(&rig, kind, 12);
        rig.give(Input::Vote { from: 0, vote });
    }
    assert_eq!(rig.core.voting_state(), VotingState::Quarantined);
    for peer in 0..3 {
        rig.answer(peer, 0, Seen::default());
    }
    let memory = memories(&rig).pop().expect("stored").0;
    assert_eq!(memory.floors.get(&0), Some(&13));
}

#[test]
fn a9_who_keeps_more_votes_than_an_answer_holds_is_asked_for_the_rest_before_it_counts() {
    let mut rig = vouched_for();
    rig.give(Input::Connected { peer: 0 });
    let votes: Vec<Vote> = (8..8 + MAX_VOTES_SHOWN as u64).map(|slot| own_vote(&rig, Kind::Skip, slot)).collect();
    rig.answer_showing(0, votes);
    rig.answer(1, 0, Seen::default());
    rig.answer(2, 0, Seen::default());
    rig.take();
    rig.pass(500);
    let above = Some((0, 6 + MAX_VOTES_SHOWN as u64));
    assert!(rig.sent().contains(&(0, Message::MarkQuery { nonce: rig.core.inquiry_nonce(), votes_above: above })));
    assert_eq!(memories(&rig), [], "the word has not ended");
    let last = own_vote(&rig, Kind::Skip, 8 + MAX_VOTES_SHOWN as u64);
    rig.answer_showing(0, vec![last]);
    let memory = memories(&rig).pop().expect("stored").0;
    assert_eq!((memory.taken_back.len(), memory.vouched_anew), (MAX_VOTES_SHOWN + 1, false));
}

#[test]
fn a9_a_leader_makes_no_other_block_beside_a_final_that_was_taken_back() {
    let memory = Memory::default().quarantined(Cause::NewDatabase).vouched_for((0, 0));
    for taken_back in [true, false] {
        let recovered = Recovered { memory: memory.clone(), ..nothing() };
        let mut rig = Rig::alone(&[1; 4], 0, Parameters::default(), recovered);
        let vote = rig.sign(0, statement(Kind::Final, 1, Hash([9; 32])));
        if taken_back {
            rig.give(Input::Vote { from: 1, vote });
        }
        for peer in 1..4 {
            rig.give(Input::Connected { peer });
            rig.answer(peer, 0, Seen::default());
        }
        rig.serve();
        rig.durable_batch(1, 1, 5);
        rig.pass(50);
        rig.serve();
        let notar = if taken_back { vec![] } else { vec![(Kind::Notar, 1)] };
        assert_eq!((rig.core.voting_state(), rig.persisted_kinds()), (VotingState::Voting, notar));
    }
}
