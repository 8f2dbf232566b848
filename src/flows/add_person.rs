//! An operator makes a person known, with a password: how `identityd dev` fills an empty database.
use crate::{
    authn::{self, NewPassword, PasswordError},
    authorization::{Action, PlatformRole, Target},
    identity,
    kernel::{Ctx, EmailAddress, IdentityId, Name},
    platform::hasher::Hasher,
    work::{Audited, Work, WorkError},
};
use serde_json::json;

/// Why there is no new person.
#[derive(Debug, thiserror::Error)]
pub enum AddPersonError {
    #[error("the address is taken")]
    EmailKnown,
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error(transparent)]
    Work(#[from] WorkError),
}

impl From<diesel::result::Error> for AddPersonError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Work(error.into())
    }
}

/// Adds a person who can sign in at once.
#[tracing::instrument(name = "flows.add_person", skip_all, err(level = "debug"))]
pub async fn add_person(
    work: &Work,
    hasher: &Hasher,
    ctx: &Ctx,
    email: &EmailAddress,
    name: &Name,
    password: NewPassword,
    platform_roles: &[PlatformRole],
) -> Result<IdentityId, AddPersonError> {
    let permit = work.permit(ctx, Action::PlatformManage, Target::Platform).await?;
    let hash = authn::hash_password(hasher, ctx, password).await?;
    work.write(ctx, permit, async |tx| {
        let person = identity::insert_identity(tx, email, name.as_str(), platform_roles).await?;
        let person = person.ok_or(AddPersonError::EmailKnown)?;
        authn::store_hash(tx, person.id, &hash).await?;
        let event = tx
            .event(person.id)
            .detail(json!({ "personAdded": true, "platformRoles": platform_roles }))
            .personal("email", email.as_str());
        Ok(Audited::new(person.id, event))
    })
    .await
}
