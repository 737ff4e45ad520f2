"""The real apt and dpkg, on a host of their own: a box with a repository in a directory, and no network."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from attrs import define

from tests.support.fixtures import systemd_box
from tests.support.host import UNIT, Host
from tests.support.systemdbox import REPOSITORY as CHECKOUT
from tests.support.systemdbox import BoxProcess, SystemdBox

__all__ = ["systemd_box"]

pytestmark = [pytest.mark.systemd, pytest.mark.root]

REPOSITORY = "/srv/repository"
DROP_IN = UNIT.parent / "gitopperd.service.d/packages.conf"

# Builds a package, and makes it the newest of its name in the repository.
BUILD = r"""
set -eu
name=$1 version=$2 fields=$3 postinst=$4 conffile=$5
place=$(mktemp -d); mkdir -p "$place/DEBIAN" "$6"
printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: x\nDescription: x\n%b' \
    "$name" "$version" "$fields" > "$place/DEBIAN/control"
[ -z "$postinst" ] || { printf '#!/bin/sh\n%s\n' "$postinst" > "$place/DEBIAN/postinst"
    chmod 755 "$place/DEBIAN/postinst"; }
[ -z "$conffile" ] || { mkdir -p "$place${conffile%/*}"; echo "$name $version" > "$place$conffile"
    echo "$conffile" > "$place/DEBIAN/conffiles"; }
rm -f "$6/${name}"_*.deb
dpkg-deb -Znone --root-owner-group --build "$place" "$6/${name}_$version.deb" > /dev/null
cd "$6"
for deb in *.deb; do
    dpkg-deb --field "$deb"
    printf 'Filename: ./%s\nSize: %s\n' "$deb" "$(stat -c %s "$deb")"
    printf 'SHA256: %s\n\n' "$(sha256sum < "$deb" | cut -d' ' -f1)"
done > Packages
"""

# Calls hooks of the plugins, as the daemon would.
DRIVER = """
import json, sys
from pathlib import Path
from gitopper_plugins import apt, bind
from libgitopper import (
    Content, Hooks, InstallError, InstallRequest, Mapping, Release, Service, Source, TreeEntry
)

asked = json.loads(sys.argv[1])
local = asked.get("local", "/etc/nothing")
service = Service(
    name=asked["package"], source=Source(upstream="https://git.example.net/x", branch="main"),
    mappings=(Mapping(link="etc", local=Path(local)),), mount=Path("/var/lib/gitopper"),
    package=asked["package"], publish=asked.get("publish", "bind"), readonly=True,
)
hooks = Hooks()
hooks.register(apt.plugin)
hooks.register(bind)
if asked.get("files"):
    content = Content(revision="a" * 40, entries=(TreeEntry(link="etc", id="b" * 40, mode=0o040000),))
    id_ = content.release_id(service)
    release = Release(service="app", id=id_, path=service.releases / id_, content=content)
    for name, text in asked["files"].items():
        path = release.path / "etc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if service.publish == "bind":
        hooks.publish(service, release)
    else:
        Path(local).symlink_to(release.path / "etc")
try:
    print(json.dumps({"did": hooks.install(InstallRequest(service=service)).did}))
except InstallError as exc:
    print(json.dumps({"error": str(exc), "retryable": exc.retryable}))
"""


@define
class Apt:
    """The box with its repository."""

    box: SystemdBox

    def build(
        self, name: str, version: str = "1", fields: str = "", *, postinst: str = "", conffile: str = ""
    ) -> None:
        """Put a package into the repository, in place of an older one; nobody's lists know of it yet."""
        words = [name, version, fields, postinst, conffile, REPOSITORY]
        self.box.run(["sh", "-c", BUILD, "sh", *words], check=True)

    def update(self) -> None:
        self.box.run(["apt-get", "-q", "update"], check=True)

    def by_hand(self, *words: str) -> None:
        """What an operator does."""
        environment = {"DEBIAN_FRONTEND": "noninteractive"}
        self.box.run(["apt-get", "-qq", "-y", *words], check=True, env=environment)

    def install(self, package: str, **asked: Any) -> str:
        """Have it installed; return what was done."""
        answer = self.box.python(DRIVER, json.dumps({"package": package, **asked}))
        assert "did" in answer, answer
        return str(answer["did"])

    def refused(self, package: str, *, retryable: bool = True) -> str:
        """Fail to have it installed; return the error."""
        answer = self.box.python(DRIVER, json.dumps({"package": package}))
        assert answer.get("retryable") is retryable, answer
        assert "\n" not in answer["error"]
        return str(answer["error"])

    def version(self, package: str) -> str:
        """The version that is installed; empty for none."""
        done = self.box.run(["dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Version}", package])
        kind, _, version = done.stdout.partition(" ")
        return version if kind.endswith("i") and not done.returncode else ""


