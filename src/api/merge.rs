//! Several outputs as one: in order of time where all is there already, as it comes where it is followed.

use std::collections::VecDeque;
use std::io;

use futures_util::stream::{self, BoxStream, StreamExt as _};

use super::{LogLine, LogStream};

/// A line with the name of its container.
pub(super) type Named = (String, LogLine);

/// The lines of all `sources` in one stream.
pub(super) fn merge(sources: Vec<(String, LogStream)>, follow: bool) -> BoxStream<'static, io::Result<Named>> {
    if follow {
        return stream::select_all(sources.into_iter().map(named)).boxed();
    }
    stream::unfold(Ordered { waiting: sources.into_iter().map(named).collect(), heads: Vec::new() }, Ordered::next)
        .boxed()
}

fn named((name, lines): (String, LogStream)) -> BoxStream<'static, io::Result<Named>> {
    lines.map(move |line| line.map(|line| (name.clone(), line))).boxed()
}

type Source = BoxStream<'static, io::Result<Named>>;

/// Invariant: a source in `heads` has its next line beside it; one in `waiting` has to be asked.
struct Ordered {
    waiting: VecDeque<Source>,
    heads: Vec<(Named, Source)>,
}

impl Ordered {
    async fn next(mut self) -> Option<(io::Result<Named>, Self)> {
        while let Some(mut source) = self.waiting.pop_front() {
            match source.next().await {
                Some(Ok(line)) => self.heads.push((line, source)),
                // The other sources are still read after one failed.
                Some(Err(err)) => return Some((Err(err), self)),
                None => {}
            }
        }
        let oldest = self.heads.iter().enumerate().min_by_key(|(_, ((_, line), _))| line.time).map(|(at, _)| at)?;
        let (line, source) = self.heads.swap_remove(oldest);
        self.waiting.push_back(source);
        Some((Ok(line), self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Stream;

    fn source(name: &str, times: &[u64]) -> (String, LogStream) {
        let line = |t: &u64| LogLine {
            time: *t,
            stream: Stream::Stdout,
            sequence: *t,
            bytes: t.to_string().into_bytes(),
            partial: false,
            unterminated: false,
        };
        (name.to_owned(), stream::iter(times.iter().map(line).map(Ok).collect::<Vec<_>>()).boxed())
    }

    #[tokio::test]
    async fn what_is_there_comes_in_order_of_time() {
        let merged = merge(vec![source("a", &[1, 4, 5]), source("b", &[2, 3, 9]), source("c", &[])], false);
        let seen: Vec<_> = merged.map(|l| l.map(|(name, line)| (name, line.time)).unwrap()).collect().await;
        let seen: Vec<_> = seen.iter().map(|(n, t)| (n.as_str(), *t)).collect();
        assert_eq!(seen, [("a", 1), ("b", 2), ("b", 3), ("a", 4), ("a", 5), ("b", 9)]);
    }
}
