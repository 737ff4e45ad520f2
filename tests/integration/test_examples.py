"""Every example runs, as its own text says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.daemon import wait_until
from tests.support.upstream import Upstream

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def run(script: str, *arguments: str, home: Path) -> str:
    environment = os.environ | {"HOME": str(home)}
    command = [sys.executable, str(EXAMPLES / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_demo_shows_a_push_arriving_and_leaves_nothing_behind(tmp_path: Path) -> None:
    log = tmp_path / "log"
    # A socket's path has 107 bytes at most, and pytest's directories are long.
    with tempfile.TemporaryDirectory() as scratch, log.open("w") as output:
        demo = subprocess.Popen(
            [sys.executable, str(EXAMPLES / "demo.py")],
            stdout=output, stderr=output, cwd=ROOT, env=os.environ | {"TMPDIR": scratch},
        )  # fmt: skip
        try:
            wait_until(lambda: "Ctrl-C ends it" in log.read_text(), lambda: log.read_text(), 40)
            text = log.read_text()
            assert "reads: Good morning" in text
            assert "reads: Good evening" in text
            assert text.count(" OK ") >= 2
            frozen = play(text, "state freeze", log)
            assert "frozen" in frozen
            rolled_back = play(text, "state rollback", log)
            assert "hello" in rolled_back
            wait_until(
                lambda: log.read_text().count("Good morning") > text.count("Good morning"), "no reload"
            )
            metrics = subprocess.run(
                re.findall(r"^  (curl .*)$", text, re.MULTILINE)[0],
                shell=True, capture_output=True, text=True, check=True,
            )  # fmt: skip
            assert "gitopper_service_info{" in metrics.stdout
        finally:
            demo.send_signal(signal.SIGINT)
            assert demo.wait(20) == 0
        assert not list(Path(scratch).iterdir())


def play(text: str, command: str, log: Path) -> str:
    """Run one of the commands that the demo offers, word for word."""
    line = next(line for line in text.splitlines() if line.startswith("  ") and command in line)
    done = subprocess.run(line, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (line, done.stdout, done.stderr, log.read_text())
    return done.stdout


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    made = Upstream.create(tmp_path / "upstreams")
    made.commit({"web/etc/conf": "one"})
    return made


def test_one_service_is_reconciled_once_by_the_library_alone(tmp_path: Path, upstream: Upstream) -> None:
    local = tmp_path / "web"
    told = run("reconcile_once.py", upstream.url, "main", "web/etc", str(local), home=tmp_path)
    assert "first deploy" in told
    assert (local / "conf").read_text() == "one"
    upstream.commit({"web/etc/conf": "two"})
    told = run("reconcile_once.py", upstream.url, "main", "web/etc", str(local), home=tmp_path)
    assert "mapped paths changed: web/etc" in told
    assert (local / "conf").read_text() == "two"


def test_a_branch_that_is_not_there_is_no_success_also_after_one(
    tmp_path: Path, upstream: Upstream
) -> None:
    words = (upstream.url, "web/etc", str(tmp_path / "web"))
    told = ""
    for branch, code in (("nope", 1), ("main", 0), ("nope", 1)):
        command = [sys.executable, str(EXAMPLES / "reconcile_once.py"), words[0], branch, *words[1:]]
        environment = {**os.environ, "HOME": str(tmp_path)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        told = done.stderr
        assert done.returncode == code, told
    assert "is not at the tip of nope: " in told


@pytest.mark.parametrize("name", ["reconcile_once.py", "watch_upstream.py"])
def test_an_example_without_arguments_tells_how_to_call_it(name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"python examples/{name}" in done.stderr


def failed(name: str, *arguments: str, home: Path) -> str:
    """Run an example that has to end with an error, and return its one line."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env={**os.environ, "HOME": str(home)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    *_, line = done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    return line


def test_what_goes_wrong_is_told_in_words_for_people(tmp_path: Path) -> None:
    nowhere = f"file://{tmp_path}/nowhere"
    told = failed("reconcile_once.py", nowhere, "main", "web", str(tmp_path / "web"), home=tmp_path)
    assert told.startswith(f"{nowhere}: ")
    config = tmp_path / "gitopper.toml"
    assert "No such file" in failed("watch_upstream.py", str(config), home=tmp_path)
    config.write_text("services = []\n")
    assert "has no service for" in failed("watch_upstream.py", str(config), home=tmp_path)


def test_a_watcher_outlives_an_upstream_that_can_not_be_reached(tmp_path: Path) -> None:
    config = tmp_path / "gitopper.toml"
    config.write_text(
        f'[global]\nupstream = "file://{tmp_path}/nowhere"\nmount = "{tmp_path}/mount"\n'
        f'publish = "symlink"\n[[services]]\nmachine = "*"\nservice = "web"\n'
        f'dirs = [{{ local = "{tmp_path}/web", link = "web" }}]\n'
    )
    told = run("watch_upstream.py", str(config), "2", "0", home=tmp_path)
    assert told.count(f"file://{tmp_path}/nowhere: ") == 2


def test_a_watcher_tells_what_would_change_and_touches_nothing(tmp_path: Path, upstream: Upstream) -> None:
    config = tmp_path / "gitopper.toml"
    local = tmp_path / "etc-web"
    config.write_text(
        f'[global]\nupstream = "{upstream.url}"\nmount = "{tmp_path}/mount"\npublish = "symlink"\n'
        f'[[services]]\nmachine = "*"\nservice = "web"\n'
        f'dirs = [{{ local = "{local}", link = "web/etc" }}]\n'
    )
    command = [sys.executable, "-u", str(EXAMPLES / "watch_upstream.py"), str(config), "4", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watcher:
        assert watcher.stdout is not None
        first = watcher.stdout.readline()
        upstream.commit({"web/etc/conf": "two"})
        rest = watcher.stdout.read()
    assert watcher.returncode == 0
    assert "web: nothing would change" in first
    assert "web: web/etc would change" in rest
    assert not os.path.lexists(local)
    assert not (tmp_path / "mount").exists()


def test_the_example_of_the_main_job_is_about_thirty_lines() -> None:
    source = (EXAMPLES / "reconcile_once.py").read_text()
    code = re.sub(r'""".*?"""', "", source, flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 32
