//! Docker's credential helpers: programs named `docker-credential-NAME` with one word as their argument, a question on
//! standard input and the answer on standard output. Never by a shell; bounded in time and size.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::file::of_pair;
use crate::image::error::line;
use crate::image::settings::Credential;

/// Helpers that ask a cloud for a token take a second or two.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
const ANSWER: u64 = 64 << 10;

/// Why a helper did not answer.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// It is not installed.
    #[error("the credential helper {name} is not there; install it, or take it out of the login file")]
    Absent { name: String },
    /// It cannot be started.
    #[error("the credential helper {name} cannot be started")]
    Start {
        name: String,
        #[source]
        source: io::Error,
    },
    /// It takes too long.
    #[error("the credential helper {name} did not answer within {} s and was ended", waited.as_secs())]
    Silent { name: String, waited: Duration },
    /// It says no.
    #[error("the credential helper {name} failed: {said}")]
    Failed { name: String, said: String },
    /// What it says is no answer.
    #[error("the credential helper {name} does not answer with a login")]
    Nonsense { name: String },
}

/// One helper.
pub(super) struct Helper<'a> {
    pub(super) name: &'a str,
    /// Folders in which it is looked for; none means PATH.
    pub(super) dirs: Option<&'a [PathBuf]>,
    /// How long it may take.
    pub(super) patience: Duration,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

impl Helper<'_> {
    /// The login for a server; none where the helper knows none.
    pub(super) async fn get(&self, server: &str) -> Result<Option<Credential>, HelperError> {
        let (good, out) = self.run("get", server.as_bytes()).await?;
        if !good {
            return self.not_found(&out).map(|()| None);
        }
        let answer: Answer =
            serde_json::from_slice(&out).map_err(|_| HelperError::Nonsense { name: self.program() })?;
        let empty = answer.username.is_empty() && answer.secret.is_empty();
        Ok((!empty).then(|| of_pair(&answer.username, &answer.secret)))
    }

    /// Keeps a login.
    pub(super) async fn store(&self, server: &str, user: &str, secret: &str) -> Result<(), HelperError> {
        let text = serde_json::json!({ "ServerURL": server, "Username": user, "Secret": secret }).to_string();
        let (good, out) = self.run("store", text.as_bytes()).await?;
        if good { Ok(()) } else { Err(self.failed(&out, Some(secret))) }
    }

    /// Forgets a login.
    pub(super) async fn erase(&self, server: &str) -> Result<(), HelperError> {
        let (good, out) = self.run("erase", server.as_bytes()).await?;
        if good { Ok(()) } else { self.not_found(&out) }
    }

    fn not_found(&self, out: &[u8]) -> Result<(), HelperError> {
        let said = String::from_utf8_lossy(out).to_lowercase();
        if said.contains("credentials not found") { Ok(()) } else { Err(self.failed(out, None)) }
    }

    fn failed(&self, out: &[u8], secret: Option<&str>) -> HelperError {
        let said = String::from_utf8_lossy(out);
        let leaks = secret.is_some_and(|secret| !secret.is_empty() && said.contains(secret));
        let said = if leaks { "(it repeated the secret)".to_owned() } else { line(said.trim(), 200) };
        HelperError::Failed { name: self.program(), said }
    }

    fn program(&self) -> String {
        format!("docker-credential-{}", self.name)
    }

    fn path(&self) -> Result<PathBuf, HelperError> {
        let name = self.program();
        let path = std::env::var_os("PATH");
        let of_path = || std::env::split_paths(path.as_deref().unwrap_or(OsStr::new(""))).collect::<Vec<_>>();
        let dirs = self.dirs.map_or_else(of_path, <[PathBuf]>::to_vec);
        // An empty entry of PATH means the folder where the daemon happens to be.
        let found =
            dirs.iter().filter(|dir| dir.is_absolute()).map(|dir| dir.join(&name)).find(|path| is_program(path));
        found.ok_or(HelperError::Absent { name })
    }

    async fn run(&self, action: &str, question: &[u8]) -> Result<(bool, Vec<u8>), HelperError> {
        let started = Command::new(self.path()?)
            .arg(action)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let mut child = started.map_err(|source| HelperError::Start { name: self.program(), source })?;
        match timeout(self.patience, talk(&mut child, question)).await {
            Ok(talked) => talked.map_err(|source| HelperError::Start { name: self.program(), source }),
            Err(_) => {
                // By its handle, so that it is this one and no other.
                let _ = child.kill().await;
                Err(HelperError::Silent { name: self.program(), waited: self.patience })
            }
        }
    }
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
}

