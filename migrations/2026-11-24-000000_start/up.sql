-- Runs as identityd_owner, who owns the tables and is never logged in by the service.

-- orgs ---------------------------------------------------------------------------------------------------------
CREATE TABLE orgs (
  org_id uuid PRIMARY KEY,
  slug text NOT NULL CONSTRAINT orgs_slug_taken UNIQUE,
  name text NOT NULL,
  status text NOT NULL CONSTRAINT orgs_status CHECK (status IN ('active', 'suspended', 'pending_delete')),
  status_reason text,
  status_before_delete text,
  delete_after timestamptz,
  owner_pending boolean NOT NULL DEFAULT false,
  billing_owner_email text,
  budget_policy_id text,
  declarative jsonb,
  metadata jsonb NOT NULL DEFAULT '{}',
  open_invites_max int NOT NULL DEFAULT 1000,
  version bigint NOT NULL DEFAULT 1,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL);
COMMENT ON COLUMN orgs.owner_pending IS 'made by a key or an operator: its first invited member becomes owner';
COMMENT ON COLUMN orgs.delete_after IS 'restorable until then';
-- The platform's own audit chain hangs on this row; it is no tenant and in no list.
INSERT INTO orgs (org_id, slug, name, status, created_at, updated_at)
  VALUES ('00000000-0000-0000-0000-000000000000', 'platform', 'Platform', 'active', now(), now());

-- identity -----------------------------------------------------------------------------------------------------
CREATE TABLE identities (
  identity_id uuid PRIMARY KEY,
  email text NOT NULL CONSTRAINT identities_email_taken UNIQUE,
  email_verified_at timestamptz,
  display_name text NOT NULL DEFAULT '',
  platform_roles text[] NOT NULL DEFAULT '{}',
  home_org_id uuid,
  tokens_valid_from timestamptz,
  version bigint NOT NULL DEFAULT 1,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL);
COMMENT ON COLUMN identities.home_org_id IS 'where sign-in leads when no org is named; null: the oldest membership';
COMMENT ON COLUMN identities.tokens_valid_from IS 'access tokens issued before this instant are dead';
CREATE TABLE memberships (
  user_id uuid PRIMARY KEY,
  org_id uuid NOT NULL REFERENCES orgs,
  identity_id uuid REFERENCES identities,
  email text NOT NULL,
  display_name text NOT NULL DEFAULT '',
  status text NOT NULL CONSTRAINT memberships_status
    CHECK (status IN ('invited', 'active', 'suspended', 'deleted')),
  status_before text,
  accepted_at timestamptz,
  mfa_due_at timestamptz,
  delete_after timestamptz,
  metadata jsonb NOT NULL DEFAULT '{}',
  version bigint NOT NULL DEFAULT 1,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL);
COMMENT ON COLUMN memberships.identity_id IS 'the person; null until the invite is accepted';
COMMENT ON COLUMN memberships.accepted_at IS 'sign-in needs it; an administrator may activate a membership before';
COMMENT ON COLUMN memberships.mfa_due_at IS 'from when a second factor is demanded; null: never';
COMMENT ON COLUMN memberships.status_before IS 'what restore goes back to';
CREATE UNIQUE INDEX memberships_one_email ON memberships (org_id, email) WHERE status <> 'deleted';
CREATE UNIQUE INDEX memberships_one_identity ON memberships (org_id, identity_id) WHERE status <> 'deleted';
CREATE INDEX memberships_of_identity ON memberships (identity_id);
CREATE INDEX memberships_list ON memberships (org_id, user_id);
CREATE TABLE role_bindings (
  user_id uuid REFERENCES memberships, role text, org_id uuid NOT NULL REFERENCES orgs, PRIMARY KEY (user_id, role));
CREATE INDEX role_bindings_of_org ON role_bindings (org_id, role);
CREATE TABLE invite_tokens (
  user_id uuid PRIMARY KEY REFERENCES memberships,
  org_id uuid NOT NULL REFERENCES orgs,
  kid text CONSTRAINT invite_tokens_kid UNIQUE,
  hmac bytea,
  pepper_version smallint,
  invited_by text NOT NULL,
  expires_at timestamptz NOT NULL,
  consumed_at timestamptz);
