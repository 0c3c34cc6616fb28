//! The files of `../corpus`: they seed the formats and keep what once did harm.
//!
//! `UPDATE_CORPUS=1 cargo test -p aitbc-core --test decoders corpus` writes a file for each format; look at the difference,
//! for a changed one means that stored blocks and running peers would not be understood.

use crate::borsh::read_as_everything;
use crate::{json, mutate, samples, seed};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::path::{Path, PathBuf};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");

/// Files of a folder by name; `.hex` holds bytes, `.json` text.
fn files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(Path::new(FOLDER).join(folder)).expect("corpus");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("entry").path()).collect();
    paths.sort();
    paths
}

fn bytes_of(path: &Path) -> Vec<u8> {
    hex::decode(std::fs::read_to_string(path).expect("readable").trim()).expect("hex")
}

#[test]
fn each_format_still_has_the_bytes_of_its_file() {
    let samples = samples::all(&mut StdRng::seed_from_u64(4));
    for (name, bytes) in &samples {
        let path = Path::new(FOLDER).join("valid").join(format!("{name}.hex"));
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            std::fs::write(&path, hex::encode(bytes) + "\n").expect("written");
        }
        assert_eq!(hex::encode(bytes_of(&path)), hex::encode(bytes), "{name}");
        assert!(read_as_everything(bytes) > 0, "{name}");
    }
    assert_eq!(files("valid").len(), samples.len(), "a file that is no format's");
}

#[test]
fn each_file_of_refused_input_is_refused() {
    for path in files("refused") {
        let refused = match path.extension().and_then(|extension| extension.to_str()) {
            Some("hex") => read_as_everything(&bytes_of(&path)) == 0,
            _ => {
                let text = std::fs::read_to_string(&path).expect("readable");
                !json::read_transaction(&text) && !json::read_genesis(&text)
            }
        };
        assert!(refused, "{}", path.display());
    }
}

#[test]
fn no_mutation_of_a_corpus_file_panics() {
    let corpus: Vec<Vec<u8>> = files("valid").iter().map(|path| bytes_of(path)).collect();
    seed::cases("corpus", |rng| {
        for bytes in &corpus {
            for _ in 0..20 {
                let other = &corpus[rng.random_range(0..corpus.len())];
                read_as_everything(&mutate::mutate(rng, bytes, other));
            }
        }
    });
}
