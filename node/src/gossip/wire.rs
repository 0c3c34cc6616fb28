//! Frames: how messages become records and back, with each type's cap checked before anything is allocated or decoded.
//!
//! ```text
//! WebSocket binary message = one Noise message, at most 65,535 bytes
//! record  = chunk*                        its plain text, at most 65,519 bytes
//! chunk   = class u8 | total u32le | the message's first bytes, up to its end or the record's
//!         | class u8 + 0x80 | its next bytes, up to its end or the record's
//!         | 0x40                          ping: nothing to say
//! message = borsh of `Message`; its first byte is the type
//! ```
//! Messages of one class never interleave; a chunk of a higher class may come between two chunks of a lower one,
//! so a vote never waits for 4 MiB of block sync.

use super::limits::RECORD_MAX_BYTES;
use aitbc_core::codec;
use aitbc_core::memory::MAX_VOTES_SHOWN;
use aitbc_core::message::{MAX_MESSAGE_BYTES, Message};
use aitbc_core::params::{BATCH_TARGET_BYTES, MAX_BATCH_BYTES, MAX_HEADER_BYTES, MAX_INLINE_CERTS, MAX_VALIDATORS};
use aitbc_core::state::chunk::CHUNK_BYTES;
use tokio_tungstenite::tungstenite::Bytes;

/// Marks a chunk that goes on with the message begun in an earlier record.
const CONTINUED: u8 = 0x80;
/// A chunk that says only: still here.
pub const PING: u8 = 0x40;
/// Class and total length before a message's first bytes.
const FIRST_HEAD_BYTES: usize = 5;

/// Priority of a message, highest first; each peer has one outbound queue a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Votes, certificates, proposals, candidates, status, requests.
    Consensus = 0,
    /// Sealed batches, sent or asked for; transactions passed on.
    Batches = 1,
    /// Final blocks.
    Sync = 2,
}

impl Class {
    /// All, highest first.
    pub const ALL: [Class; 3] = [Class::Consensus, Class::Batches, Class::Sync];

    /// Label in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Class::Consensus => "consensus",
            Class::Batches => "batches",
            Class::Sync => "sync",
        }
    }
}

/// What is known of a message type by its first byte.
#[derive(Debug)]
pub struct Kind {
    /// As [`Message::name`].
    pub name: &'static str,
    /// Which queue.
    pub class: Class,
    /// Most bytes of the encoded message.
    pub max_bytes: usize,
}

/// Bytes of a certificate of the largest set: statement, bitmap, signatures.
const CERT_BYTES: usize = 49 + 4 + MAX_VALIDATORS.div_ceil(8) + 4 + 64 * MAX_VALIDATORS;
/// Bytes of a vote: statement, signer, signature.
const VOTE_BYTES: usize = 49 + 2 + 64;
/// Room beside the leaves of a chunk: for what is hidden left and right of them, and for the leaf with which it ends.
const CHUNK_EDGE_BYTES: usize = 128 << 10;
/// Room for tags, lengths and a signature around a capped part.
const FRAME_BYTES: usize = 1 << 10;

const fn kind(name: &'static str, class: Class, max_bytes: usize) -> Kind {
    Kind { name, class, max_bytes }
}

/// How many types there are.
pub const TYPES: usize = 23;

/// By the borsh tag of [`Message`].
pub const KINDS: [Kind; TYPES] = [
    kind("status", Class::Consensus, 64),
    kind("proposal", Class::Consensus, MAX_HEADER_BYTES + MAX_INLINE_CERTS * CERT_BYTES + FRAME_BYTES),
    kind("vote", Class::Consensus, 256),
    kind("cert", Class::Consensus, 16 << 10),
    kind("batch", Class::Batches, MAX_BATCH_BYTES + FRAME_BYTES),
    kind("cand_req", Class::Consensus, 4 << 10),
    kind("cand", Class::Consensus, MAX_HEADER_BYTES + FRAME_BYTES),
    kind("batch_req", Class::Consensus, 4 << 10),
    kind("batches", Class::Batches, MAX_MESSAGE_BYTES),
    kind("cert_req", Class::Consensus, 1 << 10),
    kind("certs", Class::Consensus, 512 << 10),
    kind("blocks_req", Class::Sync, 64),
    kind("blocks", Class::Sync, MAX_MESSAGE_BYTES),
    kind("mark_query", Class::Consensus, 64),
    kind("mark_reply", Class::Consensus, MAX_VOTES_SHOWN * VOTE_BYTES + FRAME_BYTES),
    kind("reproposal", Class::Consensus, MAX_INLINE_CERTS * CERT_BYTES + FRAME_BYTES),
    kind("seal_req", Class::Consensus, 64),
    kind("seal", Class::Consensus, MAX_HEADER_BYTES + CERT_BYTES + FRAME_BYTES),
    kind("headers_req", Class::Sync, 64),
    kind("headers", Class::Sync, MAX_MESSAGE_BYTES),
    kind("snapshot_req", Class::Sync, 64),
    kind("snapshot", Class::Sync, CHUNK_BYTES + CHUNK_EDGE_BYTES),
    kind("transactions", Class::Batches, BATCH_TARGET_BYTES + FRAME_BYTES),
];

