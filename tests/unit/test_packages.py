"""What the package plugins do, with simulated package managers; test_packages_apt.py has the real apt."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from attrs import evolve

from gitopper_plugins import _packages, _unpublished, apt, dnf, pacman
from gitopper_plugins._packages import Installer, manager_here
from libgitopper import Hooks, Installed, InstallError, InstallRequest, PluginError, Service
from libgitopper.testing.install import InstallContract
from libgitopper.testing.reload import service_for_tests

PLUGINS = {"apt": apt.plugin, "dnf": dnf.plugin, "pacman": pacman.plugin}
DISTRIBUTIONS = {"apt": "debian", "dnf": "fedora", "pacman": "arch"}

# Each simulated program notes what it was asked in `asked`, and keeps what is installed in `installed`.
# What happens depends on the name of the package, which comes last:
#   easy      is installed              nope     does not exist, however new the lists are
#   late      is in new lists only      needy    would upgrade a library
#   bad       fails to be installed     slow     takes a minute
#   busy      waits for `free` to exist twice    takes a moment, and notes when another one is at work, too
COMMON = r"""#!/bin/sh
here={here}
printf '%s\n' "${{0##*/}} $*" >> $here/asked
for last; do :; done
there() {{ grep -qx -- "$last" $here/installed; }}
add() {{
    case $last in
    slow) sleep 60 ;;
    twice*) mkdir $here/at-work || touch $here/overlap; sleep 0.2; rmdir $here/at-work ;;
    esac
    echo "$last" >> $here/installed
}}
"""

APT = {
    "dpkg-query": r"""
there && {{ echo installed; exit 0; }}
echo "dpkg-query: no packages found matching $last"; exit 1
""",
    "apt-cache": r"""
case $last in nope) exit 0 ;; late) [ -e $here/new ] || exit 0 ;; esac
printf '%s:\n  Installed: (none)\n  Candidate: 1\n' "$last"
""",
    "apt-get": r"""
case "$*" in *update) touch $here/new; exit 0 ;; esac
case "$*" in *-s\ *)
    echo 'Reading package lists...'
    [ $last = needy ] && echo 'Inst libneedy [1.0] (2.0 localhost [all])'
    echo "Inst $last (1 localhost [all])"; exit 0 ;;
esac
[ $last = busy ] && [ ! -e $here/free ] && {{
    echo 'E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1'; exit 100; }}
[ $last = bad ] && {{
    printf 'Setting up bad (1) ...\nthe script speaks\ndpkg: error processing package bad (--configure):\n'
    printf 'E: Sub-process /usr/bin/dpkg returned an error code (1)\n'; exit 100; }}
add
""",
}
DNF = {
    "rpm": r"""
there && {{ echo "$last-1-1.noarch"; exit 0; }}
echo "package $last is not installed"; exit 1
""",
    "dnf": r"""
unknown() {{ echo "No match for argument: $last"; echo "Error: Unable to find a match: $last"; exit 1; }}
case "$*" in *--refresh*) touch $here/new ;; esac
case $last in nope) unknown ;; late) [ -e $here/new ] || unknown ;; esac
printf 'Dependencies resolved.\n=====\n Package  Arch\n=====\nInstalling:\n %s  noarch  1-1  t\n' $last
[ $last = needy ] && printf 'Upgrading:\n libneedy  noarch  2.0-1  t\n\nTransaction Summary\n'
case "$*" in *--downloadonly*) echo 'Complete!'; exit 0 ;; esac
[ $last = busy ] && [ ! -e $here/free ] && {{
    echo 'Failed to obtain rpm transaction lock. Another transaction is in progress.'; exit 1; }}
[ $last = bad ] && {{ printf 'Running transaction\nthe script speaks\nError: it failed\n'; exit 1; }}
add
""",
}
PACMAN = {
    "pacman": r"""
case "$1" in
--deptest) there && exit 0; echo "$last"; exit 127 ;;
-Qq) shift 2; for name; do [ $name = libneedy ] && echo libneedy; done
    echo "error: package '$last' was not found"; exit 1 ;;
esac
case "$*" in *-Sy\ *) touch $here/new; exit 0 ;; esac
unknown() {{ echo "error: target not found: $last"; exit 1; }}
case $last in nope) unknown ;; late) [ -e $here/new ] || unknown ;; esac
case "$*" in *--print\ *) [ $last = needy ] && echo libneedy; echo $last; exit 0 ;; esac
[ $last = busy ] && [ ! -e $here/free ] && {{
    echo 'error: failed to init transaction (unable to lock database)'; exit 1; }}
