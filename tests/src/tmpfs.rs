//! A small file system of its own, to be filled: what a full disk is to a node.

use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes written at a time while filling: the least that a tmpfs gives.
const PAGE: [u8; 4 << 10] = [0; 4 << 10];

/// Mounted until it is dropped.
pub struct Tmpfs {
    dir: tempfile::TempDir,
}

impl Tmpfs {
    /// Whether this user may mount: only root may.
    pub fn is_possible() -> bool {
        rustix::process::geteuid().is_root()
    }

    /// Mounts one of so many MiB.
    ///
    /// # Errors
    /// Where `mount` fails.
    pub fn mount(mib: u32) -> Result<Tmpfs> {
        let dir = tempfile::Builder::new().prefix("aitbc-small-").tempdir()?;
        let options = format!("size={mib}m,mode=0755");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir.path());
        let output = mount.output().context("run mount")?;
        ensure!(output.status.success(), "mount: {}", String::from_utf8_lossy(&output.stderr));
        Ok(Tmpfs { dir })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes until nothing more fits.
    ///
    /// # Errors
    /// Where a write fails for another reason.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::options().create(true).append(true).open(self.filler())?;
        loop {
            match file.write_all(&PAGE) {
                Ok(()) => {}
                Err(cause) if cause.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(cause) => return Err(cause).context("fill a file system"),
            }
        }
    }

    /// Gives the space back.
    ///
    /// # Errors
    /// Where it was not filled.
    pub fn free(&self) -> Result<()> {
        std::fs::remove_file(self.filler()).context("free a file system")
    }

    fn filler(&self) -> PathBuf {
        self.dir.path().join("filler")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a process of a failed test may still have files open.
        let _ = Command::new("umount").arg("--lazy").arg(self.dir.path()).output();
    }
}
