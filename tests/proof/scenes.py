"""What is going on when the daemon is killed: each scene is set, then something happens, then it is run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from gitopper_plugins._packages import manager_here
from libgitopper import Intent, IntentKind
from tests.proof.victim import BESIDE, FILES, NAME, Host
from tests.proof.visitor import Visitor
from tests.support.signing import SshKey, signed_by

__all__ = ["SCENES", "Scene"]

Act = Callable[[Host], object]
Errand = Callable[[Visitor], None]
BOTH = ("symlink", "bind")


def _nothing(host: Host) -> None:
    """It is there already."""


@frozen(kw_only=True)
class Scene:
    """One scene. The service's versions are ``zero``, ``one`` and ``two``, in their order."""

    name: str
    prepare: Act
    """Sets it, up to what the service has before."""
    happens: Act = _nothing
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
    beside: tuple[str | None, ...] = ()
    """What the service beside it may see at any time; empty: there is none."""
    rebooted: bool = False
    """No mount is there any more when it begins."""
    http: bool = False
    """Upstream is behind a web server, and not in the file system."""
    bootstrap: bool = False
    """The configuration comes from the repository."""
    errand: Errand | None = None
    """What somebody asks of the daemon, which runs on; None: it runs once, and nobody asks."""
    settle: Act = _nothing
    """What has happened by the next start at the latest, also where the errand was cut short."""
    lost: bool = False
    """What the errand asks for first may be lost, or be there, where it was not acknowledged."""
    promised: tuple[str, ...] = ()
    """The same as `versions`, from when it is acknowledged; empty: no others."""
    possible: bool = True
    """Whether this host and this user can have it."""


def _versions(host: Host) -> None:
    for version in ("zero", "one", "two"):
        host.keep(version, host.commit(version))
    host.keep("elsewhere", host.commit("one", **{"other/file": "1"}))
    host.push("one")


def _first(host: Host, *more: str, publish: str = "") -> None:
    host.make()
    host.configure(*more, publish=publish)
    _versions(host)


def _by_repository(host: Host) -> None:
    host.make()
    _versions(host)


def _deployed(*more: str, upto: str = "one", publish: str = "", first: Act | None = None) -> Act:
    """Deploy versions up to one of them, so that the next one leaves a release too many."""

    def prepare(host: Host) -> None:
        if first:
            first(host)
        else:
            _first(host, *more, publish=publish)
        for version in ("zero", "one", "two"):
            _deploy(host, version)
            if version == upto:
                break

    return prepare


def _deploy(host: Host, version: str) -> None:
    host.push(version)
    assert host.freely() == 0, host.log.read_text()


def _push(version: str) -> Act:
    return lambda host: host.push(version)


def _want(kind: IntentKind, version: str = "", push: str = "two") -> Act:
    def ask(host: Host) -> None:
        host.push(push)
        revision = host.kept(version) if version else None
        with host.state as state:
            state.set_intent(NAME, Intent(kind=kind, revision=revision))

    return ask


def _then(*acts: Act) -> Act:
    def act(host: Host) -> None:
        for one in acts:
            one(host)

    return act


def _configure(*more: str, etc: str = "etc", publish: str = "") -> Act:
    return lambda host: host.configure(*more, etc=etc, publish=publish)


def _edit(host: Host) -> None:
    """Somebody writes into the release that is published; into all files, so that it can be told."""
    for name in FILES:
        Path(host.home / "mount" / NAME / name).write_text("edited\n")


def _signed(*versions: str) -> Act:
    """Only these versions are signed by the key that the service trusts."""

    def first(host: Host) -> None:
        host.make()
        host.configure(VERIFY)
        key = SshKey.make(host.home / "keys")
        allowed = host.home / "keys/allowed"
        allowed.write_text(key.allowed())
        allowed.chmod(0o644)
        for version in ("zero", "one", "two"):
            if version in versions:
                with signed_by(host.upstream, key):
                    host.keep(version, host.commit(version))
            else:
                host.keep(version, host.commit(version))

    return first


