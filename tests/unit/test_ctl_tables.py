"""What a person sees: safe, aligned, and as wide as the terminal."""

from __future__ import annotations

import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitopperd.ctl import show
from gitopperd.ctl.text import Terminal, clip, columns_of, pad, readable, visible

HASH = "606eb57fb4e1bd0a8df1b3d0ed3f6b3a1bd0b0a0"
PIPE = Terminal()
CHANGED = "Fri, 18 Nov 2022 09:14:52 UTC"


def service(name: str = "grafana-server", **members: object) -> dict[str, object]:
    return {"service": name, "hash": HASH, "state": "OK", "stateinfo": "", "change": CHANGED, **members}


def services(*items: dict[str, object]) -> dict[str, object]:
    return {"services": list(items)}


@given(st.text(st.characters(codec=None)))
def test_nothing_that_steers_a_terminal_gets_through(text: str) -> None:
    shown = visible(text)
    assert all(not unicodedata.category(char).startswith("C") for char in shown)
    assert not set(shown) & {"\u2028", "\u2029", "\x1b", "\n", "\r"}
    shown.encode()


def test_escapes_are_seen_rather_than_obeyed() -> None:
    assert visible("\x1b[2Jgone\r\n") == r"\x1b[2Jgone\r\n"
    assert visible("\u202egnp.exe") == r"\u202egnp.exe"
    assert visible("\udc80") == r"\udc80"
    assert visible("größe 漢字") == "größe 漢字"


def test_members_that_are_no_strings_are_shown_as_json() -> None:
    assert readable(None) == ""
    assert readable({"a": ["\x1b", 1]}) == r'{"a": ["\u001b", 1]}'
    assert readable(True) == "true"


@given(st.text(), st.integers(1, 30))
def test_a_clipped_text_never_takes_more_columns_than_it_may(text: str, limit: int) -> None:
    shown = clip(visible(text), limit)
    assert columns_of(shown) <= limit
    assert columns_of(pad(shown, limit)) == limit


def test_wide_and_combining_characters_are_measured_as_a_terminal_shows_them() -> None:
    assert columns_of("漢字") == 4
    assert columns_of("e\u0301") == 1


def test_a_pipe_gets_everything_in_full() -> None:
    info = "checkout failed: " + "x" * 300
    lines = show.services({"web1": services(service(state="BROKEN", stateinfo=info))}, PIPE)
    assert lines[0].split() == ["#", "SERVICE", "HASH", "STATE", "INFO", "CHANGED"]
    assert lines[1].split("  ") == ["1", "grafana-server", HASH, "BROKEN", info, CHANGED]


def test_columns_stand_below_their_titles() -> None:
    answer = services(service("a"), service("a-much-longer-name", state="FREEZE"), service("漢字"))
    head, *rows = show.services({"web1": answer}, PIPE)
    for title, cells in {"HASH": [HASH] * 3, "CHANGED": [CHANGED] * 3}.items():
        at = head.index(title)
        for row, cell in zip(rows, cells, strict=True):
            assert columns_of(row[: row.index(cell)]) == at


def test_a_narrow_terminal_gets_a_short_hash_before_anything_else_is_cut() -> None:
    answers = {"web1": services(service(stateinfo="why it is so"))}
    wide = show.services(answers, Terminal(width=125))
    assert HASH in wide[1]
    narrow = show.services(answers, Terminal(width=100))
    assert HASH not in narrow[1]
    assert HASH[:12] in narrow[1]
    assert "why it is so" in narrow[1]


def test_then_the_info_is_cut_and_says_so() -> None:
    answers = {"web1": services(service(state="DIFF", stateinfo="upstream does not answer: " + "y" * 200))}
    lines = show.services(answers, Terminal(width=100))
    assert max(map(columns_of, lines)) == 100
    assert "upstream d" in lines[1]
    assert "…" in lines[1]
    assert lines[1].endswith(CHANGED)


def test_info_keeps_twelve_columns_however_narrow_the_terminal_is() -> None:
    answers = {"web1": services(service(stateinfo="0123456789abcdef"))}
    assert "0123456789a…" in show.services(answers, Terminal(width=20))[1]


@pytest.mark.parametrize("state", ["OK", "FREEZE", "ROLLBACK", "BROKEN", "DIFF"])
def test_a_state_has_a_colour_where_colours_are_wanted(state: str) -> None:
    answers = {"web1": services(service(state=state))}
    assert "\x1b[3" in show.services(answers, Terminal(colour=True))[1]
    assert "\x1b" not in "".join(show.services(answers, PIPE))


