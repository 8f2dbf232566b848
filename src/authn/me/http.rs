//! `/v1/me`.
use super::model::Me;
use crate::{
    authorization::{Action, State, Target},
    http::{
        auth::Caller,
        page::{self, PageQuery},
        problem::Problem,
    },
    kernel::{Actor, Ctx, IdentityId},
    work::Work,
};
use actix_web::{HttpRequest, HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

/// Its routes.
pub(in crate::authn) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(get_me).service(list_my_orgs);
}

/// The caller.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Me)]
struct MeView {
    /// The person; for a key, its holder.
    id: Uuid,
    /// Empty for a key, like the name: who holds it is for whoever may read members.
    email: String,
    display_name: String,
    /// `person:…`, `key:…`: as the audit log names the caller.
    actor: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    org_id: Option<Uuid>,
    /// The membership in that organization.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    user_id: Option<Uuid>,
    roles: Vec<&'static str>,
    platform_roles: Vec<&'static str>,
    /// The actions that the caller may do there, on everything or on his own.
    permissions: Vec<&'static str>,
}

/// Who the caller is.
///
/// With what he may do in the organization of his token.
#[utoipa::path(
    tag = "sign-in",
    extensions(("x-action" = json!("self:manage"))),
    responses((status = 200, description = "The caller", body = MeView, example = json!({
        "id": "0193a5f0-7b1c-7000-8000-000000000006", "email": "ada@example.io", "displayName": "Ada",
        "actor": "person:0193a5f0-7b1c-7000-8000-000000000006", "orgId": "0193a5f0-7b1c-7000-8000-000000000001",
        "roles": ["owner"], "platformRoles": [], "permissions": ["orgs:read"],
    })))
)]
#[get("/v1/me")]
async fn get_me(Caller(ctx, claims): Caller, work: web::Data<Work>) -> Result<HttpResponse, Problem> {
    let me = Me::of(&work, &ctx, claims.as_ref()).await?;
    Ok(HttpResponse::Ok().json(MeView {
        id: me.sub,
        email: me.email,
        display_name: me.name,
        actor: ctx.actor.to_string(),
        org_id: me.org.map(|org| org.uuid()),
        user_id: me.user,
        roles: me.roles.iter().map(|role| role.as_str()).collect(),
        platform_roles: me.platform_roles,
        permissions: me.permissions.names().collect(),
    }))
}

/// An organization that the caller is in.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct MyOrg {
    org_id: Uuid,
    slug: String,
    user_id: Uuid,
    /// The membership's.
    status: &'static str,
    roles: Vec<&'static str>,
}

/// The organizations that the caller is in.
///
/// With his roles in each, also those in which his membership is suspended. A key is in none.
#[utoipa::path(
    tag = "sign-in",
    params(PageQuery),
    extensions(("x-action" = json!("self:manage"))),
    responses((status = 200, description = "A page of them", body = [MyOrg], example = json!([{
        "orgId": "0193a5f0-7b1c-7000-8000-000000000001", "slug": "acme", "userId": "0193a5f0-7b1c-7000-8000-000000000002",
        "status": "active", "roles": ["owner"],
    }])))
)]
#[get("/v1/me/orgs")]
async fn list_my_orgs(
    ctx: Ctx,
    request: HttpRequest,
    work: web::Data<Work>,
    page: web::Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let page = page.page(page::DEFAULT_LONG)?;
    let mut orgs = match ctx.actor {
        Actor::Person { identity, .. } => {
            drop(work.permit(&ctx, Action::SelfManage, Target::Account).await?);
            orgs_of(work.state(), identity)
        }
        _ => vec![],
    };
    orgs.retain(|org| org.user_id > page.after);
    orgs.sort_by_key(|org| org.user_id);
    orgs.truncate(usize::try_from(page.limit).unwrap_or_default());
    Ok(page::respond(&request, page, &orgs, orgs.last().map(|org| org.user_id)))
}

fn orgs_of(state: &State, person: IdentityId) -> Vec<MyOrg> {
    let mine = state.orgs_of(person).into_iter().filter_map(|org| {
        let (fact, member) = (state.org(org)?, state.member(person, org)?);
        Some(MyOrg {
            org_id: org.uuid(),
            slug: fact.slug,
            user_id: member.user.uuid(),
            status: member.status.as_str(),
            roles: member.roles.iter().map(|role| role.as_str()).collect(),
        })
    });
    mine.collect()
}
