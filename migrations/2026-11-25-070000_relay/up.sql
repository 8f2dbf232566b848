-- The relay of the audit log to Kafka: how far it is, under a lease, and what to name the log to whoever gets copies.
ALTER TABLE audit_head ADD COLUMN log_id uuid NOT NULL DEFAULT gen_random_uuid();
COMMENT ON COLUMN audit_head.log_id IS 'with seq names an entry for whoever gets copies; a restored database needs a new one';
-- OPERATIONAL: how far the log was relayed.
CREATE TABLE relay_positions (topic text PRIMARY KEY, next_seq bigint NOT NULL);
COMMENT ON COLUMN relay_positions.next_seq IS 'every entry before it was acknowledged by the brokers';
INSERT INTO leases (name) VALUES ('relay');
GRANT SELECT, INSERT, UPDATE, DELETE ON relay_positions TO identityd_app, identityd_platform;
GRANT SELECT, INSERT, UPDATE ON relay_positions TO identityd_sequencer;