/// An encoded message, shared by all peers it is sent to.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// Its borsh bytes; never empty.
    pub bytes: Bytes,
    /// Index in [`KINDS`].
    pub tag: u8,
}

impl Encoded {
    /// Its queue.
    pub fn class(&self) -> Class {
        KINDS.get(usize::from(self.tag)).map_or(Class::Sync, |kind| kind.class)
    }
}

/// A message over its type's cap: peers would close the channel, so it is refused here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("message \"{name}\" of {bytes} bytes, at most {max_bytes} allowed")]
pub struct TooLarge {
    /// Type.
    pub name: &'static str,
    /// Its size.
    pub bytes: usize,
    /// The cap.
    pub max_bytes: usize,
}

/// Encodes a message once for all its receivers.
///
/// # Errors
/// Where it is over its type's cap.
pub fn encode(message: &Message) -> Result<Encoded, TooLarge> {
    let bytes = codec::encode(message);
    let tag = bytes.first().copied().unwrap_or(u8::MAX);
    let max_bytes = KINDS.get(usize::from(tag)).map_or(0, |kind| kind.max_bytes);
    if bytes.len() > max_bytes {
        return Err(TooLarge { name: message.name(), bytes: bytes.len(), max_bytes });
    }
    Ok(Encoded { bytes: bytes.into(), tag })
}

/// Appends as much of a message as fits, from its byte `sent` on. Returns how many of its bytes.
pub fn pack(record: &mut Vec<u8>, message: &Encoded, sent: usize) -> usize {
    let head = if sent == 0 { FIRST_HEAD_BYTES } else { 1 };
    let room = RECORD_MAX_BYTES.saturating_sub(record.len());
    if room <= head {
        return 0;
    }
    let rest = message.bytes.get(sent..).unwrap_or_default();
    let now = rest.get(..room - head).unwrap_or(rest);
    let class = message.class() as u8;
    if sent == 0 {
        record.push(class);
        // Caps are far below 4 GiB.
        record.extend_from_slice(&(message.bytes.len() as u32).to_le_bytes());
    } else {
        record.push(class | CONTINUED);
    }
    record.extend_from_slice(now);
    now.len()
}

/// Why a record is refused; the channel is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A chunk breaks the rules of the format.
    #[error("malformed chunk: {0}")]
    Chunk(&'static str),
    /// A message announces more than its type may have.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The bytes are no message.
    #[error("\"{name}\" does not decode: {cause}")]
    Decode {
        /// Type by the first byte.
        name: &'static str,
        /// What borsh says.
        cause: String,
    },
}

/// What a record holds.
#[derive(Debug)]
pub enum Incoming {
    /// Nothing but life.
    Ping,
    /// A message, with its tag and size.
    Message {
        /// Index in [`KINDS`].
        tag: u8,
        /// Encoded size.
        bytes: usize,
        /// The message.
        message: Message,
    },
}

struct Partial {
    total: usize,
    bytes: Vec<u8>,
}

/// Puts chunks together: at most one unfinished message a class.
#[derive(Default)]
pub struct Assembler {
    partial: [Option<Partial>; 3],
}

impl Assembler {
    /// Bytes of unfinished messages.
    #[cfg(test)]
    pub fn held_bytes(&self) -> usize {
        self.partial.iter().flatten().map(|partial| partial.bytes.len()).sum()
    }

    /// The next thing in `record`, which is advanced; `None` at its end.
    ///
    /// # Errors
    /// On malformed chunks, sizes over a cap, and messages that do not decode.
    pub fn next(&mut self, record: &mut &[u8]) -> Result<Option<Incoming>, WireError> {
        while let Some((head, rest)) = record.split_first() {
            *record = rest;
            if *head == PING {
                return Ok(Some(Incoming::Ping));
            }
            let class = head & !CONTINUED;
            let slot = self.partial.get_mut(usize::from(class)).ok_or(WireError::Chunk("unknown class"))?;
            let whole = if head & CONTINUED == 0 { begin(slot, class, record)? } else { proceed(slot, record)? };
            if let Some(incoming) = whole {
                return Ok(Some(incoming));
            }
        }
        Ok(None)
    }
}

