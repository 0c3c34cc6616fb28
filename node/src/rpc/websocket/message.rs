//! Messages of the subscription protocol: what clients may say, and the texts they get.

use super::super::error::ErrorBody;
use super::super::query::shown;
use crate::subscriptions::Topic;
use serde::Deserialize;
use serde_json::{Value, json};

const TOPICS: [Topic; 3] = [Topic::NewBlocks, Topic::NewTransactions, Topic::ConsensusEvents];

/// What a client wants.
#[derive(Debug, PartialEq)]
pub(super) enum Request {
    /// Events of these topics; blocks from a height on, where given.
    Subscribe {
        /// Which.
        topics: Vec<Topic>,
        /// First block; `None`: the next one.
        from_height: Option<u64>,
    },
    /// No more of these.
    Unsubscribe(Vec<Topic>),
    /// A sign of life.
    Ping(Value),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    subscribe: Option<Vec<String>>,
    unsubscribe: Option<Vec<String>>,
    from_height: Option<u64>,
    ping: Option<Value>,
}

impl Request {
    /// Reads a client's text.
    pub(super) fn read(text: &str) -> Result<Request, ErrorBody> {
        let raw: Raw = serde_json::from_str(text).map_err(|cause| malformed(&cause.to_string()))?;
        match raw {
            Raw { subscribe: Some(names), unsubscribe: None, ping: None, from_height } => {
                let topics = topics(&names)?;
                if from_height.is_some() && !topics.contains(&Topic::NewBlocks) {
                    return Err(malformed("from_height goes with new_blocks only: other topics are not replayed"));
                }
                Ok(Request::Subscribe { topics, from_height })
            }
            Raw { unsubscribe: Some(names), subscribe: None, ping: None, from_height: None } => {
                topics(&names).map(Request::Unsubscribe)
            }
            Raw { ping: Some(value), subscribe: None, unsubscribe: None, from_height: None } => {
                Ok(Request::Ping(value))
            }
            _ => Err(malformed("one of subscribe (with or without from_height), unsubscribe, ping expected")),
        }
    }
}

fn topics(names: &[String]) -> Result<Vec<Topic>, ErrorBody> {
    let known = TOPICS.map(Topic::name);
    let wrong = |what: &str| {
        let message = format!("{what}; there are {}", known.join(", "));
        ErrorBody { code: "UNKNOWN_TOPIC".into(), message, detail: json!({ "topics": known }) }
    };
    let unknown = |name: &str| wrong(&format!("there is no topic \"{}\"", shown(name)));
    if names.is_empty() {
        return Err(wrong("the list names no topic"));
    }
    names.iter().map(|name| Topic::from_name(name).ok_or_else(|| unknown(name))).collect()
}

fn malformed(cause: &str) -> ErrorBody {
    let message = format!("not a message of this protocol: {cause}");
    ErrorBody { code: "MALFORMED_JSON".into(), message, detail: json!({}) }
}

/// The answer to `subscribe`.
pub(super) fn subscribed(topics: &[Topic], height: u64) -> String {
    json!({ "subscribed": names(topics), "height": height }).to_string()
}

/// The answer to `unsubscribe`.
pub(super) fn unsubscribed(topics: &[Topic]) -> String {
    json!({ "unsubscribed": names(topics) }).to_string()
}

/// The answer to `ping`.
pub(super) fn pong(value: &Value) -> String {
    json!({ "pong": value }).to_string()
}

/// Something was wrong with a request; the connection goes on.
pub(super) fn error(body: &ErrorBody) -> String {
    json!({ "error": body }).to_string()
}

/// The connection ends; the client may come back with `from_height`.
pub(super) fn last_error(code: &str, message: &str, resume_from_height: u64) -> String {
    let error = json!({ "code": code, "message": message, "detail": {}, "resume_from_height": resume_from_height });
    json!({ "error": error }).to_string()
}

fn names(topics: &[Topic]) -> Vec<&'static str> {
    topics.iter().map(|topic| topic.name()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_messages_are_read() {
        let topics = vec![Topic::NewBlocks, Topic::ConsensusEvents];
        let text = r#"{"subscribe":["new_blocks","consensus_events"],"from_height":7}"#;
        assert_eq!(Request::read(text), Ok(Request::Subscribe { topics, from_height: Some(7) }));
        let text = r#"{"unsubscribe":["new_transactions"]}"#;
        assert_eq!(Request::read(text), Ok(Request::Unsubscribe(vec![Topic::NewTransactions])));
        assert_eq!(Request::read(r#"{"ping":"x"}"#), Ok(Request::Ping("x".into())));
    }

    #[test]
    fn other_messages_are_refused_with_a_stable_code() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"subscribe":"new_blocks"}"#,
            r#"{"subscribe":["new_blocks"],"from":1}"#,
            r#"{"subscribe":["new_blocks"],"from_height":-1}"#,
            r#"{"subscribe":["new_transactions"],"from_height":1}"#,
            r#"{"subscribe":["new_blocks"],"unsubscribe":["new_blocks"]}"#,
            r#"{"ping":1,"from_height":1}"#,
        ] {
            assert_eq!(Request::read(text).expect_err(text).code, "MALFORMED_JSON", "{text}");
        }
        for text in [r#"{"subscribe":["blocks"]}"#, r#"{"subscribe":[]}"#, r#"{"unsubscribe":[]}"#] {
            let unknown = Request::read(text).expect_err(text);
            assert_eq!(unknown.code, "UNKNOWN_TOPIC", "{text}");
            assert!(unknown.message.contains("new_blocks"), "{}", unknown.message);
        }
    }
}
