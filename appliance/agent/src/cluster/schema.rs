//! The tables of the cluster, in steps. A step that has been in a release is never changed.

use quantix_store::Migration;

/// Without these this version does not work.
pub(super) const NEEDED: usize = 3;

pub(super) const SCHEMA: &[Migration] = &[Migration {
    name: "accounts and sessions",
    sql: "
        CREATE TABLE account (
            username TEXT PRIMARY KEY,
            password_hash TEXT NOT NULL,
            -- The password it began with, as long as it is still the one.
            first_password TEXT
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE session (
            -- Of the token only a hash is kept.
            token_hash BLOB PRIMARY KEY,
            username TEXT NOT NULL REFERENCES account (username) ON DELETE CASCADE,
            -- Seconds since 1970, by the leader's clock.
            opened_at INTEGER NOT NULL,
            used_at INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX session_of_account ON session (username);
        ",
}, Migration {
    name: "hosts and join tokens",
    sql: "
        CREATE TABLE cluster (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            -- The certificate authority of the cluster, as PEM.
            authority TEXT NOT NULL,
            authority_key TEXT NOT NULL,
            -- Nothing: as many as fit the number of hosts.
            wanted_voters INTEGER
        ) STRICT;

        CREATE TABLE host (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL UNIQUE COLLATE NOCASE,
            -- SHA-256 of its public key.
            key_hash BLOB NOT NULL,
            joined_at INTEGER NOT NULL
        ) STRICT;

        -- Keys that are good for nothing any more. A host whose row is only missing may be newer than the data here.
        CREATE TABLE removed_host (
            key_hash BLOB PRIMARY KEY,
            id INTEGER NOT NULL,
            name TEXT NOT NULL
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE join_token (
            id BLOB PRIMARY KEY,
            stored_key BLOB NOT NULL,
            server_key BLOB NOT NULL,
            purpose TEXT NOT NULL,
            made_by TEXT NOT NULL,
            made_at INTEGER NOT NULL,
            expires_at INTEGER NOT NULL,
            uses_left INTEGER NOT NULL,
            revoked INTEGER NOT NULL DEFAULT 0
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE join_token_use (
            token BLOB NOT NULL REFERENCES join_token (id) ON DELETE CASCADE,
            host INTEGER NOT NULL,
            name TEXT NOT NULL,
            at INTEGER NOT NULL,
            PRIMARY KEY (token, host)
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE audit (
            id INTEGER PRIMARY KEY,
            at INTEGER NOT NULL,
            actor TEXT NOT NULL,
            address TEXT NOT NULL,
            action TEXT NOT NULL,
            object TEXT NOT NULL,
            outcome TEXT NOT NULL
        ) STRICT;
        ",
}, Migration {
    name: "people",
    sql: "
        ALTER TABLE account ADD COLUMN role TEXT NOT NULL DEFAULT 'administrator';
        ALTER TABLE account ADD COLUMN locked INTEGER NOT NULL DEFAULT 0;
        -- The password was given to them and is good for one sign-in.
        ALTER TABLE account ADD COLUMN must_change INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE account ADD COLUMN made_at INTEGER;
        ALTER TABLE account ADD COLUMN last_sign_in INTEGER;
        ",
}];
