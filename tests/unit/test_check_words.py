"""What is told of a check, and what a view is made of: no program is run here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gitopper_plugins._mountinfo import MountTable, parse
from gitopper_plugins._programs import WORDS_LIMIT, last_words, shown
from gitopper_plugins._task import Report, Task, receive, send


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("", ""),
        (" \n\t\n---\n^^^^\n", ""),
        ("one\n", "one"),
        ("a: 1\n\n  b: 2  \n=====\n", "a: 1 | b: 2"),
        ("1\n2\n3\n4\n5\n6\n7\n", "3 | 4 | 5 | 6 | 7"),
        ("10 %\r50 %\r100 %\rdone", "10 % | 50 % | 100 % | done"),
        ("\x1b[1;31merror:\x1b[0m no such\x1b[K host\n", "error: no such host"),
        ("lines\u2028of any\x0bkind\n", "lines | of any | kind"),
    ],
)
def test_the_last_lines_that_say_something_make_one_line(output: str, words: str) -> None:
    assert last_words(output) == words


def test_of_long_words_the_end_is_told() -> None:
    words = last_words("x" * 5000 + "the end")
    assert len(words) == WORDS_LIMIT
    assert words.startswith("…xxx")
    assert words.endswith("the end")


def test_a_command_is_shown_as_it_would_be_typed_and_not_endlessly() -> None:
    assert shown(["nginx", "-g", "user x;"]) == "nginx -g 'user x;'"
    long = shown(["sh", "-c", "y" * 5000])
    assert len(long) < 200
    assert long.endswith("…")


def test_a_task_is_no_report() -> None:
    """What was left there by a program that never began."""
    task = Task(
        commands=[["true"]], timeout_seconds=1.5, private=True, places=[("/\udcff", "/b")], protected=[],
        procs=[], user=(1, 2, (3,)), separator="-", parent=1,
    )  # fmt: skip
    file = os.memfd_create("test")
    try:
        send(file, task)
        assert receive(file, Report) == {}
        places: object = Task(**receive(file, Task)).places
        assert places == [["/\udcff", "/b"]], "lists, as JSON has no tuples"
        send(file, Report(how=Report.ENDED, index=1, code=-9))
        assert vars(Report(**receive(file, Report))) == {
            "how": Report.ENDED, "index": 1, "code": -9, "reason": "",
        }  # fmt: skip
    finally:
        os.close(file)


LINE = "{id} 1 {device} {root} {point} rw,relatime - {kind} source rw\n"


def line(number: int, device: str, root: str, point: object, kind: str = "ext4") -> str:
    return LINE.format(id=number, device=device, root=root, point=point, kind=kind)


def test_every_path_at_which_a_directory_is_seen_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    (data / "releases/web").mkdir(parents=True)
    # As bind mounts would be; here they are links, so that the same is seen in both places.
    (tmp_path / "whole").symlink_to(tmp_path)
    (tmp_path / "web").symlink_to(data / "releases/web")
    (tmp_path / "other").mkdir()
    text = (
        line(1, "8:1", "/", "/")
        + line(2, "8:1", str(tmp_path), tmp_path / "whole")
        + line(3, "8:1", f"{data}/releases/web", tmp_path / "web")
        + line(4, "8:1", f"{data}/releases/old//deleted", tmp_path / "web")
        + line(5, "8:1", f"{data}-not", tmp_path / "other")
        + line(6, "8:2", f"{data}/releases", tmp_path / "other")
        + line(7, "8:1", f"{data}/releases", tmp_path / "other")  # hidden by another
    )
    table = MountTable(parse(text.encode()))
    monkeypatch.setattr(table, "inside", lambda path: ("8:1", str(path)))
    assert sorted(table.showing(data)) == sorted(
        map(str, (data, tmp_path / "whole/data", tmp_path / "web"))
    )


def test_processes_are_seen_in_whole_procfs_only() -> None:
    """Parts of it, mounted over themselves, are what containers have."""
    table = MountTable.read()
    assert "/proc" in table.procs()
    text = line(1, "0:5", "/", "/nowhere/proc", "proc") + line(2, "0:5", "/sys", "/proc/sys", "proc")
    assert MountTable(parse(text.encode())).procs() == ()
