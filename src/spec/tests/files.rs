//! `configs` and `secrets`, in all their forms.

use std::path::Path;

use crate::model::{FingerprintKey, MountedFile, Problem};
use crate::spec::samples::{Memory, hash_with, read_with, shown};
use crate::spec::{Document, FileError, Files, Input, parse};

const FILES: &[(&str, &str)] = &[("a.txt", "from a file"), (".env", "V=from a variable"), ("sub/b.age", "sealed:b")];

fn text(service: &str) -> String {
    format!(
        "services: {{a: {{image: b, network_mode: none, {service}}}}}\n\
        configs: {{f: {{file: a.txt}}, e: {{environment: V}}, c: {{content: 'and $V'}}, gone: {{file: gone}}}}\n\
        secrets: {{s: {{file: a.txt}}, v: {{environment: V}}, x: {{external: true}}, y: {{external: true, name: kept}}, \
        b: {{file: sub/b.age}}, bad: {{file: a.age}}}}\n"
    )
}

/// A host that keeps one secret and decrypts what begins with `sealed:`.
struct Host(Memory<'static>);

impl Files for Host {
    fn read(&self, relative: &Path) -> Result<Vec<u8>, FileError> {
        self.0.read(relative)
    }
    fn read_secret(&self, relative: &Path) -> Result<(Vec<u8>, bool), FileError> {
        Ok((self.read(relative)?, relative == Path::new("a.txt")))
    }
    fn external_secret(&self, name: &str) -> Result<Vec<u8>, FileError> {
        if name == "kept" { Ok(b"kept here".to_vec()) } else { Err(FileError::Missing) }
    }
    fn decrypt(&self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        bytes.strip_prefix(b"sealed:").map(<[u8]>::to_vec).ok_or_else(|| "is not encrypted to this host".to_owned())
    }
}

fn read(text: &str, files: &'static [(&'static str, &'static str)]) -> Result<Document, Vec<Problem>> {
    parse(&Input {
        path: Path::new("shop.yaml"),
        text: text.as_bytes(),
        default_name: "shop",
        default_registry: "docker.io",
        profiles: &[],
        files: &Host(Memory(files)),
        key: FingerprintKey([7; 32]),
    })
}

fn told(file: &MountedFile) -> String {
    let content = file.content.as_ref().map(|content| String::from_utf8_lossy(content.expose()).into_owned());
    let id = |id: Option<u32>| id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    let (uid, gid) = (id(file.uid), id(file.gid));
    format!("{} {uid}:{gid} {:04o} {:?} {}", file.target, file.mode, file.on_change, content.unwrap_or_default())
}

#[test]
fn every_form_is_read() {
    for (service, expected) in [
        ("configs: [f]", "/f -:- 0444 Recreate from a file"),
        ("configs: [e]", "/e -:- 0444 Recreate from a variable"),
        ("configs: [c]", "/c -:- 0444 Recreate and from a variable"),
        ("configs: [{source: f}]", "/f -:- 0444 Recreate from a file"),
        ("configs: [{source: f, target: /etc/a/../b.conf}]", "/etc/b.conf -:- 0444 Recreate from a file"),
        (
            "configs: [{source: f, target: b.conf, uid: '103', gid: 104, mode: 0440}]",
            "/b.conf 103:104 0440 Recreate from a file",
        ),
        ("configs: [{source: f, mode: '0o600'}]", "/f -:- 0600 Recreate from a file"),
        ("configs: [{source: f, mode: '640'}]", "/f -:- 0640 Recreate from a file"),
        ("configs: [{source: f, mode: 288}]", "/f -:- 0440 Recreate from a file"),
        ("secrets: [s]", "/run/secrets/s -:- 0400 Recreate from a file"),
        ("secrets: [v]", "/run/secrets/v -:- 0400 Recreate from a variable"),
        ("secrets: [y]", "/run/secrets/y -:- 0400 Recreate kept here"),
        ("secrets: [b]", "/run/secrets/b -:- 0400 Recreate b"),
        ("secrets: [{source: s, target: t}]", "/run/secrets/t -:- 0400 Recreate from a file"),
        ("secrets: [{source: s, target: /t, mode: 0444}]", "/t -:- 0444 Recreate from a file"),
        ("secrets: [{source: s, uid: 0}]", "/run/secrets/s 0:- 0400 Recreate from a file"),
        ("secrets: [s], x-longshore: {on_change: restart}", "/run/secrets/s -:- 0400 Restart from a file"),
        (
            "secrets: [s], x-longshore: {on_change: {signal: HUP}}",
            "/run/secrets/s -:- 0400 Signal(Signal(1)) from a file",
        ),
        (
            "secrets: [{source: s, x-longshore: {on_change: update}}], x-longshore: {on_change: restart}",
            "/run/secrets/s -:- 0400 Update from a file",
        ),
    ] {
        let document = read(&text(service), FILES).unwrap_or_else(|problems| panic!("{service}\n{}", shown(&problems)));
        let service_a = document.project.services.values().next().unwrap();
        assert_eq!(service_a.files.iter().map(told).collect::<Vec<_>>(), [expected], "{service}");
        assert!(service_a.holds.is_empty(), "{service}");
        assert!(!format!("{document:?}").contains("from a file"), "contents are shown nowhere");
    }
    let everywhere = format!("{}x-longshore: {{on_change: update}}\n", text("configs: [f]"));
    let document = read(&everywhere, FILES).unwrap();
    assert_eq!(told(&document.project.services.values().next().unwrap().files[0]), "/f -:- 0444 Update from a file");
}

#[test]
fn what_is_wrong_is_told() {
    for (service, files, expected) in [
        ("configs: [ff]", FILES, "there is no config \"ff\" in the file"),
        ("secrets: [f]", FILES, "there is no secret \"f\" in the file"),
        ("configs: [gone]", FILES, "the config \"gone\" is not read from \"gone\": it does not exist"),
        ("configs: [e]", &[], "the config \"e\" is the variable \"V\", which is not set"),
        ("secrets: [bad]", &[("a.age", "x")], "the secret \"bad\" in \"a.age\" is not encrypted to this host"),
        ("secrets: [x]", &[("x.age", "x")], "the secret \"x\" in \"x.age\" is not encrypted to this host"),
        ("configs: [{source: f, uid: root}]", FILES, "`uid` is \"root\": expected a number"),
        ("configs: [{source: f, mode: 0999}]", FILES, "\"0999\" is not a mode"),
        ("configs: [{source: f, mode: 04755}]", FILES, "\"04755\" is not a mode"),
        ("configs: [{source: f, target: /}]", FILES, "\"/\" is not a place for a file"),
        ("configs: [{source: f, target: /proc/x}]", FILES, "\"/proc/x\" is not a place for a file"),
        ("configs: [{target: /x}]", FILES, "`source` is missing: which config?"),
        ("configs: [f, {source: c, target: /f}]", FILES, "the place \"/f\" is taken by the config \"f\""),
        ("tmpfs: [/f], configs: [f]", FILES, "the place \"/f\" is taken by a mount"),
        (
            "configs: [f], x-longshore: {on_change: {signal: KILL}}",
            FILES,
            "\"KILL\" is not a signal that a process can answer",
        ),
        ("configs: [f], x-longshore: {on_change: {}}", FILES, "`on_change` names no signal"),
    ] {
        let problems = read(&text(service), files).expect_err(service);
        assert_eq!(problems.len(), 1, "{service}\n{}", shown(&problems));
        assert_eq!(problems[0].message, expected, "{service}");
        assert!(problems[0].location.line > 0);
    }
    for (definition, expected) in [
        ("configs: {f: }", "the config \"f\" has no source"),
        ("secrets: {f: {file: a, environment: V}}", "the secret \"f\" has more than one source"),
        ("configs: {f: {content: a, external: true}}", "the config \"f\" has more than one source"),
    ] {
        let problems = read(&format!("services: {{a: {{image: b}}}}\n{definition}\n"), FILES).expect_err(definition);
        assert_eq!(problems[0].message, expected, "{}", shown(&problems));
    }
    let large: &'static str = Box::leak("x".repeat((1 << 20) + 1).into_boxed_str());
    let files: &'static [(&str, &str)] = Box::leak(vec![("a.txt", large)].into_boxed_slice());
    assert_eq!(read(&text("configs: [f]"), files).unwrap_err()[0].message, "the config \"f\" is larger than 1024 KiB");
}

#[test]
fn what_is_not_there_yet_holds_its_service() {
    for (text, expected) in [
        (text("secrets: [x]"), "the secret \"x\" is not there yet"),
        (
            "services: {a: {image: b, network_mode: none, configs: [f]}}\nconfigs: {f: {external: true}}".to_owned(),
            "the config \"f\" is external, and configs are kept nowhere but in files",
        ),
        (
            "services: {a: {image: b, network_mode: none, secrets: [f]}}\nsecrets: {f: {driver: vault, file: a}}"
                .to_owned(),
            "the secret \"f\" is made by a driver, and there is none",
        ),
    ] {
        let document = read(&text, FILES).unwrap();
        let service = document.project.services.values().next().unwrap();
        assert_eq!(service.holds[0].problem.message, expected);
    }
    // Nobody uses them: nothing is asked of them.
    assert!(read(&text("tty: true"), FILES).is_ok());
}

#[test]
fn who_may_read_a_secret_file_and_what_a_mode_means_is_warned_of() {
    let warnings = |service: &str| shown(&read(&text(service), FILES).unwrap().warnings);
    assert!(warnings("secrets: [s]").contains("anybody on this machine may read the secret \"s\" in \"a.txt\""));
    assert_eq!(warnings("secrets: [v, b, y]"), "");
    assert!(warnings("configs: [{source: f, mode: 440}]").contains("it is decimal, which is 0670"));
}

#[test]
fn values_that_look_like_secrets_are_warned_of_without_them() {
    let warnings = |environment: &str| {
        let text = format!("services:\n  a:\n    image: b\n    network_mode: none\n    environment:\n{environment}");
        shown(&read_with(&text, &[(".env", "P=x")]).unwrap().warnings)
    };
    let told = warnings("      DB_PASSWORD: hunter2\n      JWT_SECRET: hunter3\n      A: b\n");
    assert!(told.contains("values that look like secrets, in clear: DB_PASSWORD, JWT_SECRET"), "{told}");
    assert!(!told.contains("hunter"), "{told}");
    for harmless in [
        "DB_PASSWORD: $P",
        "DB_PASSWORD: ''",
        "DB_PASSWORD_FILE: /x",
        "ALLOW_EMPTY_PASSWORD: 'yes'",
        "SECRET: /run/x",
        "NO_PASSWORDS: a",
    ] {
        assert_eq!(warnings(&format!("      {harmless}\n")), "", "{harmless}");
    }
}

#[test]
fn the_content_counts_where_a_change_makes_the_container_anew() {
    let hash = |service: &str, content: &str| {
        let text =
            format!("services: {{a: {{image: b, network_mode: none, {service}}}}}\nconfigs: {{f: {{file: a}}}}\n");
        hash_with(&text, &[("a", content)])
    };
    assert_ne!(hash("configs: [f]", "1"), hash("configs: [f]", "2"));
    assert_eq!(hash("configs: [f]", "1"), hash("configs: [{source: f, mode: 0444}]", "1"));
    for reaction in ["restart", "update", "{signal: HUP}"] {
        let service = format!("configs: [f], x-longshore: {{on_change: {reaction}}}");
        assert_eq!(hash(&service, "1"), hash(&service, "2"), "{reaction}");
    }
    let mut seen = vec![hash("tty: false", "1")];
    for service in [
        "configs: [f]",
        "configs: [{source: f, target: /x}]",
        "configs: [{source: f, uid: 1}]",
        "configs: [{source: f, gid: 1}]",
        "configs: [{source: f, mode: 0400}]",
    ] {
        let hash = hash(service, "1");
        assert!(!seen.contains(&hash), "{service}");
        seen.push(hash);
    }
}
