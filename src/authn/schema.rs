// Generated from the migrated database by the test `generated_schema_files_are_current`. Do not edit.

diesel::table! {
    login_networks (account, network) {
        account -> Bytea,
        network -> Bytea,
        failures -> Int4,
        blocked_until -> Nullable<Timestamptz>,
        last_failure_at -> Nullable<Timestamptz>,
        last_success_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    login_throttle (subject) {
        subject -> Bytea,
        failures -> Int4,
        blocked_until -> Nullable<Timestamptz>,
        last_failure_at -> Timestamptz,
    }
}

diesel::table! {
    passwords (identity_id) {
        identity_id -> Uuid,
        phc -> Text,
        changed_at -> Timestamptz,
    }
}

diesel::table! {
    refresh_tokens (token_id) {
        token_id -> Uuid,
        session_id -> Uuid,
        generation -> Int4,
        kid -> Text,
        hmac -> Bytea,
        pepper_version -> Int2,
        state -> Text,
        successor_id -> Nullable<Uuid>,
        reissues -> Int4,
        issued_at -> Timestamptz,
        consumed_at -> Nullable<Timestamptz>,
        expires_at -> Timestamptz,
    }
}

diesel::table! {
    sessions (session_id) {
        session_id -> Uuid,
        identity_id -> Uuid,
        org_id -> Nullable<Uuid>,
        client_id -> Text,
        amr -> Array<Text>,
        auth_time -> Timestamptz,
        absolute_expires_at -> Timestamptz,
        cookie_kid -> Nullable<Text>,
        cookie_hmac -> Nullable<Bytea>,
        cookie_pepper_version -> Nullable<Int2>,
        address -> Nullable<Text>,
        user_agent -> Nullable<Text>,
        revoked_at -> Nullable<Timestamptz>,
        revoked_reason -> Nullable<Text>,
        created_at -> Timestamptz,
    }
}

diesel::joinable!(refresh_tokens -> sessions (session_id));

diesel::allow_tables_to_appear_in_same_query!(
    login_networks,
    login_throttle,
    passwords,
    refresh_tokens,
    sessions
);
