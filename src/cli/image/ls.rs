//! `longshore image ls`

use super::args::LsArgs;
use super::bars::short;
use crate::api::wire::ImageEntry;
use crate::cli::Exit;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::out::{Ink, Out, Paint, now};
use crate::cli::table::{Table, plain};
use crate::cli::words::{age, bytes, image, printable};
use crate::model::Timestamp;

pub(super) async fn run(client: &Client, args: &LsArgs, out: &mut Out) -> Result<Exit, Failure> {
    let mut images: Vec<ImageEntry> = client.get_within("/api/v1/images", super::PATIENCE).await?;
    if !args.all {
        images.retain(|image| !image.names.is_empty());
    }
    if args.json {
        out.json(&images)?;
    } else if args.quiet {
        let digests: String = images.iter().map(|image| format!("{}\n", printable(&image.digest))).collect();
        out.text(&digests)?;
    } else {
        out.text(&render(&images, args.digests, out.paint, now()))?;
    }
    Ok(Exit::Fine)
}

fn render(images: &[ImageEntry], digests: bool, paint: Paint, now: Timestamp) -> String {
    let id = if digests { "DIGEST" } else { "ID" };
    let mut table = Table::new(&["REPOSITORY", "TAG", id, "CREATED", "SIZE", "USED BY", ""]);
    for each in images {
        let unnamed = ["<none>".to_owned()];
        for name in if each.names.is_empty() { &unnamed[..] } else { &each.names } {
            let (repository, tag) = parts(name);
            table.row([
                plain(repository),
                plain(tag),
                (if digests { each.digest.clone() } else { short(&each.digest) }, Ink::Faint),
                plain(each.created.map_or_else(|| "-".to_owned(), |at| format!("{} ago", age(at, now)))),
                plain(bytes(each.disk_bytes)),
                plain(each.used_by.len().to_string()),
                plain(if each.pinned { "pinned" } else { "" }),
            ]);
        }
    }
    table.render(paint)
}

/// Repository and tag, without what Docker's users leave out.
fn parts(name: &str) -> (&str, &str) {
    let name = image(name);
    if let Some((repository, _)) = name.split_once('@') {
        return (repository, "<none>");
    }
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, "<none>"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::api::wire::Time;

    pub(crate) fn entry(names: &[&str], hex: char) -> ImageEntry {
        let digest = format!("sha256:{}", String::from(hex).repeat(64));
        ImageEntry {
            names: names.iter().map(|n| (*n).to_owned()).collect(),
            top: digest.clone(),
            digest,
            platform: "linux/amd64".into(),
            bytes: 70_000_000,
            disk_bytes: 190_000_000,
            created: Some(Time::from(Timestamp(1_000))),
            pulled: Time::from(Timestamp(90_000)),
            last_used: None,
            pinned: false,
            origin: "pulled".into(),
            used_by: vec!["shop-web-1".into()],
        }
    }

    #[test]
    fn a_row_for_each_name() {
        let pinned =
            ImageEntry { pinned: true, created: None, used_by: Vec::new(), ..entry(&["ghcr.io/a/b@sha256:0123"], 'b') };
        let images = [entry(&["docker.io/library/nginx:1.29", "127.0.0.1:5000/n:x"], 'a'), pinned, entry(&[], 'c')];
        insta::assert_snapshot!(render(&images, false, Paint { on: false }, Timestamp(100_000)));
    }
}
