-- What ledger.db holds on one machine. Requests are cut by day, so that old ones are dropped whole.
CREATE TABLE names (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    label text COLLATE "C" NOT NULL,
    day bigint NOT NULL,
    UNIQUE (kind, value)
);
CREATE TABLE prices (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    vendor text NOT NULL,
    model text NOT NULL,
    since text NOT NULL,
    source text NOT NULL,
    rates text NOT NULL,
    UNIQUE (vendor, model, since, source, rates)
);
CREATE SEQUENCE request_ids;
CREATE TABLE requests (
    id bigint NOT NULL DEFAULT nextval('request_ids'),
    at_ms bigint NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    key bigint NOT NULL,
    account bigint NOT NULL,
    provider bigint NOT NULL,
    model bigint NOT NULL,
    asked bigint NOT NULL,
    session bigint NOT NULL,
    agent bigint NOT NULL,
    parent bigint NOT NULL,
    side bigint NOT NULL,
    status bigint NOT NULL,
    error bigint NOT NULL,
    attempts bigint NOT NULL,
    input bigint,
    output bigint,
    cache_read bigint,
    write_5m bigint,
    write_1h bigint,
    thinking bigint,
    searches bigint,
    speed bigint NOT NULL,
    tier bigint NOT NULL,
    geo bigint NOT NULL,
    others text,
    estimated bigint NOT NULL,
    cost_micros bigint NOT NULL,
    price bigint NOT NULL,
    billing text NOT NULL,
    first_ms bigint,
    ms bigint NOT NULL,
    bytes_in bigint NOT NULL,
    bytes_out bigint NOT NULL
) PARTITION BY RANGE (at_ms);
CREATE UNIQUE INDEX requests_at ON requests (at_ms, request_id);
CREATE INDEX requests_id ON requests (id);
CREATE INDEX requests_session ON requests (session, at_ms) WHERE session > 0;
CREATE INDEX requests_failed ON requests (at_ms) WHERE error > 0;
-- What comes before its day's partition was made, or of a clock that is wrong.
CREATE TABLE requests_other PARTITION OF requests DEFAULT;

CREATE TABLE hours (
    period bigint NOT NULL, key bigint NOT NULL, account bigint NOT NULL, provider bigint NOT NULL,
    model bigint NOT NULL, billing text COLLATE "C" NOT NULL,
    requests bigint NOT NULL, side_requests bigint NOT NULL, errors bigint NOT NULL,
    uncounted bigint NOT NULL, estimated bigint NOT NULL, unpriced bigint NOT NULL,
    input bigint NOT NULL, output bigint NOT NULL, cache_read bigint NOT NULL,
    write_5m bigint NOT NULL, write_1h bigint NOT NULL, thinking bigint NOT NULL, searches bigint NOT NULL,
    cost_micros bigint NOT NULL, unpriced_micros bigint NOT NULL,
    ms bigint NOT NULL, bytes_in bigint NOT NULL, bytes_out bigint NOT NULL,
    PRIMARY KEY (period, key, account, provider, model, billing)
);
CREATE TABLE days (LIKE hours INCLUDING ALL);
CREATE TABLE windows (
    account bigint NOT NULL,
    name bigint NOT NULL,
    at_ms bigint NOT NULL,
    used_ppm bigint NOT NULL,
    reset_ms bigint NOT NULL,
    status text NOT NULL,
    PRIMARY KEY (account, name, at_ms)
);
-- Worth something only while processes live: no WAL, and empty after a crash.
CREATE UNLOGGED TABLE holders (id text COLLATE "C" PRIMARY KEY, seen_ms bigint NOT NULL);
CREATE UNLOGGED TABLE slices (
    holder text COLLATE "C" NOT NULL,
    budget text COLLATE "C" NOT NULL,
    start bigint NOT NULL,
    amount bigint NOT NULL,
    PRIMARY KEY (holder, budget, start)
);
CREATE TABLE crossings (
    budget text COLLATE "C" NOT NULL,
    start bigint NOT NULL,
    amount bigint NOT NULL,
    percent bigint NOT NULL,
    "end" bigint NOT NULL,
    PRIMARY KEY (budget, start, amount, percent)
);
INSERT INTO revisions (name) VALUES ('ledger'), ('names'), ('retention');

-- Runs as the owner, since what serves may not make tables. Days are numbered since 1970.
CREATE FUNCTION keep_days(first bigint, last bigint, oldest bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    ms CONSTANT bigint := 86400000;
    day bigint;
    name text;
BEGIN
    FOR day IN first..last LOOP
        name := 'requests_' || day;
        IF to_regclass(name) IS NULL THEN
            EXECUTE format('CREATE TABLE %I (LIKE requests INCLUDING DEFAULTS)', name);
            EXECUTE format(
                'WITH moved AS (DELETE FROM requests_other WHERE at_ms >= %s AND at_ms < %s RETURNING *) '
                'INSERT INTO %I SELECT * FROM moved', day * ms, (day + 1) * ms, name);
            EXECUTE format(
                'ALTER TABLE requests ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', name, day * ms, (day + 1) * ms);
        END IF;
    END LOOP;
    FOR name IN
        SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'requests'::regclass AND relname ~ '^requests_[0-9]+$' AND substr(relname, 10)::bigint < oldest
    LOOP
        EXECUTE format('DROP TABLE %I', name);
    END LOOP;
END $$;
