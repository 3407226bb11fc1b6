//! Texts that are no state file: each is one clear message, quickly and within bounds.

use std::time::{Duration, Instant};

use crate::spec::samples::{read_bytes, shown};

/// The place and the beginning of the first message.
fn first(text: &[u8]) -> String {
    let started = Instant::now();
    let problems = read_bytes(text, &[]).expect_err("this must be refused");
    // Far above what it takes; far below what an expansion without bounds would take.
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(shown(&problems).len() < 100_000);
    format!("{} {}", problems[0].location, problems[0].message)
}

#[test]
fn texts_that_say_nothing() {
    for text in ["", "\n\n", "# only a note\n", "---\n# note\n", "\u{feff}"] {
        assert!(read_bytes(text.as_bytes(), &[]).is_err(), "{text:?}");
    }
    assert_eq!(first(b""), "shop.yaml there is nothing in the file");
    assert_eq!(first(b"# x\n"), "shop.yaml there is nothing in the file");
    assert_eq!(first(b"# nothing\n---\n...\n"), "shop.yaml there is nothing in the file");
    assert_eq!(first(b"services:\n"), "shop.yaml:1:1 there is no service in the file");
    assert_eq!(first(b"name: a\n"), "shop.yaml there is no service in the file");
    assert_eq!(first(b"- a\n"), "shop.yaml:1:1 a state file is a map with `services:`, and this is a list");
    assert_eq!(first(b"hello\n"), "shop.yaml:1:1 a state file is a map with `services:`, and this is text");
}

#[test]
fn texts_that_break_off() {
    for text in [
        "services: {a: {image: b",
        "services: {a: {image: \"b",
        "services:\n  a: [",
        "services:\n  a:\n    image: 'x\n",
    ] {
        let message = first(text.as_bytes());
        assert!(message.starts_with("shop.yaml:"), "{message}");
    }
}

#[test]
fn texts_that_yaml_allows_and_we_do_not() {
    for (text, start) in [
        ("a: 1\nb: 2\na: 3\n", "shop.yaml:3:1 the key \"a\" is given twice; first on line 1"),
        ("services: {}\n---\nservices: {}\n", "shop.yaml:2:1 a second document begins here"),
        ("services: !include a.yaml\n", "shop.yaml:1:11 the tag `!include` is not supported"),
        ("services: {a: !reset null}\n", "shop.yaml:1:15 the tag `!reset` is not supported"),
        ("a: !!python/object:os.system x\n", "shop.yaml:1:4 the tag `!!python/object:os.system` is not supported"),
        ("a: &a [*a]\n", "shop.yaml:1:8 this alias refers to a value that contains it"),
        ("a: *b\n", "shop.yaml:1:4 this alias refers to an anchor"),
        ("a: {{ x }}\n", "shop.yaml:1:5 a list or a map cannot be a key"),
        ("a:\n  <<: x\n", "shop.yaml:2:7 `<<` merges maps"),
        ("services:\n\ta: b\n", "shop.yaml:2:1 a tab indents this line"),
        ("services:\n  a:\n\t\timage: b\n", "shop.yaml:3:1 a tab indents this line"),
    ] {
        let message = first(text.as_bytes());
        assert!(message.starts_with(start), "{text:?}: {message}");
    }
}

#[test]
fn texts_that_grow_or_dig() {
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    let mut merges = "m0: &m0 {a: x, b: x, c: x}\n".to_owned();
    for n in 1..30 {
        let before = n - 1;
        bomb.push_str(&format!("a{n}: &a{n} [{}]\n", vec![format!("*a{before}"); 10].join(",")));
        merges.push_str(&format!(
            "m{n}: &m{n} {{k{n}: [*m{before}, *m{before}, *m{before}], <<: [*m{before}, *m{before}]}}\n"
        ));
    }
    let blocks: String = (0..1000).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    for text in [
        bomb,
        merges,
        blocks,
        "- ".repeat(5000),
        "[".repeat(100_000),
        format!("{}{}", "{\"a\":".repeat(100_000), "}".repeat(100_000)),
        format!("a: {}", "9".repeat(1_000_000)),
        "? ".repeat(100_000),
        "&a ".repeat(100_000),
        format!("[{}", "a,".repeat(500_000)),
        "a: ".repeat(300_000),
        "'".repeat(1_000_000),
        "!".repeat(1_000_000),
        "- a\n".repeat(262_000),
        (0..90_000).map(|n| format!("k{n}: v\n")).collect(),
        format!("services: {{a: {{image: b, command: [{}]}}}}", "$1,".repeat(200_000)),
        format!("services: {{a: {{command: [{}]}}}}", (0..90_000).map(|n| format!("$v{n},")).collect::<String>()),
        format!("services: {{a: {{image: é, command: [{}]}}}}", "$1,".repeat(200_000)),
        format!("services: {{{}}}", (0..40_000).map(|n| format!("s{n}: {{image: b}},")).collect::<String>()),
    ] {
        let message = first(text.as_bytes());
        assert!(message.len() < 400, "{message}");
    }
}

#[test]
fn json_and_other_line_ends_are_read() {
    let crlf = b"\xef\xbb\xbfservices:\r\n  a:\r\n    image: busybox\r\n    network_mode: none\r\n    command: |\r\n      x\r\n      y\r\n";
    let document = read_bytes(crlf, &[]).unwrap();
    assert!(!format!("{document:?}").contains("\\r"));
    let json = b"{\n\t\"services\": {\n\t\t\"a\": {\"image\":\"busybox\", \"network_mode\":\"none\",\n\t\"command\":[\"\\u0061\\/\\ud83d\\ude00\"]}\n\t}\n}\n";
    let input = crate::spec::Input {
        path: std::path::Path::new("a.json"),
        text: json,
        default_name: "a",
        default_registry: "docker.io",
        profiles: &[],
        files: &crate::spec::samples::Memory(&[]),
        key: Default::default(),
    };
    let document = crate::spec::parse(&input).unwrap_or_else(|problems| panic!("{}", shown(&problems)));
    let service = document.project.services.values().next().unwrap();
    assert_eq!(service.process.command.as_deref().unwrap(), ["a/😀"]);
}
