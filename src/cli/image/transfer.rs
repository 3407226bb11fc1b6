//! `longshore image pull` and `push`

use super::Failures;
use super::args::{PullArgs, PushArgs};
use super::bars::{Display, Way};
use super::lines::follow;
use crate::api::wire::{PullAsk, Pulled, PushAsk, Pushed};
use crate::cli::Exit;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::out::Out;
use crate::cli::words::{bytes, printable};

/// One after the other: a single pull already uses what the line and the disk give.
pub(super) async fn pull(client: &Client, args: &PullArgs, out: &mut Out) -> Result<Exit, Failure> {
    let mut failed = Failures::default();
    for name in &args.names {
        let ask = PullAsk { image: name.clone(), platform: args.platform.clone() };
        let pulled = match client.tell_lines("/api/v1/images/pull", &ask).await {
            Ok(lines) => follow::<Pulled>(lines, Display::new(Way::Pull, args.quiet, out.watched)).await,
            Err(failure) => Err(failure),
        };
        if let Some(pulled) = failed.note(pulled, out)? {
            let line = if args.quiet { printable(&pulled.digest) } else { said(&pulled) };
            out.text(&format!("{line}\n"))?;
            out.flush()?;
        }
    }
    Ok(failed.exit())
}

fn said(pulled: &Pulled) -> String {
    let news = if pulled.changed { format!("pulled, {}", bytes(pulled.bytes)) } else { "up to date".to_owned() };
    format!("{}  {}  ({news})", printable(&pulled.image), printable(&pulled.digest))
}

pub(super) async fn push(client: &Client, args: &PushArgs, out: &mut Out) -> Result<Exit, Failure> {
    let ask = PushAsk { image: args.name.clone() };
    let lines = client.tell_lines("/api/v1/images/push", &ask).await?;
    let pushed: Pushed = follow(lines, Display::new(Way::Push, args.quiet, out.watched)).await?;
    if args.quiet {
        out.text(&format!("{}\n", printable(&pushed.digest)))?;
        return Ok(Exit::Fine);
    }
    out.text(&format!("{}  {}  ({})\n", printable(&pushed.image), printable(&pushed.digest), sent(&pushed)))?;
    if !pushed.same {
        out.text("  the digest is not that of the image here: its layers had to be compressed anew\n")?;
    }
    Ok(Exit::Fine)
}

fn sent(pushed: &Pushed) -> String {
    let parts = [
        (pushed.uploaded, "sent"),
        (pushed.mounted, "taken from other repositories"),
        (pushed.present, "there before"),
    ];
    let parts: Vec<_> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", bytes(*n))).collect();
    if parts.is_empty() { "all was there before".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_transfer_says_in_the_end() {
        let (image, digest) = ("docker.io/library/nginx:1.29".to_owned(), "sha256:abc".to_owned());
        let pulled = Pulled { image: image.clone(), digest: digest.clone(), bytes: 5_000_000, changed: true };
        assert_eq!(said(&pulled), "docker.io/library/nginx:1.29  sha256:abc  (pulled, 4.7 MiB)");
        assert!(said(&Pulled { changed: false, ..pulled }).ends_with("(up to date)"));
        let pushed = Pushed { image, digest, same: true, present: 10, mounted: 0, uploaded: 2048 };
        assert_eq!(sent(&pushed), "2.0 KiB sent, 10 B there before");
        assert_eq!(sent(&Pushed { present: 0, uploaded: 0, ..pushed }), "all was there before");
    }
}
