//! Members of an org: reading, changing, suspending, restoring, removing.
use crate::{
    app::{self, TestApp},
    contexts_support::{
        NOBODY, ask, at_once, both, brief, call_with, check, column, issue, metadata_at_the_limit, pages,
        root, told,
    },
    support::purge,
};
use actix_web::{http::Method, test::TestRequest};
use identityd::{
    app::Listener,
    authorization::{PlatformRole, Role},
};
use insta::assert_json_snapshot;
use serde_json::{Value, json};
use std::time::Duration;

const DAY: Duration = Duration::from_hours(24);

/// An org of ada's with bob in it, and the path of bob.
async fn acme_with_bob(app: &TestApp, role: Role) -> String {
    let org = app.org("ada", "acme").await;
    app.clock.tick(Duration::from_millis(2));
    let bob = app.member(org, "bob", role).await;
    format!("/v1/orgs/acme/users/{bob}")
}

/// The path of the owner.
async fn ada_of(app: &TestApp) -> String {
    let users = app.get("ada", "/v1/orgs/acme/users?email=ada@example.io").await;
    format!("/v1/orgs/acme/users/{}", users["body"][0]["userId"].as_str().unwrap())
}

async fn status_of(app: &TestApp, path: &str) -> String {
    app.get("ada", path).await["body"]["status"].as_str().unwrap().to_owned()
}

// Reading --------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_member_is_read() {
    let app = TestApp::new().await;
    let bob = acme_with_bob(&app, Role::Manager).await;
    assert_json_snapshot!("read", told(&app, app.get("ada", &bob)).await);
}

#[actix_web::test]
async fn a_member_goes_by_the_id_of_the_membership_or_of_the_person() {
    let app = TestApp::new().await;
    let bob = acme_with_bob(&app, Role::Member).await;
    let person = app.person("bob").await;
    let by_person = format!("/v1/orgs/acme/users/{person}");
    assert_eq!(app.get("ada", &by_person).await["body"], app.get("ada", &bob).await["body"]);
    assert_eq!(brief(&app.patch("ada", &by_person, json!({ "displayName": "Bob" })).await), "200");
    assert_eq!(brief(&app.put("ada", &format!("{by_person}/roles"), json!({ "roles": [] })).await), "200");
    assert_eq!(brief(&app.post("ada", &format!("{by_person}/suspend"), Value::Null).await), "200");
    assert_eq!(brief(&app.post("ada", &format!("{by_person}/restore"), Value::Null).await), "200");
    assert_eq!(brief(&app.post("ada", &format!("{by_person}/api-keys"), Value::Null).await), "201");
    assert_eq!(brief(&app.delete("ada", &by_person).await), "204");
    assert_eq!(status_of(&app, &bob).await, "deleted");
}

#[actix_web::test]
async fn the_members_of_an_org_are_listed() {
    let app = TestApp::new().await;
    acme_with_bob(&app, Role::Auditor).await;
    let other = app.org("eve", "other").await;
    app.member(other, "mallory", Role::Member).await;
    assert_json_snapshot!("listed", told(&app, app.get("bob", "/v1/orgs/acme/users")).await);
}

#[actix_web::test]
async fn members_are_found_by_address_state_and_text() {
    let app = TestApp::new().await;
    let bob = acme_with_bob(&app, Role::Member).await;
    app.clock.tick(Duration::from_millis(2));
    app.post("ada", "/v1/orgs/acme/invites", json!({ "email": "carol_c@example.io" })).await;
    app.patch("ada", &bob, json!({ "displayName": "Robert 100%" })).await;
    let found = async |query: &str| {
        column(&app.get("ada", &format!("/v1/orgs/acme/users?{query}")).await["body"], "email")
    };
    assert_eq!(found("").await, ["ada@example.io", "bob@example.io", "carol_c@example.io"]);
    assert_eq!(found("email=BOB@example.io").await, ["bob@example.io"]);
    assert_eq!(found("status=invited").await, ["carol_c@example.io"]);
    assert_eq!(found("q=robert").await, ["bob@example.io"]);
    assert_eq!(found("q=carol_C@").await, ["carol_c@example.io"]);
    assert_eq!(found("q=_").await, ["carol_c@example.io"], "an underscore is an underscore");
    assert_eq!(found("q=0%25").await, ["bob@example.io"], "a percent sign is a percent sign");
    assert_eq!(found("q=%5C").await, [""; 0]);
    app.delete("ada", &bob).await;
    assert_eq!(found("").await, ["ada@example.io", "carol_c@example.io"], "the deleted are left out");
    assert_eq!(found("status=deleted").await, ["bob@example.io"], "unless they are asked for");
}

