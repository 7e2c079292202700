-- An epoch is one run of one server: after a restart or a failover nothing begins until what was lost can be back.
ALTER TABLE fleet
    ADD COLUMN epoch bigint NOT NULL DEFAULT 1,
    ADD COLUMN started timestamptz NOT NULL DEFAULT pg_postmaster_start_time(),
    ADD COLUMN epoch_since timestamptz NOT NULL DEFAULT '-infinity';

CREATE TABLE accounts (
    name text COLLATE "C" PRIMARY KEY,
    generation bigint NOT NULL,
    refresh text,
    epoch bigint NOT NULL,
    body bytea NOT NULL
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX account_names ON accounts (lower(name));
INSERT INTO revisions (name) VALUES ('accounts');

CREATE TABLE attempts (
    account text COLLATE "C" PRIMARY KEY,
    id text NOT NULL,
    token text NOT NULL,
    at double precision NOT NULL,
    tries integer NOT NULL,
    state text NOT NULL,
    presentations integer NOT NULL,
    pid bigint NOT NULL,
    start text NOT NULL,
    boot text NOT NULL,
    host text NOT NULL,
    alive_until timestamptz NOT NULL,
    is_forgotten boolean NOT NULL DEFAULT false
) WITH (fillfactor = 50);

CREATE TABLE refresh_failures (
    account text COLLATE "C" PRIMARY KEY,
    last text,
    totals text NOT NULL DEFAULT '{}'
);

-- Of no worth once processes are gone: nothing is written ahead, and a crash or a promotion empties it.
CREATE UNLOGGED TABLE locks (
    name text COLLATE "C" PRIMARY KEY,
    holder text NOT NULL,
    program text NOT NULL,
    until timestamptz NOT NULL
) WITH (fillfactor = 50);