[ $last = bad ] && {{
    printf 'checking keyring...\nthe script speaks\nerror: failed to commit transaction\n'; exit 1; }}
add
""",
}
PROGRAMS = {"apt": APT, "dnf": DNF, "pacman": PACMAN}


class SimulatedHost:
    """A host with one simulated package manager, on which this process is root."""

    def __init__(self, manager: str, here: Path) -> None:
        self.manager = manager
        self.here = here
        self.plugin: Installer = PLUGINS[manager]
        for name, text in PROGRAMS[manager].items():
            program = here / name
            program.write_text((COMMON + text).format(here=here))
            program.chmod(0o755)
        (here / "installed").touch()

    def install(self, package: str, **fields: object) -> Installed | None:
        return self.plugin.gitopper_install(InstallRequest(service=service(package, **fields)))

    def refused(self, package: str, **fields: object) -> InstallError:
        with pytest.raises(InstallError) as caught:
            self.install(package, **fields)
        assert "\n" not in str(caught.value)
        assert package in str(caught.value)
        return caught.value

    @property
    def asked(self) -> list[str]:
        """Every command so far, in order."""
        path = self.here / "asked"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def installed(self) -> list[str]:
        return (self.here / "installed").read_text().split()


def service(package: str, **fields: object) -> Service:
    return evolve(service_for_tests("app", package=package), **fields)


@pytest.fixture(params=PROGRAMS)
def manager(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def host(manager: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimulatedHost:
    release = tmp_path / "os-release"
    release.write_text(f"ID={DISTRIBUTIONS[manager]}\n")
    monkeypatch.setattr(_packages, "OS_RELEASE", (release,))
    monkeypatch.setattr(_packages, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(apt, "STATUS", tmp_path / "no-status")
    monkeypatch.setattr(pacman, "DATABASES", tmp_path)
    (tmp_path / "core.db").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    # Who is not root may have no namespaces; test_packages_unpublished.py has those.
    monkeypatch.setattr(_unpublished, "command", lambda argv, **_: tuple(argv))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return SimulatedHost(manager, tmp_path)


class TestContract(InstallContract):
    """Each manager in turn, in simulation."""

    @pytest.fixture
    def plugin(self, host: SimulatedHost) -> object:
        return host.plugin

    @pytest.fixture
    def there(self, host: SimulatedHost) -> str:
        (host.here / "installed").write_text("old\n")
        return "old"

    @pytest.fixture
    def missing(self) -> str:
        return "easy"

    @pytest.fixture
    def impossible(self) -> str:
        return "nope"


def test_what_is_installed_stays_and_nothing_else_is_run_in_simulation(host: SimulatedHost) -> None:
    (host.here / "installed").write_text("easy\n")
    assert host.install("easy") == Installed(did="")
    assert len(host.asked) == 1


def test_any_user_is_told_what_is_installed_in_simulation(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    (host.here / "installed").write_text("easy\n")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert host.install("easy") == Installed(did="")
    error = host.refused("late")
    assert not error.retryable
    assert f"by hand: {host.plugin._manager.by_hand} late" in str(error)
    assert "late" not in host.installed


def test_what_is_missing_is_installed_once_in_simulation(host: SimulatedHost) -> None:
    assert host.install("easy") == Installed(did=f"{host.plugin._manager.by_hand} easy")
    assert host.install("easy") == Installed(did="")
    assert host.installed == ["easy"]


def test_lists_are_renewed_only_where_they_will_not_do_in_simulation(host: SimulatedHost) -> None:
    host.install("easy")
    assert not (host.here / "new").exists()
    if host.manager == "pacman":  # its lists are never renewed alone
        assert "pacman -Syu" in str(host.refused("late"))
        assert not (host.here / "new").exists()
    else:
        assert host.install("late")
        assert (host.here / "new").exists()


def test_a_package_that_does_not_exist_is_told_of_and_may_come_to_exist_in_simulation(
    host: SimulatedHost,
) -> None:
    error = host.refused("nope")
    assert error.retryable
    assert "package nope can't be installed: " in str(error)
    assert host.installed == []


def test_nothing_that_is_installed_is_upgraded_for_it_in_simulation(host: SimulatedHost) -> None:
    error = host.refused("needy")
    assert not error.retryable
    assert "libneedy upgraded" in str(error)
    assert str(error).endswith(f": {host.plugin._manager.by_hand} needy")
    assert host.installed == []


def test_a_failure_has_the_package_managers_last_words_in_simulation(host: SimulatedHost) -> None:
    error = host.refused("bad")
    assert error.retryable
    assert "the script speaks" in str(error)
    assert "Setting up" not in str(error)
    assert error.service == "app"


def test_while_another_one_is_at_work_it_waits_in_simulation(host: SimulatedHost) -> None:
    timer = threading.Timer(0.4, (host.here / "free").touch)
    timer.start()
    assert host.install("busy")
    timer.join()
    assert host.installed == ["busy"]
    assert host.asked.count(host.asked[-2]) > 1  # the last one looked whether it is installed


def test_it_does_not_wait_for_ever_in_simulation(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_packages, "INSTALL_SECONDS", 0.5)
    started = time.monotonic()
    error = host.refused("busy", timeout_seconds=0.5)
    assert time.monotonic() - started < 10
    assert error.retryable
    assert "lock" in str(error)


def test_an_installation_that_hangs_is_ended_in_simulation(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_packages, "INSTALL_SECONDS", 0.6)
    started = time.monotonic()
    error = host.refused("slow", timeout_seconds=0.6)
    assert time.monotonic() - started < 15
    assert error.retryable
    assert "not done after" in str(error)


def test_an_installation_has_ten_minutes_or_the_timeout_where_that_is_longer() -> None:
    assert _packages.INSTALL_SECONDS == 600


def test_there_is_one_installation_at_a_time_in_simulation(host: SimulatedHost) -> None:
    threads = [threading.Thread(target=host.install, args=(name,)) for name in ("twice", "twice-more")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(host.installed) == ["twice", "twice-more"]
    assert not (host.here / "overlap").exists()


def test_two_services_of_one_package_install_it_once_in_simulation(host: SimulatedHost) -> None:
    answers: list[Installed | None] = []
    threads = [threading.Thread(target=lambda: answers.append(host.install("twice"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert host.installed == ["twice"]
    assert sorted(bool(answer and answer.did) for answer in answers) == [False, True]


def test_a_program_that_is_missing_is_named_in_simulation(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_packages, "SYSTEM_PATH", "")
    monkeypatch.setenv("PATH", "/nowhere")
    assert "can't be started: No such file" in str(host.refused("easy"))


def test_no_name_is_taken_for_an_option_in_simulation(host: SimulatedHost) -> None:
    assert not host.refused("--purge").retryable
    assert host.asked == []


def test_programs_get_no_words_of_the_daemons_own_in_simulation(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    monkeypatch.setenv("LANGUAGE", "de")
    first = next(iter(PROGRAMS[host.manager]))
    (host.here / first).write_text(f"#!/bin/sh\nenv > {host.here}/environment\nexit 1\n")
    with pytest.raises(InstallError):
        host.install("nope")
    told = dict(line.split("=", 1) for line in (host.here / "environment").read_text().splitlines())
    assert not {"NOTIFY_SOCKET", "LANGUAGE"} & set(told)
    assert told["LC_ALL"] == "C.UTF-8"
    assert told["DEBIAN_FRONTEND"] == "noninteractive"
    assert "/usr/sbin" in told["PATH"].split(":")


def test_only_the_plugin_of_the_hosts_own_manager_answers_in_simulation(host: SimulatedHost) -> None:
    (host.here / "installed").write_text("easy\n")
    request = InstallRequest(service=service("easy"))
    answers = {name: plugin.gitopper_install(request) for name, plugin in PLUGINS.items()}
    assert answers == {**dict.fromkeys(PLUGINS), host.manager: Installed()}


def test_a_host_with_another_manager_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "os-release").write_text("ID=alpine\n")
    monkeypatch.setattr(_packages, "OS_RELEASE", (tmp_path / "os-release",))
    hooks = Hooks()
    for name, plugin in PLUGINS.items():
        hooks.register(plugin, name=name)
    with pytest.raises(PluginError, match="no plugin takes gitopper_install for package 'easy'"):
        hooks.install(InstallRequest(service=service("easy")))


@pytest.mark.parametrize(
    ("text", "manager"),
    [
        ("ID=debian\n", "apt"),
        ('NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\n', "apt"),
        ("ID=linuxmint\nID_LIKE='ubuntu debian'\n", "apt"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "dnf"),
        ("ID=fedora\n", "dnf"),
        ("ID=manjaro\nID_LIKE=arch\n", "pacman"),
        ('ID="opensuse-leap"\nID_LIKE="suse opensuse"\n', None),
        ("# nothing here\n\n", None),
    ],
)
def test_the_distribution_tells_the_package_manager(
    text: str, manager: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "os-release").write_text(text)
    monkeypatch.setattr(_packages, "OS_RELEASE", (tmp_path / "missing", tmp_path / "os-release"))
    assert manager_here() == manager


def test_a_host_without_os_release_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_packages, "OS_RELEASE", (tmp_path / "missing",))
    assert manager_here() is None


@pytest.mark.parametrize(
    ("manager", "package", "words"),
    [("apt", "easy-", "would remove"), ("dnf", "@web-server", "groups")],
)
def test_names_that_mean_something_else_are_refused_in_simulation(
    host: SimulatedHost, package: str, words: str
) -> None:
    error = host.refused(package)
    assert words in str(error)
    assert not error.retryable
    assert host.asked == []


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("Downgrading:\n libfoo  noarch  0.9-1  t\n", "libfoo downgraded"),
        ("Removing dependent packages:\n old  noarch  1-1  @System\n", "old removed"),
        ("Installing:\n new  noarch  1-1  t\n     replacing  old.noarch 1-1\n", "old.noarch replaced"),
        (
            "Upgrading:\n a-very-long-name-of-a-package\n        noarch  2  t  5 k\n b  noarch 2 t 5 k\n",
            "a-very-long-name-of-a-package upgraded",
        ),
    ],
)
def test_every_change_of_a_transaction_of_dnf_is_refused(table: str, told: str) -> None:
    assert told in dnf._changes(f"Dependencies resolved.\n{table}\nTransaction Summary\n")


def test_a_transaction_of_dnf_that_only_adds_is_none() -> None:
    table = "Installing:\n a  noarch  1\nInstalling dependencies:\n b  noarch  1\n\nTransaction Summary\n"
    assert dnf._changes(table) == []


STATUS = """Package: exim4-daemon-light
Status: install ok installed
Provides: mail-transport-agent, exim (= 4.96)

