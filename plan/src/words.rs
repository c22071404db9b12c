//! Amounts in words, the same in all reasons and refusals.

/// Bytes of memory; small cards differ by less than a tenth of a GiB.
pub fn gib(bytes: u64) -> String {
    if bytes < 2 << 30 {
        return format!("{} MiB", bytes.div_ceil(1 << 20));
    }
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_memory_is_said_more_exactly_than_much() {
        assert_eq!(gib(1), "1 MiB");
        assert_eq!(gib((2 << 30) - 1), "2048 MiB");
        assert_eq!(gib(2 << 30), "2.0 GiB");
        assert_eq!(gib(80 << 30), "80.0 GiB");
    }
}
