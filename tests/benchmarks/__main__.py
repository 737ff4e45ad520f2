"""The benchmarks: ``python -m tests.benchmarks [ROW…]`` measures, and prints a table.

Without rows, all of them are measured. The exit code is 1 when a row could not be measured; a target that
is not met is a finding, and stands in the table.
"""

from __future__ import annotations

import argparse
import compileall
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

import gitopper_plugins
import gitopperd
import libgitopper
from tests.benchmarks.bench import Bench, Size
from tests.benchmarks.report import Report, compare, read, write
from tests.benchmarks.rows import ROWS

ROUNDS = {Size.FULL: 5, Size.QUICK: 2, Size.TINY: 1}


def main(arguments: list[str]) -> int:
    """Measure what is asked for; return the exit code."""
    options = _parser().parse_args(arguments)
    size = Size.TINY if options.tiny else Size.QUICK if options.quick else Size.FULL
    earlier = read(options.compare) if options.compare else None
    bench = Bench(size=size, rounds=options.rounds or ROUNDS[size], cache=options.cache.resolve())
    report = Report(bench)
    _compile()
    for name in options.rows or ROWS:
        _measure(name, report)
        if options.json:
            write(report, options.json)  # after each row: a run that is cut short has brought something
    print(report.table(markdown=options.markdown))
    if earlier:
        print("", compare(report.as_json(), earlier), sep="\n")
    return 1 if report.failures else 0


def _compile() -> None:
    """Leave the bytecode that an installed package has: else every start here would compile what it loads.

    So it is where the sources are used in place, and the environment forbids to write beside them.
    """
    for package in (gitopperd, gitopper_plugins, libgitopper):
        for directory in package.__path__:
            assert compileall.compile_dir(directory, quiet=1), f"{directory} can't be compiled"


def _measure(name: str, report: Report) -> None:
    print(f"{name} … ", end="", file=sys.stderr, flush=True)
    begun = time.monotonic()
    try:
        report.rows[name] = list(ROWS[name](report.bench))
    except Exception as exc:  # noqa: BLE001 - the other rows are measured all the same
        traceback.print_exc()
        report.failures[name] = f"{type(exc).__name__}: {exc}"
    print(f"{time.monotonic() - begun:.0f} s", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    rows = "\n".join(f"  {name:16}{row.__doc__}" for name, row in ROWS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        epilog=f"rows:\n{rows}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", choices=[*ROWS, []], help="what to measure")
    parser.add_argument("--quick", action="store_true", help="smaller and fewer, for a first look")
    parser.add_argument("--tiny", action="store_true", help="see that it works; the figures mean nothing")
    parser.add_argument("--rounds", type=int, help="how often each thing is measured")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, too")
    parser.add_argument(
        "--compare", type=Path, metavar="FILE", help="set it against the JSON of an earlier run"
    )
    parser.add_argument("--markdown", action="store_true", help="the table as it stands in the docs")
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir()) / f"gitopper-benchmarks-{os.getuid()}",
        help="where repositories are kept for the next run; default: %(default)s",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
