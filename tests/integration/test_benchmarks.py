"""The benchmarks work: each row, in its smallest form, brings figures. What they are is not judged."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.bench import Bench, Size
from tests.benchmarks.figures import Figure, percentile
from tests.benchmarks.repositories import made
from tests.benchmarks.rows import ROWS
from tests.support.upstream import git

ROOT = Path(__file__).parents[2]
COMPARED = {
    "idle-poll", "transports", "deploy-one", "deploy-all", "cold-start", "clone-large",
}  # fmt: skip
"""The rows that set git beside us."""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(size=Size.TINY, rounds=1, cache=tmp_path_factory.mktemp("bench"))


@pytest.mark.parametrize("name", ROWS)
def test_each_row_brings_figures_and_leaves_nothing(name: str, bench: Bench) -> None:
    figures = list(ROWS[name](bench))
    assert figures
    assert len({figure.name for figure in figures}) == len(figures) or name == "scale-services"
    for figure in figures:
        assert all(math.isfinite(value) and value >= 0 for value in (*figure.ours, *figure.git)), figure
        assert figure.ours, figure
    assert any(figure.git for figure in figures) == (name in COMPARED)
    assert not list(bench.cache.glob("run-*"))


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.benchmarks", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_run_prints_a_table_and_writes_what_a_later_one_compares_with(
    bench: Bench, tmp_path: Path
) -> None:
    options: list[str | Path] = ["--tiny", "--cache", bench.cache]
    first = tmp_path / "first.json"
    done = run(*options, "--json", first, "spread")
    assert done.returncode == 0, done.stderr
    assert "NOT the sizes that the targets are for" in done.stdout
    assert "fullest minute to the mean" in done.stdout
    written = json.loads(first.read_text())
    assert written["size"] == "tiny"
    assert {"kernel", "cpu", "python", "git", "load"} <= written["machine"].keys()
    (figure,) = written["rows"]["spread"]
    assert figure["median"] == figure["ours"][0]
    # The dice fall as before, so the second run finds the same.
    done = run(*options, "--compare", first, "--markdown", "spread")
    assert done.returncode == 0, done.stderr
    assert "| spread | fullest minute to the mean |" in done.stdout
    assert done.stdout.splitlines()[-1 - len(differing(done.stdout)) - 1].endswith("1x")


def differing(text: str) -> list[str]:
    """The lines of a comparison that tell how the machines differed."""
    return [line for line in text.splitlines() if " then, " in line]


def test_a_row_that_nobody_knows_and_a_report_that_is_none_are_told(tmp_path: Path) -> None:
    assert "invalid choice: 'no-such-row'" in run("no-such-row").stderr
    (tmp_path / "none.json").write_text("{")
    done = run("spread", "--compare", tmp_path / "none.json")
    assert (done.returncode, "is no report of an earlier run" in done.stderr) == (1, True)


def test_a_row_that_can_not_be_measured_fails_the_run_and_not_the_other_rows(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("--tiny", "--cache", tmp_path / "file", "warm-start", "spread")
    assert done.returncode == 1
    assert "warm-start: FAILED: FileExistsError" in done.stdout
    assert "fullest minute to the mean" in done.stdout


def test_a_repository_is_the_same_wherever_it_is_made(bench: Bench, tmp_path: Path) -> None:
    first, again = made(bench.config, bench.cache), made(bench.config, tmp_path / "again")
    assert git(first, "rev-parse", "main") == git(again, "rev-parse", "main")
    assert int(git(first, "rev-list", "--count", "main")) == bench.config.commits
    shutil.rmtree(tmp_path / "again")


def test_figures_are_judged_by_their_medians() -> None:
    figure = Figure(name="CPU", unit="s", ours=[1, 2, 30], git=[10, 20, 10], limit=2, ratio_limit=1 / 4)
    assert (figure.median, figure.ratio, figure.met) == (2, 0.2, True)
    assert figure.target == "≤ 2, ≤ 1/4 of git"
    assert Figure(name="CPU", unit="s", ours=[3], limit=2).met is False
    assert Figure(name="rate", unit="", ours=[3], floor=2).met is True
    assert Figure(name="CPU", unit="s", ours=[3]).met is None
    assert percentile(list(range(100)), 99) == 99
    assert percentile([1], 99) == 1


@pytest.mark.parametrize("name", ROWS)
def test_each_row_is_documented(name: str) -> None:
    assert f"`{name}`" in (ROOT / "docs/reference/benchmarks.md").read_text()
