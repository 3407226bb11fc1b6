//! Which names are state files. Pure.

use std::ffi::OsStr;
use std::path::Path;

/// File names of a project folder, best first.
pub(super) const COMPOSE_FILES: [&str; 4] =
    ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

/// Left behind by editors and package managers, or made while a file is written.
pub(super) fn leftover(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return true };
    let ends =
        ["~", ".swp", ".swx", ".swo", ".bak", ".tmp", ".orig", ".rej", ".rpmsave", ".rpmnew", ".rpmorig", ".part"];
    name.starts_with('.')
        || name == "4913"
        || (name.starts_with('#') && name.ends_with('#'))
        || ends.iter().any(|end| name.ends_with(end))
        || name.contains(".dpkg-")
        || name.contains(".ucf-")
}

/// Whether a name in the state folder itself is a state file by its ending.
pub(super) fn state_file(name: &OsStr) -> bool {
    let ending = Path::new(name).extension().and_then(OsStr::to_str);
    !leftover(name) && matches!(ending, Some("yaml" | "yml" | "json"))
}

/// The project name that a state file has by its place: its own name, or its folder's.
pub(super) fn default_name(path: &Path) -> String {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    let name = folder.and_then(Path::file_name).or_else(|| path.file_stem());
    name.map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_are_no_state_files() {
        for name in [
            ".a.yaml",
            "a.yaml~",
            "a.yaml.swp",
            "4913",
            "#a.yaml#",
            "a.yaml.bak",
            "a.yaml.tmp",
            "a.yaml.orig",
            "a.yaml.rpmsave",
            "a.yaml.dpkg-old",
            ".#a.yaml",
            ".a.yaml.Qw3rTy",
            "README.md",
            "a.yaml.txt",
            "a",
        ] {
            assert!(!state_file(OsStr::new(name)), "{name}");
        }
        for name in ["a.yaml", "a.yml", "a.json", "a.b.yaml"] {
            assert!(state_file(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn a_project_is_named_by_its_file_or_its_folder() {
        assert_eq!(default_name(Path::new("shop.yaml")), "shop");
        assert_eq!(default_name(Path::new("shop/compose.yaml")), "shop");
    }
}
