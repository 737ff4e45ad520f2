"""The hostile cases, by group, and trying them one by one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tests.proof.hostilebytes import byte_cases
from tests.proof.hostileground import Ground, Trial
from tests.proof.hostilepacks import bomb_cases, pack_cases
from tests.proof.hostiletrees import tree_cases
from tests.proof.hostilewire import wire_cases
from tests.proof.table import Row

__all__ = ["groups", "try_all"]


def groups() -> Mapping[str, Sequence[Trial]]:
    """All cases, by group."""
    return {
        **tree_cases(),
        "packs and deltas": list(pack_cases()),
        "bombs": list(bomb_cases()),
        "servers": list(wire_cases()),
        "cut or flipped at each byte": list(byte_cases()),
    }


def try_all(name: str, here: Ground, cases: Iterable[Trial], *, every: int = 10) -> Row:
    """Try all of `cases`, with a good commit after each `every` of them, and at the end."""
    failures, points, before = [], 0, here.promises
    for case in cases:
        points += 1
        try:
            case.on(here)
            if points % every == 0:
                here.aftermath()
        except Exception as exc:  # noqa: BLE001 - it is told in the table
            failures.append(f"{name}: {case.name}: {type(exc).__name__}: {exc}")
    here.aftermath()
    return Row(part="hostile", case=name, points=points, promises=here.promises - before, failures=failures)
