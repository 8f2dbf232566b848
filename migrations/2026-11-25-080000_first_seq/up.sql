-- What changed, and not only appeared: whoever keeps answers about a thing is told of that.
ALTER TABLE authz_fact ADD COLUMN first_seq bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN authz_fact.first_seq IS 'the seq when it was first said; 0: from before this was noted';
