"""`gitopperctl watch`: the events of several hosts, live, one to a line."""

from __future__ import annotations

import json
import queue
import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click

from gitopperd.ctl import show
from gitopperd.ctl.carry import show_error
from gitopperd.ctl.cli import HostCommand
from gitopperd.ctl.connect import Connector
from gitopperd.ctl.errors import Answer, AskError
from gitopperd.ctl.options import common_options, interactive, machine_readable, targets_of, timeout_of
from gitopperd.ctl.places import Target
from gitopperd.ctl.stream import SILENCE_SECONDS, events_of
from gitopperd.ctl.text import Terminal, visible

__all__ = ["watch"]

FIRST_DELAY_SECONDS = 1.0
LAST_DELAY_SECONDS = 30.0
JITTER = 0.2
# Before a host was ever heard of, only this may be better in a moment. Above all, an ssh that is
# refused again and again would lock us out.
PASSING = {"unreachable", "timeout", "unavailable"}
# Once it was, only this is for good.
LASTING = {"unknown-identity", "forbidden", "credentials"}


@dataclass(frozen=True, kw_only=True, slots=True)
class _News:
    """What one host has to tell."""

    label: str
    event: Answer | None = None
    error: AskError | None = None
    retry_seconds: float | None = None
    """After an error: when the host is tried again; None if it is given up."""
    bug: BaseException | None = None
    """A fault of our own."""


@click.command(
    "watch",
    cls=HostCommand,
    examples=("gitopperctl watch @localhost", "gitopperctl -m watch @web1 @web2"),
)
@common_options
@click.pass_context
def watch(ctx: click.Context) -> int:
    """Show what happens, live, until Ctrl-C.

    A host that goes away is tried again; what happens meanwhile is not shown.
    With -m, each event is a line of JSON.
    """
    targets = targets_of(ctx)
    watching = _Watching(targets, timeout_seconds=timeout_of(ctx), may_ask=interactive(targets))
    terminal = Terminal.of(sys.stdout)
    as_json = machine_readable(ctx)
    try:
        for news in watching.news():
            _tell_as_json(news) if as_json else _tell(news, terminal)
            sys.stdout.flush()
    finally:
        watching.stop()
    return 1


class _Watching:
    """Listens to each host in a thread of its own, and ends when all are given up."""

    def __init__(self, targets: Sequence[Target], *, timeout_seconds: float, may_ask: bool) -> None:
        self._timeout_seconds = timeout_seconds
        self._may_ask = may_ask
        self._targets = targets
        self._news: queue.SimpleQueue[_News] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._connectors: dict[Target, Connector] = {}

    def news(self) -> Iterator[_News]:
        """Yield what the hosts tell, until none of them has anything more to tell."""
        for target in self._targets:
            # Daemon threads: one that looks up a name can't be interrupted.
            threading.Thread(target=self._listen, args=(target,), daemon=True).start()
        listening = len(self._targets)
        while listening:
            news = self._news.get()
            if news.bug is not None:
                raise news.bug
            listening -= bool(news.error and news.retry_seconds is None)
            yield news

    def stop(self) -> None:
        """End all connections, with what was started for them."""
        with self._lock:
            self._stopped.set()
            connectors = list(self._connectors.values())
        for connector in connectors:
            connector.close()

    def _listen(self, target: Target) -> None:
        try:
            self._follow(target)
        except BaseException as exc:  # noqa: BLE001 - handed to the main thread, which raises it
            self._news.put(_News(label=target.host.label, bug=exc))

    def _follow(self, target: Target) -> None:
        label, known, delay = target.host.label, False, FIRST_DELAY_SECONDS
        told = ""
        while not self._stopped.is_set():
            begun = time.monotonic()
            heard, error = self._hear(target, again=bool(told))
            known = known or heard
            if error.code in LASTING if known else error.code not in PASSING:
                self._news.put(_News(label=label, error=error))
                return
            if heard and time.monotonic() - begun > LAST_DELAY_SECONDS:
                delay = FIRST_DELAY_SECONDS
            wait = delay * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret
            # While a host stays away, the same words are said once.
            if heard or str(error) != told:
                self._news.put(_News(label=label, error=error, retry_seconds=wait))
            told = str(error)
            self._stopped.wait(wait)
            delay = min(2 * delay, LAST_DELAY_SECONDS)

    def _hear(self, target: Target, *, again: bool) -> tuple[bool, AskError]:
        """Listen as long as it goes well; return whether it ever did, and why it ended."""
        label, heard = target.host.label, False
        try:
            with self._connector(target) as connector:
                for event in events_of(target, connector):
                    if event is not None or again:
                        self._news.put(_News(label=label, event=event))
                    heard, again = True, False
        except AskError as exc:
            return heard, exc
        except TimeoutError:
            waited = SILENCE_SECONDS if heard else self._timeout_seconds
            return heard, AskError("timeout", f"nothing was heard of it for {waited:g} s")
        raise AssertionError("events end with an error only")

    def _connector(self, target: Target) -> Connector:
        """Return one for this try: secrets are read again, and ssh asks nobody a second time."""
        with self._lock:
            asking = self._may_ask and target not in self._connectors
            connector = Connector(timeout_seconds=self._timeout_seconds, interactive=asking)
            self._connectors[target] = connector
            if self._stopped.is_set():
                connector.close()
            return connector


def _tell(news: _News, terminal: Terminal) -> None:
    if news.error is not None:
        again = f"; trying again in {news.retry_seconds:.0f} s" if news.retry_seconds else ""
        show_error(news.label, news.error, again)
    elif news.event is None:
        click.echo(f"gitopperctl: {visible(news.label)}: connected again", err=True)
    else:
        click.echo(show.event(news.label, news.event, terminal), color=terminal.colour)


def _tell_as_json(news: _News) -> None:
    if news.error is not None:
        click.echo(json.dumps({"host": news.label, **news.error.as_answer()}))
    elif news.event is not None:
        click.echo(json.dumps({**news.event, "host": news.label}))
