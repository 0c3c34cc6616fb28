//! The one-command chain of four validators, as a process with ports and a folder of its own.

use crate::node_process::NodeProcess;
use crate::ports::PortBlock;
use crate::rpc::Rpc;
use aitbc_core::env::RPC_PORT;
use anyhow::Result;
use std::path::PathBuf;

/// Ports of a devnet of four: the documented ones, plus 100 for each validator after the first.
const PORTS: u16 = 320;

/// A devnet, started or not.
pub struct Devnet {
    /// The command.
    pub process: NodeProcess,
    /// Validators, by number.
    pub nodes: Vec<Rpc>,
    /// Its folder: genesis, keys, databases.
    pub data: PathBuf,
    /// Holds that folder and the log; goes with this.
    pub dir: tempfile::TempDir,
    _ports: PortBlock,
}

impl Devnet {
    /// Ready to be started.
    ///
    /// # Errors
    /// Where there is no folder or no ports.
    pub fn prepare() -> Result<Devnet> {
        Devnet::prepare_with(&[])
    }

    /// As [`Devnet::prepare`], with more arguments of the command.
    ///
    /// # Errors
    /// As [`Devnet::prepare`].
    pub fn prepare_with(more: &[&str]) -> Result<Devnet> {
        let dir = tempfile::tempdir()?;
        let ports = PortBlock::take(PORTS)?;
        let (data, offset) = (dir.path().join("data"), (ports.base() - RPC_PORT).to_string());
        let folder = data.display().to_string();
        let arguments = ["devnet", "--validators", "4", "--dir", &folder, "--port-offset", &offset];
        let process = NodeProcess::new("devnet", &[&arguments, more].concat(), dir.path().join("devnet.log"));
        let nodes = (0..4).map(|i| Rpc::new(format!("http://127.0.0.1:{}", ports.base() + 100 * i)));
        Ok(Devnet { process, nodes: nodes.collect::<Result<_>>()?, data, dir, _ports: ports })
    }
}
