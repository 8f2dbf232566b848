-- The keys of this database, each wrapped by Vault Transit. The service reads them and has Vault unwrap them at its
-- start; only the owner writes (`identityd keys`).
CREATE TABLE wrapped_keys (
  kind text CONSTRAINT wrapped_keys_kind CHECK (kind IN ('pepper', 'audit', 'data', 'signing')),
  version smallint CONSTRAINT wrapped_keys_version CHECK (version > 0),
  transit_key text NOT NULL CONSTRAINT wrapped_keys_transit_key CHECK (transit_key ~ '^[A-Za-z0-9_-]+$'),
  wrapped text NOT NULL CONSTRAINT wrapped_keys_wrapped CHECK (wrapped ~ '^vault:v[0-9]+:'),
  made_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (kind, version));
COMMENT ON COLUMN wrapped_keys.version IS 'stands beside what was made with the key; the highest is for what is new';
COMMENT ON COLUMN wrapped_keys.transit_key IS 'the key in Vault that wraps this one; its own version is in `wrapped`';
GRANT SELECT ON wrapped_keys TO identityd_app;
