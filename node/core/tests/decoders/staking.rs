//! Random stakes, motions and the records of both.

use super::{list, number};
use aitbc_core::key::{Address, PublicKey};
use aitbc_core::record::{Record, RecordKey};
use aitbc_core::staking::motion::{Ballot, Terms, Upgrade, Upgrades, Vote};
use aitbc_core::staking::{Candidate, Cause, Jail, Unbonding};
use aitbc_core::supply::Supply;
use aitbc_core::transaction::{Action, Motion, Stake, Term};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};

fn stake(rng: &mut StdRng) -> Stake {
    Stake { validator: PublicKey(rng.random()), amount: number(rng) }
}

fn motion(rng: &mut StdRng) -> Motion {
    match rng.random_range(0..4) {
        0 => Motion::Admit(PublicKey(rng.random())),
        1 => Motion::Remove(PublicKey(rng.random())),
        2 => Motion::SetTerm { term: *Term::ALL.choose(rng).expect("some"), value: number(rng) },
        _ => Motion::ScheduleUpgrade { version: rng.random(), height: number(rng) },
    }
}

/// One of each kind.
pub fn actions(rng: &mut StdRng) -> [Action; 5] {
    [
        Action::Bond(stake(rng)),
        Action::Unbond(stake(rng)),
        Action::Activate { owner: Address(rng.random()) },
        Action::Unjail,
        Action::AuthorityVote(motion(rng)),
    ]
}

fn candidate(rng: &mut StdRng) -> Candidate {
    let cause = if rng.random_bool(0.5) { Cause::DoubleSigning } else { Cause::Absence };
    let part = |rng: &mut StdRng| Unbonding { amount: number(rng), epoch: number(rng), since_ms: number(rng) };
    Candidate {
        owner: Address(rng.random()),
        stake: number(rng),
        weight: rng.next_u32(),
        admitted: rng.random_bool(0.5),
        active: rng.random_bool(0.5),
        jail: rng.random_bool(0.5).then_some(Jail { until: number(rng), cause }),
        missed: rng.next_u32(),
        missed_since_ms: number(rng),
        unbonding: list(rng, 4, part),
    }
}

/// One of each kind, under its key.
pub fn records(rng: &mut StdRng) -> Vec<(&'static str, (RecordKey, Record))> {
    let (key, voter) = (PublicKey(rng.random()), PublicKey(rng.random()));
    let terms =
        Terms { min_fee: number(rng), min_stake: number(rng), max_validators: rng.random(), unbonding_ms: number(rng) };
    let keys = list(rng, 4, |rng| PublicKey(rng.random()));
    let votes = list(rng, 4, |rng| Vote { motion: motion(rng), epoch: number(rng) });
    let upgrades = list(rng, 4, |rng| Upgrade { version: rng.random(), height: number(rng) });
    let supply = Record::Supply(Supply { minted: number(rng), burnt: number(rng) });
    vec![
        ("candidates", (RecordKey::Candidates, Record::Candidates { keys })),
        ("candidate", (RecordKey::Candidate { key }, Record::Candidate(candidate(rng)))),
        ("ballot", (RecordKey::Ballot { voter }, Record::Ballot(Ballot { votes }))),
        ("terms", (RecordKey::Terms, Record::Terms(terms))),
        ("upgrades", (RecordKey::Upgrades, Record::Upgrades(Upgrades { list: upgrades }))),
        ("supply", (RecordKey::Supply, supply)),
    ]
}
