"""Checks, health, signatures, drift, windows and order: what may be written, and every mistake in it."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libgitopper import ConfigError, Limits
from libgitopper.config import parse_config, safeguards
from libgitopper.model import Service, watches
from libgitopper.safeguards import Check, DriftPolicy, Health, Verify
from tests.support.configvalues import VALUES, toml, well_said
from tests.support.configvalues import parse as answer_to

GLOBAL = '[global]\nupstream = "https://git.example.net/config.git"\n'
NGINX = ("/usr/sbin/nginx", "-t")
READY = "http://127.0.0.1:9090/-/ready"


def entry(*lines: str, name: str = "nginx", machine: str = '"web1"') -> str:
    more = "\n".join(lines)
    return (
        f'[[services]]\nmachine = {machine}\nservice = "{name}"\n{more}\n'
        f'dirs = [{{ local = "/etc/{name}", link = "{name}" }}]\n'
    )


def services(text: str) -> tuple[Service, ...]:
    return parse_config(text, origin="x", hosts={"web1"}, root=True, environ={}).services


def the_service(*lines: str, defaults: str = "") -> Service:
    (service,) = services(GLOBAL + defaults + "\n" + entry(*lines))
    return service


def problems(text: str) -> list[tuple[str, str]]:
    """Return path and message of each mistake in `text`."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, origin="x", hosts={"web1"}, root=True, environ={})
    return [(problem.path, problem.message) for problem in caught.value.problems]


def test_a_service_asks_for_nothing_by_itself_but_for_reports_of_drift():
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
def test_a_check_is_a_command_or_several_or_a_table(written, check):
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
def test_health_has_at_least_one_probe(written, health):
    assert the_service(f"health = {written}").health == health


def test_a_unit_can_be_watched_whatever_reloads_it():
    service = the_service("health = { unit = true }", 'command = ["/usr/bin/kick"]')
    assert service.reload == "command"
    assert service.health == Health(unit=True)


def test_a_table_of_its_own_does_the_same_as_one_in_braces():
    text = GLOBAL + entry() + f'[services.health]\nhttp = "{READY}"\n[services.check]\ncommand = ["true"]\n'
    (service,) = services(text)
    assert (service.health, service.check) == (Health(http=READY), Check(commands=(("true",),)))


def test_signatures_are_trusted_by_either_file_or_both():
    one, other = Path("/etc/signers"), Path("/etc/ring.kbx")
    assert the_service('verify = { allowed_signers = "/etc/signers" }').verify == Verify(
        allowed_signers=one
    )
    both = the_service('verify = { keyring = "/etc//ring.kbx", allowed_signers = "/etc/signers" }').verify
    assert both == Verify(allowed_signers=one, keyring=other)


@pytest.mark.parametrize("policy", DriftPolicy)
def test_every_policy_for_drift_can_be_written(policy):
    assert the_service(f'drift = "{policy.value}"').drift is policy


def test_windows_are_one_or_a_list():
    (window,) = the_service('window = "Mon-Fri 09:00-17:00 Europe/Amsterdam"').windows
    assert (window.days, window.start_minute, window.end_minute) == (frozenset(range(5)), 540, 1020)
    assert (window.text, window.zone) == ("Mon-Fri 09:00-17:00 Europe/Amsterdam", "Europe/Amsterdam")
    two = the_service('window = ["Sat 00:00-06:00", "Sun 22:00-24:00"]').windows
    assert [window.text for window in two] == ["Sat 00:00-06:00", "Sun 22:00-24:00"]


def test_a_service_inherits_what_may_be_a_default_and_says_otherwise():
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
def test_what_is_a_services_own_has_no_default(line):
    ((path, message),) = problems(GLOBAL + line + "\n" + entry())
    assert path == f"global.{line.split()[0]}"
    assert message == "this key does not belong here; move it to [[services]]"


def test_what_a_check_or_a_probe_is_belongs_to_what_a_release_must_be_fit_for():
    plain = the_service().fingerprint
    assert the_service('check = ["true"]').fingerprint != plain
    assert the_service("health = { unit = true }").fingerprint != plain
    assert the_service('drift = "off"', 'window = "Sat 00:00-06:00"').fingerprint == plain


