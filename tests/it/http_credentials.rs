//! Access tokens that are not good: each is refused, with a challenge, and for what it is.
use crate::{
    app::{PASSWORD, TestApp},
    http_bad_input::everything,
    http_support::{acme, ask, ask_all, bearing, post_from, request},
    redis_support::counted,
};
use actix_web::{http::Method, test::TestRequest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use identityd::{
    app::Listener,
    kernel::{AccessClaims, Id, Token, TokenKind},
    platform::keys::Keys,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

const ASKED: &str = "identityd_authorization_asked_total";

/// An access token for the owner that is good but for what is changed.
async fn claims(app: &TestApp) -> AccessClaims {
    let (issuer, now) = (app.app.config.http.issuer(), app.clock.now().timestamp());
    AccessClaims {
        iss: issuer.clone(),
        sub: app.person("owner").await,
        aud: issuer,
        exp: now + 60,
        iat: now,
        jti: "test".into(),
        client_id: "test".into(),
        sid: Id::from_uuid(Uuid::from_u128(1)),
        org_id: None,
        user_id: None,
        scope: "openid".into(),
        auth_time: now,
        amr: vec![],
        acr: String::new(),
    }
}

/// The same under another header and key.
fn forged(
    claims: &AccessClaims,
    algorithm: Algorithm,
    typ: &str,
    kid: Option<&str>,
    key: &EncodingKey,
) -> String {
    let mut header = Header::new(algorithm);
    (header.typ, header.kid) = (Some(typ.to_owned()), kid.map(ToOwned::to_owned));
    jsonwebtoken::encode(&header, claims, key).unwrap()
}

#[actix_web::test]
async fn a_token_that_is_not_good_is_refused_with_a_challenge() {
    let app = acme().await;
    let (good, keys) = (claims(&app).await, app.work().keys());
    let own = keys.signing().unwrap();
    let foreign_keys = Keys::from_seed([9; 32]).unwrap();
    let foreign = foreign_keys.signing().unwrap();
    let with = |change: fn(&mut AccessClaims)| {
        let mut claims = good.clone();
        change(&mut claims);
        claims.sign(keys).unwrap()
    };
    let token = good.sign(keys).unwrap();
    let [head, body, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let none = encode(&format!(r#"{{"alg":"none","typ":"at+jwt","kid":"{}"}}"#, own.kid));
    // The public key is no secret: a token signed with it as if it were one must not pass.
    let confused = EncodingKey::from_secret(&URL_SAFE_NO_PAD.decode(&own.x).unwrap());
    let invalid = "TOKEN_INVALID";
    let table = [
        ("expired", with(|claims| claims.exp = claims.iat), "TOKEN_EXPIRED"),
        ("long expired", with(|claims| claims.exp = 0), "TOKEN_EXPIRED"),
        ("from the future", with(|claims| claims.iat += 31), invalid),
        ("of another issuer", with(|claims| claims.iss = "https://evil.example".into()), invalid),
        ("for somebody else", with(|claims| claims.aud = "https://other.example".into()), invalid),
        ("of nobody", with(|claims| claims.sub = Id::from_uuid(Uuid::from_u128(7))), "SESSION_ENDED"),
        ("under a foreign key", good.sign(&foreign_keys).unwrap(), invalid),
        (
            "under a foreign key by our name",
            forged(&good, Algorithm::EdDSA, "at+jwt", Some(&own.kid), &foreign.encoding),
            invalid,
        ),
        ("without a key", forged(&good, Algorithm::EdDSA, "at+jwt", None, &own.encoding), invalid),
        ("of another type", forged(&good, Algorithm::EdDSA, "JWT", Some(&own.kid), &own.encoding), invalid),
        (
            "under the public key",
            forged(&good, Algorithm::HS256, "at+jwt", Some(&own.kid), &confused),
            invalid,
        ),
        ("unsigned", format!("{none}.{body}."), invalid),
        ("unsigned with a signature", format!("{none}.{body}.{signature}"), invalid),
        ("without its signature", format!("{head}.{body}."), invalid),
        ("of two parts", format!("{head}.{body}"), invalid),
        ("with another body", format!("{head}.{}.{signature}", encode("{}")), invalid),
        ("with something behind", format!("{token}.x"), invalid),
        ("far too long", format!("{token}{}", "A".repeat(100_000)), invalid),
        ("garbled", token.replace('.', "-"), invalid),
        ("no token", "x".into(), invalid),
        ("a refresh token", Token::mint(TokenKind::Refresh, &app.app.entropy).expose().into(), "KEY_UNKNOWN"),
        (
            "a key nobody has",
            Token::mint(TokenKind::UserKey, &app.app.entropy).expose().into(),
            "KEY_UNKNOWN",
        ),
        (
            "an operator token nobody has",
            Token::mint(TokenKind::Operator, &app.app.entropy).expose().into(),
            invalid,
        ),
    ];
    let before = everything(&app).await;
    for (method, path) in
        [(Method::GET, "/v1/me"), (Method::GET, "/v1/auth/userinfo"), (Method::POST, "/v1/orgs")]
    {
        let bad = |token: &str| {
            bearing(request(method.clone(), path), token).set_json(json!({ "name": "B", "slug": "b" }))
        };
        let requests: Vec<TestRequest> = table.iter().map(|(_, token, _)| bad(token)).collect();
        let answers = ask_all(&app.app, Listener::Http, requests).await;
        for (answer, (what, _, code)) in answers.iter().zip(&table) {
            assert_eq!(answer.verdict(), (401, (*code).to_owned()), "{what}: {answer:?}");
            let challenge = answer.header("www-authenticate");
            assert_eq!(challenge.as_deref(), Some("Bearer error=\"invalid_token\""), "{what}");
        }
    }
    assert_eq!(everything(&app).await, before);
    let nobody = ask(&app.app, request(Method::GET, "/v1/me")).await;
    assert_eq!(nobody.verdict(), (401, "UNAUTHENTICATED".into()));
    assert_eq!(nobody.header("www-authenticate").as_deref(), Some("Bearer"));
    for good in [token.clone(), with(|claims| claims.iat += 30)] {
        assert_eq!(
            ask(&app.app, bearing(request(Method::GET, "/v1/me"), &good)).await.status,
            200,
            "clocks differ"
        );
    }
}

/// What is not asked for is not looked at: signing in does not fail for what came along.
#[actix_web::test]
async fn a_bad_credential_does_not_keep_anybody_from_signing_in() {
    let app = acme().await;
    let body = json!({ "email": "ada@example.io", "password": PASSWORD });
    for bad in ["garbage", "", "idr_x"] {
        let answer = ask(&app.app, bearing(post_from("127.0.0.1", "/v1/auth/login", &body), bad)).await;
        assert_eq!(answer.status, 200, "{bad}: {answer:?}");
    }
}

/// A question to PostgreSQL takes a thousand times as long as a look into memory: whoever measures answers must not learn
/// which organizations there are.
#[actix_web::test]
async fn what_is_unknown_and_what_is_anothers_are_asked_for_as_often() {
    let app = acme().await;
    app.org("sam", "other").await;
    let stranger = app.token("sam").await;
    let mut asked = vec![];
    for credential in [None, Some("nonsense"), Some("idk_nonsense"), Some(stranger.as_str())] {
        for org in ["acme", "nobodys"] {
            app.clock.tick(Duration::from_millis(1));
            let before = counted(&app.app, ASKED);
            let mut looked = request(Method::GET, &format!("/v1/orgs/{org}"));
            if let Some(token) = credential {
                looked = bearing(looked, token);
            }
            let answer = ask(&app.app, looked).await;
            assert!(matches!(answer.status, 401 | 404), "{}", answer.status);
            asked.push(counted(&app.app, ASKED) - before);
        }
    }
    assert_eq!(asked, [0, 0, 1, 1, 1, 1, 1, 1]);
}
