//! `longshore image rm`, `tag`, `pin` and `unpin`

use super::args::{RmArgs, TagArgs};
use super::{Failures, PATIENCE};
use crate::api::wire::{PinAsk, Pinned, RemoveAsk, RemovedImage, TagAsk, Tagged};
use crate::cli::Exit;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::out::Out;
use crate::cli::words::{bytes, printable};

pub(super) async fn remove(client: &Client, args: &RmArgs, out: &mut Out) -> Result<Exit, Failure> {
    let mut failed = Failures::default();
    for name in &args.names {
        let ask = RemoveAsk { image: name.clone(), force: args.force };
        let removed = client.tell("/api/v1/images/remove", &ask, PATIENCE).await;
        if let Some(removed) = failed.note(removed, out)? {
            out.text(&gone(&removed))?;
        }
    }
    Ok(failed.exit())
}

fn gone(removed: &RemovedImage) -> String {
    let mut text: String = removed.untagged.iter().map(|name| format!("untagged {}\n", printable(name))).collect();
    if removed.layers > 0 {
        let plural = if removed.layers == 1 { "" } else { "s" };
        text.push_str(&format!("removed {} layer{plural}, {}\n", removed.layers, bytes(removed.freed)));
    }
    text
}

pub(super) async fn tag(client: &Client, args: &TagArgs, out: &mut Out) -> Result<Exit, Failure> {
    let ask = TagAsk { source: args.source.clone(), target: args.target.clone() };
    let tagged: Tagged = client.tell("/api/v1/images/tag", &ask, PATIENCE).await?;
    out.text(&format!("{}  {}\n", printable(&tagged.image), printable(&tagged.digest)))?;
    Ok(Exit::Fine)
}

pub(super) async fn pin(client: &Client, names: &[String], pinned: bool, out: &mut Out) -> Result<Exit, Failure> {
    let mut failed = Failures::default();
    for name in names {
        let ask = PinAsk { image: name.clone(), pinned };
        let answer: Result<Pinned, Failure> = client.tell("/api/v1/images/pin", &ask, PATIENCE).await;
        if let Some(pinned) = failed.note(answer, out)? {
            let word = if pinned.pinned { "pinned" } else { "unpinned" };
            out.text(&format!("{word} {}\n", printable(&pinned.image)))?;
        }
    }
    Ok(failed.exit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_named() {
        let removed = RemovedImage { untagged: vec!["ghcr.io/a/b:1".into()], layers: 2, freed: 2048 };
        assert_eq!(gone(&removed), "untagged ghcr.io/a/b:1\nremoved 2 layers, 2.0 KiB\n");
        assert_eq!(gone(&RemovedImage { layers: 0, ..removed }), "untagged ghcr.io/a/b:1\n");
    }
}
