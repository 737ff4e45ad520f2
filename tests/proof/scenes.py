"""What is going on when the daemon is killed: each scene is set, then something happens, then it is run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from libgitopper import Intent, IntentKind
from tests.proof.victim import FILES, NAME, Host

__all__ = ["SCENES", "Scene"]

Act = Callable[[Host], None]
BOTH = ("symlink", "bind")


@frozen(kw_only=True)
class Scene:
    """One scene. The service's versions are ``zero``, ``one`` and ``two``, in their order."""

    name: str
    prepare: Act
    """Sets it, up to what the service has before."""
    happens: Act
    """What the daemon that is killed has to do something about. Quick: it comes before every kill."""
    versions: tuple[str | None, ...]
    """What the service may see at any time; None: nothing, too."""
    ends: str
    """The version that it sees in the end."""
    code: int = 0
    """Exit code in the end."""
    publishers: tuple[str, ...] = BOTH
    places: tuple[str, ...] = ("etc",)
    """Where it may see its files; in one of these places they are all the time."""
    rebooted: bool = False
    """No mount is there any more when it begins."""
    http: bool = False
    """Upstream is behind a web server, and not in the file system."""


def _first(host: Host, *more: str) -> None:
    host.make()
    host.configure(*more)
    for version in ("zero", "one", "two"):
        host.keep(version, host.commit(version))
    host.keep("elsewhere", host.commit("one", **{"other/file": "1"}))
    host.push("one")


def _deployed(*more: str, upto: str = "one") -> Act:
    """Deploy versions up to one of them, so that the next one leaves a release too many."""

    def prepare(host: Host) -> None:
        _first(host, *more)
        for version in ("zero", "one", "two"):
            host.push(version)
            assert host.freely() == 0, host.log.read_text()
            if version == upto:
                break

    return prepare


def _nothing(host: Host) -> None:
    """It is there already."""


def _push(version: str) -> Act:
    return lambda host: host.push(version)


def _want(kind: IntentKind, version: str = "", push: str = "two") -> Act:
    def ask(host: Host) -> None:
        host.push(push)
        revision = host.kept(version) if version else None
        with host.state as state:
            state.set_intent(NAME, Intent(kind=kind, revision=revision))

    return ask


def _edit(host: Host) -> None:
    """Somebody writes into the release that is published; into all files, so that it can be told."""
    for name in FILES:
        Path(host.home / "mount" / NAME / name).write_text("edited\n")


def _move(host: Host) -> None:
    host.configure(etc="srv")


CHECK = """check = ["/bin/sh", "-c", "! grep -q two $GITOPPER_RELEASE/web/main.conf"]"""
HEALTH = """
[services.health]
command  = ["/bin/sh", "-c", "! grep -q two {home}/etc/web.conf"]
within   = "200ms"
interval = "50ms"
"""

SCENES = (
    Scene(name="first start", prepare=_first, happens=_nothing, versions=(None, "one"), ends="one"),
    Scene(name="deploy", prepare=_deployed(), happens=_push("two"), versions=("one", "two"), ends="two"),
    Scene(
        name="deploy over http", prepare=_deployed(), happens=_push("two"), versions=("one", "two"),
        ends="two", publishers=("symlink",), http=True,
    ),
    Scene(name="advance", prepare=_deployed(), happens=_push("elsewhere"), versions=("one",), ends="one"),
    Scene(
        name="check refused", prepare=_deployed(CHECK), happens=_push("two"), versions=("one",), ends="one",
        code=1,
    ),
    Scene(
        name="taken back", prepare=_deployed(HEALTH), happens=_push("two"), versions=("one", "two"),
        ends="one", code=1,
    ),
    Scene(
        name="frozen", prepare=_deployed(), happens=_want(IntentKind.FREEZE), versions=("one",), ends="one",
        publishers=("symlink",),
    ),
    Scene(
        name="rollback", prepare=_deployed(upto="two"), happens=_want(IntentKind.ROLLBACK, "one"),
        versions=("one", "two"), ends="one",
    ),
    Scene(
        name="rollback to a release that is gone", prepare=_deployed(upto="two"),
        happens=_want(IntentKind.ROLLBACK, "zero"), versions=("zero", "two"), ends="zero",
        publishers=("symlink",),
    ),
    Scene(
        name="drift healed", prepare=_deployed('drift = "heal"'), happens=_edit, versions=("one", "edited"),
        ends="one",
    ),
    Scene(
        name="moved by the config", prepare=_deployed(), happens=_move, versions=("one",), ends="one",
        places=("etc", "srv"),
    ),
    Scene(
        name="after a reboot", prepare=_deployed(), happens=_push("two"), versions=(None, "one", "two"),
        ends="two", publishers=("bind",), rebooted=True,
    ),
)  # fmt: skip
