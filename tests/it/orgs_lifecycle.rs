//! Orgs after they are made: reading, changing, suspending, restoring, deleting.
use crate::{
    app::TestApp,
    contexts_support::{
        NOBODY, ask, at_once, both, brief, call_with, column, metadata_at_the_limit, pages, root, told,
    },
    support::purge,
};
use actix_web::http::Method;
use identityd::{
    authorization::{PlatformRole, Role},
    kernel::UserStatus,
};
use insta::assert_json_snapshot;
use serde_json::{Value, json};
use std::time::Duration;

const DAY: Duration = Duration::from_hours(24);

fn because() -> Value {
    json!({ "reason": "unpaid since March" })
}

#[actix_web::test]
async fn a_member_reads_an_org() {
    let app = TestApp::new().await;
    let org = app.org("ada", "acme").await;
    app.member(org, "vic", Role::Viewer).await;
    assert_json_snapshot!("read", told(&app, app.get("vic", "/v1/orgs/acme")).await);
    assert_eq!(app.get("vic", &format!("/v1/orgs/{org}")).await["body"]["slug"], "acme");
}

#[actix_web::test]
async fn a_slug_in_a_path_is_trimmed_and_lower_cased() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    assert_eq!(app.get("ada", "/v1/orgs/%20ACME").await["body"]["slug"], "acme");
}

#[actix_web::test]
async fn an_owner_changes_an_org() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    app.clock.tick(Duration::from_millis(500));
    let body = json!({
        "displayName": " Acme & Söhne ", "budgetPolicyId": "standard", "metadata": { "tier": "gold", "n": [1, null] },
        "declarative": { "enabled": true, "repoUrl": "https://git.example.io/acme", "branch": "main" },
        "slug": "other", "unknown": true,
    });
    assert_json_snapshot!("changed", told(&app, app.patch("ada", "/v1/orgs/acme", body)).await);
}

#[actix_web::test]
async fn what_is_not_sent_stays() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    let body = json!({ "displayName": "Acme", "budgetPolicyId": "p", "metadata": { "a": 1 } });
    let mut before = app.patch("ada", "/v1/orgs/acme", body).await["body"].clone();
    before["metadata"] = json!({ "b": 2 });
    let body = json!({ "metadata": { "b": 2 }, "displayName": null, "status": null });
    assert_eq!(app.patch("ada", "/v1/orgs/acme", body).await["body"], before, "metadata is replaced whole");
    assert_eq!(app.patch("ada", "/v1/orgs/acme", json!({})).await["body"], before);
}

#[actix_web::test]
async fn an_org_is_renamed_by_either_word() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    for word in ["displayName", "name"] {
        let body = json!({ word: format!("By {word}") });
        assert_eq!(app.patch("ada", "/v1/orgs/acme", body).await["body"]["name"], format!("By {word}"));
    }
}

#[actix_web::test]
async fn what_cannot_be_parsed_is_refused_by_name() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    let [good, large] = metadata_at_the_limit();
    for (body, refusal) in [
        (json!({ "displayName": "é".repeat(200) }), "200"),
        (json!({ "displayName": "x".repeat(201) }), "422 NAME_INVALID displayName"),
        (json!({ "displayName": " " }), "422 NAME_INVALID displayName"),
        (json!({ "displayName": "a\nb" }), "422 NAME_INVALID displayName"),
        (json!({ "displayName": "a\0b" }), "422 NUL_NOT_ALLOWED displayName"),
        (json!({ "displayName": 5 }), "422 INVALID_BODY displayName"),
        (json!({ "budgetPolicyId": "x".repeat(200) }), "200"),
        (json!({ "budgetPolicyId": "x".repeat(201) }), "422 BUDGET_POLICY_INVALID budgetPolicyId"),
        (json!({ "metadata": good }), "200"),
        (json!({ "metadata": large }), "422 METADATA_INVALID metadata"),
        (json!({ "metadata": [] }), "422 METADATA_INVALID metadata"),
        (json!({ "declarative": { "repoUrl": "x".repeat(500) } }), "200"),
        (json!({ "declarative": { "repoUrl": "x".repeat(501) } }), "422 DECLARATIVE_INVALID declarative"),
        (json!({ "declarative": { "branch": "x".repeat(501) } }), "422 DECLARATIVE_INVALID declarative"),
        (json!({ "declarative": "main" }), "422 INVALID_BODY declarative"),
        (json!({ "status": "pending_delete" }), "422 STATUS_INVALID status"),
        (json!({ "status": "gone" }), "422 STATUS_INVALID status"),
        (json!([]), "422 INVALID_BODY"),
        (Value::Null, "400 BODY_MISSING"),
    ] {
        assert_eq!(brief(&app.patch("ada", "/v1/orgs/acme", body.clone()).await), refusal, "{body}");
    }
}

