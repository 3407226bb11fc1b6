//! The HTTP door over real sockets: answers, limits, streams.

#![expect(clippy::unwrap_used, reason = "what cannot be had here is a failed test")]

#[path = "api_http/client.rs"]
mod client;
#[path = "api_http/exec.rs"]
mod exec;
#[path = "api_http/image_client.rs"]
mod image_client;
#[path = "api_http/images.rs"]
mod images;
#[path = "api_http/served.rs"]
mod served;
#[path = "api_http/shelf.rs"]
mod shelf;
#[path = "api_http/volumes.rs"]
mod volumes;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use longshore::api::{Command, Limits, LogRequest, Stream, router, serve_tcp};
use longshore::model::Timestamp;
use longshore::reconcile::view::{Event, View};
use serde_json::Value;
use served::{Logs, Served, doors, event, id, line, read_until, serve, serve_with, view, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

#[tokio::test]
async fn the_small_answers() {
    let served = serve();
    let health = served.get("/healthz").await;
    assert_eq!((health.status, &health.json()["revision"]), (200, &Value::from(5)));
    served.view.send_replace(Arc::new(View::default()));
    let health = served.get("/healthz").await;
    assert_eq!(health.status, 503);
    assert!(health.json()["reason"].as_str().unwrap().contains("first look"));
    let version = served.get("/api/v1/version").await.json();
    assert_eq!((&version["version"], &version["pid"]), (&Value::from("0.1.0"), &Value::from(4711)));
    assert_eq!(version["started"], "2027-01-15T08:00:00Z");
    let plan = served.get("/api/v1/plan").await.json();
    assert_eq!(plan["counts"]["waiting"], 0);
    assert_eq!(served.get("/api/v1/openapi.json").await.json()["openapi"], "3.1.0");
}

#[tokio::test]
async fn containers_are_found_by_name_id_and_the_beginning_of_an_id() {
    let served = serve();
    assert_eq!(served.get("/api/v1/containers").await.json().as_array().unwrap().len(), 13);
    let wanted = id(1, "db");
    for name in ["shop-db-1", wanted.as_str(), wanted.short()] {
        let found = served.get(&format!("/api/v1/containers/{name}")).await;
        assert_eq!(found.json()["name"], "shop-db-1", "{name}");
    }
    let missing = served.get("/api/v1/containers/nobody").await;
    assert_eq!(missing.code(), (404, "no_such_container".into()));
    // Thirteen ids begin with sixteen different digits at most, so some digit begins an id.
    let digit = &wanted.as_str()[..1];
    let same = (1..=12).filter(|n| id(*n, "web").as_str().starts_with(digit)).count();
    let found = served.get(&format!("/api/v1/containers/{digit}")).await;
    assert_eq!(found.status, if same > 0 { 409 } else { 200 });
    let ambiguous = served.get("/api/v1/containers/admin/logs").await;
    assert_eq!(ambiguous.code(), (409, "ambiguous".into()));
    assert!(ambiguous.body.contains("blog/admin, shop/admin"), "{}", ambiguous.body);
}

#[tokio::test]
async fn every_error_is_json() {
    let served = serve();
    assert_eq!(served.get("/nothing").await.code(), (404, "not_found".into()));
    assert_eq!(served.get("/api/v1/containers/%ff").await.code(), (400, "bad_request".into()));
    assert_eq!(served.get("/api/v1/status?wait=soon").await.code(), (400, "bad_request".into()));
    assert_eq!(served.get("/api/v1/status?wiat=1").await.code(), (400, "bad_request".into()));
    assert_eq!(served.get("/api/v1/containers/shop-db-1/logs?since=soon").await.code(), (400, "bad_request".into()));
    assert_eq!(served.get("/api/v1/confirm").await.code(), (405, "method_not_allowed".into()));
    let large = "POST /api/v1/confirm HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2000000\r\n\r\n";
    assert_eq!(served.ask(large).await.code(), (413, "too_large".into()));
}

#[tokio::test]
async fn a_status_can_be_waited_for() {
    let served = serve();
    let now = served.get("/api/v1/status").await;
    let tag = now.head.lines().find_map(|l| l.strip_prefix("etag: ")).unwrap().to_owned();
    let again = format!("GET /api/v1/status HTTP/1.1\r\nHost: x\r\nIf-None-Match: {tag}\r\nConnection: close\r\n\r\n");
    assert_eq!(served.ask(&again).await.status, 304);
    // Nothing changes: the time ends the wait.
    let begin = Instant::now();
    assert_eq!(served.get("/api/v1/status?wait=5&timeout=1").await.json()["revision"], 5);
    assert!(begin.elapsed() >= Duration::from_secs(1));
    // A change ends the wait.
    let (answer, ()) = tokio::join!(served.get("/api/v1/status?wait=5&timeout=60"), async {
        tokio::task::yield_now().await;
        served.view.send_replace(Arc::new(view(6)));
    });
    assert_eq!(answer.json()["revision"], 6);
    assert_eq!(served.ask(&again).await.status, 200);
}

#[tokio::test]
async fn a_confirmation_reaches_the_one_who_decides() {
    let mut served = serve();
    let ask = "POST /api/v1/confirm HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    for said in [Ok(()), Err("nothing is held".to_owned())] {
        let stream = served.connect().await;
        let (answer, ()) = tokio::join!(served::ask(stream, ask), async {
            let Some(Command::Confirm { reply }) = within(served.commands.recv()).await else {
                panic!("not confirmed")
            };
            reply.send(said.clone()).unwrap();
        });
        assert_eq!(answer.status, if said.is_ok() { 200 } else { 409 }, "{}", answer.body);
    }
    drop(served.commands);
    let stream = UnixStream::connect(&served.socket).await.unwrap();
    assert_eq!(served::ask(stream, ask).await.code(), (503, "unavailable".into()));
}

