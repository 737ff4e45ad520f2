"""Signatures of commits: a service with `verify` goes only where trusted keys have signed the way.

    verify = { allowed_signers = "/etc/gitopper/allowed_signers" }

Every commit that is new must be signed: those that the revision descends from, and the commit that was
accepted before does not. So a signed merge does not vouch for what it brings in. ``ssh-keygen`` and
``gpgv`` do the cryptography.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from gitopper_plugins._channel import Deadline
from gitopper_plugins._signedcommit import RefusedCommit, take_apart
from gitopper_plugins._signers import check_signature
from gitopper_plugins._trust import Stamp, Trust, read_trust
from libgitopper import (
    Accepted,
    CheckoutError,
    CommandError,
    Commit,
    Verify,
    VerifyError,
    VerifyRequest,
    hookimpl,
)

__all__ = ["Signatures", "plugin"]

MAX_COMMITS = 5_000
"""More new commits than this are not looked at: it would take minutes."""
MAX_REMEMBERED = 2 * MAX_COMMITS
GOOD_SECONDS = 3600.0
"""How long a commit that was found good is taken for good: keys expire."""
MAX_AUTHOR_CHARACTERS = 60

_Key = tuple[Verify, Stamp, str]


class Signatures:
    """Verifies commits, and remembers those that were good. Safe to use from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._good: dict[_Key, float] = {}
        """When a commit was found good by which state of the trusted files; the oldest first."""
        self._turns: dict[Verify, threading.Lock] = {}

    @hookimpl
    def gitopper_verify(self, request: VerifyRequest) -> Accepted | None:
        """See `libgitopper.hookspecs`; judges services with `verify`."""
        if request.service.verify is None:
            return None
        commits = _new_commits(request)
        if commits:
            self._verify(request, request.service.verify, commits)
        return Accepted(judged=("verify",))

    def _verify(self, request: VerifyRequest, verify: Verify, commits: Sequence[Commit]) -> None:
        trust = read_trust(verify)
        seconds = request.service.timeout_seconds
        deadline = Deadline.after(seconds)
        for done, commit in enumerate(commits):
            try:
                self._verify_one(commit, verify, trust, deadline)
            except RefusedCommit as exc:
                raise VerifyError(f"{_named(commit)} {exc}; {_rule(request, trust)}") from exc
            except (TimeoutError, CommandError) as exc:
                why = str(exc) or f"not done within {seconds:g} s"
                raise VerifyError(
                    f"{done} of {len(commits)} new commits are verified, then: {why};"
                    " it goes on from there at the next try",
                    retryable=True,
                ) from exc

    def _verify_one(self, commit: Commit, verify: Verify, trust: Trust, deadline: Deadline) -> None:
        key = verify, trust.stamp, commit.revision
        if self._is_good(key):
            return
        with self._lock:
            turn = self._turns.setdefault(verify, threading.Lock())
        # Services of one upstream come at once with the same commits: one asks, the others wait for it.
        if not turn.acquire(timeout=deadline.remaining()):
            raise TimeoutError
        try:
            if not self._is_good(key):
                check_signature(take_apart(commit), trust, deadline)
                self._remember(key)
        finally:
            turn.release()

    def _is_good(self, key: _Key) -> bool:
        with self._lock:
            return self._clock() - self._good.get(key, -GOOD_SECONDS) < GOOD_SECONDS

    def _remember(self, key: _Key) -> None:
        with self._lock:
            self._good.pop(key, None)
            self._good[key] = self._clock()
            if len(self._good) > MAX_REMEMBERED:
                self._good.pop(next(iter(self._good)))


def _new_commits(request: VerifyRequest) -> Sequence[Commit]:
    """The commits that need a signature, the oldest first.

    At a first deploy that is the one commit alone. It names every file, so its signature vouches for all
    that is deployed; and no history needs to have been signed from its very beginning.
    """
    store, revision, accepted = request.store, request.revision, request.accepted
    try:
        if accepted is None:
            return store.commits(revision, limit=1)
        found = store.commits(revision, exclude=[accepted], limit=MAX_COMMITS + 1)
    except CheckoutError as exc:
        raise VerifyError(f"no commit can be verified: {exc}", retryable=exc.retryable) from exc
    if len(found) > MAX_COMMITS:
        raise VerifyError(
            f"{revision[:12]} has more than {MAX_COMMITS} commits that {accepted[:12]} has not, too many to"
            " verify; if that is right, take `verify` from the config for this one deploy"
        )
    return found[::-1]


def _named(commit: Commit) -> str:
    # Anybody can have written the name: it must not change the line that it stands in.
    author = "".join(c for c in commit.author if c.isprintable())[:MAX_AUTHOR_CHARACTERS].strip()
    return f"commit {commit.revision[:12]} by {author or 'nobody'}"


def _rule(request: VerifyRequest, trust: Trust) -> str:
    if request.accepted is None:
        return f"the first commit that is deployed must be signed by a key in {trust}"
    span = f"after {request.accepted[:12]} up to {request.revision[:12]}"
    return f"every commit {span} must be signed by a key in {trust}"


plugin = Signatures()
"""What the entry point names: one memory for the process."""
