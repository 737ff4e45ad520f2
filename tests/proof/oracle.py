"""What must hold after a kill, and after the start that follows it.

Right after the kill only files are looked at, as a service would: each place shows one version, whole.
After the start everything is: what is recorded and what is on disk, down to the last file. It is held
against what there is when nobody was killed.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from libgitopper import Deploy, Result, StateStore
from tests.proof.heldup import descendants
from tests.proof.victim import BESIDE, NAME, Host
from tests.support.upstream import ENVIRONMENT

__all__ = ["Findings", "age_half_packs", "differences", "look", "torn", "unsound"]

Findings = Mapping[str, object]
"""What was found, by the name of what was looked at."""

# Beside the host: its upstream, and what the tests put there.
_NOT_THE_HOSTS = ("upstreams", "upstreams-fleet-work", "reloads")
# Git's locks are; that of our socket stays beside it.
_SCRATCH = re.compile(r"^tmp/|\.new|scratch-|(?<!^socket)\.lock$|/tmp_|\.old-")
_PACK = re.compile(r"pack-[0-9a-f]{40}\.(\w+)")


def torn(
    host: Host, versions: Sequence[str | None], places: Sequence[str], beside: Sequence[str | None] = ()
) -> list[str]:
    """Return what is wrong with what the service sees: each path has to show one of `versions`, whole.

    None among them: it may have nothing, as before its first deploy. Of several `places` one is
    enough. Where a link publishes all of them at once, all paths show the same version. `beside` is
    the same for the service beside it.
    """
    wrong, seen = [], {}
    if beside and (what := _beside(host)) not in beside:
        wrong.append(f"etc/{BESIDE} shows {what}")
    everywhere = [host.locals(place) for place in places]
    for link in everywhere[0]:
        paths = [there[link] for there in everywhere]
        shown = {str(path): _version(path) for path in paths}
        if len(places) > 1 and any(shown.values()):
            shown = {path: version for path, version in shown.items() if version}
        wrong += [f"{path} shows {what}" for path, what in shown.items() if what not in versions]
        seen[link] = set(shown.values())
    if host.publish == "symlink" and None not in versions and len(set.union(*seen.values())) > 1:
        wrong.append(f"several versions at a time: {seen}")
    return wrong


def look(host: Host, code: int) -> Findings:
    """Return all that is to be seen on the host after a daemon has ended with `code`."""
    left = [Path(f"/proc/{pid}/cmdline").read_text() for pid in descendants(os.getpid())]
    files = sorted(_files(host.home))
    with host.state as state:
        deployed = state.deployed(NAME)
        found = {
            "exit code": code,
            "processes left": left,
            "shown": {local.name: _shown(local) for local in host.locals().values()},
            "shown beside": _beside(host),
            "deployed beside": sorted(other.service.name for other in state.all_deployed()),
            "live release": (host.home / "mount" / NAME).resolve().name,
            "deployed": deployed and (deployed.revision, deployed.release, deployed.service.placement),
            "attempt": state.attempt(NAME),
            "intent": (state.intent(NAME).kind, state.intent(NAME).revision),
            "releases remembered": state.releases(NAME, 10),
            "deploys": list(_deploys(state.deploys(NAME))),
            "rejections": state._all("SELECT release, revision, step FROM rejection ORDER BY 1, 3"),
            "releases past keeping": sorted(_releases(host) - _kept(host, state)),
            "drift": [(d.release, d.changes, d.healed) for d in state.drifts(NAME)],
        }
    return {
        **found,
        "heads": dict(_heads(host)),
        "owners": sorted(_owners(host)),
        "git status": _git_status(host),
        "files": files,
        "half packs": sorted(_half_packs(host.home)),
        "mounts": _mounts(host.home),
        "reloaded since the last flip": host.reloads()[-1:] == [_due(host)],
    }


def unsound(found: Findings) -> list[str]:
    """Return what is wrong with `found` by itself, whatever it is held against: for a run nobody kills."""
    deployed = cast("tuple[str, str, object]", found["deployed"])
    left = [path for path in cast("list[str]", found["files"]) if _SCRATCH.search(path)]
    sound = {
        "processes left": not found["processes left"],
        "nothing but the live release is deployed": deployed[1] == found["live release"],
        "HEAD of the live release": cast("dict[str, str]", found["heads"])[deployed[1]] == deployed[0],
        "git status": not found["git status"],
        "half packs": not found["half packs"],
        "releases past keeping": not found["releases past keeping"],
        "reloaded since the last flip": found["reloaded since the last flip"],
        f"left over: {left}": not left,
    }
    return [what for what, holds in sound.items() if not holds]


def differences(expected: Findings, found: Findings, apart: Collection[str] = ()) -> list[str]:
    """Return what differs, one line for each thing, `apart` from some."""
    differing = [name for name in expected if expected[name] != found[name] and name not in apart]
    return [f"{name}: {_told(expected[name], found[name])}" for name in differing]


def _told(expected: object, found: object) -> str:
    if isinstance(expected, list) and isinstance(found, list):
        missing, more = ([x for x in a if x not in b] for a, b in ((expected, found), (found, expected)))
        return f"lacks {missing}, and has {more} too many" if missing or more else f"{found}"
    return f"{found} instead of {expected}"


def _releases(host: Host) -> set[str]:
    return {path.name for path in host.home.glob(f"mount/.gitopper/releases/{NAME}/*")}


def _kept(host: Host, state: StateStore) -> set[str]:
    """The releases that there is a reason to keep."""
    remembered = {release for release, _ in state.releases(NAME, host.service.keep)}
    known = (state.deployed(NAME), state.attempt(NAME))
    return remembered | {one.release for one in known if one}


def _deploys(deploys: Sequence[Deploy]) -> Iterator[tuple[object, ...]]:
    """What the history tells, newest first; it may tell of a repair before a release was healed."""
    for before, deploy in zip((None, *deploys), deploys, strict=False):
        result = Result.DEPLOYED if deploy.result is Result.HEALED else deploy.result
        again = before is not None and before.before == before.after == deploy.after == deploy.before
        if not again:
            yield deploy.before, deploy.after, result


def _due(host: Host) -> str:
    """The line that the reload of what is shown now has written."""
    if not (host.home / "mount" / NAME).is_symlink():
        return ""
    [conf] = [local for link, local in host.locals().items() if link == "web/main.conf"]
    return f"{host.flip()} {conf.read_text().strip()}"


def _shown(local: Path) -> Mapping[str, str] | None:
    """Every file at `local` with its text; None where there is nothing, or the empty place of a mount."""
    if local.is_dir():
        return dict(sorted(_texts(str(local)))) or None
    text = local.read_text().strip() if local.exists() else ""
    return {"": text} if text else None


def _beside(host: Host) -> str | None:
    """What the service beside it has in its one file; what there is instead; or None for nothing."""
    shown = _shown(host.home / "etc" / BESIDE)
    if shown and list(shown) == ["conf"]:
        return shown["conf"]
    return str(shown) if shown else None


def _owners(host: Host) -> set[tuple[int, int]]:
    """Owners and groups of what the service shows."""
    tops = [local.resolve() for local in host.locals().values()]
    paths = [Path(at, name) for top in tops for at, _, names in os.walk(top) for name in names]
    return {(path.stat().st_uid, path.stat().st_gid) for path in (*tops, *paths) if path.exists()}


def _version(local: Path) -> str | None:
    """The version that `local` shows, whole; what there is instead; or None for nothing."""
    shown = _shown(local)
    if shown is None:
        return None
    names = {""} if local.suffix == ".conf" else {"a", "sub/b"}
    [version, *others] = sorted(set(shown.values())) or [""]
    return version if not others and set(shown) == names else str(shown)


def _texts(top: str, below: str = "") -> Iterator[tuple[str, str]]:
    """Each file with its text; by short ways, since this is asked at each call of a daemon."""
    with os.scandir(top) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _texts(entry.path, f"{below}{entry.name}/")
            elif not entry.is_dir():
                with open(entry.path) as file:  # noqa: PTH123
                    yield below + entry.name, file.read().strip()


def _files(home: Path) -> Iterator[str]:
    """Every path of the host: with the content of links, and packs by their number only."""
    for directory, folders, names in os.walk(home):
        here = Path(directory).relative_to(home)
        if here == Path():
            folders[:] = [name for name in folders if name not in _NOT_THE_HOSTS]
            names = [name for name in names if name not in _NOT_THE_HOSTS]
        for name in [*folders, *names]:
            path = Path(directory, name)
            if not _PACK.fullmatch(name):
                yield f"{here / name} -> {path.readlink()}" if path.is_symlink() else str(here / name)


def age_half_packs(host: Host) -> None:
    """Let half packs be as old as those that are removed; a young one may be a git's own."""
    for path in host.home.glob("mount/.gitopper/stores/*/objects/pack/*"):
        if not path.with_suffix(".idx").exists():
            os.utime(path, (0, 0))


