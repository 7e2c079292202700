-- What state.db holds on one machine. Text is compared byte by byte, as SQLite does.
CREATE TABLE client_keys (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    name text COLLATE "C" NOT NULL,
    admin bigint NOT NULL,
    digest bytea NOT NULL UNIQUE,
    created_at bigint NOT NULL,
    last_used_at bigint,
    revoked_at bigint,
    labels text NOT NULL DEFAULT '{}',
    expires_at bigint,
    rights text NOT NULL DEFAULT '{}',
    role text NOT NULL DEFAULT 'client',
    budgets text NOT NULL DEFAULT '[]',
    caps text NOT NULL DEFAULT '{}'
);
CREATE UNIQUE INDEX live_client_key_names ON client_keys (lower(name)) WHERE revoked_at IS NULL;

CREATE TABLE cooldowns (
    kind text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    family text COLLATE "C" NOT NULL,
    cause text COLLATE "C" NOT NULL,
    source text NOT NULL,
    until bigint,
    evidence text NOT NULL,
    noted_at bigint NOT NULL,
    PRIMARY KEY (kind, name, family, cause)
);

CREATE TABLE organizations (account text COLLATE "C" PRIMARY KEY, organization text NOT NULL);

CREATE TABLE logins (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    state bytea NOT NULL UNIQUE,
    session bytea NOT NULL,
    provider text NOT NULL,
    started_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    redirect_uri text NOT NULL DEFAULT '',
    account text,
    client text NOT NULL DEFAULT '',
    browser bytea
);

CREATE TABLE decisions (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id text COLLATE "C" NOT NULL,
    at bigint NOT NULL,
    session text COLLATE "C",
    account text COLLATE "C",
    status bigint,
    content text NOT NULL
);
CREATE INDEX decisions_request ON decisions (request_id);

CREATE TABLE sessions (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest bytea NOT NULL UNIQUE,
    id text COLLATE "C" NOT NULL UNIQUE,
    way text NOT NULL,
    name text NOT NULL,
    key text NOT NULL,
    role text NOT NULL,
    address text NOT NULL,
    created_at bigint NOT NULL,
    seen_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    notice text NOT NULL DEFAULT ''
);
CREATE TABLE sign_in_codes (
    digest bytea PRIMARY KEY,
    role text NOT NULL,
    expires_at bigint NOT NULL,
    session bytea
);
CREATE TABLE dashboard_labels (label text PRIMARY KEY);
CREATE TABLE alerts (cause text COLLATE "C" PRIMARY KEY, until bigint NOT NULL);

INSERT INTO revisions (name) VALUES ('state'), ('client_keys'), ('cooldowns'), ('organizations'), ('sessions');
CREATE TRIGGER revised AFTER INSERT OR DELETE ON client_keys
    FOR EACH STATEMENT EXECUTE FUNCTION raise_revision('client_keys');
CREATE TRIGGER revised_columns
    AFTER UPDATE OF name, admin, role, digest, revoked_at, labels, expires_at, rights, budgets, caps ON client_keys
    FOR EACH STATEMENT EXECUTE FUNCTION raise_revision('client_keys');
CREATE TRIGGER revised AFTER INSERT OR UPDATE OR DELETE ON cooldowns
    FOR EACH STATEMENT EXECUTE FUNCTION raise_revision('cooldowns');
CREATE TRIGGER revised AFTER INSERT OR UPDATE OR DELETE ON organizations
    FOR EACH STATEMENT EXECUTE FUNCTION raise_revision('organizations');
CREATE TRIGGER revised AFTER INSERT OR UPDATE OR DELETE ON sessions
    FOR EACH STATEMENT EXECUTE FUNCTION raise_revision('sessions');
