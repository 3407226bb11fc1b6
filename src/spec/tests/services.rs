//! What keys become in the model.

use crate::model::{EnvVar, NetworkMode, PullPolicy, RestartPace, RestartPolicy, Signal};
use crate::spec::samples::{good, read_with, refusal, service, shown};

#[test]
fn a_service_is_what_its_file_says() {
    let text = "\
version: '3.8'
name: site
services:
  web:
    image: 127.0.0.1:5000/test/busybox:1
    platform: linux/aarch64
    command: httpd -f -p '80 80'
    entrypoint: [/bin/sh, -c]
    environment: {A: 1.10, B: 0755, C: '22:22', D: yes, E: true, F: , G: 22:22}
    working_dir: /srv
    user: 1000:app
    hostname: web.example
    labels: [a=b, c]
    annotations: {k: v}
    container_name: site_web
    restart: on-failure:3
    stop_signal: SIGRTMIN+3
    stop_grace_period: 1m30s
    network_mode: host
    pull_policy: every_12h
    read_only: true
    tty: yes
    stdin_open: 'true'
    init: true
";
    let document = good(text);
    assert_eq!(document.warnings, []);
    assert_eq!(document.project.name.as_str(), "site");
    let web = document.project.services.values().next().unwrap();
    assert_eq!(web.image.as_ref().unwrap().to_string(), "127.0.0.1:5000/test/busybox:1");
    assert_eq!(web.platform.as_ref().unwrap().to_string(), "linux/arm64");
    let process = &web.process;
    assert_eq!(process.command.as_deref().unwrap(), ["httpd", "-f", "-p", "80 80"]);
    assert_eq!(process.entrypoint.as_deref().unwrap(), ["/bin/sh", "-c"]);
    let value = |name: &str| process.environment.iter().find(|v| v.name == name).unwrap().value.as_deref();
    assert_eq!(
        ["A", "B", "C", "D", "E", "F", "G"].map(value),
        [Some("1.10"), Some("0755"), Some("22:22"), Some("yes"), Some("true"), None, Some("22:22")]
    );
    assert_eq!((process.working_dir.as_deref(), process.user.as_deref()), (Some("/srv"), Some("1000:app")));
    assert!(process.tty && process.stdin_open && process.init && web.read_only);
    assert_eq!(web.labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(), ["a=b", "c="]);
    assert_eq!(web.restart, RestartPolicy::OnFailure { max: Some(3) });
    assert_eq!((web.stop.signal, web.stop.grace_ms), (Signal::parse("37"), 90_000));
    assert_eq!(
        (web.network.clone(), web.pull, web.replicas),
        (NetworkMode::Host, PullPolicy::Every { ms: 43_200_000 }, 1)
    );
    assert_eq!(web.holds, []);
}

#[test]
fn nothing_and_empty_are_not_the_same_command() {
    for (line, command) in
        [("command:", None), ("command: []", Some(0)), ("command: ''", Some(0)), ("command: a b", Some(2))]
    {
        assert_eq!(service(line).process.command.map(|words| words.len()), command, "{line}");
    }
}

#[test]
fn restart_is_read_in_all_its_spellings() {
    for (line, policy) in [
        ("restart: no", RestartPolicy::No),
        ("restart: 'no'", RestartPolicy::No),
        ("restart: false", RestartPolicy::No),
        ("restart: always", RestartPolicy::Always),
        ("restart: unless-stopped", RestartPolicy::UnlessStopped),
        ("restart: on-failure", RestartPolicy::OnFailure { max: None }),
        ("deploy: {restart_policy: {condition: none}}", RestartPolicy::No),
        ("deploy: {restart_policy: {condition: any}}", RestartPolicy::Always),
        ("deploy: {restart_policy: {}}", RestartPolicy::Always),
        (
            "deploy: {restart_policy: {condition: on-failure, max_attempts: 2}}",
            RestartPolicy::OnFailure { max: Some(2) },
        ),
    ] {
        assert_eq!(service(line).restart, policy, "{line}");
    }
}

