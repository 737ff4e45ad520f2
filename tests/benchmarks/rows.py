"""Every row, by the name that it has on the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import Figure
from tests.benchmarks.rows_api import answers, answers_while_cloning, ctl
from tests.benchmarks.rows_deploy import deploy_all, deploy_one
from tests.benchmarks.rows_poll import idle_poll, other_transports
from tests.benchmarks.rows_rest import fleet, memory_at_rest, spread_of_polls
from tests.benchmarks.rows_scale import scale_commits, scale_files, scale_services
from tests.benchmarks.rows_start import cold_start, warm_start
from tests.benchmarks.rows_store import clone_large, many_fetches

__all__ = ["ROWS"]

ROWS: Mapping[str, Callable[[Bench], Iterator[Figure]]] = {
    "idle-poll": idle_poll,
    "transports": other_transports,
    "spread": spread_of_polls,
    "deploy-one": deploy_one,
    "deploy-all": deploy_all,
    "cold-start": cold_start,
    "warm-start": warm_start,
    "answers-cloning": answers_while_cloning,
    "memory": memory_at_rest,
    "fleet": fleet,
    "clone-large": clone_large,
    "many-fetches": many_fetches,
    "ctl": ctl,
    "answers": answers,
    "scale-files": scale_files,
    "scale-commits": scale_commits,
    "scale-services": scale_services,
}
