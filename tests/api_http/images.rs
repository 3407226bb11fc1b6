//! The routes of images: forms, bounds, streams, clients that go away.

use std::sync::atomic::Ordering;
use std::time::Duration;

use longshore::api::Limits;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::served::{Answer, Logs, Served, ask, read_until, serve, serve_with, within};

async fn post(served: &Served, path: &str, body: &str) -> Answer {
    let head = format!("POST /api/v1/images/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
    let kind = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    served.ask(&(head + &kind)).await
}

fn lines(answer: &Answer) -> Vec<Value> {
    answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn what_there_is() {
    let served = serve();
    assert_eq!(served.get("/api/v1/images").await.json()[0]["used_by"][0], "shop-web-1");
    let details = served.get("/api/v1/images/inspect?name=nginx").await.json();
    assert_eq!(details["manifest"]["schemaVersion"], 2);
    assert_eq!(served.get("/api/v1/images/history?name=nginx").await.json().as_array().unwrap().len(), 1);
    let df = served.get("/api/v1/system/df").await.json();
    assert_eq!((df["rows"][0]["kind"].as_str(), df["rows"][0]["items"].as_array().unwrap().len()), (Some("images"), 0));
    let df = served.get("/api/v1/system/df?items=true").await.json();
    assert_eq!(df["rows"][0]["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_wrong_name_is_said_with_what_to_do() {
    let served = serve();
    for path in ["inspect?name=nobody", "history?name=nobody", "save?name=nobody"] {
        let answer = served.get(&format!("/api/v1/images/{path}")).await;
        assert_eq!(answer.code(), (404, "no_such_image".into()), "{path}");
        assert_eq!(answer.json()["error"]["hint"], "`longshore image ls` lists them");
    }
    for (path, body) in [
        ("tag", r#"{"source":"nobody","target":"x"}"#),
        ("remove", r#"{"image":"nobody"}"#),
        ("pin", r#"{"image":"nobody","pinned":true}"#),
        ("push", r#"{"image":"nobody"}"#),
    ] {
        assert_eq!(post(&served, path, body).await.code(), (404, "no_such_image".into()), "{path}");
    }
    let used = post(&served, "remove", r#"{"image":"nginx"}"#).await;
    assert_eq!(used.code(), (409, "in_use".into()));
    assert!(used.body.contains("shop-web-1"), "{}", used.body);
    assert_eq!(post(&served, "remove", r#"{"image":"nginx","force":true}"#).await.json()["layers"], 2);
}

#[tokio::test]
async fn questions_that_make_no_sense_are_refused() {
    let served = serve();
    for path in ["inspect", "inspect?nmae=x", "save", "save?name=nginx&format=zip", "save?name=nginx&x=1"] {
        let answer = served.get(&format!("/api/v1/images/{path}")).await;
        assert_eq!(answer.code(), (400, "bad_request".into()), "{path}: {}", answer.body);
    }
    for body in ["", "{", "{}", r#"{"image":7}"#, r#"{"image":"nginx","plattform":"x"}"#, r#"{"image":"no!"}"#] {
        assert_eq!(post(&served, "pull", body).await.code(), (400, "bad_request".into()), "{body}");
    }
    let many = "&name=nginx".repeat(300);
    assert_eq!(served.get(&format!("/api/v1/images/save?format=oci-archive{many}")).await.status, 400);
    let large = "POST /api/v1/images/pull HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2000000\r\n\r\n";
    assert_eq!(served.ask(large).await.code(), (413, "too_large".into()));
    let without = "POST /api/v1/images/import HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(served.ask(without).await.code(), (400, "bad_request".into()));
}

#[tokio::test]
async fn a_pull_says_how_far_it_is_line_by_line() {
    let served = serve();
    let answer = post(&served, "pull", r#"{"image":"nginx","platform":"linux/arm64"}"#).await;
    assert!(answer.head.contains("application/x-ndjson"), "{}", answer.head);
    let lines = lines(&answer);
    let (last, before) = lines.split_last().unwrap();
    assert_eq!(last["done"]["image"], "nginx");
    assert_eq!(before.last().unwrap()["progress"]["layers"][0]["state"], "done");
    let seen: Vec<u64> = before.iter().map(|line| line["progress"]["done"].as_u64().unwrap()).collect();
    assert!(seen.is_sorted() && seen.len() >= 2, "{seen:?}");
    assert!(served.images.asked.lock().unwrap()[0].contains("linux/arm64"));
    let broken = post(&served, "pull", r#"{"image":"broken"}"#).await;
    let error = self::lines(&broken).pop().unwrap()["error"].clone();
    assert_eq!((broken.status, error["message"].as_str()), (200, Some("the registry is on fire")));
    assert_eq!((error["code"].as_str(), error["hint"].as_str()), (Some("failed"), Some("bring water")));
}

#[tokio::test]
async fn a_pull_is_given_up_when_its_client_goes_away() {
    let served = serve();
    let mut stream = served.connect().await;
    let body = r#"{"image":"endless"}"#;
    let ask = format!(
        "POST /api/v1/images/pull HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(ask.as_bytes()).await.unwrap();
    read_until(&mut stream, r#""state":"done""#).await;
    assert!(!served.images.dropped.load(Ordering::SeqCst));
    drop(stream);
    within(async {
        while !served.images.dropped.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn silent_work_is_still_said_to_go_on() {
    let served = serve();
    let mut stream = served.connect().await;
    let body = r#"{"image":"endless"}"#;
    let ask = format!(
        "POST /api/v1/images/pull HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(ask.as_bytes()).await.unwrap();
    read_until(&mut stream, r#""state":"done""#).await;
    // The same once more, although nothing changes.
    read_until(&mut stream, r#""state":"done""#).await;
}

#[tokio::test]
async fn an_archive_of_any_size_comes_in() {
    let served = serve();
    let size = 5_000_000;
    for path in ["load?name=a", "import?name=a&change=CMD%20sh&change=USER%20me&message=hello"] {
        let head = format!("POST /api/v1/images/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        let request = format!("{head}Content-Length: {size}\r\n\r\n{}", "x".repeat(size));
        let answer = served.ask(&request).await;
        assert_eq!(lines(&answer).pop().unwrap()["done"]["images"][0]["image"], "a", "{}", answer.body);
    }
    assert_eq!(served.images.received.load(Ordering::SeqCst), 2 * size as u64);
    let asked = served.images.asked.lock().unwrap()[0].clone();
    assert!(asked.contains(r#"["CMD sh", "USER me"]"#), "{asked}");
}

#[tokio::test]
async fn an_archive_that_is_refused_early_is_told_so() {
    let served = serve();
    let head = "POST /api/v1/images/load HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3000014\r\n\r\n";
    let answer = served.ask(&format!("{head}not an archive{}", "x".repeat(3_000_000))).await;
    assert_eq!(lines(&answer).pop().unwrap()["error"]["message"], "this is not an archive");
}

#[tokio::test]
async fn an_upload_that_stands_still_is_given_up() {
    let limits = Limits { upload_time: Duration::from_millis(200), ..Limits::default() };
    let served = serve_with(limits, Logs::default());
    let stream = served.connect().await;
    let head = "POST /api/v1/images/load HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100\r\n\r\nabc";
    let answer = ask(stream, head).await;
    let error = lines(&answer).pop().unwrap()["error"]["message"].as_str().unwrap().to_owned();
    assert!(error.starts_with("cut: "), "{error}");
}

#[tokio::test]
async fn what_is_not_taken_of_an_archive_is_not_made() {
    let served = serve();
    let mut stream = served.connect().await;
    stream.write_all(b"GET /api/v1/images/save?name=endless-nginx HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    read_until(&mut stream, "xxxx").await;
    // The making stops where the buffers are full: once it stood still for a while, it is bounded.
    let mut made = 0;
    within(async {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = served.images.made.load(Ordering::SeqCst);
            if now == made {
                break;
            }
            made = now;
        }
    })
    .await;
    assert!(made < 64 << 20, "{made}");
    within(stream.read_exact(&mut vec![0; 1 << 20])).await.unwrap();
}

#[tokio::test]
async fn an_archive_that_breaks_in_the_middle_is_cut() {
    let served = serve();
    let whole = served.get("/api/v1/images/save?name=nginx").await;
    assert_eq!((whole.status, whole.body.len()), (200, 4 * 65_536));
    let mut stream = served.connect().await;
    let ask = b"GET /api/v1/images/save?name=cut-nginx HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    let mut bytes = Vec::new();
    // Whether the end comes as an end or as a reset, the last chunk is not there.
    let _ = within(stream.read_to_end(&mut bytes)).await;
    assert!(!bytes.ends_with(b"0\r\n\r\n"), "it looks whole");
}

#[tokio::test]
async fn what_is_damaged_is_told_as_it_is_found() {
    let served = serve();
    for (body, states) in [
        (r#"{}"#, vec!["damaged"]),
        (r#"{"images":["nginx"],"repair":true}"#, vec!["damaged", "repaired"]),
        (r#"{"images":["whole-nginx"]}"#, vec![]),
    ] {
        let lines = lines(&post(&served, "verify", body).await);
        let found: Vec<_> = lines.iter().filter_map(|line| line["finding"]["state"].as_str()).collect();
        assert_eq!(found, states, "{body}");
        assert!(lines.iter().any(|line| line["progress"]["checks"] == crate::shelf::NGINX), "{lines:?}");
        let findings = &lines.last().unwrap()["done"]["findings"];
        assert_eq!(findings.as_array().unwrap().first().map(|f| &f["state"]), lines_state(&states).as_ref());
    }
    assert_eq!(post(&served, "verify", r#"{"images":["nobody"]}"#).await.code(), (404, "no_such_image".into()));
    assert_eq!(post(&served, "verify", r#"{"image":"nginx"}"#).await.code(), (400, "bad_request".into()));
}

fn lines_state(states: &[&str]) -> Option<Value> {
    states.last().map(|state| Value::from(*state))
}