#[test]
fn replicas_come_from_either_key() {
    for (line, count) in
        [("scale: 3", 3), ("deploy: {replicas: 0}", 0), ("scale: 2\ndeploy: {replicas: '2'}", 2), ("", 1)]
    {
        assert_eq!(service(line).replicas, count, "{line}");
    }
}

#[test]
fn wrong_values_are_refused_at_their_place() {
    for (line, expected) in [
        ("restart: alwasy", "4:14 \"alwasy\" is not a restart policy"),
        ("scale: 1001", "4:12 1001 containers: expected a number from 0 to 1000"),
        ("scale: -1", "4:12 -1 containers: expected a number from 0 to 1000"),
        (
            "scale: 99999999999999999999999",
            "4:12 `services.a.scale`: expected a whole number, found a number \"99999999999999999999999\"",
        ),
        ("scale: 2\ndeploy: {replicas: 3}", "4:12 `scale` asks for 2 containers and `deploy.replicas` for 3"),
        ("stop_signal: SIGFOO", "4:18 \"SIGFOO\" is not a signal"),
        (
            "stop_grace_period: 10",
            "4:24 `services.a.stop_grace_period`: expected a duration such as 1m30s, found a number \"10\"",
        ),
        ("command: sh 'x", "4:14 this is not a command line: a single quote is not closed"),
        ("working_dir: srv", "4:18 the working directory \"srv\" is not absolute"),
        ("user: 'a b'", "4:11 \"a b\" is not a user"),
        ("user: 'a:b:c'", "4:11 \"a:b:c\" is not a user"),
        ("hostname: a_b", "4:15 \"a_b\" is not a host name"),
        ("hostname: true", "4:15 `services.a.hostname`: expected text, found a boolean \"true\""),
        (
            "container_name: ../x",
            "4:21 the container name \"../x\" may hold only letters, digits, '.', '-' and '_', and must begin with a letter or a digit",
        ),
        ("platform: linux", "4:15 \"linux\" is not a platform"),
        ("pull_policy: sometimes", "4:18 \"sometimes\" is not a pull policy"),
        ("environment: {'A=B': c}", "4:19 \"A=B\" is not a name of a variable; it must not be empty nor hold `=`"),
        ("environment: [=x]", "4:19 \"\" is not a name of a variable; it must not be empty nor hold `=`"),
        (
            "environment: {A: [b]}",
            "4:22 `services.a.environment.A`: expected text, a number or a boolean, found a list",
        ),
        ("labels: {a: \"x\\0\"}", "4:17 this value holds a NUL character; nothing on the host can carry it"),
        ("tty: maybe", "4:10 `services.a.tty`: expected true or false, found text \"maybe\""),
        ("command: {a: b}", "4:14 `services.a.command`: expected text or a list, found a map"),
        ("depends_on: [b]", "4:18 there is no service \"b\" in the file"),
        ("ports: [{target: 80, publishd: 8080}]", "4:26 unknown key \"publishd\" in `port`"),
        ("healthcheck: {intervall: 1s}", "4:19 unknown key \"intervall\" in `healthcheck`"),
        ("deploy: {resources: {limit: {}}}", "4:26 unknown key \"limit\" in `resources`"),
        ("x-longshore: {suspnd: true}", "4:19 unknown key \"suspnd\" in `x-longshore`"),
        ("env_file: missing.env", "4:15 the file \"missing.env\" is not used: it does not exist"),
        (
            "env_file: ../../etc/shadow",
            "4:15 the file \"../../etc/shadow\" is not used: it lies outside the state file's folder",
        ),
        ("networks: [x]\nnetwork_mode: host", "4:5 `networks` and `network_mode` exclude each other"),
    ] {
        assert_eq!(refusal(line), expected);
    }
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let long = "n".repeat(300);
    for name in ["../../x", ".", "", &long, "a b", "a\\nb", "-rf", "x\\0y", "😀", "$(id)", "%s%n"] {
        for text in [
            format!("services: {{\"{name}\": {{image: a, network_mode: none}}}}"),
            format!("name: \"{name}\"\nservices: {{a: {{image: a, network_mode: none}}}}"),
        ] {
            let problems = read_with(&text, &[]).expect_err(&text);
            assert!(problems.iter().all(|problem| problem.location.line > 0), "{text}\n{}", shown(&problems));
        }
    }
}

