"""The units in examples/: each directive of the sandbox by itself, and the units as they are shipped."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from attrs import define

from tests.support.host import CONFIG, INSTALLED, UNIT, GitServer, Host

pytestmark = [pytest.mark.systemd, pytest.mark.root]

EXAMPLES = UNIT.parent

# What the unit is; all other lines of [Service] limit what it may do.
WORKING = {
    "Type", "ExecStart", "ExecReload", "StateDirectory", "RuntimeDirectory", "Restart", "RestartSec",
    "WatchdogSec", "TimeoutStopSec", "KillMode",
}  # fmt: skip
# It changes what another directive does, and nothing by itself.
WITH_ANOTHER = {"SystemCallErrorNumber"}

# A sandboxed service, as most of them are: it follows what is mounted on the host.
WEB = """\
[Service]
PrivateTmp=yes
ExecStart=/bin/sleep inf
ExecReload=/bin/true
"""
# In a view of its own, in which a place that is not made yet has the candidate, too, and as the user.
CHECK = (
    "test $GITOPPER_STAGED = 1; test $(id -un) = games; test $$ -lt 9;"
    " cmp /srv/{fresh}/www/index $GITOPPER_RELEASE/www/index;"
    " ! test -e $GITOPPER_RELEASE/web || cmp /etc/web/conf $GITOPPER_RELEASE/web/conf"
)
SERVICE = f"""
[[services]]
machine = "box"
service = "web"
user = "games"
check = {{{{ command = ["sh", "-eu", "-c", '{CHECK}'], user = "games" }}}}
dirs = [{{{{ local = "/etc/web", link = "web" }}}}, {{{{ local = "/srv/{{fresh}}/www", link = "www" }}}}]
"""


def split(unit: Path) -> tuple[str, list[str]]:
    """Return the text of a unit without the limits, and the limits."""
    kept, limits = [], []
    for line in unit.read_text().splitlines():
        name, is_setting, _ = line.partition("=")
        if is_setting and not line.startswith("#") and name in section(unit, "Service") - WORKING:
            limits.append(line)
        else:
            kept.append(line)
    return "\n".join(kept) + "\n", limits


def section(unit: Path, wanted: str) -> set[str]:
    """Return the names of the settings in a section of a unit."""
    found, here = set(), ""
    for line in unit.read_text().splitlines():
        if line.startswith("["):
            here = line.strip("[]")
        elif here == wanted and "=" in line and not line.startswith("#"):
            found.add(line.partition("=")[0])
    return found


BARE, LIMITS = split(UNIT)
TRIED = [limit for limit in LIMITS if limit.partition("=")[0] not in WITH_ANOTHER]
PROGRAMS = "/opt/gitopper"
HIDDEN = "a mount namespace of its own"
FORBIDDEN = [
    "PrivateTmp=yes",
    "PrivateMounts=yes",
    "ProtectSystem=full",
    "ProtectKernelTunables=yes",
    "ReadOnlyPaths=/usr",
]


@define
class Site:
    """The host with a git server and a service, and a commit for each test."""

    host: Host
    server: GitServer
    commits: int = 0

    def start(self, unit: str) -> int:
        """Start the daemon as `unit`, with a mapping that is new; return how many changes there were."""
        self.commits += 1
        self.host.box.write("/etc/systemd/system/gitopperd.service", installed(unit))
        self.host.box.systemctl("daemon-reload")
        self.host.configure(self.server.url, SERVICE.format(fresh=f"fresh{self.commits}"))
        before = len(self.host.changes())
        self.host.daemon("restart")
        return before

    def commit(self) -> tuple[str, str]:
        """Commit a text that was not there before; return it, and the hash."""
        text = f"commit {self.commits}\n"
        return text, self.server.commit({"web/conf": text, "www/index": text})

    def works(self, before: int) -> None:
        """Fetched over http, mounted where the host and its services see it, and reloaded."""
        text, hash_ = self.commit()
        self.host.wait_for("web", "OK", hash_)
        pid = self.host.box.property("web", "MainPID")
        for root in ("", f"/proc/{pid}/root"):
            assert self.host.box.read(f"{root}/etc/web/conf") == text
            assert self.host.box.read(f"{root}/srv/fresh{self.commits}/www/index") == text
        owner = self.host.box.run(["stat", "--format=%U", "/etc/web/conf"]).stdout.strip()
        assert owner == "games"
        assert "Reloaded web.service" in self.host.changes()[before:]
        assert HIDDEN not in self.said()

    def said(self) -> str:
        """Return the log of the daemon that runs."""
        pid = self.host.box.property("gitopperd", "MainPID")
        return self.host.box.run(["journalctl", f"_PID={pid}", "--output=cat", "--no-pager"]).stdout


def limited(limit: str) -> str:
    """The daemon's unit with `limit` as its only one."""
    return BARE.replace("[Install]", f"{limit}\n[Install]")


