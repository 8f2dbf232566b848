//! Use cases on invites: memberships that nobody has accepted.
use super::{
    jobs::SEND_INVITE,
    model::{Invite, InviteFilter, NewInvite, OpenInvite},
    store,
};
use crate::{
    authorization::{Action, Grants, PlatformRole, Role, Target},
    identity::{
        people,
        users::{
            NewMember, UserError, insert_member, mfa_due_at,
            store::{lock_user, save},
        },
    },
    jobs,
    kernel::{Actor, Ctx, EmailAddress, IdentityId, OrgId, Page, UserId, UserStatus},
    orgs,
    work::{Audited, Tx, Work},
};
use serde_json::json;

/// Invites an address to an org. The mail goes out from a job, after commit.
///
/// An org made by a key or a bootstrap token has no owner yet: the first address invited becomes it. Under a
/// bootstrap token it is a platform admin as well, and known as a person at once: an operator vouches for it.
#[tracing::instrument(name = "identity.create_invite", skip_all, fields(org.id = %org), err(level = "debug"))]
pub async fn create_invite(work: &Work, ctx: &Ctx, org: OrgId, new: NewInvite) -> Result<Invite, UserError> {
    let grants = Grants::Roles(new.roles.clone());
    let permit = work.permit_granting(ctx, Action::UsersInvite, Target::Org(org), grants).await?;
    let grace = work.config().authentication.mfa_grace_days;

    work.write(ctx, permit, async |tx| {
        // The org's row lock makes the count and the insert one step.
        let max = orgs::lock_active(tx).await?.ok_or(UserError::OrgNotActive)?;
        if store::count_open(tx).await? >= i64::from(max) {
            return Err(UserError::TooManyOpen { max });
        }
        let (mut roles, mut identity) = (new.roles, None);
        if orgs::take_owner_pending(tx).await? {
            roles.insert(0, Role::Owner);
            roles.dedup();
            if matches!(ctx.actor, Actor::Operator { .. }) {
                identity = Some(platform_admin(tx, &new.email).await?);
            }
        }
        let member = NewMember {
            email: new.email.clone(),
            identity,
            display_name: String::new(),
            status: UserStatus::Invited,
            mfa_due_at: mfa_due_at(ctx.now, grace, &roles),
            roles: roles.clone(),
        };
        let user = match insert_member(tx, &member).await? {
            Some(user) => user.id,
            None => invite_again(tx, &member).await?,
        };
        let expires_at = ctx.now + new.lifetime;
        store::replace_token(tx, user, expires_at).await?;
        jobs::enqueue(tx, SEND_INVITE, json!({ "userId": user })).await?;
        let event = tx
            .event(user)
            .detail(json!({ "roles": roles, "expiresAt": expires_at, "platformAdmin": identity.is_some() }))
            .personal("email", new.email.as_str());
        Ok(Audited::new(Invite { user, org, email: new.email, expires_at }, event))
    })
    .await
}

/// The invite of this address that ran out, under its old id and with the new roles.
async fn invite_again(tx: &mut Tx<'_>, member: &NewMember) -> Result<UserId, UserError> {
    let user = store::find_expired(tx, &member.email).await?.ok_or(UserError::EmailKnown)?;
    let mut user = lock_user(tx, user).await?.ok_or(UserError::EmailKnown)?;
    user.roles.clone_from(&member.roles);
    user.mfa_due_at = member.mfa_due_at;
    Ok(save(tx, &user).await?.id)
}

/// The person of an address, known from now on, as a platform admin.
async fn platform_admin(tx: &mut Tx<'_>, email: &EmailAddress) -> Result<IdentityId, UserError> {
    let roles = [PlatformRole::PlatformAdmin];
    if let Some(identity) = people::insert_identity(tx, email, "", &roles).await? {
        return Ok(identity.id);
    }
    let known = people::find_identity_by_email(tx.conn(), email).await?.ok_or(UserError::EmailKnown)?;
    Ok(people::set_platform_roles(tx, &known, roles.to_vec()).await?.id)
}

/// Sends an invite again: a new token, and the old one is dead.
#[tracing::instrument(name = "identity.resend_invite", skip_all, fields(org.id = %org, user.id = %user), err(level = "debug"))]
pub async fn resend_invite(work: &Work, ctx: &Ctx, org: OrgId, user: UserId) -> Result<Invite, UserError> {
    let roles = work.state().user(user).map(|fact| fact.roles).unwrap_or_default();
    let permit =
        work.permit_granting(ctx, Action::UsersInvite, Target::Org(org), Grants::Roles(roles)).await?;
    let lifetime = NewInvite::parse("resent@invite.invalid", &[], None)?.lifetime;
    work.write(ctx, permit, async |tx| {
        let user = lock_user(tx, user).await?.ok_or(UserError::NotFound)?;
        if !user.awaits_person() {
            return Err(UserError::WrongStatus(user.status.as_str()));
        }
        let email = EmailAddress::parse(&user.email).ok_or(UserError::EmailInvalid)?;
        let expires_at = ctx.now + lifetime;
        store::replace_token(tx, user.id, expires_at).await?;
        jobs::enqueue(tx, SEND_INVITE, json!({ "userId": user.id })).await?;
        let event = tx.event(user.id).detail(json!({ "again": true, "expiresAt": expires_at }));
        Ok(Audited::new(Invite { user: user.id, org, email, expires_at }, event))
    })
    .await
}

/// Invites that nobody has accepted.
#[tracing::instrument(name = "identity.list_invites", skip_all, fields(org.id = %org), err(level = "debug"))]
pub async fn list_invites(
    work: &Work,
    ctx: &Ctx,
    org: OrgId,
    filter: InviteFilter,
    page: Page,
) -> Result<Vec<OpenInvite>, UserError> {
    let permit = work.permit(ctx, Action::UsersRead, Target::Org(org)).await?;
    work.read(ctx, permit, async |tx| Ok(store::list_invites(tx, filter.email.as_deref(), page).await?)).await
}

/// Takes an invite back. What was accepted is not an invite any more; what was taken back stays so.
#[tracing::instrument(name = "identity.revoke_invite", skip_all, fields(org.id = %org, user.id = %user), err(level = "debug"))]
pub async fn revoke_invite(work: &Work, ctx: &Ctx, org: OrgId, user: UserId) -> Result<(), UserError> {
    let permit = work.permit(ctx, Action::UsersInvite, Target::Org(org)).await?;
    work.write(ctx, permit, async |tx| {
        let mut user = lock_user(tx, user).await?.ok_or(UserError::NotFound)?;
        let event = tx.event(user.id).detail(json!({ "revoked": true }));
        match user.status {
            UserStatus::Deleted => (),
            UserStatus::Active | UserStatus::Suspended => {
                return Err(UserError::WrongStatus(user.status.as_str()));
            }
            UserStatus::Invited => {
                user.status = UserStatus::Deleted;
                user.delete_after = Some(ctx.now);
                save(tx, &user).await?;
            }
        }
        Ok(Audited::new((), event))
    })
    .await
}
