//! `longshore image verify`

use super::args::VerifyArgs;
use super::bars::Display;
use super::lines::follow;
use crate::api::wire::{Damage, Verified, VerifyAsk};
use crate::cli::Exit;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::out::Out;
use crate::cli::words::printable;

/// Damage that stays is an error.
pub(super) async fn run(client: &Client, args: &VerifyArgs, out: &mut Out) -> Result<Exit, Failure> {
    let ask = VerifyAsk { images: args.names.clone(), repair: args.repair };
    let lines = client.tell_lines("/api/v1/images/verify", &ask).await?;
    let verified: Verified = follow(lines, Display::new(args.json, out.watched)).await?;
    if args.json {
        out.json(&verified)?;
    } else {
        out.text(&render(&verified, args.repair))?;
    }
    Ok(if verified.findings.iter().all(|f| f.repaired) { Exit::Fine } else { Exit::Error })
}

fn render(verified: &Verified, repair: bool) -> String {
    let mut text: String = verified.findings.iter().map(line).collect();
    let damaged = verified.findings.iter().filter(|f| !f.repaired).count();
    let looked = verified.images.len();
    let images = if looked == 1 { "image" } else { "images" };
    if damaged == 0 {
        text.push_str(&format!("{looked} {images} looked at, whole\n"));
    } else {
        let hint = if repair { "" } else { "; --repair fetches it again" };
        text.push_str(&format!("{looked} {images} looked at, damaged in {damaged} places{hint}\n"));
    }
    text
}

fn line(finding: &Damage) -> String {
    let repaired = if finding.repaired { " (fetched again, whole now)" } else { "" };
    let (image, what, damage) = (printable(&finding.image), printable(&finding.what), printable(&finding.damage));
    format!("{image}: {what}: {damage}{repaired}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_named_with_its_place() {
        let finding = Damage {
            image: "ghcr.io/a/b:1".into(),
            what: "sha256:0123".into(),
            damage: "etc/passwd has another content".into(),
            repaired: false,
        };
        let verified = Verified { images: vec!["ghcr.io/a/b:1".into()], findings: vec![finding.clone()] };
        insta::assert_snapshot!(render(&verified, false), @"");
        let whole = Verified { findings: vec![Damage { repaired: true, ..finding }], ..verified };
        assert!(render(&whole, true).ends_with("1 image looked at, whole\n"));
    }
}
