//! Where a mount is seen, and where on the host it comes from.

use std::path::{Path, PathBuf};

use super::super::tmpfs::absolute;
use super::Fault;

/// Nothing here knows of users.
const HOME: &str = "/root";
const SOURCE_HINT: &str = "write a folder of this host, such as /srv/data or ./data";

/// A place in a container.
pub(super) fn target(text: &str) -> Result<String, Fault> {
    let wrong = |what: &str, hint: &str| Err((format!("{text:?} is not a place for a mount{what}"), hint.to_owned()));
    if is_windows(text) {
        return wrong(": it is a path of Windows", "begin it with `/`");
    }
    let Some(clean) = absolute(text).filter(|_| !text.contains('\0')) else {
        return wrong(": it is not an absolute path", "begin it with `/`");
    };
    if clean == "/" {
        return wrong(": it would hide the whole image", "write a folder below `/`");
    }
    // As runc refuses: what the kernel says of processes, and how they are confined, would be hidden.
    if clean == "/proc" || clean.starts_with("/proc/") {
        let message = format!("{clean:?} is the kernel's, and nothing is mounted there");
        return Err((message, "use another folder".to_owned()));
    }
    Ok(clean)
}

/// A file or folder of the host, as seen from the folder of the state file.
pub(super) fn source(text: &str, folder: &Path) -> Result<PathBuf, Fault> {
    let fault = |message: String, hint: &str| Err((message, hint.to_owned()));
    if is_windows(text) {
        return fault(format!("{text:?} is a path of Windows"), SOURCE_HINT);
    }
    if text.contains('\0') {
        return fault(format!("{text:?} is not a path"), SOURCE_HINT);
    }
    let whole = match text.strip_prefix('~') {
        None => folder.join(text),
        Some(rest) if rest.is_empty() || rest.starts_with('/') => PathBuf::from(format!("{HOME}{rest}")),
        Some(_) => return fault(format!("{text:?} is not a path: only `~/` is known, which is {HOME}"), SOURCE_HINT),
    };
    let Some(clean) = clean(&whole) else {
        return fault(
            format!("{text:?} leads out of the state directory"),
            "write an absolute path, such as /srv/data",
        );
    };
    Ok(clean)
}

/// Without `.` and `..`; nothing where it leads up from where a relative path begins.
fn clean(path: &Path) -> Option<PathBuf> {
    use std::path::Component::{CurDir, Normal, ParentDir, Prefix, RootDir};
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Normal(part) => clean.push(part),
            RootDir => clean.push("/"),
            CurDir | Prefix(_) => {}
            ParentDir => {
                if !clean.pop() && !clean.is_absolute() {
                    return None;
                }
            }
        }
    }
    Some(clean)
}

/// A folder or a file in a volume or an image. Empty: as a whole.
pub(super) fn subpath(text: &str, of: &str) -> Result<Option<String>, Fault> {
    let path = Path::new(text);
    match clean(path).filter(|_| !path.is_absolute() && !text.contains('\0')) {
        Some(clean) => Ok(clean.to_str().filter(|clean| !clean.is_empty()).map(str::to_owned)),
        None => {
            let message = format!("{text:?} is not a path in {of}");
            Err((message, "write it relative and without a way up, such as a/b".to_owned()))
        }
    }
}

/// `C:\x`, `\\server\share`, `.\x`.
pub(super) fn is_windows(text: &str) -> bool {
    let bytes = text.as_bytes();
    let drive = matches!(bytes, [letter, b':', b'\\', ..] if letter.is_ascii_alphabetic());
    drive || ["\\\\", ".\\", "..\\", "~\\", "//./"].iter().any(|start| text.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_absolute_or_below_the_state_directory() {
        for (folder, text, expected) in [
            ("", "./data", Some("data")),
            ("", ".", Some("")),
            ("shop", "./data", Some("shop/data")),
            ("shop", "data/./a//b/", Some("shop/data/a/b")),
            ("shop", "../data", Some("data")),
            ("shop", "..", Some("")),
            ("shop", "../../data", None),
            ("", "../data", None),
            ("", "./a/../../b", None),
            ("shop", "/srv/../data/", Some("/data")),
            ("shop", "/../..", Some("/")),
            ("shop", "~", Some("/root")),
            ("shop", "~/x/../y", Some("/root/y")),
            ("shop", "~/..", Some("/")),
            ("shop", "~other/x", None),
            ("/etc/state/shop", "../../x", Some("/etc/x")),
            ("", "C:\\data", None),
            ("", "a\0b", None),
        ] {
            assert_eq!(source(text, Path::new(folder)).ok().as_deref(), expected.map(Path::new), "{folder} {text}");
        }
    }

    #[test]
    fn parts_of_a_volume_stay_in_it() {
        for (text, expected) in [("a/b", Some("a/b")), ("./a/../b/", Some("b"))] {
            assert_eq!(subpath(text, "a volume").unwrap().as_deref(), expected, "{text}");
        }
        assert_eq!(subpath(".", "a volume"), Ok(None));
        for bad in ["/a", "..", "a/../..", "a\0"] {
            assert!(subpath(bad, "an image").is_err(), "{bad}");
        }
    }
}
