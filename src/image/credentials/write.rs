//! Keeping logins as Docker's client does: by the helper where one is set, else in the file, whose other keys stay as they
//! are. The file is replaced by a rename of a new one that is on disk.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{CredentialError, file, helper, read};
use crate::image::settings::{Credential, Settings};

/// Where a login was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// By a helper.
    Helper(String),
    /// In a file, which everybody can read who can read the file.
    File(PathBuf),
}

/// Keeps a login in the first login file, or with its helper.
pub(in crate::image) async fn keep(
    settings: &Settings,
    registry: &str,
    credential: &Credential,
) -> Result<Kept, CredentialError> {
    let path = settings.login_files.first().ok_or(CredentialError::NoFile)?;
    let mut content = read(path)?.unwrap_or_default();
    let format = |reason| CredentialError::Format { path: path.clone(), reason };
    let key = file::server(registry);
    let kept = match file::helper_for(&content, registry).transpose().map_err(format)?.map(str::to_owned) {
        Some(name) => {
            let (user, secret) = match credential {
                Credential::Password { user, password } => (user.as_str(), password),
                Credential::IdentityToken(token) | Credential::RegistryToken(token) => ("<token>", token),
            };
            helper(settings, &name).store(&key, user, secret).await?;
            set(&mut content, &key, json!({})).map_err(format)?;
            Kept::Helper(name)
        }
        None => {
            let entry = match credential {
                Credential::Password { user, password } => json!({ "auth": file::encode(user, password) }),
                Credential::IdentityToken(token) => json!({ "identitytoken": token }),
                Credential::RegistryToken(token) => json!({ "registrytoken": token }),
            };
            set(&mut content, &key, entry).map_err(format)?;
            Kept::File(path.clone())
        }
    };
    write(path, &content).map_err(|source| CredentialError::Write { path: path.clone(), source })?;
    Ok(kept)
}

/// Forgets the logins for a registry in the first login file. Tells whether there was one.
pub(in crate::image) async fn forget(settings: &Settings, registry: &str) -> Result<bool, CredentialError> {
    let path = settings.login_files.first().ok_or(CredentialError::NoFile)?;
    let Some(mut content) = read(path)? else { return Ok(false) };
    let format = |reason| CredentialError::Format { path: path.clone(), reason };
    let mut known = false;
    if let Some(name) = file::helper_for(&content, registry).transpose().map_err(format)?.map(str::to_owned) {
        let (helper, server) = (helper(settings, &name), file::server(registry));
        known = helper.get(&server).await?.is_some();
        helper.erase(&server).await?;
    }
    let auths = content.get_mut("auths").and_then(Value::as_object_mut);
    let before = auths.as_ref().map_or(0, |auths| auths.len());
    if let Some(auths) = auths {
        // A login for a part of the registry was made by another tool on purpose, and stays.
        auths.retain(|key, _| file::matching(key, registry, "") != Some(0));
        if auths.len() < before {
            write(path, &content).map_err(|source| CredentialError::Write { path: path.clone(), source })?;
            known = true;
        }
    }
    Ok(known)
}

fn set(content: &mut Map<String, Value>, key: &str, entry: Value) -> Result<(), String> {
    let auths = content.entry("auths").or_insert_with(|| json!({}));
    if auths.is_null() {
        *auths = json!({});
    }
    auths.as_object_mut().ok_or("\"auths\" is not an object")?.insert(key.to_owned(), entry);
    Ok(())
}

fn write(path: &Path, content: &Map<String, Value>) -> io::Result<()> {
    // The file may be a link to where it is really kept; the link stays.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let dir = path.parent().ok_or_else(|| io::Error::other("it has no folder"))?;
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let mut text = serde_json::to_vec_pretty(content)?;
    text.push(b'\n');
    let draft = dir.join(format!(".{}.{}", name(path), std::process::id()));
    // A draft that a dead run left may be in the way.
    let _ = fs::remove_file(&draft);
    let written = fill(&draft, &text).and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written?;
    File::open(dir)?.sync_all()
}

fn fill(draft: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(text)?;
    file.sync_all()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::find;
    use super::*;

    fn settings(path: &Path) -> Settings {
        Settings {
            login_files: vec![path.to_owned()],
            helper_dirs: path.parent().map(|d| vec![d.to_owned()]),
            ..Settings::default()
        }
    }
    fn bob(password: &str) -> Credential {
        Credential::Password { user: "bob".into(), password: password.into() }
    }

    #[tokio::test]
    async fn a_login_is_kept_beside_what_else_is_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/dir/config.json");
        let settings = settings(&path);
        assert_eq!(keep(&settings, "docker.io", &bob("p:q")).await.unwrap(), Kept::File(path.clone()));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(find(&settings, "docker.io", "library/nginx").await.unwrap(), Some(bob("p:q")));
        let text = "{\"zeta\": 1, \"auths\": {\"old\": {\"auth\": \"dTpw\"}}, \"alpha\": {\"b\": 1, \"a\": 2}}";
        fs::write(&path, text).unwrap();
        keep(&settings, "r:5000", &bob("x")).await.unwrap();
        insta::assert_snapshot!(fs::read_to_string(&path).unwrap(), @r#"
        {
          "zeta": 1,
          "auths": {
            "old": {
              "auth": "dTpw"
            },
            "r:5000": {
              "auth": "Ym9iOng="
            }
          },
          "alpha": {
            "b": 1,
            "a": 2
          }
        }
        "#);
        assert!(forget(&settings, "old").await.unwrap());
        assert!(!forget(&settings, "old").await.unwrap());
        assert_eq!(find(&settings, "old", "a").await.unwrap(), None);
        assert_eq!(find(&settings, "r:5000", "a").await.unwrap(), Some(bob("x")));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
    }

    #[tokio::test]
    async fn a_helper_keeps_what_it_is_given() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        fs::write(&path, r#"{"credHelpers": {"r": "toy"}}"#).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let helper = dir.path().join("docker-credential-toy");
        let script = "#!/bin/sh\ncase $1 in\nstore) cat > \"$0.kept\";;\nget) cat \"$0.kept\" 2>/dev/null || { echo credentials not found; exit 1; };;\nerase) rm -f \"$0.kept\";;\nesac\n";
        fs::write(&helper, script).unwrap();
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        let settings = settings(&path);
        assert_eq!(find(&settings, "r", "a").await.unwrap(), None);
        assert_eq!(keep(&settings, "r", &bob("hunter2")).await.unwrap(), Kept::Helper("toy".into()));
        assert!(!fs::read_to_string(&path).unwrap().contains("hunter2"));
        assert_eq!(find(&settings, "r", "a").await.unwrap(), Some(bob("hunter2")));
        assert!(forget(&settings, "r").await.unwrap());
        assert_eq!(find(&settings, "r", "a").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_file_that_others_can_read_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        fs::write(&path, r#"{"auths": {"r": {"auth": "Ym9iOmh1bnRlcjI="}}}"#).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let said = find(&settings(&path), "r", "a").await.unwrap_err().to_string();
        assert!(said.contains("chmod 600") && !said.contains("Ym9i"), "{said}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "{\"auths\": \"hunter2\"").unwrap();
        let said = find(&settings(&path), "r", "a").await.unwrap_err().to_string();
        assert!(said.contains("is not JSON (line 1") && !said.contains("hunter2"), "{said}");
        let set = Settings { login_files: vec![dir.path().join("none")], ..Settings::default() };
        assert_eq!(find(&set, "r", "a").await.unwrap(), None);
    }
}
