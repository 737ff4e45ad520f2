"""How many branches of the library and the builtin plugins the tests take. Lines are not counted.

``python -m tests.branches [--least PERCENT]`` reads what coverage measured (``COVERAGE_FILE``), prints a
table, and ends with 1 when both packages together have less than that. A line that is hidden from coverage,
as by ``pragma: no cover``, is not in it: each of those says why.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

PACKAGES = ("libgitopper", "gitopper_plugins")
LEAST_PERCENT = 95.0
WORST = 12
"""How many files are shown."""


@frozen
class Share:
    """Branches that were taken, of all that there are."""

    taken: int = 0
    there: int = 0

    def __add__(self, other: Share) -> Share:
        return Share(self.taken + other.taken, self.there + other.there)

    @property
    def percent(self) -> float:
        """100 where there are none."""
        return 100 * self.taken / self.there if self.there else 100.0

    def __str__(self) -> str:
        return f"{self.percent:6.2f} %  {self.taken:5d} of {self.there}"


def shares(report: Mapping[str, Any]) -> dict[str, Share]:
    """The branches of each file in what ``coverage json`` wrote."""
    summaries = {name: about["summary"] for name, about in report["files"].items()}
    return {name: Share(one["covered_branches"], one["num_branches"]) for name, one in summaries.items()}


def table(files: Mapping[str, Share]) -> Iterator[str]:
    """The lines that are printed: the packages, then the files that lack most."""
    for package in PACKAGES:
        yield f"{of_package(files, package)}  {package}"
    yield f"{sum(files.values(), Share())}  together, branches alone"
    lacking = sorted(files.items(), key=lambda item: item[1].taken - item[1].there)
    for name, share in lacking[:WORST]:
        if share.taken < share.there:
            yield f"{share}    {name}"


def of_package(files: Mapping[str, Share], package: str) -> Share:
    """The branches of the files of `package`."""
    return sum((share for name, share in files.items() if package in Path(name).parts), Share())


def measured() -> dict[str, Share]:
    """Read what coverage measured.

    Raises:
        SystemExit: it measured nothing of these packages.
    """
    include = ",".join(f"*/{package}/*" for package in PACKAGES)
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory, "report.json")
        report = [sys.executable, "-m", "coverage", "json", "--quiet", f"--include={include}"]
        if subprocess.run([*report, "-o", target], check=False).returncode:
            raise SystemExit(
                "coverage has nothing to tell of these packages: run the tests with --cov first"
            )
        return shares(json.loads(target.read_text(encoding="utf-8")))


def main() -> int:
    """Print the table; return 0 when it is enough."""
    parser = argparse.ArgumentParser(prog="python -m tests.branches", description=__doc__)
    parser.add_argument("--least", type=float, default=LEAST_PERCENT, metavar="PERCENT")
    least: float = parser.parse_args().least
    files = measured()
    print(*table(files), sep="\n")
    together = sum(files.values(), Share()).percent
    if together < least:
        print(f"{together:.2f} % of the branches are too few: {least:g} % is the least", file=sys.stderr)
    return int(together < least)


if __name__ == "__main__":
    sys.exit(main())
