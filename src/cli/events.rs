//! `longshore events`

use serde::Deserialize;

use super::Exit;
use super::args::EventsArgs;
use super::client::{Client, percent};
use super::failure::Failure;
use super::out::{Ink, Out, Paint};
use super::words::printable;
use crate::api::wire::Event;

/// What is said about events that are not there.
#[derive(Deserialize)]
struct Lost {
    lost: u64,
}

/// Until the reader or the daemon has enough.
pub(super) async fn run(client: &Client, args: &EventsArgs, out: &mut Out) -> Result<Exit, Failure> {
    let query = args.since.as_deref().map_or_else(String::new, |s| format!("?since={}", percent(s)));
    let mut lines = client.lines(&format!("/api/v1/events{query}")).await?;
    let mut kind = String::new();
    while let Some(line) = lines.next().await? {
        let line = String::from_utf8_lossy(&line);
        if let Some(name) = line.strip_prefix("event:") {
            kind = name.trim().to_owned();
        } else if let Some(data) = line.strip_prefix("data:") {
            print(&kind, data.trim(), args.json, out)?;
        }
    }
    Err(Failure::Said("the daemon ended the stream of events".to_owned()))
}

fn print(kind: &str, data: &str, json: bool, out: &mut Out) -> Result<(), Failure> {
    let strange = |err: serde_json::Error| Failure::Said(format!("the daemon sent an event that is none: {err}"));
    match kind {
        "lost" => {
            let Lost { lost } = serde_json::from_str(data).map_err(strange)?;
            out.complain(&format!("{lost} older events are not kept any more"));
        }
        "dropped" => {
            let Lost { lost } = serde_json::from_str(data).map_err(strange)?;
            return Err(Failure::Said(format!("this reader was too slow: {lost} events were missed")));
        }
        _ if json => out.text(&format!("{data}\n"))?,
        _ => out.text(&line(&serde_json::from_str(data).map_err(strange)?, out.paint))?,
    }
    Ok(out.flush()?)
}

fn line(event: &Event, paint: Paint) -> String {
    let kind = event.kind.as_str();
    let ink = match kind.rsplit('.').next() {
        Some("failed" | "refused" | "held") => Ink::Bad,
        Some(_) | None => Ink::Strong,
    };
    let place = event.location.as_ref().map_or_else(String::new, |l| format!(" ({})", printable(l)));
    let (what, message) = (printable(&event.what), printable(&event.message));
    format!("{}  {}  {what}: {message}{place}\n", event.at, paint.ink(ink, &format!("{kind:<18}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::Time;
    use crate::model::Timestamp;

    #[test]
    fn an_event_is_one_line() {
        let event = Event {
            sequence: 7,
            at: Time::from(Timestamp(1_800_000_000_123)),
            kind: "file.refused".into(),
            what: "shop.yaml".into(),
            message: "unknown key \"imagee\"".into(),
            location: Some("shop.yaml:3:5".into()),
        };
        insta::assert_snapshot!(line(&event, Paint { on: false }), @r#"2027-01-15T08:00:00.123Z  file.refused        shop.yaml: unknown key "imagee" (shop.yaml:3:5)"#);
    }
}
