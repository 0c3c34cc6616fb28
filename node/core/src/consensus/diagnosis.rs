//! One sentence for people out of a report: what is waited for, and what to do. Pure text; no rule depends on it.

use super::doctor::{CandidateReport, Cause, Condition, Report, Voting};
use crate::staking::motion::Upgrade;
use crate::validators::Index;

/// Validators that a sentence names; the rest is counted.
const NAMED_MAX: usize = 4;
/// A write that waits for longer is what the vote waits for: commits take milliseconds.
const SLOW_WRITE_MS: u64 = 1_000;

/// The cause and the sentence.
pub(super) fn diagnose(report: &Report) -> (Cause, String) {
    if let Some(stopped) = old_version(report) {
        return stopped;
    }
    match report.state {
        Condition::Idle => (Cause::None, format!("idle: nothing waits to become final above height {}", report.height)),
        Condition::Working => {
            let text = format!("working: slot {}, for {} so far", report.slot, duration(report.waiting_ms));
            (Cause::None, text)
        }
        Condition::Stalled => stalled(report),
    }
}

/// V1: whether or not anything waits, nothing comes from here before somebody acts.
fn old_version(report: &Report) -> Option<(Cause, String)> {
    let Upgrade { version, height } = report.upgrade?;
    let text = format!(
        "blocks from height {height} on have version {version}, which this program does not speak: it votes for none of them, and \
         answers reads of those below; start a program that speaks it on the same database"
    );
    Some((Cause::OldVersion, text))
}

/// What is nearest first: the own vote, then what the own vote waits for, then the others.
fn stalled(report: &Report) -> (Cause, String) {
    own_voting(report)
        .or_else(|| unresolved(report))
        .or_else(|| no_quorum_connected(report))
        .or_else(|| checking(report))
        .or_else(|| own_database(report))
        .or_else(|| candidate(report))
        .or_else(|| silent_voters(report))
        .unwrap_or_else(|| passing_slots(report))
}

fn own_voting(report: &Report) -> Option<(Cause, String)> {
    let text = match report.voting {
        // Of an old version more is said than this; who checks waits for others, and it matters first whether they are there.
        Voting::Yes | Voting::OldVersion | Voting::Checking => return None,
        Voting::Quarantined => {
            "this validator does not vote, for its database may lack votes of its key: it goes on by itself once validators heavier than \
             two thirds, none of them quarantined, have told it their highest votes; where too many have lost theirs for that, see \
             \"aitbc-node recover --help\""
        }
        Voting::NotReady => {
            "this validator does not vote while it is stopping or its database does not answer: see its database"
        }
        Voting::WriteFailed => {
            "this validator does not vote, for a vote could not be stored: mend its database and restart it"
        }
        Voting::Halted => "this validator has stopped voting for good: the log and the exit code say why",
    };
    Some((Cause::OwnVoting, text.to_owned()))
}

fn unresolved(report: &Report) -> Option<(Cause, String)> {
    let missing = report.unresolved.as_ref()?;
    let (lacks, block) = match (missing.missing_block, missing.missing_batches.len()) {
        (Some(block), _) => (format!("block {block}"), Some(block)),
        (None, 0) => ("its execution".to_owned(), None),
        (None, count) => (format!("{count} of its batches"), None),
    };
    let fetch = report.fetches.iter().find(|fetch| block.is_none_or(|block| fetch.block == block));
    let asked = fetch.map(|fetch| asked(report, fetch.asked, fetch.tries)).unwrap_or_default();
    let text = format!(
        "slot {} is final for the others, but this node lacks {lacks}{asked}: see its network, and what blocks its peers \
         keep",
        missing.slot
    );
    Some((Cause::Unresolved, text))
}

fn no_quorum_connected(report: &Report) -> Option<(Cause, String)> {
    let (here, away): (Vec<Index>, Vec<Index>) =
        (0..report.validators.len() as Index).partition(|i| report.validator(*i).is_some_and(|v| v.connected));
    let weight = report.weight_of(&here);
    if weight >= report.quorum {
        return None;
    }
    let text = format!(
        "{}: connected validators weigh {weight}, the quorum is {}; start those that are down, or mend the network to \
         them, until weight {} more is back",
        each(report, &away),
        report.quorum,
        report.quorum - weight
    );
    Some((Cause::NoQuorumConnected, text))
}

