"""How `make coverage` judges: by branches, of both packages together."""

from __future__ import annotations

import sys

import pytest

from tests import branches
from tests.branches import Share

REPORT = {
    "files": {
        "a/site-packages/libgitopper/one.py": {"summary": {"covered_branches": 9, "num_branches": 10}},
        "plugins/gitopper_plugins/two.py": {"summary": {"covered_branches": 1, "num_branches": 10}},
        "plugins/gitopper_plugins/none.py": {"summary": {"covered_branches": 0, "num_branches": 0}},
    }
}


def judged(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(branches, "measured", lambda: branches.shares(REPORT))
    monkeypatch.setattr(sys, "argv", ["branches", *words])
    return branches.main()


def test_branches_of_both_packages_are_added_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judged(monkeypatch, "--least", "50") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["90.00", "%", "9", "of", "10", "libgitopper"],
        ["10.00", "%", "1", "of", "10", "gitopper_plugins"],
        ["50.00", "%", "10", "of", "20", "together,", "branches", "alone"],
        ["10.00", "%", "1", "of", "10", "plugins/gitopper_plugins/two.py"],
        ["90.00", "%", "9", "of", "10", "a/site-packages/libgitopper/one.py"],
    ]


def test_too_few_are_a_failure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert judged(monkeypatch) == 1
    assert capsys.readouterr().err == "50.00 % of the branches are too few: 95 % is the least\n"


def test_a_file_without_branches_lacks_none() -> None:
    assert Share().percent == 100.0
