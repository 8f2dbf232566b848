//! `GET /.well-known/jwks.json`.
use crate::work::Work;
use actix_web::{HttpResponse, get, http::header::CACHE_CONTROL, web};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

/// A key is published long before the first signature by it: whoever keeps the set so long misses none.
const KEEP: &str = "public, max-age=300";

/// Its routes.
pub(in crate::authn) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(jwks);
}

/// RFC 7517.
#[derive(Serialize, ToSchema)]
struct Jwks<'a> {
    keys: Vec<Jwk<'a>>,
}

/// An Ed25519 key (RFC 8037).
#[derive(Serialize, ToSchema)]
struct Jwk<'a> {
    /// `OKP`.
    kty: &'static str,
    /// `Ed25519`.
    crv: &'static str,
    /// The public key, base64url.
    x: &'a str,
    /// Its RFC 7638 thumbprint.
    kid: &'a str,
    /// `EdDSA`.
    alg: &'static str,
    /// `sig`.
    #[serde(rename = "use")]
    usage: &'static str,
}

/// The keys that signatures are checked by.
///
/// Of access tokens and of decisions; `kid` says which. May be kept for five minutes.
#[utoipa::path(
    tag = "operations",
    security(()),
    responses((status = 200, description = "A JWK set", body = Jwks, example = json!({ "keys": [{
        "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", "alg": "EdDSA", "use": "sig",
    }] })))
)]
#[get("/.well-known/jwks.json")]
async fn jwks(work: web::Data<Work>) -> HttpResponse {
    let keys = work.keys().published().map(|key| Jwk {
        kty: "OKP",
        crv: "Ed25519",
        x: &key.x,
        kid: &key.kid,
        alg: "EdDSA",
        usage: "sig",
    });
    HttpResponse::Ok().insert_header((CACHE_CONTROL, KEEP)).json(Jwks { keys: keys.collect() })
}
