"""What happened, and why: asked of a real daemon on real git, with gitopperctl."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from libgitopper import Reason
from tests.support.daemon import wait_until
from tests.support.simulateddaemon import ROOT, command, ctl, environment
from tests.support.site import Site
from tests.support.site import site as make_site
from tests.support.upstream import git

UNFIT = 'check = ["sh", "-c", "! grep -q unfit $GITOPPER_RELEASE/unfit/etc/conf"]'


@frozen(kw_only=True)
class Story:
    """A host on which each service is in another situation, and the commits that brought it there."""

    site: Site
    first: str
    elsewhere: str
    tip: str

    @property
    def at(self) -> str:
        return f"@unix:{self.site.home}/gitopperd.sock"

    def ask(self, *words: str) -> dict[str, Any]:
        """Ask with gitopperctl, in JSON."""
        done = ctl("-m", *words, self.at)
        assert done.returncode == 0, done.stdout + done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def history(self, service: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.ask("history", service)["history"]
        return entries

    def diff(self, *words: str) -> tuple[bytes, str]:
        """Return the patch, as it goes into a pipe, and what is said of it."""
        done = subprocess.run(
            command("diff", self.at, *words), cwd=ROOT, env=environment(), capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout, done.stderr.decode()

    def file(self, service: str) -> Any:
        """A published file of a service, at its path in the repository."""
        return self.site.live(service) / service / "etc/conf"


def conf(text: str, *services: str) -> dict[str, str]:
    return {f"{service}/etc/conf": text for service in services}


def closed_window() -> str:
    """A window that is not open today, nor tomorrow."""
    day = datetime.now(UTC) + timedelta(days=3)
    return f'window = "{day:%a} 00:00-00:01"'


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with make_site(tmp_path_factory.mktemp("story")) as site:
        fails, taken = site.home / "fails", site.home / "taken"
        services = {
            "web": "",
            "unfit": UNFIT,
            "held": closed_window(),
            "cut": f'command = ["sh", "-c", "test ! -e {fails}"]',
            "later": 'after = ["cut"]',
            "lost": "",
            "moved": "",
            "empty": "",
            "nowhere": 'branch = "nowhere"',
        }
        site.upstream.commit({"other/conf": "1"})
        first = site.upstream.commit(conf("1\n", *(services.keys() - {"empty"})))
        site.configure(*(f"{name}: {more}" for name, more in services.items()), interval="1h")
        with site.daemon as daemon:
            for name in services.keys() - {"empty", "nowhere"}:
                daemon.wait_for(name, "OK", first)
            daemon.wait_for("empty", "DIFF")
            daemon.post("/state/freeze/empty")
            elsewhere = site.upstream.commit({"other/conf": "2"})
            fails.touch()
            changed = conf("2\n", "web", "held", "cut", "later")
            tip = site.upstream.commit({**changed, **conf("unfit\n", "unfit")})
            daemon.post("/do/pull/web")
            daemon.wait_for("web", "OK", tip)
            daemon.wait_for("unfit", "BROKEN", first)
            daemon.wait_for("held", "DIFF", first, "outside of")
            daemon.wait_for("cut", "BROKEN", tip)
            daemon.wait_for("later", "DIFF", first, "waits: for cut")
            daemon.wait_for("lost", "OK", tip)
            daemon.wait_for("moved", "OK", tip)
            taken.mkdir()
            (taken / "somebody").write_text("else's")
            text = daemon.config.read_text()
            daemon.config.write_text(text.replace(f'"{site.home}/etc/moved"', f'"{taken}"'))
            daemon.post("/do/reload-config")
            daemon.wait_for("moved", "BROKEN")
            (site.home / "etc/lost").unlink()
            yield Story(site=site, first=first, elsewhere=elsewhere, tip=tip)


SITUATIONS: dict[Reason, tuple[str, str, str]] = {
    Reason.NO_TIP: ("nowhere", "", "now"),
    Reason.FROZEN_EMPTY: ("empty", "", "now"),
    Reason.IN_LINE: ("web", "", "now"),
    Reason.ELSEWHERE: ("web", "elsewhere", "changes"),
    Reason.FIRST: ("web", "first", "changes"),
    Reason.CONTENT: ("web", "tip", "changes"),
    Reason.SETTINGS: ("moved", "", "now"),
    Reason.UNPUBLISHED: ("lost", "", "now"),
    Reason.UNFINISHED: ("cut", "", "now"),
    Reason.REJECTED: ("unfit", "tip", "next"),
    Reason.HELD: ("held", "tip", "next"),
    Reason.AFTER: ("later", "tip", "next"),
}
"""A service, a commit, and where in the explanation the reason stands."""


@pytest.mark.parametrize("reason", Reason)
def test_each_reason_that_the_planner_knows_is_explained(story: Story, reason: Reason) -> None:
    assert reason in SITUATIONS, "the planner has a new reason: give it a row, a situation that has it"
    service, which, part = SITUATIONS[reason]
    commit = [getattr(story, which)[:10]] if which else []
    told = story.ask("explain", service, *commit)
    code = reason.name.lower().replace("_", "-")
    assert code in told[part]["reasons"]
    assert code in told["reasons"]
    if which:
        assert told["hash"] == getattr(story, which)
        assert told["commit"]["author"] == "Test"
    shown = ctl("explain", story.at, service, *commit)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith(told["verdict"])
    assert told[part]["why"] in shown.stdout


def test_the_history_tells_what_was_done_who_asked_and_how_long_it_took(story: Story) -> None:
    second, first = story.history("web")
    assert (first["from"], first["to"], first["asked"]) == (None, story.first, "start")
    assert (second["from"], second["to"]) == (story.first, story.tip)
    assert second["asked"].startswith("pull by ")
    assert second["result"] == "deployed"
    assert second["files"] == [{"path": "web/etc/conf", "kind": "edited", "detail": ""}]
    assert list(second["seconds"])[-2:] == ["reload", "health"]
    shown = ctl("history", story.at, "web", "--limit", "1").stdout.splitlines()
    assert len(shown) == 2
    assert f" {story.first[:12]}  {story.tip[:12]}  deployed " in shown[1]
    assert "mapped paths changed: web/etc" in shown[1]


def test_what_failed_is_in_the_history_and_tried_again_when_somebody_says_so(story: Story) -> None:
    failed, _ = story.history("unfit")
    assert (failed["result"], failed["to"], failed["tries"]) == ("failed", story.tip, 1)
    assert list(failed["seconds"])[-1] == "check"
    # Nothing is tried again by itself, however often somebody looks.
    story.site.daemon.post("/do/pull/web")
    story.site.daemon.wait_for("unfit", "BROKEN", story.first)
    assert len(story.history("unfit")) == 2
    done = ctl("do", "retry", story.at, "unfit")
    assert (done.returncode, done.stderr) == (0, "")
    assert "unfit tries again what failed before" in done.stdout
    wait_until(lambda: len(story.history("unfit")) == 3, lambda: f"{story.history('unfit')}")
    again, *_ = story.history("unfit")
    assert again["asked"].startswith("retry by ")
    assert again["error"] == failed["error"]
    audit = story.ask("audit", "--service", "unfit")["audit"]
    assert [(entry["action"], entry["status"]) for entry in audit] == [("retry", 202)]


def test_a_service_that_waits_tells_for_what_and_how_far_it_is_behind(story: Story) -> None:
    held = story.ask("list", "service", "held")
    assert held["waits"].startswith("outside of ")
    assert (held["behind"], held["behind_touching"], held["upstream_hash"]) == (2, 1, story.tip)
    assert story.ask("list", "service", "web")["behind"] == 0
    assert "waits" not in story.ask("list", "service", "web")
    assert "behind" not in story.ask("list", "services")["services"][0]


def applied(story: Story, revision: str, patch: bytes, directory: Path) -> Path:
    """Return a clone at `revision` in which git has applied the patch."""
    git(directory, "clone", "-q", str(story.site.upstream.path), "clone")
    clone = directory / "clone"
    git(clone, "checkout", "-q", revision)
    git(clone, "apply", stdin=patch)
    return clone


def test_what_would_come_is_a_patch_for_git(story: Story, tmp_path: Path) -> None:
    patch, said = story.diff("held")
    between = f"from {story.first[:12]} to {story.tip[:12]}"
    assert said == f"gitopperctl: {story.at[1:]}: what would come, {between}: 1 file\n"
    assert (applied(story, story.first, patch, tmp_path) / "held/etc/conf").read_text() == "2\n"
    assert story.diff("held", story.tip[:8])[0] == patch
    assert story.diff("held", story.first[:8], story.tip[:8])[0] == patch
    back, _ = story.diff("held", story.tip[:8], story.first[:8])
    assert b"\n-2\n+1\n" in back


def test_what_was_changed_on_the_host_is_a_patch_byte_by_byte(story: Story, tmp_path: Path) -> None:
    edited = b"2\n\x1b[2Jgone\n\xff\xfe\xed\xb2\x80 caf\xe9\t\xf0\x9f\x98\x80\r\n"
    story.file("web").write_bytes(edited)
    try:
        patch, said = story.diff("web")
        assert f"changed on the host since {story.tip[:12]}: 1 file" in said
        assert edited.splitlines(keepends=True)[2] in patch
        assert (applied(story, story.tip, patch, tmp_path) / "web/etc/conf").read_bytes() == edited
        as_json = story.ask("diff", "web")
        assert as_json["patch"].encode("utf-8", "surrogateescape") == patch
        assert (as_json["kind"], as_json["to"], as_json["complete"]) == ("drift", None, True)
        story.site.daemon.post("/do/pull/web")
        story.site.daemon.wait_for("web", "DIFF", story.tip, "drift: web/etc/conf edited")
        assert story.site.daemon.metrics()['gitopper_service_drift_files{service="web"}'] == 1
    finally:
        story.file("web").write_bytes(b"2\n")
    nothing, said = story.diff("web", "--drift")
    assert nothing == b""
    assert "nothing was changed on the host" in said
    assert "1 patch of earlier drift is kept: --kept shows the last" in said
    kept, said = story.diff("web", "--kept")
    assert kept == patch
    assert "not healed" in said
    story.site.daemon.post("/do/pull/web")
    story.site.daemon.wait_for("web", "OK", story.tip)
    assert story.site.daemon.metrics()['gitopper_service_drift_files{service="web"}'] == 0


def test_results_are_counted(story: Story) -> None:
    metrics = story.site.daemon.metrics()
    assert metrics['gitopper_deploys_total{result="deployed",service="web"}'] == 2
    assert metrics['gitopper_deploys_total{result="rejected",service="unfit"}'] >= 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("explain", "web", "0" * 40), "0000"),
        (("diff", "web", "0" * 40), "0000"),
        (("history", "nothing"), "this host runs no service 'nothing'"),
        (("diff", "nowhere", "--upstream"), "upstream has no branch 'nowhere'"),
        (("do", "retry", "nothing"), "this host runs no service 'nothing'"),
    ],
)
def test_what_can_not_be_answered_is_told(story: Story, words: tuple[str, ...], says: str) -> None:
    done = ctl(*words, story.at)
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr
