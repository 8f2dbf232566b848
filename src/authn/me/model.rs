//! The caller, in his current organization.
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
use uuid::Uuid;

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
