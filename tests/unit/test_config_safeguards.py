"""Checks, health, signatures, drift, windows and limits: what may be written, and what it means."""

from pathlib import Path

import pytest

from libgitopper import Limits
from libgitopper.model import watches
from libgitopper.safeguards import Check, DriftPolicy, Health, Verify
from tests.support.configs import GLOBAL, READY, entry, problems, services, the_service

NGINX = ("/usr/sbin/nginx", "-t")


def test_a_service_asks_for_nothing_by_itself_but_for_reports_of_drift() -> None:
    service = the_service()
    assert (service.check, service.health, service.verify) == (None, None, None)
    assert (service.no_rewind, service.drift) == (False, DriftPolicy.REPORT)
    assert (service.windows, service.after) == ((), ())


@pytest.mark.parametrize(
    ("written", "check"),
    [
        ('["/usr/sbin/nginx", "-t"]', Check(commands=(NGINX,))),
        ('[["/usr/sbin/nginx", "-t"], ["true"]]', Check(commands=(NGINX, ("true",)))),
        ('{ command = ["/usr/sbin/nginx", "-t"] }', Check(commands=(NGINX,))),
        (
            '{ command = [["a"], ["b", ""]], user = "www-data", timeout = "2m" }',
            Check(commands=(("a",), ("b", "")), user="www-data", timeout_seconds=120.0),
        ),
    ],
)
def test_a_check_is_a_command_or_several_or_a_table(written: str, check: Check) -> None:
    assert the_service(f"check = {written}").check == check


@pytest.mark.parametrize(
    ("written", "health"),
    [
        (f'{{ http = "{READY}" }}', Health(http=READY)),
        ('{ http = "HTTPS://Host.example/x?y=z" }', Health(http="https://Host.example/x?y=z")),
        ('{ http = "http://[::1]:80" }', Health(http="http://[::1]:80")),
        ('{ tcp = "localhost:1" }', Health(tcp="localhost:1")),
        ('{ tcp = "[::1]:65535" }', Health(tcp="[::1]:65535")),
        ('{ command = ["pg_isready", ""] }', Health(command=("pg_isready", ""))),
        ("{ unit = true }", Health(unit=True)),
        ('{ unit = false, tcp = "db:5432" }', Health(tcp="db:5432")),
        (
            f'{{ unit = true, http = "{READY}", within = "1m", interval = "10ms", stable_for = "59s" }}',
            Health(unit=True, http=READY, within_seconds=60, interval_seconds=0.01, stable_for_seconds=59),
        ),
        (
            '{ unit = true, within = "100ms", interval = "100ms" }',
            Health(unit=True, within_seconds=0.1, interval_seconds=0.1),
        ),
    ],
)
def test_health_has_at_least_one_probe(written: str, health: Health) -> None:
    assert the_service(f"health = {written}").health == health


def test_a_unit_can_be_watched_whatever_reloads_it() -> None:
    service = the_service("health = { unit = true }", 'command = ["/usr/bin/kick"]')
    assert service.reload == "command"
    assert service.health == Health(unit=True)


def test_a_table_of_its_own_does_the_same_as_one_in_braces() -> None:
    text = GLOBAL + entry() + f'[services.health]\nhttp = "{READY}"\n[services.check]\ncommand = ["true"]\n'
    (service,) = services(text)
    assert (service.health, service.check) == (Health(http=READY), Check(commands=(("true",),)))


def test_signatures_are_trusted_by_either_file_or_both() -> None:
    one, other = Path("/etc/signers"), Path("/etc/ring.kbx")
    assert the_service('verify = { allowed_signers = "/etc/signers" }').verify == Verify(
        allowed_signers=one
    )
    both = the_service('verify = { keyring = "/etc//ring.kbx", allowed_signers = "/etc/signers" }').verify
    assert both == Verify(allowed_signers=one, keyring=other)


@pytest.mark.parametrize("policy", DriftPolicy)
def test_every_policy_for_drift_can_be_written(policy: DriftPolicy) -> None:
    assert the_service(f'drift = "{policy.value}"').drift is policy


def test_windows_are_one_or_a_list() -> None:
    (window,) = the_service('window = "Mon-Fri 09:00-17:00 Europe/Amsterdam"').windows
    assert (window.days, window.start_minute, window.end_minute) == (frozenset(range(5)), 540, 1020)
    assert (window.text, window.zone) == ("Mon-Fri 09:00-17:00 Europe/Amsterdam", "Europe/Amsterdam")
    two = the_service('window = ["Sat 00:00-06:00", "Sun 22:00-24:00"]').windows
    assert [window.text for window in two] == ["Sat 00:00-06:00", "Sun 22:00-24:00"]


def test_a_service_inherits_what_may_be_a_default_and_says_otherwise() -> None:
    defaults = (
        'verify = { keyring = "/etc/ring" }\nno_rewind = true\ndrift = "heal"\nwindow = "Sat 00:00-06:00"\n'
    )
    service = the_service(defaults=defaults)
    assert service.verify == Verify(keyring=Path("/etc/ring"))
    assert (service.no_rewind, service.drift, len(service.windows)) == (True, DriftPolicy.HEAL, 1)
    own = 'verify = { allowed_signers = "/s" }', "no_rewind = false", 'drift = "off"', "window = []"
    service = the_service(*own, defaults=defaults)
    assert service.verify == Verify(allowed_signers=Path("/s"))
    assert (service.no_rewind, service.drift, service.windows) == (False, DriftPolicy.OFF, ())


@pytest.mark.parametrize("line", ['check = ["true"]', "health = { unit = true }", 'after = "app"'])
def test_what_is_a_services_own_has_no_default(line: str) -> None:
    ((path, message),) = problems(GLOBAL + line + "\n" + entry())
    assert path == f"global.{line.split()[0]}"
    assert message == "this key does not belong here; move it to [[services]]"


def test_what_a_check_or_a_probe_is_belongs_to_what_a_release_must_be_fit_for() -> None:
    plain = the_service().fingerprint
    assert the_service('check = ["true"]').fingerprint != plain
    assert the_service("health = { unit = true }").fingerprint != plain
    assert the_service('drift = "off"', 'window = "Sat 00:00-06:00"').fingerprint == plain


def test_limits_are_inherited_one_by_one() -> None:
    service = the_service('max_file = "1MiB"', defaults='max_file = "2MiB"\nmax_release = "3GiB"\n')
    assert service.limits == Limits(file_bytes=1 << 20, release_bytes=3 << 30)
    assert the_service().limits == Limits()


def test_services_that_share_a_store_share_the_widest_limits() -> None:
    text = GLOBAL + entry('max_fetch = "1MiB"', 'max_file = "1GiB"') + entry('max_fetch = "8GiB"', name="b")
    (watch,) = watches(services(text), Path("/stores"))
    assert watch.limits == Limits(file_bytes=1 << 30, fetch_bytes=8 << 30)
