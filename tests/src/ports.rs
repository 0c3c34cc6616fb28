//! Blocks of ports that no other test and no outgoing connection takes.

use anyhow::{Result, bail};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the kernel's ephemeral ports (32768 …), so that a client's connection never sits on a server's port.
const FIRST: u16 = 12_000;
const LAST: u16 = 32_000;

/// Ports `base() .. base() + count`, this process's until it is dropped: the port before them is listened on as a flag.
pub struct PortBlock {
    flag: TcpListener,
    base: u16,
}

impl PortBlock {
    /// Takes a block of `count` ports, all free at this moment.
    ///
    /// # Errors
    /// Where no such block is left.
    pub fn take(count: u16) -> Result<PortBlock> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let step = count + 1;
        let blocks = (LAST - FIRST) / step;
        // Processes start at different blocks, so that they seldom meet.
        let start = (std::process::id() as u16).wrapping_mul(7);
        for _ in 0..blocks {
            let block = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % blocks;
            let flag_port = FIRST + block * step;
            let Ok(flag) = TcpListener::bind(("127.0.0.1", flag_port)) else { continue };
            let base = flag_port + 1;
            if (base..base + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
                return Ok(PortBlock { flag, base });
            }
        }
        bail!("no {count} free ports in a row between {FIRST} and {LAST}")
    }

    /// First port of the block.
    pub fn base(&self) -> u16 {
        debug_assert!(self.flag.local_addr().is_ok());
        self.base
    }
}
