//! `longshore stats`

use std::io::IsTerminal as _;

use super::Exit;
use super::args::StatsArgs;
use super::client::{Client, percent};
use super::failure::Failure;
use super::out::{Out, Paint};
use super::table::{Table, plain};
use super::words::bytes;
use crate::api::wire::{ContainerUsage, ErrorBody, Usage};

/// Home, and nothing below it: the table is drawn over the last one.
const OVER: &str = "\x1b[H\x1b[J";

/// Until the reader or the daemon has enough; without a terminal one look is enough, and for `--json` where it is asked for.
pub(super) async fn run(client: &Client, args: &StatsArgs, out: &mut Out) -> Result<Exit, Failure> {
    let live = !args.no_stream && (args.json || std::io::stdout().is_terminal());
    let names: Vec<String> = args.names.iter().map(|name| percent(name)).collect();
    let path = format!("/api/v1/stats?stream=true&interval={}&names={}", percent(&args.interval), names.join(","));
    let mut lines = client.lines(&path).await?;
    let mut first = true;
    while let Some(line) = lines.next().await? {
        let look: Usage = serde_json::from_slice(&line).map_err(|err| strange(&line, &err))?;
        // How much CPU time is used shows only from one look to the next.
        let shown = live || !first;
        match (shown, args.json) {
            (false, _) => {}
            (true, true) => out.bytes(&[line.as_slice(), b"\n"].concat())?,
            (true, false) => {
                let over = if live { OVER } else { "" };
                out.text(&format!("{over}{}", render(&look, out.paint)))?;
            }
        }
        out.flush()?;
        if shown && !live {
            return Ok(Exit::Fine);
        }
        first = false;
    }
    if live { Ok(Exit::Fine) } else { Err(Failure::Said("the daemon ended before the second look".to_owned())) }
}

fn strange(line: &[u8], err: &serde_json::Error) -> Failure {
    match serde_json::from_slice::<ErrorBody>(line) {
        Ok(body) => Failure::Refused { facts: body.error },
        Err(_) => Failure::Said(format!("the daemon sent a record that is none: {err}")),
    }
}

fn render(look: &Usage, paint: Paint) -> String {
    let header = ["NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS", "PRESSURE CPU/MEM/IO"];
    let mut table = Table::new(&header);
    for one in &look.containers {
        let memory = one.memory.as_ref();
        table.row([
            plain(&one.container),
            plain(or_dash(one.cpu.as_ref().and_then(|cpu| cpu.percent).map(|share| format!("{share:.2}%")))),
            plain(or_dash(memory.map(|m| format!("{} / {}", bytes(m.used_bytes), or_dash(m.limit_bytes.map(bytes)))))),
            plain(or_dash(memory.map(|m| format!("{:.2}%", m.percent)))),
            plain(or_dash(one.network.as_ref().map(|n| both(n.received_bytes, n.sent_bytes)))),
            plain(or_dash(one.block.as_ref().map(|b| both(b.read_bytes, b.written_bytes)))),
            plain(or_dash(one.pids.as_ref().map(|p| p.current.to_string()))),
            plain(or_dash(pressure(one))),
        ]);
    }
    table.render(paint)
}

fn both(first: u64, second: u64) -> String {
    format!("{} / {}", bytes(first), bytes(second))
}

/// Of the last ten seconds, while some of it waited.
fn pressure(one: &ContainerUsage) -> Option<String> {
    let pressure = one.pressure.as_ref()?;
    let [cpu, memory, io] = [&pressure.cpu, &pressure.memory, &pressure.io].map(|stall| stall.some_avg10);
    Some(format!("{cpu:.1}/{memory:.1}/{io:.1}%"))
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_for_each_container() {
        let stall = serde_json::json!({"some_avg10": 1.25, "some_avg60": 0.0, "some_total_us": 0, "full_avg10": 0.0, "full_avg60": 0.0, "full_total_us": 0});
        let look = serde_json::json!({"at": "2027-01-15T08:00:00Z", "containers": [
            {"id": "a", "container": "shop-web-1", "project": "shop", "service": "web", "uptime_us": 7,
             "cpu": {"usage_ns": 1, "user_ns": 1, "system_ns": 0, "periods": 0, "throttled_periods": 0, "throttled_ns": 0, "percent": 24.987},
             "memory": {"used_bytes": 12_897_485, "inactive_file_bytes": 0, "limit_bytes": 67_108_864, "percent": 19.219, "swap_bytes": 0, "oom_kills": 0},
             "pids": {"current": 12, "limit": 4096},
             "block": {"read_bytes": 4096, "written_bytes": 1_572_864, "reads": 1, "writes": 2},
             "network": {"received_bytes": 1000, "sent_bytes": 2048, "received_packets": 1, "sent_packets": 2},
             "pressure": {"cpu": stall, "memory": stall, "io": stall}},
            {"id": "b", "container": "shop-db-1", "project": "shop", "service": "db", "uptime_us": 7,
             "cpu": null, "memory": null, "pids": null, "block": null, "network": null, "pressure": null},
        ]});
        let look: Usage = serde_json::from_value(look).unwrap();
        insta::assert_snapshot!(render(&look, Paint { on: false }), @r"
        NAME        CPU %   MEM USAGE / LIMIT    MEM %   NET I/O           BLOCK I/O          PIDS  PRESSURE CPU/MEM/IO
        shop-web-1  24.99%  12.3 MiB / 64.0 MiB  19.22%  1000 B / 2.0 KiB  4.0 KiB / 1.5 MiB  12    1.2/1.2/1.2%
        shop-db-1   -       -                    -       -                 -                  -     -
        ");
    }
}