def installed(unit: str) -> str:
    """A unit of examples/ with the program that is tested."""
    return unit.replace(INSTALLED, f"{PROGRAMS}/bin/python -m gitopperd")


@pytest.fixture(scope="module")
def site(host: Host) -> Site:
    # The tests may run from below /tmp or a home, which some of the directives hide.
    host.box.run(["mkdir", PROGRAMS], check=True)
    host.box.run(["mount", "--bind", sys.prefix, PROGRAMS], check=True)
    host.box.add_unit("web.service", WEB, start=True)
    return Site(host, host.git_server("units"))


@pytest.fixture(autouse=True)
def _no_start_limit(site: Site) -> None:
    """A unit may be started five times in ten seconds; here many units have one name."""
    site.commit()
    site.host.box.run(["systemctl", "reset-failed", "gitopperd"])


def test_the_unit_has_limits_and_all_of_them_are_tried_here() -> None:
    tried = {limit.partition("=")[0] for limit in LIMITS}
    assert tried | WORKING == section(UNIT, "Service")
    assert len(TRIED) >= 12


@pytest.mark.parametrize("limit", TRIED, ids=lambda limit: limit[:30])
def test_a_limit_of_the_unit_keeps_nothing_from_working(site: Site, limit: str) -> None:
    before = site.start(limited(limit))
    assert site.host.box.property("gitopperd", limit.partition("=")[0])
    site.works(before)


@pytest.mark.parametrize("limit", FORBIDDEN)
def test_a_forbidden_directive_is_noticed_by_the_daemon(site: Site, limit: str) -> None:
    """Every mount succeeds, and nobody sees it: so it has to be said."""
    site.start(limited(limit))
    _, hash_ = site.commit()
    site.host.wait_for("web", "OK", hash_)
    assert not site.host.box.exists(f"/srv/fresh{site.commits}/www/index")
    pid = site.host.box.property("gitopperd", "MainPID")
    assert site.host.box.exists(f"/proc/{pid}/root/srv/fresh{site.commits}/www/index")
    assert HIDDEN in site.said()
    # Its mounts went with its namespace; what stays is a directory that was made for one.
    site.host.daemon("stop")


def test_a_system_call_filter_without_mount_is_a_clear_failure(site: Site) -> None:
    site.start(limited("SystemCallFilter=@system-service\nSystemCallErrorNumber=EPERM"))
    site.commit()
    site.host.wait_for("web", "BROKEN", info="SystemCallFilter=")


def test_the_unit_as_it_is_shipped_works(site: Site) -> None:
    before = site.start(UNIT.read_text())
    site.works(before)


def test_the_unit_as_it_is_shipped_fetches_without_rights(site: Site) -> None:
    site.works(site.start(UNIT.read_text()))
    (pid,) = site.host.box.run(["pgrep", "-f", "dulwich.unprivileged"], check=True).stdout.split()
    lines = site.host.box.read(f"/proc/{pid}/status").splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert status["Uid"].split() == ["65534"] * 4
    assert (int(status["CapEff"], 16), status["NoNewPrivs"], status["Seccomp"]) == (0, "1", "2")
    assert "has to do without" not in site.said()
    assert "gitopper.sysusers.conf" in site.said()
    site.host.daemon("stop")
    assert not site.host.box.exists(f"/proc/{pid}")


def test_systemctl_reload_loads_the_configuration_again_and_refuses_a_broken_one(site: Site) -> None:
    box = site.host.box
    site.start(UNIT.read_text())
    _, hash_ = site.commit()
    site.host.wait_for("web", "OK", hash_)
    pid = box.property("gitopperd", "MainPID")
    good = box.read(CONFIG)
    more = SERVICE.format(fresh="reloaded").replace('"web"\nuser', '"more"\naction = ""\nuser')
    box.write(CONFIG, good + more.replace('{ local = "/etc/web", link = "web" }, ', ""))
    box.systemctl("reload", "gitopperd")
    site.host.wait_for("more", "OK", hash_)
    assert box.read("/srv/reloaded/www/index")
    mounts = site.host.mounts()
    box.write(CONFIG, "[global]\ninterval = 5\n")
    box.systemctl("reload", "gitopperd")
    site.host.wait_until(
        lambda: "config-refused" in box.journal("gitopperd"), lambda: "the broken one was not refused"
    )
    site.host.wait_until(
        lambda: box.property("gitopperd", "ActiveState") == "active", lambda: "never ready again"
    )
    assert box.property("gitopperd", "MainPID") == pid
    assert site.host.mounts() == mounts
    box.write(CONFIG, good)
    box.systemctl("reload", "gitopperd")
    site.host.wait_until(lambda: "more" not in site.host.listed(), lambda: "more is still there")


