//! Listeners: bound first, served until told to stop, drained.
use super::{
    App,
    routes::{self, Listener, Shared},
};
use crate::platform::{config::Config, tasks::Tasks, telemetry::chain};
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

/// Sockets that are bound and not served yet.
#[derive(Default)]
pub struct Listeners {
    /// The public one; none in modes without it.
    pub http: Option<TcpListener>,
    /// For callers inside the cluster.
    pub internal: Option<TcpListener>,
    /// For operators.
    pub ops: Option<TcpListener>,
}

impl Listeners {
    /// Binds what is set; `public`: also `http.listen`.
    pub fn bind(config: &Config, public: bool) -> io::Result<Self> {
        let bind = |address: SocketAddr| {
            let named = |error: io::Error| io::Error::new(error.kind(), format!("{address}: {error}"));
            TcpListener::bind(address).map_err(named)
        };
        Ok(Self {
            http: public.then(|| bind(config.http.listen)).transpose()?,
            internal: config.internal.listen.filter(|_| public).map(bind).transpose()?,
            ops: config.ops.listen.map(bind).transpose()?,
        })
    }
}

/// What is served.
pub struct Server {
    handles: Vec<ServerHandle>,
}

/// Serves the listeners.
pub fn serve(app: &App, tasks: &Tasks, listeners: Listeners) -> io::Result<Server> {
    let mut server = Server { handles: vec![] };
    let all = [
        (Listener::Http, listeners.http),
        (Listener::Internal, listeners.internal),
        (Listener::Ops, listeners.ops),
    ];
    for (kind, socket) in all {
        if let Some(socket) = socket {
            server.listen(app, tasks, kind, socket)?;
        }
    }
    Ok(server)
}

impl Server {
    fn listen(&mut self, app: &App, tasks: &Tasks, kind: Listener, socket: TcpListener) -> io::Result<()> {
        let address = socket.local_addr()?;
        let (app, shared) = (app.clone(), Shared::of(app, kind)?);
        let workers = if kind == Listener::Http { app.config.http.workers } else { 1 };
        let server = start(HttpServer::new(move || routes::worker(&app, &shared)), socket, workers)?;
        self.handles.push(server.handle());
        tasks.spawn("listener", move |_| async move {
            if let Err(error) = server.await {
                tracing::error!(error = chain(&error), "a listener ended");
            }
        });
        tracing::info!(%address, listener = ?kind, "listening");
        Ok(())
    }

    /// Says that it is leaving, serves on for a while so that everybody can hear it, and then finishes what it has
    /// begun.
    pub async fn drain(self, app: &App) {
        app.health.drain();
        tokio::time::sleep(Duration::from_secs(app.config.http.drain_seconds)).await;
        app.streams.end(); // they would not by themselves
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
