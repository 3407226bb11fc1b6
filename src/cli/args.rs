//! The command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::by_hand::{KillArgs, NamesArgs, ReleaseArgs, ScaleArgs, StopArgs};
use super::copy::args::{CpArgs, DiffArgs, ExportArgs};
use super::image::ImageCommand;
use super::image::commit::CommitArgs;
use super::jobs::JobsArgs;
use super::network::NetworkCommand;
use super::run::RunArgs;
use super::secret::SecretCommand;
use super::system::SystemCommand;
use super::volume::VolumeCommand;

/// A container daemon that is told what should be true: Compose files in a folder become running containers.
#[derive(Debug, Parser)]
#[command(name = "longshore", version, after_help = EXIT_CODES)]
pub(super) struct Arguments {
    /// The daemon's socket [default: /run/longshore/longshore.sock]
    #[arg(long, global = true, env = "LONGSHORE_SOCKET", value_name = "PATH", hide_env_values = true)]
    pub(super) socket: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: Command,
}

const EXIT_CODES: &str = "Exit codes:
  0  all is well; check and plan: nothing to do
  1  an error; status --wait: not everything is applied
  2  check and plan: there are changes
exec ends with the code of its command: 126 where that cannot be executed, 127 where it is not found; run likewise,
but with 1 where it could not be started";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the daemon
    Daemon(DaemonArgs),
    /// Show projects, services and problems
    Status(StatusArgs),
    /// List containers
    Ps(PsArgs),
    /// Print the output of containers
    Logs(LogsArgs),
    /// List the services that run at set times, or run one now
    Jobs(JobsArgs),
    /// Tell what happened to a service, and why
    Why(WhyArgs),
    /// List the generations of a service, or show how two of them differ
    History(HistoryArgs),
    /// Go back to a generation of a service
    Rollback(RollbackArgs),
    /// Try again what was set aside
    Resume(ResumeArgs),
    /// Show what containers use, again and again
    Stats(StatsArgs),
    /// List the processes of containers
    Top(TopArgs),
    /// Execute a command in a container
    Exec(ExecArgs),
    /// Run a container of a service once, with another command
    Run(RunArgs),
    /// Copy files between a container and this machine
    Cp(CpArgs),
    /// List what a container changed in its root
    Diff(DiffArgs),
    /// Write the root of a container as a tar
    Export(ExportArgs),
    /// Make an image of a container
    Commit(CommitArgs),
    /// Stop services, until they are started or released
    Stop(StopArgs),
    /// Start services that were stopped, or ended
    Start(NamesArgs),
    /// Stop services and start them again, once
    Restart(StopArgs),
    /// Send a signal to what runs of services
    Kill(KillArgs),
    /// Hold services still
    Pause(NamesArgs),
    /// Let services go on that are held still
    Unpause(NamesArgs),
    /// Give services another number of replicas than their files say
    Scale(ScaleArgs),
    /// Let services be as their files say again
    Release(ReleaseArgs),
    /// Show what is being done and what waits for what
    Plan(PlanArgs),
    /// Check a folder of state files, or one file, without a daemon
    Check(CheckArgs),
    /// Show all about one container, as JSON
    Inspect(InspectArgs),
    /// Pull, push, list and look after images
    #[command(subcommand)]
    Image(ImageCommand),
    /// List and show networks
    #[command(subcommand)]
    Network(NetworkCommand),
    /// List, copy, save and look after volumes
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Keep and encrypt secrets
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Show what lies on disk
    #[command(subcommand)]
    System(SystemCommand),
    /// Print what happens
    Events(EventsArgs),
    /// Let a held removal of many projects go on
    Confirm,
    /// Log in at a registry
    Login(LoginArgs),
    /// Forget the login at a registry
    Logout(LogoutArgs),
    /// Show the versions of this program and of the daemon
    Version(VersionArgs),
}

/// `longshore daemon`. Nothing has a default here: the daemon has to tell a flag from a setting of its file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
pub struct DaemonArgs {
    /// The folder of state files [default: /etc/longshore/state]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// What is kept: images, containers, records [default: /var/lib/longshore]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// What lasts until the next boot [default: /run/longshore]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// The global `--socket` or `LONGSHORE_SOCKET`.
    #[arg(skip)]
    pub socket: Option<PathBuf>,
    /// The configuration [default: /etc/longshore/config.json]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Log more
    #[arg(long)]
    pub debug: bool,
    /// A Compose profile to choose for all projects, beside those of the configuration; `*` is all
    #[arg(long, value_name = "NAME")]
    pub profile: Vec<String>,
    /// Check the configuration and end
    #[arg(long)]
    pub validate: bool,
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// For programs
    #[arg(long)]
    pub(super) json: bool,
    /// Wait until nothing is left to do
    #[arg(long)]
    pub(super) wait: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration, requires = "wait")]
    pub(super) timeout: Duration,
}

