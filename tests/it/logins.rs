//! Logins from the command line, at a registry that asks for them.

#[path = "../image_support/debian.rs"]
mod debian;

use std::io::Write as _;
use std::process::Stdio;

use debian::{Debian, LOGIN};
use serde_json::json;

use super::support::Lab;

#[test]
fn a_login_from_the_command_line_reaches_the_file_and_nothing_else() {
    let registry = Debian::start(true);
    let name = registry.address.to_string();
    let mut lab = Lab::stopped(&json!({}));
    let file = lab.dir.join("logins/config.json");
    let config = json!({"debug": true, "login-files": [file], "insecure-registries": ["lab.example:5000"]});
    std::fs::write(lab.dir.join("config.json"), config.to_string()).unwrap();
    lab.start();
    let login = |password: &str| {
        let mut command = lab.client(&["login", "-u", LOGIN.0, "--password-stdin", &name]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let (code, said) = login("wrong-secret");
    assert!(code == Some(1) && said.contains("the user or the password is wrong; nothing was kept"), "{said}");
    assert!(!file.exists());
    let (code, said) = login(LOGIN.1);
    assert!(code == Some(0) && said.contains(&format!("logged in at {name}")), "{said}");
    assert!(said.contains("kept unencrypted in"), "{said}");
    assert!(std::fs::read_to_string(&file).unwrap().contains(&name));
    let asked = lab.cli(&["login", &name]);
    let said = String::from_utf8(asked.stderr).unwrap();
    assert!(said.contains("use --username USER --password-stdin"), "{said}");
    assert_eq!(lab.cli(&["login", "-p", "x", &name]).status.code(), Some(1), "no password on a command line");

    let out = String::from_utf8(lab.cli(&["logout", &name]).stdout).unwrap();
    assert_eq!(out, format!("the login at {name} is forgotten\n"));
    let out = String::from_utf8(lab.cli(&["logout", &name]).stdout).unwrap();
    assert_eq!(out, format!("there was no login at {name}\n"));

    let status = lab.status();
    assert!(status["loosenings"].to_string().contains("lab.example:5000 is spoken to by plain HTTP"), "{status}");
    let events = String::from_utf8(lab.cli(&["status", "--json"]).stdout).unwrap();
    for text in [lab.log(), events] {
        assert!(!text.contains(LOGIN.1) && !text.contains("wrong-secret"), "a secret is shown: {text}");
    }
    lab.finish();
}
