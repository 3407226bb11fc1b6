//! What owners read most, word for word.

use crate::spec::samples::{read_with, shown};

/// Everything there is to say about a file.
fn told(text: &str, files: &[(&str, &str)]) -> String {
    match read_with(text, files) {
        Err(problems) => shown(&problems),
        Ok(document) => {
            let held = document.project.services.values().flat_map(|service| &service.holds);
            let all: Vec<_> = held.map(|hold| hold.problem.clone()).chain(document.warnings).collect();
            shown(&all)
        }
    }
}

#[test]
fn a_misspelt_key() {
    let text = "services:\n  web:\n    imgae: nginx\n    network_mode: none\n";
    insta::assert_snapshot!(told(text, &[]), @"");
}

#[test]
fn a_value_of_the_wrong_kind() {
    let text = "services:\n  web:\n    image: nginx\n    command: {run: it}\n    tty: sometimes\n";
    insta::assert_snapshot!(told(text, &[]), @"");
}

#[test]
fn a_key_given_twice() {
    insta::assert_snapshot!(told("services:\n  web:\n    image: a\n    image: b\n", &[]), @"");
}

#[test]
fn a_tab() {
    insta::assert_snapshot!(told("services:\n  web:\n\t\timage: a\n", &[]), @"");
}

#[test]
fn a_quote_that_is_not_closed() {
    insta::assert_snapshot!(told("services:\n  web:\n    image: \"a\n", &[]), @"");
}

#[test]
fn a_list_that_is_not_closed() {
    insta::assert_snapshot!(told("services:\n  web:\n    command: [a, b\n", &[]), @"");
}

#[test]
fn a_default_network() {
    insta::assert_snapshot!(told("services:\n  web:\n    image: nginx\n", &[]), @"");
}

#[test]
fn keys_that_do_not_act_yet() {
    let text = "\
services:
  web:
    image: nginx
    network_mode: none
    ports: ['8080:80']
    volumes:
      - data:/var/lib/data
    healthcheck:
      test: curl localhost
volumes:
  data:
";
    insta::assert_snapshot!(told(text, &[]), @"");
}

#[test]
fn variables() {
    let text = "services:\n  web:\n    image: nginx:${TAG}\n    network_mode: none\n    command: echo ${B:-x}\n";
    insta::assert_snapshot!(told(text, &[]), @"");
    let text = "services:\n  web:\n    image: nginx:${TAG:?say which version}\n    command: \"a $1\"\n    user: ${X\n";
    insta::assert_snapshot!(told(text, &[]), @"");
}

#[test]
fn an_image_that_is_none() {
    insta::assert_snapshot!(told("services:\n  web:\n    image: Nginx\n    network_mode: none\n", &[]), @"");
}

#[test]
fn a_service_name_that_leads_elsewhere() {
    insta::assert_snapshot!(told("services:\n  ../../x:\n    image: nginx\n    network_mode: none\n", &[]), @"");
}

#[test]
fn files_that_are_referred_to() {
    let text = "services:\n  web:\n    image: nginx\n    network_mode: none\n    env_file: [a.env, b.env]\n";
    insta::assert_snapshot!(told(text, &[("b.env", "root:x:0:0\nhidden words\n"), (".env", "A=1\n=2\n")]), @"");
}

#[test]
fn bytes_that_are_no_text() {
    let problems = crate::spec::samples::read_bytes(b"services:\n  a: \xff\xfe\n", &[]).unwrap_err();
    insta::assert_snapshot!(shown(&problems), @"");
}
