//! The caller, as OpenID Connect and as the portal want to hear of him.
use crate::{
    authorization::{Action, Holder, Role, ScopeSet, Target},
    http::{
        auth::{current_holder, current_org},
        problem::Problem,
    },
    identity,
    kernel::{AccessClaims, Actor, Ctx, OrgId, UserStatus},
    work::{Work, WorkError},
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

/// The caller, before anybody's wishes for the form.
pub(super) struct Me {
    pub(super) sub: Uuid,
    pub(super) email: String,
    pub(super) name: String,
    pub(super) org: Option<OrgId>,
    pub(super) user: Option<Uuid>,
    pub(super) roles: Vec<Role>,
    pub(super) platform_roles: Vec<&'static str>,
    pub(super) permissions: ScopeSet,
}

impl Me {
    pub(super) async fn of(work: &Work, ctx: &Ctx, claims: Option<&AccessClaims>) -> Result<Self, Problem> {
        let org = current_org(work, ctx, claims);
        let holder = current_holder(work, ctx, claims).map(|(_, holder)| holder);
        let state = work.state();
        let (roles, user) = match holder {
            // A suspended member has roles, and may do nothing by them.
            Some(Holder::User(user)) => {
                let active = state.user(user).filter(|fact| fact.status == UserStatus::Active);
                (active.map(|fact| fact.roles), Some(user.uuid()))
            }
            Some(Holder::ServiceAccount(account)) => {
                (state.service_account(account).map(|fact| fact.roles), None)
            }
            None => (None, None),
        };
        let roles = roles.unwrap_or_default();
        let identity = match (ctx.actor, holder) {
            (Actor::Person { identity, .. }, _) => Some(identity),
            (_, Some(Holder::User(user))) => state.user(user).and_then(|fact| fact.identity),
            _ => None,
        };
        let ceiling = match ctx.actor {
            Actor::Key { key } => state.key(key).map(|key| key.scopes),
            _ => None,
        };
        let carried = ceiling.is_none_or(ScopeSet::is_admin);
        let platform_roles = identity
            .filter(|_| carried)
            .and_then(|identity| state.platform_roles(identity))
            .unwrap_or_default();
        let all = work.engine().matrix().effective(&roles, &platform_roles);
        let person = match (ctx.actor, identity) {
            (Actor::Person { .. }, Some(identity)) => {
                let permit = work.permit(ctx, Action::SelfManage, Target::Account).await?;
                let find = async |tx: &mut crate::work::ReadTx<'_>| {
                    identity::find_identity(tx.conn(), identity).await
                };
                work.read::<_, WorkError>(ctx, permit, find).await?
            }
            _ => None,
        };
        let account = match holder {
            Some(Holder::ServiceAccount(account)) => Some(account.uuid()),
            _ => None,
        };
        Ok(Self {
            sub: identity.map(|identity| identity.uuid()).or(user).or(account).unwrap_or_default(),
            email: person.as_ref().map(|person| person.email.to_string()).unwrap_or_default(),
            name: person.map(|person| person.display_name).unwrap_or_default(),
            org,
            user,
            roles,
            platform_roles: platform_roles.iter().map(|role| role.as_str()).collect(),
            permissions: ceiling.map_or(all, |ceiling| all.intersection(ceiling)),
        })
    }
}
