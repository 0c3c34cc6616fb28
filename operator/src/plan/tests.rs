//! Properties of the planner over seeded random chains, and the cases people ask about.

use super::*;

/// A small generator of our own: the same seed gives the same chain.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}

const NET: &str = "net";

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("a time")
}

fn healthy(ordinal: i32, current: bool) -> View {
    View {
        uid: Some(format!("uid-{ordinal}")),
        running: true,
        ready: true,
        answered: true,
        weight: 1,
        next_weight: 1,
        follows: true,
        signing: true,
        signed_height: 100,
        current: Some(current),
        ..View::default()
    }
}

fn chain_of(views: Vec<View>) -> Chain {
    let next_others = Some(Others::default());
    Chain { validators: (0..).zip(views).collect(), next_others, height: 100, advancing: true, ..Chain::default() }
}

fn all(n: i32, current: bool) -> Chain {
    chain_of((0..n).map(|i| healthy(i, current)).collect())
}

/// A validator without a pod.
fn gone() -> View {
    View { weight: 1, next_weight: 1, ..View::default() }
}

/// A pod that decides nothing, in this epoch or the next.
fn outside(ordinal: i32) -> View {
    View { weight: 0, next_weight: 0, signing: false, signed_height: 0, ..healthy(ordinal, false) }
}

/// Why the roll-out waits.
fn waits_for(plan: &Plan) -> &Problem {
    match &plan.rollout {
        Rollout::Running { waiting: Some(problem), .. } => problem,
        other => panic!("{other:?}"),
    }
}

/// Every fourth chain has unequal validators, some that decide nothing, and some of others.
fn random(dice: &mut Dice) -> Chain {
    let n = 1 + i32::try_from(dice.roll(10)).expect("small");
    let mut chain = random_equals(dice, n);
    if dice.one_in(4) {
        let mut power = || i64::try_from(dice.roll(10)).expect("small");
        for view in chain.validators.values_mut() {
            (view.weight, view.next_weight) = (power(), power());
            view.signing &= view.weight > 0;
        }
        chain.others = Others { live: power(), down: power() / 5 };
        chain.next_others = (power() > 1).then(|| Others { live: power(), down: power() / 5 });
        chain.next_awaited = chain.next_others.is_none() && dice.one_in(2);
    }
    chain
}

fn random_equals(dice: &mut Dice, n: i32) -> Chain {
    let views = (0..n).map(|ordinal| match dice.roll(8) {
        0 => gone(),
        1 => {
            View { terminating: true, signing: false, follows: false, ready: false, ..healthy(ordinal, dice.one_in(2)) }
        }
        2 => View { running: false, signing: false, follows: false, ready: false, ..healthy(ordinal, dice.one_in(2)) },
        3 => {
            let (ready, answered) = (dice.one_in(2), dice.one_in(2));
            View { signing: false, follows: false, ready, answered, ..healthy(ordinal, dice.one_in(2)) }
        }
        4 => View { current: None, ..healthy(ordinal, true) },
        _ => healthy(ordinal, dice.one_in(2)),
    });
    let views = views.collect();
    Chain { advancing: !dice.one_in(6), ..chain_of(views) }
}

fn operation(ordinal: i32, uid: &str) -> Operation {
    Operation {
        type_: OperationType::Restart,
        target: names::pod(NET, ordinal),
        step: OperationStep::Stopping,
        since: Time(now()),
        message: String::new(),
        pod_uid: uid.into(),
        from_height: 90,
    }
}

/// Ordinals of running pods that the plan deletes: the voluntary disruptions.
fn disturbed(chain: &Chain, plan: &Plan) -> Vec<i32> {
    let ordinals = plan.replace.iter().filter_map(|r| names::ordinal_of(NET, &r.pod));
    ordinals.filter(|ordinal| chain.validators.get(ordinal).is_some_and(|view| view.running)).collect()
}

