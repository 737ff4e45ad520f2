"""The same question to several daemons, side by side."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from gitopperd.ctl.client import Request, ask, overdue
from gitopperd.ctl.connect import LOGIN_SECONDS, Connector
from gitopperd.ctl.errors import Answer, AskError
from gitopperd.ctl.hosts import Host
from gitopperd.ctl.places import Target

__all__ = ["Outcomes", "ask_all"]

Outcomes = Mapping[Host, Answer | AskError]


class _Call(threading.Thread):
    """One question on its way.

    A daemon thread, since looking up a name can't be interrupted: what is still waiting at the
    deadline is left behind, and does not keep the process from ending.
    """

    def __init__(self, work: Callable[[], Answer]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self.outcome: Answer | AskError | None = None
        self.bug: BaseException | None = None

    def run(self) -> None:
        try:
            self.outcome = self._work()
        except AskError as exc:
            self.outcome = exc
        except BaseException as exc:  # noqa: BLE001 - handed to the caller, who raises it
            self.bug = exc


def ask_all(
    targets: Iterable[Target], request: Request, *, timeout_seconds: float, interactive: bool = False
) -> Outcomes:
    """Ask every host at once, and return what each said, in the order of `targets`.

    The timeout holds for all of it together: the name, the connection and the whole answer, so a
    server that sends a byte now and then ends in time too. `interactive` lets ssh ask the person at
    the terminal, who gets time to answer.
    """
    patience_seconds = timeout_seconds + (LOGIN_SECONDS if interactive else 0)
    deadline = time.monotonic() + patience_seconds
    with Connector(timeout_seconds=timeout_seconds, interactive=interactive) as connector:
        calls = {target.host: _Call(partial(ask, target, request, connector)) for target in targets}
        for call in calls.values():
            call.start()
        return {host: _outcome(call, deadline, request, timeout_seconds) for host, call in calls.items()}


def _outcome(call: _Call, deadline: float, request: Request, timeout_seconds: float) -> Answer | AskError:
    call.join(max(0.0, deadline - time.monotonic()))
    if call.bug is not None:
        raise call.bug
    return overdue(request, timeout_seconds) if call.outcome is None else call.outcome
