//! Who validates an epoch: a pure function of the state after the last block of the epoch but one before (protocol.md E1).

use crate::ledger::Rules;
use crate::state::State;
use crate::validators::ValidatorSet;
use std::sync::Arc;

impl State {
    /// **E1** set(`epoch`), as this state, that after the last block of `epoch` − 2, decides it; `current` is
    /// set(`epoch` − 1). No transaction changes who validates yet, so it stays as it is.
    pub fn next_set(&self, _rules: &Rules, _epoch: u64, current: &Arc<ValidatorSet>) -> Arc<ValidatorSet> {
        current.clone()
    }
}
