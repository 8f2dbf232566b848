//! Accepting an invite: by whom, with what, and when not.
use crate::{
    app::{PASSWORD, TestApp},
    contexts_support::{at_once, brief, column, issue, root, told},
};
use actix_web::{http::Method, test::TestRequest};
use identityd::{app::Listener, authorization::Role, kernel::OrgId};
use insta::assert_json_snapshot;
use serde_json::{Value, json};
use std::time::Duration;

const HOUR: Duration = Duration::from_hours(1);
const ACCEPT: &str = "/v1/invites/accept";
const INVITES: &str = "/v1/orgs/acme/invites";
const OTHER_PASSWORD: &str = "an entirely different phrase";

/// Acme, with an address invited: the path of the invited, and the token of the mail.
async fn invited(app: &TestApp, roles: &[&str]) -> (OrgId, String, String) {
    let org = app.org("ada", "acme").await;
    let (user, token) = invite(app, "ada", roles).await;
    (org, user, token)
}

async fn invite(app: &TestApp, caller: &str, roles: &[&str]) -> (String, String) {
    let answer = app.post(caller, INVITES, json!({ "email": "bob@example.io", "roles": roles })).await;
    assert_eq!(answer["status"], 202, "{answer}");
    let user = format!("/v1/orgs/acme/users/{}", answer["body"]["userId"].as_str().unwrap());
    (user, app.invite_token().await)
}

async fn accept(app: &TestApp, caller: Option<&str>, body: Value) -> Value {
    app.call(Method::POST, caller, ACCEPT, body).await
}

/// As somebody new.
async fn accept_anew(app: &TestApp, token: &str) -> Value {
    accept(app, None, json!({ "token": token, "password": PASSWORD, "displayName": "Bob" })).await
}

/// Bob has an account, from an org of eve's.
async fn known(app: &TestApp) -> OrgId {
    let other = app.org("eve", "other").await;
    app.joined(other, "eve", "bob", &[]).await;
    other
}

// Whoever is new -------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn somebody_new_accepts_and_signs_in() {
    let app = TestApp::new().await;
    let (org, user, token) = invited(&app, &["manager"]).await;
    app.tick(HOUR).await;
    let body = json!({ "token": format!(" {token}\n"), "password": PASSWORD, "displayName": " Bob " });
    assert_json_snapshot!("accepted", told(&app, accept(&app, None, body)).await);
    assert_json_snapshot!("accepted_user", app.get("ada", &user).await["body"]);
    assert_json_snapshot!(
        "accepted_rows",
        app.rows(
            "SELECT i.email, i.display_name, i.platform_roles, i.home_org_id, i.email_verified_at, m.accepted_at,
               m.status, t.consumed_at, left(p.phc, 10) AS phc
             FROM identities i JOIN memberships m USING (identity_id) JOIN invite_tokens t USING (user_id)
             JOIN passwords p USING (identity_id) WHERE i.email = 'bob@example.io'"
        )
        .await
    );
    let signed_in = app.sign_in("bob").await;
    assert_eq!((&signed_in["status"], &signed_in["body"]["org_id"]), (&json!(200), &json!(org)));
    app.bearer("bob", signed_in["body"]["access_token"].as_str().unwrap());
    assert_eq!(brief(&app.get("bob", "/v1/orgs/acme/users").await), "200", "with the roles of the invite");
}

#[actix_web::test]
async fn somebody_new_may_keep_his_name_to_himself() {
    let app = TestApp::new().await;
    let (_, user, token) = invited(&app, &[]).await;
    let body = json!({ "token": token, "password": PASSWORD, "displayName": " " });
    assert_eq!(brief(&accept(&app, None, body).await), "200");
    assert_eq!(app.get("ada", &user).await["body"]["displayName"], "");
}

#[actix_web::test]
async fn a_name_that_an_administrator_gave_stays() {
    let app = TestApp::new().await;
    let (_, user, token) = invited(&app, &[]).await;
    app.patch("ada", &user, json!({ "displayName": "Bob of Acme" })).await;
    assert_eq!(brief(&accept_anew(&app, &token).await), "200");
    assert_eq!(app.get("ada", &user).await["body"]["displayName"], "Bob of Acme");
    assert_eq!(
        app.rows("SELECT display_name FROM identities WHERE email = 'bob@example.io'").await,
        json!([{ "display_name": "Bob" }]),
        "in this org, and in no other"
    );
}