#[test]
fn at_most_one_running_validator_is_disturbed_and_never_more_are_down_than_the_chain_can_spare() {
    for seed in 0..20_000 {
        let mut dice = Dice(seed);
        let chain = random(&mut dice);
        let plan = roll(NET, &chain, None, now());
        let disturbed = disturbed(&chain, &plan);
        assert!(disturbed.len() <= 1, "seed {seed}");
        let Some(target) = disturbed.first() else { continue };
        let scale = |others: Others, of: fn(&View) -> (i64, bool)| {
            let all = || chain.validators.iter().map(|(i, view)| (i, of(view)));
            let down: i64 = all().filter(|(i, (_, live))| *i != target && !live).map(|(_, (weight, _))| weight).sum();
            let total = all().map(|(_, (weight, _))| weight).sum::<i64>() + others.live + others.down;
            (of(&chain.validators[target]).0, down + others.down, total)
        };
        let fits = |(weight, down, total)| weight == 0 || down == 0 || down + weight <= quorum::spare(total);
        let now = scale(chain.others, |view| (view.weight, view.signing));
        assert!(fits(now), "seed {seed}: {now:?}");
        let next = chain.next_others.map(|others| scale(others, |view| (view.next_weight, view.is_fit())));
        match next {
            _ if chain.validators[target].is_known_unfit() => {}
            Some(next) => assert!(fits(next), "seed {seed}: {next:?} in the next epoch"),
            None => {
                assert!(!chain.next_awaited, "seed {seed}: another visit will know");
                assert!(now.0 > 0 || now.1 == 0, "seed {seed}: it may be about to decide");
            }
        }
        assert!(chain.advancing, "seed {seed}: a halted chain means no deletions");
        assert!(plan.operation.is_some(), "seed {seed}: every disruption is recorded");
    }
}

#[test]
fn while_an_operation_is_in_flight_no_other_running_validator_is_disturbed() {
    for seed in 0..20_000 {
        let mut dice = Dice(seed);
        let chain = random(&mut dice);
        let target = i32::try_from(dice.roll(u64::try_from(chain.validators.len()).expect("small"))).expect("small");
        let uid = if dice.one_in(2) { "older".to_owned() } else { format!("uid-{target}") };
        let former = operation(target, &uid);
        let plan = roll(NET, &chain, Some(&former), now());
        if plan.operation.as_ref().is_some_and(|op| op.target == former.target) {
            assert!(disturbed(&chain, &plan).iter().all(|ordinal| *ordinal == target), "seed {seed}");
        }
    }
}

#[test]
fn a_converged_network_plans_nothing() {
    for n in 1..=100 {
        assert_eq!(roll(NET, &all(n, true), None, now()), Plan::default());
    }
}

#[test]
fn the_same_chain_gives_the_same_plan() {
    for seed in 0..1_000 {
        let chain = random(&mut Dice(seed));
        assert_eq!(roll(NET, &chain, None, now()), roll(NET, &chain, None, now()), "seed {seed}");
    }
}

#[test]
fn pods_of_an_unknown_template_are_left_alone() {
    let views = (0..4).map(|i| View { current: None, ..healthy(i, false) }).collect();
    assert!(roll(NET, &chain_of(views), None, now()).replace.is_empty());
}

#[test]
fn a_changed_template_rolls_the_highest_ordinal_first() {
    let plan = roll(NET, &all(4, false), None, now());
    assert_eq!(plan.replace, vec![Replacement { pod: "net-validator-3".into(), uid: "uid-3".into() }]);
    assert_eq!(plan.operation.map(|op| op.from_height), Some(100));
}

#[test]
fn one_that_does_not_sign_goes_before_those_that_do() {
    let mut chain = all(4, false);
    chain.validators.insert(1, View { signing: false, ready: false, ..healthy(1, false) });
    assert_eq!(roll(NET, &chain, None, now()).replace[0].pod, "net-validator-1");
}

#[test]
fn a_restarted_operator_deletes_the_recorded_pod_and_no_other() {
    let plan = roll(NET, &all(4, false), Some(&operation(2, "uid-2")), now());
    assert_eq!(plan.replace, vec![Replacement { pod: "net-validator-2".into(), uid: "uid-2".into() }]);
}

#[test]
fn a_successor_need_not_sign_above_a_height_that_the_chain_has_not() {
    let mut chain = all(4, true);
    let never = Operation { from_height: 1 << 50, ..operation(3, "older") };
    chain.validators.insert(3, View { signed_height: 0, ..healthy(3, true) });
    assert_eq!(roll(NET, &chain, Some(&never), now()).operation.map(|op| op.step), Some(OperationStep::Signing));
    chain.validators.insert(3, View { signed_height: chain.height, ..healthy(3, true) });
    assert_eq!(roll(NET, &chain, Some(&never), now()).operation, None);
}

