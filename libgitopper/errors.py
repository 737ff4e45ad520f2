"""Everything that gitopper raises on purpose.

GitopperError
    ConfigError          a configuration that can't be used; holds every problem found
    PluginError          a plugin that can't be loaded, or a job that no plugin takes
    StateError           the state store can't be read or written
    UnknownRevision      a hash that names no commit which the service may go to
        AmbiguousRevision    a short one that names several
    AccessDenied         credentials that an auth plugin knows, and refuses
    StepError            a step of a reconcile failed; knows its service, and whether a retry can help
        SourceError      the upstream can't be reached, or refuses
            AuthError    the upstream refuses our credentials
        CheckoutError    a release can't be made of a revision
        VerifyError      a service must not go to a revision: it is not signed, or lies behind
        CheckError       a release is not fit to be published
        InstallError     a package can't be installed
        PublishError     a release can't be shown at its mappings
        ReloadError      the service did not take the release
        HealthError      the service is not healthy with the release
        CommandError     a command failed, could not start, or ran out of time
"""

from __future__ import annotations

from attrs import frozen

from libgitopper.valid import writable

__all__ = [
    "AccessDenied",
    "AmbiguousRevision",
    "AuthError",
    "CheckError",
    "CheckoutError",
    "CommandError",
    "ConfigError",
    "ConfigProblem",
    "GitopperError",
    "HealthError",
    "InstallError",
    "PluginError",
    "PublishError",
    "ReloadError",
    "SourceError",
    "StateError",
    "StepError",
    "UnknownRevision",
    "VerifyError",
    "told",
    "unforeseen",
]


class GitopperError(Exception):
    """The root of every error that gitopper raises on purpose; its text is written for an operator."""


@frozen(kw_only=True)
class ConfigProblem:
    """One mistake in a configuration: where it is, what is wrong, and what to write instead."""

    path: str
    """Where, as ``services[0].interval``; empty for the file as a whole."""
    message: str
    """What is wrong, with the value, and the remedy."""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigError(GitopperError):
    """A configuration that can't be used; `problems` holds all that is wrong with it, not the first."""

    def __init__(self, origin: str, problems: tuple[ConfigProblem, ...]) -> None:
        self.origin = origin
        self.problems = problems
        super().__init__("\n".join(f"{origin}: {problem}" for problem in problems))


class PluginError(GitopperError):
    """A plugin that can't be loaded or used, or a job that no loaded plugin takes."""


class StateError(GitopperError):
    """The state store can't be opened, read or written."""


class UnknownRevision(GitopperError):  # noqa: N818 - it reads as what it is at each raise
    """A hash that names no commit, or more than one, or one that the service must not go to."""


class AmbiguousRevision(UnknownRevision):
    """A short hash that names more than one commit."""


class AccessDenied(GitopperError):  # noqa: N818 - it reads as what it is at the raise
    """An auth plugin refuses: the credentials are its own kind, and not good. The text goes to the client.

    It helps the honest (``the token has expired``) and tells an attacker nothing.
    """


class StepError(GitopperError):
    """A step of a reconcile failed.

    `retryable` tells whether trying the same again can help: a network error yes, a refused
    file no. `service` is filled in by the reconciler where the raiser does not know it.
    """

    def __init__(self, message: str, *, service: str | None = None, retryable: bool = True) -> None:
        # It is kept and shown: a file name in it must not be what can't be written.
        super().__init__(writable(str(message)))
        self.service = service
        self.retryable = retryable


class SourceError(StepError):
    """The upstream can't be reached, does not answer in time, or has no such branch."""


class AuthError(SourceError):
    """The upstream refuses the credentials, or they can't be read."""


class CheckoutError(StepError):
    """A release can't be made of a revision: a path is missing, unsafe, or the disk is full."""


class VerifyError(StepError):
    """A service must not go to a revision: a signature is missing or bad, or it lies behind another one.

    Not retryable by default: it is judged again at the next poll, and after a change of what is trusted.
    """

    def __init__(self, message: str, *, service: str | None = None, retryable: bool = False) -> None:
        super().__init__(message, service=service, retryable=retryable)


class CheckError(StepError):
    """A release is not fit to be published.

    Not retryable by default: then its content is remembered, and not tried again. Retryable where the
    check itself could not be made.
    """

    def __init__(self, message: str, *, service: str | None = None, retryable: bool = False) -> None:
        super().__init__(message, service=service, retryable=retryable)


class InstallError(StepError):
    """The package of a service can't be installed."""


class PublishError(StepError):
    """A release can't be shown where the service expects it: something is in the way, or not allowed."""


class ReloadError(StepError):
    """The service did not take the release: its action failed or its unit is unknown."""


class HealthError(StepError):
    """The service is not healthy with the release that it runs with.

    Not retryable by default: its content is remembered, and not tried again.
    """

    def __init__(self, message: str, *, service: str | None = None, retryable: bool = False) -> None:
        super().__init__(message, service=service, retryable=retryable)


class CommandError(StepError):
    """A command could not be started, ran out of time, or ended with a code other than 0.

    `output` holds the last of what it printed, decoded leniently.
    """

    def __init__(
        self,
        message: str,
        *,
        output: str = "",
        code: int | None = None,
        service: str | None = None,
        retryable: bool = True,
    ) -> None:
        super().__init__(message, service=service, retryable=retryable)
        self.output = output
        self.code = code


def told(exc: BaseException) -> str:
    """Return the kind of `exc` and its text; its kind alone where its own code fails to give a text."""
    try:
        return f"{type(exc).__name__}: {exc}"
    except Exception:  # noqa: BLE001 - it is a stranger's code
        return type(exc).__name__


def unforeseen(exc: Exception) -> str:
    """Return what an operator is told of an error that was not raised on purpose, and who raised it."""
    notes = (note for note in getattr(exc, "__notes__", ()) if note.startswith("in gitopper_"))
    return " ".join([f"internal error: {told(exc)}", *(f"({note})" for note in notes)])
