"""Another configuration while the daemon runs: a good one is gone over to, a bad one changes nothing."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, wait_until
from tests.support.site import Site
from tests.support.upstream import git

UNHURRIED = "1h"
"""So that a poll during the test is one that the reload asked for."""


def hang_up(daemon: Daemon) -> None:
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGHUP)


def ask(daemon: Daemon) -> None:
    daemon.post("/do/reload-config")


def nothing(_daemon: Daemon) -> None:
    """With -r nobody needs to say anything."""


def reload(daemon: Daemon, services: int) -> None:
    status, answer = daemon.ask("POST", "/do/reload-config")
    assert (status, answer["services"], "note" in answer) == (200, services, services == 0)


def names(daemon: Daemon) -> list[str]:
    return [entry["service"] for entry in daemon.get("/list/services")["services"]]


def problems(daemon: Daemon) -> list[str]:
    status, answer = daemon.ask("POST", "/do/reload-config")
    assert status == 422, answer
    assert answer["error"]["code"] == "bad-config"
    found: list[str] = answer["error"]["problems"]
    return found


@pytest.mark.parametrize("how", [hang_up, ask, nothing])
def test_each_way_to_reload_brings_the_service_that_came(site: Site, how: Callable[[Daemon], None]) -> None:
    site.upstream.commit({"web/etc/conf": "1", "new/etc/conf": "2"})
    site.configure("web", interval=UNHURRIED)
    if how is nothing:
        site.daemon.arguments = ("-r",)
    with site.daemon as daemon:
        daemon.wait_for("web", "OK")
        site.configure("web", "new", interval=UNHURRIED)
        how(daemon)
        wait_until(lambda: "new" in names(daemon), daemon.text)
        daemon.wait_for("new", "OK")
        assert site.shown("new") == "2"
        assert len(site.reloads("web")) == 1
        assert daemon.process is not None
        assert daemon.process.poll() is None


@pytest.mark.parametrize("how", [hang_up, ask, nothing])
def test_a_config_with_mistakes_is_refused_and_changes_nothing(
    site: Site, how: Callable[[Daemon], None]
) -> None:
    site.commit()
    site.configure("web", interval=UNHURRIED)
    if how is nothing:
        site.daemon.arguments = ("--reload",)
    good = site.daemon.config.read_text()
    with site.daemon as daemon:
        before = daemon.wait_for("web", "OK")
        assert daemon.metrics()["gitopper_config_last_reload_success"] == 1
        since = daemon.metrics()["gitopper_config_last_reload_success_time_seconds"]
        assert abs(since - time.time()) < 60
        site.daemon.config.write_text(good.replace('interval = "1h"', "interval = 5") + "x = 1\n")
        how(daemon)
        refused = "gitopper_config_last_reload_success"
        wait_until(lambda: daemon.metrics()[refused] == 0, daemon.text)
        assert "global.interval" in daemon.text()
        assert "services[0].x" in daemon.text()
        assert "config-refused" in daemon.text()
        assert daemon.service("web") == before
        assert daemon.metrics()["gitopper_config_last_reload_success_time_seconds"] == since
        site.daemon.config.write_text(good)
        how(daemon)
        wait_until(lambda: daemon.metrics()[refused] == 1, daemon.text)
        assert daemon.service("web") == before


def test_all_problems_are_in_the_answer(site: Site) -> None:
    site.commit()
    site.configure("web", interval=UNHURRIED)
    with site.daemon as daemon:
        daemon.wait_for("web", "OK")
        site.daemon.config.write_text('[global]\ninterval = 5\n[[services]]\nservise = "x"\n')
        found = problems(daemon)
        assert any(problem.startswith("global.interval: ") for problem in found)
        assert any(problem.startswith("services[0].servise: ") for problem in found)
        site.daemon.config.unlink()
        assert "name a file that exists" in problems(daemon)[0]
        assert names(daemon) == ["web"]


def test_an_auth_plugin_that_is_not_there_is_refused(site: Site) -> None:
    site.commit()
    site.configure("web", interval=UNHURRIED)
    with site.daemon as daemon:
        daemon.wait_for("web", "OK")
        text = daemon.config.read_text()
        daemon.config.write_text('[auth]\nplugins = ["palmistry"]\n' + text)
        assert any("palmistry" in problem for problem in problems(daemon))


def test_rights_change_with_the_reload_and_an_address_with_the_next_start(site: Site) -> None:
    site.commit()
    site.configure("web", interval=UNHURRIED)
    with site.daemon as daemon:
        daemon.wait_for("web", "OK")
        assert daemon.ask("GET", "/list/services", tcp=True)[0] == 200
        api = '[api]\nanonymous = "none"\nlisten = "127.0.0.1:9"\n'
        daemon.config.write_text(api + daemon.config.read_text())
        reload(daemon, 1)
        assert daemon.ask("GET", "/list/services", tcp=True)[0] == 401
        assert "come with the next start" in daemon.text()


def test_a_file_that_is_still_being_written_is_left_alone(site: Site) -> None:
    site.upstream.commit({"web/etc/conf": "1", "new/etc/conf": "2"})
    site.configure("web", interval=UNHURRIED)
    site.daemon.arguments = ("-r",)
    with site.daemon as daemon:
        daemon.wait_for("web", "OK")
        site.configure("web", "new", interval=UNHURRIED)
        whole = daemon.config.read_text()
        with daemon.config.open("w") as file:
            for at in range(0, len(whole), len(whole) // 8):
                file.write(whole[at : at + len(whole) // 8])
                file.flush()
                time.sleep(0.3)
        wait_until(lambda: "new" in names(daemon), daemon.text)
        daemon.config.unlink()  # as editors do that write anew
        time.sleep(2.2)
        site.configure("web", interval=UNHURRIED)
        wait_until(lambda: "new" not in names(daemon), daemon.text)
        assert "config-refused" not in daemon.text()


def test_a_service_moves_to_another_upstream(site: Site) -> None:
    first = site.commit(text="one")
    other = type(site.upstream).create(site.upstream.path.parent, "other")
    second = other.commit({"web/etc/conf": "other"})
    url = site.url.replace("fleet.git", other.path.name)
    site.configure("web", "stay", interval=UNHURRIED)
    site.commit("stay", text="1")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK")
        site.configure(f'web: upstream = "{url}"', "stay", interval=UNHURRIED)
        reload(daemon, 2)
        moved = daemon.wait_for("web", "OK", second)
        assert moved["upstream"] == url
        assert site.shown() == "other"
        assert site.reloads() == [site.reloads()[0], second]
        assert len(site.reloads("stay")) == 1
        third = other.commit({"web/etc/conf": "other still"})
        daemon.post("/do/pull/web")
        daemon.wait_for("web", "OK", third)
        assert git(site.live(), "log", "-1", "--format=%H") == third
        assert git(site.live(), "status", "--porcelain") == ""
        assert first not in git(site.live(), "log", "--format=%H")


def test_an_upstream_that_got_another_address_reloads_nothing(site: Site) -> None:
    first = site.commit(text="one")
    copy = site.upstream.path.parent / "moved.git"
    shutil.copytree(site.upstream.path, copy)
    site.configure("web", interval=UNHURRIED)
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        url = site.url.replace("fleet.git", "moved.git")
        site.configure("web", interval=UNHURRIED, url=url)
        reload(daemon, 1)
        daemon.wait_for("web", "OK", first)
        assert daemon.service("web")["upstream"] == url
        assert site.reloads() == [first]
        polls = [name for name in daemon.metrics() if "last_success" in name and "upstream=" in name]
        assert polls == [f'gitopper_source_last_success_time_seconds{{upstream="{url}"}}']


def test_a_branch_that_came_is_polled_at_once_and_never_said_to_be_missing(site: Site) -> None:
    site.commit(text="one")
    canary = site.upstream.commit({"web/etc/conf": "canary"}, branch="canary")
    site.configure("web", interval=UNHURRIED)
    with site.daemon as daemon:
        daemon.wait_for("web", "OK")
        site.configure('web: branch = "canary"', interval=UNHURRIED)
        reload(daemon, 1)
        daemon.wait_for("web", "OK", canary)
        assert site.shown() == "canary"
        assert "has no branch" not in daemon.text()


def test_mappings_change_and_the_rest_of_the_fleet_sleeps_on(site: Site) -> None:
    site.upstream.commit({"web/etc/conf": "1", "web/www/index": "2", "stay/etc/conf": "3"})
    site.configure("web", "stay", interval=UNHURRIED)
    with site.daemon as daemon:
        daemon.wait_for("web", "OK")
        daemon.wait_for("stay", "OK")
        before = daemon.service("stay"), (site.home / "etc/stay").lstat()
        text = daemon.config.read_text()
        mapping = f'{{ local = "{site.home}/www", link = "web/www" }}'
        daemon.config.write_text(text.replace('link = "web/etc" }', f'link = "web/etc" }}, {mapping}'))
        reload(daemon, 2)
        wait_until((site.home / "www/index").exists, daemon.text)
        daemon.config.write_text(text)
        reload(daemon, 2)
        wait_until(lambda: not (site.home / "www").is_symlink(), daemon.text)
        assert (daemon.service("stay"), (site.home / "etc/stay").lstat()) == before
        assert len(site.reloads("stay")) == 1


def test_credentials_that_changed_are_used_from_then_on(site: Site) -> None:
    first = site.commit()
    secret = site.home / "secret"
    secret.write_text("user:new")
    site.server.credentials = "user:old"
    site.configure("web", url=site.server.url(userinfo="user:old"), interval=UNHURRIED)
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        site.server.credentials = "user:new"
        second = site.commit(text="two")
        site.configure(f'web: credentials = "{secret}"', interval=UNHURRIED)
        reload(daemon, 1)
        daemon.wait_for("web", "OK", second)


def test_a_shorter_interval_holds_from_now_on(site: Site) -> None:
    site.commit(text="one")
    site.configure("web", interval=UNHURRIED)
    with site.daemon as daemon:
        daemon.wait_for("web", "OK")
        site.configure("web", interval="1s")
        reload(daemon, 1)
        second = site.commit(text="two")
        daemon.wait_for("web", "OK", second)
        assert site.reloads()[1:] == [second]


def test_a_path_goes_from_one_service_to_another_at_once(site: Site) -> None:
    site.upstream.commit({"web/etc/conf": "1", "new/etc/conf": "2"})
    site.configure("web", interval=UNHURRIED)
    with site.daemon as daemon:
        daemon.wait_for("web", "OK")
        text = daemon.config.read_text()
        web_elsewhere = text.replace(f"{site.home}/etc/web", f"{site.home}/etc/elsewhere")
        site.configure("new", interval=UNHURRIED)
        new = daemon.config.read_text().replace(f"{site.home}/etc/new", f"{site.home}/etc/web")
        # The one that wants it comes first.
        daemon.config.write_text(
            new + web_elsewhere.partition("[[services]]")[2].join(["[[services]]", ""])
        )
        reload(daemon, 2)
        daemon.wait_for("new", "OK")
        daemon.wait_for("web", "OK")
        assert site.shown("web") == "2"
        assert site.shown("elsewhere") == "1"


def test_services_that_go_and_come_again_and_again_end_where_the_config_ends(site: Site) -> None:
    site.upstream.commit({"web/etc/conf": "1", "new/etc/conf": "2"})
    site.configure("web", interval=UNHURRIED)
    with site.daemon as daemon:
        daemon.wait_for("web", "OK")
        for _ in range(6):
            # Two at once each time, and none waits for what the one before began.
            for services in (("web", "new"), ("web",), ("new",), ("web", "new")):
                site.configure(*services, interval=UNHURRIED)
                posts = [threading.Thread(target=ask, args=(daemon,)) for _ in range(2)]
                for post in posts:
                    post.start()
                for post in posts:
                    post.join()
        daemon.wait_for("web", "OK")
        daemon.wait_for("new", "OK")
        assert (site.shown("web"), site.shown("new")) == ("1", "2")
        site.configure("web", interval=UNHURRIED)
        reload(daemon, 1)
        wait_until(lambda: not (site.home / "etc/new").is_symlink(), daemon.text)
        time.sleep(1)  # nothing that was still under way brings it back
        assert not (site.home / "etc/new").is_symlink()
        assert "Traceback" not in daemon.text()


def slow(home: Path, name: str) -> str:
    """A service whose reload hangs until it is let go."""
    script = f"echo x >> {home}/hanging; while [ ! -e {home}/go ]; do sleep 0.1; done"
    return f'{name}: command = ["sh", "-c", "{script}"]'


def test_a_service_that_goes_while_its_reload_hangs_holds_up_nobody(site: Site) -> None:
    site.upstream.commit({"web/etc/conf": "1", "new/etc/conf": "2", "slow/etc/conf": "3"})
    site.configure("web", slow(site.home, "slow"), interval=UNHURRIED, timeout="60s")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK")
        wait_until((site.home / "hanging").exists, daemon.text)
        site.configure("web", "new", interval=UNHURRIED)
        started = time.monotonic()
        reload(daemon, 2)
        daemon.wait_for("new", "OK")
        assert time.monotonic() - started < 9
        assert site.shown("slow") == "3"
        (site.home / "go").touch()
        wait_until(lambda: not (site.home / "etc/slow").is_symlink(), daemon.text)


def test_a_service_that_is_back_before_it_could_go_stays(site: Site) -> None:
    site.upstream.commit({"web/etc/conf": "1", "slow/etc/conf": "3"})
    hanging = slow(site.home, "slow")
    site.configure("web", hanging, interval=UNHURRIED, timeout="60s")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK")
        wait_until((site.home / "hanging").exists, daemon.text)
        link = (site.home / "etc/slow").lstat().st_ino
        site.configure("web", interval=UNHURRIED)
        reload(daemon, 1)
        site.configure("web", hanging, interval=UNHURRIED, timeout="60s")
        reload(daemon, 2)
        (site.home / "go").touch()
        daemon.wait_for("slow", "OK")
        assert (site.home / "etc/slow").lstat().st_ino == link
        assert "slow: withdrawn" not in daemon.text()


def test_a_config_without_any_service_of_this_host_withdraws_nothing(site: Site) -> None:
    site.commit()
    site.configure("web", interval=UNHURRIED)
    with site.daemon as daemon:
        daemon.wait_for("web", "OK")
        text = daemon.config.read_text()
        daemon.config.write_text(text.replace('machine = "*"', 'machine = "somewhere.else"'))
        reload(daemon, 0)
        assert names(daemon) == []
        assert "nothing is withdrawn" in daemon.text()
        assert site.shown() == "1"
        daemon.config.write_text(text)
        reload(daemon, 1)
        daemon.wait_for("web", "OK")
        assert len(site.reloads()) == 1


def test_a_frozen_service_that_went_comes_back_frozen_where_it_was(site: Site) -> None:
    first = site.commit(text="one", **{"stay/etc/conf": "1"})
    site.configure("web", "stay", interval=UNHURRIED)
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        daemon.post("/state/freeze/web")
        second = site.commit(text="two")
        daemon.post("/do/pull/stay")
        daemon.wait_for("stay", "OK", second)
        site.configure("stay", interval=UNHURRIED)
        reload(daemon, 1)
        assert not (site.home / "etc/web").is_symlink()
        site.configure("web", "stay", interval=UNHURRIED)
        reload(daemon, 2)
        daemon.wait_for("web", "FREEZE", first)
        assert site.shown() == "one"
        daemon.post("/state/unfreeze/web")
        daemon.wait_for("web", "OK", second)


def test_a_mount_that_another_daemon_has_is_refused(site: Site, tmp_path: Path) -> None:
    site.upstream.commit({"web/etc/conf": "1", "new/etc/conf": "2"})
    site.configure("web")
    taken = tmp_path / "taken"
    (tmp_path / "other").mkdir()
    other = Daemon(tmp_path / "other", "")
    text = site.daemon.config.read_text()
    theirs = text.replace(f"{site.home}/mount", str(taken)).replace("/etc/web", "/etc/other")
    other.config.write_text(theirs)
    with site.daemon as daemon, other:
        other.wait_for("web", "OK")
        site.configure("web", f'new: mount = "{taken}"')
        assert problems(daemon) == [
            f"mount: {taken}: another gitopperd keeps its releases there; stop that one, or name another"
        ]
        assert names(daemon) == ["web"]
        other.stop()
        reload(daemon, 2)
        daemon.wait_for("new", "OK")
