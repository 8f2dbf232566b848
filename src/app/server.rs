//! Listeners: bound first, served until told to stop, drained.
use super::{
    App,
    routes::{self, Listener, Shared},
};
use crate::platform::tasks::Tasks;
use actix_http::{Request, Response};
use actix_service::{IntoServiceFactory, ServiceFactory};
use actix_web::{
    Error, HttpServer,
    body::MessageBody,
    dev::{AppConfig, ServerHandle},
};
use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
const KEEP_ALIVE: Duration = Duration::from_secs(75);
const HEADERS_MAX: Duration = Duration::from_secs(10);
/// How long answers in the making may take after the last accepted request.
const SHUTDOWN_SECONDS: u64 = 30;

/// The listeners of a process.
pub struct Server {
    /// Where the public one is; `None` in modes without it.
    pub http: Option<SocketAddr>,
    /// Where callers inside the cluster come.
    pub internal: Option<SocketAddr>,
    /// Where operators look.
    pub ops: Option<SocketAddr>,
    handles: Vec<ServerHandle>,
}

/// Binds and serves the listeners that are set; `public`: also `http.listen`.
pub fn serve(app: &App, tasks: &Tasks, public: bool) -> io::Result<Server> {
    let config = &app.config;
    let mut server = Server { http: None, internal: None, ops: None, handles: vec![] };
    if public {
        server.http = Some(server.listen(app, tasks, Listener::Http, config.http.listen)?);
    }
    if let Some(address) = config.internal.listen {
        server.internal = Some(server.listen(app, tasks, Listener::Internal, address)?);
    }
    if let Some(address) = config.ops.listen {
        server.ops = Some(server.listen(app, tasks, Listener::Ops, address)?);
    }
    Ok(server)
}

impl Server {
    fn listen(
        &mut self,
        app: &App,
        tasks: &Tasks,
        kind: Listener,
        address: SocketAddr,
    ) -> io::Result<SocketAddr> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{address}: {error}"));
        let socket = TcpListener::bind(address).map_err(named)?;
        let address = socket.local_addr()?;
        let (app, shared) = (app.clone(), Shared::of(app, kind)?);
        let workers = if kind == Listener::Http { app.config.http.workers } else { 1 };
        let server = start(HttpServer::new(move || routes::worker(&app, &shared)), socket, workers)?;
        self.handles.push(server.handle());
        tasks.spawn("listener", move |_| async move {
            if let Err(error) = server.await {
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, "a listener ended");
            }
        });
        tracing::info!(%address, listener = ?kind, "listening");
        Ok(address)
    }

    /// Says that it is leaving, serves on for a while so that everybody can hear it, and then finishes what it has
    /// begun.
    pub async fn drain(self, app: &App) {
        app.health.drain();
        tokio::time::sleep(Duration::from_secs(app.config.http.drain_seconds)).await;
        for handle in self.handles {
            handle.stop(true).await;
        }
    }
}

fn start<F, I, S, B>(
    server: HttpServer<F, I, S, B>,
    listener: TcpListener,
    workers: usize,
) -> io::Result<actix_web::dev::Server>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    B: MessageBody + 'static,
{
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    let server = server
        .workers(if workers == 0 { cores } else { workers })
        .backlog(BACKLOG)
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(HEADERS_MAX)
        .shutdown_timeout(SHUTDOWN_SECONDS)
        .disable_signals()
        .listen(listener)?;
    Ok(server.run())
}
