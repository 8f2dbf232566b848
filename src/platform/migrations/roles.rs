//! The database roles: they belong to the cluster, and are made before anything else.
use super::{MigrateError, ROLES_LOCK, answer, current_user, lock};
use crate::platform::db::Database;
use diesel::result::Error as QueryError;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};

/// Makes the roles, or leaves them as they are. For an administrator of the cluster, where we may not.
pub const ROLES: &str = include_str!("../../../migrations/roles.sql");

const COMPLETE: &str = "SELECT
    (SELECT count(*) = 4 FROM pg_roles
      WHERE rolname IN ('identityd_owner', 'identityd_platform', 'identityd_sequencer')
        OR rolname = 'identityd_app' AND rolcanlogin AND NOT rolinherit AND NOT rolbypassrls AND NOT rolsuper)
    AND (SELECT count(DISTINCT roleid) = 2 FROM pg_auth_members
      WHERE member = to_regrole('identityd_app')
        AND roleid IN (to_regrole('identityd_platform'), to_regrole('identityd_sequencer'))) AS yes";
const MAY_MAKE: &str = "SELECT rolsuper OR rolcreaterole AS yes FROM pg_roles WHERE rolname = current_user";
/// A superuser may be anyone already.
const MAY_BE_OWNER: &str = "SELECT pg_has_role('identityd_owner', 'USAGE') AS yes";

/// Sees to it that the roles are there.
pub(super) async fn ensure(database: &Database) -> Result<(), MigrateError> {
    let mut connection = database.connect().await?;
    if answer(&mut connection, COMPLETE).await? {
        return Ok(());
    }
    if !answer(&mut connection, MAY_MAKE).await? {
        return Err(MigrateError::Roles { user: current_user(&mut connection).await? });
    }
    // A lock belongs to a database and a role to the cluster: whoever makes roles locks where all can. Who may not
    // connect there shares the cluster with nobody who makes them at this moment, or one of the two says so.
    if let Ok(shared) = database.named("postgres").connect().await {
        connection = shared;
    }
    lock(&mut connection, ROLES_LOCK).await?;
    make(&mut connection).await?;
    Ok(())
}

async fn make(connection: &mut AsyncPgConnection) -> Result<(), QueryError> {
    if answer(connection, COMPLETE).await? {
        return Ok(()); // the other one was faster
    }
    connection.batch_execute(ROLES).await?;
    if !answer(connection, MAY_BE_OWNER).await? {
        connection.batch_execute("GRANT identityd_owner TO CURRENT_USER").await?;
    }
    Ok(())
}
