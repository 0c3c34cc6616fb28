//! Kubernetes quantities as numbers, to compare volume sizes: `1024Mi` and `1Gi` are the same size.

/// Multipliers by suffix.
const SUFFIXES: [(&str, u128); 11] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("", 1),
];

/// Bytes of a quantity as the custom resource allows it, fractions of a byte rounded up; `None` where it is no such quantity.
pub fn bytes(text: &str) -> Option<u128> {
    let (number, factor) = SUFFIXES.iter().find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let scaled: u128 = format!("{whole}{fraction}").parse().ok()?;
    Some(scaled.checked_mul(factor)?.div_ceil(scale))
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn the_same_size_in_other_words_is_the_same_number() {
        assert_eq!(bytes("1024Mi"), bytes("1Gi"));
        assert_eq!(bytes("1.5Gi"), bytes("1536Mi"));
        assert_eq!(bytes("5G"), Some(5_000_000_000));
        assert_eq!(bytes("7"), Some(7));
    }

    #[test]
    fn what_is_no_quantity_is_none() {
        for text in ["", "Gi", "1Xi", "-1Gi", "1e3", "1..5Gi", "99999999999999999999999999999999999999999Pi"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
