//! Stakes, votes and sets as docs/staking.md has them, in the most obvious code; records as bytes, drawn by hand.

use crate::model::{Head, Model, Records, address};
use aitbc_core::genesis::{Genesis, Mode};
use aitbc_core::key::{Address, PublicKey};
use aitbc_core::transaction::{Action, Motion, Stake, Term, Transaction};
use std::collections::BTreeMap;

/// Set members by key, with their weight.
pub type Set = BTreeMap<PublicKey, u128>;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    pub amount: u128,
    pub epoch: u128,
    pub since: Option<u128>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    pub owner: Address,
    pub stake: u128,
    pub weight: u128,
    pub admitted: bool,
    pub active: bool,
    /// First epoch in which it may end, and whether it is for double signing.
    pub jail: Option<(u128, bool)>,
    pub missed: u128,
    pub missed_since: u128,
    pub parts: Vec<Part>,
}

const NOBODY: Known = Known {
    owner: Address([0; 20]),
    stake: 0,
    weight: 0,
    admitted: false,
    active: false,
    jail: None,
    missed: 0,
    missed_since: 0,
    parts: Vec::new(),
};

impl Known {
    fn unbonding(&self) -> u128 {
        self.parts.iter().map(|part| part.amount).sum()
    }

    fn listed(&self) -> bool {
        self.stake > 0 || !self.parts.is_empty() || self.admitted
    }
}

#[derive(Clone, Debug)]
pub struct Staking {
    pub genesis: Genesis,
    pub known: BTreeMap<PublicKey, Known>,
    pub votes: BTreeMap<PublicKey, Vec<(Motion, u128)>>,
    /// By `Term::name`, once one was changed.
    pub terms: Option<BTreeMap<&'static str, u128>>,
    pub upgrades: Vec<(u16, u128)>,
    /// Records of offences.
    pub offences: Records,
    /// Sets that are written down, by epoch.
    pub sets: BTreeMap<u128, Set>,
}

impl Staking {
    pub fn new(genesis: &Genesis) -> Staking {
        let poa = genesis.mode == Mode::Poa;
        let known = |v: &aitbc_core::genesis::GenesisValidator| Known {
            owner: address(&v.public_key),
            stake: v.stake.into(),
            weight: if poa { v.weight.into() } else { 0 },
            admitted: genesis.mode != Mode::Pos,
            active: true,
            ..NOBODY
        };
        Staking {
            known: genesis.validators.iter().map(|v| (v.public_key, known(v))).collect(),
            genesis: genesis.clone(),
            votes: BTreeMap::new(),
            terms: None,
            upgrades: Vec::new(),
            offences: Records::new(),
            sets: BTreeMap::new(),
        }
    }

    pub fn locked(&self) -> u128 {
        self.known.values().map(|known| known.stake + known.unbonding()).sum()
    }

