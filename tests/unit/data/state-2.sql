-- What the second version of the schema wrote: a dump of its file, made by that program.
BEGIN TRANSACTION;
CREATE TABLE attempt (
        service   TEXT PRIMARY KEY,
        revision  TEXT NOT NULL,
        release   TEXT NOT NULL,
        content   TEXT NOT NULL,
        placement TEXT NOT NULL
    ) STRICT;
INSERT INTO "attempt" VALUES('web','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','r2','{"revision": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "entries": [["web/etc", "1111111111111111111111111111111111111111", 16384]]}','{"name": "web", "upstream": "https://example.net/r", "branch": "main", "mappings": [["web/etc", "/etc/web", false]], "mount": "/mount", "user": null, "publish": "bind", "readonly": false}');
CREATE TABLE audit (
        id      INTEGER PRIMARY KEY,
        at      TEXT NOT NULL,
        who     TEXT NOT NULL,
        action  TEXT NOT NULL,
        service TEXT,
        origin  TEXT NOT NULL,
        status  INTEGER NOT NULL,
        reason  TEXT NOT NULL,
        refused INTEGER NOT NULL
    ) STRICT;
INSERT INTO "audit" VALUES(1,'2026-01-02T03:04:05.678901+00:00','ops','freeze','web','192.0.2.1',200,'',0);
INSERT INTO "audit" VALUES(2,'2026-01-02T03:04:05.678901+00:00','','freeze','web','192.0.2.9',401,'no credentials',1);
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
    , reason TEXT NOT NULL DEFAULT '', until TEXT, asked_by TEXT NOT NULL DEFAULT '') STRICT;
INSERT INTO "intent" VALUES('web','freeze',NULL,'2026-01-02T03:04:05.678901+00:00','upgrade','2026-01-02T05:04:05.678901+00:00','ops');
INSERT INTO "intent" VALUES('db','rollback','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','2026-01-02T03:04:05.678901+00:00','',NULL,'');
INSERT INTO "intent" VALUES('api','track',NULL,NULL,'',NULL,'');
CREATE TABLE shown (
        service TEXT PRIMARY KEY,
        state   TEXT NOT NULL,
        hash    TEXT NOT NULL,
        change  TEXT NOT NULL
    ) STRICT;
INSERT INTO "shown" VALUES('web','FREEZE','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','2026-01-02T03:04:05.678901+00:00');
CREATE INDEX history_by_service ON history (service, id);
CREATE INDEX audit_by_service ON audit (service, id);
CREATE INDEX audit_by_kind ON audit (refused, id);
COMMIT;
PRAGMA user_version = 2;
