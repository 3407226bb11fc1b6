//! What happened to a service, and why: edits, crash loops, images that do not come; kept over recreation and daemons that are killed.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::mpsc;

use serde_json::{Value, json};

use crate::support::lab::container;
use crate::support::{Lab, file, service, with};

const IDLE: &str = "[work, graceful, '0']";

#[track_caller]
fn why(lab: &Lab, name: &str) -> Value {
    let output = lab.cli(&["why", "--json", name]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).unwrap()
}

fn told(lab: &Lab, name: &str) -> String {
    let output = lab.cli(&["why", name]);
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn causes(why: &Value) -> Vec<&Value> {
    why["causes"].as_array().unwrap().iter().collect()
}

/// The edits of the last cause that has some.
fn edits(why: &Value) -> Vec<String> {
    let last = causes(why).into_iter().rev().find(|cause| cause["edits"].as_array().is_some_and(|e| !e.is_empty()));
    let edits = last.map(|cause| cause["edits"].as_array().unwrap().clone()).unwrap_or_default();
    edits.iter().map(|edit| edit["text"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_edit_is_told_by_its_keys_and_what_followed_also_after_a_kill() {
    let mut lab = Lab::new();
    let text = |tty: &str, word: &str| {
        file(&[with("a", IDLE, &[&format!("tty: {tty}"), "environment:", &format!("  WORD: {word}")])])
    };
    lab.put("a.yaml", &text("false", "hunter1"));
    let before = lab.running("a-a-1");
    lab.put("a.yaml", &text("true", "hunter2"));
    lab.replaced("a-a-1", &before);
    let seen = why(&lab, "a");
    assert_eq!(edits(&seen), ["a.yaml:6:tty false → true", "a.yaml:8:environment.WORD changed"]);
    let words: Vec<String> = causes(&seen)
        .iter()
        .map(|cause| format!("{} {}", cause["kind"].as_str().unwrap(), cause["message"].as_str().unwrap()))
        .collect();
    let place =
        |text: &str| words.iter().rposition(|word| word.contains(text)).unwrap_or_else(|| panic!("{text}: {words:#?}"));
    // The new one is made before the old one is stopped.
    let order = ["edited the file was edited", "done created from image", "done stopped", "done started"];
    assert!(order.map(place).is_sorted() && place("done removed") > place("done stopped"), "{words:#?}");
    assert!(words.iter().any(|word| word.starts_with("ended exit code 0, as it was stopped")), "{words:#?}");
    for name in ["a/a", "a-a-1", "a"] {
        let text = told(&lab, name);
        assert!(text.contains("a.yaml:6:tty false → true") && !text.contains("hunter"), "{text}");
        assert!(text.trim_end().ends_with("a/a is applied"), "{text}");
    }
    lab.wait_for("everything on disk", |s| (s["settled"] == true).then_some(()));
    lab.kill();
    lab.start();
    assert_eq!(causes(&why(&lab, "a")), causes(&seen));
    // What is gone is told of by its full name.
    lab.remove("a.yaml");
    lab.gone("a-a-1");
    let text = lab.until("it to be gone", || Some(told(&lab, "a/a")).filter(|text| text.contains("a/a is gone")));
    assert!(text.contains("a.yaml: the file is gone") && text.contains("a-a-1: removed"), "{text}");
    assert!(told(&lab, "a").contains("no container or service is called"));
    assert!(told(&lab, "a/b").contains("no container or service is called"));
    lab.finish();
}

#[test]
fn a_crash_loop_is_one_cause_with_how_often_and_what_comes_next() {
    let mut lab = Lab::new();
    lab.put("a.yaml", &file(&[with("a", "[work, exit, '3']", &["restart: always"]), service("b", IDLE)]));
    let loops = |lab: &Lab, times: u64| {
        lab.wait_for("the file", |s| s["projects"][0]["services"][0].is_object().then_some(()));
        lab.until("a crash loop", || {
            let seen = why(lab, "a/a");
            let found = seen["crash_loops"][0].clone();
            (found["times"].as_u64().unwrap_or(0) >= times && !found["next_attempt"].is_null()).then_some(seen)
        })
    };
    let seen = loops(&lab, 3);
    let crash = &seen["crash_loops"][0];
    assert_eq!((&crash["container"], &crash["cause"]), (&"a-a-1".into(), &"exit code 3".into()));
    let ends = causes(&seen).iter().filter(|cause| cause["kind"] == "ended").count();
    assert_eq!((ends, causes(&seen)[0]["message"].as_str()), (1, Some("the file came into force")));
    let text = told(&lab, "a/a");
    assert!(
        text.contains("a-a-1 is in a crash loop: it ended ") && text.contains("with: exit code 3; it is started again"),
        "{text}"
    );
    let times = crash["times"].as_u64().unwrap();
    lab.kill();
    lab.start();
    loops(&lab, times + 1);
    assert!(why(&lab, "a/b")["crash_loops"].as_array().unwrap().is_empty());
    lab.finish();
}

#[test]
fn an_image_that_does_not_come_and_a_program_that_is_not_there_are_told_with_the_error_and_the_next_attempt() {
    let lab = Lab::new();
    let image = crate::support::registry::image();
    let missing = format!("{}/none/such:1", image.split('/').next().unwrap());
    let text = file(&[service("a", IDLE), service("b", "[nosuch]")]);
    lab.put("a.yaml", &text);
    let running = |s: &Value| s["projects"][0]["services"][0]["running"] == 1;
    lab.wait_for("a to run", |s| running(s).then_some(()));
    lab.put("a.yaml", &text.replacen(image, &missing, 1));
    let failed = |name: &str, times: u64| {
        lab.until("a failure", || {
            let seen = why(&lab, name);
            let last = causes(&seen).last().copied()?.clone();
            (last["kind"] == "failed" && last["times"].as_u64()? >= times && !last["next_attempt"].is_null())
                .then_some(last)
        })
    };
    let last = failed("a/a", 1);
    assert!(last["subject"].as_str().unwrap().contains("none/such:1"), "{last}");
    assert!(last["message"].as_str().unwrap().starts_with("pull failed: "), "{last}");
    let seen = why(&lab, "a/a");
    assert_eq!(edits(&seen), [format!("a.yaml:3:image {image} → {missing}")]);
    let last = failed("a/b", 2);
    assert!(last["message"].as_str().unwrap().contains("start failed: "), "{last}");
    assert!(told(&lab, "a/b").contains("times since"));
    lab.finish();
}

#[test]
fn what_a_container_said_is_kept_when_it_is_gone_also_when_the_daemon_was_killed_while_it_was_removed() {
    let mut lab = Lab::with(&json!({"container-logs": {"previous": 2}}));
    let say = |lab: &Lab, word: &str| {
        lab.put("a.yaml", &file(&[service("a", &format!("[sh, -c, \"echo {word}; exit 4\"]"))]));
        lab.says("a-a-1", word);
        assert_eq!(lab.exited("a-a-1"), 4);
    };
    let previous = |lab: &Lab, name: &str| {
        let output = lab.cli(&["logs", "--previous", name]);
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    say(&lab, "first");
    assert!(previous(&lab, "a").contains("nothing is kept of what a container of \"a\" said before the present one"));
    say(&lab, "second");
    for name in ["a", "a/a", "a-a-1"] {
        assert_eq!(previous(&lab, name), "first\n", "{name}");
    }
    let id = container(&lab.status(), "a-a-1").unwrap()["id"].as_str().unwrap().to_owned();
    lab.kill();
    // As it is between the two halves of a removal.
    fs::rename(lab.data().join("containers").join(&id), lab.data().join("trash").join(&id)).unwrap();
    lab.start();
    lab.until("the removal to be finished", || (previous(&lab, "a/a") == "second\n").then_some(()));
    say(&lab, "third");
    say(&lab, "fourth");
    assert_eq!(previous(&lab, "a"), "third\n");
    let slot = lab.data().join("logs/a/a/1");
    assert_eq!(fs::read_dir(&slot).unwrap().count(), 2, "no more than the configuration says");
    let df = lab.cli(&["system", "df", "--json", "-v"]);
    let df: Value = serde_json::from_slice(&df.stdout).unwrap();
    let logs = df["rows"].as_array().unwrap().iter().find(|row| row["kind"] == "logs").unwrap().clone();
    let names: Vec<&str> =
        logs["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a-a-1", "a-a-1 (gone)", "a-a-1 (gone)"], "{logs}");
    lab.remove("a.yaml");
    lab.gone("a-a-1");
    assert_eq!(previous(&lab, "a/a"), "fourth\n");
    assert!(previous(&lab, "../a").contains("no container or service is called"));
    lab.finish();
}

/// Answers these codes one after the other, then 200; what it was sent goes into the channel.
fn receiver(codes: Vec<u16>) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut codes = codes.into_iter();
        // Ends with the test: nobody connects any more, and the process goes.
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream);
            let (mut text, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                    break;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                text.push_str(&line);
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            text.push_str(&String::from_utf8(body).unwrap());
            let code = codes.next().unwrap_or(200);
            let mut stream = reader.into_inner();
            let more = if code == 302 { "Location: http://127.0.0.1:1/\r\n" } else { "" };
            write!(stream, "HTTP/1.1 {code} X\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
            if send.send(format!("{code} {text}")).is_err() {
                return;
            }
        }
    });
    (address, receive)
}

#[test]
fn notices_are_sent_again_until_they_are_taken_and_what_fails_is_a_note() {
    let (address, received) = receiver(vec![500, 302]);
    let headers = tempfile::NamedTempFile::new().unwrap();
    fs::write(headers.path(), "# a comment\nAuthorization: Bearer hunter2\n").unwrap();
    let hook = json!({"url": format!("http://{address}/hunter3"), "events": ["container.failed", "container.exited"], "headers-file": headers.path()});
    let lab = Lab::with(&json!({"notices": [hook]}));
    lab.put("a.yaml", &file(&[service("a", "[work, exit, '3']")]));
    let next = || received.recv_timeout(std::time::Duration::from_secs(30)).unwrap();
    let first = next();
    let note = lab.wait_for("a note", |s| {
        s["notes"]
            .as_array()?
            .iter()
            .find_map(|note| note.as_str().filter(|n| n.contains("do not arrive")).map(str::to_owned))
    });
    assert!(note.starts_with(&format!("notices to http://{address} do not arrive: it answered ")), "{note}");
    let (second, third) = (next(), next());
    let codes = [&first, &second, &third].map(|text| text[..3].to_owned());
    assert_eq!(codes, ["500", "302", "200"], "a redirect is not followed");
    for text in [&first, &second, &third] {
        let body: Value = serde_json::from_str(text.split('\n').next_back().unwrap()).unwrap();
        assert_eq!((&body["kind"], &body["what"]), (&"container.exited".into(), &"a-a-1".into()), "{text}");
        assert!(text.contains("POST /hunter3 ") && text.contains("authorization: Bearer hunter2"), "{text}");
        assert!(text.contains("longshore-event: container.exited"), "{text}");
    }
    lab.wait_for("no note", |s| (!s["notes"].to_string().contains("notices")).then_some(()));
    assert!(!lab.log().contains("hunter"), "{}", lab.log());
    lab.finish();
}

#[test]
fn a_notice_whose_headers_others_may_read_is_refused() {
    let headers = tempfile::NamedTempFile::new().unwrap();
    fs::write(headers.path(), "A: b\n").unwrap();
    fs::set_permissions(headers.path(), fs::Permissions::from_mode(0o644)).unwrap();
    let hook =
        |url: &str| json!({"notices": [{"url": url, "events": ["container.*"], "headers-file": headers.path()}]});
    for (url, words) in
        [("http://127.0.0.1:1/", "0644"), ("ftp://hunter2/", "it does not begin with https:// or http://")]
    {
        let lab = Lab::stopped(&hook(url));
        let output = lab.daemon_command(&lab.data()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(words) && !text.contains("hunter"), "{text}");
    }
}