#[actix_web::test]
async fn what_cannot_be_parsed_is_refused_by_name() {
    let app = TestApp::new().await;
    let (_, _, token) = invited(&app, &[]).await;
    for (body, refusal) in [
        (json!({ "token": token }), "422 PASSWORD_MISSING password"),
        (json!({ "token": token, "password": "x".repeat(14) }), "422 PASSWORD_TOO_SHORT password"),
        (json!({ "token": token, "password": "x".repeat(129) }), "422 PASSWORD_TOO_LONG password"),
        (json!({ "token": token, "password": 5 }), "422 INVALID_BODY password"),
        (
            json!({ "token": token, "password": PASSWORD, "displayName": "x".repeat(201) }),
            "422 NAME_INVALID displayName",
        ),
        (
            json!({ "token": token, "password": PASSWORD, "displayName": "a\nb" }),
            "422 NAME_INVALID displayName",
        ),
        (json!({ "password": PASSWORD }), "422 INVALID_BODY token"),
        (json!({ "token": 5, "password": PASSWORD }), "422 INVALID_BODY token"),
        (Value::Null, "400 BODY_MISSING"),
        (json!({ "token": token, "password": PASSWORD, "displayName": "é".repeat(200) }), "200"),
    ] {
        assert_eq!(brief(&accept(&app, None, body.clone()).await), refusal, "{refusal}");
    }
}

#[actix_web::test]
async fn what_is_no_token_of_an_invite_is_unknown() {
    let app = TestApp::new().await;
    let (_, user, token) = invited(&app, &[]).await;
    let (_, key) = issue(&app, "ada", &format!("{user}/api-keys"), Value::Null).await;
    assert_json_snapshot!("unknown", told(&app, accept_anew(&app, &format!("idi_{}", "0".repeat(65)))).await);
    for garbage in ["", "garbage", &token[..68], &format!("{token}0"), &token.replace("idi_", "idk_"), &key] {
        assert_eq!(brief(&accept_anew(&app, garbage).await), "404 INVITE_UNKNOWN", "{garbage}");
    }
    assert_eq!(brief(&accept_anew(&app, &token).await), "200");
}

#[actix_web::test]
async fn a_token_is_no_credential_for_anything_else() {
    let app = TestApp::new().await;
    let (_, user, token) = invited(&app, &["owner"]).await;
    app.bearer("bob", &token);
    assert_eq!(app.get("bob", &user).await["status"], 401);
}

#[actix_web::test]
async fn an_idempotency_key_is_not_needed_and_not_looked_at() {
    let app = TestApp::new().await;
    let (_, _, token) = invited(&app, &[]).await;
    let send = |password: &str| {
        let body = json!({ "token": token, "password": password });
        app.call_with(Method::POST, None, ACCEPT, body, &[("idempotency-key", "k")])
    };
    assert_eq!(brief(&send(PASSWORD).await), "200");
    assert_eq!(brief(&send(OTHER_PASSWORD).await), "401 PASSWORD_WRONG");
}

// Whoever has an account -----------------------------------------------------------------------------------------

#[actix_web::test]
async fn somebody_signed_in_accepts_without_a_password() {
    let app = TestApp::new().await;
    let other = known(&app).await;
    let (org, user, token) = invited(&app, &["viewer"]).await;
    let told =
        told(&app, accept(&app, Some("bob"), json!({ "token": token, "displayName": "Robert" }))).await;
    assert_json_snapshot!("accepted_signed_in", told);
    let accepted = app.get("ada", &user).await;
    assert_eq!(accepted["body"]["displayName"], "bob", "his name is his already");
    let mut orgs = column(&app.get("bob", "/v1/orgs").await["body"], "orgId");
    orgs.sort();
    let mut expected = [org.to_string(), other.to_string()];
    expected.sort();
    assert_eq!(orgs, expected);
}

