"""Sync windows: outside of all that a service has, its new content waits."""

from __future__ import annotations

from libgitopper import Hold, HoldRequest, hookimpl, opening


@hookimpl
def gitopper_hold(request: HoldRequest) -> Hold | None:
    """Hold new content until the first of the service's windows opens."""
    windows = request.service.windows
    until = opening(windows, request.now)
    if until is None:
        return None
    first = next(window for window in windows if opening((window,), request.now) == until)
    texts = " and ".join(window.text for window in windows)
    return Hold(reason=f"outside of {texts}; opens {first.local(until):%Y-%m-%d %H:%M %Z}", until=until)