COMMENT ON COLUMN invite_tokens.hmac IS 'of the mailed token; null until the mail job has minted one';

-- authn --------------------------------------------------------------------------------------------------------
CREATE TABLE passwords (
  identity_id uuid PRIMARY KEY REFERENCES identities,
  phc text NOT NULL,
  changed_at timestamptz NOT NULL);
COMMENT ON COLUMN passwords.phc IS 'Argon2id in PHC string form';
CREATE TABLE sessions (
  session_id uuid PRIMARY KEY,
  identity_id uuid NOT NULL REFERENCES identities,
  org_id uuid,
  client_id text NOT NULL,
  amr text[] NOT NULL,
  auth_time timestamptz NOT NULL,
  absolute_expires_at timestamptz NOT NULL,
  cookie_kid text CONSTRAINT sessions_cookie_kid UNIQUE,
  cookie_hmac bytea,
  cookie_pepper_version smallint,
  address text,
  user_agent text,
  revoked_at timestamptz,
  revoked_reason text,
  created_at timestamptz NOT NULL);
CREATE INDEX sessions_of_identity ON sessions (identity_id, session_id);
CREATE INDEX sessions_age ON sessions (absolute_expires_at);
-- OPERATIONAL (docs/ARCHITECTURE.md): a row per generation of a session's refresh token.
CREATE TABLE refresh_tokens (
  token_id uuid PRIMARY KEY,
  session_id uuid NOT NULL REFERENCES sessions,
  generation int NOT NULL,
  kid text NOT NULL CONSTRAINT refresh_tokens_kid UNIQUE,
  hmac bytea NOT NULL,
  pepper_version smallint NOT NULL,
  state text NOT NULL CONSTRAINT refresh_tokens_state CHECK (state IN ('active', 'consumed', 'revoked')),
  successor_id uuid,
  reissues int NOT NULL DEFAULT 0,
  issued_at timestamptz NOT NULL,
  consumed_at timestamptz,
  expires_at timestamptz NOT NULL);
CREATE INDEX refresh_tokens_of_session ON refresh_tokens (session_id);
-- OPERATIONAL: subjects are digests of addresses and networks.
CREATE TABLE login_throttle (
  subject bytea PRIMARY KEY,
  failures int NOT NULL,
  blocked_until timestamptz,
  last_failure_at timestamptz NOT NULL);
CREATE TABLE operator_tokens (
  token_id uuid PRIMARY KEY,
  purpose text NOT NULL CONSTRAINT operator_tokens_purpose CHECK (purpose IN ('bootstrap', 'recovery')),
  kid text NOT NULL CONSTRAINT operator_tokens_kid UNIQUE,
  hmac bytea NOT NULL,
  pepper_version smallint NOT NULL,
  org_id uuid,
  expires_at timestamptz NOT NULL,
  ended_at timestamptz,
  created_at timestamptz NOT NULL);
COMMENT ON COLUMN operator_tokens.org_id IS 'the one org it made, and the only one it may work on';

-- credentials --------------------------------------------------------------------------------------------------
CREATE TABLE service_accounts (
  service_account_id uuid PRIMARY KEY,
  org_id uuid NOT NULL REFERENCES orgs,
  name text NOT NULL,
  description text NOT NULL DEFAULT '',
  status text NOT NULL CONSTRAINT service_accounts_status CHECK (status IN ('active', 'disabled', 'deleted')),
  roles text[] NOT NULL DEFAULT '{}',
  metadata jsonb NOT NULL DEFAULT '{}',
  rotation jsonb,
  version bigint NOT NULL DEFAULT 1,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL);
