//! The tables of the cluster, in steps. A step that has been in a release is never changed.

use quantix_store::Migration;

/// Without these this version does not work.
pub(super) const NEEDED: usize = SCHEMA.len();

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
}, Migration {
    name: "rights",
    sql: "
        -- Roles that were made here; the built-in ones are in the program.
        CREATE TABLE role (
            name TEXT PRIMARY KEY,
            purpose TEXT NOT NULL,
            -- The names of the rights, as JSON.
            rights TEXT NOT NULL,
            version INTEGER NOT NULL DEFAULT 1
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE user_group (
            name TEXT PRIMARY KEY,
            purpose TEXT NOT NULL,
            -- What the identity provider calls it, if it fills it.
            provider_name TEXT,
            version INTEGER NOT NULL DEFAULT 1
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE membership (
            user_group TEXT NOT NULL REFERENCES user_group (name) ON DELETE CASCADE,
            username TEXT NOT NULL REFERENCES account (username) ON DELETE CASCADE,
            PRIMARY KEY (user_group, username)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX membership_of_account ON membership (username);

        -- Who has which role, and where it counts.
        CREATE TABLE access (
            id INTEGER PRIMARY KEY,
            username TEXT REFERENCES account (username) ON DELETE CASCADE,
            user_group TEXT REFERENCES user_group (name) ON DELETE CASCADE,
            role TEXT NOT NULL,
            scope TEXT NOT NULL,
            CHECK ((username IS NULL) <> (user_group IS NULL))
        ) STRICT;
        CREATE INDEX access_of_account ON access (username);
        CREATE INDEX access_of_group ON access (user_group);
        INSERT INTO access (username, role, scope)
            SELECT username, role, 'datacenter' FROM account ORDER BY username;
        ALTER TABLE account DROP COLUMN role;
        ALTER TABLE account ADD COLUMN version INTEGER NOT NULL DEFAULT 1;

        CREATE TABLE second_factor (
            username TEXT PRIMARY KEY REFERENCES account (username) ON DELETE CASCADE,
            secret BLOB NOT NULL,
            -- It counts once a code of it was given.
            confirmed INTEGER NOT NULL DEFAULT 0,
            -- The time step of the newest code that was taken: each is good once.
            last_step INTEGER NOT NULL DEFAULT 0,
            -- Wrong codes since the last right one, and when the last of them came.
            wrong INTEGER NOT NULL DEFAULT 0,
            wrong_at INTEGER NOT NULL DEFAULT 0
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE recovery_code (
            username TEXT NOT NULL REFERENCES account (username) ON DELETE CASCADE,
            code_hash BLOB NOT NULL,
            PRIMARY KEY (username, code_hash)
        ) STRICT, WITHOUT ROWID;

        -- The code of the second factor is still to be given.
        ALTER TABLE session ADD COLUMN code_needed INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE session ADD COLUMN address TEXT NOT NULL DEFAULT '';

        CREATE TABLE api_token (
            token_hash BLOB PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            username TEXT NOT NULL REFERENCES account (username) ON DELETE CASCADE,
            purpose TEXT NOT NULL,
            role TEXT NOT NULL,
            scope TEXT NOT NULL,
            made_at INTEGER NOT NULL,
            expires_at INTEGER NOT NULL,
            last_used INTEGER
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX api_token_of_account ON api_token (username);

        -- Requests that came with a key, and what they were answered, sealed.
        CREATE TABLE answered (
            key_hash BLOB PRIMARY KEY,
            request_hash BLOB NOT NULL,
            at INTEGER NOT NULL,
            answer BLOB
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX answered_at ON answered (at);

        -- What something was like before and after, as JSON without secrets.
        ALTER TABLE audit ADD COLUMN before TEXT;
        ALTER TABLE audit ADD COLUMN after TEXT;
        CREATE INDEX audit_of_actor ON audit (actor, id);
        CREATE INDEX audit_of_object ON audit (object, id);
        ",
}, Migration {
    name: "tasks and events",
    sql: "
        CREATE TABLE task (
            id INTEGER PRIMARY KEY,
            kind TEXT NOT NULL,
            title TEXT NOT NULL,
            -- As rights name it: datacenter, or host/ and the id of a host.
            object TEXT NOT NULL,
            object_name TEXT NOT NULL,
            params TEXT NOT NULL,
            -- The host that does it; nothing: whichever has the vDC role.
            owner INTEGER,
            state TEXT NOT NULL,
            -- As JSON, like progress, file and memo.
            steps TEXT NOT NULL,
            progress TEXT,
            outcome TEXT NOT NULL,
            file TEXT,
            -- What the owner must know when it starts again.
            memo TEXT NOT NULL,
            actor TEXT NOT NULL,
            address TEXT NOT NULL,
            -- Milliseconds since 1970, like all times here.
            made_at INTEGER NOT NULL,
            started_at INTEGER,
            ended_at INTEGER,
            cancelled_by TEXT,
            attempt INTEGER NOT NULL,
            retry_of INTEGER,
            retried INTEGER NOT NULL DEFAULT 0,
            version INTEGER NOT NULL DEFAULT 1
        ) STRICT;
        CREATE INDEX task_open ON task (id) WHERE ended_at IS NULL;
        CREATE INDEX task_with_file ON task (id) WHERE file IS NOT NULL;
        CREATE INDEX task_of_object ON task (object, id);
        CREATE INDEX task_ended ON task (ended_at, id);

        CREATE TABLE event (
            id INTEGER PRIMARY KEY,
            -- By this it is known again when it happens once more.
            key TEXT NOT NULL,
            at INTEGER NOT NULL,
            severity TEXT NOT NULL,
            component TEXT NOT NULL,
            object TEXT NOT NULL,
            host TEXT NOT NULL,
            sentence TEXT NOT NULL,
            -- It is over when whoever wrote it says so, and not when a person does.
            lasting INTEGER NOT NULL,
            times INTEGER NOT NULL DEFAULT 1,
            cleared_at INTEGER,
            acknowledged_by TEXT
        ) STRICT;
        CREATE INDEX event_of_key ON event (key, id);
        CREATE INDEX event_open ON event (id) WHERE cleared_at IS NULL AND severity <> 'info';
        ",
}, Migration {
    name: "syslog",
    sql: "
        CREATE TABLE syslog (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            is_on INTEGER NOT NULL,
            address TEXT NOT NULL,
            -- The authority that vouches for the receiver, as PEM.
            certificate TEXT NOT NULL,
            version INTEGER NOT NULL DEFAULT 1
        ) STRICT;

        -- The newest line of the audit log that has arrived there. It changes all the time, the settings do not.
        CREATE TABLE syslog_sent (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            sent INTEGER NOT NULL
        ) STRICT;
        ",
}, Migration {
    name: "identity provider",
    sql: "
        CREATE TABLE provider (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            is_on INTEGER NOT NULL,
            title TEXT NOT NULL,
            issuer TEXT NOT NULL,
            client_id TEXT NOT NULL,
            client_secret TEXT NOT NULL,
            -- Words, as JSON.
            scopes TEXT NOT NULL,
            name_claim TEXT NOT NULL,
            groups_claim TEXT NOT NULL,
            -- The authority that vouches for it, as PEM; empty for those that everybody trusts.
            certificate TEXT NOT NULL,
            -- Where the pages are reached, as JSON.
            addresses TEXT NOT NULL,
            -- Seals what a browser keeps while somebody is there.
            ticket_key BLOB NOT NULL,
            version INTEGER NOT NULL DEFAULT 1
        ) STRICT;

        -- Ways in that were used.
        CREATE TABLE provider_ticket (
            ticket_hash BLOB PRIMARY KEY,
            at INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX provider_ticket_at ON provider_ticket (at);

        -- Who somebody is there. Such an account has no password here.
        ALTER TABLE account ADD COLUMN issuer TEXT;
        ALTER TABLE account ADD COLUMN subject TEXT;
        CREATE INDEX account_of_provider ON account (issuer, subject) WHERE issuer IS NOT NULL;
        ",
}, Migration {
    name: "virtual machines",
    sql: "
        CREATE TABLE folder (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL,
            parent INTEGER REFERENCES folder (id),
            version INTEGER NOT NULL DEFAULT 1
        ) STRICT;
        CREATE INDEX folder_in ON folder (parent);

        -- The last number that a folder was given.
        CREATE TABLE folder_number (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            last INTEGER NOT NULL
        ) STRICT;

        CREATE TABLE vm (
            id TEXT PRIMARY KEY,
            -- As in what it shall be.
            name TEXT NOT NULL,
            folder INTEGER REFERENCES folder (id),
            host INTEGER NOT NULL,
            -- What it shall be and what is done with it by itself, as JSON.
            spec TEXT NOT NULL,
            policy TEXT NOT NULL,
            is_wanted_on INTEGER NOT NULL,
            -- Counts the changes of what libvirt is told.
            described INTEGER NOT NULL DEFAULT 1,
            made_at INTEGER NOT NULL,
            made_by TEXT NOT NULL,
            version INTEGER NOT NULL DEFAULT 1
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX vm_by_name ON vm (name COLLATE NOCASE, id);
        CREATE INDEX vm_in ON vm (folder);
        CREATE INDEX vm_on ON vm (host);

        -- How its host saw it last.
        CREATE TABLE vm_seen (
            vm TEXT PRIMARY KEY REFERENCES vm (id) ON DELETE CASCADE,
            state TEXT NOT NULL,
            since INTEGER NOT NULL,
            -- As JSON.
            more TEXT NOT NULL
        ) STRICT, WITHOUT ROWID;

        -- Since when it has not been heard by whoever leads, in milliseconds.
        ALTER TABLE host ADD COLUMN lost_at INTEGER;

        CREATE INDEX task_open_of ON task (object, id) WHERE ended_at IS NULL;
        ",
}, Migration {
    name: "pools and volumes",
    sql: "
        CREATE TABLE pool (
            id TEXT PRIMARY KEY,
            name TEXT NOT NULL UNIQUE COLLATE NOCASE,
            kind TEXT NOT NULL,
            -- From this share of its room on, in per cent, nothing new is put into it.
            full_at INTEGER NOT NULL,
            version INTEGER NOT NULL DEFAULT 1
        ) STRICT, WITHOUT ROWID;
        -- What every host has.
        INSERT INTO pool (id, name, kind, full_at) VALUES ('local', 'local', 'directory', 90);

        -- How a host saw a pool last.
        CREATE TABLE pool_seen (
            pool TEXT NOT NULL REFERENCES pool (id) ON DELETE CASCADE,
            host INTEGER NOT NULL,
            state TEXT NOT NULL,
            since INTEGER NOT NULL,
            trouble TEXT NOT NULL,
            capacity INTEGER NOT NULL,
            used INTEGER NOT NULL,
            PRIMARY KEY (pool, host)
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE volume (
            id TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            pool TEXT NOT NULL REFERENCES pool (id),
            host INTEGER NOT NULL,
            bytes INTEGER NOT NULL,
            -- What it takes, as its host saw it last.
            used INTEGER,
            state TEXT NOT NULL,
            -- The machine that has it among its disks.
            vm TEXT,
            made_at INTEGER NOT NULL,
            made_by TEXT NOT NULL,
            version INTEGER NOT NULL DEFAULT 1
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX volume_by_name ON volume (name COLLATE NOCASE, id);
        CREATE UNIQUE INDEX volume_in ON volume (host, pool, name COLLATE NOCASE);
        CREATE INDEX volume_of ON volume (vm);
        ",
}, Migration {
    name: "images",
    sql: "
        CREATE TABLE image (
            id TEXT PRIMARY KEY,
            name TEXT NOT NULL UNIQUE COLLATE NOCASE,
            -- The file it came as, and what system that speaks of.
            file TEXT NOT NULL,
            os TEXT NOT NULL,
            os_version TEXT NOT NULL,
            pool TEXT NOT NULL REFERENCES pool (id),
            host INTEGER NOT NULL,
            length INTEGER NOT NULL,
            sha256 TEXT,
            format TEXT,
            bytes INTEGER,
            used INTEGER,
            state TEXT NOT NULL,
            made_at INTEGER NOT NULL,
            made_by TEXT NOT NULL,
            version INTEGER NOT NULL DEFAULT 1
        ) STRICT, WITHOUT ROWID;
        ",
}, Migration {
    name: "what guests are told",
    sql: "ALTER TABLE vm ADD COLUMN cloud_init TEXT;",
}, Migration {
    name: "layers and snapshots",
    sql: "
        -- A file that volumes consist of.
        CREATE TABLE layer (
            id TEXT PRIMARY KEY,
            -- The volume it is a part of, while that is there.
            volume TEXT,
            pool TEXT NOT NULL,
            host INTEGER NOT NULL,
            -- What it lies on: a layer, or an image.
            parent TEXT,
            image TEXT,
            bytes INTEGER NOT NULL,
            -- What it takes, as its host saw it last.
            used INTEGER,
            is_missing INTEGER NOT NULL DEFAULT 0,
            -- It is another name of that layer.
            alias_of TEXT
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX layer_of ON layer (volume);
        CREATE INDEX layer_on ON layer (parent);
        CREATE INDEX layer_from ON layer (image) WHERE image IS NOT NULL;
        CREATE INDEX layer_at ON layer (host, pool);

        -- The layer in which a volume is written to.
        ALTER TABLE volume ADD COLUMN layer TEXT;
        UPDATE volume SET layer = id;
        CREATE INDEX volume_in_layer ON volume (layer);
        INSERT INTO layer (id, volume, pool, host, bytes, used, is_missing)
            SELECT id, id, pool, host, bytes, used, state = 'missing' FROM volume;

        -- A moment of a machine to which one can go back.
        CREATE TABLE snapshot (
            id TEXT PRIMARY KEY,
            vm TEXT NOT NULL,
            name TEXT NOT NULL,
            description TEXT NOT NULL,
            -- The one that the machine went on from then.
            parent TEXT,
            -- What the machine was.
            spec TEXT NOT NULL,
            has_memory INTEGER NOT NULL,
            -- What that takes.
            memory INTEGER,
            is_frozen INTEGER NOT NULL DEFAULT 0,
            is_ready INTEGER NOT NULL DEFAULT 0,
            made_at INTEGER NOT NULL,
            made_by TEXT NOT NULL,
            version INTEGER NOT NULL DEFAULT 1
        ) STRICT, WITHOUT ROWID;
        CREATE UNIQUE INDEX snapshot_of ON snapshot (vm, name COLLATE NOCASE);
        CREATE INDEX snapshot_after ON snapshot (parent);

        CREATE TABLE snapshot_disk (
            snapshot TEXT NOT NULL REFERENCES snapshot (id),
            volume TEXT NOT NULL,
            layer TEXT NOT NULL,
            PRIMARY KEY (snapshot, volume)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX snapshot_disk_of ON snapshot_disk (volume);
        CREATE INDEX snapshot_disk_in ON snapshot_disk (layer);

        -- The snapshot that a machine goes on from.
        ALTER TABLE vm ADD COLUMN snapshot TEXT;
        ",
}, Migration {
    name: "machines that come as a file",
    sql: "ALTER TABLE image ADD COLUMN draft TEXT;",
}, Migration {
    name: "pools on disks of one host",
    sql: "
        -- The host that it is on alone, and the disks there; nothing for one that every host has.
        ALTER TABLE pool ADD COLUMN host INTEGER;
        ALTER TABLE pool ADD COLUMN disks TEXT NOT NULL DEFAULT '[]';
        ",
}, Migration {
    name: "snapshots by themselves",
    sql: "
        CREATE TABLE schedule (
            id TEXT PRIMARY KEY,
            vm TEXT NOT NULL,
            -- When: JSON, as in the API.
            moments TEXT NOT NULL,
            keep INTEGER NOT NULL,
            next_at INTEGER NOT NULL,
            -- What was begun for it, and has not been seen to have ended.
            task INTEGER,
            trouble TEXT NOT NULL DEFAULT '',
            made_at INTEGER NOT NULL,
            made_by TEXT NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX schedule_of ON schedule (vm);
        -- What made it; nothing for people.
        ALTER TABLE snapshot ADD COLUMN schedule TEXT;
        CREATE INDEX snapshot_by ON snapshot (schedule) WHERE schedule IS NOT NULL;
        ",
}, Migration {
    name: "images on several hosts",
    sql: "
        -- Hosts besides its own that have an image. It goes with the image, once its host has removed its file.
        CREATE TABLE image_copy (
            image TEXT NOT NULL,
            host INTEGER NOT NULL,
            PRIMARY KEY (image, host)
        ) STRICT, WITHOUT ROWID;
        ",
}, Migration {
    name: "a catalogue of one's own",
    sql: "
        -- Instead of the one that is built in.
        CREATE TABLE catalogue (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            url TEXT NOT NULL,
            allow_private INTEGER NOT NULL,
            -- The authority that vouches for whoever has it, as PEM.
            authority TEXT NOT NULL,
            -- What it offers, as JSON.
            items TEXT NOT NULL,
            fetched_at INTEGER NOT NULL
        ) STRICT;
        ",
}];
