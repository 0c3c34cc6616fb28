//! How often a scenario is repeated: a few times in `make test`, as often as one likes in `make chaos`.

/// Environment variable: rounds of the scenarios with most of them; others have their share.
pub const VARIABLE: &str = "AITBC_ROUNDS";

/// `few`, or `share` of every hundred rounds asked for, at least one.
pub fn rounds(few: usize, share: usize) -> usize {
    of(std::env::var(VARIABLE).ok().as_deref(), few, share)
}

/// Whether more than a few were asked for, and so time matters little.
pub fn are_many() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

fn of(asked: Option<&str>, few: usize, share: usize) -> usize {
    asked.and_then(|text| text.parse::<usize>().ok()).map_or(few, |all| (all * share / 100).max(1))
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn shares_are_of_what_was_asked_for() {
        assert_eq!((of(None, 6, 100), of(Some("100"), 6, 100)), (6, 100));
        assert_eq!((of(Some("100"), 3, 20), of(Some("1"), 3, 20)), (20, 1));
    }
}
