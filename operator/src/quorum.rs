//! Pure: how many validators a chain can spare. Equal weights: a quorum is more than two thirds.

/// Validators that may be down while `replicas` validators go on finalising: floor((n - 1) / 3).
pub fn fault_tolerance(replicas: i32) -> i32 {
    (replicas - 1).max(0) / 3
}

/// Fewest of `total` validators that can finalise a block: floor(2n / 3) + 1.
pub fn quorum(total: i32) -> i32 {
    total.max(0) * 2 / 3 + 1
}

/// True where `live` of `total` validators can finalise a block.
pub fn is_quorum(live: i32, total: i32) -> bool {
    i64::from(live) * 3 > i64::from(total) * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tolerated_number_may_be_down_and_one_more_may_not() {
        for n in 1..=100 {
            let f = fault_tolerance(n);
            assert!(is_quorum(n - f, n), "{n}");
            assert!(!is_quorum(n - f - 1, n), "{n}");
            assert_eq!(quorum(n), n - f, "{n}");
        }
        assert_eq!([1, 3, 4, 6, 7, 100].map(fault_tolerance), [0, 0, 1, 1, 2, 33]);
    }
}
