//! The folder of all labs, and the janitor that clears it away when this process ends, however it ends.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

struct Base {
    dir: PathBuf,
    /// Holds the pipe whose end the janitor waits for.
    _janitor: Child,
}

fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        assert!(nix::unistd::geteuid().is_root(), "these tests make real containers: run them as root");
        let dir = tempfile::Builder::new().prefix("longshore-it.").tempdir().expect("a folder").keep();
        // A session of its own: Ctrl+C in the terminal ends the tests, not who cleans up after them.
        let janitor = Command::new("setsid").arg(tool("janitor.sh")).arg(&dir).stdin(Stdio::piped()).spawn();
        Base { dir, _janitor: janitor.expect("setsid and sh are there") }
    })
}

/// A new folder below the one that is cleared away at the end.
pub(crate) fn new_dir() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let dir = base().dir.join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
    std::fs::create_dir(&dir).expect("a folder");
    dir
}

/// A script of `tests/tools`.
pub(crate) fn tool(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools").join(name)
}