// Lists ----------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_person_lists_the_orgs_in_which_he_is_active() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    let (beta, gone) = (app.org("bob", "beta").await, app.org("bob", "gone").await);
    app.member(beta, "ada", Role::Viewer).await;
    let ada = Some(app.person("ada").await);
    app.membership(gone, "ada", ada, UserStatus::Suspended, &[Role::Owner]).await;
    assert_json_snapshot!("listed", told(&app, app.get("ada", "/v1/orgs")).await);
    assert_eq!(app.get("mallory", "/v1/orgs").await["body"], json!([]));
}

#[actix_web::test]
async fn the_platforms_people_list_every_org_but_the_reserved_one() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    app.clock.tick(Duration::from_millis(2));
    app.org("bob", "beta").await;
    for role in PlatformRole::ALL {
        app.person_with(role.as_str(), &[*role]).await;
        assert_eq!(column(&app.get(role.as_str(), "/v1/orgs").await["body"], "slug"), ["acme", "beta"]);
    }
}

#[actix_web::test]
async fn a_list_goes_on_page_by_page_to_its_end() {
    let app = TestApp::new().await;
    for n in 0..5 {
        app.clock.tick(Duration::from_millis(2));
        app.org("ada", &format!("org-{n}")).await;
    }
    let slugs = |pages: Vec<Vec<Value>>| -> Vec<Vec<String>> {
        pages.iter().map(|page| column(&json!(page), "slug")).collect()
    };
    assert_eq!(
        slugs(pages(&app, "ada", "/v1/orgs?limit=2&q=org").await),
        [vec!["org-0", "org-1"], vec!["org-2", "org-3"], vec!["org-4"]]
    );
    assert_eq!(slugs(pages(&app, "ada", "/v1/orgs").await).len(), 1, "a thousand fit on one page");
    assert_json_snapshot!("page", app.get("ada", "/v1/orgs?q=org-1&limit=1").await);
}

#[actix_web::test]
async fn a_list_is_filtered_by_status_and_text() {
    let app = TestApp::new().await;
    for slug in ["acme", "acme-labs", "a-b"] {
        app.clock.tick(Duration::from_millis(2));
        app.org("ada", slug).await;
    }
    app.patch("ada", "/v1/orgs/a-b", json!({ "displayName": "100% A_B" })).await;
    assert_eq!(brief(&app.post("ada", "/v1/orgs/acme-labs/suspend", because()).await), "200");
    let slugs =
        async |query: &str| column(&app.get("ada", &format!("/v1/orgs?{query}")).await["body"], "slug");
    assert_eq!(slugs("q=ACME").await, ["acme", "acme-labs"]);
    assert_eq!(slugs("q=ACME&status=active").await, ["acme"]);
    assert_eq!(slugs("status=suspended").await, ["acme-labs"]);
    assert_eq!(slugs("q=0%25").await, ["a-b"], "a percent sign is a percent sign");
    assert_eq!(slugs("q=a_b").await, ["a-b"], "an underscore is an underscore");
    assert_eq!(slugs("q=%27%20OR%201=1").await, [""; 0]);
    assert_eq!(slugs("q=&status=").await.len(), 3);
}

#[actix_web::test]
async fn a_query_that_makes_no_sense_is_refused() {
    let app = TestApp::new().await;
    for (query, refusal) in [
        ("limit=1000", "200"),
        ("limit=0", "422 LIMIT_INVALID limit"),
        ("limit=1001", "422 LIMIT_INVALID limit"),
        ("limit=-1", "422 LIMIT_INVALID limit"),
        ("limit=many", "422 INVALID_QUERY"),
        ("cursor=garbage", "422 CURSOR_INVALID cursor"),
        ("status=dead", "422 STATUS_INVALID status"),
    ] {
        assert_eq!(brief(&app.get("ada", &format!("/v1/orgs?{query}")).await), refusal, "{query}");
    }
}

