-- Everything the migrations make, as `key: value`, in words that do not depend on the order of columns or on the
-- server's version: no NOT NULL constraints (PostgreSQL 18 names them), no privileges of the owner (17 has more).
-- Left out: the months of the audit log, which come with time, what extensions own, and Diesel's own table.
WITH relation AS (
  SELECT * FROM pg_class c
  WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    AND relname <> '__diesel_schema_migrations'
    AND NOT (relispartition AND relname ~ '^audit_log_[0-9]{4}_[0-9]{2}$')
    AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid
      AND (deptype = 'e' OR deptype = 'i' AND relkind = 'S')) -- an identity column's sequence is the column's
), routine AS (
  SELECT *, format('function %s(%s)', proname, pg_get_function_identity_arguments(oid)) AS title FROM pg_proc p
  WHERE pronamespace = 'public'::regnamespace
    AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e')
), granted AS (
  SELECT relname::text AS title, relowner AS owner, relacl AS acl FROM relation
  UNION ALL SELECT format('%s column %s', relname, attname), relowner, attacl
    FROM relation r JOIN pg_attribute a ON attrelid = r.oid WHERE NOT attisdropped
  UNION ALL SELECT title, proowner, coalesce(proacl, acldefault('f', proowner)) FROM routine
), line (key, value) AS (
  SELECT relname || ' relation', concat_ws(', ',
      CASE relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view'
        WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table' ELSE 'sequence' END,
      'owner ' || relowner::regrole, pg_get_partkeydef(oid), pg_get_viewdef(oid),
      CASE WHEN relrowsecurity THEN 'row security' END, CASE WHEN relforcerowsecurity THEN 'forced' END)
    FROM relation
  UNION ALL
  SELECT format('%s column %s', relname, attname), concat_ws(', ', format_type(atttypid, atttypmod),
      CASE WHEN attnotnull THEN 'not null' END, 'default ' || pg_get_expr(adbin, adrelid),
      CASE attidentity WHEN 'a' THEN 'always identity' WHEN 'd' THEN 'identity' END,
      CASE attgenerated WHEN '' THEN NULL ELSE 'generated' END)
    FROM relation r JOIN pg_attribute a ON attrelid = r.oid LEFT JOIN pg_attrdef ON adrelid = r.oid AND adnum = attnum
    WHERE attnum > 0 AND NOT attisdropped AND relkind <> 'S'
  UNION ALL
  SELECT format('%s constraint %s', relname, conname), pg_get_constraintdef(c.oid)
    FROM relation r JOIN pg_constraint c ON conrelid = r.oid WHERE contype IN ('c', 'f', 'p', 'u', 'x')
  UNION ALL
  SELECT format('%s index %s', r.relname, i.relname),
      concat_ws(', ', pg_get_indexdef(indexrelid), CASE WHEN NOT indisvalid THEN 'invalid' END)
    FROM relation r JOIN pg_index ON indrelid = r.oid JOIN pg_class i ON i.oid = indexrelid
    WHERE NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype IN ('p', 'u', 'x'))
  UNION ALL
  SELECT format('%s policy %s', relname, polname), concat_ws(' ',
      CASE WHEN NOT polpermissive THEN 'restrictive' END,
      CASE polcmd WHEN '*' THEN 'all' WHEN 'r' THEN 'select' WHEN 'a' THEN 'insert' WHEN 'w' THEN 'update' ELSE 'delete' END,
      'to', (SELECT string_agg(CASE role WHEN 0 THEN 'PUBLIC' ELSE role::regrole::text END, ', ' ORDER BY role::regrole::text)
        FROM unnest(polroles) role),
      'using ' || pg_get_expr(polqual, polrelid), 'with check ' || pg_get_expr(polwithcheck, polrelid))
    FROM relation r JOIN pg_policy ON polrelid = r.oid
  UNION ALL
  SELECT format('%s trigger %s', relname, tgname), concat_ws(', ', pg_get_triggerdef(t.oid),
      CASE tgenabled WHEN 'O' THEN NULL WHEN 'D' THEN 'disabled' ELSE 'enabled ' || tgenabled::text END)
    FROM relation r JOIN pg_trigger t ON tgrelid = r.oid WHERE NOT tgisinternal
  UNION ALL
  SELECT title, concat_ws(', ', 'returns ' || pg_get_function_result(r.oid), lanname,
      CASE provolatile WHEN 'v' THEN 'volatile' WHEN 's' THEN 'stable' ELSE 'immutable' END,
      CASE WHEN prosecdef THEN 'security definer' END, array_to_string(proconfig, ', '),
      'owner ' || proowner::regrole, 'source ' || md5(prosrc))
    FROM routine r JOIN pg_language l ON l.oid = prolang
  UNION ALL
  SELECT format('%s grant to %s', title, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END),
      string_agg(DISTINCT privilege_type || CASE WHEN is_grantable THEN ' with grant option' ELSE '' END, ', ')
    FROM granted, aclexplode(acl) WHERE grantee <> owner GROUP BY title, grantee
  UNION ALL
  SELECT 'schema public', coalesce('open to ' || string_agg(DISTINCT name, ', '), 'open to its owner') FROM (
    SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS name
    FROM pg_namespace, aclexplode(nspacl) WHERE nspname = 'public' AND privilege_type = 'CREATE') creator
    WHERE name = 'PUBLIC' OR name LIKE 'identityd\_%' AND name <> 'identityd_owner'
  UNION ALL
  SELECT 'role ' || rolname, concat_ws(', ', CASE WHEN rolcanlogin THEN 'login' ELSE 'no login' END,
      CASE WHEN rolsuper THEN 'superuser' END, CASE WHEN rolbypassrls THEN 'bypasses row security' END,
      (SELECT 'may become ' || string_agg(DISTINCT roleid::regrole::text, ', ') FROM pg_auth_members WHERE member = r.oid),
      -- Since PostgreSQL 16 each membership has its own word on inheritance.
      (SELECT 'inherits ' || string_agg(DISTINCT roleid::regrole::text, ', ') FROM pg_auth_members m
        WHERE member = r.oid AND coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, rolinherit)))
    FROM pg_roles r WHERE rolname IN ('identityd_owner', 'identityd_app', 'identityd_platform', 'identityd_sequencer')
)
SELECT key, regexp_replace(value, '\s+', ' ', 'g') AS value FROM line ORDER BY key COLLATE "C"