def _half_packs(home: Path) -> Iterator[str]:
    """Packs of which some part is missing."""
    parts: dict[str, set[str]] = {}
    for path in home.glob("mount/.gitopper/stores/*/objects/pack/*"):
        parts.setdefault(path.stem, set()).add(path.suffix)
    for name, suffixes in parts.items():
        if suffixes != {".pack", ".idx", ".promisor"}:
            yield f"{name} has only {sorted(suffixes)}"


def _heads(host: Host) -> Iterator[tuple[str, str]]:
    """Release to the commit that its HEAD names; or what it lacks, or what lacks it."""
    for admin in host.home.glob("mount/.gitopper/stores/*.git/worktrees/*"):
        if not {"gitdir", "HEAD"} <= {path.name for path in admin.iterdir()}:
            yield admin.name, "half an administrative directory"
            continue
        release = Path((admin / "gitdir").read_text().strip()).parent
        yield release.name, (admin / "HEAD").read_text().strip() if release.exists() else "no such release"
    for release in host.home.glob(f"mount/.gitopper/releases/{NAME}/*"):
        link = release / ".git"
        if not link.exists() or not Path(link.read_text().partition(": ")[2].strip()).is_dir():
            yield release.name, "no administrative directory"


def _git_status(host: Host) -> str:
    live = host.home / "mount" / NAME
    if not live.exists():
        return "nothing is live"
    done = subprocess.run(
        ["git", "--no-optional-locks", "status", "--porcelain"],
        cwd=live, env=ENVIRONMENT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def _mounts(home: Path) -> list[tuple[str, str]]:
    """What is mounted below `home`, and where."""
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted((line[3], line[4]) for line in lines if line[4].startswith(f"{home}/"))
