//! Pure: how much voting power a chain can spare. A quorum is more than two thirds of it.

/// Most voting power of `total` that may be down while the rest goes on finalising: floor((W - 1) / 3).
pub fn spare(total: i64) -> i64 {
    (total - 1).max(0) / 3
}

/// Least voting power of `total` that can finalise a block: floor(2W / 3) + 1.
pub fn quorum(total: i64) -> i64 {
    total.max(0) * 2 / 3 + 1
}

/// True where `live` of `total` can finalise a block.
pub fn is_quorum(live: i64, total: i64) -> bool {
    live >= quorum(total)
}

/// How many may go down, whoever they are, without taking along more than `power`: the heaviest count.
pub fn heaviest_within(weights: impl Iterator<Item = i64>, power: i64) -> i32 {
    let mut weights: Vec<i64> = weights.collect();
    weights.sort_unstable_by(|a, b| b.cmp(a));
    let sums = weights.iter().scan(0i64, |sum, weight| {
        *sum = sum.saturating_add(*weight);
        Some(*sum)
    });
    i32::try_from(sums.take_while(|sum| *sum <= power).count()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tolerated_power_may_be_down_and_one_more_may_not() {
        for total in 1..=1_000 {
            let spare = spare(total);
            assert!(is_quorum(total - spare, total), "{total}");
            assert!(!is_quorum(total - spare - 1, total), "{total}");
            assert_eq!(quorum(total), total - spare, "{total}");
        }
        assert_eq!([1, 3, 4, 6, 7, 100].map(spare), [0, 0, 1, 1, 2, 33]);
    }

    #[test]
    fn of_unequal_validators_the_heaviest_count() {
        let tolerated = |weights: &[i64]| heaviest_within(weights.iter().copied(), spare(weights.iter().sum()));
        assert_eq!(tolerated(&[1; 4]), 1);
        assert_eq!(tolerated(&[1; 7]), 2);
        assert_eq!(tolerated(&[5, 1, 1, 1]), 0, "the first one alone is too much");
        assert_eq!(tolerated(&[3, 3, 2, 2, 2]), 1);
        assert_eq!(tolerated(&[]), 0);
    }
}
