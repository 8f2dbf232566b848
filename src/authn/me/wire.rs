//! The caller, as OpenID Connect and the portal want to hear of him.
use super::model::Me;
use crate::{
    authorization::{Action, Role},
    http::problem::Problem,
    kernel::{AccessClaims, Ctx},
    work::Work,
};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

/// The roles that the portal's menus know, the highest first.
const PORTAL_ROLES: [Role; 4] = [Role::Owner, Role::Admin, Role::Manager, Role::Analyst];
/// What the portal calls what somebody with another role may do.
const PORTAL_PERMISSIONS: &[(Action, &str)] = &[
    (Action::KeysRead, "apikey.read"),
    (Action::KeysIssue, "apikey.write"),
    (Action::OrgsRead, "org.read"),
    (Action::OrgsUpdate, "org.write"),
    (Action::UsersRead, "org.user.read"),
    (Action::UsersUpdate, "org.user.write"),
    (Action::BudgetsRead, "org.budget.read"),
    (Action::BudgetsManage, "org.budget.write"),
    (Action::AuditRead, "audit.read"),
];

/// The caller in his current organization.
#[derive(Serialize, ToSchema)]
pub(in crate::authn) struct UserInfo {
    /// The person; for a key, its holder.
    sub: Uuid,
    /// The same.
    id: Uuid,
    email: String,
    name: String,
    /// First the highest that the portal knows, else `custom`; then the real names.
    roles: Vec<&'static str>,
    /// What the caller may do there.
    scopes: Vec<&'static str>,
    /// The current organization.
    organization_id: Option<Uuid>,
}

impl UserInfo {
    pub(in crate::authn) fn example() -> Value {
        json!({
            "sub": "0193a5f0-7b1c-7000-8000-000000000006", "id": "0193a5f0-7b1c-7000-8000-000000000006",
            "email": "ada@example.io", "name": "Ada", "roles": ["owner", "owner"], "scopes": ["orgs:read"],
            "organization_id": "0193a5f0-7b1c-7000-8000-000000000001",
        })
    }

    pub(in crate::authn) async fn of(
        work: &Work,
        ctx: &Ctx,
        claims: Option<&AccessClaims>,
    ) -> Result<Self, Problem> {
        let me = Me::of(work, ctx, claims).await?;
        let known = PORTAL_ROLES.into_iter().find(|role| me.roles.contains(role));
        let first = known.map_or("custom", Role::as_str);
        let mut scopes: Vec<&'static str> = me.permissions.names().collect();
        if known.is_none() {
            let held = PORTAL_PERMISSIONS.iter().filter(|(action, _)| me.permissions.covers(*action));
            scopes.extend(held.map(|(_, name)| *name));
        }
        Ok(Self {
            sub: me.sub,
            id: me.sub,
            email: me.email,
            name: me.name,
            roles: [first].into_iter().chain(me.roles.iter().map(|role| role.as_str())).collect(),
            scopes,
            organization_id: me.org.map(|org| org.uuid()),
        })
    }
}
