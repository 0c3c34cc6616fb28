//! Weighted Simplex for one validator set: a pure state machine (protocol.md §3, C0).
//!
//! Numbered rules are those of the written protocol: `C` core, `G` guards of voting, `V` validity, `H` holds, `P`
//! persistence, `F` formats, `X` evidence. A rule is a function whose documentation begins with its number, and has tests
//! named after it in `tests/`.
//!
//! ```text
//! Input ──step──> apply ──> C5 frontier ─> examine (H, V, Execute, C8) ─> C19 ─> C7 lead ─> C9 Final ─> C10 Skip ─┐
//!                           ^──────────────────────── until none acts ───────────────────────────────────────────┘
//!                 then C14-C18: fetch, relay, resend, Status; one Timer ──> Output
//! ```
//!
//! # Upon what happens what
//!
//! | Upon | If | Then | Where |
//! |---|---|---|---|
//! | Vote | known, near, first of its kind | stored, tallied; verified at once if not from its signer's channel (C1) | `pool` |
//! | Vote | contradicts a stored one, both valid | `Evidence`, not tallied (X2); waits for a block | `pool`, `accusations` |
//! | batch durable | another has its author and number | `TwoBatches`; the proof comes back as `Evidence` (X2 e) | `accusations` |
//! | verified weight ≥ q | not held | certificate (C3) | `pool` |
//! | certificate | new, valid, slot > s* | held, relayed, the missing noted (C4, C16); Final: s* moves | `certs` |
//! | two certificates | cannot both be | `Halt` (C21) | `certs` |
//! | F cleared | Notar or Skip of it held, or ≤ s* | F is the next slot, no timer (C5, C6) | `frontier` |
//! | Proposal, Cand | leader, signature, ≤ 2 a slot | kept, its vote observed (C13) | `candidates` |
//! | candidate | parent executed, batches durable, V1-V8 | `Execute` | `examine` |
//! | candidate | also G1, G2, G3, G5, no H | `Persist` Notar (C8, P3) | `voting` |
//! | candidate certified | V5 fails | `Halt` (C21) | `examine` |
//! | F active, own turn | Busy, base executed, pause over, G1, G5 | build, `Persist` Notar (C7) | `lead` |
//! | Notar certificate | G5-G8, no Skip certificate | `Persist` Final with it (C9, P4) | `voting` |
//! | Busy in F | first time | timer at t + T(F) (C10) | `skip` |
//! | Busy in F | leader missing, not ready, or skips itself; F − s* ≤ 2n | timer now (C11) | `skip` |
//! | timer of F | G5, G9, G10 | `Persist` Skip (C10) | `skip` |
//! | Durable | the write held a vote | it enters the pool and leaves, alone or as Proposal (C2, P5) | `voting` |
//! | WriteFailed | | no vote until restart, or `Halt` (P6, P7) | `voting` |
//! | Final of s* | chain down to the tip resolved | `Finalized` (C19), prune (C20) | `finalize` |
//! | certificate or vote | names what is not here | `CandReq`, `BatchReq`; for proofs `CertReq` (C14, C15) | `resolve` |
//! | Status, old vote | sender is behind | certificates that lift it (C18) | `status` |
//! | start, channel up | not voting yet | `MarkQuery`; what peers have seen of the own key decides (A2, A3) | `memory` |
//! | MarkQuery | | votes that are kept of the asker (A9), the own mark, and what was seen of it (A4) | `memory` |
//! | MarkReply | quarantined, marks of weight ≥ q | floors persisted, then `Halt`: a restart votes above them (A5, A6) | `memory` |
//! | own vote | above s*, in no own row | `Halt` (A8) | `memory` |
//! | boundary block best base, not final | own turn, min(T0/4, 50 ms) over | `Persist` Notar of it in this slot (E4) | `reproposal` |
//! | Reproposal | leader's signature, G1, G5, Notar(r, d) and Skips held | `Persist` Notar (E4, C8) | `reproposal` |
//! | Final of the boundary block | header here | no vote any more (E5); all let out: `Persist` Seal (P10) | `seal` |
//! | boundary block executed | sealed | `Entered`: floor, slot 1 of the next epoch (E5) | `seal` |
//! | vote, Status of an old epoch | | its Seal (E7, C18) | `seal` |
//! | block executed | its child's version is not spoken here | no child is built, voted for, executed; final: no vote (V1) | `version` |
//! | no Final for P | unfinished or Busy | everything held and own again, bounded (C17) | `standstill` |
//!
//! # Deviations from the written protocol
//!
//! - **No Build output.** The core builds its own headers: it knows every durable batch and what each chain has, so the
//!   shell need not be asked in between, and a slot costs one hop less (C7).
//! - **D15 a pause is measured on two clocks.** `min_slot` after the parent's time, but never longer than `min_slot` after
//!   activation: a parent from a clock 400 ms ahead would else cost its child's leader the slot (C7).
//! - **D16 unfinished business counts after T0/2.** A slot begins at the Notar certificate of its parent, whose Final votes
//!   are then under way. Counted at once, each empty block would cause the next and an idle chain never rest (C12).
//! - **D17 a ready Status that is level with us is a sign of life.** On a quiet chain the slowest validator is in no
//!   certificate for longer than `skip_after` though nothing is wrong with it. An honest validator that cannot vote says
//!   not ready (C11).
//! - **D18 a vote from its signer's own channel is a sign of life unverified**: the channel is authenticated (C11). It shows
//!   what slots its sender sees as cleared, too (C16).
//! - **D19 what was sent unasked gets T0/4 to come** before it is fetched: batches of a fresh proposal are mostly being
//!   verified, candidates of a vote on another channel (C14). Certificates for H5 likewise (C15).
//! - **D20 a batch is announced** to the leader of F, by `Announce`, when the leader has been silent for T0/4, once a slot:
//!   the author broadcast it, so most leaders have it (C12).
//! - **D21 a lagging state writer** also makes the leader wait T0/4: empty blocks at full speed would keep it lagging (C7).
//! - **D22 final candidates are kept for 256 blocks**, so that a node a second behind needs no block sync (C14).
//! - **D23 a certified candidate needs no leader's signature** to be executed, only to be voted for: its digest is named by
//!   a quorum, and block sync drops the signature (C13).
//! - **D24 a peer gets at most 1 MiB of answers a second**, whatever it asks for: else a request of 2 KiB would buy 4 MiB as
//!   often as it is sent (C14, C15).
//! - **D25 a vote later than T0 after its slot was final is no sign of life.** As leader its sender is heard as late, so every
//!   turn of it costs T0; skipped at once, it costs one hop (C11). Votes of who is slower than the others, and in no
//!   certificate for that, still count.
//!
//! - **D26 what serves an old epoch is its Seal and its final candidates** (E7): a Final certificate clears every slot, so no
//!   other certificate of it is needed. The epoch of the core is one at a time; peers and batches outlive it.
//! - **D27 what comes for the next epoch is kept**, 64 inputs and 256 KiB a peer, until that has begun here (E5).
//! - **D28 an epoch begins when its floor is executed**: the state after it decides the set after the next (E1), which every
//!   header of the epoch names (V3).
//! - **D29 a program stops before a version that it does not speak** (V1): while the last block below is only notarized it skips no
//!   slot, for nobody of its kind could end the slots after it; the first block of the new version makes that one final.
//!
//! Not here: what evidence costs its signer (X7).

mod accusations;
mod ahead;
mod batches;
mod candidates;
mod certs;
mod diagnosis;
pub mod doctor;
mod examine;
mod finalize;
mod fingerprint;
mod frontier;
pub mod input;
mod lead;
mod memory;
pub mod output;
mod pool;
pub mod random;
mod reproposal;
mod resolve;
mod roster;
mod rules;
mod seal;
mod seen;
mod skip;
mod standstill;
mod state;
mod status;
mod step;
#[cfg(test)]
mod tests;
mod validity;
pub mod verify;
mod version;
mod voting;

pub use memory::VotingState;
pub use state::{Config, Core};
