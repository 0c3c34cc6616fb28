//! Pure: addresses of the databases that the user runs. One for each validator: a database seen twice is two validators in one.

use crate::observe::Observed;
use crate::validate::{Problem, Settings, Store};
use std::collections::{BTreeMap, BTreeSet};

/// Port of Postgres where a URL names none.
const POSTGRES_PORT: u16 = 5432;

/// Addresses by ordinal; empty unless the databases are external.
#[derive(Clone, Default)]
pub struct Databases {
    /// URLs with credentials. Never printed.
    pub urls: BTreeMap<i32, String>,
    /// Ports they listen on, for the NetworkPolicy.
    pub ports: BTreeSet<u16>,
    /// Hosts by ordinal, to see which validators fail together.
    pub hosts: BTreeMap<i32, String>,
}

impl std::fmt::Debug for Databases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Databases({} addresses)", self.urls.len())
    }
}

/// Finds the address of each validator's database.
///
/// # Errors
/// `DatabaseSecretMissing`, `DatabaseInvalid` or `DatabaseConflict`.
pub fn check(settings: &Settings, observed: &Observed) -> Result<Databases, Problem> {
    match settings.store {
        Store::Postgres { .. } | Store::Sqlite { .. } => Ok(Databases::default()),
        Store::External => external(settings.replicas, observed),
    }
}

fn external(replicas: i32, observed: &Observed) -> Result<Databases, Problem> {
    let mut found = Databases::default();
    let mut seen: BTreeMap<(String, u16, String), i32> = BTreeMap::new();
    for ordinal in 0..replicas {
        let Some(Some(url)) = observed.database_urls.get(&ordinal) else {
            let message = format!(
                "the Secret and key that database.external.secrets names for validator {ordinal} is missing; create it"
            );
            return Err(Problem::new("DatabaseSecretMissing", message));
        };
        let place = place(url).ok_or_else(|| {
            let message = format!(
                "the Secret for validator {ordinal} holds no URL of the form postgresql://user:password@host:port/database"
            );
            Problem::new("DatabaseInvalid", message)
        })?;
        found.ports.insert(place.1);
        found.hosts.insert(ordinal, place.0.clone());
        if let Some(other) = seen.insert(place, ordinal) {
            let message = format!("validators {other} and {ordinal} name the same database; give each its own");
            return Err(Problem::new("DatabaseConflict", message));
        }
        found.urls.insert(ordinal, url.trim().to_owned());
    }
    Ok(found)
}

/// Host, port and name of a database: the same place however user, password and options are written.
fn place(url: &str) -> Option<(String, u16, String)> {
    let url = reqwest::Url::parse(url.trim()).ok()?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return None;
    }
    let host = url.host_str().filter(|host| !host.is_empty())?.to_lowercase();
    let name = url.path().trim_start_matches('/').to_owned();
    (!name.is_empty()).then(|| (host, url.port().unwrap_or(POSTGRES_PORT), name))
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn the_same_database_is_recognised_behind_other_credentials() {
        let one = place("postgresql://a:b@DB.example:5432/chain0?sslmode=require");
        assert!(one.is_some());
        assert_eq!(one, place("postgres://c@db.example/chain0\n"));
        assert_ne!(one, place("postgres://c@db.example/chain1"));
    }

    #[test]
    fn what_is_no_database_url_is_none() {
        for url in ["", "mysql://a@b/c", "postgresql://host", "postgresql:///only-a-name", "nonsense"] {
            assert_eq!(place(url), None, "{url}");
        }
    }
}
