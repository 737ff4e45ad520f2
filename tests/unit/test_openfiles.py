"""The limit of open files is raised as far as that is allowed, and never lowered."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from gitopperd.openfiles import ENOUGH

PROGRAM = """
import resource
from gitopperd.openfiles import allow_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
allow_open_files()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""
MOST = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [
        pytest.param(256, 4096, 4096, id="up to the hard limit"),
        pytest.param(4096, 4096, 4096, id="there already"),
        pytest.param(
            1024, MOST, ENOUGH if MOST == resource.RLIM_INFINITY else min(MOST, ENOUGH), id="enough"
        ),
    ],
)
def test_the_limit_of_open_files_is_raised(soft: int, hard: int, expected: int) -> None:
    program = PROGRAM.format(soft=soft, hard=hard)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(expected), str(hard)]


def test_a_daemon_of_many_upstreams_is_allowed_their_files() -> None:
    """What is asked for at the start of the program, and not of some part of it."""
    program = """
import resource
from click.testing import CliRunner
from gitopperd.main import main
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 2048))
CliRunner().invoke(main, ["-c", "/nowhere", "--no-root"])
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "2048"