LONG = "x" * 90


@pytest.mark.parametrize(
    ("line", "path", "says"),
    [
        ('check = "nginx -t"', "check", 'write a list of strings, as ["/usr/sbin/nginx", "-t"]; no shell'),
        ("check = true", "check", "this names no command"),
        ("check = []", "check", "this names no command"),
        ('check = [["true"], []]', "check[1]", "this names no command"),
        ('check = [["true"], ["a", 1]]', "check[1][1]", "not a string (not shown"),
        ('check = ["true", ["a"]]', "check[0]", "this names no command"),
        ("check = {}", "check.command", "this key is missing; write command = ["),
        ('check = { command = "true" }', "check.command", "this names no command"),
        ('check = { command = [["a"], [""]] }', "check.command[1]", "this names no command"),
        ('check = { command = [["a"], [1]] }', "check.command[1][0]", "not a string"),
        ('check = { command = ["a"], user = 0 }', "check.user", "0 is not a string"),
        ('check = { command = ["a"], timeout = "0s" }', "check.timeout", "too short"),
        ('check = { command = ["a"], timout = "5s" }', "check.timout", 'did you mean "timeout"?'),
        (
            'check = { command = ["a"], within = "5s" }',
            "check.within",
            "write one of: command, user, timeout",
        ),
        ('health = "http://h/"', "health", f'not a table; write {{ http = "{READY}" }}'),
        ("health = true", "health", "not a table"),
        ("health = {}", "health", "write at least one of command, http, tcp and unit = true"),
        ("health = { unit = false }", "health", "this names nothing to look at"),
        ('health = { within = "1m" }', "health", "this names nothing to look at"),
        ("health = { unit = 1 }", "health.unit", "1 is not a boolean"),
        ('health = { command = "a" }', "health.command", "this names no command"),
        ('health = { command = [["a"]] }', "health.command[0]", "not a string"),
        ('health = { htp = "x" }', "health.htp", 'did you mean "http"?'),
        ('health = { htp = "x", unit = true }', "health.htp", 'did you mean "http"?'),
        ('health = { http = "ftp://h/" }', "health.http", "not an http or https URL"),
        ('health = { http = "h:80/x" }', "health.http", "not an http or https URL"),
        ('health = { http = "http:///x" }', "health.http", "has no host"),
        ('health = { http = "http://-h/x" }', "health.http", "has no host"),
        ('health = { http = "http://h:0/" }', "health.http", "a bad port"),
        ('health = { http = "http://h:/" }', "health.http", "a bad port"),
        ('health = { http = "http://h:65536/" }', "health.http", "a bad port"),
        ('health = { http = "http://[::1" }', "health.http", "can't be read"),
        ('health = { http = "http://[1::2::3]/" }', "health.http", "write one as"),
        ('health = { http = "http://h/a b" }', "health.http", "white space"),
        ('health = { http = "http://h/\\n" }', "health.http", "white space"),
        ('health = { http = "http://h/é" }', "health.http", "characters that a URL can't have"),
        ('health = { http = "http://h/#x" }', "health.http", "a fragment"),
        ('health = { http = "http://a@h/" }', "health.http", "is shown in logs and errors; write a URL"),
        ('health = { http = "http://h\\\\@g/" }', "health.http", "has a user or password"),
        ('health = { tcp = "h" }', "health.tcp", 'write "127.0.0.1:5432" or "[::1]:5432"'),
        ('health = { tcp = "::1:80" }', "health.tcp", "not a host and a port"),
        ('health = { tcp = "[::g]:80" }', "health.tcp", "not a host and a port"),
        ('health = { tcp = "[1::2::3]:80" }', "health.tcp", "not a host and a port"),
        ('health = { tcp = "h:0" }', "health.tcp", "not a host and a port"),
        ('health = { tcp = "h:65536" }', "health.tcp", "not a host and a port"),
        ('health = { tcp = "h:80 " }', "health.tcp", "not a host and a port"),
        ("health = { tcp = 80 }", "health.tcp", "80 is not a string"),
        ('health = { unit = true, within = "1s", interval = "5ms" }', "health.interval", "too short"),
        (
            'health = { unit = true, within = "10s", stable_for = "10s" }',
            "health.stable_for",
            '"10s" does not end in time: within is "10s"; write a shorter time, or within = "40s"',
        ),
        ('health = { unit = true, stable_for = "1m" }', "health.stable_for", 'within is "30s"'),
        (
            'health = { unit = true, interval = "31s" }',
            "health.interval",
            'interval is "31s", and within "30s": there would be one probe; write interval = "6s"',
        ),
        ('health = { unit = true, within = "500ms" }', "health.within", 'write interval = "100ms"'),
        (
            'verify = "/etc/signers"',
            "verify",
            'write { allowed_signers = "/etc/gitopper/allowed_signers" }',
        ),
        ("verify = false", "verify", "not a table"),
        ("verify = {}", "verify", "this names nobody whose signature counts; write allowed_signers"),
        ('verify = { keyring = "ring" }', "verify.keyring", "not an absolute path"),
        ('verify = { allowed_signer = "/s" }', "verify.allowed_signer", 'mean "allowed_signers"?'),
        ('no_rewind = "yes"', "no_rewind", "not a boolean"),
        ('drift = "Heal"', "drift", '"Heal" is not known; write "off", "report" or "heal"'),
        ("drift = false", "drift", "false is not known"),
        ("window = 9", "window", "9 is not a string"),
        ('window = ["Sat 00:00-06:00", "Sam 00:00-06:00"]', "window[1]", "is not a day"),
        ('window = "Sat"', "window", "is not a window"),
        (f'window = "{LONG}"', "window", "is not a window; write"),
        ('window = ["Sat 00:00-06:00 Europe/Atlantis"]', "window[0]", "not a time zone"),
        ("after = 1", "after", "1 is not a string"),
        ('after = ["a/b"]', "after[0]", "not the name of a service"),
        ('after = "nginx"', "after", '"nginx" is this very service; take it out'),
        ('after = ["ngin"]', "after", '"ngin" is no service of this file; did you mean "nginx"?'),
        ('after = ["redis"]', "after", "name one that runs on the same host, or take it out"),
        ('http = "http://h/"', "http", "this key does not belong here; move it to health in [[services]]"),
        ('keyring = "/r"', "keyring", "move it to verify in [[services]]"),
    ],
)
def test_a_bad_line_is_the_only_problem(line, path, says):
    ((where, message),) = problems(GLOBAL + entry(line))
    assert where == f"services[0].{path}"
    assert says in message