#[actix_web::test]
async fn a_list_of_members_goes_on_to_its_end() {
    let app = TestApp::new().await;
    let org = app.org("ada", "acme").await;
    for name in ["bob", "carol", "dave"] {
        app.clock.tick(Duration::from_millis(2));
        app.member(org, name, Role::Member).await;
    }
    let pages = pages(&app, "ada", "/v1/orgs/acme/users?limit=3&status=active").await;
    let emails: Vec<Vec<String>> = pages.iter().map(|page| column(&json!(page), "email")).collect();
    assert_eq!(
        emails,
        [vec!["ada@example.io", "bob@example.io", "carol@example.io"], vec!["dave@example.io"]]
    );
}

#[actix_web::test]
async fn a_query_that_makes_no_sense_is_refused() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    for (query, refusal) in [
        ("limit=0", "422 LIMIT_INVALID limit"),
        ("cursor=x", "422 CURSOR_INVALID cursor"),
        ("email=nobody", "200"),
        ("status=gone", "422 STATUS_INVALID status"),
        ("email=&status=&q=&cursor=", "200"),
    ] {
        assert_eq!(brief(&app.get("ada", &format!("/v1/orgs/acme/users?{query}")).await), refusal, "{query}");
    }
}

// Changing -------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_change_applies_all_that_is_sent() {
    let app = TestApp::new().await;
    let bob = acme_with_bob(&app, Role::Member).await;
    app.clock.tick(Duration::from_secs(1));
    let body = json!({
        "displayName": " Bob ", "status": "suspended", "metadata": { "team": "blue" },
        "email": "other@example.io", "roles": ["owner"],
    });
    assert_json_snapshot!("changed", told(&app, app.patch("ada", &bob, body)).await);
}

#[actix_web::test]
async fn what_is_not_sent_stays() {
    let app = TestApp::new().await;
    let bob = acme_with_bob(&app, Role::Member).await;
    let body = json!({ "displayName": "Bob", "metadata": { "a": 1 } });
    let mut before = app.patch("ada", &bob, body).await["body"].clone();
    assert_eq!(app.patch("ada", &bob, json!({})).await["body"], before);
    before["metadata"] = json!({ "b": 2 });
    let body = json!({ "metadata": { "b": 2 }, "displayName": null, "status": null });
    assert_eq!(app.patch("ada", &bob, body).await["body"], before, "metadata is replaced whole");
}

#[actix_web::test]
async fn what_cannot_be_parsed_is_refused_by_name() {
    let app = TestApp::new().await;
    let bob = acme_with_bob(&app, Role::Member).await;
    let [good, large] = metadata_at_the_limit();
    for (body, refusal) in [
        (json!({ "displayName": "é".repeat(200) }), "200"),
        (json!({ "displayName": "x".repeat(201) }), "422 NAME_INVALID displayName"),
        (json!({ "displayName": "" }), "422 NAME_INVALID displayName"),
        (json!({ "displayName": "a\tb" }), "422 NAME_INVALID displayName"),
        (json!({ "displayName": ["Bob"] }), "422 INVALID_BODY displayName"),
        (json!({ "metadata": good }), "200"),
        (json!({ "metadata": large }), "422 METADATA_INVALID metadata"),
        (json!({ "metadata": "x" }), "422 METADATA_INVALID metadata"),
        (json!({ "status": "invited" }), "422 STATUS_INVALID status"),
        (json!({ "status": "deleted" }), "422 STATUS_INVALID status"),
        (json!({ "status": "Active" }), "422 STATUS_INVALID status"),
        (Value::Null, "400 BODY_MISSING"),
    ] {
        assert_eq!(brief(&app.patch("ada", &bob, body.clone()).await), refusal, "{body}");
    }
}