#[derive(Debug, Args)]
pub(super) struct PsArgs {
    /// For programs
    #[arg(long)]
    pub(super) json: bool,
    /// Also those that do not run
    #[arg(short, long)]
    pub(super) all: bool,
}

#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    /// Go on with what is written later
    #[arg(short, long)]
    pub(super) follow: bool,
    /// What the container said that was there before the present one
    #[arg(short, long, conflicts_with = "follow")]
    pub(super) previous: bool,
    /// Leave out what is older: 10m, 2h30m, 3d, or a time in RFC 3339
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<String>,
    /// Only so many lines from the end of what is there
    #[arg(long, value_name = "N")]
    pub(super) tail: Option<usize>,
    /// Begin each line with its time
    #[arg(short, long)]
    pub(super) timestamps: bool,
    /// Containers, services as project/service, or unique service names
    #[arg(required = true, value_name = "NAME")]
    pub(super) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct WhyArgs {
    /// For programs
    #[arg(long)]
    pub(super) json: bool,
    /// A service as project/service or by its unique name, or a container
    #[arg(value_name = "NAME")]
    pub(super) name: String,
}

#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// For programs
    #[arg(long)]
    pub(super) json: bool,
    /// How generation A differs from generation B [default: from the one in force]
    #[arg(long, num_args = 1..=2, value_names = ["A", "B"], value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) diff: Vec<u32>,
    /// A service as project/service or by its unique name, a container, or a project
    #[arg(value_name = "NAME")]
    pub(super) name: String,
}

#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    /// A service as project/service or by its unique name, or a project
    #[arg(value_name = "NAME")]
    pub(super) name: String,
    /// To which generation [default: the last good one before the present]
    #[arg(value_name = "GENERATION", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) generation: Option<u32>,
}

#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    /// A service as project/service or by its unique name, or a project
    #[arg(value_name = "NAME")]
    pub(super) name: String,
}

