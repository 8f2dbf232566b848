ALTER TABLE authz_fact DROP COLUMN first_seq;
