//! Which entry of an index runs on a machine. Pure.

use super::manifest::{Descriptor, IndexEntry, ManifestError};
use crate::model::Platform;

/// What this program runs on.
pub(super) fn this_machine() -> Platform {
    let (architecture, variant) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", None),
        "x86" => ("386", None),
        "aarch64" => ("arm64", Some("v8")),
        "arm" => ("arm", Some("v7")),
        "powerpc64" => ("ppc64le", None),
        "loongarch64" => ("loong64", None),
        other => (other, None),
    };
    Platform { os: "linux".into(), architecture: architecture.into(), variant: variant.map(str::to_owned) }
}

/// The best entry for `wanted`; of equally good ones the first, as the specification says.
pub(super) fn choose<'a>(entries: &'a [IndexEntry], wanted: &Platform) -> Result<&'a Descriptor, ManifestError> {
    let mut best: Option<(u32, &Descriptor)> = None;
    for entry in entries {
        let Some(rank) = entry.platform.as_ref().map_or(Some(UNNAMED), |p| rank(p, wanted)) else { continue };
        if best.is_none_or(|(known, _)| rank < known) {
            best = Some((rank, &entry.target));
        }
    }
    best.map(|(_, target)| target).ok_or_else(|| {
        let mut available: Vec<String> = entries
            .iter()
            .filter_map(|e| e.platform.as_ref())
            .filter(|p| p.os != "unknown")
            .map(ToString::to_string)
            .collect();
        available.dedup();
        available.truncate(20);
        if available.is_empty() {
            available.push("nothing at all".into());
        }
        ManifestError::Platform { wanted: wanted.clone(), available }
    })
}

/// Whether an image for `offered` runs where `wanted` is asked for.
pub(super) fn fits(offered: &Platform, wanted: &Platform) -> bool {
    rank(offered, wanted).is_some()
}

/// An entry without a platform is tried when no other fits; its configuration will tell.
const UNNAMED: u32 = 1000;

/// How far an offer is from the wish: 0 is exact, none does not run. Newer variants run older ones, never the reverse.
fn rank(offered: &Platform, wanted: &Platform) -> Option<u32> {
    if offered.os != wanted.os || architecture(&offered.architecture) != architecture(&wanted.architecture) {
        return None;
    }
    level(wanted).checked_sub(level(offered))
}

fn architecture(name: &str) -> &str {
    match name {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "i386" => "386",
        "armhf" | "armel" => "arm",
        other => other,
    }
}

/// The number of a variant; what is not said is the least that the architecture means.
fn level(platform: &Platform) -> u32 {
    let said = platform.variant.as_deref().and_then(|v| v.strip_prefix('v')).and_then(|v| v.parse().ok());
    match (architecture(&platform.architecture), said, platform.variant.is_some()) {
        (_, Some(level), _) => level,
        // A variant that is not a number is of another world.
        (_, None, true) => u32::MAX,
        ("arm", None, false) => 7,
        ("arm64", None, false) => 8,
        (_, None, false) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        Platform { os: parts.next().unwrap(), architecture: parts.next().unwrap(), variant: parts.next() }
    }
    /// The place of the entry chosen.
    fn chosen(entries: &[&str], wanted: &str) -> Option<u64> {
        let entry = |(at, text): (usize, &&str)| IndexEntry {
            target: Descriptor {
                media_type: String::new(),
                digest: Digest::parse(&format!("sha256:{}", "0".repeat(64))).unwrap(),
                size: at as u64,
            },
            platform: (*text != "-").then(|| platform(text)),
        };
        let entries: Vec<_> = entries.iter().enumerate().map(entry).collect();
        choose(&entries, &platform(wanted)).ok().map(|d| d.size)
    }

    #[test]
    fn the_nearest_entry_is_chosen() {
        let table: &[(&[&str], &str, Option<u64>)] = &[
            (&["linux/amd64", "linux/arm64"], "linux/arm64/v8", Some(1)),
            (&["linux/amd64", "linux/amd64"], "linux/amd64", Some(0)),
            (&["unknown/unknown", "linux/amd64"], "linux/amd64", Some(1)),
            (&["linux/arm/v5", "linux/arm/v6", "linux/arm/v7"], "linux/arm/v7", Some(2)),
            (&["linux/arm/v5", "linux/arm/v6"], "linux/arm/v7", Some(1)),
            (&["linux/arm/v7"], "linux/arm/v6", None),
            (&["linux/amd64/v3", "linux/amd64/v2", "linux/amd64/v1"], "linux/amd64", Some(2)),
            (&["linux/amd64/v4", "linux/amd64"], "linux/amd64", Some(1)),
            (&["windows/amd64"], "linux/amd64", None),
            (&["-", "linux/amd64"], "linux/amd64", Some(1)),
            (&["-"], "linux/amd64", Some(0)),
            (&[], "linux/amd64", None),
        ];
        for (entries, wanted, expected) in table {
            assert_eq!(chosen(entries, wanted), *expected, "{entries:?} for {wanted}");
        }
    }

    #[test]
    fn the_refusal_names_what_there_is() {
        let error = choose(&[], &platform("linux/amd64")).unwrap_err().to_string();
        assert_eq!(error, "there is none for linux/amd64; there is nothing at all");
    }
}
