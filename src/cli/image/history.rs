//! `longshore image history`

use super::args::HistoryArgs;
use super::bars::short;
use crate::api::wire::HistoryEntry;
use crate::cli::Exit;
use crate::cli::client::{Client, percent};
use crate::cli::failure::Failure;
use crate::cli::out::{Ink, Out, Paint, now};
use crate::cli::table::{Table, plain};
use crate::cli::words::{age, bytes};
use crate::model::Timestamp;

/// Longer commands make the table too wide for a terminal.
const WIDTH: usize = 45;

pub(super) async fn run(client: &Client, args: &HistoryArgs, out: &mut Out) -> Result<Exit, Failure> {
    let path = format!("/api/v1/images/history?name={}", percent(&args.name));
    let steps: Vec<HistoryEntry> = client.get_within(&path, super::PATIENCE).await?;
    if args.json {
        out.json(&steps)?;
    } else {
        out.text(&render(&steps, args.no_trunc, out.paint, now()))?;
    }
    Ok(Exit::Fine)
}

fn render(steps: &[HistoryEntry], whole: bool, paint: Paint, now: Timestamp) -> String {
    let mut table = Table::new(&["LAYER", "CREATED", "CREATED BY", "SIZE", "COMMENT"]);
    for step in steps {
        let layer = step.diff_id.as_deref().map(|id| if whole { id.to_owned() } else { short(id) });
        table.row([
            (layer.unwrap_or_else(|| "-".to_owned()), Ink::Faint),
            plain(step.created.map_or_else(|| "-".to_owned(), |at| format!("{} ago", age(at, now)))),
            plain(if whole { step.created_by.clone() } else { cut(&step.created_by) }),
            plain(bytes(step.bytes)),
            plain(&step.comment),
        ]);
    }
    table.render(paint)
}

fn cut(command: &str) -> String {
    if command.chars().count() <= WIDTH {
        return command.to_owned();
    }
    let mut text: String = command.chars().take(WIDTH - 3).collect();
    text.push_str("...");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::Time;

    #[test]
    fn the_last_step_comes_first_and_long_commands_are_cut() {
        let step = |by: &str, layer: Option<char>| HistoryEntry {
            created: layer.map(|_| Time::from(Timestamp(1_000))),
            created_by: by.into(),
            comment: "buildkit".into(),
            diff_id: layer.map(|c| format!("sha256:{}", String::from(c).repeat(64))),
            bytes: if layer.is_some() { 4_000_000 } else { 0 },
        };
        let steps = [step("CMD [\"sh\"]", None), step(&"RUN apt-get install -y a-long-list ".repeat(3), Some('a'))];
        insta::assert_snapshot!(render(&steps, false, Paint { on: false }, Timestamp(100_000)));
    }
}
