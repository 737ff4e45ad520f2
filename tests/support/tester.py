"""An auth plugin for tests, installed as a third party's: the header ``X-Tester`` says who asks."""

from __future__ import annotations

from pathlib import Path

__all__ = ["install_tester"]

MODULE = """
from libgitopper import AccessDenied, Grant, Identity, Role, hookimpl


@hookimpl
def gitopper_auth(request):
    who = request.headers.get("x-tester")
    if request.plugin != "tester" or who is None:
        return None
    role, _, services = who.partition(" ")
    if role == "refused":
        raise AccessDenied("this badge is not good")
    if role == "raising":
        raise RuntimeError("the badge reader is broken")
    if role == "exiting":
        raise SystemExit(0)
    if role == "odd":
        return True
    grant = Grant(role=Role.named(role), services=tuple(services.split()) or ("*",))
    return Identity(name=f"tester {who}", grants=(grant,))


@hookimpl
def gitopper_auth_settings(plugin, settings):
    if plugin != "tester":
        return None
    return [f"{key}: not here; remove it" for key in settings]
"""


def install_tester(directory: Path) -> Path:
    """Write the plugin's distribution into `directory`, which is to be in ``PYTHONPATH``."""
    info = directory / "gitopper_tester-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gitopper-tester\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[gitopper]\ntester = gitopper_tester\n")
    (directory / "gitopper_tester.py").write_text(MODULE)
    return directory
