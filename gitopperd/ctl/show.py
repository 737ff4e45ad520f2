"""Answers as lines that a person reads; every text that came from a server is made visible first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from gitopperd.ctl.errors import Answer
from gitopperd.ctl.table import Column, lines_of
from gitopperd.ctl.text import Terminal, pad, readable

__all__ = [
    "SHORT_HASH",
    "acknowledged",
    "audit",
    "event",
    "machines",
    "numbered",
    "reloaded",
    "service",
    "services",
]

Answers = Mapping[str, Answer]
"""Host label to answer; only the hosts that answered well."""

COLOURS = {"OK": "green", "FREEZE": "cyan", "ROLLBACK": "yellow", "BROKEN": "red", "DIFF": "magenta"}
SHORT_HASH = 12

NUMBER = Column(title="#")
HOST = Column(title="HOST")
SERVICES = (
    Column(title="SERVICE"),
    Column(title="HASH", least=SHORT_HASH, elide=False),
    Column(title="STATE", colours=COLOURS),
    Column(title="INFO", least=12),
    Column(title="CHANGED"),
)
MEMBERS = ("service", "hash", "state", "stateinfo", "change")

AUDIT = (
    Column(title="TIME"),
    Column(title="WHO"),
    Column(title="ACTION"),
    Column(title="SERVICE"),
    Column(title="STATUS"),
    Column(title="FROM"),
    Column(title="REASON", least=12),
)
ATTEMPT = ("time", "who", "action", "service", "status", "origin", "reason")
STATUS = ATTEMPT.index("status")

# What was done, and the states in which nothing more need be said.
PHRASES = {
    "freeze": ("{service} frozen at {hash}", ("FREEZE",)),
    "unfreeze": ("{service} tracks its branch again, now at {hash}", ("OK",)),
    "rollback": ("{service} rolls back to {target}, now at {hash}", ("ROLLBACK", "FREEZE")),
    "retry": ("{service} tries again what failed before, now at {hash}", ("OK", "BROKEN")),
    "pull": ("{service} looks at its upstream, now at {hash}", ("OK",)),
}


def machines(answers: Answers, terminal: Terminal) -> list[str]:
    """Show the machines in each host's config."""
    rows = [(label, [readable(name)]) for label, answer in answers.items() for name in answer["machines"]]
    return numbered((Column(title="MACHINE"),), rows, answers, terminal)


def services(answers: Answers, terminal: Terminal) -> list[str]:
    """Show the services of each host."""
    rows = [(label, _cells(item)) for label, answer in answers.items() for item in answer["services"]]
    return numbered(SERVICES, rows, answers, terminal)


def audit(answers: Answers, terminal: Terminal) -> list[str]:
    """Show who did what on each host."""
    rows = [
        (label, [readable(item.get(member)) for member in ATTEMPT])
        for label, answer in answers.items()
        for item in answer["audit"]
    ]
    for _, cells in rows:
        # Written before it is carried out: a daemon that ended in between can't tell its result.
        cells[STATUS] = {"0": "unknown"}.get(cells[STATUS], cells[STATUS])
    return numbered(AUDIT, rows, answers, terminal)


def reloaded(answers: Answers, terminal: Terminal) -> list[str]:  # noqa: ARG001
    """Show that each host took its configuration, and what it says of that."""
    lines = []
    for label, answer in answers.items():
        told = f"the configuration is read; services: {readable(answer['services'])}"
        note = readable(answer.get("note"))
        lines.append(f"{readable(label)}: {told}{'; ' if note else ''}{note}")
    return lines


def event(label: str, happened: Answer, terminal: Terminal) -> str:
    """Show one event on one line."""
    at, kind, service, upstream = (
        readable(happened.get(member)) for member in ("time", "kind", "service", "upstream")
    )
    about = service or upstream
    details = happened.get("details")
    told = details.items() if isinstance(details, dict) else ()
    words = [
        f"{readable(name)}={_worded(name, value, terminal)}"
        for name, value in told
        if value not in ("", None)
    ]
    return "  ".join(part for part in (at, readable(label), kind, about, " ".join(words)) if part)


def service(answers: Answers, terminal: Terminal) -> list[str]:
    """Show all that each host tells about one service, one member to a line."""
    lines: list[str] = []
    for label, answer in answers.items():
        members = {"host": label, **answer} if len(answers) > 1 else answer
        lines += [""] if lines else []
        lines += _vertical(members, terminal)
    return lines


def acknowledged(verb: str, target: str, answers: Answers, terminal: Terminal) -> list[str]:
    """Show what was done on each host, and the state where it is not what one would expect."""
    phrase, expected = PHRASES[verb]
    lines = []
    for label, answer in answers.items():
        name, commit, state, info, _ = _cells(answer)
        line = phrase.format(service=name, target=target, hash=commit or "no commit yet")
        if until := readable(answer.get("until")):
            line += f" until {until}"
        if state not in expected:
            line += f" ({_coloured(state, terminal)}{': ' if info else ''}{info})"
        lines.append(f"{readable(label)}: {line}")
    return lines


def _cells(item: Answer) -> list[str]:
    """Return a service as cells of a table; why it is held, by whom and until when is part of its info."""
    service, commit, state, info, change = (readable(item.get(member)) for member in MEMBERS)
    until, by = readable(item.get("until")), readable(item.get("by"))
    said = f"frozen by {by}" if by else "frozen until " if until else "frozen: "
    if said not in info:  # else the daemon has said all of it there
        when_and_who = ", ".join(filter(None, (until and f"until {until}", by and f"by {by}")))
        reason = readable(item.get("reason"))
        why = f"{reason} ({when_and_who})" if reason and when_and_who else reason or when_and_who
        info = "; ".join(filter(None, (info, why)))
    return [service, commit, state, info, change]


def _worded(name: str, value: object, terminal: Terminal) -> str:
    text = readable(value)
    if name in {"before", "after"}:
        return _coloured(text, terminal)
    return json.dumps(text, ensure_ascii=False) if " " in text else text


def numbered(
    columns: tuple[Column, ...],
    rows: list[tuple[str, list[str]]],
    answers: Answers,
    terminal: Terminal,
) -> list[str]:
    """Put a number before each row, and its host where there are several; no answers, no table."""
    if not answers:
        return []
    several = terminal.hosts or len(answers) > 1
    head = (NUMBER, HOST) if several else (NUMBER,)
    numbered = [
        [str(number), *([readable(label)] if several else []), *cells]
        for number, (label, cells) in enumerate(rows, start=1)
    ]
    return lines_of((*head, *columns), numbered, terminal)


def _vertical(members: Mapping[str, Any], terminal: Terminal) -> list[str]:
    names = {name: readable(name) for name in members}
    width = max(map(len, names.values()))
    lines = []
    for name, value in members.items():
        text = readable(value)
        shown = _coloured(text, terminal) if name == "state" else text
        lines.append(f"{pad(names[name], width)}  {shown}".rstrip())
    return lines


def _coloured(state: str, terminal: Terminal) -> str:
    fg = COLOURS.get(state) if terminal.colour else None
    return click.style(state, fg=fg) if fg else state
