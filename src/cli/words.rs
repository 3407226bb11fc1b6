//! Numbers and names as people read them.

use crate::api::wire::Time;
use crate::model::Timestamp;

/// `3s`, `5m`, `2h`, `4d`: one unit is enough to know what to do.
pub(super) fn span(ms: u64) -> String {
    match ms / 1000 {
        s @ 0..=119 => format!("{s}s"),
        s @ 120..=7_199 => format!("{}m", s / 60),
        s @ 7_200..=172_799 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

/// How long ago `then` was.
pub(super) fn age(then: Time, now: Timestamp) -> String {
    span(now.since(then.timestamp()))
}

/// How long it is until `then`.
pub(super) fn until(then: Time, now: Timestamp) -> String {
    match then.timestamp().since(now) {
        0 => "now".to_owned(),
        ms => format!("in {}", span(ms)),
    }
}

/// `512 B`, `1.5 MiB`.
pub(super) fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut tenths = u128::from(count) * 10;
    let mut unit = "B";
    for next in units {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = next;
    }
    if unit == "B" { format!("{count} B") } else { format!("{}.{} {unit}", tenths / 10, tenths % 10) }
}

/// An image without what Docker's users leave out.
pub(super) fn image(reference: &str) -> &str {
    let short = reference.strip_prefix("docker.io/").unwrap_or(reference);
    short.strip_prefix("library/").unwrap_or(short)
}

/// Text that came from elsewhere, so that it cannot steer the terminal.
pub(super) fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => safe.push(' '),
            // Marks that turn the direction of writing can make a line read as something else.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => safe.extend(c.escape_unicode()),
            c if c.is_control() => safe.extend(c.escape_default()),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_people_read_them() {
        let spans = [0, 119_999, 120_000, 7_200_000, 172_800_000].map(span);
        assert_eq!(spans, ["0s", "119s", "2m", "2h", "2d"]);
        let sizes = [0, 1023, 1024, 1_572_864, 5_368_709_120, u64::MAX].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "5.0 GiB", "15.9 EiB"]);
        assert_eq!(image("docker.io/library/nginx:latest"), "nginx:latest");
        assert_eq!(image("ghcr.io/a/b:1"), "ghcr.io/a/b:1");
        assert_eq!(printable("a\x1b[2Jb\nc\td"), "a\\u{1b}[2Jb\\nc d");
    }
}
