"""Packs that are looked through once something is damaged: what can't be told is no damage."""

from __future__ import annotations

from pathlib import Path

import pytest
from dulwich.pack import PackData

from gitopper_plugins.dulwich.layout import create
from gitopper_plugins.dulwich.packs import drop_damaged, receive
from tests.support import rawpack as raw


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """With two packs."""
    store = tmp_path / "store.git"
    create(store, "https://example.net/x", "main")
    for text in (b"one", b"two"):
        receive(store, [raw.build([raw.whole(3, text)])], promisor=False)
    return store


def pack_files(store: Path) -> list[Path]:
    return sorted((store / "objects" / "pack").glob("*.pack"))


def test_only_what_is_damaged_is_dropped(store: Path) -> None:
    damaged, sound = pack_files(store)
    content = bytearray(damaged.read_bytes())
    content[-30] ^= 1
    damaged.chmod(0o644)
    damaged.write_bytes(content)
    drop_damaged(store)
    assert pack_files(store) == [sound]


def test_a_host_without_memory_tells_nothing_of_a_pack(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That there is none left is simulated."""

    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(PackData, "check", exhausted)
    before = pack_files(store)
    with pytest.raises(MemoryError):
        drop_damaged(store)
    assert pack_files(store) == before