#[test]
fn ready_is_not_enough_the_successor_must_have_signed() {
    let mut chain = all(4, false);
    chain.validators.insert(3, View { signed_height: 90, ..healthy(3, true) });
    let plan = roll(NET, &chain, Some(&operation(3, "older")), now());
    assert!(plan.replace.is_empty());
    assert_eq!(plan.operation.map(|op| op.step), Some(OperationStep::Signing));
}

#[test]
fn after_the_successor_signed_the_next_one_goes() {
    let mut chain = all(4, false);
    chain.validators.insert(3, healthy(3, true));
    let plan = roll(NET, &chain, Some(&operation(3, "older")), now());
    assert_eq!(plan.replace[0].pod, "net-validator-2");
    assert!(plan.notes.contains(&Note::Restarted { pod: "net-validator-3".into(), height: 100 }));
}

#[test]
fn a_validator_that_is_down_by_accident_holds_the_roll_out() {
    let mut chain = all(4, false);
    chain.validators.insert(0, gone());
    let plan = roll(NET, &chain, None, now());
    assert!(plan.replace.is_empty());
    assert!(matches!(plan.rollout, Rollout::Running { waiting: Some(Problem { reason: "WaitingForQuorum", .. }), .. }));
}

#[test]
fn with_seven_validators_one_may_be_down_by_accident() {
    let mut chain = all(7, false);
    chain.validators.insert(0, gone());
    assert_eq!(roll(NET, &chain, None, now()).replace.len(), 1);
}

#[test]
fn three_validators_roll_one_by_one_and_an_event_says_that_nothing_is_spared() {
    let plan = roll(NET, &all(3, false), None, now());
    assert_eq!(plan.replace.len(), 1);
    assert!(plan.notes.contains(&Note::NoFaultTolerance { pod: "net-validator-2".into() }));
    let mut chain = all(3, false);
    chain.validators.insert(0, gone());
    assert!(roll(NET, &chain, None, now()).replace.is_empty());
}

#[test]
fn one_that_decides_nothing_goes_first_and_need_not_sign_and_waits_for_nobody() {
    let mut chain = all(4, false);
    chain.validators.insert(0, gone());
    chain.validators.insert(1, outside(1));
    assert_eq!(roll(NET, &chain, None, now()).replace[0].pod, "net-validator-1", "though another one is down");
    chain.validators.insert(1, View { current: Some(true), ..outside(1) });
    let plan = roll(NET, &chain, Some(&operation(1, "older")), now());
    assert!(plan.notes.contains(&Note::Restarted { pod: "net-validator-1".into(), height: 0 }), "{plan:?}");
    assert!(plan.replace.is_empty(), "the next one decides, and validator 0 is down");
}

/// Four validators of which the third is lost, and a fifth pod that decides from the next epoch on.
fn one_comes_in_while_one_is_down() -> Chain {
    let mut chain = all(5, false);
    chain.validators.insert(2, gone());
    chain.validators.insert(4, View { next_weight: 1, ..outside(4) });
    chain
}

#[test]
fn one_that_decides_from_the_next_epoch_on_is_weighed_in_that_epoch_too() {
    let mut chain = one_comes_in_while_one_is_down();
    let plan = roll(NET, &chain, None, now());
    assert!(plan.replace.is_empty(), "of five, two would be down once the epoch begins");
    let problem = waits_for(&plan);
    assert_eq!(problem.reason, "WaitingForQuorum");
    assert!(problem.message.contains("validators 2 ") && problem.message.contains("next epoch"), "{}", problem.message);
    chain.validators.insert(2, healthy(2, false));
    assert_eq!(roll(NET, &chain, None, now()).replace[0].pod, "net-validator-4", "nobody else is down");
}

#[test]
fn one_that_weighs_more_in_the_next_epoch_is_weighed_in_that_epoch_too() {
    let mut chain = all(7, true);
    chain.validators.insert(0, gone());
    chain.validators.insert(6, healthy(6, false));
    assert_eq!(roll(NET, &chain, None, now()).replace.len(), 1, "seven can spare two");
    chain.validators.insert(6, View { next_weight: 3, ..healthy(6, false) });
    assert!(roll(NET, &chain, None, now()).replace.is_empty(), "nine can spare two, and four would be down");
    chain.validators.insert(6, View { next_weight: 0, ..healthy(6, false) });
    assert_eq!(roll(NET, &chain, None, now()).replace.len(), 1, "one that leaves is missed in this epoch only");
}

