//! Which services take part, and what is said of those that do not.

use std::path::Path;

use crate::spec::samples::{Memory, read_with, shown};
use crate::spec::{Document, Input, parse};

fn read(text: &str, profiles: &[&str]) -> Document {
    let profiles: Vec<String> = profiles.iter().map(|&name| name.to_owned()).collect();
    let input = Input {
        path: Path::new("shop.yaml"),
        text: text.as_bytes(),
        default_name: "shop",
        default_registry: "docker.io",
        profiles: &profiles,
        files: &Memory(&[]),
        key: Default::default(),
    };
    parse(&input).unwrap_or_else(|problems| panic!("{text}\n{}", shown(&problems)))
}

fn services(document: &Document) -> String {
    document.project.services.keys().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

const THREE: &str = "\
services:
  always: {image: b}
  none: {image: b, profiles: []}
  one: {image: b, profiles: [debug]}
  two: {image: b, profiles: [front, debug]}
";

#[test]
fn a_service_takes_part_without_profiles_or_when_one_of_them_is_chosen() {
    for (chosen, expected) in [
        (&[][..], "always none"),
        (&["debug"], "always none one two"),
        (&["front"], "always none two"),
        (&["front", "other"], "always none two"),
        (&["Debug"], "always none"),
        (&["*"], "always none one two"),
    ] {
        let document = read(THREE, chosen);
        assert_eq!((services(&document).as_str(), document.warnings.len()), (expected, 0), "{chosen:?}");
        let out = document.project.unchosen;
        assert_eq!(out.len() + expected.split(' ').count(), 4, "{out:?}");
    }
    let out: Vec<String> = read(THREE, &[]).project.unchosen.iter().map(|of| format!("{of:?}")).collect();
    assert_eq!(out, [r#"(ServiceName("one"), ["debug"])"#, r#"(ServiceName("two"), ["front", "debug"])"#]);
}

#[test]
fn a_file_chooses_for_itself() {
    for (own, chosen, expected) in [
        ("[front]", &[][..], "always none two"),
        ("[front]", &["debug"], "always none one two"),
        ("['*']", &[], "always none one two"),
        ("[]", &[], "always none"),
    ] {
        let document = read(&format!("{THREE}x-longshore: {{profiles: {own}}}\n"), chosen);
        assert_eq!(services(&document), expected, "{own} {chosen:?}");
        assert_eq!(document.warnings, []);
    }
}

#[test]
fn a_choice_of_nothing_is_told() {
    let document = read(&format!("{THREE}x-longshore: {{profiles: [debig]}}\n"), &[]);
    insta::assert_snapshot!(shown(&document.warnings), @r#"
    warning: shop.yaml:6:26: no service of the file has the profile "debig"
        |
      6 | x-longshore: {profiles: [debig]}
        |                          ^^^^^
      = it chooses nothing; name it in the `profiles` of a service, or remove it here
    "#);
    let text = "services: {a: {image: b, x-longshore: {profiles: [x]}}}";
    let said = shown(&read(text, &[]).warnings);
    assert!(said.contains("the service \"a\" chooses profiles, which are chosen for the whole file"), "{said}");
}

#[test]
fn what_comes_after_a_service_that_is_not_chosen_waits_for_it_unless_it_need_not() {
    let text = |required: bool| {
        format!(
            "services:\n  a:\n    image: b\n    depends_on: {{db: {{condition: service_started, required: {required}}}}}\n  db: {{image: b, profiles: [data]}}\n"
        )
    };
    let depends = |document: &Document| {
        let all = document.project.services.values().next().unwrap().depends.iter().map(ToString::to_string);
        all.collect::<Vec<_>>()
    };
    let waits = read(&text(true), &[]);
    assert_eq!(depends(&waits), ["shop/db service_started"]);
    insta::assert_snapshot!(shown(&waits.warnings), @r#"
    warning: shop.yaml:4:18: the service "db" has to come first, and it is not chosen: it asks for the profile `data`
        |
      4 |     depends_on: {db: {condition: service_started, required: true}}
        |                  ^^
      = choose it (`x-longshore: {profiles: [..]}`, or `profiles` of the configuration), or write `required: false` here
    "#);
    for document in [read(&text(false), &[]), read(&text(true), &["data"])] {
        assert_eq!((depends(&document).len(), document.warnings.len()), (1, 0));
    }
    let missing = read_with("services: {a: {image: b, depends_on: [gone]}}", &[]).expect_err("it is not in the file");
    assert!(shown(&missing).contains("there is no service \"gone\" in the file"));
}
