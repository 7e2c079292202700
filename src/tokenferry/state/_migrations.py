from typing import Final

from tokenferry.state._sqlite import Schema

_MIGRATIONS: Final = (
    """
    CREATE TABLE client_keys (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        admin INTEGER NOT NULL,
        digest BLOB NOT NULL UNIQUE,
        created_at INTEGER NOT NULL,
        last_used_at INTEGER,
        revoked_at INTEGER
    ) STRICT;
    CREATE UNIQUE INDEX live_client_key_names ON client_keys (name COLLATE NOCASE) WHERE revoked_at IS NULL;
    """,
    """
    CREATE TABLE cooldowns (
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        family TEXT NOT NULL,
        cause TEXT NOT NULL,
        source TEXT NOT NULL,
        until INTEGER,
        evidence TEXT NOT NULL,
        noted_at INTEGER NOT NULL,
        PRIMARY KEY (kind, name, family, cause)
    ) STRICT;
    """,
    """
    ALTER TABLE client_keys ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE client_keys ADD COLUMN expires_at INTEGER;
    CREATE TABLE logins (
        state BLOB PRIMARY KEY,
        session BLOB NOT NULL,
        provider TEXT NOT NULL,
        started_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE decisions (
        number INTEGER PRIMARY KEY,
        request_id TEXT NOT NULL,
        at INTEGER NOT NULL,
        content TEXT NOT NULL
    ) STRICT;
    CREATE TABLE revisions (name TEXT PRIMARY KEY, number INTEGER NOT NULL) STRICT;
    INSERT INTO revisions VALUES ('client_keys', 0), ('cooldowns', 0);
    CREATE TRIGGER client_keys_inserted AFTER INSERT ON client_keys
        BEGIN UPDATE revisions SET number = number + 1 WHERE name = 'client_keys'; END;
    CREATE TRIGGER client_keys_updated AFTER UPDATE OF name, admin, digest, revoked_at, labels, expires_at
        ON client_keys
        BEGIN UPDATE revisions SET number = number + 1 WHERE name = 'client_keys'; END;
    CREATE TRIGGER client_keys_deleted AFTER DELETE ON client_keys
        BEGIN UPDATE revisions SET number = number + 1 WHERE name = 'client_keys'; END;
    CREATE TRIGGER cooldowns_inserted AFTER INSERT ON cooldowns
        BEGIN UPDATE revisions SET number = number + 1 WHERE name = 'cooldowns'; END;
    CREATE TRIGGER cooldowns_updated AFTER UPDATE ON cooldowns
        BEGIN UPDATE revisions SET number = number + 1 WHERE name = 'cooldowns'; END;
    CREATE TRIGGER cooldowns_deleted AFTER DELETE ON cooldowns
        BEGIN UPDATE revisions SET number = number + 1 WHERE name = 'cooldowns'; END;
    """,
    """
    ALTER TABLE client_keys ADD COLUMN rights TEXT NOT NULL DEFAULT '{}';
    DROP TRIGGER client_keys_updated;
    CREATE TRIGGER client_keys_updated AFTER UPDATE OF name, admin, digest, revoked_at, labels, expires_at, rights
        ON client_keys
        BEGIN UPDATE revisions SET number = number + 1 WHERE name = 'client_keys'; END;
    """,
    """
    ALTER TABLE logins ADD COLUMN redirect_uri TEXT NOT NULL DEFAULT '';
    ALTER TABLE logins ADD COLUMN account TEXT;
    ALTER TABLE logins ADD COLUMN client TEXT NOT NULL DEFAULT '';
    ALTER TABLE logins ADD COLUMN browser BLOB;
    """,
    """
    CREATE TABLE organizations (account TEXT PRIMARY KEY, organization TEXT NOT NULL) STRICT;
    """,
    """
    ALTER TABLE client_keys ADD COLUMN role TEXT NOT NULL DEFAULT 'client';
    UPDATE client_keys SET role = 'admin' WHERE admin = 1;
    DROP TRIGGER client_keys_updated;
    CREATE TRIGGER client_keys_updated AFTER UPDATE OF name, admin, role, digest, revoked_at, labels, expires_at, rights
        ON client_keys
        BEGIN UPDATE revisions SET number = number + 1 WHERE name = 'client_keys'; END;
    """,
    """
    CREATE TABLE sessions (
        digest BLOB PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        way TEXT NOT NULL,
        name TEXT NOT NULL,
        key TEXT NOT NULL,
        role TEXT NOT NULL,
        address TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        seen_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        notice TEXT NOT NULL DEFAULT ''
    ) STRICT;
    CREATE TABLE sign_in_codes (
        digest BLOB PRIMARY KEY,
        role TEXT NOT NULL,
        expires_at INTEGER NOT NULL,
        session BLOB
    ) STRICT;
    CREATE TABLE dashboard_labels (label TEXT PRIMARY KEY) STRICT;
    """,
    """
    ALTER TABLE client_keys ADD COLUMN budgets TEXT NOT NULL DEFAULT '[]';
    DROP TRIGGER client_keys_updated;
    CREATE TRIGGER client_keys_updated
        AFTER UPDATE OF name, admin, role, digest, revoked_at, labels, expires_at, rights, budgets
        ON client_keys
        BEGIN UPDATE revisions SET number = number + 1 WHERE name = 'client_keys'; END;
    """,
    """
    ALTER TABLE client_keys ADD COLUMN caps TEXT NOT NULL DEFAULT '{}';
    DROP TRIGGER client_keys_updated;
    CREATE TRIGGER client_keys_updated
        AFTER UPDATE OF name, admin, role, digest, revoked_at, labels, expires_at, rights, budgets, caps
        ON client_keys
        BEGIN UPDATE revisions SET number = number + 1 WHERE name = 'client_keys'; END;
    """,
    """
    CREATE TABLE alerts (cause TEXT PRIMARY KEY, until INTEGER NOT NULL) STRICT;
    """,
    # Columns that every engine has, in place of SQLite's rowid, its NOCASE and its look into JSON.
    """
    CREATE TABLE numbered_keys (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL,
        admin INTEGER NOT NULL,
        digest BLOB NOT NULL UNIQUE,
        created_at INTEGER NOT NULL,
        last_used_at INTEGER,
        revoked_at INTEGER,
        labels TEXT NOT NULL DEFAULT '{}',
        expires_at INTEGER,
        rights TEXT NOT NULL DEFAULT '{}',
        role TEXT NOT NULL DEFAULT 'client',
        budgets TEXT NOT NULL DEFAULT '[]',
        caps TEXT NOT NULL DEFAULT '{}'
    ) STRICT;
    INSERT INTO numbered_keys SELECT rowid, id, name, admin, digest, created_at, last_used_at, revoked_at, labels,
        expires_at, rights, role, budgets, caps FROM client_keys;
    DROP TABLE client_keys;
    ALTER TABLE numbered_keys RENAME TO client_keys;
    CREATE UNIQUE INDEX live_client_key_names ON client_keys (lower(name)) WHERE revoked_at IS NULL;
    CREATE TRIGGER client_keys_inserted AFTER INSERT ON client_keys
        BEGIN UPDATE revisions SET number = number + 1 WHERE name = 'client_keys'; END;
    CREATE TRIGGER client_keys_updated
        AFTER UPDATE OF name, admin, role, digest, revoked_at, labels, expires_at, rights, budgets, caps
        ON client_keys
        BEGIN UPDATE revisions SET number = number + 1 WHERE name = 'client_keys'; END;
    CREATE TRIGGER client_keys_deleted AFTER DELETE ON client_keys
        BEGIN UPDATE revisions SET number = number + 1 WHERE name = 'client_keys'; END;
    CREATE TABLE numbered_logins (
        number INTEGER PRIMARY KEY,
        state BLOB NOT NULL UNIQUE,
        session BLOB NOT NULL,
        provider TEXT NOT NULL,
        started_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        redirect_uri TEXT NOT NULL DEFAULT '',
        account TEXT,
        client TEXT NOT NULL DEFAULT '',
        browser BLOB
    ) STRICT;
    INSERT INTO numbered_logins SELECT rowid, state, session, provider, started_at, expires_at, redirect_uri, account,
        client, browser FROM logins;
    DROP TABLE logins;
    ALTER TABLE numbered_logins RENAME TO logins;
    CREATE TABLE numbered_sessions (
        number INTEGER PRIMARY KEY,
        digest BLOB NOT NULL UNIQUE,
        id TEXT NOT NULL UNIQUE,
        way TEXT NOT NULL,
        name TEXT NOT NULL,
        key TEXT NOT NULL,
        role TEXT NOT NULL,
        address TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        seen_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        notice TEXT NOT NULL DEFAULT ''
    ) STRICT;
    INSERT INTO numbered_sessions SELECT rowid, digest, id, way, name, key, role, address, created_at, seen_at,
        expires_at, notice FROM sessions;
    DROP TABLE sessions;
    ALTER TABLE numbered_sessions RENAME TO sessions;
    ALTER TABLE decisions ADD COLUMN session TEXT;
    ALTER TABLE decisions ADD COLUMN account TEXT;
    ALTER TABLE decisions ADD COLUMN status INTEGER;
    UPDATE decisions SET
        session = json_extract(content, '$.session'),
        account = json_extract(content, '$.account'),
        status = CASE json_type(content, '$.status') WHEN 'integer' THEN json_extract(content, '$.status') END
        WHERE json_valid(content);
    """,
    """
    CREATE TABLE limits (account TEXT PRIMARY KEY, state TEXT NOT NULL, noted_at INTEGER NOT NULL) STRICT;
    INSERT INTO revisions VALUES ('limits', 0);
    CREATE TRIGGER limits_inserted AFTER INSERT ON limits
        BEGIN UPDATE revisions SET number = number + 1 WHERE name = 'limits'; END;
    CREATE TRIGGER limits_updated AFTER UPDATE ON limits
        BEGIN UPDATE revisions SET number = number + 1 WHERE name = 'limits'; END;
    CREATE TRIGGER limits_deleted AFTER DELETE ON limits
        BEGIN UPDATE revisions SET number = number + 1 WHERE name = 'limits'; END;
    """,
)

STATE_SCHEMA: Final = Schema(
    _MIGRATIONS,
    pragmas=("synchronous = FULL",),
    cure="then create the client keys again with: tokenferry key create NAME",
)
"""The schema of `state.db`. It is small and precious, so each transaction is flushed to disk."""
