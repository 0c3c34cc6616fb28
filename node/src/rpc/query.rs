//! Path and query parameters: read strictly, so that a misspelt one is not lost in silence.

use super::error::ApiError;
use crate::view::Identity;
use aitbc_core::hash::Hash;
use aitbc_core::key::Address;
use aitbc_core::receipt::Name;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::Uri;
use axum::http::request::Parts;
use std::convert::Infallible;
use std::ops::RangeInclusive;

/// Greatest `offset` into a list: what lies before it is walked over.
const MAX_OFFSET: u64 = 100_000;
/// Characters of a wrong value that an answer repeats.
const SHOWN: usize = 100;

/// A wrong value, cut short.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

/// A part of a list.
#[derive(Clone, Copy)]
pub(super) struct Page {
    /// Most entries.
    pub(super) limit: u32,
    /// How many to leave out before.
    pub(super) offset: u32,
}

/// Query parameters of a request, all of them known.
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads the query of `uri`, in which only `known` names may stand, each once.
    pub(super) fn read(uri: &Uri, known: &[&str]) -> Result<Self, ApiError> {
        let allowed = || if known.is_empty() { "none here".to_owned() } else { known.join(", ") };
        let wrong = |name: &str, found: &str, allowed: String| ApiError::InvalidQuery {
            name: shown(name),
            found: shown(found),
            allowed,
        };
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|_| wrong("query", uri.query().unwrap_or_default(), "name=value, separated by &".into()))?;
        for (i, (name, value)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                return Err(wrong(name, value, format!("only these parameters: {}", allowed())));
            }
            if pairs[..i].iter().any(|(other, _)| other == name) {
                return Err(wrong(name, value, "given once".into()));
            }
        }
        Ok(Parameters(pairs))
    }

    /// Whether it is given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// `chain_id`, which the prototype's clients send with everything: this chain's name, or nothing.
    pub(super) fn of_chain(&self, identity: &Identity) -> Result<(), ApiError> {
        let ours = &identity.genesis.chain_id;
        if self.get("chain_id").is_none_or(|given| given == ours) {
            return Ok(());
        }
        Err(self.wrong("chain_id", format!("{ours}, the chain of this node")))
    }

    /// `limit` and `offset` of a list.
    pub(super) fn page(&self, usual: u32, most: u32) -> Result<Page, ApiError> {
        let number = |found: u64| u32::try_from(found).unwrap_or(u32::MAX);
        let limit = self.number("limit", 1..=most.into())?.map_or(usual, number);
        let offset = self.number("offset", 0..=MAX_OFFSET)?.map_or(0, number);
        Ok(Page { limit, offset })
    }

    /// A name of a receipt or job.
    pub(super) fn name(&self, name: &str) -> Result<Option<Name>, ApiError> {
        self.has(name).then(|| self.required_name(name)).transpose()
    }

    /// A name of a receipt or job that must be there.
    pub(super) fn required_name(&self, name: &str) -> Result<Name, ApiError> {
        let allowed = "1 to 64 characters of printable ASCII without \" and \\";
        self.parsed(name, allowed, |text| Name::new(text).filter(|found| !found.as_str().is_empty()))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn wrong(&self, name: &str, allowed: String) -> ApiError {
        ApiError::InvalidQuery { name: name.to_owned(), found: shown(self.get(name).unwrap_or_default()), allowed }
    }

    /// `true` or `false`; false where it is not given.
    pub(super) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(self.wrong(name, "true, false".into())),
        }
    }

    /// A whole number.
    pub(super) fn number(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let allowed = || format!("a whole number from {} to {}", range.start(), range.end());
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| self.wrong(name, allowed()))
    }

    /// A value that must be there and that `read` takes.
    pub(super) fn parsed<T>(
        &self,
        name: &str,
        allowed: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, ApiError> {
        self.get(name).and_then(read).ok_or_else(|| self.wrong(name, allowed.to_owned()))
    }

    /// One of some words.
    pub(super) fn word<'a>(&self, name: &str, words: &[&'a str]) -> Result<Option<&'a str>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let word = words.iter().find(|word| **word == text);
        word.map(|word| Some(*word)).ok_or_else(|| self.wrong(name, words.join(", ")))
    }
}

/// The variable segment of a path. One that is no UTF-8 is replaced by what no parser below takes, so that it is refused as
/// any other wrong value, and not by axum with a text of its own.
pub(super) struct Segment(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        Ok(Segment(path.map_or_else(|_| char::REPLACEMENT_CHARACTER.to_string(), |Path(segment)| segment)))
    }
}

/// An address in a path.
pub(super) fn address(text: &str) -> Result<Address, ApiError> {
    text.parse().map_err(|_| ApiError::UnknownAddressForm(shown(text)))
}

/// A transaction id in a path.
pub(super) fn transaction_id(text: &str) -> Result<Hash, ApiError> {
    text.parse().map_err(|_| ApiError::MalformedHash(shown(text)))
}

/// A height in a path; `None` for `latest`.
pub(super) fn height(text: &str) -> Result<Option<u64>, ApiError> {
    if text == "latest" {
        return Ok(None);
    }
    // "+1" parses as a number, but is none here.
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits).map(Some).ok_or_else(|| ApiError::MalformedHeight(shown(text)))
}
