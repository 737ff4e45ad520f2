"""History, explanations and differences as a person sees them: in a line each, and safe to print."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitopperd.ctl import past
from gitopperd.ctl.text import Terminal, columns_of

OLD, NEW = "606eb57fb4e1bd0a8df1b3d0ed3f6b3a1bd0b0a0", "7ab0f1e20c5d3f1c0a6b8de94c5f7a2b1e0d9c8b"
PIPE = Terminal()
EVIL = "\x1b]0;pwned\x07\u202e\n"


def deploy(**members: Any) -> dict[str, Any]:
    entry = {
        "time": "2026-11-22T15:02:11.402Z", "from": OLD, "to": NEW, "release": "r", "asked": "poll",
        "why": "mapped paths changed: web/etc", "files": [], "files_total": 2,
        "seconds": {"verify": 0.25, "reload": 1.0}, "result": "deployed", "error": "", "tries": 1,
        "last": None,
    }  # fmt: skip
    return entry | members


def explained(**members: Any) -> dict[str, Any]:
    changes = {
        "does": "deploy", "reasons": ["content"], "why": "mapped paths changed: web/etc",
        "files": [{"path": "web/etc/conf", "kind": "edited", "detail": ""}], "files_total": 1,
    }  # fmt: skip
    answer = {
        "service": "web", "verdict": "7ab0f1e20c5d changes web/etc (1 file); it is deployed",
        "reasons": ["content", "in-line"], "hash": NEW,
        "commit": {"author": "A U Thor", "time": "2026-11-22T15:00:00.000Z", "subject": "More workers"},
        "standing": "deployed", "changes": changes, "next": None, "came_with": None, "history": [deploy()],
        "deployed": NEW, "wanted": NEW, "trouble": "",
        "now": {"does": "keep", "why": "its commit is deployed", "note": "", "until": None},
    }  # fmt: skip
    return answer | members


def differs(**members: Any) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "service": "web", "kind": "drift", "from": OLD, "to": None, "changes": [], "changes_total": 0,
        "patch": "", "patch_bytes": 0, "complete": True, "time": None, "healed": False, "kept": 0,
    }  # fmt: skip
    return answer | members


def test_a_deploy_is_a_row_with_the_time_of_its_last_try() -> None:
    failed = deploy(
        result="failed", error="check failed", tries=3, last="2026-11-22T16:00:00.000Z", **{"from": None}
    )
    head, good, bad = past.history({"web1": {"history": [deploy(), failed]}}, PIPE)
    titles = ["#", "TIME", "FROM", "TO", "RESULT", "TRIES", "FILES", "SECONDS", "ASKED", "WHY"]
    assert head.split() == titles
    assert good.split(maxsplit=9) == [
        "1", "2026-11-22T15:02:11.402Z", OLD[:12], NEW[:12], "deployed", "1", "2", "1.2", "poll",
        "mapped paths changed: web/etc",
    ]  # fmt: skip
    assert bad.split(maxsplit=9) == [
        "2", "2026-11-22T16:00:00.000Z", "-", NEW[:12], "failed", "3", "2", "1.2", "poll", "check failed",
    ]  # fmt: skip


def test_on_a_narrow_terminal_the_reason_gives_way() -> None:
    answers = {"web1": {"history": [deploy(error="x" * 300)]}}
    lines = past.history(answers, Terminal(width=130))
    assert max(map(columns_of, lines)) == 130
    assert lines[1].endswith("…")


def test_results_have_colours_where_colours_are_wanted() -> None:
    answers = {"web1": {"history": [deploy(result=result) for result in past.RESULTS]}}
    assert all("\x1b[3" in line for line in past.history(answers, Terminal(colour=True))[1:])


def test_an_explanation_begins_with_the_answer() -> None:
    lines = past.explanation({"web1": explained()}, PIPE)
    assert lines[:2] == ["7ab0f1e20c5d changes web/etc (1 file); it is deployed", ""]
    assert lines[2:] == [
        f"commit    {NEW}",
        "subject   More workers",
        "author    A U Thor",
        "time      2026-11-22T15:00:00.000Z",
        "changes   mapped paths changed: web/etc",
        "          edited web/etc/conf",
        "standing  deployed",
        "history   2026-11-22T15:02:11.402Z deployed asked by poll in 1.2 s",
        f"deployed  {NEW}",
        f"wanted    {NEW}",
        "now       keep: its commit is deployed",
    ]


def test_what_is_not_known_has_no_line() -> None:
    nothing = explained(
        hash=None, commit=None, changes=None, standing=None, history=[], deployed=None, wanted=None,
        now=None, trouble="upstream was never fetched",
    )  # fmt: skip
    assert past.explanation({"web1": nothing}, PIPE)[2:] == ["now  upstream was never fetched"]


def test_many_files_are_counted_rather_than_listed() -> None:
    files = [{"path": f"web/{n}", "kind": "added", "detail": ""} for n in range(100)]
    changes = {"why": "first deploy", "files": files, "files_total": 12345}
    lines = past.explanation({"web1": explained(changes=changes)}, PIPE)
    assert lines.count("          and 12325 more") == 1
    assert sum("added web/" in line for line in lines) == 20


def test_several_hosts_are_told_apart() -> None:
    answers = {"web1": explained(), "web2": explained()}
    lines = past.explanation(answers, Terminal(hosts=True))
    assert [line for line in lines if line.startswith("web")] == [
        f"web1: {explained()['verdict']}",
        f"web2: {explained()['verdict']}",
    ]


HERE = f"changed on the host since {OLD[:12]}"
COMES = f"what would come, from {OLD[:12]} to {NEW[:12]}"
FOUND = "2026-11-22T15:00:00.000Z"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (differs(), ["nothing was changed on the host"]),
        (
            differs(kept=1),
            [
                "nothing was changed on the host",
                "1 patch of earlier drift is kept: --kept shows the last",
            ],
        ),
        (differs(changes_total=1, kept=3), [f"{HERE}: 1 file"]),
        (
            differs(changes_total=2, complete=False, patch="x", patch_bytes=1),
            [f"{HERE}: 2 files", "the patch is not complete: what is too large is not in it"],
        ),
        (differs(kind="upstream", to=NEW, changes_total=2, patch="x"), [f"{COMES}: 2 files"]),
        (
            differs(kind="upstream", to=NEW, changes_total=2, complete=False, patch_bytes=30 << 20),
            [f"{COMES}: 2 files", "the patch is left out: it has 30 MiB; git can show it on the host"],
        ),
        (
            differs(kind="upstream", to=NEW, kept=2, **{"from": None}),
            [
                f"what would come, from - to {NEW[:12]}: 0 files",
                "2 patches of earlier drift are kept: --kept shows the last",
            ],
        ),
        (
            differs(kind="revisions", to=NEW, changes_total=1, kept=2),
            [f"from {OLD[:12]} to {NEW[:12]}: 1 file"],
        ),
        (differs(kind="kept-drift"), ["no such patch is kept"]),
        (
            differs(kind="kept-drift", time=FOUND, healed=True, changes_total=1, kept=2),
            [f"{HERE}, found at {FOUND}, healed: 1 file", "2 are kept"],
        ),
        (differs(kind="new\x1b", changes_total=1), ["new\\x1b: 1 file"]),
    ],
)
def test_what_a_patch_is_is_told_in_a_line(answer: dict[str, Any], says: list[str]) -> None:
    assert past.heading("web1", answer) == f"web1: {'; '.join(says)}"


def test_a_patch_keeps_its_tabs_and_shows_what_would_steer_a_terminal() -> None:
    text = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\tb\r\n+\x1b[2J\udcff\u202e\n"
    assert list(past.patch(text, PIPE)) == [
        "--- a/x", "+++ b/x", "@@ -1 +1 @@", "-a\tb\\r", "+\\x1b[2J\\udcff\\u202e",
    ]  # fmt: skip
    coloured = list(past.patch(text, Terminal(colour=True)))
    assert [line.startswith("\x1b[3") for line in coloured] == [False, False, True, True, True]
    assert list(past.patch("", PIPE)) == []


@given(st.text(st.characters(codec=None)))
def test_no_patch_steers_a_terminal(text: str) -> None:
    assert all(line.replace("\t", "").isprintable() for line in past.patch(text, PIPE))


def test_a_hostile_answer_can_put_no_escape_into_any_output() -> None:
    file = {"path": EVIL, "kind": EVIL, "detail": EVIL}
    entry = deploy(
        time=EVIL, asked=EVIL, why=EVIL, error=EVIL, result=EVIL, to=EVIL, last=EVIL, tries=EVIL,
        seconds={EVIL: EVIL}, files_total=EVIL,
    )  # fmt: skip
    decision = {"does": EVIL, "why": EVIL, "note": EVIL, "until": EVIL}
    answer = explained(
        verdict=EVIL, hash=EVIL, standing=EVIL, history=[entry, EVIL], now=decision, next=decision,
        commit={"author": EVIL, "subject": EVIL, "time": EVIL}, deployed=EVIL, wanted=EVIL,
        changes={"why": EVIL, "files": [file, EVIL], "files_total": 1 << 60},
    )  # fmt: skip
    outputs = [
        past.history({EVIL: {"history": [entry]}}, Terminal(hosts=True)),
        past.explanation({EVIL: answer}, Terminal(hosts=True)),
        [past.heading(EVIL, differs(kind=EVIL, time=EVIL, **{"from": EVIL}))],
        [past.heading(EVIL, differs(kind="kept-drift", time=EVIL, **{"from": EVIL}))],
    ]
    for lines in outputs:
        assert "pwned" in "".join(lines)
        assert all(line.isprintable() for line in lines)
