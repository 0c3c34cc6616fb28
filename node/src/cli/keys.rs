//! `keys`: PKCS#8 PEM files, readable by their owner only, never overwritten; a secret is never printed.

use super::{Format, output};
use aitbc_core::key::{Address, PublicKey, SecretKey};
use anyhow::{Context, Result, bail};
use clap::Subcommand;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Bytes of a key file that are read: many times what one holds.
const MAX_FILE_BYTES: u64 = 16 << 10;

/// Commands around keys.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a new key.
    Generate {
        /// File to write; must not be there.
        #[arg(long)]
        out: PathBuf,
    },
    /// Show address and public key of a key file.
    Show {
        /// The key file.
        file: PathBuf,
    },
    /// Write a key that is there in another form: PKCS#8 PEM, or 64 hex digits of seed.
    Import {
        /// File to read; "-": standard input.
        #[arg(long)]
        from: PathBuf,
        /// File to write; must not be there.
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Serialize)]
struct Shown<'a> {
    address: Address,
    public_key: PublicKey,
    file: &'a Path,
}

pub(super) fn run(command: Command, format: Format) -> Result<()> {
    let (key, file) = match &command {
        Command::Generate { out } => (generate()?, out),
        Command::Show { file } => (read(file)?, file),
        Command::Import { from, out } => (import(from)?, out),
    };
    if let Command::Generate { out } | Command::Import { out, .. } = &command {
        write_new(out, &key)?;
    }
    let public_key = key.public();
    output::print(format, &Shown { address: public_key.address(), public_key, file })
}

/// A key of the system's randomness.
fn generate() -> Result<SecretKey> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|cause| anyhow::anyhow!("the system gives no randomness: {cause}"))?;
    Ok(SecretKey::from_seed(seed))
}

/// The key in a file; warns where others may read it.
pub(super) fn read(path: &Path) -> Result<SecretKey> {
    let file = File::open(path).with_context(|| format!("read key file {}", path.display()))?;
    let mode = file.metadata().map_or(0o600, |meta| meta.permissions().mode());
    if mode & 0o077 != 0 {
        eprintln!("aitbc-node: warning: {} may be read by others: chmod 600 it", path.display());
    }
    let text = text(file).with_context(|| format!("read key file {}", path.display()))?;
    SecretKey::from_pkcs8_pem(&text).with_context(|| format!("key file {}", path.display()))
}

fn text(file: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    file.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

fn import(from: &Path) -> Result<SecretKey> {
    let text = if from == Path::new("-") {
        text(std::io::stdin().lock()).context("read the key from standard input")?
    } else {
        let file = File::open(from).with_context(|| format!("read {}", from.display()))?;
        text(file).with_context(|| format!("read {}", from.display()))?
    };
    if let Ok(key) = SecretKey::from_pkcs8_pem(&text) {
        return Ok(key);
    }
    let mut seed = [0; 32];
    let digits = text.trim();
    if hex::decode_to_slice(digits.strip_prefix("0x").unwrap_or(digits), &mut seed).is_err() {
        bail!("{} holds no key: a PKCS#8 PEM, or the 64 hex digits of a seed, expected", from.display());
    }
    Ok(SecretKey::from_seed(seed))
}

/// Writes a key file that only its owner may read; one that is there stays as it is.
fn write_new(path: &Path, key: &SecretKey) -> Result<()> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|cause| match cause.kind() {
            std::io::ErrorKind::AlreadyExists => {
                anyhow::anyhow!("{} is there already and stays as it is: name another file", path.display())
            }
            _ => anyhow::Error::new(cause).context(format!("write key file {}", path.display())),
        })?;
    file.write_all(key.to_pkcs8_pem().as_bytes()).with_context(|| format!("write key file {}", path.display()))?;
    // A key that is told of must survive a power failure.
    file.sync_all().with_context(|| format!("write key file {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_for_its_owner_only_and_is_never_overwritten() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("k.pem");
        let key = generate().expect("randomness");
        write_new(&path, &key).expect("written");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&path).expect("own file").public(), key.public());
        let again = write_new(&path, &generate().expect("randomness")).expect_err("there already");
        assert!(again.to_string().contains("already"), "{again}");
        assert_eq!(read(&path).expect("untouched").public(), key.public());
    }

    #[test]
    fn keys_are_imported_from_pem_and_from_a_seed() {
        let dir = tempfile::tempdir().expect("folder");
        let key = SecretKey::from_seed([7; 32]);
        for text in [key.to_pkcs8_pem(), format!("0x{}\n", hex::encode([7; 32]))] {
            let path = dir.path().join("in");
            std::fs::write(&path, text).expect("written");
            assert_eq!(import(&path).expect("readable").public(), key.public());
        }
        std::fs::write(dir.path().join("in"), "secret words").expect("written");
        let error = format!("{:#}", import(&dir.path().join("in")).expect_err("no key"));
        assert!(error.contains("64 hex digits") && !error.contains("secret words"), "{error}");
    }
}
