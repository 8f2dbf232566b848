// Generated from the migrated database by the test `generated_schema_files_are_current`. Do not edit.

diesel::table! {
    api_key_usage (key_id) {
        key_id -> Uuid,
        last_used_at -> Timestamptz,
    }
}

diesel::table! {
    api_keys (key_id) {
        key_id -> Uuid,
        org_id -> Uuid,
        user_id -> Nullable<Uuid>,
        service_account_id -> Nullable<Uuid>,
        kid -> Text,
        hmac -> Bytea,
        pepper_version -> Int2,
        fingerprint -> Text,
        last4 -> Text,
        display_name -> Text,
        scopes -> Array<Text>,
        status -> Text,
        expires_at -> Nullable<Timestamptz>,
        allowed_cidrs -> Array<Text>,
        rate_limit -> Nullable<Jsonb>,
        annotations -> Jsonb,
        replaces -> Nullable<Uuid>,
        issued_by -> Text,
        issued_at -> Timestamptz,
        revoked_at -> Nullable<Timestamptz>,
        revoked_reason -> Nullable<Text>,
        version -> Int8,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    operator_tokens (token_id) {
        token_id -> Uuid,
        purpose -> Text,
        kid -> Text,
        hmac -> Bytea,
        pepper_version -> Int2,
        org_id -> Nullable<Uuid>,
        expires_at -> Timestamptz,
        ended_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    service_accounts (service_account_id) {
        service_account_id -> Uuid,
        org_id -> Uuid,
        name -> Text,
        description -> Text,
        status -> Text,
        roles -> Array<Text>,
        metadata -> Jsonb,
        rotation -> Nullable<Jsonb>,
        version -> Int8,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::joinable!(api_keys -> service_accounts (service_account_id));

diesel::allow_tables_to_appear_in_same_query!(api_key_usage, api_keys, operator_tokens, service_accounts);
