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
        weight: 1,
        signing: true,
        signed_height: 100,
        current: Some(current),
        ..View::default()
    }
}

fn chain_of(views: Vec<View>) -> Chain {
    Chain { validators: (0..).zip(views).collect(), height: 100, advancing: true, ..Chain::default() }
}

fn all(n: i32, current: bool) -> Chain {
    chain_of((0..n).map(|i| healthy(i, current)).collect())
}

/// A validator without a pod.
fn gone() -> View {
    View { weight: 1, ..View::default() }
}

/// Every fourth chain has unequal validators, some that decide nothing, and some of others.
fn random(dice: &mut Dice) -> Chain {
    let n = 1 + i32::try_from(dice.roll(10)).expect("small");
    let mut chain = random_equals(dice, n);
    if dice.one_in(4) {
        let mut power = || i64::try_from(dice.roll(10)).expect("small");
        for view in chain.validators.values_mut() {
            view.weight = power();
            view.signing &= view.weight > 0;
        }
        (chain.others_live, chain.others_down) = (power(), power() / 5);
    }
    chain
}

fn random_equals(dice: &mut Dice, n: i32) -> Chain {
    let views = (0..n).map(|ordinal| match dice.roll(8) {
        0 => gone(),
        1 => View { terminating: true, signing: false, ready: false, ..healthy(ordinal, dice.one_in(2)) },
        2 => View { running: false, signing: false, ready: false, ..healthy(ordinal, dice.one_in(2)) },
        3 => View { signing: false, ready: dice.one_in(2), ..healthy(ordinal, dice.one_in(2)) },
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
        let weight = chain.validators[target].weight;
        let down: i64 = chain.silent().filter(|(i, _)| *i != target).map(|(_, view)| view.weight).sum();
        let down = down + chain.others_down;
        let fits = down + weight <= quorum::spare(chain.total()) || down == 0;
        assert!(weight == 0 || fits, "seed {seed}: {weight} beside {down} of {}", chain.total());
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
    let outside = View { weight: 0, signing: false, signed_height: 0, ..healthy(1, false) };
    let mut chain = all(4, false);
    chain.validators.insert(0, gone());
    chain.validators.insert(1, outside.clone());
    assert_eq!(roll(NET, &chain, None, now()).replace[0].pod, "net-validator-1", "though another one is down");
    chain.validators.insert(1, View { current: Some(true), ..outside });
    let plan = roll(NET, &chain, Some(&operation(1, "older")), now());
    assert!(plan.notes.contains(&Note::Restarted { pod: "net-validator-1".into(), height: 0 }), "{plan:?}");
    assert!(plan.replace.is_empty(), "the next one decides, and validator 0 is down");
}

#[test]
fn voting_power_counts_and_not_the_number_of_validators() {
    let weighing = |weights: [i64; 4]| {
        let views = (0..).zip(weights).map(|(i, weight)| View { weight, ..healthy(i, i != 3) });
        chain_of(views.collect())
    };
    let heavy = weighing([1, 1, 1, 9]);
    let plan = roll(NET, &heavy, None, now());
    assert!(plan.notes.contains(&Note::NoFaultTolerance { pod: "net-validator-3".into() }), "the chain will pause");
    let mut light = weighing([9, 9, 9, 1]);
    light.validators.insert(0, View { weight: 2, ..gone() });
    assert_eq!(roll(NET, &light, None, now()).replace.len(), 1, "2 are down, 1 more of 21 can be spared");
    light.validators.insert(0, View { weight: 9, ..gone() });
    assert!(roll(NET, &light, None, now()).replace.is_empty());
}

#[test]
fn validators_of_others_that_are_down_hold_the_roll_out() {
    let chain = |others_down| Chain { others_live: 2, others_down, ..all(4, false) };
    assert_eq!(roll(NET, &chain(1), None, now()).replace.len(), 1, "7 can spare 2");
    let plan = roll(NET, &chain(2), None, now());
    assert!(plan.replace.is_empty());
    let Rollout::Running { waiting: Some(problem), .. } = plan.rollout else { panic!("{:?}", plan.rollout) };
    assert_eq!(problem.reason, "WaitingForQuorum");
    assert!(problem.message.contains("of others with a voting power of 2"), "{}", problem.message);
}

#[test]
fn a_halted_chain_means_no_deletions_and_the_reason_says_what_to_do() {
    let plan = roll(NET, &Chain { advancing: false, ..all(4, false) }, None, now());
    assert!(plan.replace.is_empty());
    let Rollout::Running { waiting: Some(problem), .. } = plan.rollout else { panic!("{:?}", plan.rollout) };
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
fn a_template_that_is_changed_back_cancels_the_operation() {
    let plan = roll(NET, &all(4, true), Some(&operation(3, "uid-3")), now());
    assert_eq!(plan, Plan::default());
}
