"""A webhook's secret is the first line of a file that others can't read."""

import os
from pathlib import Path

import pytest

from gitopperd.api.secretfile import SecretError, read_secret


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "webhook.secret"
    path.write_bytes(b"top-secret \r\nsecond line\n")
    path.chmod(0o600)
    return path


def test_the_first_line_is_the_secret(path: Path) -> None:
    assert read_secret(path) == b"top-secret"


def test_a_rotated_secret_is_read_at_the_next_use(path: Path) -> None:
    read_secret(path)
    path.write_text("another")
    assert read_secret(path) == b"another"


def test_a_group_of_the_operators_may_read_it(path: Path) -> None:
    path.chmod(0o640)
    assert read_secret(path) == b"top-secret"


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644, 0o666])
def test_a_file_that_others_can_read_or_write_is_refused_with_the_remedy(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(SecretError, match=f"chmod 600 {path}"):
        read_secret(path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"\nsecret\n", "is empty"),
        (b"   \n", "is empty"),
        (b"x" * 5000, "is longer than 4096"),
    ],
)
def test_a_file_without_a_usable_first_line_is_refused_without_showing_it(
    path: Path, content: bytes, why: str
) -> None:
    path.write_bytes(content)
    with pytest.raises(SecretError, match=why) as caught:
        read_secret(path)
    assert "xxx" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match=r"nowhere: No such file or directory; write the secret there"):
        read_secret(tmp_path / "nowhere")


def test_a_fifo_or_a_directory_is_refused_at_once(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    for path in (fifo, tmp_path):
        with pytest.raises(SecretError):
            read_secret(path)
