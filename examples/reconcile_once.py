"""Bring one service in line, once, with the library alone: no daemon, no config file.

    python examples/reconcile_once.py UPSTREAM BRANCH LINK LOCAL

shows LINK of the repository at LOCAL by a symlink, as `motd /tmp/motd` or `grafana/etc /etc/grafana`.
"""

import sys
from pathlib import Path

from libgitopper import Mapping, Reconciler, Service, Source, SourceError, StateStore, load_plugins, watches


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
        try:
            store = reconciler.poll(watch)
        except SourceError as exc:
            sys.exit(str(exc))
        outcome = reconciler.reconcile(service, store)
    why = outcome.error or (outcome.plan.why if outcome.plan else "")
    if outcome.deployed is None or outcome.deployed.revision != store.tips.get(branch):
        print(f"{local} is not at the tip of {branch}: {why}", file=sys.stderr)
        return 1
    print(f"{local} is at {outcome.deployed.revision}: {why}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) == 5 else __doc__)