#[test]
fn one_that_comes_in_next_and_does_not_keep_up_is_down_in_that_epoch() {
    let mut chain = all(4, false);
    chain.validators.insert(4, View { next_weight: 1, ..outside(4) });
    chain.validators.insert(4, View { current: Some(true), ..chain.validators[&4].clone() });
    assert_eq!(roll(NET, &chain, None, now()).replace.len(), 1);
    chain.validators.insert(4, View { follows: false, ..chain.validators[&4].clone() });
    let plan = roll(NET, &chain, None, now());
    assert!(plan.replace.is_empty() && waits_for(&plan).message.contains("validators 4 "), "{plan:?}");
    let mut broken = chain.clone();
    for ordinal in [4, 5] {
        let current = Some(false);
        broken.validators.insert(ordinal, View { next_weight: 1, follows: false, current, ..outside(ordinal) });
    }
    let mended = roll(NET, &broken, None, now()).replace;
    assert_eq!(mended.len(), 1, "of two that the next epoch waits for, one has to be mended first");
    let strangers = Chain { next_others: Some(Others { live: 0, down: 1 }), ..all(4, false) };
    assert!(roll(NET, &strangers, None, now()).replace.is_empty(), "the same with one of nobody here");
}

#[test]
fn while_no_node_says_who_decides_next_one_that_decides_nothing_waits_for_who_is_down() {
    let mut chain = Chain { next_others: None, ..one_comes_in_while_one_is_down() };
    let plan = roll(NET, &chain, None, now());
    assert!(plan.replace.is_empty());
    assert!(waits_for(&plan).message.contains("no validator says"), "{plan:?}");
    chain.validators.insert(2, healthy(2, false));
    assert_eq!(roll(NET, &chain, None, now()).replace.len(), 1, "nobody is down");
}

#[test]
fn a_broken_validator_is_mended_before_one_that_comes_in_next_is_restarted() {
    let mut chain = all(5, true);
    chain.validators.insert(4, View { next_weight: 1, ..outside(4) });
    let mute = View { signing: false, follows: false, signed_height: 0, ..healthy(3, false) };
    for broken in [View { ready: false, answered: false, ..mute.clone() }, mute] {
        chain.validators.insert(3, broken);
        for next_others in [Some(Others::default()), None] {
            let plan = roll(NET, &Chain { next_others, ..chain.clone() }, None, now());
            let pods: Vec<&str> = plan.replace.iter().map(|replacement| replacement.pod.as_str()).collect();
            assert_eq!(pods, ["net-validator-3"], "{plan:?}");
        }
    }
}

/// Four validators, and a fifth pod that decides from the next epoch on and does not keep up.
fn one_comes_in_that_does_not_keep_up() -> Chain {
    let mut chain = all(4, false);
    chain.validators.insert(4, View { next_weight: 1, follows: false, current: Some(true), ..outside(4) });
    chain
}

#[test]
fn one_visit_at_which_no_node_says_who_decides_begins_nothing() {
    let known = one_comes_in_that_does_not_keep_up();
    assert!(roll(NET, &known, None, now()).replace.is_empty(), "of five, two would be down once the epoch begins");
    let unsaid = Chain { next_others: None, next_awaited: true, ..known };
    for former in [None, Some(operation(3, "uid-3"))] {
        let plan = roll(NET, &unsaid, former.as_ref(), now());
        assert!(plan.replace.is_empty() && plan.operation.is_none(), "{plan:?}");
        assert!(waits_for(&plan).message.contains("at the moment"), "{plan:?}");
    }
    let for_long = Chain { next_awaited: false, ..unsaid.clone() };
    assert_eq!(roll(NET, &for_long, None, now()).replace.len(), 1, "or it would wait for ever");
    let mut broken = unsaid;
    broken.validators.insert(3, View { signing: false, follows: false, ..healthy(3, false) });
    assert_eq!(roll(NET, &broken, None, now()).replace.len(), 1, "one that is of no use is missed in no epoch");
}

#[test]
fn one_that_is_ready_and_does_not_answer_in_time_is_weighed_in_the_next_epoch_too() {
    let mut chain = one_comes_in_that_does_not_keep_up();
    let silent = View { answered: false, signing: false, follows: false, signed_height: 0, ..healthy(3, false) };
    chain.validators.insert(3, silent.clone());
    let plan = roll(NET, &chain, None, now());
    assert!(plan.replace.is_empty() && waits_for(&plan).message.contains("validators 4 "), "{plan:?}");
    chain.validators.insert(3, View { answered: true, ..silent });
    assert_eq!(roll(NET, &chain, None, now()).replace.len(), 1, "it says itself that it is of no use");
}