    pub fn terms(&self) -> BTreeMap<&'static str, u128> {
        let staking = &self.genesis.staking;
        self.terms.clone().unwrap_or_else(|| {
            BTreeMap::from([
                ("min_fee", self.genesis.parameters.min_fee.into()),
                ("min_stake", staking.min_stake.into()),
                ("max_validators", staking.max_validators.into()),
                ("unbonding_ms", staking.unbonding_ms.into()),
            ])
        })
    }

    fn of(&self, key: &PublicKey) -> Known {
        self.known.get(key).cloned().unwrap_or(NOBODY)
    }

    fn put(&mut self, key: PublicKey, known: Known) {
        if known.listed() || known.active || known.jail.is_some() {
            self.known.insert(key, known);
        } else {
            self.known.remove(&key);
        }
    }

    fn vote(&mut self, head: &Head, voter: PublicKey, motion: Motion) -> Result<(), &'static str> {
        if !head.set.contains_key(&voter) {
            return Err("NOT_AN_AUTHORITY");
        }
        let mut after = self.clone();
        after.carry_out(head, motion)?;
        let mine = self.votes.entry(voter).or_default();
        let counts = |cast: u128| head.epoch == cast || head.epoch == cast + 1;
        let still: Vec<_> = mine.iter().copied().filter(|(_, cast)| counts(*cast)).collect();
        if still.iter().any(|(other, _)| *other == motion) {
            return Err("ALREADY_VOTED");
        }
        if still.len() == 16 {
            return Err("VOTES_FULL");
        }
        *mine = still;
        mine.push((motion, head.epoch));
        let pos = self.genesis.mode == Mode::Pos;
        let (mut yes, mut all) = (0, 0);
        for (key, weight) in &head.set {
            let votes = if pos { *weight } else { 1 };
            all += votes;
            let said = self.votes.get(key).into_iter().flatten().any(|(other, cast)| *other == motion && counts(*cast));
            yes += if said { votes } else { 0 };
        }
        if yes * 3 > all * 2 {
            for key in head.set.keys() {
                self.votes.entry(*key).or_default().retain(|(other, _)| *other != motion);
            }
            *self = Staking { votes: std::mem::take(&mut self.votes), ..after };
        }
        Ok(())
    }

    fn carry_out(&mut self, head: &Head, motion: Motion) -> Result<(), &'static str> {
        match motion {
            Motion::Admit(key) | Motion::Remove(key) => {
                let admit = matches!(motion, Motion::Admit(_));
                let mut known = self.of(&key);
                if self.genesis.mode == Mode::Pos || known.admitted == admit {
                    return Err("MOTION_POINTLESS");
                }
                known.admitted = admit;
                known.weight = if self.genesis.mode == Mode::Poa { known.weight.max(1) } else { 0 };
                self.put(key, known);
            }
            Motion::SetTerm { term, value } => {
                let staking = &self.genesis.staking;
                let (least, most): (u128, u128) = match term {
                    Term::MinFee => (0, 1_000_000),
                    Term::MinStake => (staking.unit.into(), (1 << 53) - 1),
                    Term::MaxValidators => (staking.min_validators.into(), 100),
                    Term::UnbondingMs => (0, 31_536_000_000),
                };
                let value = u128::from(value);
                if value < least || value > most {
                    return Err("PARAMETER_OUT_OF_RANGE");
                }
                let mut terms = self.terms();
                if terms.insert(term.name(), value) == Some(value) {
                    return Err("MOTION_POINTLESS");
                }
                self.terms = Some(terms);
            }
            Motion::ScheduleUpgrade { version, height } => {
                let (height, soonest) = (u128::from(height), head.height + 100);
                let mut list = self.upgrades.clone();
                if list.last().is_some_and(|(last, at)| *last == version && *at >= soonest) {
                    list.pop();
                }
                let (last, at) = list.last().copied().unwrap_or((1, 0));
                if u32::from(version) != u32::from(last) + 1 || height <= at || height < soonest {
                    return Err("UPGRADE_OUT_OF_RANGE");
                }
                list.push((version, height));
                self.upgrades = list;
            }
        }
        Ok(())
    }

    /// The set after `before`.
    pub fn next_set(&self, before: &Set) -> Set {
        let terms = self.terms();
        let (mode, staking) = (self.genesis.mode, &self.genesis.staking);
        let stakes = mode != Mode::Poa;
        let mut able: Vec<(PublicKey, Known)> = self.known.clone().into_iter().collect();
        able.retain(|(_, known)| {
            let enough = known.stake >= terms["min_stake"];
            let chosen = match mode {
                Mode::Poa => known.admitted,
                Mode::Pos => enough,
                Mode::Hybrid => known.admitted && enough,
            };
            chosen && known.active && known.jail.is_none()
        });
        if stakes {
            able.sort_by_key(|(_, known)| std::cmp::Reverse(known.stake));
        }
        let power = |known: &Known| {
            if stakes { (known.stake / u128::from(staking.unit)).min(20_000_000) } else { known.weight }
        };
        let most = usize::try_from(terms["max_validators"]).expect("at most 100");
        let mut wanted: Set = able.iter().take(most).map(|(key, known)| (*key, power(known))).collect();
        if stakes {
            below_a_third(&mut wanted, mode);
        }
        let waiting = able.iter().skip(most).map(|(key, known)| (*key, power(known)));
        let stay = wanted.clone().into_iter().chain(waiting);
        let stays: u128 = stay.filter_map(|(key, weight)| Some(weight.min(*before.get(&key)?))).sum();
        let mut room = (stays / 3).min(before.values().sum::<u128>() / 4).max(1);
        let mut set = Set::new();
        for (key, weight) in wanted {
            let had = before.get(&key).copied().unwrap_or(0);
            let new = weight.saturating_sub(had).min(room);
            room -= new;
            let weight = weight.min(had + new);
            if weight > 0 {
                set.insert(key, weight);
            }
        }
        for (key, known) in able.iter().skip(most) {
            if let Some(had) = before.get(key).filter(|_| set.len() < most) {
                set.insert(*key, power(known).min(*had));
            }
        }
        if set.keys().all(|key| !before.contains_key(key)) {
            return before.clone();
        }
        let mut leaving: Vec<_> = before.iter().filter(|(key, _)| !set.contains_key(key)).collect();
        leaving.sort_by_key(|(key, weight)| (self.of(key).jail.is_some(), std::cmp::Reverse(**weight)));
        let wanting = usize::from(staking.min_validators).saturating_sub(set.len());
        let kept: Vec<_> = leaving.into_iter().take(wanting).map(|(key, weight)| (*key, *weight)).collect();
        set.extend(kept);
        if set.len() < usize::from(staking.min_validators) {
            return before.clone();
        }
        if stakes {
            below_a_third(&mut set, mode);
        }
        set
    }

    /// All records of these.
    pub fn records(&self) -> Records {
        let narrow = |n: u128| u64::try_from(n).expect("a u64").to_le_bytes();
        let mut records = self.offences.clone();
        let listed: Vec<&PublicKey> =
            self.known.iter().filter(|(_, known)| known.listed()).map(|(key, _)| key).collect();
        let mut list = [&[2][..], &(listed.len() as u32).to_le_bytes()].concat();
        listed.iter().for_each(|key| list.extend(key.0));
        records.insert(vec![2], list);
        for (epoch, set) in &self.sets {
            let mut bytes = [&[1][..], &(set.len() as u32).to_le_bytes()].concat();
            for (key, weight) in set {
                bytes.extend(key.0);
                bytes.extend(u32::try_from(*weight).expect("a u32").to_le_bytes());
            }
            records.insert([&[1][..], &narrow(*epoch)].concat(), bytes);
        }
        for (key, known) in &self.known {
            let mut bytes = vec![3];
            bytes.extend(known.owner.0);
            bytes.extend(narrow(known.stake));
            bytes.extend(u32::try_from(known.weight).expect("a u32").to_le_bytes());
            bytes.extend([u8::from(known.admitted), u8::from(known.active), u8::from(known.jail.is_some())]);
            if let Some((end, double)) = known.jail {
                bytes.extend(narrow(end));
                bytes.push(u8::from(!double));
            }
            bytes.extend(u32::try_from(known.missed).expect("a u32").to_le_bytes());
            bytes.extend(narrow(known.missed_since));
            bytes.extend((known.parts.len() as u32).to_le_bytes());
            for part in &known.parts {
                bytes.extend([narrow(part.amount), narrow(part.epoch), narrow(part.since.unwrap_or(0))].concat());
            }
            records.insert([&[3], &key.0[..]].concat(), bytes);
        }
        for (key, votes) in self.votes.iter().filter(|(_, votes)| !votes.is_empty()) {
            let mut bytes = [&[5][..], &(votes.len() as u32).to_le_bytes()].concat();
            for (motion, epoch) in votes {
                bytes.extend(motion_bytes(motion));
                bytes.extend(narrow(*epoch));
            }
            records.insert([&[5], &key.0[..]].concat(), bytes);
        }
        if let Some(terms) = &self.terms {
            let mut bytes = [&[6][..], &narrow(terms["min_fee"]), &narrow(terms["min_stake"])].concat();
            bytes.extend(&narrow(terms["max_validators"])[..2]);
            bytes.extend(narrow(terms["unbonding_ms"]));
            records.insert(vec![6], bytes);
        }
        if !self.upgrades.is_empty() {
            let mut bytes = [&[7][..], &(self.upgrades.len() as u32).to_le_bytes()].concat();
            for (version, height) in &self.upgrades {
                bytes.extend(version.to_le_bytes());
                bytes.extend(narrow(*height));
            }
            records.insert(vec![7], bytes);
        }
        records
    }
}