#[actix_web::test]
async fn somebody_with_an_account_accepts_with_his_password() {
    let app = TestApp::new().await;
    known(&app).await;
    let (_, user, token) = invited(&app, &[]).await;
    let body = json!({ "token": token, "password": PASSWORD });
    assert_eq!(brief(&accept(&app, None, body).await), "200");
    assert_eq!(app.get("ada", &user).await["body"]["status"], "active");
    assert_eq!(
        app.rows("SELECT count(*) FROM identities WHERE email = 'bob@example.io'").await,
        json!([{ "count": 1 }])
    );
}

#[actix_web::test]
async fn a_wrong_password_does_not_accept_and_changes_none() {
    let app = TestApp::new().await;
    known(&app).await;
    let (_, user, token) = invited(&app, &[]).await;
    let call = accept(&app, None, json!({ "token": token, "password": OTHER_PASSWORD }));
    assert_json_snapshot!("password_wrong", told(&app, call).await["answer"]);
    assert_eq!(brief(&accept(&app, None, json!({ "token": token })).await), "422 PASSWORD_MISSING password");
    assert_eq!(app.get("ada", &user).await["body"]["status"], "invited");
    assert_eq!(app.sign_in("bob").await["status"], 200, "his password is the old one");
}

#[actix_web::test]
async fn wrong_passwords_are_slowed_down_as_at_the_front_door() {
    let app = TestApp::new().await;
    known(&app).await;
    let (_, _, token) = invited(&app, &[]).await;
    let guess = || accept(&app, None, json!({ "token": token, "password": OTHER_PASSWORD }));
    for _ in 0..6 {
        assert_eq!(brief(&guess().await), "401 PASSWORD_WRONG");
    }
    let slowed = guess().await;
    assert_eq!(
        (brief(&slowed).as_str(), &slowed["headers"]["retry-after"]),
        ("429 TOO_MANY_ATTEMPTS", &json!("1"))
    );
    assert_eq!(app.sign_in("bob").await["status"], 429, "it is one ladder");
    let right = || accept(&app, None, json!({ "token": token, "password": PASSWORD }));
    assert_eq!(brief(&right().await), "429 TOO_MANY_ATTEMPTS", "the right one waits as well");
    assert_eq!(
        brief(&accept(&app, Some("bob"), json!({ "token": token })).await),
        "200",
        "not whoever is signed in"
    );
    app.tick(Duration::from_secs(2)).await;
    assert_eq!(brief(&right().await), "200");
}

#[actix_web::test]
async fn an_invite_is_for_its_address_and_for_nobody_else_who_is_signed_in() {
    let app = TestApp::new().await;
    let (_, user, token) = invited(&app, &[]).await;
    app.person("mallory").await;
    let call = accept(&app, Some("mallory"), json!({ "token": token, "password": PASSWORD }));
    assert_json_snapshot!("for_another", told(&app, call).await);
    assert_eq!(brief(&accept(&app, Some("ada"), json!({ "token": token })).await), "409 INVITE_FOR_ANOTHER");
    assert_eq!(app.get("ada", &user).await["body"]["status"], "invited");
}

#[actix_web::test]
async fn a_credential_that_does_not_hold_is_refused_though_none_is_needed() {
    let app = TestApp::new().await;
    let (_, _, token) = invited(&app, &[]).await;
    app.bearer("garbled", "garbage");
    let body = json!({ "token": token, "password": PASSWORD });
    assert_eq!(brief(&accept(&app, Some("garbled"), body).await), "401 TOKEN_INVALID");
}

#[actix_web::test]
async fn a_key_accepts_for_nobody() {
    let app = TestApp::new().await;
    known(&app).await;
    let (_, _, token) = invited(&app, &[]).await;
    let other = app.get("eve", "/v1/orgs/other/users?email=bob@example.io").await;
    let path = format!("/v1/orgs/other/users/{}/api-keys", other["body"][0]["userId"].as_str().unwrap());
    app.bearer("key", &issue(&app, "eve", &path, Value::Null).await.1);
    assert_eq!(
        brief(&accept(&app, Some("key"), json!({ "token": token })).await),
        "422 PASSWORD_MISSING password",
        "a key is not its person"
    );
}

