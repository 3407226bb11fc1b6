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
    insta::assert_snapshot!(told(text, &[]), @r#"
    error: shop.yaml:3:5: unknown key "imgae" in `service`
        |
      3 |     imgae: nginx
        |     ^^^^^
      = did you mean `image`?
    "#);
}

#[test]
fn a_key_that_slipped_out_of_its_service() {
    let text = "services:\n  web:\n    image: nginx\n    network_mode: none\nimgae: busybox\n";
    insta::assert_snapshot!(told(text, &[]), @r#"
    error: shop.yaml:5:1: unknown key "imgae" in a Compose file
        |
      5 | imgae: busybox
        | ^^^^^
      = did you mean `image`? it belongs into a `service`; look at the indentation
    "#);
}

#[test]
fn a_value_of_the_wrong_kind() {
    let text = "services:\n  web:\n    image: nginx\n    command: {run: it}\n    tty: sometimes\n";
    insta::assert_snapshot!(told(text, &[]), @r#"
    error: shop.yaml:4:14: `services.web.command`: expected text or a list, found a map
        |
      4 |     command: {run: it}
        |              ^
    error: shop.yaml:5:10: `services.web.tty`: expected true or false, found text "sometimes"
        |
      5 |     tty: sometimes
        |          ^^^^^^^^^
    "#);
}

#[test]
fn a_key_given_twice() {
    insta::assert_snapshot!(told("services:\n  web:\n    image: a\n    image: b\n", &[]), @r#"
    error: shop.yaml:4:5: the key "image" is given twice; first on line 3
        |
      4 |     image: b
        |     ^^^^^
    "#);
}

#[test]
fn a_tab() {
    insta::assert_snapshot!(told("services:\n  web:\n\t\timage: a\n", &[]), @r#"
    error: shop.yaml:3:1: a tab indents this line; YAML is indented by spaces
        |
      3 |   image: a
        | ^
      = replace the tab by spaces
    "#);
}

#[test]
fn a_quote_that_is_not_closed() {
    insta::assert_snapshot!(told("services:\n  web:\n    image: \"a\n", &[]), @r#"
    error: shop.yaml:3:12: the quote that begins here is not closed
        |
      3 |     image: "a
        |            ^
      = close it; was the file written completely?
    "#);
}

#[test]
fn a_list_that_is_not_closed() {
    insta::assert_snapshot!(told("services:\n  web:\n    command: [a, b\n", &[]), @r#"
    error: shop.yaml:3:14: the bracket `[` is not closed
        |
      3 |     command: [a, b
        |              ^
      = close it; was the file written completely?
    "#);
}

#[test]
fn keys_that_do_not_act_yet() {
    let text = "\
services:
  web:
    image: nginx
    ports: ['8080:80']
    use_api_socket: true
    logging:
      driver: syslog
models:
  data: {model: x}
";
    insta::assert_snapshot!(told(text, &[]), @r#"
    held: shop.yaml:5:5: `services.web.use_api_socket` is not supported yet: it changes what the container may do or see, and the service must not run with less or more than it asks for
        |
      5 |     use_api_socket: true
        |     ^^^^^^^^^^^^^^
      = the service is not started; without `use_api_socket` it would be
    warning: shop.yaml:8:1: `models` is not supported yet: no model is loaded
        |
      8 | models:
        | ^^^^^^
    warning: shop.yaml:6:5: `services.web.logging` is not supported yet: output goes to Longshore's own log files
        |
      6 |     logging:
        |     ^^^^^^^
    "#);
}

#[test]
fn variables() {
    let text = "services:\n  web:\n    image: nginx\n    network_mode: none\n    command: echo $A ${B:-x} $A\n";
    insta::assert_snapshot!(told(text, &[]), @r#"
    warning: shop.yaml:5:14: the variable A is not set; it is taken as empty
        |
      5 |     command: echo $A ${B:-x} $A
        |              ^^^^^^^^^^^^^^^^^^
      = set it in the `.env` file beside the state file, or give a default: ${NAME:-default}
    "#);
    let text = "services:\n  web:\n    image: nginx:${TAG}\n    network_mode: none\n";
    insta::assert_snapshot!(told(text, &[]), @r#"
    error: shop.yaml:3:12: "" is not a tag; use up to 128 letters, digits, '_', '.' and '-', not beginning with '.' or '-'
        |
      3 |     image: nginx:${TAG}
        |            ^^^^^^^^^^^^
      = its variables come from the `.env` file beside the state file; is one of them not set?
    "#);
    let text = "services:\n  web:\n    image: nginx:${TAG:?say which version}\n    command: \"a $1\"\n    user: ${X\n";
    insta::assert_snapshot!(told(text, &[]), @r#"
    error: shop.yaml:3:18: the required variable TAG is not set or empty: say which version
        |
      3 |     image: nginx:${TAG:?say which version}
        |                  ^^^^^^^^^^^^^^^^^^^^^^^^^
      = set it in the `.env` file beside the state file
    error: shop.yaml:4:17: `$` begins no variable here
        |
      4 |     command: "a $1"
        |                 ^^^
      = write `$$` for a dollar sign
    error: shop.yaml:5:11: `${` is not closed by `}`
        |
      5 |     user: ${X
        |           ^^^
      = the forms are ${A}, ${A:-default}, ${A-default}, ${A:?message}, ${A?message}, ${A:+other}, ${A+other}
    "#);
}

#[test]
fn an_image_that_is_none() {
    insta::assert_snapshot!(told("services:\n  web:\n    image: Nginx\n    network_mode: none\n", &[]), @r#"
    error: shop.yaml:3:12: "library/Nginx" is not a repository name; use lower-case letters, digits and single separators '.', '_', '__', '-', parts joined by '/'
        |
      3 |     image: Nginx
        |            ^^^^^
    "#);
}

#[test]
fn a_service_name_that_leads_elsewhere() {
    insta::assert_snapshot!(told("services:\n  ../../x:\n    image: nginx\n    network_mode: none\n", &[]), @r#"
    error: shop.yaml:2:3: the service name "../../x" may hold only letters, digits, '.', '-' and '_', and must begin with a letter or a digit
        |
      2 |   ../../x:
        |   ^^^^^^^
    "#);
}

#[test]
fn files_that_are_referred_to() {
    let text = "services:\n  web:\n    image: nginx\n    network_mode: none\n    env_file: [a.env, b.env]\n";
    insta::assert_snapshot!(told(text, &[("b.env", "root:x:0:0\nhidden words\n")]), @r#"
    error: shop.yaml:5:16: the file "a.env" is not used: it does not exist
        |
      5 |     env_file: [a.env, b.env]
        |                ^^^^^
    error: shop.yaml:5:23: the env file "b.env" is not used: line 2: an `=` is expected after the name of the variable
        |
      5 |     env_file: [a.env, b.env]
        |                       ^^^^^
    "#);
    insta::assert_snapshot!(told(text, &[(".env", "A=1\n=2\n")]), @r#"
    error: .env:2:1: the name of a variable is expected, as in NAME=value
    "#);
}

#[test]
fn bytes_that_are_no_text() {
    let problems = crate::spec::samples::read_bytes(b"services:\n  a: \xff\xfe\n", &[]).unwrap_err();
    insta::assert_snapshot!(shown(&problems), @r#"
    error: shop.yaml:2:6: the file is not UTF-8: byte 0xff at offset 15 begins no character
        |
      2 |   a: 
        |      ^
      = save the file as UTF-8
    "#);
}
