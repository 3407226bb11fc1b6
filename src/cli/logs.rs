//! `longshore logs`

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::mpsc;

use super::Exit;
use super::args::LogsArgs;
use super::client::{Client, Lines, percent};
use super::failure::Failure;
use super::out::{Ink, Out, Paint};
use crate::api::wire::{Container, ErrorBody, LogRecord};
use crate::model::TASK_NUMBER;

pub(super) async fn run(client: &Client, args: &LogsArgs, out: &mut Out) -> Result<Exit, Failure> {
    let containers: Vec<Container> = client.get("/api/v1/containers").await?;
    let mut printer = Printer::new(args, &containers, out.paint);
    let mut streams = Vec::new();
    for name in &args.names {
        streams.push(client.lines(&path(name, args)).await?);
    }
    if args.follow {
        return follow(streams, &mut printer, out).await;
    }
    for mut lines in streams {
        while let Some(line) = lines.next().await? {
            printer.print(&line, out)?;
        }
    }
    Ok(Exit::Fine)
}

fn path(name: &str, args: &LogsArgs) -> String {
    let mut path = format!("/api/v1/containers/{}/logs?follow={}", percent(name), args.follow);
    if args.previous {
        path.push_str("&previous=true");
    }
    if let Some(since) = &args.since {
        path.push_str(&format!("&since={}", percent(since)));
    }
    if let Some(tail) = args.tail {
        path.push_str(&format!("&tail={tail}"));
    }
    path
}

/// All streams at once, as their lines come.
async fn follow(streams: Vec<Lines>, printer: &mut Printer, out: &mut Out) -> Result<Exit, Failure> {
    // A slow terminal slows the readers down, and they the daemon's streams.
    let (send, mut receive) = mpsc::channel(64);
    for mut lines in streams {
        let send = send.clone();
        tokio::spawn(async move {
            while let Some(line) = lines.next().await.transpose() {
                if send.send(line).await.is_err() {
                    break;
                }
            }
        });
    }
    drop(send);
    while let Some(line) = receive.recv().await {
        printer.print(&line?, out)?;
        if receive.is_empty() {
            out.flush()?;
        }
    }
    Ok(Exit::Fine)
}

/// Writes records as lines. Lines that were split come together again.
pub(super) struct Printer {
    timestamps: bool,
    /// How wide the names are; none where a single container speaks.
    names: Option<usize>,
    paint: Paint,
    /// Streams whose line goes on.
    open: HashSet<(String, String)>,
}

impl Printer {
    fn new(args: &LogsArgs, containers: &[Container], paint: Paint) -> Self {
        let speakers: HashSet<_> = args.names.iter().flat_map(|name| meant(name, containers)).collect();
        let widest = speakers.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let names = (speakers.len() > 1).then_some(widest);
        Self { timestamps: args.timestamps, names, paint, open: HashSet::new() }
    }

    /// Whether what the container wrote is shown byte for byte; with names and times every record ends its line.
    fn plain(&self) -> bool {
        self.names.is_none() && !self.timestamps
    }

    /// For one container whose output is to be as it wrote it.
    pub(super) fn of_one(paint: Paint) -> Self {
        Self { timestamps: false, names: None, paint, open: HashSet::new() }
    }

    fn print(&mut self, line: &[u8], out: &mut Out) -> Result<(), Failure> {
        let record: LogRecord = serde_json::from_slice(line).map_err(|err| ended(line, &err))?;
        self.write(record, out)
    }

    pub(super) fn write(&mut self, record: LogRecord, out: &mut Out) -> Result<(), Failure> {
        let stderr = record.stream == "stderr";
        let text = self.render(record);
        if stderr {
            out.error_bytes(&text)?;
        } else {
            out.bytes(&text)?;
        }
        Ok(())
    }

    fn render(&mut self, record: LogRecord) -> Vec<u8> {
        let mut text = Vec::new();
        let key = (record.container, record.stream);
        if !self.open.remove(&key) {
            if let Some(width) = self.names {
                let name = self.paint.ink(Ink::Faint, &format!("{:<width$} |", key.0));
                text.extend_from_slice(format!("{name} ").as_bytes());
            }
            if self.timestamps {
                text.extend_from_slice(format!("{} ", record.time).as_bytes());
            }
        }
        let bytes = record.base64.as_deref().and_then(|text| STANDARD.decode(text).ok());
        text.extend(bytes.unwrap_or_else(|| record.text.unwrap_or_default().into_bytes()));
        if record.partial {
            self.open.insert(key);
        } else if !(record.unterminated && self.plain()) {
            text.push(b'\n');
        }
        text
    }
}

/// The names of those that the daemon takes `name` for: the beginning of an id only where it is nothing else.
fn meant<'c>(name: &str, containers: &'c [Container]) -> Vec<&'c str> {
    let those = |means: &dyn Fn(&Container) -> bool| -> Vec<&'c str> {
        containers.iter().filter(|c| means(c)).map(|c| c.name.as_str()).collect()
    };
    let named = those(&|c| {
        let service = name == c.service || name == format!("{}/{}", c.project, c.service);
        name == c.name || (service && c.number != TASK_NUMBER)
    });
    if named.is_empty() { those(&|c| c.id.starts_with(name)) } else { named }
}

/// A line that is no record says why there are no more.
pub(super) fn ended(line: &[u8], err: &serde_json::Error) -> Failure {
    match serde_json::from_slice::<ErrorBody>(line) {
        Ok(body) => Failure::Refused { facts: body.error },
        Err(_) => Failure::Said(format!("the daemon sent a log record that is none: {err}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::Time;

    fn record(container: &str, stream: &str, text: &str, partial: bool) -> LogRecord {
        LogRecord {
            time: Time::from_nanos(1_800_000_000_123_456_789),
            container: container.into(),
            stream: stream.into(),
            sequence: 1,
            text: Some(text.into()),
            base64: None,
            partial,
            unterminated: false,
        }
    }

    fn printer(names: Option<usize>, timestamps: bool) -> Printer {
        Printer { timestamps, names, paint: Paint { on: false }, open: HashSet::new() }
    }

    #[test]
    fn split_lines_come_together_and_names_are_put_before_several() {
        let mut printer = printer(Some(6), false);
        let records = [
            record("db-1", "stdout", "half ", true),
            record("db-1", "stdout", "whole", false),
            record("web-10", "stderr", "next", false),
        ];
        let text: Vec<u8> = records.into_iter().flat_map(|r| printer.render(r)).collect();
        insta::assert_snapshot!(String::from_utf8(text).unwrap(), @r"
        db-1   | half whole
        web-10 | next
        ");
    }

    #[test]
    fn bytes_that_are_no_text_come_out_as_they_went_in() {
        let mut printer = printer(None, true);
        let raw = LogRecord { text: None, base64: Some("/wA=".into()), ..record("a", "stdout", "", false) };
        assert_eq!(printer.render(raw), b"2027-01-15T08:00:00.123456789Z \xff\x00\n");
    }
}
