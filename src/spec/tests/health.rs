//! How health is checked, and what follows from it.

use crate::model::{HealthCheck, HealthPolicy, HealthTest, OnUnhealthy, Probe};
use crate::spec::samples::{good, refusal, service};

fn check(lines: &str) -> HealthCheck {
    service(lines).health.check
}

fn test(lines: &str) -> Option<HealthTest> {
    check(lines).test
}

#[test]
fn a_test_is_read_in_all_its_forms() {
    let shell = |line: &str| Some(HealthTest::Shell(line.to_owned()));
    let words = ["curl", "-f", "a b"].map(str::to_owned).to_vec();
    for (written, wanted) in [
        ("curl -f x || exit 1", shell("curl -f x || exit 1")),
        ("[CMD, curl, -f, 'a b']", Some(HealthTest::Command(words))),
        ("[CMD-SHELL, 'curl -f x']", shell("curl -f x")),
        ("[NONE]", Some(HealthTest::Nothing)),
        ("[]", None),
        ("''", None),
    ] {
        assert_eq!(test(&format!("healthcheck: {{test: {written}}}")), wanted, "{written}");
    }
    assert_eq!(test("healthcheck: {disable: true}"), Some(HealthTest::Nothing));
    assert_eq!(test("healthcheck: {disable: true, test: x}"), Some(HealthTest::Nothing));
    assert_eq!(test("healthcheck: {disable: false, test: x}"), shell("x"));
    assert_eq!(service("").health, HealthPolicy::default());
}

#[test]
fn what_is_not_given_is_left_to_the_image() {
    let times = "healthcheck: {interval: 1m30s, timeout: 10s, retries: 5, start_period: 40s, start_interval: 500ms}";
    assert_eq!(
        check(times),
        HealthCheck {
            test: None,
            interval_ms: Some(90_000),
            timeout_ms: Some(10_000),
            retries: Some(5),
            start_period_ms: Some(40_000),
            start_interval_ms: Some(500),
        }
    );
    let none = "healthcheck: {interval: 0s, timeout: 0s, retries: 0, start_period: 0s, start_interval: 0s}";
    assert_eq!(check(none), HealthCheck::default());
}

#[test]
fn a_probe_stands_for_a_test() {
    let probe = |written: &str| match test(&format!("x-longshore: {{probe: {written}}}")) {
        Some(HealthTest::Probe(probe)) => probe,
        other => panic!("{other:?}"),
    };
    let http = |path: &str, tls, status| Probe::Http { port: 80, path: path.into(), tls, status };
    assert_eq!(probe("{http: {port: 80}}"), http("/", false, (200, 399)));
    assert_eq!(
        probe("{http: {port: 80, path: /up?x=1, scheme: https, status: 204}}"),
        http("/up?x=1", true, (204, 204))
    );
    assert_eq!(probe("{http: {port: 80, status: 200-299}}"), http("/", false, (200, 299)));
    assert_eq!(probe("{tcp: {port: 5432}}"), Probe::Tcp { port: 5_432 });
    assert_eq!(probe("{grpc: {port: 1}}"), Probe::Grpc { port: 1, service: String::new() });
    assert_eq!(probe("{grpc: {port: 1, service: a.B}}"), Probe::Grpc { port: 1, service: "a.B".into() });
    let times = check("x-longshore: {probe: {tcp: {port: 1}}}\nhealthcheck: {interval: 2s}");
    assert_eq!(times.interval_ms, Some(2_000));
}

#[test]
fn the_reaction_of_a_service_is_that_of_all_where_it_has_none() {
    let text = "x-longshore: {on_unhealthy: stop}\nservices:\n  a: {image: b, network_mode: none}\n  c: {image: b, network_mode: none, x-longshore: {on_unhealthy: restart}}";
    let reactions: Vec<_> = good(text).project.services.into_values().map(|s| s.health.on_unhealthy).collect();
    assert_eq!(reactions, [Some(OnUnhealthy::Stop), Some(OnUnhealthy::Restart)]);
}

#[test]
fn what_means_nothing_is_an_error_with_its_place() {
    for (lines, message) in [
        ("healthcheck: {test: [curl, x]}", "4:25 \"curl\" is no way to run a check"),
        ("healthcheck: {test: [CMD]}", "4:25 CMD names no command"),
        ("healthcheck: {test: [CMD-SHELL, a, b]}", "4:25 CMD-SHELL takes one text, which the shell reads"),
        ("healthcheck: {retries: -1}", "4:28 `healthcheck.retries` is -1: expected a whole number from 0 to 1000000"),
        ("x-longshore: {probe: {}}", "4:26 the probe names nothing to connect to"),
        ("x-longshore: {probe: {tcp: {port: 1}, http: {port: 1}}}", "4:26 the probe is one of several kinds"),
        ("x-longshore: {probe: {http: {path: /}}}", "4:26 the http probe has no port"),
        ("x-longshore: {probe: {http: {port: 80, path: up}}}", "4:50 \"up\" is not the path of a URL"),
        ("x-longshore: {probe: {http: {port: 80, status: 700}}}", "4:52 \"700\" is no status of HTTP"),
        ("x-longshore: {probe: {http: {port: 80, status: 299-200}}}", "4:52 \"299-200\" is no status of HTTP"),
        (
            "healthcheck: {test: x}\nx-longshore: {probe: {tcp: {port: 1}}}",
            "5:19 `healthcheck.test` and `x-longshore.probe` say two things of what is tried",
        ),
    ] {
        assert_eq!(refusal(lines), message, "{lines}");
    }
    for lines in [
        "x-longshore: {on_unhealthy: reboot}",
        "x-longshore: {probe: {tcp: {port: 0}}}",
        "x-longshore: {probe: {tcp: {port: 65536}}}",
        "x-longshore: {probe: {http: {port: 80, path: \"/a b\"}}}",
        "x-longshore: {probe: {http: {port: 80, path: \"/a\\r\\nX: y\"}}}",
        "x-longshore: {probe: {http: {port: 80, scheme: ftp}}}",
    ] {
        refusal(lines);
    }
}
