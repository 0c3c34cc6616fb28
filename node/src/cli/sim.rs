//! `aitbc-node sim`: replays a simulated run of the consensus core by its seed, and tells its story.

use aitbc_sim::run::{Scenario, Wanted, run as simulate};
use anyhow::{Context, Result, bail};
use std::io::Write;

/// Which run.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Decides everything that happens.
    #[arg(long)]
    seed: u64,
    /// Validators; the seed decides without. 5 have the weights 3, 2, 2, 1, 2, others are equal.
    #[arg(long, value_parser = clap::value_parser!(u8).range(4..=7))]
    nodes: Option<u8>,
    /// Go on until so many blocks are final; at least until recovery after the chaos is shown.
    #[arg(long, default_value_t = 0)]
    slots: u64,
    /// What goes wrong besides network and crashes, e.g. chaos, twin, equivocator-often; the seed decides without.
    #[arg(long)]
    scenario: Option<String>,
    /// How many milliseconds the chaos lasts; the seed decides without, up to 3,000.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    chaos_ms: Option<u64>,
    /// Epochs of a few blocks, with validators that come and go.
    #[arg(long)]
    epochs: bool,
    /// Epochs of a few blocks, in which stakes, votes, offences and absence decide who validates.
    #[arg(long, conflicts_with = "epochs")]
    stakes: bool,
}

/// Prints the story and the verdict.
///
/// # Errors
/// Where a checker was violated.
pub(super) fn run(args: Args) -> Result<()> {
    let scenario = args.scenario.map(|name| {
        let known = || Scenario::all().into_iter().map(Scenario::name).collect::<Vec<_>>().join(", ");
        Scenario::from_name(&name).with_context(|| format!("no scenario \"{name}\"; there are {}", known()))
    });
    let nodes = args.nodes.map(usize::from);
    let Args { seed, slots, chaos_ms, epochs, stakes, .. } = args;
    let wanted = Wanted { seed, nodes, slots, scenario: scenario.transpose()?, chaos_ms, tell: true, epochs, stakes };
    let verdict = simulate(&wanted);
    let mut text: String = verdict.story.iter().map(|line| format!("{line}\n")).collect();
    text += &format!(
        "seed {}, {}, {} validators: {} blocks, {} votes, {} crashes in {} virtual ms\n",
        seed, verdict.scenario, verdict.nodes, verdict.height, verdict.votes, verdict.crashes, verdict.virtual_ms
    );
    // A reader that has enough, such as `head`, is no failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    match verdict.violation {
        Some(violation) => bail!("violated: {violation}"),
        None => Ok(()),
    }
}