/// First chunk of a message; decoded in place where it is the only one.
fn begin(slot: &mut Option<Partial>, class: u8, record: &mut &[u8]) -> Result<Option<Incoming>, WireError> {
    if slot.is_some() {
        return Err(WireError::Chunk("a message begins before the last one of its class ended"));
    }
    let (total, rest) = record.split_first_chunk().ok_or(WireError::Chunk("cut off in its head"))?;
    let total = u32::from_le_bytes(*total) as usize;
    let tag = *rest.first().ok_or(WireError::Chunk("no first byte"))?;
    let kind = KINDS.get(usize::from(tag)).ok_or(WireError::Chunk("unknown message type"))?;
    if kind.class as u8 != class {
        return Err(WireError::Chunk("message type of another class"));
    }
    if total == 0 || total > kind.max_bytes {
        return Err(TooLarge { name: kind.name, bytes: total, max_bytes: kind.max_bytes }.into());
    }
    if let Some((message, rest)) = rest.split_at_checked(total) {
        *record = rest;
        return decode(message).map(Some);
    }
    // Grows with what really comes, not with what is announced.
    *slot = Some(Partial { total, bytes: rest.to_vec() });
    *record = &[];
    Ok(None)
}

/// Next chunk of a message.
fn proceed(slot: &mut Option<Partial>, record: &mut &[u8]) -> Result<Option<Incoming>, WireError> {
    let Some(partial) = slot else { return Err(WireError::Chunk("goes on with a message that never began")) };
    let missing = partial.total.saturating_sub(partial.bytes.len());
    let (now, rest) = record.split_at_checked(missing).unwrap_or((record, &[]));
    if now.is_empty() {
        return Err(WireError::Chunk("empty continuation"));
    }
    partial.bytes.extend_from_slice(now);
    *record = rest;
    if partial.bytes.len() < partial.total {
        return Ok(None);
    }
    match slot.take() {
        Some(done) => decode(&done.bytes).map(Some),
        None => Ok(None),
    }
}

