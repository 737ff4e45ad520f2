"""The systemd plugin, run inside a `SystemdBox`: the same hook, one process further away."""

from __future__ import annotations

import base64
import pickle

from libgitopper import Reloaded, ReloadError, ReloadRequest, hookimpl
from tests.support.systemdbox import SystemdBox

__all__ = ["SystemdInBox"]

DRIVER = """
import base64, json, pickle, sys
import attrs
from gitopper_plugins import systemd
from libgitopper import ReloadError

request = pickle.loads(base64.b64decode(sys.argv[1]))
try:
    reloaded = systemd.gitopper_reload(request)
except ReloadError as exc:
    answer = {"error": {"message": str(exc), "retryable": exc.retryable}}
else:
    answer = {"reloaded": reloaded and attrs.asdict(reloaded)}
print(json.dumps(answer))
"""


class SystemdInBox:
    """A plugin object whose hook calls `gitopper_plugins.systemd` in the box, and brings its answer out."""

    def __init__(self, box: SystemdBox) -> None:
        self.box = box

    @hookimpl
    def gitopper_reload(self, request: ReloadRequest) -> Reloaded | None:
        """Do what the real hook does, where the real systemd is."""
        packed = base64.b64encode(pickle.dumps(request)).decode()
        answer = self.box.python(DRIVER, packed)
        if "error" in answer:
            raise ReloadError(answer["error"]["message"], retryable=answer["error"]["retryable"])
        return Reloaded(**answer["reloaded"]) if answer["reloaded"] else None
