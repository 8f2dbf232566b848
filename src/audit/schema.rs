// Generated from the migrated database by the test `generated_schema_files_are_current`. Do not edit.

diesel::table! {
    audit_log (seq, sequenced_at) {
        seq -> Int8,
        org_id -> Uuid,
        org_seq -> Int8,
        event_id -> Uuid,
        occurred_at -> Timestamptz,
        sequenced_at -> Timestamptz,
        action -> Text,
        actor -> Text,
        target -> Text,
        outcome -> Text,
        entry -> Bytea,
        leaf -> Bytea,
        prev -> Nullable<Bytea>,
    }
}

diesel::table! {
    audit_org_head (org_id) {
        org_id -> Uuid,
        org_seq -> Int8,
        leaf -> Bytea,
    }
}

diesel::table! {
    audit_pii (event_id) {
        event_id -> Uuid,
        org_id -> Uuid,
        sealed -> Bytea,
    }
}

diesel::allow_tables_to_appear_in_same_query!(audit_log, audit_org_head, audit_pii);