@pytest.fixture(scope="module")
def apt(systemd_box: SystemdBox) -> Apt:
    apt = Apt(systemd_box)
    systemd_box.run(["sh", "-c", "rm -rf /etc/apt/sources.list* /var/lib/apt/lists/*"], check=True)
    systemd_box.write("/etc/apt/sources.list", f"deb [trusted=yes] file:{REPOSITORY} ./\n")
    for name, fields in {
        "easy": "Depends: dep\\nRecommends: weak\\n",
        "dep": "Provides: something (= 3), web-thing\\n",
        "weak": "",
        "py3x1": "",
        "impossible": "Depends: nowhere\\n",
    }.items():
        apt.build(name, fields=fields)
    apt.build("library", "1.2")
    apt.update()
    apt.by_hand("install", "library")
    apt.build("library", "1.3")
    apt.build("needy", fields="Depends: library (>= 1.3)\\n")
    apt.build("rival", fields="Conflicts: library\\n")
    apt.update()
    return apt


def test_a_package_comes_with_what_it_needs_and_no_more(apt: Apt) -> None:
    assert apt.install("easy") == "apt-get install easy"
    assert (apt.version("easy"), apt.version("dep"), apt.version("weak")) == ("1", "1", "")
    assert apt.install("easy") == ""


def test_names_of_other_kinds_are_known_when_they_are_installed(apt: Apt) -> None:
    apt.install("easy")
    native = apt.box.run(["dpkg", "--print-architecture"], check=True).stdout.strip()
    for name in ("something", "web-thing", f"libc6:{native}", "dpkg"):
        assert apt.install(name) == ""
    assert "apt knows no package" in apt.refused("libc6:m68k")


def test_an_older_one_that_is_installed_stays_also_when_it_is_held(apt: Apt) -> None:
    assert apt.install("library") == ""
    apt.box.run(["apt-mark", "hold", "library"], check=True)
    assert apt.install("library") == ""
    apt.box.run(["apt-mark", "unhold", "library"], check=True)
    assert apt.version("library") == "1.2"


def test_nothing_is_upgraded_or_removed_for_another_one(apt: Apt) -> None:
    assert "(library upgraded), which is left to you: apt-get install needy" in apt.refused(
        "needy", retryable=False
    )
    assert "(library removed)" in apt.refused("rival", retryable=False)
    assert (apt.version("library"), apt.version("needy"), apt.version("rival")) == ("1.2", "", "")


def test_a_package_that_does_not_exist_is_told_of_and_no_pattern_is_tried(apt: Apt) -> None:
    """To apt-get itself, py3.1 is a regular expression, and py3x1 fits it."""
    assert apt.refused("py3.1") == (
        "package py3.1 can't be installed: apt knows no package of that name, in new lists too"
    )
    assert apt.version("py3x1") == ""


def test_lists_that_can_not_be_renewed_are_told_of(apt: Apt) -> None:
    apt.box.run(["mv", f"{REPOSITORY}/Packages", "/tmp/Packages"], check=True)
    error = apt.refused("py3.1")
    apt.box.run(["mv", "/tmp/Packages", f"{REPOSITORY}/Packages"], check=True)
    assert "its lists can't be updated: " in error
    assert REPOSITORY in error


def test_one_that_can_not_be_satisfied_says_why(apt: Apt) -> None:
    assert "impossible : Depends: nowhere but it is not installable" in apt.refused("impossible")


def test_one_that_is_new_in_the_repository_is_found(apt: Apt) -> None:
    apt.build("brandnew")
    assert apt.install("brandnew") == "apt-get install brandnew"


def test_lists_that_name_files_of_yesterday_are_renewed(apt: Apt) -> None:
    apt.build("moved", "1")
    apt.update()
    apt.build("moved", "2")
    assert apt.install("moved")
    assert apt.version("moved") == "2"


