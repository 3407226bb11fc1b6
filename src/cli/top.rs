//! `longshore top`

use super::Exit;
use super::args::TopArgs;
use super::client::{Client, percent};
use super::failure::Failure;
use super::out::{Ink, Out, Paint};
use super::table::{Table, plain};
use super::words::{bytes, span};
use crate::api::wire::{Container, ContainerState, Process};

pub(super) async fn run(client: &Client, args: &TopArgs, out: &mut Out) -> Result<Exit, Failure> {
    let mut names = args.names.clone();
    if names.is_empty() {
        let containers: Vec<Container> = client.get("/api/v1/containers").await?;
        let running = containers.into_iter().filter(|c| matches!(c.state, ContainerState::Running { .. }));
        names = running.map(|c| c.id).collect();
    }
    let mut processes: Vec<Process> = Vec::new();
    for name in &names {
        processes.extend(client.get::<Vec<Process>>(&format!("/api/v1/containers/{}/top", percent(name))).await?);
    }
    if args.json {
        out.json(&processes)?;
    } else {
        out.text(&render(&processes, out.paint))?;
    }
    Ok(Exit::Fine)
}

fn render(processes: &[Process], paint: Paint) -> String {
    let header = [
        "CONTAINER",
        "PID",
        "PID INSIDE",
        "UID INSIDE",
        "STATE",
        "THREADS",
        "CPU %",
        "CPU TIME",
        "MEMORY",
        "AGE",
        "COMMAND",
    ];
    let mut table = Table::new(&header);
    for process in processes {
        table.row([
            plain(&process.container),
            plain(process.pid.to_string()),
            plain(process.inner_pid.to_string()),
            plain(process.uid.to_string()),
            state(&process.state),
            plain(process.threads.to_string()),
            plain(format!("{:.1}", process.cpu_percent)),
            plain(time(process.cpu_ms)),
            plain(bytes(process.resident_bytes)),
            plain(span(process.age_ms)),
            plain(&process.command),
        ]);
    }
    table.render(paint)
}

fn state(state: &str) -> (String, Ink) {
    let (word, ink) = match state {
        "R" => ("runs", Ink::Good),
        "S" | "I" => ("sleeps", Ink::Plain),
        "D" => ("waits", Ink::Busy),
        "T" | "t" => ("stopped", Ink::Busy),
        "Z" => ("zombie", Ink::Bad),
        "X" => ("dead", Ink::Bad),
        other => (other, Ink::Plain),
    };
    (word.to_owned(), ink)
}

/// `1:02:03.45`
fn time(ms: u64) -> String {
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    let hours = if hours > 0 { format!("{hours}:{minutes:02}") } else { minutes.to_string() };
    format!("{hours}:{seconds:02}.{:02}", ms / 10 % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_for_each_process() {
        let process = |pid, state: &str, command: &str| Process {
            container: "shop-web-1".into(),
            pid,
            inner_pid: pid - 4710,
            uid: 33,
            state: state.into(),
            threads: 1,
            cpu_ms: 3_723_450,
            cpu_percent: 12.34,
            resident_bytes: 1_572_864,
            age_ms: 7_200_000,
            command: command.into(),
        };
        let all = [process(4711, "S", "nginx: master\x1b[2J"), process(4712, "Z", "[nginx]")];
        insta::assert_snapshot!(render(&all, Paint { on: false }), @r"
        CONTAINER   PID   PID INSIDE  UID INSIDE  STATE   THREADS  CPU %  CPU TIME    MEMORY   AGE  COMMAND
        shop-web-1  4711  1           33          sleeps  1        12.3   1:02:03.45  1.5 MiB  2h   nginx: master\u{1b}[2J
        shop-web-1  4712  2           33          zombie  1        12.3   1:02:03.45  1.5 MiB  2h   [nginx]
        ");
        assert_eq!([time(0), time(59_990), time(61_010)], ["0:00.00", "0:59.99", "1:01.01"]);
    }
}
