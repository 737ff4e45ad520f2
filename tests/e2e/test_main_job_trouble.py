"""What goes wrong on a real host with one service stays with that one, is told, and ends by itself."""

from __future__ import annotations

import pytest

from tests.support.host import GitServer, Host

pytestmark = [pytest.mark.systemd, pytest.mark.root]

STEADY = """
[[services]]
machine = "box"
service = "steady"
dirs = [{ local = "/etc/steady", link = "steady" }]
"""
OWNED = """
[[services]]
machine = "box"
service = "owned"
user = "latecomer"
dirs = [{ local = "/srv/owned/etc", link = "owned" }]
"""
NGINX = """
[[services]]
machine = "box"
service = "nginx"
dirs = [{ local = "/etc/nginx", link = "nginx" }]
"""
LEAVING = """
[[services]]
machine = "box"
service = "leaving"
dirs = [{ local = "/etc/leaving", link = "leaving" }, { local = "/srv/new/leaving", link = "leaving" }]
"""

RELOADABLE = "[Service]\nExecStart=/bin/sleep inf\nExecReload=/bin/true\n"
NGINX_CONF = "events {{}}\nhttp {{ server {{ listen 127.0.0.1:80; {line} }} }}\n"
ANSWER = 'location / {{ return 200 "{text}"; }}'
NGINX_URL = "http://127.0.0.1/"


def nginx_conf(line: str) -> dict[str, str]:
    """A commit of nginx's configuration with `line` in its server."""
    return {"nginx/nginx.conf": NGINX_CONF.format(line=line)}


@pytest.fixture(scope="module")
def server(host: Host) -> GitServer:
    """The git server; the host has a steady service, and a user to come."""
    for name in ("steady", "owned", "leaving"):
        host.box.add_unit(f"{name}.service", RELOADABLE)
    host.box.write("/etc/leaving/of-the-host", "it was here first\n")
    server = host.git_server("fleet")
    first = server.commit(
        {
            "steady/file": "steady 1\n",
            "owned/file": "owned 1\n",
            "leaving/file": "leaving 1\n",
            **nginx_conf(ANSWER.format(text="first")),
        }
    )
    host.configure(server.url, STEADY + OWNED + NGINX + LEAVING)
    host.daemon("start")
    for name in ("steady", "nginx", "leaving"):
        host.wait_for(name, "OK", first)
    return server


def test_a_service_whose_user_is_missing_waits_for_it_and_holds_up_nobody(
    host: Host, server: GitServer
) -> None:
    told = host.wait_for("owned", "DIFF", info="no user latecomer on this host")
    assert told["hash"] == ""
    commit = server.commit({"steady/file": "steady 2\n", "owned/file": "owned 2\n"})
    host.wait_for("steady", "OK", commit)
    assert host.box.read("/etc/steady/file") == "steady 2\n"
    assert not host.box.exists("/srv/owned")
    assert host.box.property("owned", "ActiveState") == "inactive"
    host.box.run(["useradd", "--system", "--user-group", "latecomer"], check=True)
    host.wait_for("owned", "OK", commit)
    assert host.box.property("owned", "ActiveState") == "active"
    owners = host.box.run(
        ["stat", "--format=%U:%G", "/srv/owned", "/srv/owned/etc", "/srv/owned/etc/file"], check=True
    )
    assert owners.stdout.split() == ["root:root", *["latecomer:latecomer"] * 2]


def test_a_refused_reload_is_told_in_nginxs_own_words_and_a_fix_ends_it(
    host: Host, server: GitServer
) -> None:
    broken = server.commit({**nginx_conf("no_such_directive on;"), "steady/file": "steady 3\n"})
    told = host.wait_for("nginx", "BROKEN", info="no_such_directive")
    assert 'unknown directive "no_such_directive" in /etc/nginx/nginx.conf' in told["stateinfo"]
    assert told["stateinfo"].startswith("reload failed: ")
    assert told["hash"] == broken, "its files are the new ones"
    # nginx goes on with what it had in memory, and the others go on anyway.
    assert host.get(NGINX_URL) == "first"
    host.wait_for("steady", "OK", broken)
    shown = host.ctl("list", "service", "@localhost", "nginx").stdout
    assert 'unknown directive "no_such_directive"' in " ".join(shown.split())
    fixed = server.commit(nginx_conf(ANSWER.format(text="fixed")))
    host.wait_for("nginx", "OK", fixed)
    host.wait_for_answer(NGINX_URL, "fixed")
    assert host.listed()["nginx"]["stateinfo"] == ""
    log = host.box.journal("gitopperd")
    assert "why=mapped paths changed: nginx; an earlier deploy was not finished asked=" in log
    # What gitopperd runs does not speak to systemd in its place.
    assert "reception only permitted" not in log


def test_a_service_that_is_gone_from_the_config_is_withdrawn_and_its_data_is_kept(
    host: Host, server: GitServer
) -> None:
    assert host.box.read("/etc/leaving/file") == "leaving 1\n"
    assert not host.box.exists("/etc/leaving/of-the-host")
    releases = host.box.run(["ls", "/var/lib/gitopper/.gitopper/releases/leaving"], check=True).stdout
    others = {point: mount for point, mount in host.mounts().items() if "leaving" not in point}
    before = len(host.changes())
    host.configure(server.url, STEADY + OWNED + NGINX)
    host.daemon("restart")
    # Both by the time that it says it is ready.
    assert host.box.read("/etc/leaving/of-the-host") == "it was here first\n"
    assert host.mounts() == others
    host.wait_for("steady", "OK")
    assert "leaving" not in host.listed()
    assert host.box.run(["ls", "/etc/leaving", "/srv/new/leaving"], check=True).stdout.split() == [
        "/etc/leaving:", "of-the-host", "/srv/new/leaving:"
    ]  # fmt: skip
    assert host.box.run(["ls", "/var/lib/gitopper/.gitopper/releases/leaving"]).stdout == releases
    assert host.box.property("leaving", "ActiveState") == "active"
    assert host.changes()[before:] == ["Stopped gitopperd.service", "Started gitopperd.service"]
    # Back in the config, it is as it was.
    host.configure(server.url, STEADY + OWNED + NGINX + LEAVING)
    host.daemon("restart")
    host.wait_for("leaving", "OK")
    assert host.box.read("/etc/leaving/file") == "leaving 1\n"
