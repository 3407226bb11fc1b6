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
    let images = || entries.iter().filter(|entry| !entry.about_another);
    for entry in images() {
        let Some(rank) = entry.platform.as_ref().map_or(Some(UNNAMED), |p| rank(p, wanted)) else { continue };
        if best.is_none_or(|(known, _)| rank < known) {
            best = Some((rank, &entry.target));
        }
    }
    best.map(|(_, target)| target).ok_or_else(|| {
        let named = images().filter_map(|e| e.platform.as_ref()).filter(|p| p.os != "unknown");
        let mut available: Vec<String> = named.map(ToString::to_string).collect();
        available.sort();
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
const UNNAMED: u32 = u32::MAX;

/// How far an offer is from the wish: 0 is exact, none does not run. Newer variants run older ones, never the reverse.
fn rank(offered: &Platform, wanted: &Platform) -> Option<u32> {
    let ((offered_name, offered_level), (wanted_name, wanted_level)) = (normal(offered), normal(wanted));
    if offered.os != wanted.os || offered_name != wanted_name {
        return None;
    }
    match (offered_level, wanted_level) {
        (Some(offered), Some(wanted)) => wanted.checked_sub(offered),
        // Variants of another world are only good for themselves.
        _ => (offered.variant == wanted.variant).then_some(0),
    }
}

/// The usual name of an architecture and the number of its variant, a tenth for each minor step; what is not said is the
/// least that the architecture means. None: not a number.
fn normal(platform: &Platform) -> (&str, Option<u32>) {
    let (name, least) = match platform.architecture.as_str() {
        "x86_64" | "x86-64" | "amd64" => ("amd64", 10),
        "aarch64" | "arm64" => ("arm64", 80),
        "i386" | "i486" | "i586" | "i686" | "386" => ("386", 10),
        "armhf" | "arm" => ("arm", 70),
        "armel" => ("arm", 60),
        other => (other, 10),
    };
    let Some(variant) = platform.variant.as_deref() else { return (name, Some(least)) };
    let number = variant.strip_prefix('v').unwrap_or(variant);
    let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
    let level = match (major.parse::<u32>(), minor.parse::<u32>()) {
        (Ok(major @ 0..=99), Ok(minor @ 0..=9)) => Some(major * 10 + minor),
        _ => None,
    };
    (name, level)
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
            platform: (!text.starts_with('-')).then(|| platform(text.trim_end_matches('!'))),
            about_another: text.ends_with('!'),
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
            // As containerd falls back.
            (&["linux/arm/v5", "linux/arm/v6", "linux/arm/v7"], "linux/arm/v8", Some(2)),
            (&["linux/arm/v5", "linux/arm/v6"], "linux/arm/v8", Some(1)),
            (&["linux/arm/v5"], "linux/arm/v8", Some(0)),
            (&["linux/arm/v6", "linux/arm"], "linux/arm/v7", Some(1)),
            (&["linux/arm/v6", "linux/arm/v7"], "linux/arm", Some(1)),
            (&["linux/arm64"], "linux/arm64/v8", Some(0)),
            (&["linux/arm64/v8"], "linux/arm64", Some(0)),
            (&["linux/arm64/v9", "linux/arm64"], "linux/arm64/v8", Some(1)),
            (&["linux/arm64", "linux/arm64/v8.2"], "linux/arm64/v9", Some(1)),
            (&["linux/arm/v7"], "linux/arm64", None),
            (&["linux/amd64", "linux/amd64/v2", "linux/amd64/v3", "linux/amd64/v4"], "linux/amd64/v3", Some(2)),
            (&["linux/amd64", "linux/amd64/v2"], "linux/amd64/v3", Some(1)),
            (&["linux/amd64"], "linux/amd64/v3", Some(0)),
            (&["linux/amd64/v2"], "linux/amd64/v1", None),
            (&["linux/386"], "linux/amd64", None),
            // Other names for the same.
            (&["linux/aarch64"], "linux/arm64", Some(0)),
            (&["linux/x86_64"], "linux/amd64", Some(0)),
            (&["linux/armel", "linux/armhf"], "linux/arm/v7", Some(1)),
            // Variants that are no numbers, attestations.
            (&["linux/riscv64/rva20u64", "linux/riscv64"], "linux/riscv64", Some(1)),
            (&["linux/riscv64/rva20u64"], "linux/riscv64/rva20u64", Some(0)),
            (&["linux/amd64!", "linux/amd64"], "linux/amd64", Some(1)),
            (&["unknown/unknown!", "-!"], "linux/amd64", None),
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
