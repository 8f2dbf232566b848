//! All SQL on members.
use super::model::{NewMember, User, UserFilter};
use crate::{
    authorization::{Fact, Role, UserFact},
    identity::schema::{invite_tokens, memberships, role_bindings},
    kernel::{EmailAddress, Id, OrgId, Page, UserId, UserStatus, named},
    platform::db::StorageError,
    work::{ReadTx, Tx, WorkError},
};
use chrono::{DateTime, Utc};
use diesel::{dsl::count_star, pg::Pg, prelude::*};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use std::collections::HashMap;
use uuid::Uuid;

/// One round of purging.
const DUE_MAX: i64 = 100;

#[derive(Queryable, Selectable)]
#[diesel(table_name = memberships, check_for_backend(Pg))]
pub(in crate::identity) struct MemberRow {
    pub(in crate::identity) user_id: Uuid,
    pub(in crate::identity) org_id: Uuid,
    identity_id: Option<Uuid>,
    email: String,
    display_name: String,
    status: String,
    status_before: Option<String>,
    accepted_at: Option<DateTime<Utc>>,
    mfa_due_at: Option<DateTime<Utc>>,
    delete_after: Option<DateTime<Utc>>,
    metadata: Value,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl MemberRow {
    pub(in crate::identity) fn user(self, roles: Vec<Role>) -> Result<User, StorageError> {
        Ok(User {
            id: Id::from_uuid(self.user_id),
            org: Id::from_uuid(self.org_id),
            identity: self.identity_id.map(Id::from_uuid),
            email: self.email,
            display_name: self.display_name,
            status: UserStatus::parse(&self.status).ok_or(StorageError::Value("memberships.status"))?,
            status_before: self.status_before.as_deref().and_then(UserStatus::parse),
            accepted_at: self.accepted_at,
            mfa_due_at: self.mfa_due_at,
            delete_after: self.delete_after,
            roles,
            metadata: self.metadata,
            version: self.version,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

/// `None`: the address or the person is already in the org (`memberships_one_email`, `memberships_one_identity`).
pub async fn insert_member(tx: &mut Tx<'_>, new: &NewMember) -> Result<Option<User>, WorkError> {
    let (user, org, now) = (tx.mint::<named::User>(), tx.org(), tx.ctx().now);
    let accepted = (new.status == UserStatus::Active && new.identity.is_some()).then_some(now);
    let row = (
        memberships::user_id.eq(user.uuid()),
        memberships::org_id.eq(org.uuid()),
        memberships::identity_id.eq(new.identity.map(|id| id.uuid())),
        memberships::email.eq(new.email.as_str()),
        memberships::display_name.eq(&new.display_name),
        memberships::status.eq(new.status.as_str()),
        memberships::accepted_at.eq(accepted),
        memberships::mfa_due_at.eq(new.mfa_due_at),
        memberships::created_at.eq(now),
        memberships::updated_at.eq(now),
    );
    let insert = diesel::insert_into(memberships::table).values(row).on_conflict_do_nothing();
    let row: Option<MemberRow> =
        insert.returning(MemberRow::as_returning()).get_result(tx.conn()).await.optional()?;
    let Some(row) = row else { return Ok(None) };
    let user = row.user(new.roles.clone())?;
    replace_roles(tx, &user).await?;
    Ok(Some(user))
}

/// Binds a member's roles, and says all that authorization wants to know of him.
async fn replace_roles(tx: &mut Tx<'_>, user: &User) -> Result<(), WorkError> {
    let (id, org) = (user.id.uuid(), user.org.uuid());
    let names: Vec<&str> = user.roles.iter().map(|role| role.as_str()).collect();
    // Only what changes: whoever counts owners must find the rows of those who stay.
    let taken = role_bindings::table
        .filter(role_bindings::org_id.eq(org))
        .filter(role_bindings::user_id.eq(id))
        .filter(role_bindings::role.ne_all(names));
    diesel::delete(taken).execute(tx.conn()).await?;
    let row = |role: &Role| {
        (role_bindings::user_id.eq(id), role_bindings::org_id.eq(org), role_bindings::role.eq(role.as_str()))
    };
    let rows: Vec<_> = user.roles.iter().map(row).collect();
    diesel::insert_into(role_bindings::table)
        .values(rows)
        .on_conflict_do_nothing()
        .execute(tx.conn())
        .await?;
    tx.fact(fact(user));
    Ok(())
}

fn fact(user: &User) -> Fact {
    Fact::User(UserFact {
        user: user.id,
        org: user.org,
        identity: user.identity,
        status: user.status,
        roles: user.roles.clone(),
        mfa_due_at_s: user.mfa_due_at.map(|at| at.timestamp()),
    })
}

pub(in crate::identity) async fn roles_of(
    conn: &mut AsyncPgConnection,
    org: OrgId,
    users: &[Uuid],
) -> Result<HashMap<Uuid, Vec<Role>>, WorkError> {
    let rows: Vec<(Uuid, String)> = role_bindings::table
        .filter(role_bindings::org_id.eq(org.uuid()))
        .filter(role_bindings::user_id.eq_any(users))
        .select((role_bindings::user_id, role_bindings::role))
        .load(conn)
        .await?;
    let mut roles: HashMap<Uuid, Vec<Role>> = HashMap::new();
    for (user, name) in rows {
        roles.entry(user).or_default().extend(Role::parse(&name));
    }
    for roles in roles.values_mut() {
        roles.sort_unstable();
    }
    Ok(roles)
}

/// A member of the org that the transaction is in, locked.
pub(in crate::identity) async fn lock_user(tx: &mut Tx<'_>, user: UserId) -> Result<Option<User>, WorkError> {
    let org = tx.org();
    let row: Option<MemberRow> = memberships::table
        .find(user.uuid())
        .filter(memberships::org_id.eq(org.uuid()))
        .select(MemberRow::as_select())
        .for_no_key_update()
        .first(tx.conn())
        .await
        .optional()?;
    let Some(row) = row else { return Ok(None) };
    let roles = roles_of(tx.conn(), org, &[row.user_id]).await?.remove(&row.user_id).unwrap_or_default();
    Ok(Some(row.user(roles)?))
}

/// The address of a person who came to the org that the transaction is in, and was not removed from it.
pub async fn email_of_member(tx: &mut Tx<'_>, user: UserId) -> Result<Option<EmailAddress>, WorkError> {
    let came = |user: &User| user.accepted_at.is_some() && user.status != UserStatus::Deleted;
    Ok(lock_user(tx, user).await?.filter(came).and_then(|user| EmailAddress::parse(&user.email)))
}

/// A member of the org that the transaction is in.
pub(super) async fn find_user(tx: &mut ReadTx<'_>, user: UserId) -> Result<Option<User>, WorkError> {
    let org = tx.org();
    let row: Option<MemberRow> = memberships::table
        .find(user.uuid())
        .filter(memberships::org_id.eq(org.uuid()))
        .select(MemberRow::as_select())
        .first(tx.conn())
        .await
        .optional()?;
    let Some(row) = row else { return Ok(None) };
    let roles = roles_of(tx.conn(), org, &[row.user_id]).await?.remove(&row.user_id).unwrap_or_default();
    Ok(Some(row.user(roles)?))
}

/// Members of the org that the transaction is in.
pub(super) async fn list_users(
    tx: &mut ReadTx<'_>,
    filter: &UserFilter,
    page: Page,
) -> Result<Vec<User>, WorkError> {
    let org = tx.org();
    let mut query = memberships::table
        .filter(memberships::org_id.eq(org.uuid()))
        .filter(memberships::user_id.gt(page.after))
        .select(MemberRow::as_select())
        .order(memberships::user_id)
        .limit(page.limit)
        .into_boxed();
    query = match filter.status {
        Some(status) => query.filter(memberships::status.eq(status.as_str())),
        None => query.filter(memberships::status.ne(UserStatus::Deleted.as_str())),
    };
    if let Some(email) = &filter.email {
        query = query.filter(memberships::email.eq(email.to_owned()));
    }
    if let Some(text) = &filter.text {
        let pattern = format!("%{}%", text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"));
        query = query
            .filter(memberships::display_name.ilike(pattern.clone()).or(memberships::email.ilike(pattern)));
    }
    let rows: Vec<MemberRow> = query.load(tx.conn()).await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.user_id).collect();
    let mut roles = roles_of(tx.conn(), org, &ids).await?;
    let users = rows.into_iter().map(|row| {
        let roles = roles.remove(&row.user_id).unwrap_or_default();
        row.user(roles)
    });
    Ok(users.collect::<Result<_, _>>()?)
}

/// Writes back what may change, one version on, and says so.
pub(in crate::identity) async fn save(tx: &mut Tx<'_>, user: &User) -> Result<User, WorkError> {
    let changes = (
        memberships::identity_id.eq(user.identity.map(|id| id.uuid())),
        memberships::display_name.eq(&user.display_name),
        memberships::status.eq(user.status.as_str()),
        memberships::status_before.eq(user.status_before.map(UserStatus::as_str)),
        memberships::accepted_at.eq(user.accepted_at),
        memberships::mfa_due_at.eq(user.mfa_due_at),
        memberships::delete_after.eq(user.delete_after),
        memberships::metadata.eq(&user.metadata),
        memberships::version.eq(memberships::version + 1),
        memberships::updated_at.eq(tx.ctx().now),
    );
    let row: MemberRow = diesel::update(memberships::table.find(user.id.uuid()))
        .filter(memberships::org_id.eq(tx.org().uuid()))
        .set(changes)
        .returning(MemberRow::as_returning())
        .get_result(tx.conn())
        .await?;
    let user = row.user(user.roles.clone())?;
    replace_roles(tx, &user).await?;
    Ok(user)
}

/// Locks the owners of the org, and says how many active ones there are beside this member.
pub(super) async fn count_other_owners(tx: &mut Tx<'_>, user: UserId) -> QueryResult<usize> {
    let org = tx.org().uuid();
    let owners: Vec<Uuid> = role_bindings::table
        .filter(role_bindings::org_id.eq(org))
        .filter(role_bindings::role.eq(Role::Owner.as_str()))
        .select(role_bindings::user_id)
        .order(role_bindings::user_id)
        .for_update()
        .load(tx.conn())
        .await?;
    let active: i64 = memberships::table
        .filter(memberships::org_id.eq(org))
        .filter(memberships::user_id.eq_any(owners))
        .filter(memberships::user_id.ne(user.uuid()))
        .filter(memberships::status.eq(UserStatus::Active.as_str()))
        .select(count_star())
        .first(tx.conn())
        .await?;
    Ok(usize::try_from(active).unwrap_or_default())
}

/// Activates a member before acceptance: his keys work, signing in still needs it.
pub async fn activate(tx: &mut Tx<'_>, user: UserId) -> Result<(), WorkError> {
    if let Some(user) = lock_user(tx, user).await?.filter(|user| user.status == UserStatus::Invited) {
        save(tx, &User { status: UserStatus::Active, ..user }).await?;
    }
    Ok(())
}

/// Deleted members whose time to be restored is over.
pub async fn due(tx: &mut ReadTx<'_>, now: DateTime<Utc>) -> QueryResult<Vec<(OrgId, UserId)>> {
    let rows: Vec<(Uuid, Uuid)> = memberships::table
        .filter(memberships::status.eq(UserStatus::Deleted.as_str()))
        .filter(memberships::delete_after.le(now))
        .order(memberships::delete_after)
        .limit(DUE_MAX)
        .select((memberships::org_id, memberships::user_id))
        .load(tx.conn())
        .await?;
    Ok(rows.into_iter().map(|(org, user)| (Id::from_uuid(org), Id::from_uuid(user))).collect())
}

/// Locks a deleted member whose time is over; `false`: he was restored meanwhile.
pub async fn is_due(tx: &mut Tx<'_>, user: UserId) -> Result<bool, WorkError> {
    let now = tx.ctx().now;
    let user = lock_user(tx, user).await?;
    let over =
        |user: User| user.status == UserStatus::Deleted && user.delete_after.is_some_and(|at| at <= now);
    Ok(user.is_some_and(over))
}

/// Removes a member. His keys are gone before.
pub async fn purge(tx: &mut Tx<'_>, user: UserId) -> Result<(), WorkError> {
    match lock_user(tx, user).await? {
        Some(user) => remove(tx, &user).await,
        None => Ok(()),
    }
}

/// Removes all members of the org that the transaction is in.
pub async fn purge_org(tx: &mut Tx<'_>) -> Result<(), WorkError> {
    let org = tx.org().uuid();
    let rows: Vec<MemberRow> = memberships::table
        .filter(memberships::org_id.eq(org))
        .select(MemberRow::as_select())
        .for_update()
        .load(tx.conn())
        .await?;
    for row in rows {
        remove(tx, &row.user(vec![])?).await?;
    }
    Ok(())
}

async fn remove(tx: &mut Tx<'_>, user: &User) -> Result<(), WorkError> {
    let id = user.id.uuid();
    diesel::delete(invite_tokens::table.find(id)).execute(tx.conn()).await?;
    diesel::delete(role_bindings::table.filter(role_bindings::user_id.eq(id))).execute(tx.conn()).await?;
    diesel::delete(memberships::table.find(id)).execute(tx.conn()).await?;
    tx.fact_gone(fact(user));
    Ok(())
}
