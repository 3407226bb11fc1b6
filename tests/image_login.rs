//! Logins, at Debian's own registry and at one with a token server.

#[path = "image_support/debian.rs"]
mod debian;
#[path = "image_support/http.rs"]
mod http;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;
use debian::{Debian, LOGIN};
use http::{Heard, Server};
use longshore::image::{Images, Kept, LoginError, Progress, Settings};
use longshore::model::{ImageReference, sentence};

fn open(dir: &Path) -> Images {
    let settings = Settings {
        login_files: vec![dir.join("docker/config.json")],
        helper_dirs: Some(vec![dir.to_owned()]),
        ..Settings::default()
    };
    Images::open(&dir.join("images"), settings).unwrap()
}

#[tokio::test]
async fn a_registry_with_passwords_is_asked_before_a_login_is_kept() {
    let registry = Debian::start(true);
    let name = registry.address.to_string();
    let dir = tempfile::tempdir().unwrap();
    let (images, file) = (open(dir.path()), dir.path().join("docker/config.json"));
    let wrong = images.login(&name, "bob", "not it").await.unwrap_err();
    assert!(matches!(wrong, LoginError::Denied { .. }), "{}", sentence(&wrong));
    let said = format!("{} {wrong:?}", sentence(&wrong));
    assert!(said.contains("the user or the password is wrong; nothing was kept") && !said.contains("not it"), "{said}");
    assert!(!file.exists());

    let image = ImageReference::parse(&format!("{name}/no/such:t")).unwrap();
    let before = images.pull(&image, None, &Progress::default()).await.unwrap_err();
    assert!(sentence(&before).contains("HTTP 401"), "{}", sentence(&before));

    let done = images.login(&name, LOGIN.0, LOGIN.1).await.map_err(|e| sentence(&e)).unwrap();
    assert_eq!((done.registry, done.kept), (name.clone(), Kept::File(file.clone())));
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    // Now it is the image that is missing, not the login.
    let after = images.pull(&image, None, &Progress::default()).await.unwrap_err();
    assert!(sentence(&after).contains("does not exist"), "{}", sentence(&after));
    // Another client reads what we wrote.
    let told = std::process::Command::new("skopeo")
        .args(["list-tags", "--tls-verify=false", "--authfile"])
        .arg(&file)
        .arg(format!("docker://{name}/no/such"))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.contains("404 (Not Found)"), "the login did, the repository is not there: {told}");

    assert!(images.logout(&name).await.unwrap());
    assert!(!images.logout(&name).await.unwrap());
    let gone = images.pull(&image, None, &Progress::default()).await.unwrap_err();
    assert!(sentence(&gone).contains("HTTP 401"), "{}", sentence(&gone));
}

#[tokio::test]
async fn a_login_file_that_others_can_read_is_told_where_a_login_is_needed() {
    let registry = Debian::start(true);
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let name = registry.address.to_string();
    images.login(&name, LOGIN.0, LOGIN.1).await.unwrap();
    let file = dir.path().join("docker/config.json");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let image = ImageReference::parse(&format!("{name}/no/such:t")).unwrap();
    let said = sentence(&images.pull(&image, None, &Progress::default()).await.unwrap_err());
    assert!(said.contains("chmod 600") && !said.contains(LOGIN.1), "{said}");
}

/// `/v2/` wants a token, `/token` gives one for the right login, and notes what it was asked.
fn with_tokens(heard: &Heard, address: std::net::SocketAddr) -> http::Reply {
    let good = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode("bob:secret"));
    let allowed = heard.header("authorization") == Some("Bearer let-me-in");
    match heard.path.split('?').next().unwrap() {
        "/token" if heard.header("authorization") == Some(&good) => {
            (200, String::new(), br#"{"token": "let-me-in"}"#.to_vec())
        }
        "/token" => (401, String::new(), br#"{"details": "incorrect username or password"}"#.to_vec()),
        "/v2/" if allowed => (200, String::new(), b"{}".to_vec()),
        "/v2/" => {
            (401, format!("WWW-Authenticate: Bearer realm=\"http://{address}/token\",service=\"toy\"\r\n"), Vec::new())
        }
        _ => (404, String::new(), Vec::new()),
    }
}

#[tokio::test]
async fn a_token_server_is_asked_with_the_login() {
    let server = Server::start(|_| None, with_tokens);
    let (dir, name) = (tempfile::tempdir().unwrap(), server.address.to_string());
    let images = open(dir.path());
    let wrong = images.login(&name, "bob", "wrong").await.unwrap_err();
    assert!(matches!(wrong, LoginError::Denied { .. }), "{}", sentence(&wrong));
    images.login(&name, "bob", "secret").await.map_err(|e| sentence(&e)).unwrap();
    assert_eq!(server.count("GET", "/token"), 2);
    let heard = server.heard.lock().unwrap();
    let paths: Vec<_> = heard.iter().map(|h| h.path.as_str()).collect();
    assert!(paths.iter().all(|p| !p.contains("secret") && !p.contains("wrong")), "{paths:?}");
    assert!(paths.iter().any(|p| p.contains("service=toy")), "{paths:?}");
}

#[tokio::test]
async fn what_is_no_registry_or_does_not_answer_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (registry, user, words) in [
        ("not a registry", "u", "is not a registry"),
        ("r.example", "", "a user and a password are needed"),
        ("r.example", "a:b", "holds no colon"),
        (closed.to_string().as_str(), "u", "could not be asked whether it takes the login; nothing was kept"),
    ] {
        let said = sentence(&images.login(registry, user, "hunter2").await.unwrap_err());
        assert!(said.contains(words) && !said.contains("hunter2"), "{said}");
    }
    assert!(!dir.path().join("docker").exists());
}

#[tokio::test]
async fn a_helper_keeps_the_login_and_gives_it_to_pulls() {
    let registry = Debian::start(true);
    let (dir, name) = (tempfile::tempdir().unwrap(), registry.address.to_string());
    let images = open(dir.path());
    let file = dir.path().join("docker/config.json");
    std::fs::create_dir(dir.path().join("docker")).unwrap();
    std::fs::write(&file, r#"{"credsStore": "toy"}"#).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let helper = dir.path().join("docker-credential-toy");
    let script = "#!/bin/sh\necho \"$1\" >> \"$0.calls\"\ncase $1 in\nstore) cat > \"$0.kept\";;\nget) cat \"$0.kept\" 2>/dev/null || { echo credentials not found; exit 1; };;\nerase) rm -f \"$0.kept\";;\nesac\n";
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let done = images.login(&name, LOGIN.0, LOGIN.1).await.map_err(|e| sentence(&e)).unwrap();
    assert_eq!(done.kept, Kept::Helper("toy".into()));
    assert!(!std::fs::read_to_string(&file).unwrap().contains(LOGIN.1));
    let image = ImageReference::parse(&format!("{name}/no/such:t")).unwrap();
    let said = sentence(&images.pull(&image, None, &Progress::default()).await.unwrap_err());
    assert!(said.contains("does not exist"), "{said}");
    let calls = std::fs::read_to_string(dir.path().join("docker-credential-toy.calls")).unwrap();
    assert_eq!(calls, "store\nget\n", "once for the whole pull");
    assert!(images.logout(&name).await.unwrap());
    assert!(!dir.path().join("docker-credential-toy.kept").exists());
}