CREATE UNIQUE INDEX service_accounts_one_name ON service_accounts (org_id, name) WHERE status <> 'deleted';
CREATE INDEX service_accounts_list ON service_accounts (org_id, service_account_id);
CREATE TABLE api_keys (
  key_id uuid PRIMARY KEY,
  org_id uuid NOT NULL REFERENCES orgs,
  user_id uuid REFERENCES memberships,
  service_account_id uuid REFERENCES service_accounts,
  kid text NOT NULL CONSTRAINT api_keys_kid UNIQUE,
  hmac bytea NOT NULL,
  pepper_version smallint NOT NULL,
  fingerprint text NOT NULL,
  last4 text NOT NULL,
  display_name text NOT NULL DEFAULT '',
  scopes text[] NOT NULL,
  status text NOT NULL CONSTRAINT api_keys_status CHECK (status IN ('active', 'rotating', 'quarantined', 'revoked')),
  expires_at timestamptz,
  allowed_cidrs text[] NOT NULL DEFAULT '{}',
  rate_limit jsonb,
  annotations jsonb NOT NULL DEFAULT '{}',
  replaces uuid,
  issued_by text NOT NULL,
  issued_at timestamptz NOT NULL,
  revoked_at timestamptz,
  revoked_reason text,
  version bigint NOT NULL DEFAULT 1,
  updated_at timestamptz NOT NULL,
  CONSTRAINT api_keys_one_holder CHECK (num_nonnulls(user_id, service_account_id) = 1));
CREATE INDEX api_keys_list ON api_keys (org_id, key_id);
CREATE INDEX api_keys_of_user ON api_keys (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX api_keys_of_service_account ON api_keys (service_account_id) WHERE service_account_id IS NOT NULL;
-- OPERATIONAL: written in batches, never by a request.
CREATE TABLE api_key_usage (key_id uuid PRIMARY KEY, last_used_at timestamptz NOT NULL);

-- work: jobs, leases, idempotency (all OPERATIONAL) --------------------------------------------------------------
CREATE TABLE jobs (
  job_id uuid PRIMARY KEY, org_id uuid, kind text NOT NULL, payload jsonb NOT NULL, enqueued_by text NOT NULL,
  run_at timestamptz NOT NULL DEFAULT now(), attempts int NOT NULL DEFAULT 0, lease_owner text,
  lease_until timestamptz, epoch bigint NOT NULL DEFAULT 0, last_error text);
CREATE INDEX jobs_due ON jobs (run_at);
COMMENT ON COLUMN jobs.epoch IS 'fence: each claim raises it, and only the claim that holds it may finish the job';
CREATE TABLE leases (
  name text PRIMARY KEY, owner text NOT NULL DEFAULT '', lease_until timestamptz NOT NULL DEFAULT '-infinity',
  epoch bigint NOT NULL DEFAULT 0);
COMMENT ON COLUMN leases.epoch IS 'how often the lease changed hands';
INSERT INTO leases (name) VALUES ('sequencer'), ('sweeper');
CREATE TABLE idempotency_keys (
  principal text, key text, fingerprint bytea NOT NULL, status smallint NOT NULL, headers jsonb NOT NULL,
  body jsonb, secret_name text, secret bytea, created_at timestamptz NOT NULL, PRIMARY KEY (principal, key));
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
COMMENT ON COLUMN idempotency_keys.secret IS 'sealed value of the body''s member secret_name; taken away after ten minutes';

-- audit --------------------------------------------------------------------------------------------------------
CREATE TABLE audit_outbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  org_id uuid NOT NULL,
  event_id uuid NOT NULL CONSTRAINT audit_outbox_event UNIQUE,
  occurred_at timestamptz NOT NULL,
  body bytea NOT NULL,
  pii bytea,
  mac bytea NOT NULL);
COMMENT ON COLUMN audit_outbox.org_id IS 'whose chain the event goes on; the nil UUID is the platform''s';
COMMENT ON COLUMN audit_outbox.pii IS 'sealed: the values and salts behind the digests in body';
COMMENT ON COLUMN audit_outbox.mac IS 'HMAC of (org_id, event_id, body, pii): an edit before sequencing shows';
CREATE INDEX audit_outbox_xid ON audit_outbox (xid);
CREATE TABLE audit_head (
  singleton boolean PRIMARY KEY DEFAULT true CONSTRAINT audit_head_one CHECK (singleton),
  size bigint NOT NULL, peaks bytea NOT NULL);