// Twice ----------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn accepting_again_changes_nothing() {
    let app = TestApp::new().await;
    let (_, user, token) = invited(&app, &[]).await;
    let first = accept_anew(&app, &token).await;
    let before = (app.get("ada", &user).await["body"].clone(), app.rows("SELECT * FROM invite_tokens").await);
    app.tick(100 * HOUR).await;
    let again = told(&app, accept_anew(&app, &token)).await;
    assert_eq!(again["answer"]["body"], first["body"]);
    assert_json_snapshot!("again", again["events"]);
    assert_eq!(
        (app.get("ada", &user).await["body"].clone(), app.rows("SELECT * FROM invite_tokens").await),
        before
    );
}

#[actix_web::test]
async fn what_somebody_accepted_is_not_there_for_another() {
    let app = TestApp::new().await;
    let (_, _, token) = invited(&app, &[]).await;
    accept_anew(&app, &token).await;
    assert_eq!(
        brief(&accept(&app, None, json!({ "token": token, "password": OTHER_PASSWORD })).await),
        "401 PASSWORD_WRONG"
    );
    assert_eq!(
        brief(&accept(&app, Some("mallory"), json!({ "token": token })).await),
        "409 INVITE_FOR_ANOTHER"
    );
}

#[actix_web::test]
async fn two_acceptances_at_once_make_one_person() {
    let app = TestApp::new().await;
    let (_, _, token) = invited(&app, &[]).await;
    let (one, other) = at_once(&app, accept_anew(&app, &token), accept_anew(&app, &token)).await;
    assert_eq!([brief(&one), brief(&other)], ["200", "200"], "a form is sent twice");
    assert_eq!(one["body"], other["body"]);
    assert_eq!(
        app.rows("SELECT count(*) FROM identities WHERE email = 'bob@example.io'").await,
        json!([{ "count": 1 }])
    );
    assert_eq!(brief(&accept_anew(&app, &token).await), "200");
}

#[actix_web::test]
async fn two_who_choose_different_passwords_at_once_do_not_take_each_others_place() {
    let app = TestApp::new().await;
    let (_, _, token) = invited(&app, &[]).await;
    let with = |password: &'static str| accept(&app, None, json!({ "token": token, "password": password }));
    let (one, other) = at_once(&app, with(PASSWORD), with(OTHER_PASSWORD)).await;
    let mut briefs = [brief(&one), brief(&other)];
    briefs.sort();
    assert_eq!(briefs, ["200", "401 PASSWORD_WRONG"]);
    assert_eq!(
        app.sign_in("bob").await["status"] == 200,
        one["status"] == 200,
        "who was first has the account"
    );
}

#[actix_web::test]
async fn an_invite_taken_back_while_it_is_accepted_is_one_or_the_other() {
    let app = TestApp::new().await;
    let (_, user, token) = invited(&app, &[]).await;
    let path = format!("{INVITES}/{}", user.rsplit('/').next().unwrap());
    let (revoked, accepted) = at_once(&app, app.delete("ada", &path), accept_anew(&app, &token)).await;
    let status = app.get("ada", &user).await["body"]["status"].clone();
    match brief(&accepted).as_str() {
        "200" => {
            assert_eq!((brief(&revoked).as_str(), status), ("409 USER_STATUS_CONFLICT", json!("active")));
        }
        other => assert_eq!(
            (other, brief(&revoked).as_str(), status),
            ("404 INVITE_UNKNOWN", "204", json!("deleted"))
        ),
    }
}

// Too late -------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn an_invite_is_over_when_its_time_is() {
    let app = TestApp::new().await;
    let (_, user, token) = invited(&app, &[]).await;
    app.tick(72 * HOUR).await;
    assert_json_snapshot!("expired", told(&app, accept_anew(&app, &token)).await);
    assert_eq!(app.get("ada", &user).await["body"]["status"], "invited");
    assert_eq!(
        app.rows("SELECT count(*) FROM passwords").await,
        json!([{ "count": 0 }]),
        "nobody became known"
    );
    assert_eq!(
        app.rows("SELECT count(*) FROM identities WHERE email = 'bob@example.io'").await,
        json!([{ "count": 0 }])
    );
}

#[actix_web::test]
async fn an_invite_holds_until_the_last_second() {
    let app = TestApp::new().await;
    let (_, _, token) = invited(&app, &[]).await;
    app.tick((72 * HOUR).checked_sub(Duration::from_secs(1)).unwrap()).await;
    assert_eq!(brief(&accept_anew(&app, &token).await), "200");
}