def test_a_script_that_fails_is_quoted_and_gets_another_try(apt: Apt) -> None:
    apt.build("touchy", postinst="[ -e /tmp/allowed ] || { echo port 80 is taken; exit 3; }")
    error = apt.refused("touchy")
    assert "port 80 is taken" in error
    assert "post-installation script subprocess returned error exit status 3" in error
    # What is half installed of one service's package keeps another's from nothing.
    apt.build("neighbour")
    assert apt.install("neighbour") == "apt-get install neighbour"
    apt.box.write("/tmp/allowed", "")
    assert apt.install("touchy") == "apt-get install touchy"
    assert apt.version("touchy") == "1"


def start(apt: Apt, package: str) -> BoxProcess:
    argv = [sys.executable, "-c", DRIVER, json.dumps({"package": package})]
    return apt.box.popen(argv, stdout=subprocess.PIPE)


def answer(process: BoxProcess) -> Any:
    out, _ = process.communicate(timeout=60)
    return json.loads(out)


def wait_for(apt: Apt, path: str) -> None:
    script = 'n=0; until [ -e "$1" ]; do n=$((n+1)); [ $n -lt 600 ]; sleep 0.05; done'
    apt.box.run(["sh", "-euc", script, "sh", path], check=True)


def test_an_installation_that_was_killed_is_finished_by_the_next_try(apt: Apt) -> None:
    begun = "ps -o pgid= $$ > /tmp/begun.new; mv /tmp/begun.new /tmp/begun"
    apt.build("long", postinst=f"{begun}; [ -e /tmp/fast ] || sleep 60")
    with start(apt, "long") as process:
        wait_for(apt, "/tmp/begun")
        group = apt.box.read("/tmp/begun").strip()
        apt.box.run(["kill", "-KILL", "--", f"-{group}"], check=True)
        assert "error" in answer(process)
    assert apt.version("long") == ""
    # Also as after a kill in the middle of dpkg's own writing, a moment that is hard to hit.
    journal = "sed -n '/^Package: long$/,/^$/p' /var/lib/dpkg/status > /var/lib/dpkg/updates/0000"
    apt.box.run(["sh", "-c", journal], check=True)
    by_hand = apt.box.run(["apt-get", "install", "long"])
    assert "dpkg was interrupted" in by_hand.stderr
    apt.box.write("/tmp/fast", "")
    assert apt.install("long") == "apt-get install long"
    assert apt.version("long") == "1"


LOCK = """
import fcntl, sys, time
held = [open(path, "w") for path in ("/var/lib/dpkg/lock-frontend", "/var/lib/apt/lists/lock")]
for file in held:
    fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(1.5)
"""


