"""What services had is shown again, also where the daemon can't start: after a boot nobody else does it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from attrs import evolve

from gitopperd.claims import Claims
from gitopperd.logs import EventLog
from gitopperd.work.owed import Owed, owing
from gitopperd.work.threads import PASSES
from libgitopper import Config, GitopperError, Hooks, Reconciler, StateStore

__all__ = ["shown_at_least"]

log = logging.getLogger(__name__)


@contextlib.contextmanager
def shown_at_least(state_dir: Path, hooks: Hooks, empty: Config) -> Iterator[None]:
    """Show what is deployed where the block ends the program, as for a configuration with mistakes.

    That takes the state alone; `empty` is a configuration without services. Where another daemon has them,
    or nothing was ever deployed, nothing is done.
    """
    try:
        yield
    except SystemExit:
        database = state_dir / "state.db"
        if database.exists():
            hooks.register(EventLog(), name="gitopperd.log")
            hooks.register(Owed(), name="gitopperd.owed")
            try:
                _show(database, hooks, empty)
            except (GitopperError, OSError) as exc:
                log.warning("what services had is not looked after: %s", exc)
        raise


def _show(database: Path, hooks: Hooks, empty: Config) -> None:
    with Claims() as claims:
        claims.claim_state(database.parent)
        with StateStore(database) as state, ThreadPoolExecutor(PASSES) as pool:
            reconciler = Reconciler(hooks=hooks, state=state)
            services = tuple(map(owing, reconciler.orphans(())))
            claims.claim_mounts(evolve(empty, services=services))
            list(pool.map(reconciler.restore, services))
