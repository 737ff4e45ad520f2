"""Where the daemon can't start: it says why, and services have what they had."""

from __future__ import annotations

import re
import socket

import pytest

from tests.support.site import Site


def test_a_second_daemon_on_the_same_state_says_so_and_ends(site: Site) -> None:
    site.commit()
    site.configure("web")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK")
        second = daemon.run()
        assert second.returncode == 1
        assert "another gitopperd uses it" in second.stderr
        daemon.wait_for("web", "OK")
        assert (site.home / "gitopperd.sock").exists()


def elsewhere(site: Site) -> list[str]:
    """The options of a daemon that has a state and a socket of its own."""
    return ["--state-dir", str(site.home / "other"), "--socket", str(site.home / "other.sock")]


def test_a_second_daemon_on_the_same_mount_says_so_and_ends(site: Site) -> None:
    site.commit()
    site.configure("web")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK")
        second = daemon.run(*elsewhere(site))
        assert second.returncode == 1
        assert f"{site.home}/mount: another gitopperd keeps its releases there" in second.stderr
    assert site.daemon.once(*elsewhere(site)).returncode == 0


@pytest.mark.parametrize("address", ["0.0.0.0:8000", "192.0.2.1:80", "[::]:8000", "*:8000", "web1:8000"])
def test_it_refuses_to_listen_on_anything_but_loopback(site: Site, address: str) -> None:
    site.configure("web")
    done = site.daemon.run("-a", address)
    assert done.returncode == 2
    assert "127.0.0.1" in done.stderr


def test_an_address_that_is_taken_is_a_clear_failure(site: Site) -> None:
    site.configure("web")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = site.daemon.run("-a", f"127.0.0.1:{taken.getsockname()[1]}")
    assert done.returncode == 1
    assert "can't listen on 127.0.0.1" in done.stderr


def test_a_config_with_mistakes_is_told_and_nothing_happens(site: Site) -> None:
    site.daemon.config.write_text('[global]\ninterval = 5\n[[services]]\nservise = "x"\n')
    for arguments in ([], ["--once"]):
        done = site.daemon.run(*arguments)
        assert done.returncode == 2
        assert "global.interval" in done.stderr
        assert "services[0].servise" in done.stderr
        assert re.search(r"has \d mistakes$", done.stderr.strip())
    assert not (site.home / "state").exists()


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ("oops = 1", 2, "unknown key"),
        ('\n[api]\nlisten = "0.0.0.0:8000"', 2, "can be reached from other hosts"),
        ('\n[api]\nlisten = "192.0.2.1:1"\ninsecure = true', 1, "can't listen on 192.0.2.1:1"),
    ],
    ids=["mistake", "exposed", "address"],
)
def test_where_it_can_not_start_services_have_what_they_had(
    site: Site, more: str, code: int, said: str
) -> None:
    first = site.commit()
    site.configure("web")
    good = site.daemon.config.read_text()
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        daemon.stop()
    (site.home / "etc/web").unlink()  # as a boot takes mounts away
    site.daemon.config.write_text(f"{good}{more}\n")
    site.daemon.address = None
    for _ in range(2):
        done = site.daemon.run()
        assert (done.returncode, site.shown()) == (code, "1")
        assert said in done.stderr
    site.daemon.config.write_text(good)
    site.daemon.address = "127.0.0.1:0"
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
    assert site.reloads() == [first, first], "it was not told that its files are back, or at each try"


def test_where_it_can_not_start_what_was_never_taken_is_shown_too(site: Site) -> None:
    first = site.commit()
    site.configure('web: command = ["false"]')
    with site.daemon as daemon:
        daemon.wait_for("web", "BROKEN", first)
        daemon.stop()
    (site.home / "etc/web").unlink()  # as a boot takes mounts away
    site.daemon.config.write_text("oops = 1\n")
    assert site.daemon.run().returncode == 2
    assert site.shown() == "1"


def test_a_daemon_that_runs_is_left_alone_by_one_that_can_not_start(site: Site) -> None:
    first = site.commit()
    site.configure("web")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        site.daemon.config.write_text("oops = 1\n")
        done = daemon.run()
        assert done.returncode == 2
        assert "another gitopperd uses it" in done.stderr
        assert site.reloads() == [first]
