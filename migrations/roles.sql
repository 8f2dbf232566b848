-- Roles belong to the cluster, so this runs as a superuser (or a role with CREATEROLE), before and apart from the
-- tables, and may run twice. `identityd migrate up` runs it where the roles are missing and it may.
DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['identityd_owner', 'identityd_platform', 'identityd_sequencer'] LOOP
    IF to_regrole(name) IS NULL THEN EXECUTE format('CREATE ROLE %I NOLOGIN', name); END IF;
  END LOOP;
  IF to_regrole('identityd_app') IS NULL THEN CREATE ROLE identityd_app; END IF;
  -- Only a superuser may say these words, even where they change nothing.
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'identityd_app' AND (rolsuper OR rolbypassrls)) THEN
    ALTER ROLE identityd_app NOBYPASSRLS NOSUPERUSER;
  END IF;
END $$;
-- NOINHERIT: being granted `identityd_platform` must not widen what the app sees until it says SET ROLE.
ALTER ROLE identityd_app LOGIN NOINHERIT;
GRANT identityd_platform, identityd_sequencer TO identityd_app;