def test_every_mistake_of_a_table_is_told_at_once():
    line = 'health = { htp = 1, tcp = "h", within = "x", stable_for = "13h", interval = 1 }'
    found = [path.removeprefix("services[0].health.") for path, _ in problems(GLOBAL + entry(line))]
    assert found == ["htp", "tcp", "within", "stable_for", "interval"]


def test_a_bad_default_is_told_once_and_where_it_is_written():
    text = GLOBAL + "verify = {}\nwindow = 'x'\n" + entry() + entry(name="app")
    assert [path for path, _ in problems(text)] == ["global.verify", "global.window"]


@pytest.mark.parametrize(
    "line",
    [
        'check = "curl -u bob:hunter2 http://h"',
        'check = ["curl", ["hunter2"]]',
        'check = [["curl", 1], "hunter2"]',
        'check = ["hunter2\\u0000"]',
        'check = { command = "hunter2" }',
        'check = { command = ["curl", { token = "hunter2" }] }',
        'check = { commando = ["hunter2"], command = ["true"] }',
        'health = "curl -u bob:hunter2 http://h"',
        'health = ["curl", "hunter2"]',
        'health = { command = "curl hunter2" }',
        'health = { http = "http://bob:hunter2@h/" }',
        'health = { http = "http://hunter2@h/" }',
        'health = { http = "http://bob:hun/hunter2@h/ x" }',
        'health = { http = "http://h/x?token=hunter2#x" }',
        'health = { tcp = "bob:hunter2@h:80" }',
        'verify = "https://bob:hunter2@h/keys"',
        'verify = { keyring = "https://bob:hunter2@h/keys" }',
        'window = "https://bob:hunter2@h/x"',
        'window = ["Sat 00:00-06:00 https://bob:hunter2@h/x"]',
        'after = "https://bob:hunter2@h/x"',
        'drift = "https://bob:hunter2@h/x"',
    ],
)
def test_a_secret_is_never_in_a_problem(line):
    with pytest.raises(ConfigError) as caught:
        services(GLOBAL + entry(line))
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value.problems)


