//! The lines that move while one waits: a pull each, redrawn in place. Nothing where nobody watches.

use std::io::{self, Write as _};

use super::words::{bytes, image, printable};
use crate::api::wire::{Image, ImageState, Status};

/// Longer lines would wrap on a common terminal, and then could not be taken back.
const WIDTH: usize = 79;
const BAR: u64 = 20;

/// What is on the terminal now.
pub(super) struct Progress {
    watched: bool,
    drawn: usize,
}

impl Progress {
    pub(super) fn new(watched: bool) -> Self {
        Self { watched, drawn: 0 }
    }

    pub(super) fn draw(&mut self, status: &Status) -> io::Result<()> {
        if !self.watched {
            return Ok(());
        }
        self.clear()?;
        let lines = lines(status);
        self.drawn = lines.len();
        io::stderr().write_all((lines.join("\n") + "\n").as_bytes())
    }

    pub(super) fn clear(&mut self) -> io::Result<()> {
        match std::mem::take(&mut self.drawn) {
            0 => Ok(()),
            lines => write!(io::stderr(), "\x1b[{lines}A\x1b[J"),
        }
    }
}

fn lines(status: &Status) -> Vec<String> {
    let head = format!("{} under way, {} waiting", status.under_way.len(), status.waiting.len());
    std::iter::once(head)
        .chain(status.images.iter().filter_map(pull))
        .map(|l| l.chars().take(WIDTH).collect())
        .collect()
}

fn pull(each: &Image) -> Option<String> {
    let ImageState::Pulling { done, total, .. } = each.state else { return None };
    let name = printable(image(&each.image));
    let Some(total) = total.filter(|t| *t > 0) else {
        return Some(format!("pulling {:>10}  {name}", bytes(done)));
    };
    let filled = usize::try_from(u128::from(done.min(total)) * u128::from(BAR) / u128::from(total)).unwrap_or(0);
    let bar = "#".repeat(filled);
    Some(format!("pulling [{bar:<20}] {:>10} of {:<10} {name}", bytes(done), bytes(total)))
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn each_pull_has_a_line() {
        let status = serde_json::from_str(include_str!("../../tests/snapshots/status.json")).unwrap();
        insta::assert_snapshot!(lines(&status).join("\n"), @r"
        1 under way, 1 waiting
        pulling [#                   ]    5.0 MiB of 70.0 MiB   nginx:1.29
        ");
    }
}