def test_the_drop_in_bootstraps_an_empty_host(site: Site) -> None:
    box, host = site.host.box, site.host
    site.start(UNIT.read_text())
    config = box.read(CONFIG)
    box.systemctl("stop", "gitopperd")
    box.run(["rm", CONFIG], check=True)
    text = (EXAMPLES / "gitopperd.service.d/bootstrap.conf").read_text()
    assert text.count("https://git.example.net/config.git") == 1
    text = text.replace("https://git.example.net/config.git", f"{site.server.url} -t 1s")
    drop_in = "/etc/systemd/system/gitopperd.service.d/bootstrap.conf"
    box.write(drop_in, installed(text))
    box.systemctl("daemon-reload")
    hash_ = site.server.commit({"gitopper/gitopper.toml": config})
    host.daemon("start")
    host.wait_for("gitopper", "OK", hash_)
    host.wait_for("web", "OK", hash_)
    assert host.box.read("/var/lib/gitopper/gitopper/gitopper/gitopper.toml") == config
    site.server.commit({"gitopper/gitopper.toml": "[global]\n"})
    host.wait_for("gitopper", "BROKEN", hash_, info="refused")
    host.daemon("restart")
    host.wait_for("gitopper", "BROKEN", hash_, info="refused")
    host.wait_for("web", "OK")
    box.run(["rm", drop_in], check=True)
    host.daemon("stop")


def test_a_host_that_waits_for_its_repository_and_starts_over_stays_up(site: Site) -> None:
    box, host = site.host.box, site.host
    site.start(UNIT.read_text())
    config = f'[api]\nlisten = "127.0.0.1:8123"\n{box.read(CONFIG)}'
    box.systemctl("stop", "gitopperd")
    box.run(["rm", "-r", CONFIG, "/var/lib/gitopper/state"], check=True)
    hash_ = site.server.commit({"gitopper/gitopper.toml": config})
    text = (EXAMPLES / "gitopperd.service.d/bootstrap.conf").read_text()
    text = text.replace("https://git.example.net/config.git", f"{site.server.url} -t 1s")
    drop_in = "/etc/systemd/system/gitopperd.service.d/bootstrap.conf"
    box.write(drop_in, installed(f"{text}TimeoutStopSec=2\n"))
    box.systemctl("daemon-reload")
    with site.server.stopped():
        host.daemon("start")
    host.wait_for_answer("http://127.0.0.1:8123/readyz", "ready")
    host.wait_for("web", "OK", hash_)
    pid = box.property("gitopperd", "MainPID")
    time.sleep(3)
    states = {name: box.property("gitopperd", name) for name in ("SubState", "NRestarts", "MainPID")}
    assert states == {"SubState": "running", "NRestarts": "0", "MainPID": pid}, box.journal("gitopperd")
    box.run(["rm", drop_in], check=True)
    host.daemon("stop")


def test_the_unit_of_an_ordinary_user_works(site: Site) -> None:
    box, server = site.host.box, site.server
    box.add_unit("gitopperd@.service", installed((EXAMPLES / "gitopperd@.service").read_text()))
    box.write(
        "/etc/gitopper/games.toml",
        f'[api]\nlisten = "127.0.0.1:8001"\n[global]\nupstream = "{server.url}"\ninterval = "1s"\n'
        f'mount = "/srv/games/data"\ncommand = ["touch", "/srv/games/reloaded"]\n'
        f'[[services]]\nmachine = "box"\nservice = "game"\n'
        "check = ['sh', '-c', 'cd /srv/games; test $GITOPPER_STAGED = 1 && cat etc/conf >out/seen']\n"
        f'dirs = [{{ local = "/srv/games/etc", link = "web" }}]\n',
    )
    box.run(["install", "--directory", "--owner=games", "/srv/games", "/srv/games/out"], check=True)
    for directory in Path(sys.base_prefix).parents:  # in the box only; here it may be root's own Python
        box.run(["chmod", "o+x", directory], check=True)
    box.systemctl("start", "gitopperd@games")
    site.commits += 1
    text, _ = site.commit()
    conf = "/srv/games/etc/conf"
    site.host.wait_until(
        lambda: box.run(["cat", conf]).stdout == text, lambda: box.journal("gitopperd@games")
    )
    assert box.exists("/srv/games/reloaded")
    assert box.read("/srv/games/out/seen") == text
    listed = site.host.ctl("list", "services", "@unix:/run/gitopper-games/gitopperd.sock")
    assert "game" in listed.stdout
    box.systemctl("reload", "gitopperd@games")
    box.systemctl("stop", "gitopperd@games")
