//! How much one network may try, right or wrong: by process, by all of them through Redis, and what stays without it.
use crate::{
    app::{PASSWORD, TestApp},
    http_support::{Answer, acme_with, ask, post_from},
    redis_support::{OwnRedis, await_redis, following},
};
use identityd::{
    app::App,
    platform::{health::Status, tasks::Tasks},
};
use serde_json::json;
use std::time::Duration;

const FEW: [&str; 1] = ["limits.sign_in.network=3, 1/min"];

async fn attempt(app: &App, address: &str, name: &str, password: &str) -> Answer {
    let body = json!({ "email": format!("{name}@example.io"), "password": password });
    ask(app, post_from(address, "/v1/auth/login", &body)).await
}

async fn right(app: &App, address: &str) -> u16 {
    attempt(app, address, "ada", PASSWORD).await.status
}

#[actix_web::test]
async fn a_network_has_its_burst_and_then_so_many_a_minute() {
    let app = acme_with(&FEW).await;
    for address in ["198.51.100.7", "198.51.100.8", "198.51.100.9"] {
        assert_eq!(right(&app.app, address).await, 200);
    }
    let runs = app.app.hasher.runs();
    let mut refused = attempt(&app.app, "198.51.100.7", "ada", PASSWORD).await.shown();
    assert_eq!(app.app.hasher.runs(), runs, "nothing is hashed");
    refused["headers"].as_array_mut().unwrap().retain(|header| header[0] != "x-request-id");
    refused["body"]["requestId"] = json!("[id]");
    insta::assert_json_snapshot!(refused);
    assert_eq!(right(&app.app, "198.51.101.7").await, 200, "elsewhere");
    app.tick(Duration::from_mins(1)).await;
    assert_eq!(right(&app.app, "198.51.100.7").await, 200);
    assert_eq!(right(&app.app, "198.51.100.7").await, 429);
}

/// Two processes on one Redis, which follow it.
async fn two(redis: &OwnRedis, flags: &[&str]) -> (TestApp, App, [Tasks; 2]) {
    let url = redis.url();
    let flags: Vec<&str> = flags.iter().copied().chain([url.as_str()]).collect();
    let app = acme_with(&flags).await;
    let other = app.replica(&flags).await;
    let tasks = [following(&app.app).await, following(&other).await];
    (app, other, tasks)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_of_all_processes_while_there_is_redis_and_else_each_has_its_own() {
    let mut redis = OwnRedis::start().await;
    let (app, other, tasks) = two(&redis, &FEW).await;
    for app in [&app.app, &other, &app.app] {
        assert_eq!(right(app, "198.51.100.7").await, 200);
    }
    for app in [&app.app, &other] {
        assert_eq!(right(app, "198.51.100.7").await, 429);
    }
    redis.kill();
    for app in [&app.app, &other] {
        await_redis(app, Status::Failing).await;
    }
    // What each counted itself: the one two and those that were refused by all, the other one.
    let mut left = 0;
    while right(&other, "198.51.100.7").await == 200 {
        left += 1;
    }
    assert!(left <= 2, "{left}");
    assert_eq!(right(&other, "198.51.101.7").await, 200, "elsewhere");
    for tasks in tasks {
        tasks.stop(Duration::from_secs(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_buckets_guessing_is_as_slow_as_with_them() {
    let redis = OwnRedis::start().await;
    let (app, other, tasks) = two(&redis, &[]).await;
    for _ in 0..6 {
        assert_eq!(attempt(&app.app, "198.51.100.7", "ada", "wrong wrong wrong").await.status, 401);
    }
    redis.flush().await;
    let afresh = app.replica(&[]).await;
    for app in [&app.app, &other, &afresh] {
        let answer = attempt(app, "198.51.100.7", "ada", PASSWORD).await;
        assert_eq!(
            (answer.verdict(), answer.header("retry-after")),
            ((429, "TOO_MANY_ATTEMPTS".into()), Some("1".into()))
        );
        assert_eq!(answer.json()["detail"], "too many failed attempts; try again in 1 seconds");
    }
    for tasks in tasks {
        tasks.stop(Duration::from_secs(5)).await;
    }
}
