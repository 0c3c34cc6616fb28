//! Whose database it is: chain, key and storage identity are written once and compared at every connection (P8, P12).

use super::{Owner, Result, StorageError};
use aitbc_core::memory::Memory;
use std::collections::BTreeMap;

/// Row of `meta` that holds the memory record (A1), as JSON.
pub const MEMORY: &str = "memory";

/// Stored as the key of a node without one.
const NO_KEY: &str = "none";

/// Row of `meta` with the least height whose batches are in the ledger; absent: all are.
pub const LOWEST: &str = "lowest_batches";

/// The rows of `meta`.
pub type Meta = BTreeMap<String, String>;

/// What `meta` must say: name of the row, value, what a difference means.
pub type Expected = Vec<(&'static str, String, &'static str)>;

/// Chain and key of an owner.
pub fn expected(owner: &Owner) -> Expected {
    let key = owner.key.as_ref().map_or_else(|| NO_KEY.to_owned(), ToString::to_string);
    vec![
        ("chain", owner.chain.to_string(), "it belongs to the chain of another genesis file"),
        ("key", key, "it belongs to another validator key, and votes of one key must stay in one database"),
    ]
}

/// Compares; gives the rows that are missing and so must be written by the first owner.
///
/// # Errors
/// [`StorageError::Foreign`], naming the first difference.
pub fn compare(meta: &Meta, expected: &Expected) -> Result<Vec<(&'static str, String)>> {
    let mut missing = Vec::new();
    for (name, ours, meaning) in expected {
        match meta.get(*name) {
            Some(found) if found == ours => {}
            Some(found) => {
                return Err(StorageError::Foreign(format!("{name} is {found} in it, {ours} here: {meaning}")));
            }
            None => missing.push((*name, ours.clone())),
        }
    }
    Ok(missing)
}

/// `meta` without the rows in which the server differs from before (P12), and whether there are any; those of a database
/// with a memory record must be there.
pub fn without_moved(mut meta: Meta, identity: &Expected) -> (Meta, bool) {
    let mut moved = false;
    for (name, ours, _) in identity {
        let found = meta.get(*name);
        moved |= found.is_some_and(|found| found != ours) || (found.is_none() && meta.contains_key(MEMORY));
        if found.is_some_and(|found| found != ours) {
            meta.remove(*name);
        }
    }
    (meta, moved)
}

/// The memory record as it is stored.
///
/// # Errors
/// Never with the record of today: its keys are numbers.
pub fn memory_text(memory: &Memory) -> Result<String> {
    serde_json::to_string(memory).map_err(|cause| StorageError::Corrupt(format!("memory record: {cause}")))
}

/// The memory record from its row.
///
/// # Errors
/// [`StorageError::Corrupt`] where the text is none: no guess may be made about votes.
pub fn memory(text: &str) -> Result<Memory> {
    serde_json::from_str(text).map_err(|cause| StorageError::Corrupt(format!("memory record \"{text}\": {cause}")))
}

/// What [`LOWEST`] says.
///
/// # Errors
/// [`StorageError::Corrupt`] where it is no height.
pub fn lowest(value: Option<&str>) -> Result<u64> {
    let wrong = |text: &str| StorageError::Corrupt(format!("{LOWEST} is \"{text}\", a height from 1 on expected"));
    value.map_or(Ok(1), |text| text.parse::<u64>().ok().filter(|height| *height > 0).ok_or_else(|| wrong(text)))
}

/// Scripts still to run on a database whose schema is at `version` (0: empty).
///
/// # Errors
/// [`StorageError::Foreign`] where a newer node wrote it.
pub fn pending(version: Option<&str>, scripts: &'static [&'static str]) -> Result<&'static [&'static str]> {
    let version: usize = match version {
        None => 0,
        Some(text) => text.parse().map_err(|_| StorageError::Corrupt(format!("schema version \"{text}\"")))?,
    };
    scripts.get(version..).ok_or_else(|| {
        let foreign =
            format!("its tables have version {version}, this node knows up to {}: start a newer node", scripts.len());
        StorageError::Foreign(foreign)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use aitbc_core::hash::Hash;
    use aitbc_core::memory::Cause;

    fn owner() -> Owner {
        Owner { chain: Hash([1; 32]), key: None }
    }

    #[test]
    fn a_new_database_takes_its_first_owner_and_no_other() {
        let missing = compare(&Meta::new(), &expected(&owner())).expect("nothing differs");
        let meta: Meta = missing.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        assert_eq!(compare(&meta, &expected(&owner())).expect("same owner"), vec![]);
        let other = Owner { chain: Hash([2; 32]), ..owner() };
        let message = compare(&meta, &expected(&other)).expect_err("another chain").to_string();
        assert!(message.contains("chain is 0x0101") && message.contains("another genesis"), "{message}");
    }

    #[test]
    fn a_server_that_is_another_is_told_from_one_that_is_new() {
        let identity = vec![("timeline", "2".to_owned(), "lost")];
        let meta = |timeline: &str| Meta::from([("timeline".to_owned(), timeline.to_owned())]);
        assert_eq!(without_moved(meta("1"), &identity), (Meta::new(), true));
        assert_eq!(without_moved(meta("2"), &identity), (meta("2"), false));
        assert_eq!(without_moved(Meta::new(), &identity), (Meta::new(), false));
        let without_identity = Meta::from([(MEMORY.to_owned(), String::new())]);
        assert_eq!(without_moved(without_identity.clone(), &identity), (without_identity, true));
    }

    #[test]
    fn a_memory_record_is_read_as_it_was_written_and_never_guessed() {
        let written = Memory { floors: [(0, 7)].into(), clean_from: 2, ..Memory::default() }
            .quarantined(Cause::VoteMissing { slot: 9 });
        assert_eq!(memory(&memory_text(&written).expect("writes")).expect("reads"), written);
        assert!(matches!(memory(""), Err(StorageError::Corrupt(_))));
        let older = r#"{"first_start":true,"clean_from":0,"floors":{},"quarantine":null}"#;
        assert_eq!(memory(older).expect("reads"), Memory::first_start());
    }

    #[test]
    fn what_was_deleted_is_a_height_from_one_on() {
        assert_eq!(lowest(None).expect("nothing deleted"), 1);
        assert_eq!(lowest(Some("77")).expect("a height"), 77);
        assert!(["0", "-1", "x", ""].iter().all(|text| lowest(Some(text)).is_err()));
    }

    #[test]
    fn only_missing_scripts_run_and_newer_tables_are_refused() {
        assert_eq!(pending(None, &["a", "b"]).expect("empty"), ["a", "b"]);
        assert_eq!(pending(Some("1"), &["a", "b"]).expect("one"), ["b"]);
        assert!(pending(Some("2"), &["a", "b"]).expect("all").is_empty());
        assert!(matches!(pending(Some("3"), &["a", "b"]), Err(StorageError::Foreign(_))));
    }
}
