//! `/v1/orgs/{org}/service-accounts`.
use super::{
    error::ServiceAccountError,
    model::{NewServiceAccount, ServiceAccount, ServiceAccountPatch, parse_description, parse_roles},
    service,
};
use crate::{
    authorization::Role,
    http::{
        answer,
        etag::{self, IfMatch, IfMatchParam},
        extract::{IdPath, Json, OrgPath},
        page::{self, PageQuery},
        problem::Problem,
        schema,
    },
    kernel::{Answer, Ctx, Metadata, Name, ServiceAccountStatus, named},
    work::Work,
};
use actix_web::{
    HttpRequest, HttpResponse, delete, get,
    http::{StatusCode, header::LOCATION},
    patch, post, web,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

/// Its routes.
pub(in crate::credentials) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(create_service_account)
        .service(list_service_accounts)
        .service(get_service_account)
        .service(update_service_account)
        .service(delete_service_account);
}

/// A machine's account.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ServiceAccount)]
struct ServiceAccountView {
    service_account_id: Uuid,
    org_id: Uuid,
    name: String,
    description: String,
    /// `active` or `disabled`.
    #[schema(value_type = String)]
    status: ServiceAccountStatus,
    #[schema(value_type = Vec<String>)]
    roles: Vec<Role>,
    #[schema(value_type = Object)]
    metadata: Value,
    /// When its keys are to be rotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    rotation: Option<Value>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

fn view(account: &ServiceAccount) -> ServiceAccountView {
    ServiceAccountView {
        service_account_id: account.id.uuid(),
        org_id: account.org.uuid(),
        name: account.name.clone(),
        description: account.description.clone(),
        status: account.status,
        roles: account.roles.clone(),
        metadata: account.metadata.clone(),
        rotation: account.rotation.clone(),
        created_at: account.created_at,
        updated_at: account.updated_at,
    }
}

fn one(account: &ServiceAccount) -> Answer {
    etag::tagged(answer::json(StatusCode::OK, &view(account)), account.version)
}

fn created(account: &ServiceAccount) -> Answer {
    let location = format!("/v1/orgs/{}/service-accounts/{}", account.org, account.id);
    let answer = answer::json(StatusCode::CREATED, &view(account));
    etag::tagged(answer::with_header(answer, LOCATION.as_str(), location), account.version)
}

fn example() -> Value {
    json!({
        "serviceAccountId": "0193a5f0-7b1c-7000-8000-000000000004", "orgId": "0193a5f0-7b1c-7000-8000-000000000001",
        "name": "router", "description": "", "status": "active", "roles": ["member"], "metadata": {},
        "createdAt": "2026-11-01T09:00:00Z", "updatedAt": "2026-11-01T09:00:00Z",
    })
}

#[derive(Deserialize, ToSchema)]
struct CreateServiceAccount {
    #[schema(value_type = schema::Name)]
    name: String,
    #[schema(max_length = 1000)]
    description: Option<String>,
    /// Names of roles; `member` when left out.
    #[schema(value_type = Option<Vec<schema::RoleName>>)]
    roles: Option<Vec<String>>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
    #[schema(value_type = Option<Object>)]
    rotation: Option<Value>,
}

impl CreateServiceAccount {
    fn parse(self) -> Result<NewServiceAccount, ServiceAccountError> {
        Ok(NewServiceAccount {
            name: Name::parse(&self.name).ok_or(ServiceAccountError::NameInvalid)?,
            description: parse_description(&self.description.unwrap_or_default())?,
            roles: self.roles.map_or_else(|| Ok(vec![Role::Member]), |roles| parse_roles(&roles))?,
            metadata: metadata(self.metadata)?.unwrap_or_default(),
            rotation: rotation(self.rotation)?,
        })
    }
}

fn metadata(value: Option<Value>) -> Result<Option<Metadata>, ServiceAccountError> {
    value.map(|value| Metadata::parse(value).ok_or(ServiceAccountError::MetadataInvalid)).transpose()
}

fn rotation(value: Option<Value>) -> Result<Option<Value>, ServiceAccountError> {
    let parse =
        |value| Metadata::parse(value).ok_or(ServiceAccountError::RotationInvalid).map(Metadata::into_value);
    value.map(parse).transpose()
}

/// Creates a service account.
#[utoipa::path(
    tag = "service accounts",
    params(("org" = String, Path, description = "UUID or slug")),
    request_body(content = CreateServiceAccount, example = json!({ "name": "router", "roles": ["member"] })),
    extensions(("x-action" = json!("service-accounts:manage"))),
    responses(
        (status = 201, description = "The service account", body = ServiceAccountView, example = json!(example())),
        (status = 409, description = "NAME_TAKEN"),
    )
)]
#[post("/v1/orgs/{org}/service-accounts")]
async fn create_service_account(
    ctx: Ctx,
    OrgPath(org): OrgPath,
    work: web::Data<Work>,
    Json(body): Json<CreateServiceAccount>,
) -> Result<HttpResponse, Problem> {
    let ctx = ctx.answering(created);
    let account = service::create_service_account(&work, &ctx, org, body.parse()?).await?;
    Ok(answer::respond(&created(&account)))
}

