"""Directories and symlinks at random: of what is deployed, no way through any of them leads out."""

# ruff: noqa: PTH112, PTH208 - paths are bytes, as they are in git

from __future__ import annotations

import os
import random

from tests.proof.hostileground import Broken, Ground, Repository, ground
from tests.proof.table import Row

__all__ = ["try_links"]

NAMES = (b"a", b"b", b"l", b"m")
PARTS = (b"..", b"..", b".", *NAMES)
TREES_ON_ONE_GROUND = 300


def try_links(count: int, seed: int) -> Row:
    """Try `count` trees."""
    chance, failures, promises = random.Random(seed), list[str](), 0
    for first in range(0, count, TREES_ON_ONE_GROUND):
        with ground() as here:
            for _ in range(min(TREES_ON_ONE_GROUND, count - first)):
                it = Repository()
                here.serve(it.of_web(_tree(chance, it, 3)), it.pack())
                try:
                    outcome = here.attempt()
                    if outcome.deployed:
                        _follow_every_way(os.fsencode(outcome.deployed.path), here)
                except Broken as exc:
                    failures.append(f"symlinks at random, seed {seed}: {exc}")
            promises += here.promises
    return Row(
        part="hostile", case="symlinks at random", points=count, promises=promises, failures=failures
    )


def _tree(chance: random.Random, it: Repository, levels: int) -> str:
    entries = []
    for name in chance.sample(NAMES, chance.randrange(1, len(NAMES) + 1)):
        kind = chance.randrange(3)
        if kind == 0 and levels:
            entries.append(("40000", name, _tree(chance, it, levels - 1)))
        elif kind == 1:
            entries.append(("100644", name, it.blob()))
        else:
            target = b"/".join(chance.choice(PARTS) for _ in range(chance.randrange(1, 5)))
            entries.append(("120000", name, it.blob(target)))
    return it.tree(*sorted(entries, key=lambda entry: entry[1]))


def _follow_every_way(release: bytes, here: Ground) -> None:
    """Walk from each directory through whatever leads on, symlinks included, three steps far."""
    top = os.path.realpath(release + b"/web")
    ways = [top]
    for _ in range(3):
        ways = [way + b"/" + name for way in ways if os.path.isdir(way) for name in os.listdir(way)]
        for way in ways:
            real = os.path.realpath(way)
            here.promises += 1
            if real != top and not real.startswith(top + b"/"):
                raise Broken(f"{way!r} leads to {real!r}")