// Status ---------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn an_owner_suspends_his_org() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    assert_json_snapshot!("suspended", told(&app, app.post("ada", "/v1/orgs/acme/suspend", because())).await);
}

#[actix_web::test]
async fn the_platform_restores_a_suspended_org() {
    let app = TestApp::new().await;
    let root = root(&app).await;
    app.org("ada", "acme").await;
    app.post("ada", "/v1/orgs/acme/suspend", because()).await;
    let call = app.post(root, "/v1/orgs/acme/restore", json!({ "reason": "paid" }));
    assert_json_snapshot!("restored", told(&app, call).await);
}

#[actix_web::test]
async fn an_owner_cannot_lift_what_the_platform_put_on_his_org() {
    let app = TestApp::new().await;
    let root = root(&app).await;
    app.org("ada", "acme").await;
    assert_eq!(brief(&app.post(root, "/v1/orgs/acme/suspend", because()).await), "200");
    assert_eq!(
        brief(&app.post("ada", "/v1/orgs/acme/restore", because()).await),
        "403 ORG_NOT_ACTIVE org.not_active.user org.restore.platform_only"
    );
    let active = json!({ "status": "active" });
    assert_eq!(
        brief(&app.patch("ada", "/v1/orgs/acme", active).await),
        "403 ORG_NOT_ACTIVE org.not_active.user"
    );
}

#[actix_web::test]
async fn members_of_a_suspended_org_look_at_it_and_do_no_more() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    app.post("ada", "/v1/orgs/acme/suspend", because()).await;
    assert_eq!(app.get("ada", "/v1/orgs/acme").await["body"]["status"], "suspended");
    assert_eq!(column(&app.get("ada", "/v1/orgs").await["body"], "slug"), ["acme"]);
    for (method, path, body) in [
        (Method::PATCH, "", json!({ "displayName": "x" })),
        (Method::DELETE, "", Value::Null),
        (Method::POST, "/suspend", because()),
        (Method::GET, "/users", Value::Null),
        (Method::POST, "/invites", json!({ "email": "b@example.io" })),
        (Method::POST, "/service-accounts", json!({ "name": "router" })),
    ] {
        let answer = ask(&app, "ada", &method, &format!("/v1/orgs/acme{path}"), &body).await;
        assert_eq!(answer, "403 ORG_NOT_ACTIVE org.not_active.user", "{method} {path}");
    }
}

#[actix_web::test]
async fn suspending_and_restoring_need_a_reason() {
    let app = TestApp::new().await;
    let root = root(&app).await;
    app.org("ada", "acme").await;
    for (body, refusal) in [
        (json!({ "reason": "x".repeat(500) }), "200"),
        (json!({ "reason": "x".repeat(501) }), "422 REASON_INVALID reason"),
        (json!({ "reason": " " }), "422 REASON_INVALID reason"),
        (json!({ "reason": "two\nlines" }), "422 REASON_INVALID reason"),
        (json!({}), "422 INVALID_BODY reason"),
        (Value::Null, "400 BODY_MISSING"),
    ] {
        for verb in ["suspend", "restore"] {
            let path = format!("/v1/orgs/acme/{verb}");
            assert_eq!(brief(&app.post(root, &path, body.clone()).await), refusal, "{verb} {body}");
        }
    }
}

#[actix_web::test]
async fn a_status_set_by_patch_needs_the_right_to_it() {
    let app = TestApp::new().await;
    let root = root(&app).await;
    let org = app.org("ada", "acme").await;
    // A key that may change the org, and no more.
    let user = app.get("ada", "/v1/orgs/acme/users").await["body"][0]["userId"].clone();
    let path = format!("/v1/orgs/{org}/users/{}/api-keys", user.as_str().unwrap());
    let key = app.post("ada", &path, json!({ "scopes": ["orgs:update", "orgs:read"] })).await;
    app.bearer("key", key["body"]["secret"].as_str().unwrap());
    let set = async |caller: &str, status: &str| {
        brief(&app.patch(caller, "/v1/orgs/acme", json!({ "status": status })).await)
    };
    assert_eq!(set("key", "active").await, "200", "which is no change");
    assert_eq!(set("key", "suspended").await, "403 SCOPE_EXCEEDED scope.ceiling");
    assert_eq!(set("ada", "suspended").await, "200");
    assert_eq!(set("ada", "active").await, "403 ORG_NOT_ACTIVE org.not_active.user");
    assert_eq!(set(root, "active").await, "200");
}