/// As `docker exec` has it.
#[derive(Debug, Args)]
pub(super) struct ExecArgs {
    /// Pass standard input on
    #[arg(short, long)]
    pub(super) interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub(super) tty: bool,
    /// No terminal: as it is without -t
    #[arg(short = 'T', hide = true, conflicts_with = "tty")]
    pub(super) no_tty: bool,
    /// As whom: a name or a number of the container, with a group where one is given [default: as the container's command]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(super) user: Option<String>,
    /// Where, absolute [default: where the container's command began]
    #[arg(short, long, value_name = "DIR")]
    pub(super) workdir: Option<String>,
    /// A variable; without a value the one that it has here
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(super) env: Vec<String>,
    /// A file of variables, one per line
    #[arg(long, value_name = "FILE")]
    pub(super) env_file: Vec<PathBuf>,
    /// With all capabilities and without seccomp
    #[arg(long)]
    pub(super) privileged: bool,
    /// Do not wait for it, and leave it alone
    #[arg(short, long)]
    pub(super) detach: bool,
    /// Which replica of a service [default: the first that runs]
    #[arg(long, value_name = "N")]
    pub(super) index: Option<u32>,
    /// A container by name or id, or a service as project/service or by its unique name
    #[arg(value_name = "NAME")]
    pub(super) name: String,
    /// What to execute
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(super) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct StatsArgs {
    /// Once, and end; so it is too where standard output is no terminal
    #[arg(long)]
    pub(super) no_stream: bool,
    /// For programs: one JSON record per line
    #[arg(long)]
    pub(super) json: bool,
    /// How long from one look to the next
    #[arg(long, value_name = "TIME", default_value = "1s")]
    pub(super) interval: String,
    /// Containers, services as project/service, or unique service names [default: all that run]
    #[arg(value_name = "NAME")]
    pub(super) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct TopArgs {
    /// For programs
    #[arg(long)]
    pub(super) json: bool,
    /// Containers, services as project/service, or unique service names [default: all that run]
    #[arg(value_name = "NAME")]
    pub(super) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// For programs
    #[arg(long)]
    pub(super) json: bool,
    /// Without a daemon: the folder of state files
    #[arg(long, value_name = "DIR", requires = "data_dir")]
    state_dir: Option<PathBuf>,
    /// Without a daemon: the data directory
    #[arg(long, value_name = "DIR", requires = "state_dir")]
    data_dir: Option<PathBuf>,
}

impl PlanArgs {
    /// The two folders, where no daemon is to be asked.
    pub(super) fn folders(&self) -> Option<(&Path, &Path)> {
        self.state_dir.as_deref().zip(self.data_dir.as_deref())
    }
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// For programs
    #[arg(long)]
    pub(super) json: bool,
    /// A folder of state files, or one state file
    #[arg(value_name = "DIR|FILE")]
    pub(super) path: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// A container's name, id, or the beginning of its id
    pub(super) name: String,
}

#[derive(Debug, Args)]
pub(super) struct EventsArgs {
    /// For programs: one JSON record per line
    #[arg(long)]
    pub(super) json: bool,
    /// Begin with what is kept since then: 10m, 2h30m, a time in RFC 3339, or 0 for all
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<String>,
}

/// There is no flag for the password: everybody on the machine can read command lines.
#[derive(Debug, Args)]
pub(super) struct LoginArgs {
    /// The user; asked for where it is not given
    #[arg(short, long, value_name = "USER")]
    pub(super) username: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub(super) password_stdin: bool,
    /// As in image names [default: docker.io]
    #[arg(value_name = "REGISTRY")]
    pub(super) registry: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct LogoutArgs {
    /// As in image names [default: docker.io]
    #[arg(value_name = "REGISTRY")]
    pub(super) registry: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct VersionArgs {
    /// For programs
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<u64>().ok().map(Duration::from_secs);
    let worded = || text.parse::<jiff::SignedDuration>().ok().and_then(|d| Duration::try_from(d).ok());
    seconds.or_else(worded).ok_or_else(|| "write 90, 60s or 2m30s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_global_socket_is_read_after_the_command_too() {
        let args = Arguments::try_parse_from(["longshore", "daemon", "--socket", "/s", "--debug"]).unwrap();
        assert_eq!(args.socket.as_deref(), Some(Path::new("/s")));
        let Command::Daemon(daemon) = args.command else { panic!("not the daemon") };
        assert_eq!(daemon, DaemonArgs { debug: true, ..DaemonArgs::default() });
    }

    #[test]
    fn help_names_the_commands_and_the_exit_codes() {
        insta::assert_snapshot!(Arguments::command().render_help().to_string(), @r"
        A container daemon that is told what should be true: Compose files in a folder become running containers

        Usage: longshore [OPTIONS] <COMMAND>

        Commands:
          daemon    Run the daemon
          status    Show projects, services and problems
          ps        List containers
          logs      Print the output of containers
          jobs      List the services that run at set times, or run one now
          why       Tell what happened to a service, and why
          history   List the generations of a service, or show how two of them differ
          rollback  Go back to a generation of a service
          resume    Try again what was set aside
          stats     Show what containers use, again and again
          top       List the processes of containers
          exec      Execute a command in a container
          run       Run a container of a service once, with another command
          cp        Copy files between a container and this machine
          diff      List what a container changed in its root
          export    Write the root of a container as a tar
          commit    Make an image of a container
          stop      Stop services, until they are started or released
          start     Start services that were stopped, or ended
          restart   Stop services and start them again, once
          kill      Send a signal to what runs of services
          pause     Hold services still
          unpause   Let services go on that are held still
          scale     Give services another number of replicas than their files say
          release   Let services be as their files say again
          plan      Show what is being done and what waits for what
          check     Check a folder of state files, or one file, without a daemon
          inspect   Show all about one container, as JSON
          image     Pull, push, list and look after images
          network   List and show networks
          volume    List, copy, save and look after volumes
          secret    Keep and encrypt secrets
          system    Show what lies on disk
          events    Print what happens
          confirm   Let a held removal of many projects go on
          login     Log in at a registry
          logout    Forget the login at a registry
          version   Show the versions of this program and of the daemon
          help      Print this message or the help of the given subcommand(s)

        Options:
              --socket <PATH>  The daemon's socket [default: /run/longshore/longshore.sock] [env: LONGSHORE_SOCKET]
          -h, --help           Print help
          -V, --version        Print version

        Exit codes:
          0  all is well; check and plan: nothing to do
          1  an error; status --wait: not everything is applied
          2  check and plan: there are changes
        exec ends with the code of its command: 126 where that cannot be executed, 127 where it is not found; run likewise,
        but with 1 where it could not be started
        ");
    }

    #[test]
    fn what_comes_after_the_name_is_the_commands() {
        let args = ["longshore", "exec", "-it", "-eA=1", "-u", "web:logs", "web", "sh", "-c", "ls -l", "-t"];
        let Command::Exec(exec) = Arguments::try_parse_from(args).unwrap().command else { panic!("not exec") };
        assert!(exec.interactive && exec.tty && !exec.detach);
        assert_eq!((exec.name.as_str(), exec.user.as_deref()), ("web", Some("web:logs")));
        assert_eq!(
            (exec.env, exec.command),
            (vec!["A=1".to_owned()], ["sh", "-c", "ls -l", "-t"].map(str::to_owned).to_vec())
        );
        assert!(Arguments::try_parse_from(["longshore", "exec", "web"]).is_err());
    }

    #[test]
    fn times_to_wait() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2m30s"), Ok(Duration::from_secs(150)));
        assert!(duration("-1s").is_err() && duration("soon").is_err());
    }
}