fn decode(bytes: &[u8]) -> Result<Incoming, WireError> {
    let tag = bytes.first().copied().unwrap_or(u8::MAX);
    let name = KINDS.get(usize::from(tag)).map_or("unknown", |kind| kind.name);
    let message = codec::decode(bytes).map_err(|error| WireError::Decode { name, cause: error.to_string() })?;
    Ok(Incoming::Message { tag, bytes: bytes.len(), message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use aitbc_core::hash::Hash;
    use aitbc_core::hello::{Heard, Hello, Role};
    use aitbc_core::key::PublicKey;
    use aitbc_core::key::Signature;
    use aitbc_core::memory::{Mark, MarkReply, Seen};
    use aitbc_core::message::{Blocks, Status};
    use aitbc_core::vote::{Cert, Kind as VoteKind, Statement, Vote};

    fn status(slot: u64) -> Message {
        Message::Status(Status { epoch: 0, final_slot: slot, frontier: slot + 1, height: slot, ready: true })
    }

    fn statement() -> Statement {
        Statement { epoch: 1, slot: 2, kind: VoteKind::Notar, digest: Hash([1; 32]) }
    }

    fn largest_cert() -> Cert {
        Cert {
            statement: statement(),
            signers: vec![0xff; MAX_VALIDATORS.div_ceil(8)],
            signatures: vec![Signature([0; 64]); MAX_VALIDATORS],
        }
    }

    fn largest_mark_reply() -> MarkReply {
        let hello = Hello {
            chain: Hash::ZERO,
            protocol: crate::gossip::limits::PROTOCOL,
            key: PublicKey([0; 32]),
            generation: 1,
            binding: Hash::ZERO,
            signature: Signature([0; 64]),
        };
        let vote = Vote { statement: statement(), signer: 0, signature: Signature([0; 64]) };
        MarkReply {
            mark: Mark { nonce: Hash::ZERO, epoch: 0, clean_from: 0, quarantined: false, slot: 0 },
            signature: Signature([0; 64]),
            seen: Seen { vote: Some(vote.clone()), hello: Some(Heard { role: Role::Dialer, hello }) },
            votes: vec![vote; MAX_VOTES_SHOWN],
        }
    }

    fn one_of_each() -> Vec<Message> {
        let vote = Vote { statement: statement(), signer: 0, signature: Signature([0; 64]) };
        vec![
            status(1),
            Message::Vote(vote),
            Message::Cert(largest_cert()),
            Message::CandReq { digests: vec![Hash::ZERO; 64] },
            Message::BatchReq { digests: vec![Hash::ZERO; 64] },
            Message::Batches { batches: vec![] },
            Message::CertReq { slots: vec![1; 64] },
            Message::Certs { certs: vec![largest_cert(); 64] },
            Message::BlocksReq { from: 1, count: 2 },
            Message::Blocks(Blocks { cert: Some(largest_cert()), ..Blocks::default() }),
            Message::MarkQuery { nonce: Hash::ZERO, votes_above: Some((1, 2)) },
            Message::MarkReply(Box::new(largest_mark_reply())),
            Message::Transactions { transactions: vec![] },
        ]
    }

    fn all(assembler: &mut Assembler, mut record: &[u8]) -> Result<Vec<Message>, WireError> {
        let mut out = Vec::new();
        while let Some(incoming) = assembler.next(&mut record)? {
            if let Incoming::Message { message, .. } = incoming {
                out.push(message);
            }
        }
        Ok(out)
    }

    #[test]
    fn the_table_of_types_fits_the_messages_and_the_largest_of_each_is_within_its_cap() {
        for message in one_of_each() {
            let encoded = encode(&message).expect("within its cap");
            assert_eq!(KINDS[usize::from(encoded.tag)].name, message.name());
        }
        const { assert!(CERT_BYTES <= 16 << 10) };
        assert_eq!(codec::encode(&largest_cert()).len(), CERT_BYTES);
    }

    #[test]
    fn small_messages_share_a_record_and_come_out_in_order() {
        let mut record = Vec::new();
        for slot in 0..100 {
            let encoded = encode(&status(slot)).expect("small");
            assert_eq!(pack(&mut record, &encoded, 0), encoded.bytes.len());
        }
        let got = all(&mut Assembler::default(), &record).expect("well-formed");
        assert_eq!(got, (0..100).map(status).collect::<Vec<_>>());
    }

    #[test]
    fn a_vote_between_the_chunks_of_a_large_message_comes_out_first() {
        let large = encode(&Message::Blocks(Blocks { cert: Some(largest_cert()), ..Blocks::default() })).expect("fits");
        let (mut first, mut second) = (vec![0; RECORD_MAX_BYTES - 100], Vec::new());
        let sent = pack(&mut first, &large, 0);
        first.drain(..RECORD_MAX_BYTES - 100);
        pack(&mut second, &encode(&status(7)).expect("small"), 0);
        assert_eq!(sent + pack(&mut second, &large, sent), large.bytes.len());
        let mut assembler = Assembler::default();
        assert_eq!(all(&mut assembler, &first), Ok(vec![]));
        let got = all(&mut assembler, &second).expect("well-formed");
        assert_eq!(got.iter().map(Message::name).collect::<Vec<_>>(), ["status", "blocks"]);
    }

    #[test]
    fn a_length_over_the_types_cap_is_refused_before_any_byte_is_kept() {
        let mut record = vec![Class::Sync as u8];
        record.extend_from_slice(&(1u32 << 30).to_le_bytes());
        record.push(12);
        let mut assembler = Assembler::default();
        assert!(matches!(all(&mut assembler, &record), Err(WireError::TooLarge(_))));
        assert!(assembler.partial.iter().all(Option::is_none));
    }

    #[test]
    fn malformed_chunks_are_refused() {
        let vote_as_sync = [2, 116, 0, 0, 0, 2, 0, 0];
        let unknown_type = [0, 10, 0, 0, 0, 99];
        let cases: [&[u8]; 7] =
            [&[3], &[0x80], &[0], &[0, 1, 0, 0, 0], &vote_as_sync, &unknown_type, &[0, 1, 0, 0, 0, 2]];
        for case in cases {
            assert!(all(&mut Assembler::default(), case).is_err(), "{case:?}");
        }
    }

    #[test]
    fn a_second_beginning_inside_an_unfinished_message_is_refused() {
        let mut assembler = Assembler::default();
        let begun = [0, 200, 0, 0, 0, 2, 1];
        assert_eq!(all(&mut assembler, &begun), Ok(vec![]));
        assert!(all(&mut assembler, &begun).is_err());
    }

    #[test]
    fn a_message_over_its_cap_is_refused_at_the_sender() {
        let batches = vec![largest_cert(); 1_000];
        let error = encode(&Message::Certs { certs: batches }).expect_err("6 MB");
        assert_eq!(error.name, "certs");
    }
}
