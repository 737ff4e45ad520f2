"""The report of a run: the machine, a table, and JSON to compare later runs with."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from attrs import define, field

from tests.benchmarks.bench import Bench, Size
from tests.benchmarks.figures import Figure, short, spread, times

__all__ = ["Report", "compare"]

HEAD = ("row", "figure", "ours", "git", "ours/git", "to reach", "met")
VERDICTS = {True: "yes", False: "NO", None: ""}


@define
class Report:
    """What was found so far."""

    bench: Bench
    machine: dict[str, Any] = field(factory=lambda: _machine())
    rows: dict[str, list[Figure]] = field(factory=dict)
    failures: dict[str, str] = field(factory=dict)
    """The rows that could not be measured, and why."""

    def table(self, *, markdown: bool = False) -> str:
        """Return everything for people to read."""
        cells = [_cells(row, figure) for row, figures in self.rows.items() for figure in figures]
        draw = _markdown if markdown else _plain
        lines = [self._title(), "", *draw([HEAD, *cells]), "", *self._notes(), self._verdict()]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Return everything for machines to read."""
        rows = {row: [figure.as_json() for figure in figures] for row, figures in self.rows.items()}
        return {
            "size": self.bench.size.value,
            "rounds": self.bench.rounds,
            "machine": self.machine,
            "rows": rows,
            "failures": self.failures,
        }

    def _title(self) -> str:
        facts = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        caution = "" if self.bench.size is Size.FULL else ": NOT the sizes that the targets are for"
        return f"size {self.bench.size.value}{caution}; {self.bench.rounds} rounds; {facts}"

    def _notes(self) -> Iterable[str]:
        for row, figures in self.rows.items():
            for note in dict.fromkeys(figure.note for figure in figures if figure.note):
                yield f"{row}: {note}"
        for row, why in self.failures.items():
            yield f"{row}: FAILED: {why}"

    def _verdict(self) -> str:
        verdicts = [figure.met for figures in self.rows.values() for figure in figures]
        return f"{verdicts.count(True)} targets met, {verdicts.count(False)} not met"


def compare(now: dict[str, Any], then: dict[str, Any]) -> str:
    """Return how the figures of two runs differ, as JSON has them."""
    lines = [("row", "figure", "then", "now", "now/then")]
    for row, figures in now["rows"].items():
        former = {figure["name"]: figure for figure in then["rows"].get(row, [])}
        for figure in figures:
            before = former.get(figure["name"])
            was = before["median"] if before else None
            change = times(figure["median"] / was) if was else ""
            shown = "" if was is None else short(was)
            lines.append((row, figure["name"], shown, short(figure["median"]), change))
    differing = [
        f"{name}: {then['machine'].get(name)} then, {value} now"
        for name, value in [("size", now["size"]), *now["machine"].items()]
        if (then["size"] if name == "size" else then["machine"].get(name)) != value
    ]
    return "\n".join([*_plain(lines), "", *differing])


def _cells(row: str, figure: Figure) -> tuple[str, ...]:
    name = f"{figure.name}, {figure.unit}" if figure.unit else figure.name
    return (
        row, name, spread(figure.ours), spread(figure.git), times(figure.ratio),
        figure.target, VERDICTS[figure.met],
    )  # fmt: skip


def _plain(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    drawn = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
    return list(drawn)


def _markdown(lines: Sequence[Sequence[str]]) -> list[str]:
    drawn = [f"| {' | '.join(line)} |" for line in lines]
    return [drawn[0], "|" + "---|" * len(lines[0]), *drawn[1:]]


def _machine() -> dict[str, Any]:
    """Return what the figures depend on, as it is at the start."""
    git = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout
    return {
        "kernel": platform.release(),
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "git": git.split()[-1],
        "dulwich": version("dulwich"),
        "gitopper": version("gitopper"),
        "load": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def write(report: Report, path: Path) -> None:
    """Write the report as JSON."""
    path.write_text(json.dumps(report.as_json(), indent=2, ensure_ascii=False) + "\n")


def read(path: Path) -> dict[str, Any]:
    """Read a report that `write` wrote.

    Raises:
        SystemExit: it can't be read.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as exc:
        sys.exit(f"{path} is no report of an earlier run: {exc}")
    return found