#[test]
fn keys_that_cannot_be_honoured_hold_their_service_alone() {
    for (line, key) in [
        ("volumes: [{type: npipe, source: b, target: /b}]", "volumes"),
        ("volumes_from: ['container:b']", "volumes_from"),
        ("use_api_socket: true", "use_api_socket"),
        ("credential_spec: {file: a.json}", "credential_spec"),
        ("pid: service:b", "pid"),
        ("ipc: container:b", "ipc"),
        ("isolation: hyperv", "isolation"),
        ("security_opt: [writable-cgroups=true]", "security_opt"),
        (
            "deploy: {resources: {reservations: {generic_resources: [{discrete_resource_spec: {kind: a, value: 1}}]}}}",
            "deploy.resources.reservations.generic_resources",
        ),
        ("network_mode: service:b", "network_mode"),
        ("extends: {service: b}", "extends"),
        ("pull_policy: build", "pull_policy"),
        ("scale: 2\ncontainer_name: a", "container_name"),
        ("scale: 2\nx-longshore: {schedule: '@daily'}", "x-longshore.schedule"),
    ] {
        let holds = service(line).holds;
        assert_eq!(holds.len(), 1, "{line}: {holds:?}");
        assert_eq!(holds[0].problem.key.as_deref(), Some(format!("services.a.{key}").as_str()), "{line}");
    }
    for line in [
        "ports: []",
        "privileged: false",
        "mem_limit: 0",
        "pids_limit: -1",
        "ipc: private",
        "use_api_socket: false",
        "isolation: default",
        "security_opt: [writable-cgroups=false]",
        "deploy: {resources: {limits: }}",
    ] {
        assert_eq!(service(line).holds, [], "{line}");
    }
}

#[test]
fn a_service_without_an_image_is_held_where_it_could_be_built() {
    let holds = |text: &str| good(text).project.services.into_values().next().unwrap().holds.len();
    assert_eq!(holds("services: {a: {build: ., network_mode: none}}"), 1);
    assert_eq!(holds("services: {a: {image: b, build: {context: .}, network_mode: none}}"), 0);
    assert_eq!(holds("services: {a: {image: b}}"), 0);
    assert!(read_with("services: {a: {network_mode: none}}", &[]).is_err());
    assert_eq!(holds("include: [b.yaml]\nservices: {a: {image: b, network_mode: none}}"), 1);
}

#[test]
fn the_environment_is_put_together_as_compose_does() {
    let text = "\
services:
  a:
    image: b:${TAG}
    network_mode: none
    env_file:
      - a.env
      - {path: none.env, required: false}
      - {path: raw.env, format: raw}
    environment:
      - OVER=file
      - FROM_DOT
      - UNSET
      - NAME=$COMPOSE_PROJECT_NAME
      - COST=$$5
";
    let files =
        [(".env", "TAG=1.0\nFROM_DOT=dot\n"), ("a.env", "A=1\nOVER=env\nB=${A}2\nTAG\n"), ("raw.env", "R='$A'\n")];
    let document = read_with(text, &files).unwrap();
    let service = document.project.services.values().next().unwrap();
    assert_eq!(service.image.as_ref().unwrap().to_string(), "docker.io/library/b:1.0");
    let shown = |v: &EnvVar| format!("{}={}", v.name, v.value.as_deref().unwrap_or("-"));
    let environment: Vec<String> = service.process.environment.iter().map(shown).collect();
    assert_eq!(
        environment,
        ["A=1", "OVER=file", "B=12", "TAG=1.0", "R='$A'", "FROM_DOT=dot", "UNSET=-", "NAME=shop", "COST=$5"]
    );
    let references: Vec<_> = document.references.iter().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(references, [".env", "a.env", "none.env", "raw.env"]);
}

