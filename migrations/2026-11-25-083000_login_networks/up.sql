-- OPERATIONAL: failed sign-ins of an account in one network, so that nobody who guesses elsewhere keeps its owner out.
CREATE TABLE login_networks (
  account bytea NOT NULL,
  network bytea NOT NULL,
  failures int NOT NULL,
  blocked_until timestamptz,
  last_failure_at timestamptz,
  last_success_at timestamptz,
  PRIMARY KEY (account, network));
COMMENT ON COLUMN login_networks.account IS 'the digest that login_throttle has for it';
COMMENT ON COLUMN login_networks.network IS 'the digest that login_throttle has for it';
COMMENT ON COLUMN login_networks.last_success_at IS 'when somebody who knew the password was last let in from there';
GRANT SELECT, INSERT, UPDATE, DELETE ON login_networks TO identityd_app, identityd_platform;
