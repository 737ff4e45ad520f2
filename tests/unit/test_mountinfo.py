"""The kernel's table of mounts, as proc_pid_mountinfo(5) describes it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitopper_plugins._mountinfo import MountTable, parse

ROOT = b"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard"


def test_a_line_without_optional_fields() -> None:
    mount = parse(ROOT)[27]
    assert (mount.id, mount.parent, mount.device) == (27, 1, "254:0")
    assert (mount.root, mount.point) == ("/", "/")
    assert not mount.readonly
    assert not mount.shared


@pytest.mark.parametrize(
    ("optional", "shared"),
    [
        (b"shared:12 ", True),
        (b"master:3 ", False),
        (b"shared:1 master:3 propagate_from:2 ", True),
        (b"unbindable ", False),
    ],
)
def test_any_number_of_optional_fields(optional: bytes, shared: bool) -> None:
    mount = parse(b"28 27 0:5 /a /b ro,nosuid " + optional + b"- tmpfs shared:9 rw")[28]
    assert mount.shared is shared
    assert mount.readonly


def test_read_only_of_the_file_system_is_not_of_the_mount() -> None:
    assert not parse(b"28 27 0:5 / /b rw - ext4 /dev/sda ro")[28].readonly


def test_octal_escapes_are_decoded() -> None:
    mount = parse(rb"28 27 0:5 /with\040space\134n /tab\011new\012line rw - tmpfs t rw")[28]
    assert mount.root == "/with space\\n"
    assert mount.point == "/tab\tnew\nline"


def test_a_deleted_root_is_told_as_the_kernel_tells_it() -> None:
    assert parse(b"28 27 0:5 /r/1//deleted /b rw - tmpfs t rw")[28].root == "/r/1//deleted"


@given(st.binary(min_size=1).filter(lambda name: b"\0" not in name))
def test_every_name_survives(name: bytes) -> None:
    escaped = b"".join(b"\\%03o" % c if c in b" \t\n\\" or c == 0x23 else bytes([c]) for c in name)
    # A line ends at a newline only; the kernel escapes no other control character.
    mounts = parse(b"28 27 0:5 /" + escaped + b" / rw - tmpfs t rw\n" + ROOT)
    assert mounts[28].root == "/" + os.fsdecode(name)
    assert list(mounts) == [28, 27]


def test_the_table_of_this_process_knows_its_root_and_proc() -> None:
    table = MountTable.read()
    assert table.of(Path("/")).point == "/"
    assert table.of(Path("/proc/self")).point == "/proc"
    assert [mount.point for mount in table.stack(Path("/proc"))][-1] == "/proc"
    assert table.stack(Path("/proc/self/status")) == ()
    assert table.stack(Path("/no/such/path")) == ()


def test_where_a_path_is_inside_its_file_system(tmp_path: Path) -> None:
    table = MountTable.read()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real").mkdir()
    assert table.inside(tmp_path / "link" / "not-yet") == table.inside(tmp_path / "real" / "not-yet")
    assert table.inside(tmp_path)[0] == table.of(tmp_path).device
