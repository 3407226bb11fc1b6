//! The command line of images, in Docker's words where Docker has them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ImageCommand {
    /// Fetch images from their registries
    Pull(PullArgs),
    /// Bring an image to its registry
    Push(PushArgs),
    /// List images
    #[command(alias = "list")]
    Ls(LsArgs),
    /// Show all about images, as JSON
    Inspect(NamesArgs),
    /// Remove images that no container uses
    #[command(alias = "remove")]
    Rm(RmArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// Write images into an archive
    Save(SaveArgs),
    /// Read images from an archive: of docker save, or an OCI layout
    Load(LoadArgs),
    /// Make an image from a tar of files
    Import(ImportArgs),
    /// Show how an image was made
    History(HistoryArgs),
    /// Remove what nothing uses
    Prune(PruneArgs),
    /// Compare images with what they should be
    Verify(VerifyArgs),
    /// Keep images whatever happens
    Pin(NamesArgs),
    /// Let images be removed when nothing uses them
    Unpin(NamesArgs),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct NamesArgs {
    /// Names, digests, or at least four digits of one
    #[arg(required = true, value_name = "NAME")]
    pub(super) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PullArgs {
    /// For another platform than this machine's: os/architecture[/variant]
    #[arg(long, value_name = "PLATFORM")]
    pub(super) platform: Option<String>,
    /// Print only the digest
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Images, by tag or digest
    #[arg(required = true, value_name = "NAME")]
    pub(super) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PushArgs {
    /// Print only the digest
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// The image; its name says the registry
    #[arg(value_name = "NAME")]
    pub(super) name: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct LsArgs {
    /// Also images that lost their name
    #[arg(short, long)]
    pub(super) all: bool,
    /// Also whole digests
    #[arg(long)]
    pub(super) digests: bool,
    /// Only digests
    #[arg(short, long, conflicts_with = "json")]
    pub(super) quiet: bool,
    /// For programs
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RmArgs {
    /// Also all other names of what a digest names
    #[arg(short, long)]
    pub(super) force: bool,
    /// Names, digests, or at least four digits of one
    #[arg(required = true, value_name = "NAME")]
    pub(super) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TagArgs {
    /// A name, a digest, or at least four digits of one
    pub(super) source: String,
    /// The new name
    pub(super) target: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct SaveArgs {
    /// Where to; standard output where left out, or -
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Which form
    #[arg(long, value_enum, default_value_t = Format::DockerArchive)]
    pub(super) format: Format,
    /// Names, digests, or at least four digits of one
    #[arg(required = true, value_name = "NAME")]
    pub(super) names: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Format {
    /// As docker save writes it; also an OCI layout
    DockerArchive,
    /// An OCI layout
    OciArchive,
}

impl Format {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::DockerArchive => "docker-archive",
            Self::OciArchive => "oci-archive",
        }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct LoadArgs {
    /// A file, the folder of an OCI layout, or - for standard input, which is also meant where it is left out
    #[arg(short, long, value_name = "FILE|DIR")]
    pub(super) input: Option<PathBuf>,
    /// Print only digests
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// The name of an image that has none in the archive
    #[arg(value_name = "NAME")]
    pub(super) name: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ImportArgs {
    /// A line of a Dockerfile that says how to run it, such as 'CMD ["/bin/sh"]'; may be given several times
    #[arg(short, long, value_name = "LINE")]
    pub(super) change: Vec<String>,
    /// A note for its history
    #[arg(short, long, value_name = "TEXT")]
    pub(super) message: Option<String>,
    /// Its platform, where it is not this machine's: os/architecture[/variant]
    #[arg(long, value_name = "PLATFORM")]
    pub(super) platform: Option<String>,
    /// The tar, or - for standard input
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// The image's name
    #[arg(value_name = "NAME")]
    pub(super) name: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct HistoryArgs {
    /// Whole commands and digests
    #[arg(long)]
    pub(super) no_trunc: bool,
    /// For programs
    #[arg(long)]
    pub(super) json: bool,
    /// A name, a digest, or at least four digits of one
    #[arg(value_name = "NAME")]
    pub(super) name: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PruneArgs {
    /// Also images that have a name
    #[arg(short, long)]
    pub(super) all: bool,
    /// Only say what would be removed
    #[arg(long)]
    pub(super) dry_run: bool,
    /// For programs
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct VerifyArgs {
    /// Fetch again what is damaged, and what cannot be checked
    #[arg(long)]
    pub(super) repair: bool,
    /// For programs
    #[arg(long)]
    pub(super) json: bool,
    /// Names, digests, or at least four digits of one; all images where left out
    #[arg(value_name = "NAME")]
    pub(super) names: Vec<String>,
}
