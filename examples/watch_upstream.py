"""Watch an upstream, touch nothing, and print what each new commit would change for this host's services.

python examples/watch_upstream.py CONFIG [POLLS] [SECONDS]
"""

import os
import socket
import sys
import tempfile
import time
from pathlib import Path

from libgitopper import (
    CheckoutError,
    GitopperError,
    Reconciler,
    SourceError,
    StateStore,
    load_config,
    load_plugins,
    watches,
)


def main(config_path: str, polls: str = "10", seconds: str = "5") -> int:
    """Poll every upstream of the config so many times."""
    hosts = frozenset({socket.gethostname()})
    config = load_config(Path(config_path), hosts=hosts, root=False, environ=os.environ)
    if not config.services:
        print(f"{config_path} has no service for {', '.join(hosts)}", file=sys.stderr)
        return 1
    before: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as scratch, StateStore(Path(scratch) / "state.db") as state:
        reconciler = Reconciler(hooks=load_plugins(), state=state)
        for number in range(int(polls)):
            time.sleep(float(seconds) if number else 0)
            for watch in watches(config.services, stores=Path(scratch)):
                try:
                    store = reconciler.poll(watch)
                except SourceError as exc:  # the next poll may reach it
                    print(exc)
                    continue
                for service in watch.services:
                    try:
                        tip = store.tips[service.source.branch]
                        now = {entry.link: entry.id for entry in store.content(tip, service).entries}
                    except KeyError as exc:
                        print(f"{service.name}: there is no branch {exc}")
                        continue
                    except CheckoutError as exc:  # no such path in it
                        print(f"{service.name}: {exc}")
                        continue
                    old = before.get(service.name, now)
                    changed = sorted(link for link in now if old.get(link) != now[link])
                    print(f"{tip[:12]} {service.name}: {', '.join(changed) or 'nothing'} would change")
                    before[service.name] = now
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]) if 2 <= len(sys.argv) <= 4 else __doc__)
    except GitopperError as exc:  # its text is for people: every mistake in the configuration, say
        sys.exit(str(exc))
