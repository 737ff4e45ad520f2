-- What the first version of the schema wrote: a dump of its file, made by that program.
BEGIN TRANSACTION;
CREATE TABLE attempt (
        service   TEXT PRIMARY KEY,
        revision  TEXT NOT NULL,
        release   TEXT NOT NULL,
        content   TEXT NOT NULL,
        placement TEXT NOT NULL
    ) STRICT;
INSERT INTO "attempt" VALUES('web','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','r2','{"revision": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "entries": [["web/etc", "1111111111111111111111111111111111111111", 16384]]}','{"name": "web", "upstream": "https://example.net/r", "branch": "main", "mappings": [["web/etc", "/etc/web", false]], "mount": "/mount", "user": null, "publish": "bind", "readonly": false}');
CREATE TABLE deployed (
        service   TEXT PRIMARY KEY,
        revision  TEXT NOT NULL,
        release   TEXT NOT NULL,
        content   TEXT NOT NULL,
        placement TEXT NOT NULL,
        at        TEXT NOT NULL,
        note      TEXT NOT NULL
    ) STRICT;
INSERT INTO "deployed" VALUES('web','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','r1','{"revision": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "entries": [["web/etc", "1111111111111111111111111111111111111111", 16384]]}','{"name": "web", "upstream": "https://example.net/r", "branch": "main", "mappings": [["web/etc", "/etc/web", false]], "mount": "/mount", "user": null, "publish": "bind", "readonly": false}','2026-01-02T03:04:05.678901+00:00','n');
CREATE TABLE history (
        id       INTEGER PRIMARY KEY,
        service  TEXT NOT NULL,
        revision TEXT NOT NULL,
        release  TEXT NOT NULL,
        at       TEXT NOT NULL
    ) STRICT;
INSERT INTO "history" VALUES(1,'web','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','r1','2026-01-02T03:04:05.678901+00:00');
CREATE TABLE intent (
        service  TEXT PRIMARY KEY,
        kind     TEXT NOT NULL,
        revision TEXT,
        since    TEXT
    ) STRICT;
INSERT INTO "intent" VALUES('web','freeze',NULL,'2026-01-02T03:04:05.678901+00:00');
INSERT INTO "intent" VALUES('db','rollback','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','2026-01-02T03:04:05.678901+00:00');
INSERT INTO "intent" VALUES('api','track',NULL,NULL);
CREATE TABLE shown (
        service TEXT PRIMARY KEY,
        state   TEXT NOT NULL,
        hash    TEXT NOT NULL,
        change  TEXT NOT NULL
    ) STRICT;
INSERT INTO "shown" VALUES('web','FREEZE','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','2026-01-02T03:04:05.678901+00:00');
CREATE INDEX history_by_service ON history (service, id);
COMMIT;
PRAGMA user_version = 1;