/// The service accounts of an organization.
#[utoipa::path(
    tag = "service accounts",
    params(("org" = String, Path, description = "UUID or slug"), PageQuery),
    extensions(("x-action" = json!("service-accounts:read"))),
    responses((status = 200, description = "A page of service accounts", body = [ServiceAccountView],
        example = json!([example()])))
)]
#[get("/v1/orgs/{org}/service-accounts")]
async fn list_service_accounts(
    ctx: Ctx,
    OrgPath(org): OrgPath,
    request: HttpRequest,
    work: web::Data<Work>,
    page: web::Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let page = page.page(page::DEFAULT)?;
    let accounts = service::list_service_accounts(&work, &ctx, org, page).await?;
    let views: Vec<ServiceAccountView> = accounts.iter().map(view).collect();
    Ok(page::respond(&request, page, &views, views.last().map(|account| account.service_account_id)))
}

/// One service account.
#[utoipa::path(
    tag = "service accounts",
    params(("org" = String, Path, description = "UUID or slug"), ("id" = Uuid, Path, description = "The service account")),
    extensions(("x-action" = json!("service-accounts:read"))),
    responses((status = 200, description = "The service account", body = ServiceAccountView, example = json!(example())))
)]
#[get("/v1/orgs/{org}/service-accounts/{id}")]
async fn get_service_account(
    ctx: Ctx,
    OrgPath(org): OrgPath,
    IdPath(account): IdPath<named::ServiceAccount>,
    work: web::Data<Work>,
) -> Result<HttpResponse, Problem> {
    Ok(answer::respond(&one(&service::get_service_account(&work, &ctx, org, account).await?)))
}

#[derive(Deserialize, ToSchema)]
struct UpdateServiceAccount {
    #[schema(value_type = Option<schema::Name>)]
    name: Option<String>,
    #[schema(max_length = 1000)]
    description: Option<String>,
    /// `active` or `disabled`.
    #[schema(pattern = "^(active|disabled)$")]
    status: Option<String>,
    /// Names of roles; exactly these from now on.
    #[schema(value_type = Option<Vec<schema::RoleName>>)]
    roles: Option<Vec<String>>,
    /// Replaces what was there.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
    #[schema(value_type = Option<Object>)]
    rotation: Option<Value>,
}

impl UpdateServiceAccount {
    fn patch(self) -> Result<ServiceAccountPatch, ServiceAccountError> {
        let status =
            |word: String| ServiceAccountStatus::parse(&word).ok_or(ServiceAccountError::StatusInvalid);
        Ok(ServiceAccountPatch {
            name: self
                .name
                .map(|name| Name::parse(&name).ok_or(ServiceAccountError::NameInvalid))
                .transpose()?,
            description: self.description.map(|text| parse_description(&text)).transpose()?,
            status: self.status.map(status).transpose()?,
            roles: self.roles.map(|roles| parse_roles(&roles)).transpose()?,
            metadata: metadata(self.metadata)?,
            rotation: rotation(self.rotation)?,
        })
    }
}

/// Changes a service account.
///
/// Only what is sent changes. While it is `disabled`, its keys do not validate.
#[utoipa::path(
    tag = "service accounts",
    params(("org" = String, Path, description = "UUID or slug"), ("id" = Uuid, Path, description = "The service account"),
        IfMatchParam),
    request_body(content = UpdateServiceAccount, example = json!({ "status": "disabled" })),
    extensions(("x-action" = json!("service-accounts:manage"))),
    responses(
        (status = 200, description = "The service account as it is now", body = ServiceAccountView,
            example = json!(example())),
        (status = 409, description = "NAME_TAKEN or ROLES_CHANGED"),
        (status = 412, description = "VERSION_MISMATCH"),
    )
)]
#[patch("/v1/orgs/{org}/service-accounts/{id}")]
async fn update_service_account(
    ctx: Ctx,
    OrgPath(org): OrgPath,
    IdPath(account): IdPath<named::ServiceAccount>,
    work: web::Data<Work>,
    if_match: IfMatch,
    Json(body): Json<UpdateServiceAccount>,
) -> Result<HttpResponse, Problem> {
    let account = service::update_service_account(&work, &ctx, org, account, body.patch()?, if_match).await?;
    Ok(answer::respond(&one(&account)))
}

/// Deletes a service account.
///
/// Its keys stop working. Deleting it again changes nothing.
#[utoipa::path(
    tag = "service accounts",
    params(("org" = String, Path, description = "UUID or slug"), ("id" = Uuid, Path, description = "The service account"),
        IfMatchParam),
    extensions(("x-action" = json!("service-accounts:manage"))),
    responses((status = 204, description = "It is deleted"), (status = 412, description = "VERSION_MISMATCH"))
)]
#[delete("/v1/orgs/{org}/service-accounts/{id}")]
async fn delete_service_account(
    ctx: Ctx,
    OrgPath(org): OrgPath,
    IdPath(account): IdPath<named::ServiceAccount>,
    work: web::Data<Work>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    service::delete_service_account(&work, &ctx, org, account, if_match).await?;
    Ok(HttpResponse::NoContent().finish())
}