#[actix_web::test]
async fn an_invited_member_is_made_active_by_a_change_but_not_invited_again() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    let invited = app.post("ada", "/v1/orgs/acme/invites", json!({ "email": "bob@example.io" })).await;
    let bob = format!("/v1/orgs/acme/users/{}", invited["body"]["userId"].as_str().unwrap());
    let set = async |status: &str| brief(&app.patch("ada", &bob, json!({ "status": status })).await);
    assert_eq!(set("invited").await, "200", "which is no change");
    assert_eq!(set("active").await, "200");
    assert_eq!(set("invited").await, "422 STATUS_INVALID status");
}

#[actix_web::test]
async fn a_deleted_member_takes_no_change_of_status() {
    let app = TestApp::new().await;
    let bob = acme_with_bob(&app, Role::Member).await;
    app.delete("ada", &bob).await;
    for status in ["active", "suspended", "deleted"] {
        let answer = app.patch("ada", &bob, json!({ "status": status })).await;
        assert_eq!(brief(&answer), "409 USER_STATUS_CONFLICT", "{status}");
    }
    assert_eq!(
        brief(&app.post("ada", &format!("{bob}/suspend"), Value::Null).await),
        "409 USER_STATUS_CONFLICT"
    );
}

#[actix_web::test]
async fn a_status_set_by_patch_needs_the_right_to_it() {
    let app = TestApp::new().await;
    let bob = acme_with_bob(&app, Role::Member).await;
    let ada = ada_of(&app).await;
    let scopes = json!({ "scopes": ["users:update"] });
    app.bearer("key", &issue(&app, "ada", &format!("{ada}/api-keys"), scopes).await.1);
    let set = async |status: &str| brief(&app.patch("key", &bob, json!({ "status": status })).await);
    assert_eq!(set("active").await, "200", "which is no change");
    assert_eq!(set("suspended").await, "403 SCOPE_EXCEEDED scope.ceiling");
    app.post("ada", &format!("{bob}/suspend"), Value::Null).await;
    assert_eq!(set("active").await, "403 ROLE_EXCEEDS_OWN grants.roles scope.ceiling");
}

#[actix_web::test]
async fn a_process_that_is_behind_does_not_lift_a_suspension_it_has_not_seen() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    let invited = app.post("ada", "/v1/orgs/acme/invites", json!({ "email": "bob@example.io" })).await;
    let bob = format!("/v1/orgs/acme/users/{}", invited["body"]["userId"].as_str().unwrap());
    let ada = ada_of(&app).await;
    let scopes = json!({ "scopes": ["users:update"] });
    let (_, secret) = issue(&app, "ada", &format!("{ada}/api-keys"), scopes).await;
    let behind = app.replica(&[]).await;
    assert_eq!(brief(&app.post("ada", &format!("{bob}/suspend"), Value::Null).await), "200");
    let request = TestRequest::patch().uri(&bob).insert_header(("x-api-key", secret));
    let request = request.set_json(json!({ "status": "active" }));
    let answer = app::send(&behind, request, Listener::Http).await;
    assert_eq!(brief(&answer), "409 USER_STATUS_CONFLICT", "activating an invited member is another right");
    assert_eq!(status_of(&app, &bob).await, "suspended");
}

// Suspending and restoring ---------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_member_is_suspended() {
    let app = TestApp::new().await;
    let bob = acme_with_bob(&app, Role::Admin).await;
    let path = format!("{bob}/suspend");
    let call = app.post("ada", &path, json!({ "reason": "left the team" }));
    assert_json_snapshot!("suspended", told(&app, call).await);
}