#[actix_web::test]
async fn an_invite_of_somebody_who_was_stopped_is_unknown() {
    let app = TestApp::new().await;
    let (_, user, token) = invited(&app, &[]).await;
    app.post("ada", &format!("{user}/suspend"), Value::Null).await;
    assert_eq!(brief(&accept_anew(&app, &token).await), "404 INVITE_UNKNOWN");
    app.post("ada", &format!("{user}/restore"), Value::Null).await;
    assert_eq!(brief(&accept_anew(&app, &token).await), "200");
}

#[actix_web::test]
async fn an_invite_is_void_once_its_sender_lost_the_right_to_it() {
    let app = TestApp::new().await;
    let org = app.org("ada", "acme").await;
    let carol = app.member(org, "carol", Role::Admin).await;
    let (user, token) = invite(&app, "carol", &["auditor"]).await;
    let roles = format!("/v1/orgs/acme/users/{carol}/roles");
    app.put("ada", &roles, json!({ "roles": ["manager"] })).await;
    assert_json_snapshot!("withdrawn", told(&app, accept_anew(&app, &token)).await);
    assert_eq!(app.get("ada", &user).await["body"]["status"], "invited");
    app.put("ada", &roles, json!({ "roles": ["admin"] })).await;
    assert_eq!(brief(&accept_anew(&app, &token).await), "200", "and good once he has it again");
}

#[actix_web::test]
async fn an_invite_of_somebody_suspended_or_removed_is_void() {
    let app = TestApp::new().await;
    let org = app.org("ada", "acme").await;
    let carol = app.member(org, "carol", Role::Admin).await;
    let (_, token) = invite(&app, "carol", &[]).await;
    let path = format!("/v1/orgs/acme/users/{carol}");
    app.post("ada", &format!("{path}/suspend"), Value::Null).await;
    assert_eq!(brief(&accept_anew(&app, &token).await), "409 INVITE_WITHDRAWN");
    app.delete("ada", &path).await;
    assert_eq!(brief(&accept_anew(&app, &token).await), "409 INVITE_WITHDRAWN");
}

#[actix_web::test]
async fn an_invite_whose_roles_were_raised_by_another_is_still_its_senders() {
    let app = TestApp::new().await;
    let org = app.org("ada", "acme").await;
    app.member(org, "carol", Role::Admin).await;
    let (user, token) = invite(&app, "carol", &[]).await;
    app.put("ada", &format!("{user}/roles"), json!({ "roles": ["owner"] })).await;
    assert_eq!(brief(&accept_anew(&app, &token).await), "409 INVITE_WITHDRAWN");
    let resend = format!("{INVITES}/{}/resend", user.rsplit('/').next().unwrap());
    assert_eq!(brief(&app.post("ada", &resend, Value::Null).await), "202");
    assert_eq!(brief(&accept_anew(&app, &app.invite_token().await).await), "200", "sent again by who may");
}

#[actix_web::test]
async fn an_invite_that_a_key_sent_is_void_once_the_key_is_revoked() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    let users = app.get("ada", "/v1/orgs/acme/users").await;
    let path = format!("/v1/orgs/acme/users/{}/api-keys", users["body"][0]["userId"].as_str().unwrap());
    let (key, secret) = issue(&app, "ada", &path, json!({ "scopes": ["users:*", "orgs:*"] })).await;
    app.bearer("key", &secret);
    let answer =
        app.post("key", INVITES, json!({ "email": "bob@example.io", "roles": ["billing-admin"] })).await;
    assert_eq!(brief(&answer), "403 ROLE_EXCEEDS_OWN grants.roles");
    let body = json!({ "scopes": ["users:*", "orgs:*", "budgets:*", "models:read", "inference"] });
    app.patch("ada", &format!("/v1/orgs/acme/api-keys/{key}"), body).await;
    let (_, token) = invite(&app, "key", &["member"]).await;
    app.delete("ada", &format!("/v1/orgs/acme/api-keys/{key}")).await;
    assert_eq!(brief(&accept_anew(&app, &token).await), "409 INVITE_WITHDRAWN");
}