#[test]
fn the_name_of_the_file_is_made_fit() {
    let text = "services: {a: {image: b, network_mode: none}}";
    let name = |default_name: &str| {
        let input = crate::spec::Input {
            path: std::path::Path::new("x.yaml"),
            text: text.as_bytes(),
            default_name,
            default_registry: "docker.io",
            profiles: &[],
            files: &crate::spec::samples::Memory(&[]),
            key: Default::default(),
        };
        crate::spec::parse(&input).ok().map(|document| document.project.name.to_string())
    };
    assert_eq!(name("My Shop.v2").as_deref(), Some("myshopv2"));
    assert_eq!(name("_a-b").as_deref(), Some("a-b"));
    assert_eq!(name("...."), None);
}

#[test]
fn anchors_and_merges_are_applied() {
    let text = "\
x-one: &one {restart: always, tty: true}
x-two: &two {restart: 'no', init: true}
services:
  a:
    <<: [*one, *two]
    image: &i busybox
    tty: false
    network_mode: none
  b: {<<: *two, image: *i, network_mode: none}
";
    let document = good(text);
    let a = document.project.services.values().next().unwrap();
    assert_eq!((a.restart, a.process.tty, a.process.init), (RestartPolicy::Always, false, true));
}

#[test]
fn large_env_files_and_many_held_services_are_read_quickly() {
    let env: String = (0..60_000).map(|n| format!("V{n}=$V0\n")).collect();
    let services: String = (0..900)
        .map(|n| format!("s{n}: {{image: b, env_file: [], ports: ['80:80'], volumes_from: ['container:x'], use_api_socket: true}},"))
        .collect();
    let text = format!("services: {{{services} a: {{image: b, env_file: a.env}}}}");
    let started = std::time::Instant::now();
    let document = read_with(&text, &[(".env", &env), ("a.env", &env)]).unwrap();
    assert!(started.elapsed() < std::time::Duration::from_secs(10));
    let held = document.project.services.values().filter(|service| service.holds.len() >= 2).count();
    assert_eq!(held, 900);
}

#[test]
fn restarts_are_spaced_as_the_file_says() {
    let pace = |keys: &str| {
        let document = good(&format!("services: {{a: {{image: b, network_mode: none, {keys}}}}}"));
        let RestartPace { first_ms, factor_percent, longest_ms, reset_ms } =
            document.project.services.values().next().unwrap().pace;
        (first_ms, factor_percent, longest_ms, reset_ms)
    };
    assert_eq!(pace("tty: true"), (100, 200, 60_000, 10_000));
    assert_eq!(pace("deploy: {restart_policy: {delay: 5s, window: 2m}}"), (5_000, 100, 5_000, 120_000));
    let ours = "x-longshore: {restart: {delay: 1s, factor: 1.5, max_delay: 5m, reset_after: 1m}}";
    assert_eq!(pace(ours), (1_000, 150, 300_000, 60_000));
    assert_eq!(
        pace(&format!("deploy: {{restart_policy: {{delay: 5s, window: 2m}}}}, {ours}")),
        (1_000, 150, 300_000, 60_000)
    );
    assert_eq!(pace("x-longshore: {restart: {factor: 1}}"), (100, 100, 60_000, 10_000));
    for (keys, said) in [
        ("x-longshore: {restart: {factor: 0.5}}", "expected a number from 1 to 100"),
        ("x-longshore: {restart: {delay: 2m}}", "`max_delay` is shorter than `delay`"),
    ] {
        let text = format!("services: {{a: {{image: b, network_mode: none, {keys}}}}}");
        let problems = read_with(&text, &[]).unwrap_err();
        assert_eq!(problems[0].message, said);
        assert!(problems[0].location.column > 1);
    }
}

