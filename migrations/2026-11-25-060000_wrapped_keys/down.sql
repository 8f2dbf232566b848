DO $$ BEGIN
  IF EXISTS (SELECT FROM wrapped_keys) THEN
    RAISE EXCEPTION 'wrapped_keys holds the only copy of the keys: without them no token, password or sealed value works';
  END IF;
END $$;
DROP TABLE wrapped_keys;
