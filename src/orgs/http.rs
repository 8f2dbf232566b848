//! `/v1/orgs`.
use super::{
    error::OrgError,
    model::{Org, OrgFilter, OrgPatch},
    service,
};
use crate::{
    http::{
        answer,
        etag::{self, IfMatch, IfMatchParam},
        extract::{self, Json, OrgPath},
        page::{self, PageQuery},
        problem::Problem,
        schema,
    },
    kernel::{Answer, Ctx, Metadata, Name, OrgStatus, Reason},
    work::Work,
};
use actix_web::{HttpRequest, HttpResponse, delete, get, http::StatusCode, patch, post, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

/// Its routes.
pub fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(list_orgs)
        .service(get_org)
        .service(update_org)
        .service(delete_org)
        .service(suspend_org)
        .service(restore_org);
}

/// An organization.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Organization)]
pub struct OrgView {
    pub org_id: Uuid,
    pub name: String,
    pub slug: String,
    /// `active`, `suspended` or `pending_delete`.
    #[schema(value_type = String)]
    pub status: OrgStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub status_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub billing_owner_email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub budget_policy_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Declarative>, nullable = false)]
    pub declarative: Option<Value>,
    #[schema(value_type = Object)]
    pub metadata: Value,
    /// Until when a deleted organization can be restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub delete_after: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl From<&Org> for OrgView {
    fn from(org: &Org) -> Self {
        Self {
            org_id: org.id.uuid(),
            name: org.name.clone(),
            slug: org.slug.clone(),
            status: org.status,
            status_reason: org.status_reason.clone(),
            billing_owner_email: org.billing_owner_email.clone(),
            budget_policy_id: org.budget_policy_id.clone(),
            declarative: org.declarative.clone(),
            metadata: org.metadata.clone(),
            delete_after: org.delete_after,
            created_at: org.created_at,
            updated_at: org.updated_at,
        }
    }
}

/// Where an organization is declared.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Declarative {
    #[serde(default, deserialize_with = "extract::or_default")]
    pub enabled: bool,
    #[serde(default, deserialize_with = "extract::or_default")]
    pub repo_url: String,
    #[serde(default, deserialize_with = "extract::or_default")]
    pub branch: String,
}

impl Declarative {
    /// As it is kept.
    pub fn into_value(self) -> Result<Value, OrgError> {
        const LEN_MAX: usize = 500;
        if self.repo_url.len() > LEN_MAX || self.branch.len() > LEN_MAX {
            return Err(OrgError::DeclarativeInvalid);
        }
        serde_json::to_value(self).map_err(|_| OrgError::DeclarativeInvalid)
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Only organizations in this state.
    #[param(required = false, value_type = String, pattern = "^(active|suspended|pending_delete)?$")]
    status: Option<String>,
    /// Only organizations whose name or slug holds this text.
    #[param(required = false, value_type = String)]
    q: Option<String>,
}

/// The organizations that the caller may see.
///
/// All of them, for people with a platform role; else those in which the caller is an active member.
#[utoipa::path(
    tag = "organizations",
    params(PageQuery, Filter),
    extensions(("x-action" = json!("orgs:read"))),
    responses((status = 200, description = "A page of organizations", body = [OrgView],
        example = json!([example()])))
)]
#[get("/v1/orgs")]
async fn list_orgs(
    ctx: Ctx,
    request: HttpRequest,
    work: web::Data<Work>,
    page: web::Query<PageQuery>,
    filter: web::Query<Filter>,
) -> Result<HttpResponse, Problem> {
    let page = page.page(page::DEFAULT_LONG)?;
    let status = page::status(filter.status.as_deref(), OrgStatus::parse, OrgStatus::WORDS)?;
    let filter = OrgFilter { status, text: filter.into_inner().q.filter(|text| !text.is_empty()) };
    let orgs = service::list_orgs(&work, &ctx, filter, page).await?;
    let views: Vec<OrgView> = orgs.iter().map(OrgView::from).collect();
    Ok(page::respond(&request, page, &views, views.last().map(|org| org.org_id)))
}