#[test]
fn a_successor_that_is_ready_makes_way_only_if_it_says_that_it_does_not_sign_and_can_be_spared() {
    let mut chain = all(4, false);
    let checking = View { signing: false, follows: false, signed_height: 0, ..healthy(3, false) };
    chain.validators.insert(3, View { answered: false, ..checking.clone() });
    let successor = operation(3, "older");
    let plan = roll(NET, &chain, Some(&successor), now());
    assert!(plan.replace.is_empty(), "it may well sign: {plan:?}");
    assert_eq!(plan.operation.map(|op| op.step), Some(OperationStep::Signing));
    chain.validators.insert(3, checking);
    chain.validators.insert(1, gone());
    assert!(roll(NET, &chain, Some(&successor), now()).replace.is_empty(), "validator 1 was lost meanwhile");
    chain.validators.insert(1, healthy(1, false));
    assert_eq!(roll(NET, &chain, Some(&successor), now()).replace.len(), 1);
}

#[test]
fn a_plan_that_is_held_back_keeps_what_was_recorded_and_what_has_happened() {
    let why = || Problem::new("ClusterSlow", "too slow");
    let mut chain = all(4, false);
    let recorded = operation(3, "older");
    let broken = View { running: false, ready: false, signing: false, follows: false, ..healthy(3, false) };
    chain.validators.insert(3, broken);
    let held = roll(NET, &chain, Some(&recorded), now()).held_back(Some(&recorded), why());
    assert!(held.replace.is_empty());
    assert_eq!(
        held.operation,
        Some(Operation { message: "too slow".into(), ..recorded.clone() }),
        "not its successor's"
    );
    assert_eq!(waits_for(&held).reason, "ClusterSlow");
    chain.validators.insert(3, healthy(3, true));
    let held = roll(NET, &chain, Some(&recorded), now()).held_back(Some(&recorded), why());
    assert!(held.replace.is_empty() && held.operation.is_none(), "one is done, the next has not begun");
    assert_eq!(held.notes, vec![Note::Restarted { pod: "net-validator-3".into(), height: 100 }]);
}

#[test]
fn voting_power_counts_and_not_the_number_of_validators() {
    let weighing = |weights: [i64; 4]| {
        let views = (0..).zip(weights).map(|(i, weight)| View { weight, next_weight: weight, ..healthy(i, i != 3) });
        chain_of(views.collect())
    };
    let heavy = weighing([1, 1, 1, 9]);
    let plan = roll(NET, &heavy, None, now());
    assert!(plan.notes.contains(&Note::NoFaultTolerance { pod: "net-validator-3".into() }), "the chain will pause");
    let mut light = weighing([9, 9, 9, 1]);
    light.validators.insert(0, View { weight: 2, next_weight: 2, ..gone() });
    assert_eq!(roll(NET, &light, None, now()).replace.len(), 1, "2 are down, 1 more of 21 can be spared");
    light.validators.insert(0, View { weight: 9, next_weight: 9, ..gone() });
    assert!(roll(NET, &light, None, now()).replace.is_empty());
}

#[test]
fn validators_of_others_that_are_down_hold_the_roll_out() {
    let chain = |down| Chain { others: Others { live: 2, down }, ..all(4, false) };
    assert_eq!(roll(NET, &chain(1), None, now()).replace.len(), 1, "7 can spare 2");
    let plan = roll(NET, &chain(2), None, now());
    assert!(plan.replace.is_empty());
    let problem = waits_for(&plan);
    assert_eq!(problem.reason, "WaitingForQuorum");
    assert!(problem.message.contains("of others with a voting power of 2"), "{}", problem.message);
}

#[test]
fn a_halted_chain_means_no_deletions_and_the_reason_says_what_to_do() {
    let plan = roll(NET, &Chain { advancing: false, ..all(4, false) }, None, now());
    assert!(plan.replace.is_empty());
    let problem = waits_for(&plan);
    assert_eq!(problem.reason, "ChainHalted");
    assert!(problem.message.contains("kubectl delete pod"));
}

#[test]
fn pods_that_never_ran_are_replaced_at_once_so_a_broken_image_can_be_mended() {
    let views = (0..4).map(|i| View { running: false, ready: false, signing: false, ..healthy(i, false) }).collect();
    let plan = roll(NET, &Chain { advancing: false, ..chain_of(views) }, None, now());
    assert_eq!(plan.replace.len(), 4);
    assert_eq!(plan.operation, None);
}

