//! What comes for the next epoch before it has begun here: kept for a moment, a peer a little (protocol.md E5).
//!
//! Whoever seals an epoch first goes on at once, and its first words reach others that are a message or an execution behind.
//! All of it would be sent again (C17), a standstill period later.

use super::input::Input;
use super::state::Core;
use crate::message::Message;
use crate::validators::Index;
use std::collections::VecDeque;

/// Inputs kept of a peer, the newest.
const INPUTS_MAX: usize = 64;
/// Bytes kept of a peer.
const BYTES_MAX: usize = 256 << 10;

/// Inputs of one peer, with their bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    inputs: VecDeque<(Input, usize)>,
    bytes: usize,
}

impl Queue {
    /// How many had to go for it.
    fn push(&mut self, input: Input, bytes: usize) -> usize {
        self.inputs.push_back((input, bytes));
        self.bytes += bytes;
        let mut gone = 0;
        while self.inputs.len() > INPUTS_MAX || self.bytes > BYTES_MAX {
            let Some((_, bytes)) = self.inputs.pop_front() else { break };
            self.bytes -= bytes;
            gone += 1;
        }
        gone
    }
}

impl Core {
    /// Keeps what a peer said of the next epoch until that begins.
    pub(super) fn keep_ahead(&mut self, from: Index, message: Message) {
        let bytes = borsh::object_length(&message).unwrap_or(usize::MAX);
        let from = self.roster.global(from);
        let input = match message {
            Message::Vote(vote) => Input::Vote { from, vote },
            Message::Cert(cert) => Input::Cert { from, cert },
            Message::Proposal(proposal) => Input::Proposal { from, proposal: *proposal },
            Message::Reproposal(reproposal) => Input::Reproposal { from, reproposal: *reproposal },
            _ => return,
        };
        if bytes > BYTES_MAX {
            return self.dropped("ahead");
        }
        for _ in 0..self.ahead.entry(from).or_default().push(input, bytes) {
            self.dropped("ahead");
        }
    }

    /// It has begun.
    pub(super) fn take_ahead(&mut self) {
        for queue in std::mem::take(&mut self.ahead).into_values() {
            for (input, _) in queue.inputs {
                self.apply(input);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e5_the_newest_of_a_peer_are_kept_within_both_bounds() {
        let mut queue = Queue::default();
        let gone: usize = (0..100).map(|_| queue.push(Input::Tick, 10)).sum();
        assert_eq!((queue.inputs.len(), gone, queue.bytes), (INPUTS_MAX, 36, 10 * INPUTS_MAX));
        assert_eq!(queue.push(Input::Tick, BYTES_MAX), INPUTS_MAX, "all the others go");
        assert_eq!(queue.inputs.len(), 1);
    }
}