#[actix_web::test]
async fn an_org_that_is_active_again_has_no_reason_left() {
    let app = TestApp::new().await;
    let root = root(&app).await;
    app.org("ada", "acme").await;
    for restore in [
        (Method::PATCH, "/v1/orgs/acme", json!({ "status": "active" })),
        (Method::POST, "/v1/orgs/acme/restore", because()),
    ] {
        assert_eq!(
            app.post(root, "/v1/orgs/acme/suspend", because()).await["body"]["statusReason"],
            "unpaid since March"
        );
        let (method, path, body) = restore;
        let answer = app.call(method, Some(root), path, body).await;
        assert_eq!(answer["body"]["status"], "active");
        assert_eq!(answer["body"]["statusReason"], Value::Null, "{answer}");
    }
}

// Deletion -------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn an_owner_deletes_his_org() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    assert_json_snapshot!("deleted", told(&app, app.delete("ada", "/v1/orgs/acme")).await);
    assert_json_snapshot!("deleted_org", app.get("ada", "/v1/orgs/acme").await);
}

#[actix_web::test]
async fn deleting_an_org_again_changes_nothing() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    app.delete("ada", "/v1/orgs/acme").await;
    let deleted = app.get("ada", "/v1/orgs/acme").await;
    app.tick(DAY).await;
    assert_json_snapshot!("deleted_again", told(&app, app.delete("ada", "/v1/orgs/acme")).await);
    let again = app.get("ada", "/v1/orgs/acme").await;
    assert_eq!((&again["body"], &again["headers"]["etag"]), (&deleted["body"], &deleted["headers"]["etag"]));
    let stale = call_with(&app, "ada", Method::DELETE, "/v1/orgs/acme", Value::Null, ("if-match", "\"1\""));
    assert_eq!(brief(&stale.await), "204", "whoever deletes it again need not know its version");
}

#[actix_web::test]
async fn nothing_works_in_a_deleted_org() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    app.delete("ada", "/v1/orgs/acme").await;
    for (method, path, body) in [
        (Method::PATCH, "", json!({ "displayName": "x" })),
        (Method::POST, "/suspend", because()),
        (Method::GET, "/users", Value::Null),
        (Method::GET, "/api-keys", Value::Null),
        (Method::POST, "/invites", json!({ "email": "b@example.io" })),
    ] {
        let answer = ask(&app, "ada", &method, &format!("/v1/orgs/acme{path}"), &body).await;
        assert_eq!(answer, "403 ORG_NOT_ACTIVE org.not_active.user", "{method} {path}");
    }
}

#[actix_web::test]
async fn the_status_of_a_deleted_org_is_not_for_the_platform_to_set_either() {
    let app = TestApp::new().await;
    let root = root(&app).await;
    app.org("ada", "acme").await;
    app.delete("ada", "/v1/orgs/acme").await;
    for status in ["active", "suspended"] {
        let answer = app.patch(root, "/v1/orgs/acme", json!({ "status": status })).await;
        assert_eq!(brief(&answer), "409 ORG_STATUS_CONFLICT", "{status}");
    }
    assert_eq!(brief(&app.post(root, "/v1/orgs/acme/suspend", because()).await), "409 ORG_STATUS_CONFLICT");
}

#[actix_web::test]
async fn a_deleted_org_is_restored_to_what_it_was() {
    let app = TestApp::new().await;
    let root = root(&app).await;
    app.org("ada", "acme").await;
    app.delete("ada", "/v1/orgs/acme").await;
    let call = app.post(root, "/v1/orgs/acme/restore", json!({ "reason": "a mistake" }));
    assert_json_snapshot!("restored_from_deletion", told(&app, call).await);
    assert_eq!(brief(&app.patch("ada", "/v1/orgs/acme", json!({ "displayName": "Back" })).await), "200");
}