Package: gone
Status: deinstall ok config-files
Provides: httpd
"""


@pytest.mark.parametrize("manager", ["apt"])
@pytest.mark.parametrize(
    ("package", "there"), [("mail-transport-agent", True), ("exim", True), ("httpd", False)]
)
def test_what_an_installed_package_provides_is_installed_in_simulation(
    host: SimulatedHost, package: str, there: bool
) -> None:
    apt.STATUS.write_text(STATUS)
    installed = host.install(package)
    assert installed is not None
    assert (installed.did == "") is there


@pytest.mark.parametrize("manager", ["pacman"])
def test_the_first_databases_are_fetched_in_simulation(host: SimulatedHost) -> None:
    (host.here / "core.db").unlink()
    assert host.install("late")
    assert any(command.startswith("pacman -Sy ") for command in host.asked)


@pytest.mark.parametrize("manager", ["apt"])
def test_no_password_of_a_repository_is_shown_in_simulation(host: SimulatedHost) -> None:
    text = "#!/bin/sh\necho 'E: Failed to fetch https://me:s3cr3t@deb.example.net/x 401'; exit 100\n"
    (host.here / "apt-get").write_text(text)
    error = host.refused("easy")
    assert "https://deb.example.net/x" in str(error)
    assert "s3cr3t" not in str(error)


def first_of(commands: Sequence[str], word: str) -> str:
    return next(command for command in commands if word in command)


@pytest.mark.parametrize("manager", ["apt"])
def test_nobody_is_asked_by_apt_in_simulation(host: SimulatedHost) -> None:
    host.install("easy")
    command = first_of(host.asked, "--no-remove")
    for word in (
        "-y",
        "--no-upgrade",
        "--force-confdef",
        "--force-confold",
        "DPkg::Lock::Timeout=",
        "-- easy",
    ):
        assert word in command
