//! As whom the service is logged in to PostgreSQL. Row-level security holds only whom it applies to.
use super::db::StorageError;
use diesel::{QueryableByName, sql_query, sql_types as st};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

/// A role that the service must not have.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("database.url logs in as {user}, which {fault}; log in as identityd_app")]
pub struct Unsafe {
    user: String,
    fault: &'static str,
}

#[expect(clippy::struct_excessive_bools, reason = "each is one thing that PostgreSQL or Cedar is told apart")]
#[derive(QueryableByName)]
struct Role {
    #[diesel(sql_type = st::Text)]
    user: String,
    #[diesel(sql_type = st::Bool)]
    is_super: bool,
    #[diesel(sql_type = st::Bool)]
    bypasses: bool,
    #[diesel(sql_type = st::Bool)]
    owns: bool,
    #[diesel(sql_type = st::Bool)]
    inherits_platform: bool,
    #[diesel(sql_type = st::Bool)]
    may_become_platform: bool,
}

/// Refuses whoever would see or change what the service must not.
pub async fn check(conn: &mut AsyncPgConnection) -> Result<Result<(), Unsafe>, StorageError> {
    let role: Role = sql_query(
        "SELECT current_user::text AS user, rolsuper AS is_super, rolbypassrls AS bypasses,
           coalesce(pg_has_role(to_regrole('identityd_owner'), 'MEMBER'), false) AS owns,
           coalesce(pg_has_role(to_regrole('identityd_platform'), 'USAGE'), false) AS inherits_platform,
           coalesce(pg_has_role(to_regrole('identityd_platform'), 'MEMBER'), false) AS may_become_platform
         FROM pg_roles WHERE rolname = current_user",
    )
    .get_result(conn)
    .await?;
    let fault = match role {
        Role { is_super: true, .. } => "is a superuser",
        Role { bypasses: true, .. } => "bypasses row-level security",
        Role { owns: true, .. } => "may become the owner of the tables",
        Role { inherits_platform: true, .. } => {
            "has the rights of identityd_platform without asking for them"
        }
        Role { may_become_platform: false, .. } => "may not become identityd_platform",
        Role { .. } => return Ok(Ok(())),
    };
    Ok(Err(Unsafe { user: role.user, fault }))
}