def test_while_somebody_else_installs_or_updates_it_waits(apt: Apt) -> None:
    apt.build("patient")  # not in the lists yet: both locks are needed
    holder = apt.box.popen([sys.executable, "-c", LOCK], stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert apt.install("patient") == "apt-get install patient"


def test_what_a_package_brings_for_a_published_directory_goes_to_the_hosts_own(apt: Apt) -> None:
    box = apt.box
    box.add_unit("shown.service", "[Service]\nExecStart=/bin/sleep inf\n")
    postinst = "echo generated > /etc/app/generated; systemctl start shown.service"
    apt.build("app", postinst=postinst, conffile="/etc/app/app.conf")
    asked = {"local": "/etc/app", "files": {"app.conf": "published\n"}}
    assert apt.install("app", **asked) == "apt-get install app"
    # The service that its script started, and everybody else, sees what is published.
    main = box.property("shown", "MainPID")
    assert box.read("/etc/app/app.conf") == "published\n"
    assert box.read(f"/proc/{main}/root/etc/app/app.conf") == "published\n"
    namespaces = box.run(["readlink", f"/proc/{main}/ns/mnt", "/proc/1/ns/mnt"], check=True).stdout
    assert len(set(namespaces.split())) == 1
    assert box.run(["ls", "/etc/app"], check=True).stdout.split() == ["app.conf"]
    box.run(["umount", "/etc/app"], check=True)
    assert box.read("/etc/app/app.conf") == "app 1\n"
    assert box.read("/etc/app/generated") == "generated\n"


def test_what_it_writes_through_a_symlink_into_a_release_is_forgotten(apt: Apt) -> None:
    box = apt.box
    apt.build("linked", postinst="echo x > /etc/linked/generated", conffile="/etc/linked/linked.conf")
    asked = {"local": "/etc/linked", "files": {"linked.conf": "published\n"}, "publish": "symlink"}
    assert apt.install("linked", **asked) == "apt-get install linked"
    assert box.run(["ls", "/etc/linked/"]).stdout.split() == ["linked.conf"]
    assert box.read("/etc/linked/linked.conf") == "published\n"


def test_apts_own_settings_may_be_published(apt: Apt) -> None:
    box = apt.box
    sources = box.read("/etc/apt/sources.list")
    box.write("/etc/apt/sources.list", "")
    apt.build("sourced")
    asked = {"local": "/etc/apt/sources.list.d", "files": {"ours.list": sources}}
    assert apt.install("sourced", **asked) == "apt-get install sourced"
    box.run(["umount", "/etc/apt/sources.list.d"], check=True)
    box.write("/etc/apt/sources.list", sources)


def as_unit(apt: Apt, package: str, extra: str) -> Any:
    """Call the hook under the limits of the daemon's unit, and `extra`."""
    working = ("Type=", "Exec", "Restart=", "RestartSec=", "Watchdog", "StateDirectory", "RuntimeDirectory")
    before_install = UNIT.read_text().partition("[Install]")[0]
    limits = "\n".join(line for line in before_install.splitlines() if not line.startswith(working))
    apt.box.write("/tmp/driver.py", DRIVER)
    apt.box.write("/tmp/asked", json.dumps({"package": package}))
    paths = f"{CHECKOUT}:{CHECKOUT / 'plugins'}"
    own = f"""
        Type=oneshot
        Environment=PYTHONPATH={paths}
        ExecStart=/bin/sh -c 'exec {sys.executable} /tmp/driver.py "$(cat /tmp/asked)"'
        StandardOutput=truncate:/tmp/said
    """
    apt.box.add_unit("limited.service", f"{limits}\n{textwrap.dedent(own)}\n{extra}")
    apt.box.systemctl("start", "limited.service")
    return json.loads(apt.box.read("/tmp/said"))


# What scripts of packages do, and the limits of the unit would not let them.
DEMANDING = """
set -e
adduser --system --group --quiet --no-create-home demanding
cp /bin/true /usr/local/bin/demanding; chown demanding /usr/local/bin/demanding
setcap cap_net_admin+ep /usr/local/bin/demanding
mknod /var/lib/demanding-null c 1 3; echo x > /var/lib/demanding-null
"""


def test_the_drop_in_lifts_what_scripts_of_packages_can_not_live_with(apt: Apt) -> None:
    apt.build("demanding", postinst=DEMANDING)
    refused = as_unit(apt, "demanding", "")
    assert "packages.conf" in refused["error"]
    assert not refused["retryable"]
    assert apt.version("demanding") == ""
    assert as_unit(apt, "demanding", DROP_IN.read_text()) == {"did": "apt-get install demanding"}


# As a server's package: it brings a user, settings and a unit, and starts it.
SERVER = r"""
set -e
adduser --system --group --quiet --no-create-home served
cat > /etc/systemd/system/served.service <<END
[Service]
User=served
RuntimeDirectory=served
ExecStart=/bin/sh -c "cp /etc/served/conf /run/served/read; exec sleep inf"
END
systemctl daemon-reload; systemctl start served
"""
SERVED = """
[[services]]
machine  = "box"
service  = "served"
package  = "served"
user     = "served"
action   = "restart"
readonly = true
dirs     = [{ local = "/etc/served", link = "served/etc" }]
"""


def test_a_daemon_brings_up_a_service_whose_package_is_missing(apt: Apt, tmp_path: Path) -> None:
    host = Host(apt.box, tmp_path)
    with host.teardown:
        host.install()
        server = host.git_server("packages")
        hash_ = server.commit({"served/etc/conf": "from git\n"})
        host.configure(server.url, SERVED)
        host.daemon("start")
        host.wait_for("served", "BROKEN", info="packages.conf")
        apt.box.write("/etc/systemd/system/gitopperd.service.d/packages.conf", DROP_IN.read_text())
        apt.box.systemctl("daemon-reload")
        host.daemon("restart")
        host.wait_for("served", "BROKEN", info="apt knows no package of that name")
        apt.build("served", postinst=SERVER, conffile="/etc/served/conf")
        host.wait_for("served", "OK", hash_)
        wait_for(apt, "/run/served/read")
        assert apt.box.read("/run/served/read") == "from git\n"
        assert "apt-get install served" in host.log()
        host.daemon("stop")
