//! Lets a kit of hostile images drive the image room from outside: `ADAPTER="pull REF"` or `ADAPTER="rootfs REF DIR"`
//! with `ADAPTER_STORE` for the store. Without `ADAPTER` it does nothing.

use std::path::Path;
use std::process::{Command, exit};
use std::time::Duration;

use longshore::image::{Credential, Images, Progress, Settings, Timeouts, lookup_user};
use longshore::model::ImageReference;

fn settings(image: &ImageReference) -> Settings {
    let timeouts = Timeouts { progress: Duration::from_secs(5), ..Timeouts::default() };
    let mut settings = Settings { timeouts, ..Settings::default() };
    if let Some((user, password)) = std::env::var("CREDS").ok().as_deref().and_then(|c| c.split_once(':')) {
        let (user, password) = (user.to_owned(), password.to_owned());
        settings.credentials.insert(image.registry().to_owned(), Credential { user, password });
    }
    settings
}

fn fail(error: &dyn std::error::Error) -> ! {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    eprintln!("{text}");
    exit(1)
}

#[test]
fn adapter() {
    let Ok(call) = std::env::var("ADAPTER") else { return };
    let words: Vec<&str> = call.split(' ').collect();
    let store = std::env::var("ADAPTER_STORE").unwrap();
    let image = ImageReference::parse(words[1]).unwrap_or_else(|e| fail(&e));
    let images = Images::open(Path::new(&store), settings(&image)).unwrap_or_else(|e| fail(&e));
    match words[0] {
        "pull" => {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let pulled = runtime.block_on(images.pull(&image, None, &Progress::default()));
            pulled.unwrap_or_else(|e| fail(&e));
        }
        "rootfs" => {
            let present = images.present();
            let digest = &present[&image].digest;
            let layers: Vec<_> = images.layers(digest).unwrap_or_else(|e| fail(&e));
            let lower: Vec<_> = layers.iter().rev().map(|l| l.display().to_string()).collect();
            let target = words[2];
            let (upper, work) = (format!("{store}-rw/upper"), format!("{store}-rw/work"));
            std::fs::create_dir_all(&upper).unwrap();
            std::fs::create_dir_all(&work).unwrap();
            let options = format!("lowerdir={},upperdir={upper},workdir={work}", lower.join(":"));
            let mounted =
                Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options, target]).status().unwrap();
            if !mounted.success() {
                exit(1);
            }
            let user = images.config(digest).unwrap_or_else(|e| fail(&e)).user;
            lookup_user(Path::new(target), &user).unwrap_or_else(|e| fail(&e));
        }
        other => panic!("unknown call {other}"),
    }
}