def _many_packs(host: Host) -> None:
    """As many small packs in the store as there may be, so that the next fetch merges them."""
    _first(host)
    for number in range(99):
        if len(list(host.home.glob("mount/.gitopper/stores/*/objects/pack/*.pack"))) >= MANY_PACKS:
            break
        host.keep("filler", host.commit("zero", **{FILES[0]: f"{number}\n"}))
        _deploy(host, "filler")
    host.keep("one", host.commit("one"))
    host.keep("two", host.commit("two"))
    _deploy(host, "one")


def _package(host: Host) -> None:
    """A package manager that is none, and has just what is called of it."""
    _first(host)
    for name in ("dpkg-query", "apt-cache", "apt-get"):
        program = host.home / "bin" / name
        program.write_text(APT.format(home=host.home))
        program.chmod(0o755)
    _deploy(host, "one")


def _moved_by_repository(host: Host) -> None:
    _deployed(first=_by_repository)(host)
    settings = host.configure(etc="srv")
    host.configure()
    host.keep("moved", host.commit("one", **{"conf/gitopper.toml": settings}))


def _take_settings(host: Host) -> None:
    """As the configuration says that the next commit brings, for those who look."""
    host.push("moved")
    host.configure(etc="srv")


def _ask(path: str, *, version: str = "", shows: str = "") -> Errand:
    """Ask for something by REST; wait until the service shows a version."""

    def errand(visitor: Visitor) -> None:
        visitor.post(path + (visitor.host.kept(version) if version else ""))
        if shows:
            visitor.shows(shows)

    return errand


def _freeze(visitor: Visitor) -> None:
    """Freeze it; then there is a commit that it must not go to."""
    visitor.post(f"/state/freeze/{NAME}")
    visitor.host.push("two")
    visitor.post(f"/do/pull/{NAME}")


def _pull(visitor: Visitor) -> None:
    """Push a commit, and tell of it."""
    visitor.host.push("two")
    visitor.post(f"/do/pull/{NAME}")
    visitor.shows("two")


def _load(settings: Act, done: Callable[[Host], bool]) -> Errand:
    """Write another configuration, and have it loaded."""

    def errand(visitor: Visitor) -> None:
        settings(visitor.host)
        visitor.hang_up()
        visitor.until(lambda: done(visitor.host), "as the configuration says")

    return errand


def _has_beside(host: Host) -> bool:
    return (host.home / "etc" / BESIDE / "conf").exists()


def _has_moved(host: Host) -> bool:
    return (host.home / "srv/web.conf").exists() and not _has_beside(host)


AS_ROOT = os.geteuid() == 0
MANY_PACKS = 9

OTHER = """
[[services]]
machine = "*"
service = "app"
command = ["/bin/true"]
dirs    = [{{ local = "{home}/etc/app", link = "app" }}]
"""
CHECK = """check = ["/bin/sh", "-c", "! grep -q two $GITOPPER_RELEASE/web/main.conf"]"""
GOOD_CHECK = """check = ["/bin/sh", "-c", "grep -q . $GITOPPER_RELEASE/web/main.conf"]"""
HEALTH = """
[services.health]
command  = ["/bin/sh", "-c", "! grep -q two {home}/etc/web.conf"]
within   = "200ms"
interval = "50ms"
"""
GOOD_HEALTH = HEALTH.replace("! grep -q two", "grep -q .").replace("200ms", "10s")
VERIFY = """verify = {{ allowed_signers = "{home}/keys/allowed" }}"""
# An installation is no one step: killed in between, the package is there by half, and is not installed.
APT = """\
#!/bin/sh
case "${{0##*/}} $*" in
dpkg-query*) cat {home}/package 2>/dev/null || exit 1;;
apt-cache*) echo tool: ;;
"apt-get -s"*) ;;
apt-get*) echo half-installed > {home}/package; echo installed > {home}/package;;
esac
"""

