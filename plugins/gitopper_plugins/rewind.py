"""`no_rewind`: history never goes behind a commit that was accepted, unless an operator says so."""

from __future__ import annotations

from libgitopper import Accepted, IntentKind, VerifyError, VerifyRequest, hookimpl


@hookimpl
def gitopper_verify(request: VerifyRequest) -> Accepted | None:
    """See `libgitopper.hookspecs`; judges services with `no_rewind`."""
    service, floor = request.service, request.floor
    if not service.no_rewind:
        return None
    # Frozen or rolled back is what an operator asked for; upstream has no say in it.
    tracks = request.intent.kind is IntentKind.TRACK
    if tracks and floor and not request.store.is_ancestor(floor, request.revision):
        raise VerifyError(
            f"{request.revision[:12]} does not descend from {floor[:12]}, which was accepted before:"
            f" branch {service.source.branch} was rewound or rewritten; if that is right, roll the service"
            " back to that commit, or take no_rewind from its config for one deploy"
        )
    return Accepted(judged=("no_rewind",))