#[actix_web::test]
async fn an_org_deleted_while_suspended_comes_back_suspended() {
    let app = TestApp::new().await;
    let root = root(&app).await;
    app.org("ada", "acme").await;
    app.post(root, "/v1/orgs/acme/suspend", because()).await;
    let suspended = app.get("ada", "/v1/orgs/acme").await["body"].clone();
    assert_eq!(brief(&app.delete(root, "/v1/orgs/acme").await), "204");
    assert_eq!(brief(&app.patch(root, "/v1/orgs/acme", json!({ "metadata": {} })).await), "200");
    let restored = app.post(root, "/v1/orgs/acme/restore", json!({ "reason": "a mistake" })).await;
    assert_eq!(restored["body"], suspended, "also if it was changed in between");
}

#[actix_web::test]
async fn a_deleted_org_is_gone_for_good_when_its_time_is_over() {
    let app = TestApp::new().await;
    let root = root(&app).await;
    app.org("ada", "acme").await;
    app.delete("ada", "/v1/orgs/acme").await;
    app.tick((30 * DAY).checked_sub(Duration::from_secs(1)).unwrap()).await;
    assert_eq!(purge(&app).await, 0);
    app.tick(Duration::from_secs(1)).await;
    assert_eq!(purge(&app).await, 1);
    assert_eq!(brief(&app.post(root, "/v1/orgs/acme/restore", because()).await), "404 NOT_FOUND");
    assert_eq!(app.get("ada", "/v1/orgs").await["body"], json!([]));
    app.org("bob", "acme").await;
}

#[actix_web::test]
async fn an_org_restored_in_time_is_not_purged() {
    let app = TestApp::new().await;
    let root = root(&app).await;
    app.org("ada", "acme").await;
    app.delete("ada", "/v1/orgs/acme").await;
    app.tick(30 * DAY).await;
    assert_eq!(brief(&app.post(root, "/v1/orgs/acme/restore", because()).await), "200");
    assert_eq!(purge(&app).await, 0);
    assert_eq!(app.get("ada", "/v1/orgs/acme").await["body"]["status"], "active");
}

// Two at once, twice the same ------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_change_to_another_version_than_the_one_read_is_refused() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    let patch = |tag| {
        let body = json!({ "displayName": "Acme" });
        call_with(&app, "ada", Method::PATCH, "/v1/orgs/acme", body, ("if-match", tag))
    };
    assert_json_snapshot!("mismatch", told(&app, patch("\"7\"")).await);
    assert_eq!(brief(&patch("W/\"1\"").await), "412 VERSION_MISMATCH", "a weak tag matches nothing");
    assert_eq!(brief(&patch("\"1\"").await), "200");
    assert_eq!(brief(&patch("*").await), "200");
    let delete = call_with(&app, "ada", Method::DELETE, "/v1/orgs/acme", Value::Null, ("if-match", "\"2\""));
    assert_eq!(brief(&delete.await), "412 VERSION_MISMATCH");
}

#[actix_web::test]
async fn of_two_administrators_at_once_one_is_told_to_read_again() {
    let app = TestApp::new().await;
    let org = app.org("ada", "acme").await;
    app.member(org, "bob", Role::Admin).await;
    let patch = |caller| {
        let body = json!({ "displayName": format!("By {caller}") });
        call_with(&app, caller, Method::PATCH, "/v1/orgs/acme", body, ("if-match", "\"1\""))
    };
    let (ada, bob) = at_once(&app, patch("ada"), patch("bob")).await;
    let winner = if ada["status"] == 200 { "By ada" } else { "By bob" };
    assert_eq!(both((ada, bob)), ["200", "412 VERSION_MISMATCH"]);
    assert_eq!(app.get("ada", "/v1/orgs/acme").await["body"]["name"], winner);
}

#[actix_web::test]
async fn a_suspension_sent_twice_under_one_key_happens_once() {
    let app = TestApp::new().await;
    let root = root(&app).await;
    app.org("ada", "acme").await;
    let send = || {
        let header = ("idempotency-key", "k1");
        call_with(&app, root, Method::POST, "/v1/orgs/acme/suspend", because(), header)
    };
    let first = send().await;
    let again = told(&app, send()).await;
    assert_eq!(again["events"], json!([]));
    assert_eq!((&again["answer"]["status"], &again["answer"]["body"]), (&json!(200), &first["body"]));
    assert_eq!(again["answer"]["headers"]["etag"], first["headers"]["etag"]);
}

