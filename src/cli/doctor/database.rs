//! PostgreSQL: is it there, as whom are we there, is the schema ours, and does row-level security hold?
use super::{
    bounded,
    report::{Check, Subject},
};
use crate::{
    app::database_of,
    cli::process::{AHEAD, lacking},
    platform::{
        clock::Clock,
        config::Config,
        db::{self, Server},
        migrations::{self, Area, Difference, Level},
        role,
    },
};
use chrono::TimeDelta;
use diesel_async::AsyncPgConnection;

/// The oldest whose catalogue and syntax we know.
const VERSION_MIN: i32 = 150_000;
/// Below that nobody notices; docs/OPERATIONS.md says so.
pub(super) const SKEW_MAX: TimeDelta = TimeDelta::seconds(5);
/// Lines about one check; `migrate check` has the rest.
const DIFFERENCES_MAX: usize = 5;

const DATABASE: Subject = Subject {
    name: "database",
    why: "it is the only store: without it nothing is read or changed, and no process starts",
};
const ROLE: Subject = Subject {
    name: "database.role",
    why: "row-level security holds only for a role that it applies to: no process starts as another",
};
const ROLES: Subject = Subject {
    name: "database.roles",
    why: "a role with more rights than these could do what no policy permits, one with less fails in work",
};
const SCHEMA: Subject = Subject {
    name: "database.schema",
    why: "no process starts on a database that is behind, and what was changed by hand may fail or be slow",
};
const ROW_SECURITY: Subject = Subject {
    name: "database.row_security",
    why: "it keeps one organization's rows from another's, whatever a query forgets",
};
const CLOCK: Subject = Subject {
    name: "database.clock",
    why: "leases and jobs go by the database's clock, keys and sessions end by this machine's",
};

pub(super) const ALL: &[Subject] = &[DATABASE, ROLE, ROLES, SCHEMA, ROW_SECURITY, CLOCK];

pub(super) async fn examine(config: &Config, clock: &Clock) -> Vec<Check> {
    let (mut conn, first) = match connect(config).await {
        Ok(connected) => connected,
        Err(first) => {
            let others = ALL.iter().skip(1).map(|subject| subject.skipped("see database"));
            return std::iter::once(first).chain(others).collect();
        }
    };
    let role = role(&mut conn).await;
    let level = bounded(migrations::level(&mut conn)).await;
    let differences = bounded(migrations::differences(&mut conn)).await;
    let (roles, row_security) = match &differences {
        Ok(all) => (roles(all), row_security(level.as_ref().ok(), all)),
        Err(error) => (ROLES.failed(error, LOOK), ROW_SECURITY.failed(error, LOOK)),
    };
    let schema = match (level, differences) {
        (Ok(level), Ok(all)) => schema(level, &all),
        (Err(error), _) | (_, Err(error)) => SCHEMA.failed(error, LOOK),
    };
    vec![first, role, roles, schema, row_security, clock_skew(&mut conn, clock).await]
}

const LOOK: &str = "look at the server's log";
const CHECK: &str = "`identityd migrate check` names every difference; restore what the migrations make";

async fn connect(config: &Config) -> Result<(AsyncPgConnection, Check), Check> {
    if config.database.url.is_none() {
        return Err(DATABASE.failed("database.url is not set", "set database.url or database.url_file"));
    }
    let settings = "database.url: its host, port, database, user, password and sslmode; database.ca_file";
    let database = database_of(config).map_err(|error| DATABASE.failed(error.to_string(), settings))?;
    let mut conn = bounded(database.connect()).await.map_err(|error| DATABASE.failed(error, settings))?;
    match bounded(db::server(&mut conn)).await {
        Ok(Server { version, version_number, .. }) if version_number < VERSION_MIN => {
            Err(DATABASE.failed(format!("PostgreSQL {version} is too old"), "upgrade it to 15 or later"))
        }
        Ok(Server { version, role, .. }) => {
            Ok((conn, DATABASE.ok(format!("PostgreSQL {version} answers, to {role}"))))
        }
        Err(error) => Err(DATABASE.failed(error, LOOK)),
    }
}

async fn role(conn: &mut AsyncPgConnection) -> Check {
    let fix = "log in as identityd_app in database.url; `identityd migrate roles` prints what makes it";
    match bounded(role::check(conn)).await {
        Ok(Ok(())) => ROLE.ok("row-level security holds for it"),
        Ok(Err(unsafe_role)) => ROLE.failed(unsafe_role.to_string(), fix),
        Err(error) => ROLE.failed(error, LOOK),
    }
}

fn roles(differences: &[Difference]) -> Check {
    match lines(differences.iter().filter(|one| one.area == Area::Roles)) {
        None => ROLES.ok("the four roles are as the migrations need them"),
        Some(lines) => {
            ROLES.failed(lines, "`identityd migrate roles | psql …` as a superuser; revoke what is more")
        }
    }
}

fn row_security(level: Option<&Level>, differences: &[Difference]) -> Check {
    if level == Some(&Level::Empty) {
        return ROW_SECURITY.skipped("see database.schema");
    }
    // What is not there yet is the schema's to tell.
    let due = |one: &&Difference| !(one.missing && matches!(level, Some(Level::Behind(_))));
    let of_rows = differences.iter().filter(|one| one.area == Area::RowSecurity).filter(due);
    match lines(of_rows) {
        None => ROW_SECURITY.ok("on, with the policies of the migrations, for every table of tenants"),
        Some(lines) => {
            let fix =
                "as identityd_owner: ALTER TABLE … ENABLE ROW LEVEL SECURITY, and the policy as expected";
            ROW_SECURITY.failed(lines, fix)
        }
    }
}

fn schema(level: Level, differences: &[Difference]) -> Check {
    if let Some(lacking) = lacking(level) {
        return SCHEMA.failed(lacking, "`identityd migrate up` with database.migrate_url");
    }
    let lines = lines(differences.iter().filter(|one| one.area == Area::Schema));
    match (level, lines) {
        (Level::Ahead, _) => SCHEMA.warning(AHEAD, "replace the processes of this release"),
        (_, None) => SCHEMA.ok("every migration is applied, and nothing was changed since"),
        (_, Some(lines)) => SCHEMA.failed(lines, CHECK),
    }
}

async fn clock_skew(conn: &mut AsyncPgConnection, clock: &Clock) -> Check {
    let fix = "synchronize this machine's clock and the server's by NTP";
    match bounded(db::clock_skew(conn, clock)).await {
        Ok(skew) if skew.abs() > SKEW_MAX => CLOCK.failed(apart(skew, "the database's clock"), fix),
        Ok(_) => CLOCK.ok(format!("less than {} s apart", SKEW_MAX.num_seconds())),
        Err(error) => CLOCK.failed(error, LOOK),
    }
}

/// Such as "the database's clock is 61 s ahead of this machine's".
pub(super) fn apart(skew: TimeDelta, whose: &str) -> String {
    let side = if skew < TimeDelta::zero() { "behind" } else { "ahead of" };
    format!("{whose} is {} s {side} this machine's", skew.abs().num_seconds())
}

fn lines<'d>(differences: impl Iterator<Item = &'d Difference>) -> Option<String> {
    let mut texts: Vec<String> = differences.map(|one| one.text.clone()).collect();
    let more = texts.len().saturating_sub(DIFFERENCES_MAX);
    texts.truncate(DIFFERENCES_MAX);
    if more > 0 {
        texts.push(format!("and {more} more"));
    }
    (!texts.is_empty()).then(|| texts.join("\n"))
}
