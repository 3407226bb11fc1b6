//! `GET /metrics`: the view in numbers, for Prometheus.

mod usage;

use std::fmt;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::error::ApiError;
use super::wire::{ContainerState, Phase, Problem, Severity};
use super::{Doors, find};
use crate::model::ContainerId;
use crate::reconcile::view::{ContainerStateView, ImageStateView, View};

/// A number that is counted up, or one that goes up and down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; `_total` is added to its name.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One metric with all its samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Its name without `longshore_` and `_total`.
    pub name: &'static str,
    /// What it says, without the final stop.
    pub help: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// Labels and value of each sample.
    pub samples: Vec<Sample>,
}

type Sample = (Vec<(&'static str, String)>, f64);

impl Metric {
    /// A metric with one sample and no labels.
    #[must_use]
    pub fn single(name: &'static str, help: &'static str, kind: Kind, value: f64) -> Self {
        Self { name, help, kind, samples: vec![(Vec::new(), value)] }
    }
}

pub(super) async fn show(State(doors): State<Doors>) -> Result<Response, ApiError> {
    let mut metrics = of_view(&doors.now());
    metrics.extend((doors.counters)());
    metrics.extend(usage::of_usage(&doors.numbers.usage(running(&doors.now())).await));
    let text = write(metrics).map_err(|err| ApiError::Unavailable { message: err.to_string() })?;
    Ok(([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response())
}

fn write(metrics: Vec<Metric>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("longshore");
    registry.register_collector(Box::new(Scrape(Arc::from(metrics))));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Scrape(Arc<[Metric]>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.iter().try_for_each(|metric| encode(&mut encoder, metric))
    }
}

fn encode(encoder: &mut DescriptorEncoder<'_>, metric: &Metric) -> Result<(), fmt::Error> {
    let kind = match metric.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
    };
    let mut out = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
    for (labels, value) in &metric.samples {
        // An empty family would be written as `name{}`.
        if labels.is_empty() {
            sample(&mut out, metric.kind, *value)?;
        } else {
            sample(&mut out.encode_family(labels)?, metric.kind, *value)?;
        }
    }
    Ok(())
}

fn sample(out: &mut MetricEncoder<'_>, kind: Kind, value: f64) -> Result<(), fmt::Error> {
    match kind {
        Kind::Counter => out.encode_counter::<NoLabelSet, _, f64>(&value, None),
        Kind::Gauge => out.encode_gauge(&value),
    }
}

fn of_view(view: &View) -> Vec<Metric> {
    vec![
        gauge("ready", "Whether the first look is done", vec![(vec![], truth(view.ready))]),
        gauge("settled", "Whether nothing is left to do", vec![(vec![], truth(view.settled))]),
        gauge("folder_held", "Whether the last good state is held", vec![(vec![], truth(view.folder.held.is_some()))]),
        gauge("projects", "Projects by phase", projects(view)),
        gauge("containers", "Containers by state", containers(view)),
        Metric {
            name: "container_restarts",
            help: "How often a container was started again since it was made",
            kind: Kind::Counter,
            samples: restarts(view),
        },
        gauge("images", "Images by state", images(view)),
        gauge("image_bytes", "Bytes of the layers of the images that are here", vec![(vec![], image_bytes(view))]),
        gauge("pull_done_bytes", "Bytes that arrived of an image that is being pulled", pulls(view)),
        gauge("problems", "Problems by severity", problems(view)),
        gauge("steps_under_way", "Actions under way", vec![(vec![], count(view.under_way.len()))]),
        gauge("waiting", "Things that wait", vec![(vec![], count(view.waiting.len()))]),
    ]
}

fn gauge(name: &'static str, help: &'static str, samples: Vec<Sample>) -> Metric {
    Metric { name, help, kind: Kind::Gauge, samples }
}

fn truth(value: bool) -> f64 {
    f64::from(u8::from(value))
}

#[expect(clippy::cast_precision_loss, reason = "a metric of more than 2^53 bytes may be off by one")]
pub(super) fn wide(value: u64) -> f64 {
    value as f64
}

fn count(value: usize) -> f64 {
    wide(value as u64)
}

/// One sample per word, with zeros, so that a series does not vanish when nothing is in that state.
fn by_word(label: &'static str, all: &[&str], seen: &[&str]) -> Vec<Sample> {
    let sample = |word: &&str| {
        let number = seen.iter().filter(|s| *s == word).count();
        (vec![(label, (*word).to_owned())], count(number))
    };
    all.iter().map(sample).collect()
}

fn projects(view: &View) -> Vec<Sample> {
    let words = [Phase::Applied, Phase::Applying, Phase::Failing, Phase::Held, Phase::Removing].map(Phase::as_str);
    by_word("phase", &words, &view.projects.iter().map(|p| p.phase.as_str()).collect::<Vec<_>>())
}

fn containers(view: &View) -> Vec<Sample> {
    let seen: Vec<&str> = find::containers(view).map(|c| ContainerState::from(&c.state).as_str()).collect();
    by_word("state", &["created", "running", "exited", "start_failed", "orphaned"], &seen)
}

/// The containers whose numbers are read: a scrape costs some tens of microseconds for each.
fn running(view: &View) -> Vec<ContainerId> {
    let running = find::containers(view).filter(|c| matches!(c.state, ContainerStateView::Running { .. }));
    running.map(|c| c.id.clone()).collect()
}

fn restarts(view: &View) -> Vec<Sample> {
    let sample = |c: &crate::reconcile::view::ContainerView| {
        let labels = vec![
            ("project", c.project.to_string()),
            ("service", c.service.to_string()),
            ("container", c.name.to_string()),
        ];
        (labels, f64::from(c.restarts))
    };
    find::containers(view).map(sample).collect()
}

fn images(view: &View) -> Vec<Sample> {
    let word = |state: &ImageStateView| match state {
        ImageStateView::Present { .. } => "present",
        ImageStateView::Pulling { .. } => "pulling",
        ImageStateView::Failed { .. } => "failed",
    };
    by_word("state", &["present", "pulling", "failed"], &view.images.iter().map(|i| word(&i.state)).collect::<Vec<_>>())
}

fn image_bytes(view: &View) -> f64 {
    let bytes = view.images.iter().map(|i| match i.state {
        ImageStateView::Present { bytes, .. } => bytes,
        ImageStateView::Pulling { .. } | ImageStateView::Failed { .. } => 0,
    });
    wide(bytes.fold(0, u64::saturating_add))
}

fn pulls(view: &View) -> Vec<Sample> {
    let pulling = view.images.iter().filter_map(|i| match i.state {
        ImageStateView::Pulling { done, .. } => Some((vec![("image", i.image.to_string())], wide(done))),
        ImageStateView::Present { .. } | ImageStateView::Failed { .. } => None,
    });
    pulling.collect()
}

fn problems(view: &View) -> Vec<Sample> {
    let holds = view.projects.iter().flat_map(|p| p.services.iter().flat_map(|s| &s.holds));
    let seen: Vec<&str> = view.problems.iter().chain(holds).map(|p| Problem::from(p).severity.as_str()).collect();
    by_word("severity", &[Severity::Warning, Severity::Held, Severity::Error].map(Severity::as_str), &seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_counters_are_called_total() {
        let labels = vec![("what", "a\"b\\c\nd".to_owned())];
        let text = write(vec![
            Metric { name: "looks", help: "How often", kind: Kind::Counter, samples: vec![(labels, 3.0)] },
            Metric::single("open", "How many", Kind::Gauge, 1.5),
        ]);
        insta::assert_snapshot!(text.unwrap(), @r#"
        # HELP longshore_looks How often
        # TYPE longshore_looks counter
        longshore_looks_total{what="a\"b\\c\nd"} 3.0
        # HELP longshore_open How many
        # TYPE longshore_open gauge
        longshore_open 1.5
        # EOF
        "#);
    }
}