#[test]
fn a_schedule_is_read_in_both_forms_and_what_is_wrong_is_told_with_its_place() {
    use crate::model::{Missed, Overlap};
    let text = |ours: &str, more: &str| {
        format!(
            "services:\n  a:\n    image: b\n    network_mode: none\n{more}    x-longshore:\n      schedule: {ours}\n"
        )
    };
    let schedule = |ours: &str| {
        let document = good(&text(ours, ""));
        document.project.services.values().next().unwrap().schedule.clone().unwrap()
    };
    let short = schedule("'0 3 * * mon'");
    assert_eq!((short.key(), short.overlap, short.history), ("0 3 * * mon".to_owned(), Overlap::Skip, 10));
    assert_eq!((short.missed, short.timeout_ms), (Missed::RunOnce { within_ms: 3_600_000 }, None));
    assert_eq!(schedule("'@every 1d12h'").key(), "@every 1d12h");
    let long = schedule(
        "{cron: '@daily', timezone: Europe/Berlin, overlap: queue, missed: run-once, missed_within: 2h, history: 3, timeout: 10m}",
    );
    assert_eq!((long.key(), long.overlap, long.history), ("@daily Europe/Berlin".to_owned(), Overlap::Queue, 3));
    assert_eq!((long.missed, long.timeout_ms), (Missed::RunOnce { within_ms: 7_200_000 }, Some(600_000)));
    let told = |ours: &str| {
        let problem = read_with(&text(ours, ""), &[]).unwrap_err().remove(0);
        format!("{}: {} ({})", problem.location, problem.message, problem.hint.unwrap_or_default())
    };
    insta::assert_debug_snapshot!(
        [
            told("'75 3 * * *'"),
            told("'0 3 * *'"),
            told("'@every soon'"),
            told("{timezone: UTC}"),
            told("{cron: '@daily', timezone: Europe/Berlim}"),
            told("{cron: '@daily', overlap: maybe}"),
        ],
        @r#"
        [
            "shop.yaml:6:17: minute \"75\": expected a number from 0 to 59 (write five fields: minute hour day-of-month month day-of-week, as in \"30 3 * * mon-fri\"; or @hourly, @daily, @weekly, @monthly, @yearly, or @every 10m)",
            "shop.yaml:6:17: \"0 3 * *\" has 4 fields, not five (write five fields: minute hour day-of-month month day-of-week, as in \"30 3 * * mon-fri\"; or @hourly, @daily, @weekly, @monthly, @yearly, or @every 10m)",
            "shop.yaml:6:17: \"@every soon\": \"soon\" is no duration from 1s (write \"@every 10m\" or \"@every 1h30m\")",
            "shop.yaml:6:17: the schedule says no times (write `cron: \"0 3 * * *\"` below it)",
            "shop.yaml:6:44: the time zone \"Europe/Berlim\" is not known here (write a name of the IANA database, as in Europe/Berlin or UTC; the host's /usr/share/zoneinfo has them (package tzdata))",
            "shop.yaml:6:43: `services.a.x-longshore.schedule.overlap`: expected one of skip, queue, replace, found text \"maybe\" ()",
        ]
        "#
    );
    for (more, said) in [
        ("    restart: always\n", "its `restart` would start it again at once"),
        ("    scale: 2\n", "runs in one container at a time, and 2 are asked for"),
    ] {
        let document = good(&text("'@daily'", more));
        let holds = &document.project.services.values().next().unwrap().holds;
        assert!(holds[0].problem.message.contains(said), "{holds:?}");
    }
}