ONCE = (
    Scene(name="first start", prepare=_first, versions=(None, "one"), ends="one"),
    Scene(name="deploy", prepare=_deployed(), happens=_push("two"), versions=("one", "two"), ends="two"),
    Scene(
        name="deploy over http", prepare=_deployed(), happens=_push("two"), versions=("one", "two"),
        ends="two", publishers=("symlink",), http=True,
    ),
    Scene(
        name="deploy with every safeguard", prepare=_deployed(GOOD_CHECK, GOOD_HEALTH),
        happens=_push("two"), versions=("one", "two"), ends="two",
    ),
    Scene(name="advance", prepare=_deployed(), happens=_push("elsewhere"), versions=("one",), ends="one"),
    Scene(
        name="check refused", prepare=_deployed(CHECK), happens=_push("two"), versions=("one",), ends="one",
        code=1,
    ),
    Scene(
        name="signature accepted", prepare=_deployed(first=_signed("zero", "one", "two")),
        happens=_push("two"),
        versions=("one", "two"), ends="two", publishers=("symlink",),
    ),
    Scene(
        name="signature refused", prepare=_deployed(first=_signed("zero", "one")), happens=_push("two"),
        versions=("one",), ends="one", code=1, publishers=("symlink",),
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
        name="packs merged", prepare=_many_packs, happens=_push("two"), versions=("one", "two"), ends="two",
        publishers=("symlink",),
    ),
    Scene(
        name="package installed", prepare=_package,
        happens=_then(_push("two"), _configure('package = "tool"')), versions=("one", "two"),
        ends="two", possible=AS_ROOT and manager_here() == "apt",
    ),
    Scene(
        name="owner changed", prepare=_deployed(),
        happens=_then(_push("two"), _configure('user = "nobody"')), versions=("one", "two"), ends="two",
        possible=AS_ROOT,
    ),
    Scene(
        name="moved by the config", prepare=_deployed(), happens=_configure(etc="srv"), versions=("one",),
        ends="one", places=("etc", "srv"),
    ),
    Scene(
        name="dropped from the config", prepare=_deployed(OTHER), happens=_configure(), versions=("one",),
        ends="one", beside=("app", None),
    ),
    Scene(
        name="from symlink to bind", prepare=_deployed(publish="symlink"), happens=_configure(),
        versions=("one", None), ends="one", publishers=("bind",),
    ),
    Scene(
        name="from bind to symlink, which is refused", prepare=_deployed(),
        happens=_configure(publish="symlink"), versions=("one",), ends="one", code=1,
        publishers=("bind",),
    ),
    Scene(
        name="after a reboot", prepare=_deployed(), happens=_push("two"), versions=(None, "one", "two"),
        ends="two", publishers=("bind",), rebooted=True,
    ),
    Scene(
        name="first start by repository", prepare=_by_repository, versions=(None, "one"), ends="one",
        publishers=("symlink",), bootstrap=True,
    ),
    Scene(
        name="moved by the repository", prepare=_moved_by_repository, happens=_take_settings,
        versions=("one",), ends="one", places=("etc", "srv"), publishers=("symlink",), bootstrap=True,
    ),
)  # fmt: skip

ASKED = (
    Scene(
        name="asked to pull", prepare=_deployed(), versions=("one", "two"), ends="two", errand=_pull,
        settle=_push("two"), publishers=("symlink",),
    ),
    Scene(
        name="asked to freeze", prepare=_deployed(), versions=("one", "two"), promised=("one",), ends="one",
        errand=_freeze, settle=_push("two"), lost=True, publishers=("symlink",),
    ),
    Scene(
        name="asked to roll back", prepare=_deployed(upto="two"), versions=("one", "two"), ends="one",
        errand=_ask(f"/state/rollback/{NAME}/", version="one", shows="one"), lost=True,
    ),
    Scene(
        name="asked to unfreeze", prepare=_then(_deployed(), _want(IntentKind.FREEZE)),
        versions=("one", "two"), ends="two", errand=_ask(f"/state/unfreeze/{NAME}", shows="two"), lost=True,
        publishers=("symlink",),
    ),
    Scene(
        name="loaded: one comes", prepare=_deployed(), versions=("one",), ends="one", beside=(None, "app"),
        errand=_load(_configure(OTHER), _has_beside), settle=_configure(OTHER),
    ),
    Scene(
        name="loaded: one moves, one goes", prepare=_deployed(OTHER), versions=("one",), ends="one",
        places=("etc", "srv"), beside=("app", None), errand=_load(_configure(etc="srv"), _has_moved),
        settle=_configure(etc="srv"),
    ),
)  # fmt: skip

SCENES = tuple(scene for scene in (*ONCE, *ASKED) if scene.possible)
"""Those that this host and this user can have."""
