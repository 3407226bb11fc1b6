//! `longshore image verify`

use super::args::VerifyArgs;
use super::bars::{Display, Way, short};
use super::lines::follow_finding;
use crate::api::wire::{FindingState, ImageFinding, ImagePart, Verified, VerifyAsk};
use crate::cli::Exit;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::out::Out;
use crate::cli::words::{image, printable};

/// Damage that stays is an error; what cannot be checked is none.
pub(super) async fn run(client: &Client, args: &VerifyArgs, out: &mut Out) -> Result<Exit, Failure> {
    let ask = VerifyAsk { images: args.names.clone(), repair: args.repair };
    let lines = client.tell_lines("/api/v1/images/verify", &ask).await?;
    let display = Display::new(Way::Verify, args.json, out.watched);
    let mut print = |finding: &ImageFinding| {
        if args.json {
            return Ok(());
        }
        out.text(&line(finding))?;
        out.flush()
    };
    let verified: Verified = follow_finding(lines, display, &mut print).await?;
    if args.json {
        out.json(&verified)?;
    } else {
        out.text(&summary(&verified, &args.names))?;
    }
    let bad = |finding: &ImageFinding| matches!(finding.state, FindingState::Damaged | FindingState::Failed);
    Ok(if verified.findings.iter().any(bad) { Exit::Error } else { Exit::Fine })
}

fn line(finding: &ImageFinding) -> String {
    let part = match finding.part {
        ImagePart::Document => "document",
        ImagePart::Blob => "compressed layer",
        ImagePart::Layer => "layer",
    };
    let said = match finding.state {
        FindingState::Damaged => format!("damaged: {}", finding.damage),
        FindingState::Unknown => "cannot be checked: an earlier version kept nothing to compare it with".to_owned(),
        FindingState::Repaired => "repaired".to_owned(),
        FindingState::Failed => format!("not repaired: {}", finding.error.as_deref().unwrap_or("nobody says why")),
    };
    format!("{}  {part} {}  {}\n", printable(image(&finding.image)), short(&finding.what), printable(&said))
}

fn summary(verified: &Verified, names: &[String]) -> String {
    let count = |state| verified.findings.iter().filter(|finding| finding.state == state).count();
    let (damaged, unknown) = (count(FindingState::Damaged), count(FindingState::Unknown));
    let (repaired, failed) = (count(FindingState::Repaired), count(FindingState::Failed));
    let mut text = counted(verified.images.len(), "image", "checked");
    for (number, what) in
        [(damaged, "damaged"), (repaired, "repaired"), (failed, "not repaired"), (unknown, "that cannot be checked")]
    {
        if number > 0 {
            text.push_str(&format!(", {}", counted(number, "part", what)));
        }
    }
    text.push_str(if verified.findings.is_empty() { ", all whole\n" } else { "\n" });
    if damaged + unknown > 0 {
        let names: String = names.iter().map(|name| format!(" {}", printable(name))).collect();
        text.push_str(&format!("  `longshore image verify --repair{names}` fetches them again\n"));
    }
    let layer = |f: &ImageFinding| f.state == FindingState::Repaired && f.part == ImagePart::Layer;
    if verified.findings.iter().any(layer) {
        text.push_str("  containers that run see the new files after a restart\n");
    }
    text
}

fn counted(number: usize, what: &str, how: &str) -> String {
    format!("{number} {what}{} {how}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(state: FindingState) -> ImageFinding {
        ImageFinding {
            image: "docker.io/library/nginx:1.29".into(),
            part: ImagePart::Layer,
            what: format!("sha256:{}", "a".repeat(64)),
            damage: "bin/x\x1b: its time is not what was unpacked".into(),
            state,
            error: (state == FindingState::Failed).then(|| "the registry is gone".into()),
        }
    }

    #[test]
    fn damage_is_named_with_its_place_and_what_can_be_done() {
        use FindingState::{Damaged, Failed, Repaired, Unknown};
        let states = [Damaged, Unknown, Repaired, Failed];
        let lines: String = states.iter().map(|state| line(&finding(*state))).collect();
        let of = |states: &[FindingState]| Verified {
            images: vec!["a".into(), "b".into()],
            findings: states.iter().map(|state| finding(*state)).collect(),
        };
        let summaries = [
            summary(&of(&[]), &[]),
            summary(&of(&[Damaged, Damaged, Unknown]), &[]),
            summary(&of(&[Damaged]), &["nginx:1.29".into()]),
            summary(&of(&[Repaired, Failed]), &[]),
        ];
        insta::assert_snapshot!(format!("{lines}--\n{}", summaries.join("--\n")));
    }
}