#[actix_web::test]
async fn an_org_that_was_suspended_meanwhile_takes_nobody() {
    let app = TestApp::new().await;
    let root = root(&app).await;
    let (_, _, token) = invited(&app, &[]).await;
    let because = json!({ "reason": "unpaid" });
    app.post("ada", "/v1/orgs/acme/suspend", because.clone()).await;
    assert_json_snapshot!("org_suspended", told(&app, accept_anew(&app, &token)).await);
    assert_eq!(app.rows("SELECT count(*) FROM passwords").await, json!([{ "count": 0 }]));
    app.post(root, "/v1/orgs/acme/restore", because).await;
    assert_eq!(brief(&accept_anew(&app, &token).await), "200");
}

#[actix_web::test]
async fn an_org_that_was_deleted_meanwhile_takes_nobody() {
    let app = TestApp::new().await;
    let root = root(&app).await;
    let (_, user, token) = invited(&app, &[]).await;
    app.delete("ada", "/v1/orgs/acme").await;
    assert_eq!(brief(&accept_anew(&app, &token).await), "409 ORG_NOT_ACTIVE");
    let resend = format!("{INVITES}/{}/resend", user.rsplit('/').next().unwrap());
    assert_eq!(brief(&app.post(root, &resend, Value::Null).await), "202");
    let token = app.invite_token().await;
    assert_eq!(brief(&accept_anew(&app, &token).await), "409 ORG_NOT_ACTIVE", "whoever invited him");
}

// The page -------------------------------------------------------------------------------------------------------

async fn page(app: &TestApp, form: &[(&str, &str)], origin: &str) -> Value {
    let request = TestRequest::post().uri("/invite").insert_header(("origin", origin));
    app.send(request.set_form(form), Listener::Http).await
}

const HERE: &str = "http://127.0.0.1:8080";

#[actix_web::test]
async fn the_page_of_an_invite_accepts_nothing_by_being_opened() {
    let app = TestApp::new().await;
    let (_, user, token) = invited(&app, &[]).await;
    assert_json_snapshot!("page", told(&app, app.call(Method::GET, None, "/invite", Value::Null)).await);
    app.call(Method::GET, None, &format!("/invite?token={token}"), Value::Null).await;
    assert_eq!(app.get("ada", &user).await["body"]["status"], "invited", "a mail scanner opens it too");
    assert_eq!(app.call(Method::GET, None, "/assets/invite.js", Value::Null).await["status"], 200);
}

#[actix_web::test]
async fn the_form_of_the_page_accepts() {
    let app = TestApp::new().await;
    let (_, user, token) = invited(&app, &[]).await;
    let form = [("token", token.as_str()), ("password", PASSWORD), ("name", "Bob")];
    let answer = page(&app, &form, HERE).await;
    assert_eq!(answer["status"], 200, "{answer}");
    assert!(answer["body"].as_str().unwrap().contains("You are in, as bob@example.io."), "{answer}");
    let accepted = app.get("ada", &user).await;
    assert_eq!(
        (&accepted["body"]["status"], &accepted["body"]["displayName"]),
        (&json!("active"), &json!("Bob"))
    );
}

#[actix_web::test]
async fn the_form_says_what_is_wrong_and_keeps_what_was_typed() {
    let app = TestApp::new().await;
    let (_, user, token) = invited(&app, &[]).await;
    let form = [("token", token.as_str()), ("password", "short"), ("name", "<b>Bob</b>")];
    let answer = page(&app, &form, HERE).await;
    let html = answer["body"].as_str().unwrap();
    assert_eq!(answer["status"], 422);
    assert!(html.contains("at least 15 characters") && html.contains(&token), "{html}");
    assert!(html.contains("&#60;b&#62;Bob") && !html.contains("<b>") && !html.contains("short"), "{html}");
    assert_eq!(page(&app, &[("password", PASSWORD)], HERE).await["status"], 404);
    assert_eq!(app.get("ada", &user).await["body"]["status"], "invited");
}

#[actix_web::test]
async fn the_form_is_not_taken_from_another_site() {
    let app = TestApp::new().await;
    let (_, user, token) = invited(&app, &[]).await;
    let form = [("token", token.as_str()), ("password", PASSWORD)];
    for elsewhere in ["https://evil.example", "null", "http://127.0.0.1:9999"] {
        assert_eq!(page(&app, &form, elsewhere).await["status"], 403, "{elsewhere}");
    }
    assert_eq!(app.get("ada", &user).await["body"]["status"], "invited");
}
