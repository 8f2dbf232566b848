//! The three lists of routes, one a listener, and the document of all of them.
use super::App;
use crate::{
    audit, authn, credentials, flows,
    http::{
        cors::{self, Cors},
        document, extract, idempotency,
        limits::{self, Limits},
        ops,
        problem::Problem,
        rates::{Class, Classes},
        request::{self, Around},
        routes::{RouteTable, nowhere},
    },
    identity, orgs, policy,
};
use actix_web::{
    App as ActixApp, Error, HttpResponse,
    body::MessageBody,
    dev::{ServiceFactory, ServiceRequest, ServiceResponse},
    get,
    middleware::from_fn,
    web,
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;
use utoipa::openapi::OpenApi;
use utoipa_actix_web::{AppExt as _, service_config::ServiceConfig};

/// Requests at once on a listener that is not for the public.
const INNER_CONCURRENCY_MAX: usize = 256;

/// Which of the three.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Listener {
    /// `http.listen`: everything public.
    Http,
    /// `internal.listen`: for callers inside the cluster, off by default.
    Internal,
    /// `ops.listen`: for whoever runs this.
    Ops,
}

/// `http.listen`.
fn http_routes(config: &mut ServiceConfig<'_>) {
    config.configure(orgs::http::routes);
    config.configure(identity::routes);
    config.configure(authn::routes);
    config.configure(credentials::routes);
    config.configure(credentials::validation_routes);
    config.configure(audit::http::routes);
    config.configure(policy::routes);
    config.configure(flows::routes);
    config.configure(ops::health_routes);
    config.service(openapi);
}

/// `internal.listen`.
fn internal_routes(config: &mut ServiceConfig<'_>) {
    config.configure(credentials::validation_routes);
    config.configure(ops::health_routes);
}

/// `ops.listen`.
fn ops_routes(config: &mut ServiceConfig<'_>) {
    config.configure(ops::health_routes);
    config.configure(ops::metrics_routes);
}

impl Listener {
    fn routes(self, expose_metrics: bool, config: &mut ServiceConfig<'_>) {
        match self {
            Self::Http if expose_metrics => config.configure(http_routes).configure(ops::metrics_routes),
            Self::Http => config.configure(http_routes),
            Self::Internal => config.configure(internal_routes),
            Self::Ops => config.configure(ops_routes),
        };
    }

    fn collect(self, expose_metrics: bool) -> OpenApi {
        let app = ActixApp::new().into_utoipa_app().openapi(document::base());
        app.configure(|config: &mut ServiceConfig<'_>| self.routes(expose_metrics, config))
            .split_for_parts()
            .1
    }
}

/// The document of all operations, each with the listeners that it is on.
pub fn document() -> Result<Value, serde_json::Error> {
    let paths = |document: &OpenApi| document.paths.paths.keys().cloned().collect::<Vec<String>>();
    let all = Listener::Http.collect(true);
    let (internal, ops) = (Listener::Internal.collect(true), Listener::Ops.collect(true));
    let listeners = [("http", paths(&all)), ("internal", paths(&internal)), ("ops", paths(&ops))];
    document::complete(&all, &listeners)
}

/// The document as it is served.
struct Document(Value);

/// This document.
///
/// OpenAPI 3.1.
#[utoipa::path(
    tag = "operations",
    security(()),
    responses((status = 200, description = "The OpenAPI document", body = Object, content_type = "application/json"))
)]
#[get("/openapi.json")]
async fn openapi(document: web::Data<Document>) -> HttpResponse {
    HttpResponse::Ok().json(&document.0)
}

/// What the workers of a listener share.
#[derive(Clone)]
pub struct Shared {
    listener: Listener,
    around: web::Data<Around>,
    cors: web::Data<Cors>,
    limits: web::Data<Limits>,
    table: web::Data<RouteTable>,
    classes: web::Data<Classes>,
    document: web::Data<Document>,
}

impl Shared {
    /// Once a listener, not once a worker.
    pub fn of(app: &App, listener: Listener) -> Result<Self, serde_json::Error> {
        let around = Around {
            clock: app.clock.clone(),
            entropy: app.entropy.clone(),
            metrics: app.metrics.clone(),
            health: app.health.clone(),
        };
        let cors =
            Cors { origins: app.config.http.cors.origins.clone(), environment: app.config.environment };
        let room = match listener {
            Listener::Http => app.config.http.concurrency_max,
            Listener::Internal | Listener::Ops => INNER_CONCURRENCY_MAX,
        };
        let limits = Limits {
            room: Arc::new(Semaphore::new(room)),
            patience: Duration::from_secs(app.config.http.request_timeout_seconds),
            metrics: app.metrics.clone(),
        };
        let mut table = RouteTable::of(&listener.collect(app.config.http.expose_metrics));
        if listener == Listener::Http {
            let pages = authn::PAGES.iter().chain(flows::PAGES);
            table = pages.fold(table, |table, (path, methods)| table.and(path, methods));
        }
        let document = document()?;
        Ok(Self {
            listener,
            around: web::Data::new(around),
            cors: web::Data::new(cors),
            limits: web::Data::new(limits),
            table: web::Data::new(table),
            classes: web::Data::new(classes(&document)),
            document: web::Data::new(Document(document)),
        })
    }
}

/// Of every operation, and of every page, as of what it does.
fn classes(document: &Value) -> Classes {
    let mut classes = Classes::of(document);
    for (path, methods) in authn::PAGES.iter().chain(flows::PAGES) {
        for method in *methods {
            let class = match (*path, *method) {
                ("/sign-in", "POST") => Class::SignIn,
                ("/invite", "POST") => Class::Recovery,
                (_, "GET") => Class::Reads,
                _ => Class::Writes,
            };
            classes = classes.and(path, method, class);
        }
    }
    classes
}

/// What a worker of a listener runs. The last wrap is the outermost.
pub fn worker(
    app: &App,
    shared: &Shared,
) -> ActixApp<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody + use<>>,
        Error = Error,
        InitError = (),
    > + use<>,
> {
    let (listener, expose_metrics) = (shared.listener, app.config.http.expose_metrics);
    let (routed, _) = ActixApp::new()
        .app_data(web::Data::from(Arc::clone(&app.work)))
        .app_data(web::Data::new(app.hasher.clone()))
        .app_data(web::Data::new(app.health.clone()))
        .app_data(web::Data::new(app.metrics.clone()))
        .app_data(app.access.clone())
        .app_data(web::Data::from(Arc::clone(&app.streams)))
        .app_data(web::Data::from(Arc::clone(&app.decisions)))
        .app_data(shared.around.clone())
        .app_data(shared.cors.clone())
        .app_data(shared.limits.clone())
        .app_data(shared.table.clone())
        .app_data(shared.classes.clone())
        .app_data(shared.document.clone())
        .app_data(extract::payload_config())
        .app_data(extract::query_config())
        .app_data(extract::form_config())
        .app_data(web::PathConfig::default().error_handler(|_, _| Problem::not_found().into()))
        .into_utoipa_app()
        .configure(|config: &mut ServiceConfig<'_>| listener.routes(expose_metrics, config))
        .split_for_parts();
    routed
        .configure(|config| {
            if listener == Listener::Http {
                config.configure(authn::page_routes).configure(flows::page_routes);
            }
        })
        .default_service(web::to(nowhere))
        .wrap(from_fn(idempotency::note))
        .wrap(from_fn(limits::bound))
        .wrap(from_fn(request::screen))
        .wrap(from_fn(cors::share))
        .wrap(from_fn(request::around))
}
