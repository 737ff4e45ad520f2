"""A share of the hostile catalogue; all of it is ``python -m tests.proof hostile``."""

from __future__ import annotations

import itertools
import pwd
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.proof.hostilecases import groups, try_all
from tests.proof.hostilefuzz import MAX_KEPT_BYTES, fuzz, kept
from tests.proof.hostileground import Trial, ground
from tests.proof.hostilelinks import try_links
from tests.proof.hostilememory import weigh_all
from tests.proof.hostilespellings import compare_spellings
from tests.proof.hostileswaps import try_swaps
from tests.proof.table import Row, render

GROUPS = groups()
EVERY = {
    "names": 12,
    "symlinks": 3,
    "modes, modules, filters": 3,
    "packs and deltas": 2,
    "servers": 2,
    "cut or flipped at each byte": 40,
}
# What takes its time, by nature or by a deadline that has to pass.
SLOW = (
    "multipl",
    "wide",
    "million",
    "20,000",
    "70 MiB",
    "30,000",
    "2,000",
    "without an end",
    "200,000",
    "150,000",
)


def share(name: str) -> Sequence[Trial]:
    quick = [case for case in GROUPS[name] if not any(word in case.name for word in SLOW)]
    return list(itertools.islice(quick, 0, None, EVERY.get(name, 1)))


def holds(row: Row) -> None:
    assert not row.failures, render([row])
    assert row.points
    assert row.promises


@pytest.mark.parametrize("name", GROUPS)
def test_hostile_commit_harms_nothing_and_a_good_one_follows(name: str) -> None:
    with ground() as here:
        holds(try_all(name, here, share(name), every=20))


@pytest.mark.root
@pytest.mark.parametrize("name", ["names", "packs and deltas", "servers", "cut or flipped at each byte"])
def test_hostile_commit_harms_nothing_where_another_account_reads_it(name: str) -> None:
    with ground(reader="nobody") as here:
        holds(try_all(name, here, share(name)[1::3], every=20))
        assert pwd.getpwnam("nobody").pw_uid in uids_of_children()


def uids_of_children() -> set[int]:
    found = set()
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in children.read_text().split():
            status = Path(f"/proc/{pid}/status").read_text()
            found.add(int(status.partition("Uid:\t")[2].split()[0]))
    return found


def test_names_that_git_takes_for_its_own_are_refused_and_no_others() -> None:
    holds(compare_spellings())


def test_no_tree_of_symlinks_leads_out() -> None:
    holds(try_links(60, seed=5))


@pytest.mark.root
def test_who_owns_a_release_gets_no_further_by_swapping_it_under_our_hands() -> None:
    holds(try_swaps(15))


def test_memory_is_bounded_by_the_limits() -> None:
    names = ("a file of zeros, 64 times the limit", "deltas that make 16 TiB", "a million entries")
    trials = [case for case in (*GROUPS["bombs"], *GROUPS["shapes"]) if case.name in names]
    assert len(trials) == len(names)
    holds(weigh_all("memory", trials))


def test_what_was_interesting_once_is_still_handled() -> None:
    corpus = kept()
    assert len(corpus) > 20
    assert sum(len(made.data) for made in corpus) < 100 * MAX_KEPT_BYTES
    with ground(timeout_seconds=5.0) as here:
        holds(try_all("corpus", here, corpus, every=20))


def test_bytes_changed_at_random_are_handled() -> None:
    holds(fuzz(4.0, seed=11, keep=False))