#[test]
fn a_broken_successor_is_replaced_once_the_template_is_mended() {
    let mut chain = all(4, false);
    chain.validators.insert(3, View { running: false, ready: false, signing: false, ..healthy(3, false) });
    let plan = roll(NET, &chain, Some(&operation(3, "older")), now());
    assert_eq!(plan.replace.len(), 1);
    assert_eq!(plan.operation.map(|op| op.pod_uid), Some("uid-3".into()));
}

#[test]
fn a_successor_that_is_ready_and_never_signs_makes_way_once_the_template_is_mended() {
    let mut chain = all(4, false);
    let mute = View { signing: false, signed_height: 0, ..healthy(3, false) };
    chain.validators.insert(3, mute.clone());
    let plan = roll(NET, &chain, Some(&operation(3, "older")), now());
    assert_eq!(plan.replace, vec![Replacement { pod: "net-validator-3".into(), uid: "uid-3".into() }]);
    assert_eq!(plan.operation.map(|op| op.pod_uid), Some("uid-3".into()));
    chain.validators.insert(3, View { current: Some(true), ..mute });
    let plan = roll(NET, &chain, Some(&operation(3, "older")), now());
    assert!(plan.replace.is_empty(), "of the current template it may yet sign");
}

#[test]
fn on_a_halted_chain_a_successor_that_is_ready_stays_and_it_is_said_how_it_goes() {
    let mut chain = Chain { advancing: false, ..all(3, true) };
    chain.validators.insert(2, View { signing: false, signed_height: 0, ..healthy(2, false) });
    let plan = roll(NET, &chain, Some(&operation(2, "older")), now());
    assert!(plan.replace.is_empty());
    let message = plan.operation.expect("in flight").message;
    assert!(message.contains("kubectl delete pod net-validator-2"), "{message}");
}

#[test]
fn a_recorded_restart_that_has_not_begun_is_weighed_anew() {
    let recorded = operation(3, "uid-3");
    let mut chain = all(4, false);
    chain.validators.insert(0, gone());
    let plan = roll(NET, &chain, Some(&recorded), now());
    assert!(plan.replace.is_empty(), "validator 0 was lost while the operator was away");
    assert_eq!((plan.operation.clone(), waits_for(&plan).reason), (None, "WaitingForQuorum"));
    let mut halted = Chain { advancing: false, ..all(4, false) };
    assert!(roll(NET, &halted, Some(&recorded), now()).replace.is_empty());
    halted.validators.insert(3, View { ready: false, signing: false, follows: false, ..healthy(3, false) });
    assert_eq!(roll(NET, &halted, Some(&recorded), now()).replace.len(), 1, "one that is not ready is no loss");
    chain.validators.insert(3, View { terminating: true, ..healthy(3, false) });
    let plan = roll(NET, &chain, Some(&recorded), now());
    assert_eq!(plan.operation.map(|op| op.target), Some("net-validator-3".into()), "one that has begun goes on");
}

#[test]
fn a_recorded_pod_whose_template_is_unknown_is_not_deleted() {
    let views = (0..4).map(|i| View { current: None, ..healthy(i, false) }).collect();
    let plan = roll(NET, &chain_of(views), Some(&operation(3, "uid-3")), now());
    assert!(plan.replace.is_empty(), "who would make its successor?");
    assert_eq!(plan.operation.map(|op| op.target), Some("net-validator-3".into()));
}

#[test]
fn no_pod_that_runs_is_deleted_while_its_successor_could_not_be_made() {
    let obstacle = Some(Problem::new("GenesisMissing", "restore it"));
    let mut chain = Chain { obstacle, ..all(4, false) };
    let plan = roll(NET, &chain, None, now());
    assert!(plan.replace.is_empty() && plan.operation.is_none());
    assert_eq!(waits_for(&plan).reason, "GenesisMissing");
    assert!(roll(NET, &chain, Some(&operation(3, "uid-3")), now()).replace.is_empty(), "recorded or not");
    chain.validators.insert(3, View { ready: false, signing: false, follows: false, ..healthy(3, false) });
    assert!(roll(NET, &chain, Some(&operation(3, "older")), now()).replace.is_empty(), "nor a successor");
}

#[test]
fn a_template_that_is_changed_back_cancels_the_operation() {
    let plan = roll(NET, &all(4, true), Some(&operation(3, "uid-3")), now());
    assert_eq!(plan, Plan::default());
}
