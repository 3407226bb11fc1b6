//! How images come over broken connections, from mirrors, behind logins and through proxies.

#[path = "image_support/here.rs"]
mod here;
#[expect(dead_code, reason = "each test program uses its own part")]
mod image_support;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use here::{Here, large, parse, quick, registries};
use image_support::{Answer, Image, MANIFEST, Request, Script, file, gzip, image, ok, part, serve, sha, tar, told};
use longshore::image::{
    Credential, Images, LayerState, Mirror, Progress, Proxy, Refreshed, RegistrySettings, Settings,
};

/// Answers about one layer by `change`, about all else as a good registry.
fn about(
    image: &Image,
    digest: &str,
    change: impl Fn(&[u8], &Request, u32) -> Answer + Send + Sync + 'static,
) -> Script {
    let (image, digest, count) = (image.clone(), digest.to_owned(), AtomicU32::new(0));
    Script::serve(move |request| {
        if request.path.contains(&digest) {
            change(&image.blobs[&digest], request, count.fetch_add(1, Ordering::Relaxed))
        } else {
            serve(&image, &request.path)
        }
    })
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_broke() {
    let (made, layer) = large();
    let whole = made.blobs[&layer].len();
    // Cut at several places, the very ends included; each time nothing is fetched twice.
    for cuts in [vec![0], vec![1], vec![whole / 2, whole / 2 + 1, whole - 1], vec![whole - 1], vec![100_000; 1]] {
        let places = cuts.clone();
        let script = about(&made, &layer, move |blob, request, at| {
            let from = request.from().unwrap_or(0);
            match places.get(at as usize) {
                Some(cut) => Answer::Part {
                    status: if from > 0 { 206 } else { 200 },
                    headers: format!("Content-Range: bytes {from}-{}/{}\r\n", blob.len() - 1, blob.len()),
                    length: blob.len() - from,
                    body: blob[from..*cut].to_vec(),
                    hang: false,
                },
                None if from == 0 => ok("application/octet-stream", blob.to_vec()),
                None => part(blob, from),
            }
        });
        let here = Here::new(quick());
        let progress = Progress::default();
        here.pull_with(&script.name(), &progress).await.map_err(|e| told(&e)).unwrap();
        let asked = script.lines(&layer);
        assert_eq!(asked.len(), cuts.len() + 1, "{asked:?}");
        for (cut, line) in cuts.iter().zip(&asked[1..]) {
            assert!(*cut == 0 || line.ends_with(&format!("bytes={cut}-")), "{line}");
        }
        let seen = progress.snapshot();
        assert_eq!((seen.done, seen.total, seen.wait), (whole as u64, whole as u64, None));
        assert_eq!(seen.layers[0].state, LayerState::Done);
        assert_eq!(here.partials(), 0);
    }
}

#[tokio::test]
async fn a_stalled_download_goes_on() {
    let (made, layer) = large();
    let script = about(&made, &layer, |blob, request, at| match (at, request.from()) {
        (0, _) => Answer::Part {
            status: 200,
            headers: String::new(),
            length: blob.len(),
            body: blob[..500_000].to_vec(),
            hang: true,
        },
        (_, Some(from)) => part(blob, from),
        (_, None) => Answer::Whole(500, String::new(), vec![]),
    });
    Here::new(quick()).pull(&script.name()).await.unwrap();
    assert_eq!(script.lines(&layer).len(), 2);
}

#[tokio::test]
async fn ranges_that_are_ignored_unknown_or_wrong() {
    let (made, layer) = large();
    let half = |blob: &[u8]| Answer::Cut(blob.to_vec(), blob.len() / 2);
    let ignored =
        about(
            &made,
            &layer,
            move |blob, _, at| {
                if at == 0 { half(blob) } else { ok("application/octet-stream", blob.to_vec()) }
            },
        );
    Here::new(quick()).pull(&ignored.name()).await.unwrap();
    let unknown = about(&made, &layer, move |blob, request, at| match (at, request.from()) {
        (0, _) => half(blob),
        (_, Some(_)) => Answer::Whole(416, String::new(), vec![]),
        (_, None) => ok("application/octet-stream", blob.to_vec()),
    });
    Here::new(quick()).pull(&unknown.name()).await.unwrap();
    let wrong = about(&made, &layer, move |blob, request, _| match request.from() {
        Some(from) => part(blob, from - 1),
        None => half(blob),
    });
    let here = Here::new(quick());
    let error = here.pull(&wrong.name()).await.unwrap_err();
    assert!(error.contains("sent another part"), "{error}");
    // Other bytes than the rest: once more from the start, and then it is over.
    let others = about(&made, &layer, move |blob, request, _| match request.from() {
        Some(from) => part(&vec![0; blob.len()], from),
        None => half(blob),
    });
    let error = here.pull(&others.name()).await.unwrap_err();
    assert!(error.contains("was asked for"), "{error}");
    assert_eq!(others.lines(&layer).len(), 4, "{:?}", others.lines(&layer));
    let healed = about(&made, &layer, move |blob, request, at| match (at, request.from()) {
        (0, _) => half(blob),
        (_, Some(from)) => part(&vec![0; blob.len()], from),
        (_, None) => ok("application/octet-stream", blob.to_vec()),
    });
    here.pull(&healed.name()).await.unwrap();
}

#[tokio::test]
async fn a_registry_in_trouble_is_asked_again() {
    let (made, layer) = large();
    let count = AtomicU32::new(0);
    let script = Script::serve(move |request| {
        // Each of manifest, configuration and layer fails twice.
        let at = count.fetch_add(1, Ordering::Relaxed);
        match at % 3 {
            0 => Answer::Whole(503, String::new(), vec![]),
            1 => Answer::Whole(429, "Retry-After: 0\r\n".into(), vec![]),
            _ => serve(&made, &request.path),
        }
    });
    let here = Here::new(quick());
    let (progress, name) = (Arc::new(Progress::default()), script.name());
    let watched = Arc::clone(&progress);
    let watcher = tokio::spawn(async move {
        loop {
            if let Some(wait) = watched.snapshot().wait {
                return wait;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    here.pull_with(&name, &progress).await.map_err(|e| told(&e)).unwrap();
    let wait = watcher.await.unwrap();
    assert!(wait.of == 3 && wait.reason.contains("127.0.0.1"), "{wait:?}");
    assert_eq!(progress.snapshot().requests, 9);
    assert_eq!(script.lines(&layer).len(), 3);

    let date = "Date: Wed, 21 Oct 2015 07:28:00 GMT\r\nRetry-After: Wed, 21 Oct 2015 07:28:20 GMT\r\n";
    let later = Script::start(move |_| Answer::Whole(429, date.into(), vec![]));
    let error = here.pull_with(&later.name(), &Progress::default()).await.unwrap_err();
    assert_eq!((error.retry_after(), later.lines("").len()), (Some(Duration::from_secs(20)), 1));
    let gone = Script::start(|_| Answer::Whole(404, String::new(), vec![]));
    assert!(here.pull_with(&gone.name(), &Progress::default()).await.unwrap_err().permanent());
    assert_eq!(gone.lines("").len(), 1, "what does not exist is asked for once");
}

async fn has(progress: &Progress, bytes: u64) {
    while progress.done() < bytes {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_partial_download_outlives_its_pull() {
    let (made, layer) = large();
    let stalled = about(&made, &layer, |blob, _, _| Answer::Part {
        status: 200,
        headers: String::new(),
        length: blob.len(),
        body: blob[..1_000_000].to_vec(),
        hang: true,
    });
    let here = Here::new(Settings::default());
    let progress = Progress::default();
    {
        let name = parse(&stalled.name());
        let mut pull = std::pin::pin!(here.images.pull(&name, None, &progress));
        tokio::select! { _ = &mut pull => panic!("it stalls"), () = has(&progress, 1_000_000) => {} }
    }
    let file = here.dir.path().join("partial").join(layer.replace(':', "-"));
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while std::fs::metadata(&file).map_or(0, |m| m.len()) < 500_000 {
        assert!(std::time::Instant::now() < until, "what came is written down");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let Here { images, dir } = here;
    drop(images);
    let here = Here { images: Images::open(dir.path(), quick()).unwrap(), dir };
    let kept = std::fs::metadata(&file).unwrap().len();
    let good = about(&made, &layer, |blob, request, _| part(blob, request.from().unwrap_or(0)));
    let progress = Progress::default();
    here.pull_with(&good.name(), &progress).await.map_err(|e| told(&e)).unwrap();
    let asked = good.lines(&layer);
    assert!(asked.len() == 1 && asked[0].ends_with(&format!("bytes={kept}-")), "{asked:?}, {kept}");
    assert_eq!(progress.snapshot().resumed, kept);
    assert_eq!(here.partials(), 0);

    // A damaged one costs a new download, no more.
    let again = Here::new(quick());
    std::fs::write(again.dir.path().join("partial").join(layer.replace(':', "-")), vec![9; 300_000]).unwrap();
    let good = about(&made, &layer, |blob, request, _| match request.from() {
        Some(from) => part(blob, from),
        None => ok("application/octet-stream", blob.to_vec()),
    });
    again.pull(&good.name()).await.unwrap();
    assert_eq!(good.lines(&layer).len(), 2);
}

#[tokio::test]
async fn a_pull_goes_on_with_what_a_dropped_one_had() {
    let (made, layer) = large();
    let script = about(&made, &layer, |blob, request, at| match (at, request.from()) {
        (0, _) => Answer::Part {
            status: 200,
            headers: String::new(),
            length: blob.len(),
            body: blob[..1_200_000].to_vec(),
            hang: true,
        },
        (_, Some(from)) => part(blob, from),
        (_, None) => ok("application/octet-stream", blob.to_vec()),
    });
    let here = Here::new(Settings::default());
    let name = parse(&script.name());
    let (first, second) = (Progress::default(), Progress::default());
    let mut one = Box::pin(here.images.pull(&name, None, &first));
    let mut two = Box::pin(here.images.pull(&name, None, &second));
    // The first has the layer's bytes before the second begins.
    tokio::select! { _ = &mut one => panic!("it stalls"), () = has(&first, 1_200_000) => {} }
    let both = has(&second, 1_200_000);
    tokio::select! { _ = &mut one => panic!("it stalls"), _ = &mut two => panic!("it waits"), () = both => {} }
    assert_eq!(script.lines(&layer).len(), 1);
    drop(one);
    tokio::time::timeout(Duration::from_secs(20), two).await.unwrap().map_err(|e| told(&e)).unwrap();
    assert_eq!(second.snapshot().layers[0].state, LayerState::Done);
    assert!(second.snapshot().resumed > 0, "{:?}", script.lines(&layer));
}

fn mirror(of: &Script, prefix: &str) -> Mirror {
    Mirror { host: of.address.to_string(), prefix: prefix.into(), plain_http: None }
}

#[tokio::test]
async fn mirrors_are_asked_first_and_passed_over() {
    let (made, layer) = large();
    let good = Script::of(made.clone());
    let lacks = Script::start(|_| Answer::Whole(404, String::new(), vec![]));
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dead = Mirror { host: dead.to_string(), prefix: String::new(), plain_http: None };
    let busy = Script::start(|_| Answer::Whole(429, "Retry-After: 100\r\n".into(), vec![]));
    let with = |mirrors: Vec<Mirror>| RegistrySettings { mirrors, ..RegistrySettings::default() };

    // A mirror has all: the registry itself is not asked.
    let name = "registry.invalid/test/it:t";
    let set = with(vec![mirror(&lacks, ""), dead.clone(), mirror(&busy, ""), mirror(&good, "hub/cache")]);
    let here = Here::new(registries([("registry.invalid".to_owned(), set)]));
    let progress = Progress::default();
    here.pull_with(name, &progress).await.map_err(|e| told(&e)).unwrap();
    let seen = progress.snapshot();
    assert_eq!(seen.from, Some(good.address.to_string()));
    assert_eq!(seen.notes.len(), 3, "{:?}", seen.notes);
    let asked = good.lines("manifests");
    assert_eq!(asked, ["GET /v2/hub/cache/test/it/manifests/t?ns=registry.invalid"]);
    assert_eq!(busy.lines("").len(), 1, "a mirror that has enough is left alone");

    // A mirror with the manifest only, one that breaks, and one that lies: the registry itself gives the rest.
    let own = Script::of(made.clone());
    let manifest = made.clone();
    let only = Script::start(move |path| {
        if path.contains("/manifests/") { serve(&manifest, path) } else { Answer::Whole(404, String::new(), vec![]) }
    });
    let lies = about(&made, &layer, |blob, _, _| ok("application/octet-stream", vec![1; blob.len()]));
    let set = with(vec![mirror(&only, ""), mirror(&lies, "")]);
    let here = Here::new(registries([(own.address.to_string(), set)]));
    here.pull(&own.name()).await.unwrap();
    assert_eq!((lies.lines(&layer).len(), own.lines(&layer).len(), own.lines("manifests").len()), (1, 1, 0));

    // Nobody has it: all are named.
    let set = with(vec![mirror(&lacks, "")]);
    let none = Script::start(|_| Answer::Whole(403, String::new(), vec![]));
    let here = Here::new(registries([(none.address.to_string(), set)]));
    let error = here.pull(&none.name()).await.unwrap_err();
    let (first, second) = (lacks.address.to_string(), none.address.to_string());
    assert!(error.contains(&first) && error.contains(&second) && error.contains("HTTP 403"), "{error}");
}

#[tokio::test]
async fn a_silent_mirror_is_not_waited_for_as_long_as_a_registry() {
    let (made, _) = large();
    let silent = Script::start(|_| Answer::Hang);
    let own = Script::of(made);
    let set = RegistrySettings { mirrors: vec![mirror(&silent, "")], ..RegistrySettings::default() };
    let registries = [(own.address.to_string(), set)].into();
    // The patience with registries is half a minute: with it, the pull would end in its own limit.
    let here = Here::new(Settings { registries, ..Settings::default() });
    let progress = Progress::default();
    here.pull_with(&own.name(), &progress).await.map_err(|e| told(&e)).unwrap();
    assert_eq!(silent.lines("").len(), 1, "and it is asked once");
    assert!(progress.snapshot().notes[0].contains("stopped answering for 5 s"), "{:?}", progress.snapshot().notes);
}

#[tokio::test]
async fn a_layer_that_is_refused_leaves_no_partial() {
    let (made, layer) = large();
    let wrong = about(&made, &layer, |blob, _, _| ok("application/octet-stream", vec![7; blob.len()]));
    let absent = about(&made, &layer, |_, _, _| Answer::Whole(404, String::new(), vec![]));
    let here = Here::new(quick());
    for script in [wrong, absent] {
        here.pull(&script.name()).await.unwrap_err();
        assert_eq!(here.partials(), 0);
    }
}

/// A file system of 256 KiB.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: &std::path::Path) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "small"]).arg(at).status();
        assert!(mounted.unwrap().success());
        Self(at.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_disk_too_full_for_a_partial_does_not_stop_the_pull() {
    let (made, layer) = large();
    let here = Here::new(quick());
    let _small = SmallDisk::mount(&here.dir.path().join("partial"));
    let script = Script::of(made);
    here.pull(&script.name()).await.unwrap();
    assert_eq!((here.partials(), script.lines(&layer).len()), (0, 1));
}

#[tokio::test]
async fn tokens_are_asked_for_once_and_anew_when_they_run_out() {
    let (made, layer) = large();
    let serving = Arc::new((AtomicU32::new(0), AtomicU32::new(0)));
    let state = Arc::clone(&serving);
    let script = Script::serve(move |request| {
        let (tokens, blobs) = (&state.0, &state.1);
        if request.path.starts_with("/token") {
            let good = request.method == "POST"
                && request.body.contains("grant_type=refresh_token")
                && request.body.contains("refresh_token=secret%2Frefresh")
                && request.body.contains("scope=repository%3Atest%2Fit%3Apull");
            let number = tokens.fetch_add(1, Ordering::Relaxed) + 1;
            return if good {
                ok("application/json", format!(r#"{{"access_token":"t{number}","expires_in":300}}"#).into_bytes())
            } else {
                Answer::Whole(401, String::new(), br#"{"details":"no such refresh token"}"#.to_vec())
            };
        }
        // In the middle of the layer the token runs out.
        let wanted = if blobs.load(Ordering::Relaxed) > 0 { "Bearer t2" } else { "Bearer t1" };
        if request.header("authorization") != Some(wanted) {
            let host = request.header("host").unwrap();
            let challenge = format!(
                "WWW-Authenticate: Basic realm=\"x\"\r\nWWW-Authenticate: Bearer realm=\"http://{host}/token\",service=\"s\",scope=\"repository:test/it:pull\"\r\n"
            );
            return Answer::Whole(401, challenge, vec![]);
        }
        if request.path.contains(&layer) {
            let blob = &made.blobs[&layer];
            return match request.from() {
                Some(from) => part(blob, from),
                None => {
                    blobs.fetch_add(1, Ordering::Relaxed);
                    Answer::Cut(blob.clone(), 700_000)
                }
            };
        }
        serve(&made, &request.path)
    });
    let with = |token: &str| RegistrySettings {
        credential: Some(Credential::IdentityToken(token.into())),
        ..RegistrySettings::default()
    };
    let here = Here::new(registries([(script.address.to_string(), with("wrong"))]));
    let error = here.pull(&script.name()).await.unwrap_err();
    assert!(error.contains("no such refresh token") && !error.contains("wrong"), "{error}");
    serving.0.store(0, Ordering::Relaxed);
    let here = Here::new(registries([(script.address.to_string(), with("secret/refresh"))]));
    here.pull(&script.name()).await.unwrap();
    assert_eq!(serving.0.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_login_goes_to_the_token_server_and_nowhere_else() {
    let (made, layer) = large();
    let store = {
        let made = made.clone();
        Script::serve(move |request| {
            assert_eq!(request.header("authorization"), None, "{}", request.path);
            serve(&made, &request.path)
        })
    };
    let elsewhere = store.address;
    let script = Script::serve(move |request| {
        if request.path.starts_with("/token") {
            let basic = "Basic bWU6aGlkZGVu";
            return if request.header("authorization") == Some(basic) && request.path.contains("account=me") {
                ok("application/json", br#"{"token":"t"}"#.to_vec())
            } else {
                Answer::Whole(401, String::new(), vec![])
            };
        }
        if request.header("authorization") != Some("Bearer t") {
            let host = request.header("host").unwrap();
            return Answer::Whole(401, format!("WWW-Authenticate: Bearer realm=\"http://{host}/token\"\r\n"), vec![]);
        }
        if request.path.contains(&layer) {
            return Answer::Whole(307, format!("Location: http://{elsewhere}{}\r\n", request.path), vec![]);
        }
        serve(&made, &request.path)
    });
    let credential = Some(Credential::Password { user: "me".into(), password: "hidden".into() });
    let set = RegistrySettings { credential, ..RegistrySettings::default() };
    let here = Here::new(registries([(script.address.to_string(), set)]));
    here.pull(&script.name()).await.unwrap();
    assert_eq!((script.lines("/token").len(), store.lines("/blobs/").len()), (1, 1));
}

#[tokio::test]
async fn a_refresh_is_one_question_until_the_name_moves() {
    let (first, _) = large();
    let low = tar(&[file("hello", "new")]);
    let second = image(&[(low.clone(), gzip(&low))]);
    let moved = Arc::new(AtomicU32::new(0));
    let (now, both) = (Arc::clone(&moved), [first.clone(), second.clone()]);
    let script = Script::serve(move |request| {
        let image = &both[now.load(Ordering::Relaxed) as usize];
        if request.path.contains("/manifests/") {
            let headers = format!("Content-Type: {MANIFEST}\r\nDocker-Content-Digest: {}\r\n", sha(&image.manifest));
            return Answer::Whole(200, headers, image.manifest.clone());
        }
        serve(image, &request.path)
    });
    let here = Here::new(quick());
    let (name, progress) = (parse(&script.name()), Progress::default());
    let Refreshed::Moved { from: None, to } = here.images.refresh(&name, None, &progress).await.unwrap() else {
        panic!("it was not here")
    };
    let before = script.lines("").len();
    let same = here.images.refresh(&name, None, &progress).await.unwrap();
    assert!(matches!(&same, Refreshed::Same(p) if p.digest == to.digest && p.checked_at >= to.checked_at));
    assert_eq!(script.lines("").split_off(before), ["HEAD /v2/test/it/manifests/t"]);
    // The time of the question is kept.
    let again = Images::open(here.dir.path(), quick()).unwrap();
    let Refreshed::Same(asked) = same else { unreachable!() };
    assert_eq!(again.present()[&name].checked_at, asked.checked_at);
    moved.store(1, Ordering::Relaxed);
    let changed = here.images.refresh(&name, None, &progress).await.unwrap();
    let Refreshed::Moved { from: Some(from), to } = changed else { panic!("{changed:?}") };
    assert_eq!((from.as_str(), to.digest.as_str()), (&*sha(&first.manifest), &*sha(&second.manifest)));
    // A pinned one is never asked for.
    let pinned = parse(&format!("{}@{}", name, to.digest));
    here.images.refresh(&pinned, None, &progress).await.unwrap();
    let before = script.lines("").len();
    assert!(matches!(here.images.refresh(&pinned, None, &progress).await.unwrap(), Refreshed::Same(_)));
    assert_eq!(script.lines("").len(), before);
}

#[tokio::test]
async fn a_proxy_is_used_but_not_for_loopback() {
    let (made, _) = large();
    let direct = Script::of(made.clone());
    let proxy = Script::serve(move |request| {
        assert!(request.path.starts_with("http://lab.invalid:5000/v2/"), "{}", request.path);
        serve(&made, &request.path)
    });
    let set = RegistrySettings { plain_http: Some(true), ..RegistrySettings::default() };
    let proxied = Proxy { http: Some(format!("http://{}", proxy.address)), ..Proxy::default() };
    let settings = Settings { proxy: proxied, ..registries([("lab.invalid:5000".to_owned(), set)]) };
    let here = Here::new(settings);
    here.pull("lab.invalid:5000/test/it:t").await.unwrap();
    assert!(!proxy.lines("").is_empty());
    let before = proxy.lines("").len();
    here.pull(&direct.name()).await.unwrap();
    assert_eq!(proxy.lines("").len(), before);
}
