"""Bringing in file contents that a store lacks, and telling what went wrong on the way to its upstream."""

from __future__ import annotations

import contextlib
import errno
import http.client
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dulwich.objects import ObjectID
from dulwich.pack import Pack

from gitopper_plugins.dulwich import layout
from gitopper_plugins.dulwich.channel import Deadline
from gitopper_plugins.dulwich.failures import (
    DeniedError,
    GarbledError,
    RefusedError,
    UnusableError,
    cut_short,
)
from gitopper_plugins.dulwich.objects import TooLarge
from gitopper_plugins.dulwich.openpack import OpenPack
from gitopper_plugins.dulwich.packs import receive
from gitopper_plugins.dulwich.protocol import Haves
from libgitopper import AuthError, CommandError, Service, SourceError, StepError

if TYPE_CHECKING:  # a store brings blobs in, too
    from gitopper_plugins.dulwich.store import SharedStore

__all__ = ["bring_blobs", "explained"]

_FULL = (errno.ENOSPC, errno.EDQUOT)
_OF_DISKS = (*_FULL, errno.EROFS)
"""What no network says, while a file that is open fails without its name. EIO is a number of TLS, too."""
# A server takes the wants of one request into memory; this many are a few megabytes.
BLOBS_PER_REQUEST = 50_000


def bring_blobs(store: SharedStore, blobs: Collection[ObjectID], service: Service) -> None:
    """See to it that the file contents `blobs` are in the store: one request, or none.

    Not under the lock of the store: a poll that hangs holds up no checkout.

    Raises:
        SourceError: some are missing, and upstream can't give them now.
        TooLarge: one has more bytes than the service allows; nothing of it is kept.
    """
    missing = store.objects.missing(blobs)
    if not missing:
        return
    limits = service.limits
    for oid in missing:
        # It was sent before, and not kept: it need not be sent again to be refused again.
        if (known := store.too_large.get(oid, 0)) > limits.file_bytes:
            raise TooLarge(oid, known, limits.file_bytes)
    source = service.source
    reader = store.reader(source.fetch_user)
    deadline = Deadline.after(service.timeout_seconds)
    with explained(store, service.timeout_seconds):
        for start in range(0, len(missing), BLOBS_PER_REQUEST):
            wants = missing[start : start + BLOBS_PER_REQUEST]
            # No haves: a server that knows our commits takes their files for known, too.
            with reader.exchange(source.credentials, deadline) as exchange:
                chunks = exchange.pack(wants, Haves(), last=True)
                receive(
                    store.path,
                    chunks,
                    promisor=layout.is_partial(store.path),
                    limits=limits,
                    timeout_seconds=service.timeout_seconds,
                    indexer=reader.index,
                    judge=_judge(store, wants, limits.file_bytes),
                )
    if missing := store.objects.missing(missing):
        raise SourceError(
            f"{store.upstream}: it does not give {len(missing)} file contents, as {missing[0].decode()}"
        )


def _judge(store: SharedStore, wants: Collection[ObjectID], limit: int) -> Callable[[Pack], None]:
    """Return what refuses a pack in which one of `wants` has more than `limit` bytes."""

    def judge(pack: Pack) -> None:
        with OpenPack.reading(pack) as opened:
            for oid in wants:
                if oid in pack and (size := opened.size(oid)) > limit:
                    store.refuse(oid, size)
                    raise TooLarge(oid, size, limit)

    return judge


@contextlib.contextmanager
def explained(store: SharedStore, timeout_seconds: float) -> Iterator[None]:
    """Turn whatever goes wrong on the way to `store` into a `SourceError` that tells what to do."""
    upstream = store.upstream
    try:
        yield
    except TimeoutError as exc:
        raise SourceError(
            f"{upstream}: no complete answer within {timeout_seconds:g} s;"
            " see whether it can be reached from this host, or allow more time with `timeout`"
        ) from exc
    except (UnusableError, RefusedError, GarbledError) as exc:
        raise _told(exc, upstream) from exc
    except http.client.HTTPException as exc:
        raise SourceError(f"{upstream}: {cut_short(exc)}") from exc
    except CommandError as exc:
        raise SourceError(f"{upstream}: {exc}", retryable=exc.retryable) from exc
    except StepError:
        raise
    except OSError as exc:
        raise SourceError(_about(exc, store)) from exc


def _told(exc: UnusableError | RefusedError | GarbledError, upstream: str) -> SourceError:
    if isinstance(exc, UnusableError):
        kind = AuthError if isinstance(exc, DeniedError) else SourceError
        return kind(str(exc), retryable=exc.retryable)
    refused = "it refuses: " if isinstance(exc, RefusedError) else ""
    return SourceError(f"{upstream}: {refused}{exc}")


def _about(exc: OSError, store: SharedStore) -> str:
    why = exc.strerror or str(exc)
    if exc.filename:
        why = f"{Path(exc.filename)}: {why}"
    elif exc.errno not in _OF_DISKS:
        return f"{store.upstream}: {why}"
    room = f"; free some space below {store.path.parent}" if exc.errno in _FULL else ""
    return f"the store of {store.upstream} can't be written: {why}{room}"
