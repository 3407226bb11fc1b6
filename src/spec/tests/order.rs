//! What comes after what.

use crate::spec::samples::{good, hash, read_with, shown};

#[test]
fn a_link_gives_way_to_what_is_said() {
    let both = [("a", "links: [a, b]"), ("b", "depends_on: [a]")];
    let project = good(&file(&both)).project;
    let depends: Vec<_> = project.services.values().map(|s| s.depends.len()).collect();
    assert_eq!(depends, [0, 1]);
}

/// A file with these services, each with these lines.
fn file(services: &[(&str, &str)]) -> String {
    let one = |(name, line): &(&str, &str)| {
        let network = if line.contains("network") || line.contains("links") { "" } else { "    network_mode: none\n" };
        format!("  {name}:\n    image: busybox\n{network}    {line}\n")
    };
    format!("services:\n{}", services.iter().map(one).collect::<String>())
}

fn depends(services: &[(&str, &str)]) -> Vec<String> {
    let project = good(&file(services)).project;
    project.services.values().next().unwrap().depends.iter().map(ToString::to_string).collect()
}

const DB: (&str, &str) = ("db", "tty: false");

#[test]
fn every_form_is_read() {
    for (line, expected) in [
        ("depends_on: [db]", &["shop/db service_started"][..]),
        ("depends_on: []", &[]),
        ("depends_on: {db: {condition: service_healthy}}", &["shop/db service_healthy"]),
        ("depends_on: {db: {restart: true}}", &["shop/db service_started, restart"]),
        (
            "depends_on: {db: {condition: service_completed_successfully, required: false}}",
            &["shop/db service_completed_successfully, not required"],
        ),
        ("x-longshore: {depends_on: [other/db, other/a]}", &["other/a service_started", "other/db service_started"]),
        ("x-longshore: {depends_on: {other/db: {condition: service_healthy}}}", &["other/db service_healthy"]),
        ("x-longshore: {depends_on: [shop/db]}", &["shop/db service_started"]),
        ("links: ['db:database']", &["shop/db service_started"]),
        ("volumes_from: ['db:ro']", &["shop/db service_started"]),
        ("network_mode: service:db", &["shop/db service_started"]),
    ] {
        assert_eq!(depends(&[("a", line), DB]), expected, "{line}");
    }
    // What is said with a condition wins over what is implied.
    let both = "links: [db]\n    depends_on: {db: {condition: service_healthy, restart: true}}";
    assert_eq!(depends(&[("a", both), DB]), ["shop/db service_healthy, restart"]);
}

#[test]
fn the_order_of_all_services_may_be_said_once() {
    let text = format!("{}x-longshore: {{depends_on: [base/dns]}}\n", file(&[("a", "tty: true"), DB]));
    for service in good(&text).project.services.values() {
        assert_eq!(service.depends.iter().map(ToString::to_string).collect::<Vec<_>>(), ["base/dns service_started"]);
    }
}

#[test]
fn the_order_makes_no_other_container() {
    assert_eq!(hash(&file(&[("a", "depends_on: [db]"), DB])), hash(&file(&[("a", "tty: false"), DB])));
}

#[test]
fn what_cannot_be_is_told_with_its_place() {
    for (services, expected) in [
        (&[("a", "depends_on: [bd]"), DB][..], "5:18 there is no service \"bd\" in the file; did you mean `db`?"),
        (&[("a", "depends_on: [b]"), ("cache", "tty: true")], "5:18 there is no service \"b\" in the file; -"),
        (
            &[("a", "depends_on: [a]")],
            "5:18 services come after each other in a circle: a -> a; none of them could be started; remove one of these",
        ),
        (
            &[
                ("a", "depends_on: [b]"),
                ("b", "depends_on: {c: {condition: service_healthy}}"),
                ("c", "depends_on: [a]"),
                DB,
            ],
            "5:18 services come after each other in a circle: a -> b -> c -> a; none of them could be started; remove one of these",
        ),
        (
            &[("a", "network_mode: service:b"), ("b", "depends_on: [a]")],
            "8:18 services come after each other in a circle: b -> a -> b; none of them could be started; remove one of these",
        ),
        (
            &[("a", "depends_on: {db: {condition: service_healthy}}"), ("db", "healthcheck: {disable: true}")],
            "5:18 the service \"db\" has its health check switched off, so that it is never healthy; give it a `healthcheck`, or wait for `service_started`",
        ),
        (
            &[("a", "depends_on: {db: {condition: service_healthy}}"), ("db", "healthcheck: {test: [NONE]}")],
            "5:18 the service \"db\" has its health check switched off, so that it is never healthy; give it a `healthcheck`, or wait for `service_started`",
        ),
        (
            &[("a", "x-longshore: {depends_on: [db]}"), DB],
            "5:32 \"db\" names no project; services of the same file belong into `depends_on`; write PROJECT/SERVICE",
        ),
        (
            &[("a", "x-longshore: {depends_on: [shop/bd]}"), DB],
            "5:32 there is no service \"bd\" in the file; did you mean `db`?",
        ),
    ] {
        let problems = read_with(&file(services), &[]).expect_err(expected);
        let told = |p: &crate::model::Problem| {
            let hint = p.hint.as_deref().unwrap_or("-");
            format!("{}:{} {}; {hint}", p.location.line, p.location.column, p.message)
        };
        assert_eq!(problems.iter().map(told).collect::<Vec<_>>(), [expected]);
    }
}

#[test]
fn what_is_not_required_is_only_warned_of() {
    let document = good(&file(&[("a", "depends_on: {bd: {required: false}}"), DB]));
    assert!(document.project.services.values().all(|service| service.depends.is_empty()));
    let said = shown(&document.warnings);
    assert!(said.contains("there is no service \"bd\" in the file; it is not waited for"), "{said}");
    assert!(said.contains("5:18") && said.contains("did you mean `db`?"), "{said}");
}

#[test]
fn circles_of_shared_networks_and_mounts_hold_their_services_alone() {
    let document = good(&file(&[("a", "network_mode: service:b"), ("b", "network_mode: service:a"), DB]));
    assert!(document.project.services.values().filter(|service| !service.holds.is_empty()).count() == 2);
}
