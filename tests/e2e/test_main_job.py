"""The main job on a real host, with nginx, prometheus and units of all kinds, judged by what they say."""

from __future__ import annotations

from subprocess import PIPE

import pytest

from tests.support.host import GitServer, Host

pytestmark = [pytest.mark.systemd, pytest.mark.root]

SERVICES = """
[[services]]
machine = "box"
service = "nginx"
dirs = [{ local = "/etc/nginx", link = "nginx/etc" }, { local = "/srv/www", link = "nginx/www" }]

[[services]]
machine = "box"
service = "prometheus"
user = "prometheus"
dirs = [{ local = "/etc/prometheus", link = "prometheus/etc" }]

[[services]]
machine = "box"
service = "web"
dirs = [{ local = "/etc/web", link = "web" }]

[[services]]
machine = "box"
service = "webapp"
dirs = [{ local = "/etc/webapp", link = "webapp" }]

[[services]]
machine = "box"
service = "worker"
action = "restart"
dirs = [
  { local = "/etc/systemd/system/worker.service", link = "units/worker.service", file = true },
  { local = "/etc/systemd/system/worker.service.d", link = "units/drop-ins" },
]

[[services]]
machine = "box"
service = "single"
dirs = [{ local = "/etc/single/single.conf", link = "single/single.conf", file = true }]

[[services]]
machine = "box"
service = "app@blue"
dirs = [{ local = "/etc/app-blue", link = "app/blue" }]
"""

NGINX = """\
events {{}}
http {{
    server {{
        listen 127.0.0.1:80;
        root /srv/www;
        location = /config {{ return 200 "{answer} config"; }}
    }}
}}
"""
PROMETHEUS = "global:\n  scrape_interval: {seconds}s\n"
WORKER = "[Service]\nExecStart=/bin/sleep {seconds}\n"
COLOUR = "[Service]\nEnvironment=COLOUR={colour}\n"
RELOADABLE = "[Service]\nExecStart=/bin/sleep inf\nExecReload=/bin/true\n"
TEMPLATE = f"{RELOADABLE}[Install]\nWantedBy=multi-user.target\n"

FILES = {
    "nginx/etc/nginx.conf": NGINX.format(answer="first"),
    "nginx/www/index.html": "first page",
    "prometheus/etc/prometheus.yml": PROMETHEUS.format(seconds=11),
    "web/file": "web 1\n",
    "webapp/file": "webapp 1\n",
    "units/worker.service": WORKER.format(seconds=1001),
    "units/drop-ins/colour.conf": COLOUR.format(colour="red"),
    "single/single.conf": "single 1\n",
    "app/blue/file": "blue 1\n",
    "README": "for people\n",
}
NAMES = ("nginx", "prometheus", "web", "webapp", "worker", "single", "app@blue")

NGINX_URL = "http://127.0.0.1"
PROMETHEUS_URL = "http://127.0.0.1:9090/api/v1/status/config"


@pytest.fixture(scope="module")
def server(host: Host) -> GitServer:
    """The git server; the host has all services as of its first commit."""
    for name in ("web", "webapp", "single"):
        host.box.add_unit(f"{name}.service", RELOADABLE)
    host.box.add_unit("app@.service", TEMPLATE)
    host.box.write("/etc/single/other.conf", "of the host\n")
    server = host.git_server("fleet")
    first = server.commit(FILES)
    host.configure(server.url, SERVICES)
    host.daemon("start")
    for name in NAMES:
        host.wait_for(name, "OK", first)
    return server


def words_of(host: Host, unit: str) -> str:
    """The command line of the unit's process."""
    return host.box.read(f"/proc/{host.box.property(unit, 'MainPID')}/cmdline").replace("\0", " ").strip()


def environment_of(host: Host, unit: str) -> list[str]:
    """The environment of the unit's process."""
    return host.box.read(f"/proc/{host.box.property(unit, 'MainPID')}/environ").split("\0")


def workers(host: Host) -> list[str]:
    """The processes of nginx that answer; a reload makes new ones."""
    main = host.box.property("nginx", "MainPID")
    return host.box.read(f"/proc/{main}/task/{main}/children").split()


def test_a_push_is_live_and_reloaded(host: Host, server: GitServer) -> None:
    host.wait_for_answer(PROMETHEUS_URL, "scrape_interval: 11s")
    assert host.get(f"{NGINX_URL}/") == "first page"
    assert host.get(f"{NGINX_URL}/config") == "first config"
    before = len(host.changes())
    second = server.commit(
        {
            "nginx/etc/nginx.conf": NGINX.format(answer="second"),
            "nginx/www/index.html": "second page",
            "prometheus/etc/prometheus.yml": PROMETHEUS.format(seconds=22),
        }
    )
    host.wait_for_answer(f"{NGINX_URL}/config", "second config")
    host.wait_for_answer(PROMETHEUS_URL, "scrape_interval: 22s")
    assert host.get(f"{NGINX_URL}/") == "second page"
    for name in NAMES:
        host.wait_for(name, "OK", second)
    # Each of them once, and nobody else.
    assert sorted(host.changes()[before:]) == ["Reloaded nginx.service", "Reloaded prometheus.service"]


