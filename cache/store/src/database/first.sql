-- The first schema. Later ones are made of it, in new stores as in old: nothing here changes any more.
-- Times are microseconds since 1970, digests and keys their 32 bytes. `boot` and `synced` are
-- explained in `durability`.
CREATE TABLE blobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    digest BLOB NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    created INTEGER NOT NULL,
    boot TEXT NOT NULL,
    synced INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX blobs_unsynced ON blobs (id) WHERE synced = 0;
CREATE TABLE snapshots (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    parent INTEGER,
    diff_id BLOB,
    chain_id BLOB,
    content BLOB NOT NULL,
    tree_root BLOB NOT NULL,
    size INTEGER NOT NULL,
    created INTEGER NOT NULL,
    boot TEXT NOT NULL,
    synced INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX snapshots_parent ON snapshots (parent);
CREATE INDEX snapshots_chain ON snapshots (chain_id) WHERE chain_id IS NOT NULL;
CREATE INDEX snapshots_unsynced ON snapshots (id) WHERE synced = 0;
CREATE TABLE layer_blobs (
    diff_id BLOB NOT NULL,
    compression TEXT NOT NULL,
    digest BLOB NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (diff_id, compression)
) WITHOUT ROWID;
CREATE TABLE results (
    key BLOB PRIMARY KEY,
    kind TEXT NOT NULL,
    preimage TEXT NOT NULL,
    name TEXT NOT NULL,
    started INTEGER NOT NULL,
    duration INTEGER NOT NULL,
    created INTEGER NOT NULL
);
CREATE INDEX results_name ON results (name, created);
CREATE TABLE outputs (
    key BLOB NOT NULL,
    position INTEGER NOT NULL,
    snapshot INTEGER,
    PRIMARY KEY (key, position)
) WITHOUT ROWID;
CREATE INDEX outputs_snapshot ON outputs (snapshot);
CREATE TABLE images (
    id BLOB PRIMARY KEY,
    top INTEGER,
    diff_ids BLOB NOT NULL,
    manifest BLOB,
    created INTEGER,
    size INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE names (
    name TEXT PRIMARY KEY,
    image BLOB NOT NULL,
    tagged INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX names_image ON names (image);
CREATE TABLE leases (
    owner TEXT NOT NULL,
    lease INTEGER NOT NULL,
    snapshot INTEGER,
    digest BLOB
);
CREATE INDEX leases_owner ON leases (owner, lease);
CREATE TABLE builds (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    started INTEGER NOT NULL,
    duration INTEGER NOT NULL,
    steps INTEGER NOT NULL,
    cached INTEGER NOT NULL,
    image BLOB,
    error TEXT
);
CREATE TABLE mounts (
    directory TEXT PRIMARY KEY,
    id TEXT NOT NULL,
    created INTEGER NOT NULL
) WITHOUT ROWID;
