//! `longshore image prune`

use super::PATIENCE;
use super::args::PruneArgs;
use crate::api::wire::{PruneAsk, Pruned};
use crate::cli::Exit;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::out::Out;
use crate::cli::words::{bytes, printable};

pub(super) async fn run(client: &Client, args: &PruneArgs, out: &mut Out) -> Result<Exit, Failure> {
    let ask = PruneAsk { all: args.all, dry_run: args.dry_run };
    let pruned: Pruned = client.tell("/api/v1/images/prune", &ask, PATIENCE).await?;
    if args.json {
        out.json(&pruned)?;
    } else {
        out.text(&render(&pruned, args.dry_run))?;
    }
    Ok(Exit::Fine)
}

fn render(pruned: &Pruned, dry: bool) -> String {
    let (verb, sum) = if dry { ("would remove", "would be free again") } else { ("removed", "are free again") };
    let each =
        |image: &crate::api::wire::PrunedImage| format!("{verb} {}, {}\n", printable(&image.image), bytes(image.bytes));
    let lines: String = pruned.images.iter().map(each).collect();
    match pruned.images.len() {
        0 if pruned.freed == 0 => "nothing to remove\n".to_owned(),
        _ => format!("{lines}{} {sum}\n", bytes(pruned.freed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::PrunedImage;

    #[test]
    fn what_was_removed_and_what_would_be() {
        assert_eq!(render(&Pruned::default(), false), "nothing to remove\n");
        let image = PrunedImage { image: "ghcr.io/a/b:1".into(), digest: "sha256:0".into(), bytes: 4096 };
        let pruned = Pruned { images: vec![image], freed: 2048 };
        assert_eq!(render(&pruned, false), "removed ghcr.io/a/b:1, 4.0 KiB\n2.0 KiB are free again\n");
        assert_eq!(render(&pruned, true), "would remove ghcr.io/a/b:1, 4.0 KiB\n2.0 KiB would be free again\n");
    }
}
