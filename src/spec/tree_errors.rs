//! What is wrong with a text as YAML, in words for its owner.

use serde_saphyr::granit_parser::{ErrorKind, ScanError};

use super::node::Key;
use super::report::Report;
use super::source_text::{Source, Span};
use crate::model::{Location, Problem, Severity};

/// What the tree refuses although the parser accepts it.
#[derive(Debug)]
pub(super) enum Fault {
    SecondDocument(Span),
    TooDeep(Span, usize),
    TooMuch(Span, usize),
    Recursive(Span),
    AliasAsKey(Span),
    CollectionAsKey(Span),
    MergeOfNoMap(Span),
    Twice { key: Key, first: u32 },
    Tag(String, Span),
}

/// The file holds no value at all.
pub(super) fn nothing(source: &Source<'_>) -> Box<Problem> {
    let problem = Problem::error(Location::whole(source.path), "there is nothing in the file");
    let hint = "a state file needs at least `services:` with one service; to remove a project, remove its file";
    Box::new(problem.with_hint(hint))
}

pub(super) fn of_fault(source: &Source<'_>, fault: Fault) -> Box<Problem> {
    let (at, message, hint) = match fault {
        Fault::SecondDocument(at) => (
            at,
            "a second document begins here; a state file is one document".to_owned(),
            Some("put it into a file of its own, or remove the `---`".to_owned()),
        ),
        Fault::TooDeep(at, limit) => (at, format!("nested deeper than {limit} levels"), None),
        Fault::TooMuch(at, limit) => (
            at,
            format!("with its aliases written out the file has more than {limit} values"),
            Some("anchors that refer to each other multiply; write the values out".to_owned()),
        ),
        Fault::Recursive(at) => (at, "this alias refers to a value that contains it".to_owned(), None),
        Fault::AliasAsKey(at) => (at, "an alias cannot be a key".to_owned(), Some("write the key out".to_owned())),
        Fault::CollectionAsKey(at) => (
            at,
            "a list or a map cannot be a key".to_owned(),
            Some("put quotes around text that begins with `{` or `[`".to_owned()),
        ),
        Fault::MergeOfNoMap(at) => (
            at,
            "`<<` merges maps, and this is none".to_owned(),
            Some("write `<<: *anchor` or `<<: [*one, *two]`, with anchors on maps".to_owned()),
        ),
        Fault::Twice { key, first } => {
            (key.at, format!("the key {:?} is given twice; first on line {first}", key.text), None)
        }
        Fault::Tag(tag, at) => (at, format!("the tag `{}` is not supported", tag.escape_debug()), tag_hint(&tag)),
    };
    problem(source, at, message, hint)
}

fn tag_hint(tag: &str) -> Option<String> {
    let hint = match tag {
        "!reset" | "!override" => "it acts where several Compose files are merged; a project here is one file",
        "!include" => "write the content into this file",
        _ => "remove it: values are text, numbers, booleans, lists and maps",
    };
    Some(hint.to_owned())
}

pub(super) fn of_parser(source: &Source<'_>, error: &ScanError) -> Box<Problem> {
    let mark = error.marker();
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let at = Span { line: number(mark.line()), column: number(mark.col() + 1), width: 1 };
    let tab = tab_in_indentation(source, at.line);
    match error.kind() {
        ErrorKind::TabNotAllowed | ErrorKind::TabInBlockIndentation => tabs(source, tab.unwrap_or(at)),
        _ if tab.is_some() => tabs(source, tab.unwrap_or(at)),
        kind if ended_early(kind) => problem(
            source,
            at,
            format!("the text ends too early: {}", error.info()),
            Some("was the file written completely? a bracket or a quote is not closed".to_owned()),
        ),
        ErrorKind::UnclosedQuotedScalar => problem(
            source,
            at,
            "the quote that begins here is not closed".to_owned(),
            Some("close it; was the file written completely?".to_owned()),
        ),
        ErrorKind::UnclosedFlowCollection { open } => problem(
            source,
            at,
            format!("the bracket `{open}` is not closed"),
            Some("close it; was the file written completely?".to_owned()),
        ),
        ErrorKind::UnknownAnchor => problem(
            source,
            at,
            "this alias refers to an anchor that is not defined above it".to_owned(),
            Some("text that begins with `*` needs quotes".to_owned()),
        ),
        _ => problem(source, at, format!("not valid YAML: {}", error.info()), None),
    }
}

const fn ended_early(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UnexpectedEof
            | ErrorKind::UnexpectedEofFlowSequence
            | ErrorKind::UnexpectedEofFlowMapping
            | ErrorKind::UnexpectedEofImplicitFlowMapping
            | ErrorKind::UnexpectedEofBlockSequence
            | ErrorKind::UnexpectedEofBlockMapping
    )
}

/// A tab that indents is often reported as something else, and on the line below it.
fn tab_in_indentation(source: &Source<'_>, line: u32) -> Option<Span> {
    [line, line.saturating_sub(1)].into_iter().find_map(|number| {
        let indent: String = source.line(number)?.chars().take_while(|c| c.is_whitespace()).collect();
        let column = indent.chars().position(|c| c == '\t')?;
        Some(Span { line: number, column: u32::try_from(column + 1).unwrap_or(1), width: 1 })
    })
}

fn tabs(source: &Source<'_>, at: Span) -> Box<Problem> {
    problem(
        source,
        at,
        "a tab indents this line; YAML is indented by spaces".to_owned(),
        Some("replace the tab by spaces".to_owned()),
    )
}

fn problem(source: &Source<'_>, at: Span, message: String, hint: Option<String>) -> Box<Problem> {
    let problem = Report::new(source).problem(Severity::Error, at, "", message);
    Box::new(match hint {
        Some(hint) => problem.with_hint(hint),
        None => problem,
    })
}