COMMENT ON COLUMN audit_head.peaks IS 'Merkle peaks (RFC 6962 hashing) of the first `size` leaves, left to right, 32 bytes each';
INSERT INTO audit_head (size, peaks) VALUES (0, '');
CREATE TABLE audit_org_head (org_id uuid PRIMARY KEY, org_seq bigint NOT NULL, leaf bytea NOT NULL);
CREATE TABLE audit_log (
  seq bigint NOT NULL,
  org_id uuid NOT NULL,
  org_seq bigint NOT NULL,
  event_id uuid NOT NULL,
  occurred_at timestamptz NOT NULL,
  sequenced_at timestamptz NOT NULL,
  action text NOT NULL,
  actor text NOT NULL,
  target text NOT NULL,
  outcome text NOT NULL,
  entry bytea NOT NULL,
  leaf bytea NOT NULL,
  prev bytea,
  PRIMARY KEY (seq, sequenced_at)) PARTITION BY RANGE (sequenced_at);
CREATE INDEX audit_log_of_org ON audit_log (org_id, org_seq);
COMMENT ON COLUMN audit_log.entry IS 'the bytes that were hashed, never serialised again';
CREATE TABLE audit_pii (event_id uuid PRIMARY KEY, org_id uuid NOT NULL, sealed bytea NOT NULL);
-- This month and the next, made by whoever holds the sequencer's role but not the owner's.
CREATE FUNCTION audit_make_partitions() RETURNS void LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = pg_catalog AS $$
DECLARE month timestamptz; name text;
BEGIN
  FOR month IN SELECT date_trunc('month', now(), 'UTC') + n * interval '1 month' FROM generate_series(0, 1) n LOOP
    name := 'audit_log_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM');
    CONTINUE WHEN to_regclass('public.' || name) IS NOT NULL;
    EXECUTE format('CREATE TABLE public.%I PARTITION OF public.audit_log FOR VALUES FROM (%L) TO (%L)',
      name, month, date_trunc('month', month + interval '32 days', 'UTC'));
  END LOOP;
END $$;
SELECT audit_make_partitions();

-- authorization ------------------------------------------------------------------------------------------------
CREATE TABLE authz_clock (
  singleton boolean PRIMARY KEY DEFAULT true CONSTRAINT authz_clock_one CHECK (singleton),
  seq bigint NOT NULL, floor bigint NOT NULL DEFAULT 0);
COMMENT ON COLUMN authz_clock.floor IS 'tombstones up to here are gone: a reader who stopped before it starts anew';
INSERT INTO authz_clock (seq) VALUES (0);
CREATE TABLE authz_fact (
  kind text, id uuid, org_id uuid, seq bigint NOT NULL, body jsonb NOT NULL, deleted boolean NOT NULL,
  changed_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (kind, id));
CREATE INDEX authz_fact_tail ON authz_fact (seq, kind, id);
CREATE INDEX authz_fact_tombstones ON authz_fact (changed_at) WHERE deleted;

-- No change of an audited table commits without an event of the same transaction. SECURITY DEFINER, because the
-- service may only insert into the outbox; a fixed search_path, because the function runs with its owner's rights.
CREATE FUNCTION require_audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM public.audit_outbox WHERE xid = pg_current_xact_id()) THEN
    RAISE EXCEPTION 'change of % without an audit event', TG_TABLE_NAME
      USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'audit_guard';
  END IF;
  RETURN NULL;
END $$;