impl Model {
    /// A proven offence, in the present block.
    pub fn punish(&mut self, key: PublicKey, batches: bool) {
        let (mut known, rules) = (self.staking.of(&key), self.staking.genesis.staking.clone());
        let mut gone = 0;
        if !batches {
            let rate = u128::from(rules.slash_bp);
            gone += known.stake * rate / 10_000;
            known.stake -= known.stake * rate / 10_000;
            for part in &mut known.parts {
                gone += part.amount * rate / 10_000;
                part.amount -= part.amount * rate / 10_000;
            }
            known.parts.retain(|part| part.amount > 0);
        }
        self.burnt += gone;
        let pos = self.staking.genesis.mode == Mode::Pos;
        let end = if pos { self.head.epoch + u128::from(rules.jail_epochs) } else { self.head.epoch };
        let end = end.max(known.jail.map_or(0, |(end, _)| end));
        known.jail = Some((end, true));
        known.admitted = false;
        self.staking.put(key, known);
    }

    /// Before the transactions of a block, after its offences.
    pub fn begin(&mut self) {
        let (head, rules) = (self.head.clone(), self.staking.genesis.staking.clone());
        for key in head.missed.iter().filter(|key| **key != head.leader) {
            let mut known = self.staking.of(key);
            if known.missed == 0 {
                known.missed_since = head.time;
            }
            known.missed += 1;
            let enough = known.missed >= u128::from(rules.absence_slots)
                && head.time - known.missed_since >= u128::from(rules.absence_ms);
            if enough && known.jail.is_none() {
                known.jail = Some((head.epoch + 1, false));
            }
            self.staking.put(*key, known);
        }
        let mut known = self.staking.of(&head.leader);
        (known.missed, known.missed_since) = (0, 0);
        self.staking.put(head.leader, known);
        if !head.first {
            return;
        }
        for (key, mut known) in self.staking.known.clone().into_iter().filter(|(_, known)| known.listed()) {
            let weight = head.set.get(&key).copied();
            if weight.is_none() {
                (known.missed, known.missed_since) = (0, 0);
                let small = known.stake > 0 && known.stake < self.terms["min_stake"];
                let same = known.parts.iter().position(|part| part.epoch == head.epoch);
                if small && (same.is_some() || known.parts.len() < 32) {
                    let amount = std::mem::take(&mut known.stake);
                    match same {
                        Some(at) => known.parts[at].amount += amount,
                        None => known.parts.push(Part { amount, epoch: head.epoch, since: None }),
                    }
                    known.active = false;
                }
            }
            let counted = weight.unwrap_or(0) * u128::from(rules.unit);
            for at in (0..known.parts.len()).rev() {
                let newer: u128 = known.parts[at + 1..].iter().map(|part| part.amount).sum();
                if counted > known.stake + newer {
                    let part = &mut known.parts[at];
                    (part.epoch, part.since) = (part.epoch.max(head.epoch.saturating_sub(1)), None);
                }
            }
            let mut left = Vec::new();
            for mut part in known.parts.clone() {
                let out = part.epoch + 2;
                if head.epoch >= out && part.since.is_none() {
                    part.since = Some(head.time);
                }
                let epochs = head.epoch >= out + u128::from(rules.unbonding_epochs);
                let time = part.since.is_some_and(|since| head.time >= since + self.terms["unbonding_ms"]);
                if epochs && time {
                    self.reward(&known.owner, part.amount);
                } else {
                    left.push(part);
                }
            }
            known.parts = left;
            self.staking.put(key, known);
        }
    }

