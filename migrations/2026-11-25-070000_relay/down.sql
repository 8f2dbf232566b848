DELETE FROM leases WHERE name = 'relay';
DROP TABLE relay_positions;
ALTER TABLE audit_head DROP COLUMN log_id;
