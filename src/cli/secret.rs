//! `longshore secret …`
//!
//! A secret comes from a file or standard input, never from an argument: everybody may read command lines.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use futures_util::stream;
use hyper::body::Bytes;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::Exit;
use super::client::{Client, percent};
use super::failure::Failure;
use super::out::{Out, now};
use super::table::{Table, plain};
use super::words::{age, printable};
use crate::api::wire::{SecretList, SecretName};
use crate::secret::{MAX_BYTES, encrypt_to};

/// The daemon answers after it looked at its files.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Subcommand)]
pub(super) enum SecretCommand {
    /// List the secrets that are kept here; never what they hold
    Ls(LsArgs),
    /// Keep a secret, encrypted; from standard input, or a file
    Set(SetArgs),
    /// Forget secrets
    Rm(RmArgs),
    /// Encrypt a secret to this host, for a file NAME.age in the state folder
    Encrypt(EncryptArgs),
    /// Show to whom secrets for this host are encrypted
    Recipient,
}

#[derive(Debug, Args)]
pub(super) struct LsArgs {
    /// For programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct SetArgs {
    /// As state files name it
    name: String,
    /// Read it from a file [default: standard input]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct RmArgs {
    /// Which
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Although services use them: they are held then, what runs keeps what it has
    #[arg(short, long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(super) struct EncryptArgs {
    /// What to encrypt [default: standard input]
    file: Option<PathBuf>,
    /// Write it there [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Encrypt to another host, without asking this one
    #[arg(short, long, value_name = "age1…")]
    recipient: Option<String>,
}

pub(super) async fn run(client: &Client, command: SecretCommand, out: &mut Out) -> Result<Exit, Failure> {
    match command {
        SecretCommand::Ls(args) => list(client, args.json, out).await,
        SecretCommand::Set(args) => set(client, &args, out).await,
        SecretCommand::Rm(args) => remove(client, &args, out).await,
        SecretCommand::Encrypt(args) => encrypt(client, args, out).await,
        SecretCommand::Recipient => {
            let all: SecretList = client.get("/api/v1/secrets").await?;
            out.text(&format!("{}\n", printable(&all.recipient)))?;
            Ok(Exit::Fine)
        }
    }
}

async fn list(client: &Client, json: bool, out: &mut Out) -> Result<Exit, Failure> {
    let all: SecretList = client.get("/api/v1/secrets").await?;
    if json {
        out.json(&all)?;
    } else {
        let now = now();
        let mut table = Table::new(&["NAME", "SET", "USED BY"]);
        for secret in &all.secrets {
            let users = if secret.used_by.is_empty() { "unused".to_owned() } else { secret.used_by.join(", ") };
            table.row([plain(&secret.name), plain(age(secret.set, now)), plain(users)]);
        }
        out.text(&table.render(out.paint))?;
    }
    Ok(Exit::Fine)
}

async fn set(client: &Client, args: &SetArgs, out: &mut Out) -> Result<Exit, Failure> {
    let secret = secret(args.file.as_deref())?;
    if secret.is_empty() {
        return Err(said("the secret is empty; nothing was changed"));
    }
    let body = stream::iter([Ok(Bytes::copy_from_slice(&secret))]);
    let path = format!("/api/v1/secrets/{}", percent(&args.name));
    let silent = |_| {
        said(&format!(
            "the daemon did not answer within {} s; `longshore secret ls` says whether it was set",
            PATIENCE.as_secs()
        ))
    };
    let set: SecretName = timeout(PATIENCE, client.put(&path, body)).await.map_err(silent)??;
    out.text(&format!("the secret {} is kept\n", printable(&set.name)))?;
    Ok(Exit::Fine)
}

async fn remove(client: &Client, args: &RmArgs, out: &mut Out) -> Result<Exit, Failure> {
    let mut exit = Exit::Fine;
    let query = if args.force { "?force=true" } else { "" };
    for name in &args.names {
        let removed = client.delete::<SecretName>(&format!("/api/v1/secrets/{}{query}", percent(name)), PATIENCE).await;
        match removed {
            Ok(removed) => out.text(&format!("{}\n", printable(&removed.name)))?,
            Err(failure) if args.names.len() == 1 => return Err(failure),
            Err(failure) => {
                out.complain(&failure.to_string());
                exit = Exit::Error;
            }
        }
    }
    Ok(exit)
}

async fn encrypt(client: &Client, args: EncryptArgs, out: &mut Out) -> Result<Exit, Failure> {
    let recipient = match args.recipient {
        Some(recipient) => recipient,
        None => client.get::<SecretList>("/api/v1/secrets").await?.recipient,
    };
    let secret = secret(args.file.as_deref())?;
    let sealed = encrypt_to(&recipient, &secret).map_err(|error| said(&error.to_string()))?;
    match args.output {
        None => out.text(&sealed)?,
        Some(path) => whole(&path, sealed.as_bytes())
            .map_err(|error| said(&format!("{} cannot be written: {error}", path.display())))?,
    }
    Ok(Exit::Fine)
}

/// All of the file or none of it, at once: a daemon may be looking.
fn whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let draft = path.with_file_name(format!(".{}.new", name.to_string_lossy()));
    let mut file = File::create(&draft)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&draft, path));
    if written.is_err() {
        // What went wrong with the file itself is told.
        let _ = std::fs::remove_file(&draft);
    }
    written
}

/// From a file or standard input, to its end: also its last newline is a part of it.
fn secret(file: Option<&Path>) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut secret = Zeroizing::new(Vec::with_capacity(64 << 10));
    let most = MAX_BYTES as u64 + 1;
    match file.filter(|path| *path != Path::new("-")) {
        Some(path) => {
            let read = File::open(path).and_then(|file| file.take(most).read_to_end(&mut secret));
            read.map_err(|error| said(&format!("{} cannot be read: {error}", path.display())))?;
        }
        None => {
            if io::stdin().is_terminal() {
                let words = "the secret is read from standard input; end it with Ctrl+D on a line of its own (what is typed is seen; a pipe or --file is better)";
                writeln!(io::stderr(), "{words}")?;
            }
            io::stdin().lock().take(most).read_to_end(&mut secret)?;
        }
    }
    if secret.len() > MAX_BYTES {
        return Err(said(&format!("a secret may hold {} KiB", MAX_BYTES >> 10)));
    }
    Ok(secret)
}

fn said(words: &str) -> Failure {
    Failure::Said(words.to_owned())
}