    /// After the transactions of a block, and its fees.
    pub fn end(&mut self) {
        let reward = u128::from(self.staking.genesis.staking.block_reward);
        let works = |key: &PublicKey| self.staking.of(key).jail.is_none() && self.staking.of(key).missed == 0;
        let working: Set = self.head.set.clone().into_iter().filter(|(key, _)| works(key)).collect();
        let total: u128 = working.values().sum();
        let shares: Vec<(Address, u128)> =
            working.iter().map(|(key, weight)| (address(key), reward * weight / total)).collect();
        if self.mint(shares.iter().map(|(_, share)| share).sum()) {
            shares.iter().for_each(|(member, share)| self.reward(member, *share));
        }
    }

    /// A stake or a vote whose fee is paid.
    pub fn stake(&mut self, tx: &Transaction) -> Result<(), &'static str> {
        let sender = address(&tx.sender);
        match &tx.action {
            Action::Bond(stake) => self.bond(sender, stake),
            Action::Unbond(stake) => self.unbond(sender, stake),
            Action::Activate { owner } => self.activate(tx.sender, *owner),
            Action::Unjail => self.unjail(tx.sender),
            Action::AuthorityVote(motion) => self.staking.vote(&self.head, tx.sender, *motion),
            other => unreachable!("{other:?} is no stake"),
        }
    }

    fn bond(&mut self, sender: Address, stake: &Stake) -> Result<(), &'static str> {
        let (mut known, amount) = (self.staking.of(&stake.validator), u128::from(stake.amount));
        if self.entry(&sender).balance < amount {
            return Err("INSUFFICIENT_BALANCE");
        }
        if self.staking.genesis.mode == Mode::Poa {
            return Err("STAKING_DISABLED");
        }
        if !known.active {
            return Err("NOT_ACTIVATED");
        }
        if known.owner != sender {
            return Err("NOT_OWNER");
        }
        if known.stake + amount < self.terms["min_stake"] {
            return Err("BOND_TOO_SMALL");
        }
        if (known.stake + amount) / u128::from(self.staking.genesis.staking.unit) > 20_000_000 {
            return Err("BOND_TOO_LARGE");
        }
        self.take(&sender, amount);
        known.stake += amount;
        self.staking.put(stake.validator, known);
        Ok(())
    }

    fn unbond(&mut self, sender: Address, stake: &Stake) -> Result<(), &'static str> {
        let (mut known, amount) = (self.staking.of(&stake.validator), u128::from(stake.amount));
        if self.staking.genesis.mode == Mode::Poa {
            return Err("STAKING_DISABLED");
        }
        if known.owner != sender || known.stake + known.unbonding() == 0 {
            return Err("NOT_OWNER");
        }
        if amount > known.stake {
            return Err("UNBOND_TOO_MUCH");
        }
        let rest = known.stake - amount;
        if rest > 0 && rest < self.terms["min_stake"] {
            return Err("BOND_TOO_SMALL");
        }
        let full = known.parts.len() == 32;
        match known.parts.iter_mut().find(|part| part.epoch == self.head.epoch) {
            Some(part) => part.amount += amount,
            None if full => return Err("UNBONDINGS_FULL"),
            None => known.parts.push(Part { amount, epoch: self.head.epoch, since: None }),
        }
        known.stake = rest;
        if rest == 0 {
            known.active = false;
        }
        self.staking.put(stake.validator, known);
        Ok(())
    }

    fn activate(&mut self, key: PublicKey, owner: Address) -> Result<(), &'static str> {
        let mut known = self.staking.of(&key);
        let nothing = known.stake + known.unbonding() == 0;
        if known.active && !(nothing && known.owner != owner) {
            return Err("ALREADY_ACTIVE");
        }
        if !nothing && known.owner != owner {
            return Err("NOT_OWNER");
        }
        (known.owner, known.active) = (owner, true);
        self.staking.put(key, known);
        Ok(())
    }

    fn unjail(&mut self, key: PublicKey) -> Result<(), &'static str> {
        let mut known = self.staking.of(&key);
        let Some((end, _)) = known.jail else { return Err("NOT_JAILED") };
        if self.head.epoch < end {
            return Err("STILL_JAILED");
        }
        if self.staking.genesis.mode != Mode::Pos && !known.admitted {
            return Err("NOT_ADMITTED");
        }
        (known.jail, known.active, known.missed, known.missed_since) = (None, true, 0, 0);
        self.staking.put(key, known);
        Ok(())
    }
}

