//! Which path leads where.

use axum::Router;
use axum::extract::Request;
use axum::routing::{MethodRouter, delete, get, post, put};

use super::error::ApiError;
use super::{
    Doors, by_hand, commands, containers, exec, feed, files, health, history, images, jobs, logs, metrics, networks,
    numbers, openapi, plan, registries, run, secrets, status, system, version, volumes, why,
};

/// Every route with its handler, and its line in the API's description.
pub(super) fn routes() -> Vec<(&'static str, MethodRouter<Doors>)> {
    vec![
        ("/healthz", get(health::show)),
        ("/metrics", get(metrics::show)),
        ("/api/v1/status", get(status::show)),
        ("/api/v1/plan", get(plan::show)),
        ("/api/v1/containers", get(containers::list)),
        ("/api/v1/containers/{name}", get(containers::show)),
        ("/api/v1/containers/{name}/logs", get(logs::of_name)),
        ("/api/v1/containers/{name}/exec", post(exec::start)),
        ("/api/v1/containers/{name}/archive", get(files::read).put(files::write)),
        ("/api/v1/containers/{name}/export", get(files::export)),
        ("/api/v1/containers/{name}/changes", get(files::changes)),
        ("/api/v1/containers/{name}/stats", get(numbers::of_name)),
        ("/api/v1/containers/{name}/top", get(numbers::top)),
        ("/api/v1/networks", get(networks::list)),
        ("/api/v1/networks/{name}", get(networks::show)),
        ("/api/v1/stats", get(numbers::of_all)),
        ("/api/v1/services/{project}/{service}/logs", get(logs::of_service)),
        ("/api/v1/services/{project}/{service}/why", get(why::show)),
        ("/api/v1/services/{project}/{service}/history", get(history::show)),
        ("/api/v1/services/{project}/{service}/diff", get(history::compare)),
        ("/api/v1/jobs", get(jobs::list)),
        ("/api/v1/jobs/{project}/{service}/run", post(jobs::run)),
        ("/api/v1/run", post(run::start)),
        ("/api/v1/run/{name}", get(run::show).delete(run::end)),
        ("/api/v1/events", get(feed::listen)),
        ("/api/v1/version", get(version::show)),
        ("/api/v1/confirm", post(commands::confirm)),
        ("/api/v1/look", post(commands::look)),
        ("/api/v1/by-hand", post(by_hand::order)),
        ("/api/v1/rollback", post(history::rollback)),
        ("/api/v1/resume", post(history::resume)),
        ("/api/v1/registries/login", post(registries::login)),
        ("/api/v1/registries/logout", post(registries::logout)),
        ("/api/v1/images", get(images::list)),
        ("/api/v1/images/inspect", get(images::inspect)),
        ("/api/v1/images/history", get(images::history)),
        ("/api/v1/images/pull", post(images::pull)),
        ("/api/v1/images/push", post(images::push)),
        ("/api/v1/images/tag", post(images::tag)),
        ("/api/v1/images/remove", post(images::remove)),
        ("/api/v1/images/pin", post(images::pin)),
        ("/api/v1/images/prune", post(images::prune)),
        ("/api/v1/images/verify", post(images::verify)),
        ("/api/v1/images/save", get(images::save)),
        ("/api/v1/images/load", post(images::load)),
        ("/api/v1/images/import", post(images::import)),
        ("/api/v1/images/commit", post(images::commit)),
        ("/api/v1/system/df", get(system::df)),
        ("/api/v1/volumes", get(volumes::list).post(volumes::create)),
        ("/api/v1/volumes/prune", post(volumes::prune)),
        ("/api/v1/volumes/{name}", get(volumes::show).delete(volumes::remove)),
        ("/api/v1/volumes/{name}/export", get(volumes::export)),
        ("/api/v1/volumes/{name}/import", put(volumes::import)),
        ("/api/v1/volumes/{name}/snapshots", get(volumes::snapshots).post(volumes::snapshot)),
        ("/api/v1/volumes/{name}/snapshots/{snapshot}", delete(volumes::remove_snapshot)),
        ("/api/v1/volumes/{name}/restore", post(volumes::restore)),
        ("/api/v1/snapshots", get(volumes::all_snapshots)),
        ("/api/v1/secrets", get(secrets::list)),
        ("/api/v1/secrets/{name}", put(secrets::set).delete(secrets::remove)),
        ("/api/v1/openapi.json", get(openapi::show)),
    ]
}

/// Routes whose request is a stream of any size.
pub(super) fn streamed(path: &str) -> bool {
    let archive = || path.strip_prefix("/api/v1/containers/").is_some_and(|rest| rest.ends_with("/archive"));
    ["/api/v1/images/load", "/api/v1/images/import"].contains(&path) || archive() || volumes::streamed(path)
}

/// All routes on what the daemon handed in.
pub fn router(doors: Doors) -> Router {
    let all = routes().into_iter().fold(Router::new(), |router, (path, handler)| router.route(path, handler));
    all.fallback(no_route).method_not_allowed_fallback(no_method).with_state(doors)
}

async fn no_route(request: Request) -> ApiError {
    ApiError::NoRoute { path: path(request.uri().path()) }
}

async fn no_method(request: Request) -> ApiError {
    ApiError::Method { path: path(request.uri().path()) }
}

fn path(path: &str) -> String {
    path.chars().take(256).collect()
}
