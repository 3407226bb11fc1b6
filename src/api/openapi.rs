//! `GET /api/v1/openapi.json`: the description of this API, assembled from the formats' schemas.

use axum::Json;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::{by_hand, files, history, images, secrets, volumes, wire};

pub(super) async fn show() -> Json<Value> {
    Json(document())
}

/// One route.
pub(super) struct Operation {
    pub(super) path: &'static str,
    pub(super) method: &'static str,
    pub(super) summary: &'static str,
    pub(super) query: &'static [(&'static str, &'static str)],
    pub(super) ask: Ask,
    pub(super) answer: Answer,
}

/// The body of a request.
pub(super) enum Ask {
    Nothing,
    Json(fn(&mut SchemaGenerator) -> Schema),
    Bytes(&'static str),
}

/// The body of an answer.
pub(super) enum Answer {
    Json(fn(&mut SchemaGenerator) -> Schema),
    Lines(&'static str, fn(&mut SchemaGenerator) -> Schema),
    Text(&'static str),
}

pub(super) fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const LOGS: &[(&str, &str)] = &[
    ("follow", "true: go on with what is written later"),
    ("since", "a time in RFC 3339, or how long ago (10m)"),
    ("tail", "only so many lines from the end of what is there"),
    ("previous", "true: what is kept of the container that was there before the present one"),
    ("format", "ndjson (default): one record per line; raw: the bytes as they were written"),
];

const STATS: &[(&str, &str)] = &[
    ("stream", "true: go on, one record per line (application/x-ndjson)"),
    ("interval", "how long from one record to the next: 500ms, 2, 1m (default 1)"),
    ("names", "only these containers and services, with commas between them"),
];

pub(super) const fn get(
    path: &'static str,
    summary: &'static str,
    query: &'static [(&'static str, &'static str)],
    answer: Answer,
) -> Operation {
    Operation { path, method: "get", summary, query, ask: Ask::Nothing, answer }
}

pub(super) const fn post(path: &'static str, summary: &'static str, ask: Ask, answer: Answer) -> Operation {
    Operation { path, method: "post", summary, query: &[], ask, answer }
}

fn operations() -> Vec<Operation> {
    let mut all = vec![
        get("/healthz", "Whether the daemon is ready: 200 or 503", &[], Answer::Json(of::<wire::Health>)),
        get("/metrics", "Numbers for Prometheus", &[], Answer::Text("application/openmetrics-text")),
        get(
            "/api/v1/status",
            "The whole status",
            &[
                ("wait", "answer when the revision is greater than this"),
                ("timeout", "answer after so many seconds at the latest (default 30, at most 300)"),
            ],
            Answer::Json(of::<wire::Status>),
        ),
        get("/api/v1/plan", "What is done and what is still to be done", &[], Answer::Json(of::<wire::Plan>)),
        get("/api/v1/containers", "All containers", &[], Answer::Json(of::<Vec<wire::Container>>)),
        get(
            "/api/v1/containers/{name}",
            "One container, by name, id or the beginning of its id",
            &[],
            Answer::Json(of::<wire::Container>),
        ),
        get(
            "/api/v1/containers/{name}/logs",
            "The output of a container, or of all containers of a service (project%2Fservice, or a unique service name)",
            LOGS,
            Answer::Lines("application/x-ndjson", of::<wire::LogRecord>),
        ),
        post(
            "/api/v1/containers/{name}/exec",
            "Executes a command in a container, or in a replica of a service (project%2Fservice). With `Connection: Upgrade` and \
             `Upgrade: longshore-exec` it answers 101, then frames go both ways: type (1 byte), length (4 bytes, big-endian), at \
             most 64 KiB. Client: 0 stdin, 1 end of stdin, 2 size (rows and columns, 2 bytes each), 3 signal (1 byte). Server: 16 \
             stdout, 17 stderr, 18 exit (JSON: code, signal, reason) or 19 error (JSON) as the last one, 20 taken (4 bytes: so \
             many of stdin; at most 256 KiB may be on the way). With detach: 200 once it runs",
            Ask::Json(of::<wire::ExecAsk>),
            Answer::Json(of::<wire::ExecStarted>),
        ),
    ];
    all.extend(files::operations());
    all.extend([
        get(
            "/api/v1/containers/{name}/stats",
            "What a container uses, or all containers of a service; with stream=true a record for each interval",
            &STATS[..2],
            Answer::Json(of::<wire::Usage>),
        ),
        get(
            "/api/v1/containers/{name}/top",
            "The processes of a container, or of all containers of a service",
            &[],
            Answer::Json(of::<Vec<wire::Process>>),
        ),
        get("/api/v1/networks", "All networks", &[], Answer::Json(of::<Vec<wire::Network>>)),
        get(
            "/api/v1/networks/{name}",
            "One network, by name, id or the beginning of its id",
            &[],
            Answer::Json(of::<wire::Network>),
        ),
        get(
            "/api/v1/stats",
            "What all containers that run use; with stream=true a record for each interval",
            STATS,
            Answer::Json(of::<wire::Usage>),
        ),
        get(
            "/api/v1/services/{project}/{service}/logs",
            "The output of all containers of a service",
            LOGS,
            Answer::Lines("application/x-ndjson", of::<wire::LogRecord>),
        ),
        get(
            "/api/v1/services/{project}/{service}/why",
            "What happened to a service, the newest last, and why",
            &[],
            Answer::Json(of::<wire::Why>),
        ),
    ]);
    all.extend(history::of_services());
    all.extend([
        get(
            "/api/v1/jobs",
            "The services that run at set times, with what became of the last ones",
            &[],
            Answer::Json(of::<Vec<wire::Job>>),
        ),
        post(
            "/api/v1/jobs/{project}/{service}/run",
            "Runs a service now that runs at set times; 409 while a run of it is under way",
            Ask::Nothing,
            Answer::Json(of::<wire::Job>),
        ),
        post(
            "/api/v1/run",
            "Runs a container of a service once, with another command; answers when it is asked for, not when it runs",
            Ask::Json(of::<wire::RunAsk>),
            Answer::Json(of::<wire::RunState>),
        ),
        get(
            "/api/v1/run/{name}",
            "How far a run is, by the name or id of its container; remembered for a minute after its end",
            &[],
            Answer::Json(of::<wire::RunState>),
        ),
        Operation {
            path: "/api/v1/run/{name}",
            method: "delete",
            summary: "Ends the container of a run where it runs, and removes it, kept or not",
            query: &[],
            ask: Ask::Nothing,
            answer: Answer::Json(of::<wire::RunEnded>),
        },
        get(
            "/api/v1/events",
            "What happens, as server-sent events; Last-Event-ID is honoured",
            &[("since", "an event's id, a time in RFC 3339, how long ago (10m), or 0 for all that is kept")],
            Answer::Lines("text/event-stream", of::<wire::Event>),
        ),
        get("/api/v1/version", "Which daemon answers", &[], Answer::Json(of::<wire::Version>)),
        post(
            "/api/v1/confirm",
            "Lets a held mass delete go on; 409 where nothing is held",
            Ask::Nothing,
            Answer::Json(of::<wire::Confirmed>),
        ),
        post(
            "/api/v1/look",
            "Looks at the state folder now; answers once what was seen is acted upon",
            Ask::Nothing,
            Answer::Json(of::<wire::Looked>),
        ),
    ]);
    all.extend(by_hand::operations());
    all.extend(history::operations());
    all.extend([
        post(
            "/api/v1/registries/login",
            "Asks a registry whether it takes a login, and keeps it then; 403 where it does not",
            Ask::Json(of::<wire::LoginAsk>),
            Answer::Json(of::<wire::LoggedIn>),
        ),
        post(
            "/api/v1/registries/logout",
            "Forgets the login at a registry",
            Ask::Json(of::<wire::LogoutAsk>),
            Answer::Json(of::<wire::LoggedOut>),
        ),
    ]);
    all.extend(images::operations());
    all.extend(volumes::operations());
    all.extend(secrets::operations());
    all.push(get("/api/v1/openapi.json", "This description", &[], Answer::Text("application/json")));
    all
}

pub(super) fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| s.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let error = of::<wire::ErrorBody>(&mut generator);
    let mut paths: Map<String, Value> = Map::new();
    for op in operations() {
        let methods = paths.entry(op.path).or_insert_with(|| json!({}));
        methods[op.method] = describe(&op, &error, &mut generator);
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Longshore", "version": "v1" },
        "paths": paths,
        "components": { "schemas": generator.take_definitions(true) },
    })
}

fn describe(op: &Operation, error: &Schema, generator: &mut SchemaGenerator) -> Value {
    let content = match &op.answer {
        Answer::Json(schema) => json!({ "application/json": { "schema": schema(generator) } }),
        Answer::Lines(kind, schema) => json!({ *kind: { "schema": schema(generator) } }),
        Answer::Text(kind) => json!({ *kind: {} }),
    };
    let text = json!({ "type": "string" });
    let in_path = op
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": text }));
    let in_query =
        op.query.iter().map(|(name, help)| json!({ "name": name, "in": "query", "description": help, "schema": text }));
    let asked = match &op.ask {
        Ask::Nothing => Value::Null,
        Ask::Json(schema) => json!({ "application/json": { "schema": schema(generator) } }),
        Ask::Bytes(kind) => json!({ *kind: {} }),
    };
    let mut described = json!({
        "summary": op.summary,
        "parameters": in_path.chain(in_query).collect::<Vec<_>>(),
        "responses": {
            "200": { "description": "As asked", "content": content },
            "default": { "description": "Why not", "content": { "application/json": { "schema": error } } },
        },
    });
    if !asked.is_null() {
        described["requestBody"] = json!({ "required": true, "content": asked });
    }
    described
}

#[cfg(test)]
mod tests {
    use super::document;

    #[test]
    fn every_route_is_described_and_every_reference_leads_somewhere() {
        let document = document();
        let described: Vec<_> = document["paths"].as_object().unwrap().keys().cloned().collect();
        let routes: Vec<_> = crate::api::router::routes().into_iter().map(|(path, _)| path.to_owned()).collect();
        assert_eq!(described, routes);
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
    }
}