fn motion_bytes(motion: &Motion) -> Vec<u8> {
    match motion {
        Motion::Admit(key) => [&[0], &key.0[..]].concat(),
        Motion::Remove(key) => [&[1], &key.0[..]].concat(),
        Motion::SetTerm { term, value } => {
            let tag =
                ["min_fee", "min_stake", "max_validators", "unbonding_ms"].iter().position(|name| *name == term.name());
            [&[2, tag.expect("a term") as u8][..], &value.to_le_bytes()].concat()
        }
        Motion::ScheduleUpgrade { version, height } => {
            [&[3][..], &version.to_le_bytes(), &height.to_le_bytes()].concat()
        }
    }
}

/// Of four or more, none has a third: takes as little as that needs from the greatest. In pos not more than a quarter of all.
fn below_a_third(set: &mut Set, mode: Mode) {
    let total = |set: &Set, cap: u128| -> u128 { set.values().map(|weight| (*weight).min(cap)).sum() };
    let greatest = set.values().copied().max().unwrap_or(0);
    if set.len() < 4 {
        return;
    }
    let below = (1..=greatest).rev().find(|cap| 3 * cap < total(set, *cap)).expect("1 fits");
    let three_quarters = (1..=greatest).find(|cap| 4 * total(set, *cap) >= 3 * total(set, greatest)).expect("no cap");
    let cap = if mode == Mode::Pos { below.max(three_quarters) } else { below };
    set.values_mut().for_each(|weight| *weight = (*weight).min(cap));
}
