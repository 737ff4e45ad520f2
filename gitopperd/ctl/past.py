"""History, explanations and differences as lines that a person reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from gitopperd.ctl.errors import Answer
from gitopperd.ctl.show import SHORT_HASH, numbered
from gitopperd.ctl.table import Column
from gitopperd.ctl.text import Terminal, pad, readable, visible

__all__ = ["explanation", "heading", "history", "patch"]

Answers = Mapping[str, Answer]

RESULTS = {"deployed": "green", "failed": "red", "taken back": "red", "healed": "yellow"}
HISTORY = (
    Column(title="TIME"),
    Column(title="FROM"),
    Column(title="TO"),
    Column(title="RESULT", colours=RESULTS),
    Column(title="TRIES"),
    Column(title="FILES"),
    Column(title="SECONDS"),
    Column(title="ASKED", least=8),
    Column(title="WHY", least=12),
)
NOTHING = "-"
UNTOUCHED = "nothing was changed on the host"
FILES_SHOWN = 20
PATCH_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def history(answers: Answers, terminal: Terminal) -> list[str]:
    """Show the deploys of a service on each host."""
    rows = [(label, _deploy(entry)) for label, answer in answers.items() for entry in answer["history"]]
    return numbered(HISTORY, rows, answers, terminal)


def explanation(answers: Answers, terminal: Terminal) -> list[str]:
    """Show what each host has to say of a commit: all of it in a line, and then the parts."""
    lines: list[str] = []
    for label, answer in answers.items():
        lines += [""] if lines else []
        told = f"{readable(label)}: " if terminal.hosts else ""
        lines += [f"{told}{readable(answer.get('verdict'))}", ""]
        parts = [(name, texts) for name, texts in _parts(answer) if any(texts)]
        width = max((len(name) for name, _ in parts), default=0)
        for name, texts in parts:
            lines += [
                f"{pad(name if number == 0 else '', width)}  {text}" for number, text in enumerate(texts)
            ]
    return lines


def heading(label: str, answer: Answer) -> str:
    """Tell in one line what a difference is between."""
    kind, total = answer.get("kind"), _count(answer.get("changes_total"))
    files = f"{total} file{'s' if total != 1 else ''}"
    before, after = _short(answer.get("from")), _short(answer.get("to"))
    told = {
        "drift": f"changed on the host since {before}: {files}" if total else UNTOUCHED,
        "kept-drift": _kept(answer, files),
        "upstream": f"what would come, from {before} to {after}: {files}",
        "revisions": f"from {before} to {after}: {files}",
    }.get(str(kind), f"{readable(kind)}: {files}")
    return "; ".join(
        part for part in (f"{visible(label)}: {told}", _lacks(answer), _hint(answer, kind)) if part
    )


def patch(text: str, terminal: Terminal) -> Iterator[str]:
    """Yield the lines of a patch, safe to print; tabs stay."""
    for line in text.removesuffix("\n").split("\n") if text else ():
        shown = "\t".join(visible(part) for part in line.split("\t"))
        is_name = line.startswith(("+++ ", "--- "))
        fg = PATCH_COLOURS.get(line[:1]) if terminal.colour and not is_name else None
        yield click.style(shown, fg=fg) if fg else shown


def _deploy(entry: Answer) -> list[str]:
    return [
        readable(entry.get("last") or entry.get("time")),
        _short(entry.get("from")),
        _short(entry.get("to")),
        readable(entry.get("result")),
        readable(entry.get("tries")),
        readable(entry.get("files_total")),
        _seconds(entry.get("seconds")),
        readable(entry.get("asked")),
        readable(entry.get("error") or entry.get("why")),
    ]


def _parts(answer: Answer) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the parts of an explanation: a name, and lines."""
    commit, changes = _object(answer.get("commit")), _object(answer.get("changes"))
    yield "commit", [readable(answer.get("hash"))]
    yield "subject", [readable(commit.get("subject"))]
    yield "author", [readable(commit.get("author"))]
    yield "time", [readable(commit.get("time"))]
    yield "changes", [readable(changes.get("why") or changes.get("trouble")), *_files(changes)]
    yield "standing", [readable(answer.get("standing"))]
    yield "next", [_decision(answer.get("next"))]
    entries = answer.get("history")
    yield "history", [_entry(entry) for entry in entries] if isinstance(entries, list) else []
    yield "deployed", [readable(answer.get("deployed"))]
    if answer.get("published") != answer.get("deployed"):
        yield "published", [readable(answer.get("published"))]
    yield "wanted", [readable(answer.get("wanted"))]
    now = _decision(answer.get("now")) or readable(answer.get("trouble"))
    yield "now", [part for part in (now, readable(answer.get("unsettled"))) if part]


def _files(changes: Answer) -> list[str]:
    files = changes.get("files")
    listed = [_object(file) for file in files] if isinstance(files, list) else []
    shown = [
        " ".join(filter(None, (readable(file.get(part)) for part in ("kind", "path", "detail"))))
        for file in listed[:FILES_SHOWN]
    ]
    more = _count(changes.get("files_total")) - len(shown)
    return [*shown, f"and {more} more"] if more > 0 else shown


def _decision(decision: Any) -> str:
    told = _object(decision)
    until = told.get("until")
    parts = (told.get("does"), told.get("why"), told.get("note"), until and f"until {until}")
    return ": ".join(readable(part) for part in parts if part)


def _entry(entry: Any) -> str:
    told = _object(entry)
    tries = _count(told.get("tries"))
    words = (
        readable(told.get("last") or told.get("time")),
        readable(told.get("result")),
        f"({tries} times)" if tries > 1 else "",
        f"asked by {readable(told.get('asked'))}" if told.get("asked") else "",
        f"in {_seconds(told.get('seconds'))} s",
    )
    line = " ".join(word for word in words if word)
    return f"{line}: {readable(told['error'])}" if told.get("error") else line


def _kept(answer: Answer, files: str) -> str:
    if not answer.get("time"):
        return "no such patch is kept"
    became = "healed" if answer.get("healed") else "not healed"
    at, before = readable(answer.get("time")), _short(answer.get("from"))
    return f"changed on the host since {before}, found at {at}, {became}: {files}"


def _lacks(answer: Answer) -> str:
    if answer.get("complete", True):
        return ""
    if _count(answer.get("patch_bytes")) and not answer.get("patch"):
        size = _count(answer.get("patch_bytes")) / (1 << 20)
        return f"the patch is left out: it has {size:.0f} MiB; git can show it on the host"
    return "the patch is not complete: what is too large is not in it"


def _hint(answer: Answer, kind: object) -> str:
    kept = _count(answer.get("kept"))
    if not kept or kind == "revisions" or (kind == "drift" and answer.get("changes_total")):
        return ""
    if kind == "kept-drift":
        return f"{kept} are kept" if kept > 1 else ""
    are = "patch of earlier drift is" if kept == 1 else "patches of earlier drift are"
    return f"{kept} {are} kept: --kept shows the last"


def _short(hash_: Any) -> str:
    return readable(hash_)[:SHORT_HASH] or NOTHING


def _seconds(steps: Any) -> str:
    numbers = [value for value in _object(steps).values() if isinstance(value, (int, float))]
    return f"{sum(numbers):.1f}"


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _object(value: Any) -> Answer:
    return value if isinstance(value, dict) else {}
