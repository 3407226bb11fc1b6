//! `longshore login`

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::time::Duration;

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use super::Exit;
use super::args::LoginArgs;
use super::client::Client;
use super::failure::Failure;
use super::out::Out;
use super::words::printable;
use crate::api::wire::{LoggedIn, LoginAsk};

/// The registry may take its time, and its token server too.
const PATIENCE: Duration = Duration::from_secs(150);
/// Passwords and access tokens are shorter.
const LONGEST: u64 = 64 << 10;

pub(super) async fn run(client: &Client, args: LoginArgs, out: &mut Out) -> Result<Exit, Failure> {
    let registry = args.registry.unwrap_or_else(|| "docker.io".to_owned());
    let username = match args.username {
        Some(username) => username,
        None if args.password_stdin => return Err(said("--password-stdin needs --username USER")),
        None => question(&format!("User at {}: ", printable(&registry)), true)?,
    };
    let password = if args.password_stdin { from_stdin()? } else { question("Password: ", false)? };
    if username.is_empty() || password.is_empty() {
        return Err(said("a user and a password are needed"));
    }
    let ask = LoginAsk { registry, username, password };
    let done: LoggedIn = client.tell("/api/v1/registries/login", &ask, PATIENCE).await?;
    let registry = printable(&done.registry);
    match (done.helper, done.file) {
        (Some(helper), _) => {
            out.text(&format!("logged in at {registry}; docker-credential-{} keeps it\n", printable(&helper)))?;
        }
        (None, file) => {
            out.text(&format!("logged in at {registry}\n"))?;
            let file = printable(&file.unwrap_or_default());
            out.complain(&format!(
                "the password is kept unencrypted in {file}; a credential helper (credsStore in that file) keeps it better"
            ));
        }
    }
    Ok(Exit::Fine)
}

fn from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    io::stdin().take(LONGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(said("what comes from standard input is too long for a password"));
    }
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Asks the person at the terminal.
fn question(text: &str, echo: bool) -> Result<String, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(said("there is no terminal to ask at; use --username USER --password-stdin"));
    }
    // Standard output may go elsewhere.
    let mut stderr = io::stderr();
    write!(stderr, "{text}")?;
    stderr.flush()?;
    let quiet = if echo { None } else { Some(Quiet::begin(&stdin)?) };
    let mut line = String::new();
    let read = stdin.lock().take(LONGEST).read_line(&mut line);
    if quiet.is_some() {
        drop(quiet);
        writeln!(stderr)?;
    }
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// The terminal shows nothing of what is typed until this is dropped.
struct Quiet<'a> {
    terminal: &'a io::Stdin,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn begin(terminal: &'a io::Stdin) -> Result<Self, Failure> {
        let before = tcgetattr(terminal).map_err(io::Error::from)?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        // Ctrl-C would leave the terminal without echo; as a plain character it ends nothing, so Enter does.
        quiet.local_flags.remove(LocalFlags::ISIG);
        tcsetattr(terminal, SetArg::TCSAFLUSH, &quiet).map_err(io::Error::from)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // Nothing more can be done for a terminal that is gone.
        let _ = tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}

fn said(text: &str) -> Failure {
    Failure::Said(text.to_owned())
}
