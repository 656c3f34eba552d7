//! Every route, on one page. The few of [`super::hot`] are taken before it, for speed.

use std::sync::Arc;

use axum::{
    Router,
    http::Method,
    middleware,
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};

use super::{Front, call::Call, failure::Failure, guard, handlers, hot::HOT, params};

pub fn router(front: &Arc<Front>) -> Router {
    hot_routes()
        .merge(with_parameters())
        .merge(without_parameters().route_layer(middleware::from_fn(params::none)))
        .merge(for_anybody())
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(guard::note_route))
        .with_state(Arc::clone(front))
}

/// Their handlers say which.
fn with_parameters() -> Router<Arc<Front>> {
    use handlers::{backup, events, job, list, wait};
    Router::new()
        .route("/v1/jobs", get(list::list))
        .route("/v1/jobs/{id}", get(job::show))
        .route("/v1/jobs/{id}/log", get(job::log))
        .route("/v1/jobs/{id}/wait", get(wait::wait))
        .route("/v1/events", get(events::events))
        .route("/v1/cluster/restore", post(backup::restore))
}

fn without_parameters() -> Router<Arc<Front>> {
    use handlers::{
        archive, backup, bulk, cluster, edit, job, limits, schedules, settings, stats, verbs, why, workers,
    };
    Router::new()
        .route("/v1/jobs/bulk", post(bulk::bulk))
        .route("/v1/jobs/{id}", delete(verbs::delete).patch(edit::edit))
        .route("/v1/jobs/{id}/why", get(why::why))
        .route("/v1/jobs/{id}/output", get(job::output))
        .route("/v1/jobs/{id}/cancel", post(verbs::cancel))
        .route("/v1/jobs/{id}/kick", post(verbs::kick))
        .route("/v1/jobs/{id}/archive", post(verbs::archive))
        .route("/v1/jobs/{id}/priority", post(verbs::priority))
        .route("/v1/jobs/{id}/bury", post(verbs::bury))
        .route("/v1/archive", post(archive::autoarchive))
        .route("/v1/queues", get(settings::queues))
        .route("/v1/queues/{queue}", put(settings::set_queue).delete(settings::forget_queue))
        .route("/v1/drain", get(settings::drain).put(settings::set_drain))
        .route("/v1/pool", get(settings::pool).put(settings::set_pool))
        .route("/v1/limits", get(limits::limits))
        .route("/v1/limits/{name}", get(limits::limit).put(limits::set_limit))
        .route("/v1/policy", get(limits::policy).put(limits::set_policy))
        .route("/v1/schedules", get(schedules::schedules))
        .route("/v1/schedules/{name}", get(schedules::schedule).put(schedules::put).delete(schedules::remove))
        .route("/v1/schedules/{name}/pause", post(schedules::pause))
        .route("/v1/schedules/{name}/resume", post(schedules::resume))
        .route("/v1/schedules/{name}/run", post(schedules::run))
        .route("/v1/workers", get(workers::workers))
        .route("/v1/workers/{id}", put(workers::put).delete(workers::remove))
        .route("/v1/stats", get(stats::stats))
        .route("/v1/stats/groups/{name}", delete(stats::forget))
        .route("/v1/cluster", get(cluster::status))
        .route("/v1/cluster/init", post(cluster::init))
        .route("/v1/cluster/members", post(cluster::add))
        .route("/v1/cluster/members/{id}", delete(cluster::remove))
        .route("/v1/cluster/members/{id}/promote", post(cluster::promote))
        .route("/v1/cluster/transfer", post(cluster::transfer))
        .route("/v1/cluster/snapshot", post(cluster::snapshot))
        .route("/v1/cluster/backup", get(backup::backup))
}

/// Browsers and probes may add what they like.
fn for_anybody() -> Router<Arc<Front>> {
    use handlers::{contract, health};
    Router::new()
        .route("/", get(contract::page))
        .route("/v1/openapi.json", get(contract::openapi))
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
}

/// The router never sees their posts, but it says what else they allow.
fn hot_routes() -> Router<Arc<Front>> {
    HOT.into_iter()
        .fold(Router::new(), |router, (path, hot)| router.route(path, post(move |call: Call| hot.answer(call))))
}

async fn unknown_path() -> Failure {
    Failure::new("not_found", "there is nothing at this path; /v1/openapi.json lists what there is")
}

async fn wrong_method(method: Method) -> Response {
    Failure::new("method_not_allowed", format!("{method} is not possible here; see the allow header")).into_response()
}
