"""Hostile repositories and servers: ``python -m tests.proof hostile --help`` tells the options."""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from tests.proof.hostilecases import groups, try_all
from tests.proof.hostilefuzz import fuzz, kept
from tests.proof.hostileground import READERS, Trial, ground
from tests.proof.hostilelinks import try_links
from tests.proof.hostilememory import weigh_all
from tests.proof.hostilespellings import compare_spellings
from tests.proof.hostileswaps import try_swaps
from tests.proof.table import Row

__all__ = ["run"]

FUZZ_SECONDS = 60.0
LINK_TREES = 3000
SWAP_ROUNDS = 300


def run(arguments: Sequence[str]) -> list[Row]:
    """Try everything; see `hostileground` for the promises."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof hostile", description=__doc__)
    parser.add_argument("--seconds", type=float, default=FUZZ_SECONDS, help="how long the fuzzer runs")
    parser.add_argument("--seed", type=int, default=None, help="of the fuzzer; another one each time")
    parser.add_argument(
        "--keep", action="store_true", help="keep what is interesting in tests/proof/corpus"
    )
    parser.add_argument("--only", default="", help="groups with this word in their name")
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    seed = random.randrange(10**9) if options.seed is None else options.seed
    cases = groups()
    parts: dict[str, Callable[[], Row]] = {
        by(name, reader): partial(_on_ground, by(name, reader), them, reader)
        for reader in READERS
        for name, them in cases.items()
    }
    parts["spellings of .git"] = compare_spellings
    parts["symlinks at random"] = lambda: try_links(LINK_TREES, seed)
    if os.geteuid() == 0:
        parts["swapped under our hands"] = lambda: try_swaps(SWAP_ROUNDS)
    for reader in READERS:
        heavy = [*cases["bombs"], *cases["shapes"]]
        parts[by("memory", reader)] = partial(weigh_all, by("memory", reader), heavy, reader)
        parts[by("corpus", reader)] = partial(_on_ground, by("corpus", reader), kept(), reader)
    parts["fuzzer"] = lambda: fuzz(options.seconds, seed, keep=options.keep)
    return [_told(part()) for name, part in parts.items() if options.only in name]


def _told(row: Row) -> Row:
    """Tell how far it is."""
    print(f"{row.case}: {row.points} points, {len(row.failures)} failures", file=sys.stderr, flush=True)
    return row


def by(name: str, reader: str | None) -> str:
    """Return the name of a case, with who reads."""
    return f"{name}, read by {reader}" if reader else name


def _on_ground(name: str, cases: Iterable[Trial], reader: str | None) -> Row:
    with ground(reader=reader) as here:
        return try_all(name, here, cases)
