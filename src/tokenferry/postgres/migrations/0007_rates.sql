-- What is asked with client keys, by the processes of all hosts. Worth something only while they live: no WAL, and empty
-- after a crash, after which every rate begins at nothing.
CREATE UNLOGGED TABLE rate_holders (
    id text COLLATE "C" PRIMARY KEY,
    seen_at timestamptz NOT NULL
);
CREATE UNLOGGED TABLE rates (
    subject text COLLATE "C" PRIMARY KEY,
    requests double precision NOT NULL,
    tokens double precision NOT NULL,
    requests_rate double precision NOT NULL,
    tokens_rate double precision NOT NULL,
    at timestamptz NOT NULL
) WITH (fillfactor = 50);
CREATE UNLOGGED TABLE rate_slots (
    subject text COLLATE "C" NOT NULL,
    holder text COLLATE "C" NOT NULL REFERENCES rate_holders ON DELETE CASCADE,
    busy bigint NOT NULL,
    PRIMARY KEY (subject, holder)
) WITH (fillfactor = 50);
