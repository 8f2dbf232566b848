//! What `identityd dev` does once all is ready: fills an empty database, serves, and says how to begin.
use super::{
    Exit,
    dev::{Administrator, Ready, Stage},
    note,
    process::up,
    seed::Seed,
    seeding::{self, Planted},
};
use crate::{
    app::{self, Adapters, App, Listeners},
    credentials::operators::{Purpose, issue_operator_token},
    kernel::{Actor, Secret, Workload},
    platform::{config::Limits, telemetry::chain},
};
use std::{
    net::TcpListener,
    path::Path,
    sync::{Arc, PoisonError},
    time::Duration,
};

const ASK_EVERY: Duration = Duration::from_millis(200);

pub(super) async fn serve(stage: Stage, reload: impl Fn() -> anyhow::Result<Limits>) -> anyhow::Result<Exit> {
    let Stage { mut config, seed, listeners, place, ready_file } = stage;
    config.http.drain_seconds = 0; // nobody routes to it
    let config = Arc::new(config);
    let database = app::database_of(&config)?;
    let app = App::start(Adapters::of(Arc::clone(&config), database).await?).await?;
    let new = app.work.state().has_no_org();
    let planted = if new { plant(&app, seed).await? } else { Planted::default() };
    app.hasher.rest(); // planting hashed passwords one after the other; now it is a desk that waits
    let empty = app.work.state().has_no_org();
    if empty {
        open_bootstrap(&app).await?;
    }
    let address = |listener: &Option<TcpListener>| {
        listener.as_ref().and_then(|listener| listener.local_addr().ok()).map(|at| format!("http://{at}"))
    };
    let (internal, ops) = (address(&listeners.internal), address(&listeners.ops));
    let url = config.http.issuer();
    let listeners =
        Listeners { http: Some(listeners.http), internal: listeners.internal, ops: listeners.ops };
    let told = Told { empty, url: &url, internal: internal.as_deref(), ops: ops.as_deref(), place: &place };
    up(&app, listeners, true, reload, async || {
        tell(config.database.url.as_ref(), &told, &planted, ready_file.as_deref())
    })
    .await?;
    Ok(Exit::Ok)
}

/// Fills the database. On a busy machine that takes longer than the authorization state stays fresh, and nothing follows
/// the log yet: it is asked meanwhile.
async fn plant(app: &App, seed: Seed) -> anyhow::Result<Planted> {
    let follow = async {
        loop {
            tokio::time::sleep(ASK_EVERY).await;
            if let Err(error) = app.work.catch_up().await {
                tracing::warn!(error = chain(&error), "the authorization state could not be read");
            }
        }
    };
    tokio::select! {
        planted = seeding::plant(app, seed) => planted,
        () = follow => unreachable!("it has no end"),
    }
}

/// Whoever comes without a credential bootstraps, until the first key is issued.
async fn open_bootstrap(app: &App) -> anyhow::Result<()> {
    let ctx = app.work.ctx(Actor::Workload(Workload::OperatorCli));
    let (_, token) = issue_operator_token(&app.work, &ctx, Purpose::Bootstrap).await?;
    let mut open = app.access.open_bootstrap.lock().unwrap_or_else(PoisonError::into_inner);
    *open = Some(Secret::new(token.expose().to_owned()));
    Ok(())
}

struct Told<'a> {
    /// There is no organization.
    empty: bool,
    url: &'a str,
    internal: Option<&'a str>,
    ops: Option<&'a str>,
    place: &'a str,
}

fn tell(
    database_url: Option<&Secret<String>>,
    told: &Told<'_>,
    planted: &Planted,
    ready_file: Option<&Path>,
) -> anyhow::Result<()> {
    let admin = planted.admin.as_ref().map(|(email, password)| (email.as_str(), password.expose().as_str()));
    let api_key = planted.keys.first().map(|(_, key)| key.expose().as_str());
    let account = planted.service_account.map(|account| account.to_string());
    if let Some(file) = ready_file {
        let ready = Ready {
            url: told.url,
            internal_url: told.internal,
            ops_url: told.ops,
            org: planted.org.as_deref(),
            admin: admin.map(|(email, password)| Administrator { email, password: Some(password) }),
            api_key,
            service_account_id: account.as_deref(),
            database_url: database_url.map(|url| url.expose().as_str()).unwrap_or_default(),
        };
        ready.write(file)?;
    }
    note(greeting(told, planted));
    Ok(())
}

/// What the person at the terminal sees. Secrets are shown this once.
fn greeting(told: &Told<'_>, planted: &Planted) -> String {
    let Told { empty, url, ops, place, .. } = told;
    let mut lines = vec![
        String::new(),
        format!("  identityd dev   {url}        a development server: never expose it"),
        format!("  data            {place}"),
        format!("  health          {}/readyz", ops.unwrap_or(url)),
    ];
    for (email, password) in planted.admin.iter().chain(&planted.others) {
        lines.push(format!("  sign in         {email}   {}   (shown once)", password.expose()));
    }
    for (name, key) in &planted.keys {
        lines.push(format!("  API key         {}   ({name}, shown once)", key.expose()));
    }
    if *empty {
        lines.push(
            "  sign in         nobody yet: the first calls need no credential, see docs/quickstart.md"
                .to_owned(),
        );
    } else if planted.admin.is_none() {
        lines.push("  sign in         as before; `--reset` begins anew".to_owned());
    }
    if let (Some((email, password)), Some((_, key))) = (&planted.admin, planted.keys.first()) {
        let (password, key) = (password.expose(), key.expose());
        lines.extend([
            String::new(),
            "  Three commands to try:".to_owned(),
            format!("  curl -s {url}/v1/auth/validate-api-key --json '{{\"apiKeySecret\":\"{key}\"}}'"),
            format!(
                "  curl -s {url}/v1/auth/login --json '{{\"email\":\"{email}\",\"password\":\"{password}\"}}'"
            ),
            format!("  curl -s {url}/openapi.json | head -c 400"),
        ]);
    }
    lines.push(String::new());
    lines.join("\n")
}
