-- Back to an empty schema. Roles stay: they belong to the cluster.
DROP TABLE authz_fact, authz_clock, audit_pii, audit_log, audit_org_head, audit_head, audit_outbox, idempotency_keys,
  leases, jobs, api_key_usage, api_keys, service_accounts, operator_tokens, login_throttle, refresh_tokens, sessions,
  passwords, invite_tokens, role_bindings, memberships, identities, orgs;
DROP FUNCTION require_audit(), audit_make_partitions();
