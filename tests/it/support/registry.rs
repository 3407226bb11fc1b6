//! One registry for all tests, with the test image in it: busybox, `work`, a program that does one odd thing at a
//! time, and `reach`, which tells who reaches whom.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::base::{new_dir, tool};

/// A registry on a loopback port. It ends when its standard input does, that is with this process, however that ends.
pub(crate) struct Registry {
    pub(crate) host: String,
    child: Child,
}

impl Registry {
    pub(crate) fn start(port: u16) -> Self {
        let dir = new_dir();
        let script = r#""$0" "$1" "$2" >"$2.log" 2>&1 & pid=$!; cat >/dev/null; kill -9 $pid"#;
        let child = Command::new("setsid")
            .args(["sh", "-c", script])
            .arg(tool("registry.sh"))
            .args([port.to_string().as_str(), dir.join("blobs").to_str().expect("a path")])
            .stdin(Stdio::piped())
            .spawn()
            .expect("setsid and sh are there");
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "docker-registry does not listen: {}", dir.join("blobs.log").display());
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { host: format!("127.0.0.1:{port}"), child }
    }

    /// Pushes the test root with this `config`; returns the reference.
    pub(crate) fn push(&self, repository: &str, tag: &str, root: &Path, config: &str) -> String {
        self.push_layers(repository, tag, config, &[root])
    }

    /// Pushes an image with a layer from each folder, the lowest first.
    pub(crate) fn push_layers(&self, repository: &str, tag: &str, config: &str, layers: &[&Path]) -> String {
        let (lowest, others) = layers.split_first().expect("a layer");
        let pushed = Command::new(tool("push-image.sh"))
            .args([self.host.as_str(), repository, tag])
            .arg(lowest)
            .arg(config)
            .args(others)
            .output()
            .expect("the script is there");
        assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
        String::from_utf8_lossy(&pushed.stdout).trim().to_owned()
    }

    /// Pushes the test image.
    pub(crate) fn push_box(&self) -> String {
        self.push("it/box", "latest", root(), CONFIG)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().expect("our child");
    }
}

/// A port that nobody listens on. Another process may take it before us; then the registry says so.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

const CONFIG: &str = r#"{"Cmd":["work","graceful","0"],"Env":["PATH=/bin"],"WorkingDir":"/tmp"}"#;

/// The shared registry.
pub(crate) fn shared() -> &'static Registry {
    static SHARED: OnceLock<Registry> = OnceLock::new();
    SHARED.get_or_init(|| Registry::start(free_port()))
}

/// The test image in the shared registry.
pub(crate) fn image() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| shared().push_box())
}

/// The root folder that images are made from.
pub(crate) fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let dir = new_dir();
        let programs = ["work", "reach"].map(|name| {
            let (program, source) = (dir.join(name), format!("{}/tests/fixtures/{name}.c", env!("CARGO_MANIFEST_DIR")));
            run(Command::new("gcc").args(["-static", "-O1", "-w", "-o"]).arg(&program).arg(source));
            program
        });
        run(Command::new(tool("busybox-root.sh")).arg(dir.join("root")).args(programs));
        dir.join("root")
    })
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(status.success(), "{command:?}: {status}");
}