#[tokio::test]
async fn a_look_is_answered_when_it_is_acted_upon() {
    let mut served = serve();
    let ask = "POST /api/v1/look HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let stream = served.connect().await;
    let (answer, ()) = tokio::join!(served::ask(stream, ask), async {
        let Some(Command::Look { reply }) = within(served.commands.recv()).await else { panic!("not looked") };
        reply.send(()).unwrap();
    });
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"looked":true}"#));
}

#[tokio::test]
async fn what_happened_to_a_service_is_asked_of_the_one_who_decides_and_what_a_container_said_before_is_found() {
    let mut served = serve();
    for (path, status) in [("shop/db", 200), ("shop/none", 404)] {
        let stream = served.connect().await;
        let ask = format!("GET /api/v1/services/{path}/why HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let (answer, ()) = tokio::join!(served::ask(stream, &ask), async {
            let Some(Command::Why { reply, .. }) = within(served.commands.recv()).await else { panic!("not asked") };
            reply.send(None).unwrap();
        });
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(status == 404 || answer.json()["causes"] == serde_json::json!([]), "{}", answer.body);
    }
    let said = served.get("/api/v1/containers/shop-db-1/logs?previous=true&format=raw").await;
    assert_eq!((said.status, said.body.as_str()), (200, "shop db Some(1)\n"));
    let said = served.get("/api/v1/services/shop/db/logs?previous=true&format=raw").await;
    assert_eq!((said.status, said.body.as_str()), (200, "shop db None\n"));
    let none = served.get("/api/v1/services/shop/web/logs?previous=true").await;
    assert_eq!(none.code(), (404, "no_such_file".into()));
    let both = served.get("/api/v1/services/shop/db/logs?previous=true&follow=true").await;
    assert_eq!(both.code(), (400, "bad_request".into()));
}