class TestOrder:
    def test_services_of_one_host_in_any_order_of_the_file(self):
        text = (
            GLOBAL + entry('after = ["app", "db"]') + entry(name="app") + entry('after = "app"', name="db")
        )
        assert [service.after for service in services(text)] == [("app", "db"), (), ("app",)]

    def test_a_name_that_this_host_runs_for_another_entry(self):
        text = GLOBAL + entry('after = "app"', machine='["web1", "web2"]')
        text += entry(name="app") + entry(name="app", machine='"web2"')
        assert services(text)

    def test_a_service_of_other_machines_only(self):
        text = GLOBAL + entry('after = "app"') + entry(name="app", machine='"db1"')
        ((path, message),) = problems(text)
        assert path == "services[0].after"
        assert message == (
            '"app" (services[1]) does not run on web1, as this service does; take it out, or have it run'
            " there too"
        )

    def test_one_host_of_many_is_told_and_is_found_on_any(self):
        machines = '["db1", "db2", "db3"]'
        text = GLOBAL + entry('after = "app"', machine=machines) + entry(name="app", machine='"db1"')
        ((path, message),) = problems(text)
        assert path == "services[0].after"
        assert "does not run on db2" in message

    def test_a_glob_that_means_the_host_will_do(self):
        text = GLOBAL + entry('after = "app"') + entry(name="app", machine='"web*"')
        assert len(services(text)) == 2

    def test_two_in_a_circle(self):
        text = GLOBAL + entry('after = "app"') + entry('after = "nginx"', name="app")
        ((path, message),) = problems(text)
        assert path == "services[0].after"
        assert message == (
            'this service waits for "app", which waits for "nginx"; take one of them out of its after'
        )

    def test_a_circle_begins_with_the_first_of_the_file_and_leaves_others_out(self):
        text = GLOBAL + entry('after = "b"', name="outside")
        text += (
            entry('after = "c"', name="b") + entry('after = "d"', name="c") + entry('after = "b"', name="d")
        )
        ((path, message),) = problems(text)
        assert path == "services[1].after"
        assert 'waits for "c", which waits for "d", which waits for "b"; take' in message

    def test_two_circles_are_two_problems(self):
        text = GLOBAL + entry('after = "b"', name="a") + entry('after = "a"', name="b")
        text += entry('after = "d"', name="c") + entry('after = "c"', name="d")
        assert [path for path, _ in problems(text)] == ["services[0].after", "services[2].after"]

    def test_a_circle_of_a_glob_is_found_on_any_host(self):
        text = GLOBAL + entry('after = "b"', name="a", machine='"db*"')
        text += entry('after = "a"', name="b", machine='["DB*", "mail"]') + entry(
            name="a", machine='"mail"'
        )
        assert [path for path, _ in problems(text)] == ["services[0].after"]

    def test_a_circle_of_a_glob_with_what_runs_everywhere_is_found_on_any_host(self):
        text = GLOBAL + entry('after = "b"', name="a", machine='"db*"')
        text += entry('after = "a"', name="b", machine='"*"') + entry(name="a", machine='"web1"')
        assert [path for path, _ in problems(text)] == ["services[0].after"]

    def test_what_goes_round_on_no_single_host_is_no_circle(self):
        text = GLOBAL + entry('after = "b"', name="a") + entry(name="b")
        text += entry('after = "a"', name="b", machine='"db1"') + entry(name="a", machine='"db1"')
        assert len(services(text)) == 2

    def test_a_long_chain_is_no_circle(self):
        chain = [entry(f'after = "s{i + 1}"', name=f"s{i}") for i in range(1500)]
        assert len(services(GLOBAL + "".join(chain) + entry(name="s1500"))) == 1501

    def test_a_bad_name_or_machine_elsewhere_does_not_make_after_wrong(self):
        text = GLOBAL + entry('after = "app"') + entry(name="a b")
        assert [path for path, _ in problems(text)] == ["services[1].service"]
        text = GLOBAL + entry('after = "app"') + entry(name="app", machine='"we b"')
        assert [path for path, _ in problems(text)] == ["services[1].machine"]


