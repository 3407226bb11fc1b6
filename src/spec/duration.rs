//! Durations as Compose writes them: `1m30s`, `500ms`, `1.5h`.

/// Which units may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Units {
    /// From microseconds to hours (compose-spec, "Specifying durations").
    Clock,
    /// And days and weeks, as in `pull_policy: every_2d`.
    Calendar,
}

const UNITS: [(&str, u128); 9] = [
    // Longest first: "ms" would be read as "m".
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("ns", 1),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("w", 604_800_000_000_000),
];

/// A hundred years; more is a slip, and sums of milliseconds stay far from overflow.
const MAX_MS: u128 = 100 * 366 * 86_400_000;

/// The duration in milliseconds, rounded up: a microsecond is not "no time".
pub(super) fn millis(text: &str, units: Units) -> Option<u64> {
    rounded_up(text, units, 1_000_000)
}

/// The duration in microseconds, rounded up.
pub(super) fn micros(text: &str) -> Option<u64> {
    rounded_up(text, Units::Clock, 1_000)
}

fn rounded_up(text: &str, units: Units, nanos: u128) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total = 0_u128;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let (name, scale) = UNITS.iter().find(|(name, _)| after.starts_with(name))?;
        if units == Units::Clock && matches!(*name, "d" | "w") {
            return None;
        }
        total = total.checked_add(scaled(number, *scale)?)?;
        rest = after.strip_prefix(name)?;
    }
    if text.is_empty() || total > MAX_MS * 1_000_000 { None } else { u64::try_from(total.div_ceil(nanos)).ok() }
}

/// A duration with days and weeks (`90m`, `24h`, `7d`) in milliseconds, rounded up.
#[must_use]
pub fn calendar_millis(text: &str) -> Option<u64> {
    millis(text, Units::Calendar)
}

/// `number × scale`, rounded down, without floating point.
pub(super) fn scaled(number: &str, scale: u128) -> Option<u128> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if number.len() > 30 || (whole.is_empty() && part.is_empty()) || part.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u128>().ok()? };
    let part: String = part.chars().take(12).collect();
    let tenth = 10_u128.pow(u32::try_from(part.len()).ok()?);
    let fraction = if part.is_empty() { 0 } else { part.parse::<u128>().ok()? };
    whole.checked_mul(scale)?.checked_add(fraction * scale / tenth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_to_the_millisecond() {
        for (text, ms) in [
            ("10s", Some(10_000)),
            ("1m30s", Some(90_000)),
            ("500ms", Some(500)),
            ("1h5m30s20ms", Some(3_930_020)),
            ("1.5s", Some(1_500)),
            ("10us", Some(1)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("", None),
            ("10", None),
            ("s", None),
            ("-1s", None),
            (".s", None),
            ("1..5s", None),
            ("1d", None),
            ("10 s", None),
            ("99999999999999999999999999999h", None),
            ("9999999999h", None),
        ] {
            assert_eq!(millis(text, Units::Clock), ms, "{text}");
        }
        assert_eq!(millis("1w2d", Units::Calendar), Some(777_600_000));
        assert_eq!((micros("400ms"), micros("95us"), micros("1ns")), (Some(400_000), Some(95), Some(1)));
    }
}
