//! `longshore volume prune`: what goes is shown first, and then goes by name, so that nothing goes that was not shown.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use super::PATIENCE;
use super::args::PruneArgs;
use crate::api::wire::{PrunedVolume, PrunedVolumes, VolumePruneAsk};
use crate::cli::Exit;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::out::Out;
use crate::cli::words::{bytes, printable};

/// An answer is one word.
const LONGEST: u64 = 64;

pub(super) async fn run(client: &Client, args: &PruneArgs, out: &mut Out) -> Result<Exit, Failure> {
    let asks = !args.yes && !args.dry_run;
    if asks && (args.json || !io::stdin().is_terminal()) {
        let message = "nobody is here to be asked; say --yes to remove, or --dry-run to see what would go";
        return Err(Failure::Said(message.to_owned()));
    }
    let question = VolumePruneAsk { anonymous: true, dry_run: true, ..VolumePruneAsk::default() };
    let found: PrunedVolumes = client.tell("/api/v1/volumes/prune", &question, PATIENCE).await?;
    let plan = chosen(found, args.all);
    if args.dry_run || plan.removed.is_empty() {
        return say(&plan, args, false, out);
    }
    if asks && !agreed(&plan, out)? {
        out.text("nothing was removed\n")?;
        return Ok(Exit::Error);
    }
    let names = plan.removed.iter().map(|volume| volume.name.clone()).collect();
    let ask = VolumePruneAsk { names, ..VolumePruneAsk::default() };
    let pruned: PrunedVolumes = client.tell("/api/v1/volumes/prune", &ask, PATIENCE).await?;
    say(&pruned, args, true, out)
}

/// With `--all` those with a name go too.
fn chosen(mut found: PrunedVolumes, all: bool) -> PrunedVolumes {
    if all {
        found.freed += found.unused.iter().filter_map(|volume| volume.bytes).sum::<u64>();
        found.removed.append(&mut found.unused);
        found.removed.sort_by(|a, b| a.name.cmp(&b.name));
    }
    found
}

fn say(pruned: &PrunedVolumes, args: &PruneArgs, done: bool, out: &mut Out) -> Result<Exit, Failure> {
    if args.json {
        out.json(pruned)?;
    } else {
        out.text(&render(pruned, done))?;
    }
    Ok(Exit::Fine)
}

fn agreed(plan: &PrunedVolumes, out: &mut Out) -> Result<bool, Failure> {
    out.text(&render(plan, false))?;
    out.text("Remove them with all that they hold? Type yes: ")?;
    out.flush()?;
    let mut line = String::new();
    io::stdin().lock().take(LONGEST).read_line(&mut line).map_err(|err| Failure::Said(err.to_string()))?;
    Ok(matches!(line.trim(), "y" | "yes"))
}

fn render(pruned: &PrunedVolumes, done: bool) -> String {
    let (verb, sum) = if done { ("removed", "are free again") } else { ("would remove", "would be free again") };
    let size = |volume: &PrunedVolume| volume.bytes.map_or_else(|| "what is mounted stays".to_owned(), bytes);
    let each = |volume: &PrunedVolume| format!("{verb} {}, {}\n", printable(&volume.name), size(volume));
    let mut text: String = pruned.removed.iter().map(each).collect();
    if pruned.removed.is_empty() {
        text.push_str("nothing to remove\n");
    } else {
        text.push_str(&format!("{} {sum}\n", bytes(pruned.freed)));
    }
    if !pruned.unused.is_empty() {
        let names: Vec<String> = pruned.unused.iter().map(|volume| printable(&volume.name)).collect();
        text.push_str(&format!(
            "unused too, but somebody named them (--all, or `longshore volume rm NAME`): {}\n",
            names.join(", ")
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_name_goes_only_where_all_was_said() {
        let volume = |name: &str, anonymous| PrunedVolume { name: name.into(), anonymous, bytes: Some(4096) };
        let found =
            || PrunedVolumes { removed: vec![volume("0f", true)], unused: vec![volume("data", false)], freed: 4096 };
        assert_eq!(
            render(&chosen(found(), false), false),
            "would remove 0f, 4.0 KiB\n4.0 KiB would be free again\n\
             unused too, but somebody named them (--all, or `longshore volume rm NAME`): data\n"
        );
        assert_eq!(
            render(&chosen(found(), true), true),
            "removed 0f, 4.0 KiB\nremoved data, 4.0 KiB\n8.0 KiB are free again\n"
        );
        assert_eq!(render(&PrunedVolumes::default(), true), "nothing to remove\n");
    }
}
