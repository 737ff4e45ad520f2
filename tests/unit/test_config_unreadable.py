"""A configuration that can not be read is told, a mistake on the command line too; none with a secret."""

import errno
import os
from pathlib import Path
from typing import NoReturn

import pytest

from libgitopper import ConfigError, Overrides, load_config
from libgitopper.config import parse_config
from tests.support.configs import GLOBAL, problems, service


def test_a_mistake_on_the_command_line_is_told_as_one() -> None:
    ((path, message),) = problems(GLOBAL + service(), overrides=Overrides(upstream="ftp://h/x"))
    assert path == "overrides.upstream"
    assert '"ftp"' in message


@pytest.mark.parametrize(
    "line",
    [
        'upstream = "ssh://git:hunter2@host/x"',
        'upstream = "ftp://bob:hunter2@host/x"',
        'upstream = "https://bob:hunter2@host"',
        'upstream = "https://bob:hun/hunter2@host/x"',
        'upstream = "https://bob:1/hunter2@host/x"',
        'upstream = "https://bob/hunter2@host/x"',
        'upstream = "https://bob:hun#hunter2@host/x"',
        'upstream = "https://bob:hun?hunter2@host/x"',
        'upstream = "https://bob:a@hunter2@ho st/x"',
        'upstream = "https://hunter2@host:nan/x"',
        'upstream = "https://host/x?token=hunter2"',
        'upstream = "https://host/x?token=a@hunter2"',
        'upstream = "bob:hunter2@host/x"',
        'upstream = "hunter2@host/x"',
        'upstream = "hunter2:x-oauth-basic@host/x"',
        'upstream = ["https://bob:hunter2@host/x"]',
        'branch = "https://bob:hunter2@host/x"',
        'interval = "https://bob:hunter2@host/x"',
        'upstrem = "https://bob:hunter2@host/x"',
        'credentials = "bob:hunter2"',
        'credentials = "hunter2"',
        'ssh_key = "hunter2"',
        'command = "curl -u bob:hunter2 http://host"',
        'password = "hunter2"',
    ],
)
def test_a_secret_is_never_in_a_problem(line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(GLOBAL + service(line), origin="x", hosts={"web1"}, root=True, environ={})
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value.problems)


class TestFiles:
    def load(self, path: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            load_config(path, hosts={"web1"}, root=True, environ={})
        (problem,) = caught.value.problems
        assert problem.path == ""
        assert str(caught.value).startswith(f"{path}: ")
        return problem.message

    def test_missing(self, tmp_path: Path) -> None:
        assert "No such file or directory; name a file that exists" in self.load(tmp_path / "x.toml")

    def test_a_directory(self, tmp_path: Path) -> None:
        assert "name the file in it" in self.load(tmp_path)

    def test_unreadable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # The kernel refuses root nothing, and the tests run as root too.
        def refuse(path: Path) -> NoReturn:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

        monkeypatch.setattr(Path, "read_bytes", refuse)
        assert self.load(tmp_path / "x.toml") == (
            "can't be read: Permission denied; let this user read it, or run as one who may"
        )

    def test_a_link_to_itself(self, tmp_path: Path) -> None:
        path = tmp_path / "x.toml"
        path.symlink_to(path)
        assert "see that it can be read" in self.load(path)

    def test_a_name_with_a_nul(self) -> None:
        assert "name another file" in self.load(Path("x\0.toml"))

    def test_not_utf8(self, tmp_path: Path) -> None:
        path = tmp_path / "x.toml"
        path.write_bytes(b'[global]\nbranch = "m\xe4in"\n')
        assert self.load(path) == "the byte 0xe4 at line 2, byte 12 is not UTF-8; save the file as UTF-8"

    def test_not_toml(self, tmp_path: Path) -> None:
        path = tmp_path / "x.toml"
        path.write_text("[global]\nbranch = main\n")
        assert "not valid TOML" in (message := self.load(path))
        assert "(at line 2, column 10)" in message

    def test_numbers_and_nesting_beyond_what_python_takes(self, tmp_path: Path) -> None:
        path = tmp_path / "x.toml"
        for text in ("a = " + "9" * 5000, "a = " + "[" * 5000 + "]" * 5000):
            path.write_text(text)
            assert self.load(path)


def test_a_huge_number_is_told_without_printing_it() -> None:
    ((path, message),) = problems(GLOBAL + service("keep = 0x" + "f" * 6000))
    assert path == "services[0].keep"
    assert "a huge number" in message