#[actix_web::test]
async fn a_suspended_member_is_restored() {
    let app = TestApp::new().await;
    let bob = acme_with_bob(&app, Role::Admin).await;
    app.post("ada", &format!("{bob}/suspend"), Value::Null).await;
    let path = format!("{bob}/restore");
    let call = app.post("ada", &path, json!({ "reason": "came back" }));
    assert_json_snapshot!("restored", told(&app, call).await);
}

#[actix_web::test]
async fn nobody_brings_back_a_member_whose_roles_he_could_not_give() {
    let app = TestApp::new().await;
    let org = app.org("ada", "acme").await;
    let carol = app.member(org, "carol", Role::Admin).await;
    app.member(org, "mia", Role::Manager).await;
    let user = format!("/v1/orgs/acme/users/{carol}");
    for (method, end) in [(Method::DELETE, user.clone()), (Method::POST, format!("{user}/suspend"))] {
        let ended = app.call(method, Some("ada"), &end, Value::Null).await;
        assert!(matches!(ended["status"].as_u64(), Some(200 | 204)), "{ended}");
        let restored = app.post("mia", &format!("{user}/restore"), json!({})).await;
        assert_eq!(restored["body"]["code"], "ROLE_EXCEEDS_OWN", "{restored}");
        let patched = app.patch("mia", &user, json!({ "status": "active" })).await;
        assert!(patched["status"].as_u64().unwrap() >= 400, "{patched}");
        assert_eq!(app.post("ada", &format!("{user}/restore"), json!({})).await["status"], 200);
    }
}

#[actix_web::test]
async fn a_suspended_member_can_do_nothing_until_he_is_restored() {
    let app = TestApp::new().await;
    let bob = acme_with_bob(&app, Role::Admin).await;
    app.post("ada", &format!("{bob}/suspend"), Value::Null).await;
    for path in ["", "/users", "/roles", "/api-keys"] {
        let answer = app.get("bob", &format!("/v1/orgs/acme{path}")).await;
        assert_eq!(brief(&answer), "403 NO_MATCHING_PERMIT", "{path}");
    }
    assert_eq!(app.get("bob", "/v1/orgs").await["body"], json!([]));
    app.post("ada", &format!("{bob}/restore"), Value::Null).await;
    assert_eq!(brief(&app.get("bob", "/v1/orgs/acme/users").await), "200");
}

#[actix_web::test]
async fn an_invited_member_suspended_twice_is_restored_as_invited() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    let suspend = (Method::POST, "/suspend", Value::Null);
    let patch = (Method::PATCH, "", json!({ "status": "suspended" }));
    for (n, ways) in [[&suspend, &suspend], [&patch, &patch], [&suspend, &patch]].into_iter().enumerate() {
        let body = json!({ "email": format!("bob{n}@example.io") });
        let invited = app.post("ada", "/v1/orgs/acme/invites", body).await;
        let bob = format!("/v1/orgs/acme/users/{}", invited["body"]["userId"].as_str().unwrap());
        for (method, path, body) in ways {
            assert_eq!(ask(&app, "ada", method, &format!("{bob}{path}"), body).await, "200");
        }
        app.post("ada", &format!("{bob}/restore"), Value::Null).await;
        assert_eq!(status_of(&app, &bob).await, "invited", "{n}");
    }
}

#[actix_web::test]
async fn whoever_never_came_is_not_active_after_suspension_deletion_and_two_restorations() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    let invited = app.post("ada", "/v1/orgs/acme/invites", json!({ "email": "bob@example.io" })).await;
    let bob = format!("/v1/orgs/acme/users/{}", invited["body"]["userId"].as_str().unwrap());
    app.post("ada", &format!("{bob}/suspend"), Value::Null).await;
    app.delete("ada", &bob).await;
    app.post("ada", &format!("{bob}/restore"), Value::Null).await;
    assert_eq!(status_of(&app, &bob).await, "suspended");
    app.post("ada", &format!("{bob}/restore"), Value::Null).await;
    assert_eq!(status_of(&app, &bob).await, "invited");
}