async fn talk(child: &mut Child, question: &[u8]) -> io::Result<(bool, Vec<u8>)> {
    let stdin = child.stdin.take();
    let ask = async {
        if let Some(mut stdin) = stdin {
            // A helper that does not read its question may still answer.
            let _ = stdin.write_all(question).await;
        }
    };
    let stdout = child.stdout.take();
    let (answer, ()) = tokio::join!(bounded(stdout), ask);
    let answer = answer?;
    // Whoever says more than that is not waited for: it may be blocked by what nobody reads.
    if answer.len() as u64 > ANSWER {
        child.kill().await?;
        return Ok((false, b"its answer is too long".to_vec()));
    }
    Ok((child.wait().await?.success(), answer))
}

async fn bounded(from: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(ANSWER + 1).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A folder with one helper, a shell script.
    fn scripted(script: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker-credential-toy");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        dir
    }
    async fn got(script: &str) -> Result<Option<Credential>, String> {
        let dir = scripted(script);
        let dirs = [dir.path().to_owned()];
        let helper = Helper { name: "toy", dirs: Some(&dirs), patience: PATIENCE };
        helper.get("r.example").await.map_err(|e| e.to_string())
    }

    #[tokio::test]
    async fn helpers_answer() {
        let login = |user: &str, password: &str| Credential::Password { user: user.into(), password: password.into() };
        let echo = r#"[ "$1" = get ] && read server; printf '{"ServerURL":"%s","Username":"u","Secret":"%s"}' "$server" "$server""#;
        assert_eq!(got(echo).await, Ok(Some(login("u", "r.example"))));
        let token = r#"echo '{"Username":"<token>","Secret":"t"}'"#;
        assert_eq!(got(token).await, Ok(Some(Credential::IdentityToken("t".into()))));
        assert_eq!(got("echo 'credentials not found in native keychain'; exit 1").await, Ok(None));
        assert_eq!(got("echo '{}'").await, Ok(None));
        for (script, word) in [
            ("echo the vault is locked; exit 1", "docker-credential-toy failed: the vault is locked"),
            ("echo hello", "does not answer with a login"),
            ("yes", "its answer is too long"),
        ] {
            let said = got(script).await.unwrap_err();
            assert!(said.contains(word), "{said}");
        }
        let none = tempfile::tempdir().unwrap();
        let helper = Helper { name: "toy", dirs: Some(&[none.path().to_owned()]), patience: PATIENCE };
        assert!(matches!(helper.get("r").await, Err(HelperError::Absent { .. })));
    }

    #[tokio::test]
    async fn a_secret_that_a_helper_repeats_is_not_told() {
        let dir = scripted("cat; exit 1");
        let dirs = [dir.path().to_owned()];
        let said = Helper { name: "toy", dirs: Some(&dirs), patience: PATIENCE }
            .store("r", "u", "hunter2")
            .await
            .unwrap_err()
            .to_string();
        assert!(said.contains("failed") && !said.contains("hunter2"), "{said}");
    }

    #[tokio::test]
    async fn a_silent_helper_is_ended() {
        let dir = scripted(r#"echo $$ > "$0.pid"; exec sleep 1000"#);
        let dirs = [dir.path().to_owned()];
        let helper = Helper { name: "toy", dirs: Some(&dirs), patience: Duration::from_millis(200) };
        let said = helper.get("r").await.unwrap_err();
        assert!(matches!(said, HelperError::Silent { .. }), "{said}");
        let pid = std::fs::read_to_string(dir.path().join("docker-credential-toy.pid")).unwrap();
        assert!(!Path::new("/proc").join(pid.trim()).exists(), "it is gone");
    }
}