// Who may --------------------------------------------------------------------------------------------------------

fn calls() -> Vec<(Method, &'static str, Value)> {
    vec![
        (Method::PATCH, "", json!({ "displayName": "x" })),
        (Method::DELETE, "", Value::Null),
        (Method::POST, "/suspend", because()),
    ]
}

#[actix_web::test]
async fn whoever_may_not_is_told_so_on_the_orgs_chain() {
    let app = TestApp::new().await;
    let org = app.org("ada", "acme").await;
    app.member(org, "vic", Role::Viewer).await;
    for (method, path, body) in calls() {
        let answer = ask(&app, "vic", &method, &format!("/v1/orgs/acme{path}"), &body).await;
        assert_eq!(answer, "403 NO_MATCHING_PERMIT", "{method} {path}");
    }
    assert_eq!(
        brief(&app.post("vic", "/v1/orgs/acme/restore", because()).await),
        "403 PLATFORM_ROLE_REQUIRED org.restore.platform_only"
    );
    let call = app.post("ada", "/v1/orgs/acme/restore", because());
    assert_json_snapshot!("denied", told(&app, call).await);
}

#[actix_web::test]
async fn an_admin_does_everything_but_delete_the_org() {
    let app = TestApp::new().await;
    let org = app.org("ada", "acme").await;
    app.member(org, "bob", Role::Admin).await;
    assert_eq!(brief(&app.delete("bob", "/v1/orgs/acme").await), "403 NO_MATCHING_PERMIT");
    assert_eq!(brief(&app.patch("bob", "/v1/orgs/acme", json!({ "displayName": "x" })).await), "200");
    assert_eq!(brief(&app.post("bob", "/v1/orgs/acme/suspend", because()).await), "200");
}

#[actix_web::test]
async fn a_stranger_cannot_tell_an_org_from_none() {
    let app = TestApp::new().await;
    let org = app.org("ada", "acme").await;
    app.org("mallory", "evil").await;
    let mut calls = calls();
    calls.push((Method::GET, "", Value::Null));
    calls.push((Method::POST, "/restore", because()));
    for (method, path, body) in [
        (Method::PATCH, "", json!({ "displayName": 5 })),
        (Method::POST, "/suspend", Value::Null),
        (Method::GET, "/users?limit=0", Value::Null),
        (Method::POST, "/invites", json!({})),
    ] {
        let real = ask(&app, "mallory", &method, &format!("/v1/orgs/acme{path}"), &body).await;
        let unreal = ask(&app, "mallory", &method, &format!("/v1/orgs/none{path}"), &body).await;
        assert_eq!(
            real, unreal,
            "not by what is refused before anybody asks who he is either: {method} {path}"
        );
    }
    for (method, path, body) in calls {
        let told_of = async |name: &str| {
            let path = format!("/v1/orgs/{name}{path}");
            let mut answer = app.call(method.clone(), Some("mallory"), &path, body.clone()).await;
            answer["body"]["requestId"].take();
            answer["body"]["instance"].take();
            answer["headers"].take();
            answer
        };
        let (real, unreal) = (told_of(&org.to_string()).await, told_of(NOBODY).await);
        assert_eq!(brief(&real), "404 NOT_FOUND", "{method} {path}");
        assert_eq!(real, unreal, "{method} {path}");
        assert_eq!(told_of("acme").await, told_of("none").await, "{method} {path}");
    }
}

#[actix_web::test]
async fn what_a_stranger_tries_is_on_the_platforms_chain() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    app.person("mallory").await;
    assert_json_snapshot!("hidden", told(&app, app.get("mallory", "/v1/orgs/acme")).await);
}

#[actix_web::test]
async fn the_reserved_org_is_nobodys() {
    let app = TestApp::new().await;
    let root = root(&app).await;
    for name in ["platform", "00000000-0000-0000-0000-000000000000"] {
        assert_eq!(brief(&app.get(root, &format!("/v1/orgs/{name}")).await), "404 NOT_FOUND");
        assert_eq!(brief(&app.delete(root, &format!("/v1/orgs/{name}")).await), "404 NOT_FOUND");
    }
}
