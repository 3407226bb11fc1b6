//! Debian's `docker-registry` on a port of its own; it ends with the value, also when a test panics.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The one user of a registry that asks for a login, and the password; it holds a colon.
pub(crate) const LOGIN: (&str, &str) = ("bob", "hunter2:x");
/// The password as htpasswd would write it (bcrypt).
const HASHED: &str = "bob:$2b$05$abcdefghijklmnopqrstuuo7BYaOnHRsfqHZY2hqYF8.XVZBDM3WW\n";

pub(crate) struct Debian {
    child: Child,
    pub(crate) address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Drop for Debian {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Debian {
    pub(crate) fn start(login: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let data = dir.path().join("data");
        let mut text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n",
            data.display()
        );
        if login {
            let users = dir.path().join("htpasswd");
            std::fs::write(&users, HASHED).unwrap();
            text.push_str(&format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", users.display()));
        }
        let config = dir.path().join("config.yml");
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("docker-registry is installed");
        let registry = Self { child, address, _dir: dir };
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < until, "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }
}