def test_colours_do_not_move_a_column() -> None:
    answers = {"web1": services(service(), service(state="NEW-STATE"))}
    _, coloured, plain = show.services(answers, Terminal(colour=True))
    assert coloured.replace("\x1b[32m", "").replace("\x1b[0m", "").index(CHANGED) == plain.index(CHANGED)


def test_a_hostile_answer_can_put_no_escape_into_any_output() -> None:
    evil = "\x1b]0;pwned\x07\u202e"
    item = service(evil, hash=evil, state=evil, stateinfo=evil, change=evil, **{evil: [evil]})
    outputs = [
        show.services({"web1": services(item)}, PIPE),
        show.service({"web1": item}, PIPE),
        show.machines({"web1": {"machines": [evil]}}, PIPE),
        *(show.acknowledged(verb, "606e", {"web1": item}, PIPE) for verb in show.PHRASES),
    ]
    for lines in outputs:
        assert "pwned" in "".join(lines)
        assert all(line.isprintable() for line in lines)


def test_several_hosts_are_told_apart_in_a_column_and_numbered_through() -> None:
    answers = {"web1": services(service("a"), service("b")), "web2:8001": services(service("a"))}
    head, *rows = show.services(answers, PIPE)
    assert head.split()[:3] == ["#", "HOST", "SERVICE"]
    assert [row.split()[:3] for row in rows] == [
        ["1", "web1", "a"],
        ["2", "web1", "b"],
        ["3", "web2:8001", "a"],
    ]


def test_a_host_without_services_has_a_table_without_rows() -> None:
    assert len(show.services({"web1": services()}, PIPE)) == 1
    assert show.services({}, PIPE) == []


def test_one_service_is_listed_with_every_member_that_the_daemon_tells() -> None:
    lines = show.service({"web1": service(branch="main", dirs=["/etc/grafana"])}, PIPE)
    assert lines[0] == "service    grafana-server"
    assert lines[3] == "stateinfo"
    assert lines[-2:] == ["branch     main", 'dirs       ["/etc/grafana"]']


def test_the_same_service_on_several_hosts_says_which_is_which() -> None:
    lines = show.service({"web1": service(), "web2": service()}, PIPE)
    assert [line for line in lines if line.startswith("host") or not line] == [
        "host       web1",
        "",
        "host       web2",
    ]


@pytest.mark.parametrize(
    ("verb", "answer", "line"),
    [
        ("freeze", service(state="FREEZE"), f"web1: grafana-server frozen at {HASH}"),
        (
            "freeze",
            service(hash="", state="DIFF", stateinfo="not fetched yet"),
            "web1: grafana-server frozen at no commit yet (DIFF: not fetched yet)",
        ),
        ("unfreeze", service(), f"web1: grafana-server tracks its branch again, now at {HASH}"),
        (
            "rollback",
            service(state="ROLLBACK", stateinfo="to 8df1b3d"),
            f"web1: grafana-server rolls back to 8df1, now at {HASH}",
        ),
        (
            "retry",
            service(state="BROKEN", stateinfo="not tried again before a change, or `do retry`"),
            f"web1: grafana-server tries again what failed before, now at {HASH}",
        ),
        (
            "pull",
            service(state="FREEZE"),
            f"web1: grafana-server looks at its upstream, now at {HASH} (FREEZE)",
        ),
    ],
)
def test_an_acknowledgement_says_the_state_unless_it_is_the_one_expected(
    verb: str, answer: dict[str, object], line: str
) -> None:
    assert show.acknowledged(verb, "8df1", {"web1": answer}, PIPE) == [line]


class TerminalStream(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_a_width_and_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "97")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert Terminal.of(TerminalStream()) == Terminal(width=97, colour=True)
    assert Terminal.of(io.StringIO()) == Terminal(width=None, colour=False)


@pytest.mark.parametrize("setting", [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_can_be_refused(monkeypatch: pytest.MonkeyPatch, setting: tuple[str, str]) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(*setting)
    assert not Terminal.of(TerminalStream()).colour


def test_the_host_is_named_where_several_were_asked_although_one_answered() -> None:
    answers = {"web1": {"services": [{"service": "nginx", "hash": "", "state": "OK"}]}}
    assert "HOST" not in show.services(answers, PIPE)[0]
    head, row = show.services(answers, Terminal(hosts=True))
    assert head.split()[:3] == ["#", "HOST", "SERVICE"]
    assert row.split()[:3] == ["1", "web1", "nginx"]