#[actix_web::test]
async fn restoring_whoever_is_active_changes_nothing_but_the_log() {
    let app = TestApp::new().await;
    let bob = acme_with_bob(&app, Role::Member).await;
    let before = app.get("ada", &bob).await["body"].clone();
    let told = told(&app, app.post("ada", &format!("{bob}/restore"), Value::Null)).await;
    assert_eq!(told["answer"]["body"], before);
    assert_eq!(told["events"].as_array().unwrap().len(), 1);
}

#[actix_web::test]
async fn a_reason_may_be_left_out_but_not_be_empty_or_long() {
    let app = TestApp::new().await;
    let bob = acme_with_bob(&app, Role::Member).await;
    for (body, refusal) in [
        (Value::Null, "200"),
        (json!({}), "200"),
        (json!({ "reason": null }), "200"),
        (json!({ "reason": "x".repeat(500) }), "200"),
        (json!({ "reason": "x".repeat(501) }), "422 REASON_INVALID reason"),
        (json!({ "reason": "" }), "422 REASON_INVALID reason"),
        (json!({ "reason": "two\nlines" }), "422 REASON_INVALID reason"),
    ] {
        for verb in ["suspend", "restore"] {
            let path = format!("{bob}/{verb}");
            assert_eq!(brief(&app.post("ada", &path, body.clone()).await), refusal, "{verb} {body}");
        }
    }
}

#[actix_web::test]
async fn an_empty_body_with_a_content_type_is_a_body_left_out() {
    let app = TestApp::new().await;
    let bob = acme_with_bob(&app, Role::Member).await;
    let header = ("content-type", "application/json");
    let path = format!("{bob}/suspend");
    assert_eq!(brief(&call_with(&app, "ada", Method::POST, &path, Value::Null, header).await), "200");
}

// Removing -------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_member_is_removed() {
    let app = TestApp::new().await;
    let bob = acme_with_bob(&app, Role::Member).await;
    assert_json_snapshot!("removed", told(&app, app.delete("ada", &bob)).await);
    assert_json_snapshot!("removed_member", app.get("ada", &bob).await);
    assert_eq!(
        brief(&app.get("bob", "/v1/orgs/acme").await),
        "404 NOT_FOUND",
        "and knows of the org no more"
    );
}

#[actix_web::test]
async fn removing_a_member_again_changes_nothing() {
    let app = TestApp::new().await;
    let bob = acme_with_bob(&app, Role::Member).await;
    app.delete("ada", &bob).await;
    let before = app.get("ada", &bob).await;
    app.tick(DAY).await;
    let told = told(&app, app.delete("ada", &bob)).await;
    assert_eq!(
        (&told["answer"]["status"], &told["events"][0]["body"]),
        (&json!(204), &json!({ "again": true }))
    );
    let after = app.get("ada", &bob).await;
    assert_eq!((&after["body"], &after["headers"]["etag"]), (&before["body"], &before["headers"]["etag"]));
    let stale = call_with(&app, "ada", Method::DELETE, &bob, Value::Null, ("if-match", "\"1\"")).await;
    assert_eq!(brief(&stale), "204", "whoever removes him again need not know the version");
}

#[actix_web::test]
async fn a_removed_member_is_restored_as_he_was() {
    let app = TestApp::new().await;
    let bob = acme_with_bob(&app, Role::Manager).await;
    for before in ["active", "suspended"] {
        app.patch("ada", &bob, json!({ "status": before })).await;
        let was = app.get("ada", &bob).await["body"].clone();
        app.delete("ada", &bob).await;
        let restored = app.post("ada", &format!("{bob}/restore"), Value::Null).await;
        assert_eq!(restored["body"], was, "{before}");
    }
}

