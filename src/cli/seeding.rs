//! Plants a seed in an empty database, through the use cases that everybody goes through.
use super::seed::{Key, Membership, Org, Person, Seed};
use crate::{
    app::App,
    authn::NewPassword,
    authorization::{Holder, Role},
    credentials::{
        api_keys::{self, IssuedKey, NewKey},
        service_accounts::{self, NewServiceAccount},
    },
    flows,
    http::etag::IfMatch,
    identity,
    kernel::{Actor, Ctx, Id, IdentityId, Metadata, OrgId, Secret, ServiceAccountId, Workload, named},
    orgs::NewOrg,
};
use anyhow::Context as _;
use chrono::TimeDelta;
use std::collections::HashMap;
use uuid::Uuid;

/// What whoever starts it has to know, once.
#[derive(Default)]
pub(super) struct Planted {
    /// The first org's slug.
    pub(super) org: Option<String>,
    /// The first person, and how to sign in.
    pub(super) admin: Option<(String, Secret<String>)>,
    /// The first service account.
    pub(super) service_account: Option<ServiceAccountId>,
    /// Of everybody else whose password was made up: how to sign in.
    pub(super) others: Vec<(String, Secret<String>)>,
    /// Every key, by holder and name.
    pub(super) keys: Vec<(String, Secret<String>)>,
}

impl Planted {
    fn key(&mut self, holder: &str, key: &Key, issued: &IssuedKey) {
        let secret = Secret::new(issued.secret.expose().to_owned());
        self.keys.push((format!("{} of {holder}", key.name.as_str()), secret));
    }
}

pub(super) async fn plant(app: &App, seed: Seed) -> anyhow::Result<Planted> {
    let mut planted = Planted::default();
    let mut people = HashMap::new();
    for person in &seed.people {
        let (identity, password) = person_of(app, person).await.with_context(|| person.email.to_string())?;
        let sign_in = (person.email.to_string(), password);
        if planted.admin.is_none() {
            planted.admin = Some(sign_in);
        } else if person.password.is_none() {
            planted.others.push(sign_in);
        }
        people.insert(person.email.as_str(), identity);
    }
    for org in &seed.orgs {
        let slug = org.slug.as_str();
        let (id, owner) = org_of(app, org, &seed.people, &people).await.with_context(|| slug.to_owned())?;
        planted.org.get_or_insert(slug.to_owned());
        accounts_of(app, &owner, id, org, &mut planted).await.with_context(|| slug.to_owned())?;
        for person in &seed.people {
            let Some(membership) = person.orgs.iter().find(|membership| membership.org == org.slug) else {
                continue;
            };
            let Some(identity) = people.get(person.email.as_str()) else { continue };
            let member = (person.email.as_str(), membership);
            member_of(app, &owner, id, *identity, member, &mut planted)
                .await
                .with_context(|| format!("{} in {slug}", person.email))?;
        }
    }
    Ok(planted)
}

/// Makes the person known, with the given password or one made up.
async fn person_of(app: &App, person: &Person) -> anyhow::Result<(IdentityId, Secret<String>)> {
    let ctx = app.work.ctx(Actor::Workload(Workload::OperatorCli));
    let made_up = || Secret::new(super::random_password(&app.entropy));
    let password = person.password.clone().unwrap_or_else(made_up);
    let new = NewPassword::parse(password.expose(), person.email.as_str())?;
    let (email, name) = (&person.email, &person.name);
    let roles = &person.platform_roles;
    let identity = flows::add_person(&app.work, &app.hasher, &ctx, email, name, new, roles).await?;
    Ok((identity, password))
}

/// Creates the org as the first of its owners.
async fn org_of(
    app: &App,
    org: &Org,
    all: &[Person],
    people: &HashMap<&str, IdentityId>,
) -> anyhow::Result<(OrgId, Ctx)> {
    let owns = |person: &&Person| {
        person
            .orgs
            .iter()
            .any(|membership| membership.org == org.slug && membership.roles.contains(&Role::Owner))
    };
    let owner = all.iter().find(owns).and_then(|owner| people.get(owner.email.as_str()));
    let identity = *owner.context("nobody in people is its owner")?;
    let ctx = app.work.ctx(Actor::Person { identity, session: Id::from_uuid(Uuid::nil()) });
    let new = NewOrg::named(ctx.mint::<named::Org>(), org.slug.as_str(), org.name.as_str())?;
    let made = flows::create_org(&app.work, &ctx, new).await?;
    Ok((made.id, ctx))
}

async fn accounts_of(
    app: &App,
    owner: &Ctx,
    id: OrgId,
    org: &Org,
    planted: &mut Planted,
) -> anyhow::Result<()> {
    for account in &org.service_accounts {
        let roles = if account.roles.is_empty() { vec![Role::Member] } else { account.roles.clone() };
        let new = NewServiceAccount {
            name: account.name.clone(),
            description: account.description.clone(),
            roles,
            metadata: Metadata::default(),
            rotation: None,
        };
        let made = service_accounts::create_service_account(&app.work, owner, id, new).await?;
        planted.service_account.get_or_insert(made.id);
        for key in &account.keys {
            let issued = key_of(app, owner, id, Holder::ServiceAccount(made.id), key).await?;
            planted.key(account.name.as_str(), key, &issued);
        }
    }
    Ok(())
}

async fn member_of(
    app: &App,
    owner: &Ctx,
    org: OrgId,
    identity: IdentityId,
    (email, membership): (&str, &Membership),
    planted: &mut Planted,
) -> anyhow::Result<()> {
    // Whoever created the org is in it already.
    let user = match app.work.state().member(identity, org) {
        Some(member) if member.roles == membership.roles => member.user,
        Some(member) => {
            let (user, roles) = (member.user, membership.roles.clone());
            identity::set_roles(&app.work, owner, org, user, roles, None, IfMatch::default()).await?.id
        }
        None => identity::add_member(&app.work, owner, org, identity, membership.roles.clone()).await?.id,
    };
    for key in &membership.keys {
        let issued = key_of(app, owner, org, Holder::User(user), key).await?;
        planted.key(email, key, &issued);
    }
    Ok(())
}

async fn key_of(app: &App, owner: &Ctx, org: OrgId, holder: Holder, key: &Key) -> anyhow::Result<IssuedKey> {
    let mut new = NewKey::plain(key.name.as_str())?;
    new.scopes = key.scopes.unwrap_or(new.scopes);
    new.expires_at = key.expires_in_days.map(|days| owner.now + TimeDelta::days(i64::from(days.get())));
    Ok(api_keys::issue_key(&app.work, owner, org, holder, new).await?)
}
