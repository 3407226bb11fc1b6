//! `tmpfs`: folders in memory, each as `path` or `path:options`.

use super::nearest::nearest;
use super::scope::Scope;
use crate::model::Tmpfs;

const KEY: &str = "tmpfs";
const FLAGS: [&str; 18] = [
    "ro",
    "rw",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "sync",
    "async",
    "dirsync",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
];
const VALUES: [&str; 7] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"];

pub(super) fn read(scope: &mut Scope<'_, '_, '_>) -> Vec<Tmpfs> {
    let mut all: Vec<Tmpfs> = Vec::new();
    for (text, at) in scope.texts(KEY) {
        let (path, options) = text.split_once(':').unwrap_or((text, ""));
        let Some(target) = absolute(path).filter(|path| path != "/") else {
            let hint = "begin it with `/`; it may not be `/`";
            scope.error(at, KEY, format!("{path:?} is not a folder of a container"), hint);
            continue;
        };
        // As runc refuses: what the kernel says of processes, and how they are confined, would be hidden or writable.
        if target == "/proc" || target.starts_with("/proc/") {
            scope.error(
                at,
                KEY,
                format!("{target:?} is the kernel's, and nothing is mounted there"),
                "use another folder",
            );
            continue;
        }
        let options: Vec<String> = options.split(',').filter(|o| !o.is_empty()).map(str::to_owned).collect();
        for option in options.iter().filter(|option| !known(option)) {
            scope.error(at, KEY, format!("{option:?} is not an option of a tmpfs"), &meant(option));
        }
        for option in options.iter().filter(|option| matches!(option.as_str(), "exec" | "suid" | "dev")) {
            scope.loosen(at, KEY, format!("its {target} in memory is mounted with {option}"));
        }
        // The last one counts, as in Docker.
        all.retain(|known| known.target != target);
        all.push(Tmpfs { target, options });
    }
    all
}

fn known(option: &str) -> bool {
    let Some((name, value)) = option.split_once('=') else { return FLAGS.contains(&option) };
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match name {
        "size" | "nr_inodes" | "nr_blocks" => {
            number(value.strip_suffix(['k', 'K', 'm', 'M', 'g', 'G', '%']).unwrap_or(value))
        }
        "mode" => u32::from_str_radix(value, 8).is_ok_and(|mode| mode <= 0o7777),
        "uid" | "gid" => value.parse::<u32>().is_ok_and(|id| id < u32::MAX),
        "mpol" => !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic()),
        _ => false,
    }
}

fn meant(option: &str) -> String {
    let name = option.split('=').next().unwrap_or_default();
    let names = || FLAGS.into_iter().chain(VALUES);
    match nearest(name, names()) {
        Some(near) if near != name => format!("did you mean `{near}`?"),
        Some(_) | None => "examples are size=64m, mode=1770, uid=1000, exec, ro".to_owned(),
    }
}

/// A path inside a container, with nothing in it that leads up.
pub(super) fn absolute(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.strip_prefix('/')?.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    Some(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_those_of_a_tmpfs() {
        for good in
            ["size=64m", "size=50%", "mode=1777", "uid=0", "gid=7", "nr_inodes=10k", "exec", "ro", "mpol=interleave"]
        {
            assert!(known(good), "{good}");
        }
        for bad in
            ["size=", "size=x", "size=64mb", "mode=9", "mode=77777", "uid=-1", "bind", "remount", "lowerdir=/", "size"]
        {
            assert!(!known(bad), "{bad}");
        }
        assert_eq!(meant("sise=1m"), "did you mean `size`?");
    }

    #[test]
    fn paths_lead_to_one_place() {
        for (path, clean) in
            [("/run/", Some("/run")), ("/a//b/./c", Some("/a/b/c")), ("/../a/..", Some("/")), ("a", None)]
        {
            assert_eq!(absolute(path).as_deref(), clean, "{path}");
        }
    }
}