#[actix_web::test]
async fn whoever_was_invited_anew_meanwhile_is_not_restored() {
    let app = TestApp::new().await;
    let bob = acme_with_bob(&app, Role::Member).await;
    app.delete("ada", &bob).await;
    let anew = app.post("ada", "/v1/orgs/acme/invites", json!({ "email": "bob@example.io" })).await;
    assert_eq!(brief(&anew), "202");
    assert!(!bob.ends_with(anew["body"]["userId"].as_str().unwrap()), "it is another membership");
    assert_eq!(brief(&app.post("ada", &format!("{bob}/restore"), Value::Null).await), "409 EMAIL_KNOWN");
    assert_eq!(status_of(&app, &bob).await, "deleted");
}

#[actix_web::test]
async fn a_removed_member_is_gone_for_good_when_his_time_is_over() {
    let app = TestApp::new().await;
    let bob = acme_with_bob(&app, Role::Member).await;
    let (key, secret) = issue(&app, "ada", &format!("{bob}/api-keys"), Value::Null).await;
    app.delete("ada", &bob).await;
    app.tick((30 * DAY).checked_sub(Duration::from_secs(1)).unwrap()).await;
    assert_eq!(purge(&app).await, 0);
    assert_eq!(check(&app, &secret).await["status"], "principal_inactive");
    app.tick(Duration::from_secs(1)).await;
    assert_eq!(purge(&app).await, 1);
    assert_eq!(brief(&app.post("ada", &format!("{bob}/restore"), Value::Null).await), "404 NOT_FOUND");
    assert_eq!(brief(&app.get("ada", &format!("/v1/orgs/acme/api-keys/{key}")).await), "404 NOT_FOUND");
    assert_eq!(check(&app, &secret).await["code"], "KEY_UNKNOWN");
}

// Owners ---------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn the_last_active_owner_stays() {
    let app = TestApp::new().await;
    let root = root(&app).await;
    let bob = acme_with_bob(&app, Role::Owner).await;
    let ada = ada_of(&app).await;
    app.post("ada", &format!("{bob}/suspend"), Value::Null).await;
    for (method, path, body) in [
        (Method::DELETE, "", Value::Null),
        (Method::POST, "/suspend", Value::Null),
        (Method::PATCH, "", json!({ "status": "suspended" })),
        (Method::PUT, "/roles", json!({ "roles": ["admin"] })),
    ] {
        for caller in ["ada", root] {
            let answer = ask(&app, caller, &method, &format!("{ada}{path}"), &body).await;
            assert_eq!(answer, "409 LAST_OWNER", "{caller} {method} {path}");
        }
    }
    assert_eq!(status_of(&app, &ada).await, "active");
    app.post("ada", &format!("{bob}/restore"), Value::Null).await;
    assert_eq!(brief(&app.delete("ada", &ada).await), "204", "once there is another he may go");
}

#[actix_web::test]
async fn of_two_owners_removed_at_once_one_stays() {
    let app = TestApp::new().await;
    let root = root(&app).await;
    let bob = acme_with_bob(&app, Role::Owner).await;
    let ada = ada_of(&app).await;
    let answers = at_once(&app, app.delete(root, &ada), app.delete(root, &bob)).await;
    assert_eq!(both(answers), ["204", "409 LAST_OWNER"]);
    let active = "SELECT count(*) FROM memberships JOIN role_bindings USING (user_id)
        WHERE role = 'owner' AND status = 'active'";
    assert_eq!(app.rows(active).await, json!([{ "count": 1 }]));
}

#[actix_web::test]
async fn of_two_owners_who_go_in_different_ways_at_once_one_stays() {
    let app = TestApp::new().await;
    let root = root(&app).await;
    let bob = acme_with_bob(&app, Role::Owner).await;
    let ada = ada_of(&app).await;
    let (suspend, roles) = (format!("{ada}/suspend"), format!("{bob}/roles"));
    let answers =
        at_once(&app, app.post(root, &suspend, Value::Null), app.put(root, &roles, json!({ "roles": [] })))
            .await;
    assert_eq!(both(answers), ["200", "409 LAST_OWNER"]);
}

