"""The history: each deploy with from, to, who asked, what changed, how long each step took, and its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from libgitopper import (
    ChangeKind,
    Check,
    CheckoutError,
    Deploy,
    Health,
    HealthError,
    Intent,
    IntentKind,
    PluginError,
    PublishError,
    ReloadError,
    Result,
    Service,
    StateError,
    Verify,
)
from tests.support.simulated import Crash
from tests.support.simulatedhost import SimulatedHost

STEPS = ["verify", "install", "checkout", "check", "publish", "reload", "health"]


def push(host: SimulatedHost, text: str) -> str:
    return host.upstream.commit({"web/conf": text})


def history(host: SimulatedHost) -> tuple[Deploy, ...]:
    return host.state.deploys("web")


def test_a_deploy_has_one_entry_that_tells_all_of_it(host: SimulatedHost) -> None:
    web = host.service()
    first = host.deploy(web)
    second = host.upstream.commit({"web/conf": "2", "web/more": "2", "webapp/conf": "2"})
    host.pass_(web)
    entry, earlier = history(host)
    assert (earlier.before, earlier.after, earlier.why) == (None, first, "first deploy")
    assert (entry.before, entry.after, entry.release) == (first, second, host.shown(web))
    assert (entry.asked, entry.why) == ("poll", "mapped paths changed: web")
    assert [(file.path, file.kind) for file in entry.files] == [
        ("web/conf", ChangeKind.EDITED), ("web/more", ChangeKind.ADDED),
    ]  # fmt: skip
    assert (entry.files_total, entry.result, entry.error, entry.tries) == (2, Result.DEPLOYED, "", 1)
    assert [file.kind for file in earlier.files] == [ChangeKind.ADDED]


def test_the_durations_of_the_steps_are_in_their_order(host: SimulatedHost) -> None:
    host.deploy(host.service())
    (entry,) = history(host)
    assert list(entry.seconds) == STEPS
    assert all(0 <= seconds < 60 for seconds in entry.seconds.values())


@pytest.mark.parametrize(
    ("step", "error", "last", "told"),
    [
        ("checkout web", CheckoutError("disk full"), "checkout", "disk full"),
        ("publish web", PublishError("in the way"), "publish", "in the way"),
        ("reload web", ReloadError("exit code 1"), "reload", "reload failed: exit code 1"),
    ],
)
def test_the_last_step_of_a_deploy_that_failed_is_where_it_ended(
    host: SimulatedHost, step: str, error: Exception, last: str, told: str
) -> None:
    host.script.on(step, error)
    host.pass_(host.service())
    (entry,) = history(host)
    assert (entry.result, entry.error) == (Result.FAILED, told)
    assert list(entry.seconds) == STEPS[: STEPS.index(last) + 1]


def test_who_asked_is_told(host: SimulatedHost) -> None:
    web = host.service()
    host.reconciler.reconcile(web, host.fetch(web), asked="do pull by alice (uid 1000)")
    assert history(host)[0].asked == "do pull by alice (uid 1000)"


@pytest.mark.parametrize("step", ["verify web", "checkout web", "publish web", "reload web"])
@pytest.mark.parametrize(
    ("wrong", "told"),
    [(KeyError("realm"), "internal error: KeyError: 'realm'"), (PluginError("nobody does it"), "nobody")],
)
def test_a_deploy_that_failed_by_a_fault_of_a_plugin_is_entered_too(
    host: SimulatedHost, step: str, wrong: Exception, told: str
) -> None:
    web = host.service(verify=Verify(keyring=Path("/ring")))
    first = host.deploy(web)
    second = push(host, "2")
    host.script.on(step, wrong)
    host.pass_(web)
    error = host.pass_(web).error
    entry, _ = history(host)
    assert (entry.before, entry.after, entry.result, entry.tries) == (first, second, Result.FAILED, 2)
    assert entry.error == str(error)
    assert entry.error.startswith(told)
    assert list(entry.seconds)[-1] == step.partition(" ")[0]


def test_tries_that_fail_in_the_same_way_are_one_entry_and_the_success_another(host: SimulatedHost) -> None:
    web = host.service()
    host.script.on("reload web", ReloadError("exit code 1"))
    for _ in range(4):
        host.pass_(web)
    (entry,) = history(host)
    assert (entry.tries, entry.result) == (4, Result.FAILED)
    assert entry.last is not None
    assert entry.last > entry.at
    host.script.clear()
    host.pass_(web)
    done, failed = history(host)
    assert (done.result, failed.tries) == (Result.DEPLOYED, 4)
    assert (done.after, done.before) == (failed.after, failed.before)


def test_a_deploy_that_fails_in_another_way_is_another_entry(host: SimulatedHost) -> None:
    web = host.service()
    for code in (1, 1, 2):
        host.script.on("reload web", ReloadError(f"exit code {code}"))
        host.pass_(web)
    assert [(entry.error, entry.tries) for entry in history(host)] == [
        ("reload failed: exit code 2", 1), ("reload failed: exit code 1", 2),
    ]  # fmt: skip


@pytest.mark.parametrize("guards", [{}, {"check": Check(commands=(("x",),)), "health": Health(unit=True)}])
def test_passes_with_nothing_to_deploy_enter_nothing(host: SimulatedHost, guards: dict[str, Any]) -> None:
    web = host.service(**guards)
    host.deploy(web)
    host.pass_(web)
    host.upstream.commit({"elsewhere": "2"})
    host.pass_(web)
    host.mounts.reboot()
    host.restart()
    host.pass_(web)
    host.reconciler.want("web", Intent(kind=IntentKind.FREEZE))
    push(host, "2")
    host.pass_(web)
    assert len(history(host)) == 1


@pytest.mark.parametrize(("bad", "entries"), [("unfit", 1), ("ill", 1)])
def test_content_that_was_rejected_is_entered_once_however_many_passes_there_are(
    host: SimulatedHost, bad: str, entries: int
) -> None:
    web = host.service(check=Check(commands=(("x",),)), health=Health(unit=True, within_seconds=1.0))
    host.deploy(web)
    push(host, bad)
    for _ in range(3):
        host.pass_(web)
    host.restart()
    host.pass_(web)
    assert len(history(host)) == entries + 1
    assert history(host)[0].tries == 1


def test_a_take_back_after_a_crash_is_entered_too(host: SimulatedHost) -> None:
    web = host.service(health=Health(unit=True, within_seconds=1.0))
    good = host.deploy(web)
    bad = push(host, "ill")
    host.script.on("reject web", Crash(), when="after")
    with pytest.raises(Crash):
        host.pass_(web)
    host.restart()
    assert isinstance(host.pass_(web).error, HealthError)
    entry = history(host)[0]
    assert (entry.result, entry.before, entry.after) == (Result.TAKEN_BACK, good, bad)
    assert list(entry.seconds) == ["take back"]


def test_of_many_files_the_first_thousand_are_named_and_all_are_counted(host: SimulatedHost) -> None:
    web = host.service()
    host.deploy(web)
    host.upstream.commit({f"web/{number:04}": "x" for number in range(1200)})
    host.pass_(web)
    entry = history(host)[0]
    assert (len(entry.files), entry.files_total) == (1000, 1200)
    assert entry.files[-1].path == "web/0999"


def test_a_deploy_goes_well_where_nobody_can_tell_what_it_changes(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    web = host.service()
    host.deploy(web)
    second = push(host, "2")
    store = host.fetch(web)

    def gone(*_: object) -> None:
        raise KeyError("the former commit was pruned")

    monkeypatch.setattr(store, "changes", gone)
    assert host.pass_(web).error is None
    assert (history(host)[0].files, history(host)[0].files_total) == ((), 0)
    assert "which files changed is not known" in caplog.text
    host.assert_in_line(web, second)


def test_a_failure_is_told_also_where_the_history_can_not_be_written(
    host: SimulatedHost, caplog: pytest.LogCaptureFixture
) -> None:
    host.script.on("reload web", ReloadError("exit code 1"))
    host.script.on("add web", StateError("disk full"))
    assert str(host.pass_(host.service()).error) == "reload failed: exit code 1"
    assert "web: its history could not be written: disk full" in caplog.text


def rollback(host: SimulatedHost, web: Service, to: str) -> None:
    host.roll_back(web, to)
    assert host.pass_(web).error is None


def test_rollbacks_are_deploys_with_their_way_back(host: SimulatedHost) -> None:
    web = host.service()
    first = host.deploy(web)
    second = push(host, "2")
    host.deploy(web)
    rollback(host, web, first)
    entry = history(host)[0]
    assert (entry.before, entry.after, entry.result) == (second, first, Result.DEPLOYED)


@pytest.mark.parametrize("keep", [1, 3])
def test_every_release_within_keep_is_on_disk_and_known(host: SimulatedHost, keep: int) -> None:
    web = host.service(keep=keep)
    revisions = []
    for number in range(6):
        revisions.append(push(host, f"number {number}"))
        host.pass_(web)
    kept = host.state.releases("web", keep)
    assert [revision for _, revision in kept] == revisions[: -keep - 1 : -1]
    assert {path.name for path in web.releases.iterdir()} == {release for release, _ in kept}
    host.upstream.reachable = False
    host.restart()
    for revision in revisions[-keep:]:
        rollback(host, web, host.reconciler.resolve(web, revision[:10], None))
        host.assert_in_line(web, revision)
