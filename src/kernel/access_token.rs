//! Access tokens: signed JWTs of type `at+jwt` (RFC 9068).
use super::{IdentityId, OrgId, SessionId, UserId};
use crate::platform::keys::Keys;
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, Header, Validation};
use serde::{Deserialize, Serialize};

const TYPE: &str = "at+jwt";
/// A token longer than this is none of ours.
const BYTES_MAX: usize = 4096;
/// How far another process's clock may be ahead.
const SKEW_SECONDS: i64 = 30;

/// What an access token says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AccessClaims {
    /// Who issued it: our base URL.
    pub iss: String,
    /// The person.
    pub sub: IdentityId,
    /// Whom it is for: our base URL again.
    pub aud: String,
    /// Unix seconds from which on it is worth nothing.
    pub exp: i64,
    /// Unix seconds when it was issued.
    pub iat: i64,
    /// Its own name.
    pub jti: String,
    /// The client that signed the person in.
    pub client_id: String,
    /// The session, by which it is revoked.
    pub sid: SessionId,
    /// The current org.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_id: Option<OrgId>,
    /// The membership there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// OAuth scopes, separated by spaces.
    pub scope: String,
    /// Unix seconds when the person last showed a secret.
    pub auth_time: i64,
    /// By which means (RFC 8176).
    pub amr: Vec<String>,
    /// How well.
    pub acr: String,
}

/// Why a token is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AccessTokenError {
    #[error("the access token has expired")]
    Expired,
    #[error("this is no access token of ours")]
    Invalid,
    #[error("the access token cannot be signed")]
    Unsigned,
}

impl AccessClaims {
    /// Signs it (EdDSA).
    pub fn sign(&self, keys: &Keys) -> Result<String, AccessTokenError> {
        let key = keys.signing().ok_or(AccessTokenError::Unsigned)?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(TYPE.to_owned());
        header.kid = Some(key.kid.clone());
        jsonwebtoken::encode(&header, self, &key.encoding).map_err(|_| AccessTokenError::Unsigned)
    }

    /// Checks signature, type, issuer, audience and time. Whether the session still lives is for others to say.
    pub fn verify(
        token: &str,
        keys: &Keys,
        issuer: &str,
        now: DateTime<Utc>,
    ) -> Result<Self, AccessTokenError> {
        let claims = Self::verify_whenever(token, keys, issuer)?;
        let now = now.timestamp();
        if claims.iat > now + SKEW_SECONDS {
            return Err(AccessTokenError::Invalid);
        }
        if claims.exp <= now {
            return Err(AccessTokenError::Expired);
        }
        Ok(claims)
    }

    /// The same whatever the time: whoever signs out may come late.
    pub fn verify_whenever(token: &str, keys: &Keys, issuer: &str) -> Result<Self, AccessTokenError> {
        if token.len() > BYTES_MAX {
            return Err(AccessTokenError::Invalid);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| AccessTokenError::Invalid)?;
        let key = header
            .kid
            .as_deref()
            .and_then(|kid| keys.signing_by_kid(kid))
            .ok_or(AccessTokenError::Invalid)?;
        if header.typ.as_deref() != Some(TYPE) {
            return Err(AccessTokenError::Invalid);
        }
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.validate_exp = false; // by our own clock, in `verify`
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let decoded = jsonwebtoken::decode(token, &key.decoding, &validation);
        decoded.map(|data| data.claims).map_err(|_| AccessTokenError::Invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Id;
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use uuid::Uuid;

    const ISSUER: &str = "https://id.example.io";

    fn claims() -> AccessClaims {
        AccessClaims {
            iss: ISSUER.into(),
            sub: Id::from_uuid(Uuid::from_u128(1)),
            aud: ISSUER.into(),
            exp: 2000,
            iat: 1000,
            jti: "j".into(),
            client_id: "identityd-login".into(),
            sid: Id::from_uuid(Uuid::from_u128(2)),
            org_id: None,
            user_id: None,
            scope: "openid".into(),
            auth_time: 1000,
            amr: vec!["pwd".into()],
            acr: "urn:identityd:acr:single".into(),
        }
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn a_token_verifies_in_its_time_for_its_issuer_under_its_key() {
        let keys = Keys::from_seed([1; 32]).unwrap();
        let token = claims().sign(&keys).unwrap();
        let verify = |token: &str, issuer: &str, now| AccessClaims::verify(token, &keys, issuer, at(now));
        assert_eq!(verify(&token, ISSUER, 1999).unwrap().sub, claims().sub);
        assert_eq!(verify(&token, ISSUER, 2000).unwrap_err(), AccessTokenError::Expired);
        assert_eq!(verify(&token, ISSUER, 960).unwrap_err(), AccessTokenError::Invalid, "from the future");
        assert_eq!(verify(&token, "https://other", 1500).unwrap_err(), AccessTokenError::Invalid);
        let other = Keys::from_seed([2; 32]).unwrap();
        assert_eq!(
            AccessClaims::verify(&token, &other, ISSUER, at(1500)).unwrap_err(),
            AccessTokenError::Invalid
        );
    }

    #[test]
    fn what_was_altered_or_is_no_token_is_refused() {
        let keys = Keys::from_seed([1; 32]).unwrap();
        let token = claims().sign(&keys).unwrap();
        let (head, rest) = token.split_once('.').unwrap();
        let (body, signature) = rest.split_once('.').unwrap();
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"at+jwt"}"#);
        for wrong in [
            String::new(),
            "a.b.c".into(),
            format!("{head}.{body}."),
            format!("{none}.{body}."),
            format!("{none}.{body}.{signature}"),
            format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode("{}")),
            format!("{token}{}", "A".repeat(BYTES_MAX)),
        ] {
            assert!(AccessClaims::verify(&wrong, &keys, ISSUER, at(1500)).is_err(), "{wrong}");
        }
    }
}