#[actix_web::test]
async fn an_owner_is_touched_by_owners_only() {
    let app = TestApp::new().await;
    let org = app.org("ada", "acme").await;
    let owner = app.member(org, "bob", Role::Owner).await;
    app.member(org, "carol", Role::Admin).await;
    app.member(org, "dave", Role::Manager).await;
    let bob = format!("/v1/orgs/acme/users/{owner}");
    for (method, path, body) in [
        (Method::POST, "/suspend", Value::Null),
        (Method::POST, "/restore", Value::Null),
        (Method::PUT, "/roles", json!({ "roles": ["owner", "viewer"] })),
        (Method::PATCH, "", json!({ "status": "suspended" })),
    ] {
        for caller in ["carol", "dave"] {
            let answer = ask(&app, caller, &method, &format!("{bob}{path}"), &body).await;
            let why = match path {
                "/restore" => "403 ROLE_EXCEEDS_OWN grants.roles",
                _ => "403 OWNER_PROTECTED owner.protected",
            };
            let told = answer.starts_with(why) && answer.ends_with("owner.protected");
            assert!(told, "{caller} {method} {path}: {answer}");
        }
    }
    assert_eq!(brief(&app.delete("carol", &bob).await), "403 OWNER_PROTECTED owner.protected");
    assert_eq!(brief(&app.patch("carol", &bob, json!({ "displayName": "Bob" })).await), "200");
}

// Two at once ----------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn of_two_administrators_at_once_one_is_told_to_read_again() {
    let app = TestApp::new().await;
    let bob = acme_with_bob(&app, Role::Admin).await;
    let ada = ada_of(&app).await;
    let tag = app.get("bob", &ada).await["headers"]["etag"].as_str().unwrap().to_owned();
    let patch = |caller| {
        let body = json!({ "displayName": format!("By {caller}") });
        call_with(&app, caller, Method::PATCH, &ada, body, ("if-match", &tag))
    };
    assert_eq!(both(at_once(&app, patch("ada"), patch("bob")).await), ["200", "412 VERSION_MISMATCH"]);
    assert_eq!(app.get("bob", &ada).await["headers"]["etag"], "\"2\"");
    let stale = call_with(&app, "ada", Method::DELETE, &bob, Value::Null, ("if-match", "\"9\"")).await;
    assert_eq!(brief(&stale), "412 VERSION_MISMATCH");
}

#[actix_web::test]
async fn without_if_match_two_changes_at_once_both_happen() {
    let app = TestApp::new().await;
    let bob = acme_with_bob(&app, Role::Member).await;
    let (one, other) = at_once(
        &app,
        app.patch("ada", &bob, json!({ "displayName": "Bob" })),
        app.patch("ada", &bob, json!({ "metadata": { "a": 1 } })),
    )
    .await;
    assert_eq!(both((one, other)), ["200", "200"]);
    let now = app.get("ada", &bob).await;
    assert_eq!(
        (&now["body"]["displayName"], &now["body"]["metadata"], &now["headers"]["etag"]),
        (&json!("Bob"), &json!({ "a": 1 }), &json!("\"3\""))
    );
}

#[actix_web::test]
async fn a_suspension_sent_twice_under_one_key_happens_once() {
    let app = TestApp::new().await;
    let bob = acme_with_bob(&app, Role::Member).await;
    let path = format!("{bob}/suspend");
    let send = || call_with(&app, "ada", Method::POST, &path, Value::Null, ("idempotency-key", "k"));
    let first = send().await;
    app.post("ada", &format!("{bob}/restore"), Value::Null).await;
    let again = told(&app, send()).await;
    assert_eq!((&again["answer"]["body"], &again["events"]), (&first["body"], &json!([])));
    assert_eq!(status_of(&app, &bob).await, "active", "what was restored since stays so");
}

// Who may --------------------------------------------------------------------------------------------------------

fn calls() -> Vec<(Method, &'static str, Value)> {
    vec![
        (Method::GET, "", Value::Null),
        (Method::PATCH, "", json!({ "displayName": "x" })),
        (Method::DELETE, "", Value::Null),
        (Method::PUT, "/roles", json!({ "roles": ["viewer"] })),
        (Method::POST, "/suspend", Value::Null),
        (Method::POST, "/restore", Value::Null),
        (Method::POST, "/api-keys", Value::Null),
    ]
}