KEYS = (
    safeguards.CHECK, safeguards.HEALTH, safeguards.VERIFY, safeguards.NO_REWIND, safeguards.DRIFT,
    safeguards.WINDOW, safeguards.AFTER,
)  # fmt: skip
WORDS = st.sampled_from(
    [
        "true", "http://127.0.0.1:1/x", "http://a:b@h/", "https://[::1]:x", "h:80", "[::]:1", "[::", "10ms",
        "30s", "13h", "/etc/x", "Mon-Fri 09:00-17:00", "Sat 00:00-06:00 ../x", "Sat 22:00-24:00 Europe",
        "nginx", "app", "heal", "www-data",
    ]
)  # fmt: skip
NEAR = VALUES | WORDS | st.lists(WORDS | st.lists(WORDS | VALUES, max_size=2), max_size=3)
INNER = [*safeguards.CHECK_KEYS, *safeguards.HEALTH_KEYS, *safeguards.VERIFY_KEYS]
TABLE = st.dictionaries(
    st.sampled_from([key.name for key in INNER]) | st.text(max_size=6), NEAR, max_size=5
)
REMEDY = re.compile(
    r"\b(write|remove|move|take|did you mean|begin it|install|name (one|a|the)|save|hours go from)\b"
)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), NEAR | TABLE, min_size=1, max_size=4))
def test_whatever_is_written_the_answer_is_a_config_or_errors_with_place_and_remedy(written):
    service = {"machine": "*", "service": "nginx", "dirs": [{"local": "/etc/nginx", "link": "nginx"}]}
    service |= {key.name: value for key, value in written.items()}
    answer = answer_to(f'global = {{ upstream = "/srv/x.git" }}\nservices = [{toml(service)}]')
    assert well_said(answer)
    places = tuple(f"services[0].{key.name}" for key in written)
    for problem in answer.problems if isinstance(answer, ConfigError) else ():
        assert problem.path.startswith(places)
        assert REMEDY.search(problem.message), problem.message
        assert len(problem.message) < 400


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c"]),
            st.sets(st.sampled_from(["a", "b", "c", "d"])),
            st.sampled_from(["web1", "web*", "db1", "*"]),
        ),
        max_size=5,
    )
)
def test_an_order_that_is_accepted_can_be_followed(drawn):
    text = GLOBAL + "services = []\n" if not drawn else GLOBAL
    for number, (name, after, machine) in enumerate(drawn):
        more = f'after = {toml(sorted(after))}\ndirs = [{{ local = "/s/{number}", link = "x" }}]'
        text += f'[[services]]\nmachine = "{machine}"\nservice = "{name}"\n{more}\n'
    try:
        found = services(text)
    except ConfigError:
        return
    ready: set[str] = set()
    for _ in found:
        ready |= {service.name for service in found if ready.issuperset(service.after)}
    assert ready == {service.name for service in found}


def test_limits_are_inherited_one_by_one():
    service = the_service('max_file = "1MiB"', defaults='max_file = "2MiB"\nmax_release = "3GiB"\n')
    assert service.limits == Limits(file_bytes=1 << 20, release_bytes=3 << 30)
    assert the_service().limits == Limits()


def test_services_that_share_a_store_share_the_widest_limits():
    text = GLOBAL + entry('max_fetch = "1MiB"', 'max_file = "1GiB"') + entry('max_fetch = "8GiB"', name="b")
    (watch,) = watches(services(text), Path("/stores"))
    assert watch.limits == Limits(file_bytes=1 << 30, fetch_bytes=8 << 30)
