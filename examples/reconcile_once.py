"""Bring one service in line, once, with the library alone: no daemon, no config file.

    python examples/reconcile_once.py UPSTREAM BRANCH LINK LOCAL

shows LINK of the repository at LOCAL by a symlink, as `motd /tmp/motd` or `grafana/etc /etc/grafana`.
"""

import sys
from pathlib import Path

from libgitopper import Mapping, Reconciler, Service, Source, StateStore, load_plugins, watches


def main(upstream: str, branch: str, link: str, local: str) -> int:
    """Reconcile, and tell how it went."""
    home = Path.home() / ".local/share/gitopper-example"
    service = Service(
        name="example",
        source=Source(upstream=upstream, branch=branch),
        mappings=(Mapping(link=link, local=Path(local).absolute()),),
        mount=home,
        publish="symlink",
        action="",
    )
    with StateStore(home / "state.db") as state:
        reconciler = Reconciler(hooks=load_plugins(), state=state)
        (watch,) = watches([service], stores=home / ".gitopper/stores")
        outcome = reconciler.reconcile(service, reconciler.poll(watch))
    if outcome.error or outcome.deployed is None:
        print(f"failed: {outcome.error}")
        return 1
    print(f"{local} is at {outcome.deployed.revision}: {outcome.plan.why if outcome.plan else ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