#[actix_web::test]
async fn whoever_may_not_is_told_so() {
    let app = TestApp::new().await;
    let bob = acme_with_bob(&app, Role::Member).await;
    let org = app.get("ada", "/v1/orgs/acme").await;
    app.member(app::id(&org["body"]["orgId"]), "ann", Role::Analyst).await;
    for (method, path, body) in calls() {
        let answer = ask(&app, "ann", &method, &format!("{bob}{path}"), &body).await;
        let expected = match path {
            "/roles" | "/restore" => "403 ROLE_EXCEEDS_OWN grants.roles",
            _ => "403 NO_MATCHING_PERMIT",
        };
        assert_eq!(answer, expected, "{method} {path}");
    }
    assert_eq!(brief(&app.get("ann", "/v1/orgs/acme/users").await), "403 NO_MATCHING_PERMIT");
    assert_json_snapshot!("denied", told(&app, app.delete("ann", &bob)).await);
}

#[actix_web::test]
async fn what_is_not_there_and_what_is_anothers_look_alike() {
    let app = TestApp::new().await;
    let bob = acme_with_bob(&app, Role::Member).await;
    let other = app.org("eve", "other").await;
    let mallory = app.member(other, "mallory", Role::Member).await;
    let id = bob.rsplit('/').next().unwrap();
    for (method, path, body) in calls() {
        for (caller, place) in [
            ("ada", format!("/v1/orgs/acme/users/{mallory}")),
            ("ada", format!("/v1/orgs/acme/users/{}", app.person("mallory").await)),
            ("ada", format!("/v1/orgs/acme/users/{NOBODY}")),
            ("ada", "/v1/orgs/acme/users/bob".to_owned()),
            ("ada", format!("/v1/orgs/other/users/{mallory}")),
            ("ada", format!("/v1/orgs/other/users/{id}")),
            ("ada", format!("/v1/orgs/none/users/{id}")),
            ("ada", format!("/v1/orgs/{NOBODY}/users/{id}")),
            ("mallory", bob.clone()),
        ] {
            let answer = ask(&app, caller, &method, &format!("{place}{path}"), &body).await;
            assert_eq!(answer, "404 NOT_FOUND", "{caller} {method} {place}{path}");
        }
    }
    for org in ["other", "none", NOBODY] {
        assert_eq!(brief(&app.get("ada", &format!("/v1/orgs/{org}/users")).await), "404 NOT_FOUND");
    }
    assert_eq!(status_of(&app, &bob).await, "active");
}

#[actix_web::test]
async fn the_platforms_people_read_members_everywhere_and_only_admins_change_them() {
    let app = TestApp::new().await;
    let bob = acme_with_bob(&app, Role::Member).await;
    for role in PlatformRole::ALL {
        app.person_with(role.as_str(), &[*role]).await;
        assert_eq!(brief(&app.get(role.as_str(), &bob).await), "200", "{}", role.as_str());
        let changed = app.patch(role.as_str(), &bob, json!({ "metadata": {} })).await;
        let expected = if *role == PlatformRole::PlatformAdmin { "200" } else { "403 NO_MATCHING_PERMIT" };
        assert_eq!(brief(&changed), expected, "{}", role.as_str());
    }
}

#[actix_web::test]
async fn a_person_is_somebody_else_in_each_org() {
    let app = TestApp::new().await;
    let bob = acme_with_bob(&app, Role::Member).await;
    let other = app.org("eve", "other").await;
    app.member(other, "bob", Role::Owner).await;
    app.patch("ada", &bob, json!({ "displayName": "Bob of Acme", "status": "suspended" })).await;
    let there = app.get("eve", &format!("/v1/orgs/other/users/{}", app.person("bob").await)).await;
    assert_eq!((&there["body"]["displayName"], &there["body"]["status"]), (&json!("bob"), &json!("active")));
    assert_eq!(brief(&app.get("bob", "/v1/orgs/other/users").await), "200");
}
