"""Bringing a store up to date with its upstream."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Collection, Mapping

from dulwich.objects import ObjectID
from dulwich.refs import Ref, check_ref_format

from gitopper_plugins.dulwich import layout
from gitopper_plugins.dulwich.blobs import explained
from gitopper_plugins.dulwich.channel import Deadline
from gitopper_plugins.dulwich.exchange import Exchange, Offer, Reader
from gitopper_plugins.dulwich.failures import GarbledError, RefusedError
from gitopper_plugins.dulwich.history import haves
from gitopper_plugins.dulwich.objects import TAG
from gitopper_plugins.dulwich.packs import MAX_SMALL_PACKS, MOST_SMALL_PACKS, consolidate, receive
from gitopper_plugins.dulwich.store import SharedStore, View
from libgitopper import FetchRequest, SourceError

__all__ = ["fetch", "open_offline"]

log = logging.getLogger(__name__)

NO_FILES = "blob:none"
NO_LARGE_FILES = "blob:limit=16k"
"""Of a few new commits the contents of small files come along: asked for later, they are another request,
another pack, and as many more syncs, while a service waits. Trees take as much, and come anyway."""


def open_offline(store: SharedStore, request: FetchRequest) -> View:
    """The store as the last successful fetch left it.

    Raises:
        SourceError: there was none, or it can't be read.
    """
    try:
        refs = store.refs() if store.path.is_dir() else None
    except OSError as exc:
        why = f"{exc.filename or store.path}: {exc.strerror or exc}"
        raise SourceError(f"the store of {store.upstream} can't be read: {why}") from exc
    if refs is None:
        raise SourceError(
            f"{store.upstream}: nothing was ever fetched from it, so there is nothing to work with"
        )
    return _view(store, _chosen(refs, request.branches), moved=False)


def fetch(store: SharedStore, request: FetchRequest) -> View:
    """Bring `store` up to date: one exchange, which writes nothing when no branch moved.

    Raises:
        SourceError: upstream can't be reached in time, or refuses; also AuthError.
    """
    deadline = Deadline.after(request.timeout_seconds)
    _check_branches(store.upstream, request.branches)
    with explained(store, request.timeout_seconds):
        branch = min(request.branches, default="main")
        store.prepare(branch)
        with store.exclusive(deadline):
            store.recover(branch)
            known = store.refs()
            try:
                tips = _bring(store, known or {}, request, deadline)
            except RefusedError:
                if not store.small_along:
                    raise
                store.small_along = False  # there are servers that take some filters, and not this one
                tips = _bring(store, known or {}, request, deadline)
            moved = tips != _chosen(known or {}, request.branches)
            if known is not None and not moved:
                # With nobody at the other end waiting meanwhile.
                if store.grown:
                    store.grown = False
                    _consolidate(store, MAX_SMALL_PACKS)
                return _view(store, tips, moved=False)
            _record(store, request.branches, tips, known or {})
            return _view(store, tips, moved=moved)


def _bring(
    store: SharedStore, known: Mapping[str, ObjectID], request: FetchRequest, deadline: Deadline
) -> Mapping[str, ObjectID]:
    """Ask for the tips, and bring the history of those that moved, in one exchange; return them."""
    before = _chosen(known, request.branches)
    reader = store.reader(request.fetch_user)
    with reader.exchange(request.credentials, deadline) as exchange:
        offer = exchange.offer(request.branches, before)
        if offer.tips != before:
            _bring_history(store, reader, exchange, offer, known, request)
    return offer.tips


def _check_branches(upstream: str, branches: Collection[str]) -> None:
    for branch in branches:
        if not _is_branch(branch):
            raise SourceError(f"{upstream}: {branch!r} can't be the name of a branch", retryable=False)


@functools.lru_cache(1024)
def _is_branch(name: str) -> bool:
    return check_ref_format(Ref(layout.HEADS.encode() + os.fsencode(name)))


def _chosen(refs: Mapping[str, ObjectID], branches: Collection[str]) -> dict[str, ObjectID]:
    return {branch: tip for branch, tip in refs.items() if branch in branches}


def _view(store: SharedStore, tips: Mapping[str, ObjectID], *, moved: bool) -> View:
    return View(shared=store, tips={branch: tip.decode() for branch, tip in tips.items()}, moved=moved)


def _bring_history(
    store: SharedStore,
    reader: Reader,
    exchange: Exchange,
    offer: Offer,
    known: Mapping[str, ObjectID],
    request: FetchRequest,
) -> None:
    tips = offer.tips
    wants = [tip for tip in dict.fromkeys(tips.values()) if not store.readable(tip)]
    if not wants:
        return
    without = ""
    if offer.filters:
        # After a failure no file: what is too large or takes too long with files, may fit without them.
        along = known and store.small_along and store.brought
        without = NO_LARGE_FILES if along else NO_FILES
        layout.mark_partial(store.path)
    elif not known:
        log.warning(
            "%s can't leave out file contents: its store will be a full clone, unless its server is told"
            " git config uploadpack.allowFilter true", store.upstream,
        )  # fmt: skip
    # The branches that moved come first: what they were is what is closest to what they are.
    near_first = sorted(known, key=lambda branch: known[branch] == tips.get(branch))
    here = [*(known[branch] for branch in near_first), *store.past().values()]
    offered = haves(store.objects, here)
    store.brought = False
    chunks = exchange.pack(wants, offered, without=without)
    receive(
        store.path,
        chunks,
        promisor=layout.is_partial(store.path),
        limits=request.limits,
        timeout_seconds=request.timeout_seconds,
        indexer=reader.index,
    )
    store.brought = True
    for branch, tip in tips.items():
        if store.objects.find(tip, TAG) is not None:
            raise GarbledError(f"its branch {branch} names a tag, and not a commit; push the commit itself")
        if not store.readable(tip):
            what = "or its tree, or has them damaged or too large"
            raise GarbledError(f"the pack that it sent lacks commit {tip.decode()}, {what}")


def _record(
    store: SharedStore,
    branches: Collection[str],
    tips: Mapping[str, ObjectID],
    known: Mapping[str, ObjectID],
) -> None:
    """Written last: until then the store is what it was. Branches that nobody asked for stay.

    Where one that is gone was is kept, too: it may come back, or by another name, and its history is here.
    """
    refs = {branch: tip for branch, tip in known.items() if branch not in branches} | dict(tips)
    past = {branch: tip for branch, tip in (store.past() | dict(known)).items() if branch not in refs}
    layout.write_refs(store.path, refs, past)
    # Somebody waits for what came: what can wait is left to a poll that brings nothing.
    store.grown = True
    _consolidate(store, MOST_SMALL_PACKS)


def _consolidate(store: SharedStore, most: int) -> None:
    try:
        if consolidate(store.path, most):
            store.objects.refresh()
    except (OSError, KeyError, ValueError) as exc:
        log.warning("the packs of %s could not be merged: %s", store.path, exc)
