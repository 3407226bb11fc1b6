//! A service's generations as the database's record, and back.

use crate::model::{Digest, FailureAction, ImageReference, SpecHash, Timestamp};
use crate::plan::Version;
use crate::reconcile::{Aside, Book, Chosen, Generation, Outcome, SourceId};
use crate::store::{AsideRecord, ChosenRecord, GenerationRecord, Generations, OutcomeRecord, ThenRecord};

pub(super) fn record(digests: &[Digest], book: Book) -> Generations {
    let Book { generations, last, present, aside, chosen } = book;
    Generations {
        manifests: digests.iter().map(ToString::to_string).collect(),
        generations: generations.into_iter().map(generation).collect(),
        last,
        present,
        aside: aside.map(set_aside),
        chosen: chosen.map(|Chosen { image, at }| ChosenRecord { image: image.to_string(), at: at.millis() }),
    }
}

fn generation(generation: Generation) -> GenerationRecord {
    let Generation { number, at, file, line, why, version, image, source, outcome } = generation;
    GenerationRecord {
        number,
        at: at.millis(),
        file,
        line,
        why,
        hash: version.hash.to_string(),
        image: image.to_string(),
        digest: version.digest.to_string(),
        source: source.as_str().to_owned(),
        outcome: match outcome {
            Outcome::UnderWay => OutcomeRecord::UnderWay,
            Outcome::Good(at) => OutcomeRecord::Good { at: at.millis() },
            Outcome::Failed { at, why } => OutcomeRecord::Failed { at: at.millis(), why },
            Outcome::Replaced(at) => OutcomeRecord::Replaced { at: at.millis() },
        },
    }
}

fn set_aside(aside: Aside) -> AsideRecord {
    let Aside { hash, digest, image, source, why, then, since, by_hand, to } = aside;
    AsideRecord {
        hash: hash.to_string(),
        digest: digest.map(|digest| digest.to_string()),
        image: image.to_string(),
        source: source.as_str().to_owned(),
        why,
        then: match then {
            FailureAction::Pause => ThenRecord::Pause,
            FailureAction::Continue => ThenRecord::Continue,
            FailureAction::Rollback => ThenRecord::Rollback,
        },
        since: since.millis(),
        by_hand,
        to,
    }
}

/// What a record says, without what this version cannot read.
#[must_use]
pub fn book(record: &Generations) -> Book {
    let chosen = |record: &ChosenRecord| {
        Some(Chosen { image: ImageReference::parse(&record.image).ok()?, at: Timestamp(record.at) })
    };
    Book {
        generations: record.generations.iter().filter_map(read).collect(),
        last: record.last,
        present: record.present,
        aside: record.aside.as_ref().and_then(read_aside),
        chosen: record.chosen.as_ref().and_then(chosen),
    }
}

fn read(record: &GenerationRecord) -> Option<Generation> {
    Some(Generation {
        number: record.number,
        at: Timestamp(record.at),
        file: record.file.clone(),
        line: record.line,
        why: record.why.clone(),
        version: Version { hash: SpecHash::from_hex(&record.hash)?, digest: Digest::parse(&record.digest).ok()? },
        image: ImageReference::parse(&record.image).ok()?,
        source: SourceId::parse(&record.source)?,
        outcome: match &record.outcome {
            OutcomeRecord::UnderWay => Outcome::UnderWay,
            OutcomeRecord::Good { at } => Outcome::Good(Timestamp(*at)),
            OutcomeRecord::Failed { at, why } => Outcome::Failed { at: Timestamp(*at), why: why.clone() },
            OutcomeRecord::Replaced { at } => Outcome::Replaced(Timestamp(*at)),
        },
    })
}

fn read_aside(record: &AsideRecord) -> Option<Aside> {
    Some(Aside {
        hash: SpecHash::from_hex(&record.hash)?,
        digest: record.digest.as_deref().and_then(|text| Digest::parse(text).ok()),
        image: ImageReference::parse(&record.image).ok()?,
        source: SourceId::parse(&record.source)?,
        why: record.why.clone(),
        then: match record.then {
            ThenRecord::Pause => FailureAction::Pause,
            ThenRecord::Continue => FailureAction::Continue,
            ThenRecord::Rollback => FailureAction::Rollback,
        },
        since: Timestamp(record.since),
        by_hand: record.by_hand,
        to: record.to,
    })
}