/// One organization.
#[utoipa::path(
    tag = "organizations",
    params(("org" = String, Path, description = "UUID or slug")),
    extensions(("x-action" = json!("orgs:read"))),
    responses((status = 200, description = "The organization", body = OrgView,
        headers(("ETag" = String, description = "Its version, for If-Match")), example = json!(example())))
)]
#[get("/v1/orgs/{org}")]
async fn get_org(ctx: Ctx, OrgPath(org): OrgPath, work: web::Data<Work>) -> Result<HttpResponse, Problem> {
    Ok(answer::respond(&one(&service::get_org(&work, &ctx, org).await?)))
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct UpdateOrg {
    /// The name.
    #[serde(alias = "name")]
    #[schema(value_type = Option<schema::Name>)]
    display_name: Option<String>,
    /// `active` or `suspended`.
    #[schema(pattern = "^(active|suspended)$")]
    status: Option<String>,
    #[schema(value_type = Option<schema::Name>)]
    budget_policy_id: Option<String>,
    declarative: Option<Declarative>,
    /// Replaces what was there.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
}

impl UpdateOrg {
    fn patch(self) -> Result<OrgPatch, OrgError> {
        let name = |text: String| Name::parse(&text).ok_or(OrgError::DisplayNameInvalid);
        Ok(OrgPatch {
            name: self.display_name.map(name).transpose()?,
            status: self
                .status
                .map(|word| OrgStatus::parse(&word).ok_or(OrgError::StatusInvalid))
                .transpose()?,
            budget_policy_id: self
                .budget_policy_id
                .map(|id| Name::parse(&id).ok_or(OrgError::BudgetPolicyInvalid))
                .transpose()?,
            declarative: self.declarative.map(Declarative::into_value).transpose()?,
            metadata: self
                .metadata
                .map(|value| Metadata::parse(value).ok_or(OrgError::MetadataInvalid))
                .transpose()?,
        })
    }
}

/// Changes an organization.
///
/// Only what is sent changes. Setting `status` needs the right to suspend or to restore as well.
#[utoipa::path(
    tag = "organizations",
    params(("org" = String, Path, description = "UUID or slug"), IfMatchParam),
    request_body(content = UpdateOrg, example = json!({ "displayName": "Acme Ltd", "metadata": { "tier": "gold" } })),
    extensions(("x-action" = json!("orgs:update"))),
    responses(
        (status = 200, description = "The organization as it is now", body = OrgView, example = json!(example())),
        (status = 409, description = "ORG_STATUS_CONFLICT"),
        (status = 412, description = "VERSION_MISMATCH"),
    )
)]
#[patch("/v1/orgs/{org}")]
async fn update_org(
    ctx: Ctx,
    OrgPath(org): OrgPath,
    work: web::Data<Work>,
    if_match: IfMatch,
    Json(body): Json<UpdateOrg>,
) -> Result<HttpResponse, Problem> {
    let org = service::update_org(&work, &ctx, org, body.patch()?, if_match).await?;
    Ok(answer::respond(&one(&org)))
}

/// Deletes an organization.
///
/// It can be restored until its retention ends; nothing works in it meanwhile. Deleting it again changes nothing.
#[utoipa::path(
    tag = "organizations",
    params(("org" = String, Path, description = "UUID or slug"), IfMatchParam),
    extensions(("x-action" = json!("orgs:delete"))),
    responses(
        (status = 204, description = "It is deleted"),
        (status = 412, description = "VERSION_MISMATCH"),
    )
)]
#[delete("/v1/orgs/{org}")]
async fn delete_org(
    ctx: Ctx,
    OrgPath(org): OrgPath,
    work: web::Data<Work>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    service::delete_org(&work, &ctx, org, if_match).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Why.
#[derive(Deserialize, ToSchema)]
#[schema(as = OrganizationReason)]
struct Because {
    /// One line, for the audit log.
    #[schema(value_type = schema::Reason)]
    reason: String,
}

impl Because {
    fn reason(&self) -> Result<Reason, OrgError> {
        Reason::parse(&self.reason).ok_or(OrgError::ReasonInvalid)
    }
}

/// Suspends an organization.
///
/// No key of it validates and nobody works in it; its members can still look at it.
#[utoipa::path(
    tag = "organizations",
    params(("org" = String, Path, description = "UUID or slug")),
    request_body(content = Because, example = json!({ "reason": "unpaid since March" })),
    extensions(("x-action" = json!("orgs:suspend"))),
    responses(
        (status = 200, description = "The organization as it is now", body = OrgView, example = json!(example())),
        (status = 409, description = "ORG_STATUS_CONFLICT"),
    )
)]
#[post("/v1/orgs/{org}/suspend")]
async fn suspend_org(
    ctx: Ctx,
    OrgPath(org): OrgPath,
    work: web::Data<Work>,
    Json(body): Json<Because>,
) -> Result<HttpResponse, Problem> {
    let ctx = ctx.answering(one);
    let org = service::suspend_org(&work, &ctx, org, body.reason()?).await?;
    Ok(answer::respond(&one(&org)))
}

/// Restores a suspended or deleted organization.
#[utoipa::path(
    tag = "organizations",
    params(("org" = String, Path, description = "UUID or slug")),
    request_body(content = Because, example = json!({ "reason": "paid" })),
    extensions(("x-action" = json!("orgs:restore"))),
    responses((status = 200, description = "The organization as it is now", body = OrgView, example = json!(example())))
)]
#[post("/v1/orgs/{org}/restore")]
async fn restore_org(
    ctx: Ctx,
    OrgPath(org): OrgPath,
    work: web::Data<Work>,
    Json(body): Json<Because>,
) -> Result<HttpResponse, Problem> {
    let ctx = ctx.answering(one);
    let org = service::restore_org(&work, &ctx, org, body.reason()?).await?;
    Ok(answer::respond(&one(&org)))
}

fn one(org: &Org) -> Answer {
    etag::tagged(answer::json(StatusCode::OK, &OrgView::from(org)), org.version)
}

/// For the document.
pub fn example() -> Value {
    json!({
        "orgId": "0193a5f0-7b1c-7000-8000-000000000001", "name": "Acme", "slug": "acme", "status": "active",
        "metadata": {}, "createdAt": "2026-11-01T09:00:00Z", "updatedAt": "2026-11-01T09:00:00Z",
    })
}