def test_a_commit_elsewhere_reloads_nothing_and_is_shown(host: Host, server: GitServer) -> None:
    before, processes, mounts = host.changes(), workers(host), host.mounts()
    server.commit({"README": "one"})
    elsewhere = server.commit({"README": "two"})
    for name in NAMES:
        host.wait_for(name, "OK", elsewhere)
    assert {entry["hash"] for entry in host.listed().values()} == {elsewhere}
    table = host.ctl("list", "services", "@localhost").stdout
    assert table.count(elsewhere) == len(NAMES), table
    assert host.changes() == before
    assert workers(host) == processes
    assert host.mounts() == mounts
    log = host.box.run(["git", "-C", "/var/lib/gitopper/nginx", "log", "-1", "--format=%H"], check=True)
    assert log.stdout.strip() == elsewhere


def test_web_does_not_fire_for_webapp(host: Host, server: GitServer) -> None:
    for name, other in (("webapp", "web"), ("web", "webapp")):
        before = len(host.changes())
        commit = server.commit({f"{name}/file": f"{name} 2\n"})
        host.wait_for(name, "OK", commit)
        host.wait_for(other, "OK", commit)
        assert host.changes()[before:] == [f"Reloaded {name}.service"]
        assert host.box.read(f"/etc/{name}/file") == f"{name} 2\n"


def test_a_unit_file_and_a_drop_in_are_read_and_the_service_runs_with_them(
    host: Host, server: GitServer
) -> None:
    assert words_of(host, "worker") == "/bin/sleep 1001"
    assert "COLOUR=red" in environment_of(host, "worker")
    before = len(host.changes())
    commit = server.commit(
        {
            "units/worker.service": WORKER.format(seconds=2002),
            "units/drop-ins/colour.conf": COLOUR.format(colour="blue"),
        }
    )
    host.wait_for("worker", "OK", commit)
    assert words_of(host, "worker") == "/bin/sleep 2002"
    assert "COLOUR=blue" in environment_of(host, "worker")
    done = ["daemon-reload", "Stopped worker.service", "Started worker.service"]
    assert host.changes()[before:] == done
    # A drop-in alone is enough.
    commit = server.commit({"units/drop-ins/colour.conf": COLOUR.format(colour="green")})
    host.wait_for("worker", "OK", commit)
    assert "COLOUR=green" in environment_of(host, "worker")
    assert host.changes()[before:] == done * 2


def test_a_single_file_is_replaced_beside_its_neighbours(host: Host, server: GitServer) -> None:
    path = "/etc/single/single.conf"
    inode = host.box.run(["stat", "--format=%i", path], check=True).stdout
    # A program that keeps the old file open does not hold up the new one.
    with host.box.popen(["tail", "-f", path], stdout=PIPE) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"single 1\n"
        commit = server.commit({"single/single.conf": "single 2\n"})
        host.wait_for("single", "OK", commit)
        assert host.box.read(path) == "single 2\n"
        reader.terminate()
    assert host.box.run(["stat", "--format=%i", path], check=True).stdout != inode
    assert host.box.read("/etc/single/other.conf") == "of the host\n"
    assert host.changes()[-1] == "Reloaded single.service"


def test_an_instance_of_a_template_is_enabled_and_started_at_its_first_publish(
    host: Host, server: GitServer
) -> None:
    assert host.box.property("app@blue", "ActiveState") == "active"
    assert host.box.systemctl("is-enabled", "app@blue").strip() == "enabled"
    assert host.box.property("app@blue", "UnitFileState") == "enabled"
    commit = server.commit({"app/blue/file": "blue 2\n"})
    host.wait_for("app@blue", "OK", commit)
    assert host.changes()[-1] == "Reloaded app@blue.service"


def test_a_stop_by_an_operator_is_respected_and_shown(host: Host, server: GitServer) -> None:
    host.box.systemctl("stop", "web")
    before = len(host.changes())
    commit = server.commit({"web/file": "web while it is stopped\n"})
    host.wait_for("web", "OK", commit, info="web.service is stopped")
    assert host.box.property("web", "ActiveState") == "inactive"
    assert host.changes()[before:] == []
    assert host.box.read("/etc/web/file") == "web while it is stopped\n"
    shown = host.ctl("list", "services", "@localhost").stdout
    assert "web.service is stopped" in shown
    # Once the operator starts it again, it is reloaded like any other.
    host.box.systemctl("start", "web")
    commit = server.commit({"web/file": "web again\n"})
    host.wait_for("web", "OK", commit)
    assert host.listed()["web"]["stateinfo"] == ""
    assert host.changes()[before:] == ["Started web.service", "Reloaded web.service"]
