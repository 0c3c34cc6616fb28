//! Where this program stops: before the first block of a version that it does not speak (protocol.md V1).
//!
//! Upgrades are in the state, so executing a block says which version its child has. A child that has another one than this
//! program speaks is neither proposed nor voted for nor executed, whatever a quorum says: no other rule looks at it, so it
//! cannot be taken for a diverged state (C21). Once its parent is final here, this validator votes no more, and its Status says
//! so (C11). Nothing of it is stored: the same program stops at the same block after a restart, and one that speaks the version
//! goes on there.

use super::state::{Core, Facts};
use crate::staking::motion::Upgrade;

impl Core {
    /// **V1** What a child of this block needs and this program does not speak. `None` also where the block is not executed: its
    /// children are not judged before that (H2).
    pub(super) fn v1_foreign(&self, parent: &Facts) -> Option<Upgrade> {
        let version = parent.roots?.next_version;
        (version > self.config.version).then_some(Upgrade { version, height: parent.height.saturating_add(1) })
    }

    /// **V1** The last final block is the last one that this program can take: no vote at any later position (G5).
    pub fn v1_stopped(&self) -> Option<Upgrade> {
        self.v1_foreign(&self.tip)
    }

    /// **V1** What stands in the way of the frontier's block: this program neither proposes nor waits for one. A boundary block
    /// that is not final is proposed again in the frontier (E4), which needs no other version.
    pub(super) fn v1_awaited(&self) -> Option<Upgrade> {
        let base = self.frontier.base.1;
        if self.is_boundary(&base) {
            return None;
        }
        self.facts(&base).and_then(|facts| self.v1_foreign(&facts))
    }
}
