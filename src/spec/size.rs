//! Bytes as Docker reads them: `512m` is 512 MiB.

use super::duration::scaled;

const UNITS: [char; 6] = ['b', 'k', 'm', 'g', 't', 'p'];

/// The number of bytes, rounded down. A sign is read, since some keys write "without limit" as -1 (compose-spec, "Specifying
/// byte values").
pub(super) fn bytes(text: &str) -> Option<i64> {
    let lower = text.trim().to_ascii_lowercase();
    let (sign, unsigned) = lower.strip_prefix('-').map_or((1, lower.as_str()), |rest| (-1, rest));
    let digits = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, unit) = unsigned.split_at(digits);
    let bytes = scaled(number, scale(unit.trim_start())?)?;
    i64::try_from(bytes).ok().map(|bytes| sign * bytes)
}

/// `k`, `kb` and `kib` are all the same.
fn scale(unit: &str) -> Option<u128> {
    let mut letters = unit.chars();
    let Some(first) = letters.next() else { return Some(1) };
    let power = UNITS.iter().position(|unit| *unit == first)?;
    let rest = letters.as_str();
    let known = matches!(rest, "") || (power > 0 && matches!(rest, "b" | "ib"));
    known.then(|| 1 << (10 * power))
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("2048", Some(2048)),
            ("64m", Some(64 << 20)),
            ("64M", Some(64 << 20)),
            ("64mb", Some(64 << 20)),
            ("64MiB", Some(64 << 20)),
            ("1.5g", Some(1_610_612_736)),
            ("1 GB", Some(1 << 30)),
            ("7b", Some(7)),
            ("2t", Some(2 << 40)),
            ("1p", Some(1 << 50)),
            ("0.5", Some(0)),
            ("m", None),
            ("", None),
            ("5x", None),
            ("5bb", None),
            ("5bib", None),
            ("1..5g", None),
            ("--1", None),
            ("1e3", None),
            ("99999999999999p", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
