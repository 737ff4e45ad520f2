"""Showing what services had without the settings by which they are told: their reload stays owed."""

from __future__ import annotations

from attrs import evolve

from libgitopper import Attempt, Deployed, Reloaded, ReloadError, ReloadRequest, Service, hookimpl

__all__ = ["Owed", "owing"]

NAME = "gitopperd.owed"
"""Of a reload plugin."""


class Owed:
    """A plugin, for services of `owing`."""

    @hookimpl
    def gitopper_reload(self, request: ReloadRequest) -> Reloaded | None:
        """Refuse: the state has where a service's files are, and not how it is told of them."""
        if request.service.reload != NAME:
            return None
        raise ReloadError("its files are shown; how it is told of them, the configuration has to say")


def owing(known: Deployed | Attempt) -> Service:
    """Return the service with a reload that `Owed` refuses, so that it is left to the next pass."""
    return evolve(known.service, reload=NAME)
