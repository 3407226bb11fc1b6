//! `longshore commit`

use clap::Args;

use super::archive::line;
use super::bars::{Display, Way};
use super::lines::follow;
use crate::api::wire::{CommitAsk, Loaded};
use crate::cli::Exit;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::out::Out;

/// `longshore commit NAME [IMAGE]`
#[derive(Debug, Args)]
pub(in crate::cli) struct CommitArgs {
    /// Who made it, for its history
    #[arg(short, long, value_name = "WHO")]
    author: Option<String>,
    /// A note for its history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// A line of a Dockerfile that says how to run it, such as 'CMD ["/bin/sh"]'; may be given several times
    #[arg(short, long, value_name = "LINE")]
    change: Vec<String>,
    /// Do not hold the container still meanwhile
    #[arg(long)]
    no_pause: bool,
    /// Print the digest only
    #[arg(short, long)]
    quiet: bool,
    /// Which replica of a service [default: the first that runs]
    #[arg(long, value_name = "N")]
    index: Option<u32>,
    /// A container by name or id, or a service as project/service or by its unique name
    #[arg(value_name = "NAME")]
    name: String,
    /// The image's name [default: none]
    #[arg(value_name = "IMAGE")]
    image: Option<String>,
}

pub(in crate::cli) async fn run(client: &Client, args: CommitArgs, out: &mut Out) -> Result<Exit, Failure> {
    let ask = CommitAsk {
        container: args.name,
        index: args.index,
        image: args.image,
        changes: args.change,
        message: args.message,
        author: args.author,
        pause: !args.no_pause,
    };
    let lines = client.tell_lines("/api/v1/images/commit", &ask).await?;
    let made: Loaded = follow(lines, Display::new(Way::Load, args.quiet, out.watched)).await?;
    for image in &made.images {
        out.text(&line(image, args.quiet))?;
    }
    Ok(Exit::Fine)
}