#[tokio::test]
async fn events_are_replayed_from_an_id_and_go_on() {
    let served = serve();
    (1..=4).for_each(|n| served.events.publish(event(n)));
    let mut stream = served.connect().await;
    let ask = "GET /api/v1/events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 1800000000000-2\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.unwrap();
    let text = read_until(&mut stream, "-4\n").await;
    assert!(text.contains("id: 1800000000000-3") && !text.contains("-2\n"), "{text}");
    assert!(text.contains("event: container.started") && text.contains(r#""message":"it runs""#), "{text}");
    served.events.publish(event(5));
    read_until(&mut stream, "id: 1800000000000-5").await;
    // An id of an earlier daemon, and a time.
    for since in ["17-900", "0", "2027-01-15T07:00:00Z"] {
        let mut stream = served.connect().await;
        let ask = format!("GET /api/v1/events?since={since} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(ask.as_bytes()).await.unwrap();
        let text = read_until(&mut stream, "-5\n").await;
        assert!(text.contains("id: 1800000000000-1\n"), "{since}: {text}");
    }
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_told_so_and_dropped() {
    let served = serve();
    let mut stream = served.connect().await;
    stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    read_until(&mut stream, "\r\n\r\n").await;
    // More than the socket's buffer and the queue hold, with nobody reading in between.
    for n in 1..=3000 {
        let long = "x".repeat(4000);
        served.events.publish(Event { message: long, ..event(n) });
        if n % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let text = read_until(&mut stream, "event: dropped").await;
    assert!(text.contains("event: container.started"));
    let mut rest = Vec::new();
    within(stream.read_to_end(&mut rest)).await.unwrap_or_default();
}

#[tokio::test]
async fn usage_is_told_once_or_at_each_interval() {
    let served = serve();
    let db = id(1, "db");
    let all = served.get("/api/v1/stats").await.json();
    assert_eq!(all["containers"].as_array().unwrap().len(), 13, "those that run");
    assert_eq!(all["containers"][0]["cpu"]["percent"], Value::Null);
    let one = served.get("/api/v1/containers/shop-db-1/stats").await.json();
    assert_eq!((one["containers"].as_array().unwrap().len(), &one["containers"][0]["id"]), (1, &db.as_str().into()));
    let some = served.get("/api/v1/stats?names=shop%2Fweb,db,shop-web-1").await.json();
    assert_eq!(some["containers"].as_array().unwrap().len(), 13, "each of them once");
    for (path, code) in [
        ("stats?names=nobody", 404),
        ("containers/nobody/stats?stream=true", 404),
        ("stats?stream=true&interval=1ms", 400),
        ("stats?interval=1s", 400),
        ("containers/db/stats?names=web", 400),
        ("containers/nobody/top", 404),
    ] {
        assert_eq!(served.get(&format!("/api/v1/{path}")).await.status, code, "{path}");
    }
    let mut stream = served.connect().await;
    let ask = "GET /api/v1/stats?names=db&stream=true&interval=100ms HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.unwrap();
    // Another test may have looked in between: then both have grown alike.
    let text = read_until(&mut stream, "\"percent\":50.0").await;
    assert!(text.contains("application/x-ndjson") && text.contains("\"percent\":null"), "{text}");
    let top = served.get("/api/v1/containers/web/top").await.json();
    assert_eq!((top.as_array().unwrap().len(), &top[0]["uid"]), (12, &33.into()));
    let metrics = served.get("/metrics").await.body;
    let line =
        format!("longshore_container_processes{{project=\"shop\",service=\"web\",container=\"c-{}\"}} 3.0", db.short());
    assert!(metrics.contains(&line), "{metrics}");
    assert!(metrics.contains("longshore_container_cpu_seconds_total{"), "{metrics}");
}

#[tokio::test]
async fn logs_are_records_or_bytes_and_can_be_followed() {
    let (send, live) = mpsc::channel(4);
    let mut logs = Logs { live: Mutex::new(Some(live)), ..Logs::default() };
    logs.kept.insert(id(1, "db"), vec![line(1, Stream::Stdout, b"one"), line(3, Stream::Stderr, b"\xff\x00")]);
    logs.kept.insert(id(2, "web"), vec![line(2, Stream::Stdout, b"two")]);
    let served = serve_with(Limits::default(), logs);
    let records = served.get("/api/v1/containers/shop-db-1/logs?tail=7&since=1800000000").await;
    assert!(records.head.contains("application/x-ndjson"));
    insta::assert_snapshot!(records.body, @r#"
    {"time":"1970-01-01T00:00:00.000000001Z","container":"shop-db-1","stream":"stdout","sequence":1,"text":"one","partial":false}
    {"time":"1970-01-01T00:00:00.000000003Z","container":"shop-db-1","stream":"stderr","sequence":3,"base64":"/wA=","partial":false}
    "#);
    let asked = served.logs.asked.lock().unwrap()[0];
    assert_eq!(asked, LogRequest { follow: false, since: Some(Timestamp(1_800_000_000_000)), tail: Some(7) });
    for path in ["containers/shop%2Fweb/logs", "containers/web/logs", "services/shop/web/logs"] {
        let raw = served.get(&format!("/api/v1/{path}?format=raw")).await;
        assert_eq!((raw.status, raw.body.as_str()), (200, "two\n"), "{path}");
    }
    let mut stream = served.connect().await;
    let ask = "GET /api/v1/containers/db/logs?follow=true&format=raw HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.unwrap();
    read_until(&mut stream, "one\n").await;
    send.send(line(4, Stream::Stdout, b"later")).await.unwrap();
    read_until(&mut stream, "later\n").await;
    drop(send);
    let mut rest = Vec::new();
    within(stream.read_to_end(&mut rest)).await.unwrap();
}

/// Asks by hand; the whole answer.
async fn asked(served: &Served, request: &str) -> String {
    let mut connection = served.connect().await;
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    within(connection.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn files_are_a_stream_that_is_whole_or_says_why_not() {
    let served = serve();
    let get = |path: &str, te: &str| {
        format!(
            "GET /api/v1/containers/shop-web-2/archive?path={path} HTTP/1.1\r\nHost: x\r\nConnection: close{te}\r\n\r\n"
        )
    };
    let whole = asked(&served, &get("/file", "")).await;
    assert!(whole.starts_with("HTTP/1.1 200") && whole.contains("application/x-tar"), "{whole}");
    assert!(whole.ends_with("5\r\nbytes\r\n0\r\n\r\n"), "{whole}");
    let cut = asked(&served, &get("/broken", "")).await;
    assert!(!cut.ends_with("0\r\n\r\n"), "not to be taken for a whole one: {cut}");
    let told = asked(&served, &get("/broken", "\r\nTE: trailers")).await;
    assert!(
        told.contains("trailer: longshore-error") && told.ends_with("0\r\nlongshore-error: it ended: 100%25\r\n\r\n"),
        "{told}"
    );
    for bad in ["", "%00", &"x".repeat(5000)] {
        let refused = asked(&served, &get(bad, "")).await;
        assert!(refused.starts_with("HTTP/1.1 400"), "{refused}");
    }
    let put = |path: &str, body: &str| {
        let length = body.len();
        format!(
            "PUT /api/v1/containers/shop-web-2/archive?path={path}&place=true HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
    };
    // Larger than any other body may be.
    let taken = asked(&served, &put("/file", &"x".repeat(2 << 20))).await;
    assert!(taken.contains(r#"{"container":"shop-web-2","files":1,"bytes":2097152}"#), "{taken}");
    let full = asked(&served, &put("/full", &"x".repeat(2 << 20))).await;
    assert!(full.starts_with("HTTP/1.1 409") && full.contains("shop-web-2: no space is left there"), "{full}");
    let changes = served.get("/api/v1/containers/shop-web-2/changes").await.json();
    assert_eq!(changes, serde_json::json!([{"path": "/a", "kind": "added"}]));
    assert_eq!(served.get("/api/v1/containers/none/changes").await.status, 404);
}

#[tokio::test]
async fn numbers_for_prometheus() {
    let text = serve().get("/metrics").await.body;
    for wanted in [
        "longshore_containers{state=\"running\"} 13",
        "longshore_projects{phase=\"applied\"} 2",
        "longshore_problems{severity=\"error\"} 0",
        "longshore_container_restarts_total{project=\"shop\",service=\"db\",container=\"shop-db-1\"} 3",
        "longshore_loop_steps_total 7",
        "# EOF",
    ] {
        assert!(text.contains(wanted), "{wanted} is not in\n{text}");
    }
}

#[tokio::test]
async fn a_header_that_is_too_large_is_refused() {
    let served = serve();
    let huge = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Huge: {}\r\n\r\n", "a".repeat(20_000));
    assert_eq!(served.ask(&huge).await.status, 431);
    let fitting = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: {}\r\n\r\n", "a".repeat(12_000));
    assert_eq!(served.ask(&fitting).await.status, 200);
}

#[tokio::test]
async fn a_client_that_drips_its_header_is_closed() {
    let limits = Limits { header_time: Duration::from_millis(200), ..Limits::default() };
    let served = serve_with(limits, Logs::default());
    let mut stream = served.connect().await;
    let begin = Instant::now();
    let drip = async {
        let mut buffer = [0; 64];
        loop {
            // Byte after byte does not buy more time.
            if stream.write_all(b"G").await.is_err() {
                break;
            }
            if let Ok(Ok(0) | Err(_)) = timeout(Duration::from_millis(20), stream.read(&mut buffer)).await {
                break;
            }
        }
    };
    within(drip).await;
    assert!(begin.elapsed() < Duration::from_secs(5));
    // An idle connection ends too.
    let mut idle = served.connect().await;
    assert_eq!(within(idle.read(&mut [0; 8])).await.unwrap(), 0);
}

#[tokio::test]
async fn three_hundred_connections_leave_room_again() {
    let limits = Limits { header_time: Duration::from_secs(60), ..Limits::default() };
    let served = serve_with(limits, Logs::default());
    let mut held = Vec::new();
    for _ in 0..256 {
        held.push(served.connect().await);
    }
    assert_eq!(served.get("/healthz").await.code(), (503, "unavailable".into()));
    for _ in 256..300 {
        held.push(served.connect().await);
    }
    drop(held);
    let free = async {
        while served.get("/healthz").await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    within(free).await;
}

#[tokio::test]
async fn the_end_is_bounded_and_lets_answers_finish() {
    let limits = Limits { grace: Duration::from_millis(300), ..Limits::default() };
    let mut served = serve_with(limits, Logs::default());
    let mut endless = served.connect().await;
    endless.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    read_until(&mut endless, "\r\n\r\n").await;
    let begin = Instant::now();
    served.stop.take().unwrap().send(()).unwrap();
    within(&mut served.server).await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(UnixStream::connect(&served.socket).await.is_err());
}

#[tokio::test]
async fn a_port_for_all_the_world_is_not_served() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let (doors, _view, _commands) = doors(Arc::new(Logs::default()));
    let served = serve_tcp(listener, router(doors), Limits::default(), std::future::pending());
    assert!(within(served).await.unwrap_err().to_string().contains("not a loopback address"));
}

#[tokio::test]
async fn a_port_answers_to_loopback_only() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (doors, _view, _commands) = doors(Arc::new(Logs::default()));
    let (_stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(serve_tcp(listener, router(doors), Limits::default(), async { drop(stopped.await) }));
    let get = |headers: String| async move {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        served::ask(stream, &format!("GET /healthz HTTP/1.1\r\n{headers}Connection: close\r\n\r\n")).await
    };
    assert_eq!(get(format!("Host: 127.0.0.1:{port}\r\n")).await.status, 200);
    assert_eq!(get(format!("Host: localhost:{port}\r\n")).await.status, 200);
    for bad in ["evil.example".to_owned(), format!("evil.example:{port}"), "127.0.0.1".to_owned()] {
        assert_eq!(get(format!("Host: {bad}\r\n")).await.code(), (403, "foreign_host".into()), "{bad}");
    }
    let origin = |o: &str| format!("Host: localhost:{port}\r\nOrigin: {o}\r\n");
    assert_eq!(get(origin("https://evil.example")).await.code(), (403, "foreign_origin".into()));
    assert_eq!(get(origin("null")).await.code(), (403, "foreign_origin".into()));
    assert_eq!(get(origin(&format!("http://localhost:{port}"))).await.status, 200);
}

#[tokio::test]
async fn logins_go_to_the_registry_room_and_no_answer_holds_a_password() {
    let served = serve();
    let post = |path: &'static str, body: String| {
        let served = &served;
        async move {
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            served.ask(&format!("{head}{body}")).await
        }
    };
    let ask = |password: &str| format!(r#"{{"registry":"r.example","username":"bob","password":"{password}"}}"#);
    let good = post("/api/v1/registries/login", ask("hunter2")).await;
    assert_eq!((good.status, good.json()["file"].as_str()), (200, Some("/root/.docker/config.json")));
    let wrong = post("/api/v1/registries/login", ask("hunter3")).await;
    assert_eq!((wrong.status, wrong.json()["error"]["code"].as_str()), (403, Some("login_denied")));
    let broken =
        post("/api/v1/registries/login", r#"{"registry":"r","username":"u","password":["hunter4"]}"#.into()).await;
    assert_eq!(broken.status, 400);
    for answer in [&good, &wrong, &broken] {
        assert!(!answer.json().to_string().contains("hunter"), "{}", answer.json());
    }
    let out = post("/api/v1/registries/logout", r#"{"registry":"r.example"}"#.into()).await;
    assert_eq!((out.status, out.json()["known"].as_bool()), (200, Some(true)));
}