fn checking(report: &Report) -> Option<(Cause, String)> {
    let text = "this validator does not vote yet: it waits for what the others have seen of its key; see its network";
    (report.voting == Voting::Checking).then(|| (Cause::OwnVoting, text.to_owned()))
}

fn own_database(report: &Report) -> Option<(Cause, String)> {
    let oldest = report.writes.oldest_ms.filter(|oldest| *oldest >= SLOW_WRITE_MS)?;
    let text = format!(
        "the database of this validator has not answered for {}, and its vote in slot {} waits for that: see the \
         database's disk, locks and log",
        duration(oldest),
        report.slot
    );
    Some((Cause::OwnDatabase, text))
}

/// What keeps this validator from voting for what the leader proposed.
fn candidate(report: &Report) -> Option<(Cause, String)> {
    let candidate = report.frontier.candidates.first()?;
    if let Some(rule) = candidate.invalid {
        let (slot, leader) = (report.frontier.slot, name(report, report.frontier.leader));
        let text = format!(
            "the block that {leader} proposes in slot {slot} breaks rule {rule}: compare its version and state"
        );
        return Some((Cause::CandidateInvalid, text));
    }
    candidate.holds.first().map(|rule| held(report, candidate, rule))
}

/// H1-H5.
fn held(report: &Report, candidate: &CandidateReport, rule: &str) -> (Cause, String) {
    let slot = report.frontier.slot;
    match rule {
        "H1" => clocks(report, candidate),
        "H2" => {
            let text = format!("the block below slot {slot} is not executed here yet: see this node's load and log");
            (Cause::ParentNotExecuted, text)
        }
        "H3" => batches(report, candidate),
        "H4" => {
            let text = format!("a block below slot {slot} is missing here and fetched: see the connections to peers");
            (Cause::AncestorMissing, text)
        }
        _ => {
            let leader = name(report, report.frontier.leader);
            let text = format!("certificates below slot {slot} are missing here: asked of {leader}, then of others");
            (Cause::ProofMissing, text)
        }
    }
}

/// H3.
fn batches(report: &Report, candidate: &CandidateReport) -> (Cause, String) {
    let fetch = report.fetches.iter().find(|fetch| fetch.block == candidate.block && fetch.what == "batches");
    let asked = fetch.map(|fetch| asked(report, fetch.asked, fetch.tries)).unwrap_or_default();
    let text = format!(
        "{} of the batches of the block that {} proposes in slot {} are not here{asked}: their author, or somebody who \
         voted for the block, must be reachable; the slot is skipped if they do not come",
        candidate.missing_batches.len(),
        name(report, report.frontier.leader),
        report.frontier.slot
    );
    (Cause::BatchesMissing, text)
}

/// H1: one clock is ahead, or the own one is behind, which it is where more than the faulty are ahead of it alike.
fn clocks(report: &Report, candidate: &CandidateReport) -> (Cause, String) {
    // The median by weight of all, this validator among them with 0: more than the faulty cannot be wrong alike.
    let far = i64::try_from(candidate.ahead_ms / 2).unwrap_or(i64::MAX);
    let ahead: Vec<Index> =
        report.validators.iter().filter(|v| v.clock_ahead_ms.is_some_and(|ms| ms > far)).map(|v| v.index).collect();
    let by = duration(candidate.ahead_ms);
    if report.weight_of(&ahead) > report.total_weight - report.quorum {
        let text =
            format!("the clock of this validator is behind that of {} others by about {by}: set it", ahead.len());
        return (Cause::OwnClock, text);
    }
    let leader = name(report, report.frontier.leader);
    let text =
        format!("the clock of {leader} is ahead of ours by about {by}: set it; its slots are skipped until then");
    (Cause::LeaderClock, text)
}