DO $$
DECLARE name text; org text := 'NULLIF(current_setting(''identityd.org_id'', true), '''')::uuid';
BEGIN
  FOREACH name IN ARRAY ARRAY['orgs', 'identities', 'memberships', 'role_bindings', 'invite_tokens', 'passwords',
    'sessions', 'operator_tokens', 'service_accounts', 'api_keys', 'authz_fact'] LOOP
    EXECUTE format('CREATE CONSTRAINT TRIGGER audit_guard AFTER INSERT OR UPDATE %s ON %I '
      'DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION require_audit()',
      CASE WHEN name = 'authz_fact' THEN '' ELSE 'OR DELETE' END, name); -- a tombstone's end is no change
    CONTINUE WHEN name = 'authz_fact';
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO identityd_app, identityd_platform', name);
  END LOOP;
  FOREACH name IN ARRAY ARRAY['orgs', 'memberships', 'role_bindings', 'invite_tokens', 'service_accounts', 'api_keys',
    'audit_log', 'audit_org_head', 'audit_pii'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('CREATE POLICY org ON %I TO identityd_app USING (org_id = %s)', name, org);
    EXECUTE format('CREATE POLICY platform ON %I TO identityd_platform USING (true)', name);
  END LOOP;
  FOREACH name IN ARRAY ARRAY['audit_log', 'audit_org_head', 'audit_pii'] LOOP
    EXECUTE format('CREATE POLICY sequencer ON %I TO identityd_sequencer USING (true)', name);
    EXECUTE format('GRANT SELECT ON %I TO identityd_app, identityd_platform', name);
  END LOOP;
END $$;
-- A person always sees the own memberships and their orgs (`GET /v1/me/orgs`), whatever org the work is for.
CREATE POLICY own ON memberships FOR SELECT TO identityd_app
  USING (identity_id = NULLIF(current_setting('identityd.identity_id', true), '')::uuid);
CREATE POLICY own ON orgs FOR SELECT TO identityd_app USING (org_id IN (SELECT org_id FROM memberships
  WHERE identity_id = NULLIF(current_setting('identityd.identity_id', true), '')::uuid));

GRANT SELECT, INSERT, UPDATE, DELETE ON refresh_tokens, login_throttle, api_key_usage, jobs, leases, idempotency_keys
  TO identityd_app, identityd_platform;
GRANT INSERT ON audit_outbox TO identityd_app, identityd_platform;
GRANT SELECT, DELETE ON audit_outbox TO identityd_sequencer;
GRANT SELECT, UPDATE ON audit_head TO identityd_sequencer;
GRANT SELECT ON audit_head TO identityd_app, identityd_platform;
GRANT SELECT, INSERT, UPDATE ON audit_org_head TO identityd_sequencer;
GRANT SELECT, INSERT ON audit_log, audit_pii TO identityd_sequencer;
GRANT SELECT, UPDATE ON leases TO identityd_sequencer;
REVOKE EXECUTE ON FUNCTION audit_make_partitions() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_make_partitions() TO identityd_sequencer;
GRANT SELECT, UPDATE ON authz_clock TO identityd_app, identityd_platform;
-- Revisions are for everyone (a write checks its permit); what a fact says is for the tail alone. A transaction
-- upserts facts of its own org, or of the kinds that have none.
GRANT INSERT, UPDATE ON authz_fact TO identityd_app, identityd_platform;
GRANT SELECT (kind, id, seq) ON authz_fact TO identityd_app;
GRANT SELECT, DELETE ON authz_fact TO identityd_platform;
ALTER TABLE authz_fact ENABLE ROW LEVEL SECURITY;
CREATE POLICY revisions ON authz_fact FOR SELECT TO identityd_app USING (true);
CREATE POLICY own_insert ON authz_fact FOR INSERT TO identityd_app WITH CHECK (
  org_id = NULLIF(current_setting('identityd.org_id', true), '')::uuid
  OR org_id IS NULL AND kind IN ('identity', 'operator', 'session'));
CREATE POLICY own_update ON authz_fact FOR UPDATE TO identityd_app USING (
  org_id = NULLIF(current_setting('identityd.org_id', true), '')::uuid
  OR org_id IS NULL AND kind IN ('identity', 'operator', 'session'));
CREATE POLICY platform ON authz_fact TO identityd_platform USING (true);
