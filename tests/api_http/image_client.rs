//! `longshore image` and `longshore system` against a served daemon.

use std::process::Stdio;
use std::sync::atomic::Ordering;

use tokio::io::AsyncWriteExt as _;

use crate::client::{ask, client};
use crate::served::{serve, within};

#[tokio::test]
async fn every_command_of_images_answers() {
    let served = serve();
    for (arguments, code, said) in [
        (vec!["ls"], 0, "nginx"),
        (vec!["ls", "-q"], 0, "sha256:aaaa"),
        (vec!["ls", "--json"], 0, "\"disk_bytes\": 190000000"),
        (vec!["inspect", "nginx"], 0, "\"schemaVersion\": 2"),
        (vec!["history", "nginx"], 0, "CMD [\"nginx\"]"),
        (vec!["pull", "nginx"], 0, "(pulled, 30 B)"),
        (vec!["push", "nginx"], 0, "(30 B sent)"),
        (vec!["tag", "nginx", "here/nginx:1"], 0, "here/nginx:1  sha256:"),
        (vec!["rm", "-f", "nginx"], 0, "removed 2 layers, 4.0 KiB"),
        (vec!["pin", "nginx"], 0, "pinned docker.io/library/nginx:1.29"),
        (vec!["unpin", "nginx"], 0, "unpinned docker.io"),
        (vec!["prune", "-a", "--dry-run"], 0, "would remove docker.io"),
    ] {
        let ended = ask(&served, &[vec!["image"], arguments.clone()].concat()).await;
        assert_eq!(ended.code, Some(code), "{arguments:?}: {}{}", ended.stdout, ended.stderr);
        assert!(ended.stdout.contains(said), "{arguments:?}: {}", ended.stdout);
    }
    let df = ask(&served, &["system", "df", "-v"]).await;
    assert!(df.stdout.contains("Images   1      1       4.0 KiB"), "{}", df.stdout);
}

#[tokio::test]
async fn a_pull_that_nobody_watches_prints_a_line_for_each_change() {
    let served = serve();
    let pulled = ask(&served, &["image", "pull", "nginx"]).await;
    let said: Vec<&str> = pulled.stderr.lines().collect();
    assert_eq!(said, ["aaaaaaaaaaaa  fetching   30 B", "aaaaaaaaaaaa  done       30 B"]);
    let quiet = ask(&served, &["image", "pull", "-q", "nginx"]).await;
    assert_eq!((quiet.stderr.as_str(), quiet.stdout), ("", format!("sha256:{}\n", "a".repeat(64))));
}

#[tokio::test]
async fn one_name_that_fails_does_not_keep_the_others_back() {
    let served = serve();
    let pulled = ask(&served, &["image", "pull", "-q", "broken", "no!", "nginx"]).await;
    assert_eq!((pulled.code, pulled.stdout.lines().count()), (Some(1), 1));
    assert!(pulled.stderr.contains("longshore: the registry is on fire\n  bring water"), "{}", pulled.stderr);
    let missing = ask(&served, &["image", "rm", "nobody", "nginx"]).await;
    assert_eq!(missing.code, Some(1));
    assert!(
        missing.stderr.contains("`longshore image ls`") && missing.stderr.contains("shop-web-1"),
        "{}",
        missing.stderr
    );
}

#[tokio::test]
async fn an_archive_is_written_whole_or_not_at_all() {
    let served = serve();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.tar");
    let path = file.to_str().unwrap();
    let saved = ask(&served, &["image", "save", "-o", path, "--format", "oci-archive", "nginx"]).await;
    assert_eq!((saved.code, std::fs::metadata(&file).unwrap().len()), (Some(0), 4 * 65_536), "{}", saved.stderr);
    assert!(served.images.asked.lock().unwrap()[0].contains("OciArchive"));
    let cut = ask(&served, &["image", "save", "-o", path, "cut-nginx"]).await;
    assert_eq!((cut.code, std::fs::metadata(&file).unwrap().len()), (Some(1), 4 * 65_536));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "a draft is left");
    let piped = ask(&served, &["image", "save", "nginx"]).await;
    assert_eq!((piped.code, piped.stdout.trim_end().len()), (Some(0), 4 * 65_536));
}

#[tokio::test]
async fn an_archive_is_sent_as_it_comes() {
    let served = serve();
    let mut command = client(&["--socket", served.socket.to_str().unwrap(), "image", "load", "a"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(&vec![7; 1 << 20]).await.unwrap();
    // It arrives while the pipe is still open: nothing waits for the end.
    within(async {
        while served.images.received.load(Ordering::SeqCst) < 512 << 10 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(pipe);
    let output = within(child.wait_with_output()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && said.contains("a  sha256:"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(served.images.received.load(Ordering::SeqCst), 1 << 20);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("index.json"), "{}").unwrap();
    let folder = ask(&served, &["image", "load", "-i", dir.path().to_str().unwrap()]).await;
    assert!(folder.stdout.starts_with("<none>  sha256:"), "{}{}", folder.stdout, folder.stderr);
    let missing = ask(&served, &["image", "load", "-i", "/nothing/there.tar"]).await;
    assert!(missing.stderr.contains("cannot read /nothing/there.tar"), "{}", missing.stderr);
    std::fs::write(dir.path().join("bad"), "not an archive").unwrap();
    let bad = ask(&served, &["image", "import", dir.path().join("bad").to_str().unwrap(), "a"]).await;
    assert_eq!((bad.code, bad.stderr.as_str()), (Some(1), "longshore: this is not an archive\n"));
}

#[tokio::test]
async fn damage_that_stays_is_an_error() {
    let served = serve();
    let damaged = ask(&served, &["image", "verify"]).await;
    assert_eq!(damaged.code, Some(1), "{}", damaged.stderr);
    assert_eq!(damaged.stderr, "checking nginx:1.29\n");
    assert_eq!(
        damaged.stdout,
        "nginx:1.29  layer aaaaaaaaaaaa  damaged: etc/motd: its size is not what was unpacked\n\
         1 image checked, 1 part damaged\n  `longshore image verify --repair` fetches them again\n"
    );
    let repaired = ask(&served, &["image", "verify", "--repair", "nginx"]).await;
    assert_eq!(repaired.code, Some(0), "{}", repaired.stderr);
    assert!(repaired.stdout.contains("nginx:1.29  layer aaaaaaaaaaaa  repaired\n"), "{}", repaired.stdout);
    let whole = ask(&served, &["image", "verify", "whole-nginx"]).await;
    assert_eq!((whole.code, whole.stdout.as_str()), (Some(0), "1 image checked, all whole\n"));
    let json = ask(&served, &["image", "verify", "--json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["findings"][0]["state"], "damaged");
}