fn silent_voters(report: &Report) -> Option<(Cause, String)> {
    let frontier = &report.frontier;
    if frontier.silent.is_empty() || report.slot_age_ms < report.stalled_after_ms / 2 {
        return None;
    }
    let weight = frontier.notar.weight.max(frontier.skip.weight);
    let leader_silent = frontier.candidates.is_empty() && frontier.silent.contains(&frontier.leader);
    let (cause, begin) = if leader_silent {
        let leader = name(report, frontier.leader);
        (Cause::LeaderSilent, format!("slot {}: its leader, {leader}, proposed nothing; ", frontier.slot))
    } else {
        (Cause::VotesMissing, format!("slot {}: ", frontier.slot))
    };
    let text = format!(
        "{begin}{}: votes of weight {weight} are here, the quorum is {}, so weight {} more must come; see the logs of \
         those named and /rpc/consensus/doctor of theirs",
        each(report, &frontier.silent),
        report.quorum,
        report.quorum.saturating_sub(weight)
    );
    Some((cause, text))
}

/// Everybody votes, or slots go by: what keeps their blocks from becoming final.
fn passing_slots(report: &Report) -> (Cause, String) {
    let frontier = &report.frontier;
    if let Some(slot) = report.notarized.as_ref().filter(|slot| slot.finality.weight < report.quorum) {
        let text = format!(
            "the block of slot {} is notarized, Final votes for it weigh {} of quorum {}; without one: {}; they may be slow, \
             see their database latency",
            slot.slot,
            slot.finality.weight,
            report.quorum,
            each(report, &slot.finality.missing)
        );
        return (Cause::FinalVotesMissing, text);
    }
    if frontier.silent.is_empty() {
        let text = format!(
            "slot {}: Notar votes weigh {}, Skip votes {}, the quorum is {}: time-outs grow until one of them has it",
            frontier.slot, frontier.notar.weight, frontier.skip.weight, report.quorum
        );
        return (Cause::VotesSplit, text);
    }
    let text = format!(
        "{} slots were skipped one after the other since slot {}: blocks come too late for the time-out; see the load \
         and the network's latency",
        report.slot.saturating_sub(report.final_slot + 1),
        report.final_slot
    );
    (Cause::Skipping, text)
}

fn asked(report: &Report, peer: Option<Index>, tries: u32) -> String {
    match peer {
        Some(peer) => format!(", asked for {tries} times, last of {}", name(report, peer)),
        None => ", and nobody is connected to ask".to_owned(),
    }
}

fn name(report: &Report, index: Index) -> String {
    match report.validator(index) {
        Some(validator) => format!("validator {index} ({})", validator.address),
        None => format!("validator {index}"),
    }
}

/// What is wrong with each, the first few by name.
fn each(report: &Report, indices: &[Index]) -> String {
    let mut parts: Vec<String> = indices.iter().take(NAMED_MAX).map(|index| complaint(report, *index)).collect();
    if indices.len() > NAMED_MAX {
        parts.push(format!("{} more", indices.len() - NAMED_MAX));
    }
    parts.join(", ")
}

fn complaint(report: &Report, index: Index) -> String {
    let Some(validator) = report.validator(index) else { return name(report, index) };
    if index == report.me {
        return format!("{} is this one and has not voted", name(report, index));
    }
    let voted = match validator.last_vote_ms {
        Some(ms) => format!("has not voted for {}", duration(ms)),
        None => "has not voted since this node started".to_owned(),
    };
    let link = match (validator.connected, validator.ready) {
        (false, _) => format!(" and is not connected for {}", duration(validator.connection_age_ms)),
        (true, Some(false)) => {
            " and says that it is not ready: it is stopping, or its database does not answer".to_owned()
        }
        (true, _) => " though it is connected".to_owned(),
    };
    format!("{} {voted}{link}", name(report, index))
}

fn duration(ms: u64) -> String {
    if ms < 1_000 { format!("{ms} ms") } else { format!("{} s", ms / 1_000) }
}
