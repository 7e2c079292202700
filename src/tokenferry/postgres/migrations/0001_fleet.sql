-- The fleet: one row.
CREATE TABLE fleet (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    name text NOT NULL DEFAULT '',
    schema integer NOT NULL DEFAULT 0,
    created_at bigint NOT NULL DEFAULT extract(epoch FROM clock_timestamp())::bigint
);
INSERT INTO fleet DEFAULT VALUES;

-- Raised in the transaction that writes, so numbers come in the order of commits. A writer takes its area's row first.
CREATE TABLE revisions (
    name text PRIMARY KEY,
    number bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE FUNCTION raise_revision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE revisions SET number = number + 1 WHERE name = TG_ARGV[0];
    PERFORM pg_notify('tokenferry', TG_ARGV[0]);
    RETURN NULL;
END $$;
