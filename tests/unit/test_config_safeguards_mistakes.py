"""Checks, health, signatures, drift, windows and order: every mistake is told, and no secret."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libgitopper import ConfigError
from libgitopper.config import safeguards
from libgitopper.config.reading import Key
from tests.support.configs import GLOBAL, READY, entry, problems, services
from tests.support.configvalues import VALUES, toml, well_said
from tests.support.configvalues import parse as answer_to

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
def test_a_bad_line_is_the_only_problem(line: str, path: str, says: str) -> None:
    ((where, message),) = problems(GLOBAL + entry(line))
    assert where == f"services[0].{path}"
    assert says in message


def test_every_mistake_of_a_table_is_told_at_once() -> None:
    line = 'health = { htp = 1, tcp = "h", within = "x", stable_for = "13h", interval = 1 }'
    found = [path.removeprefix("services[0].health.") for path, _ in problems(GLOBAL + entry(line))]
    assert found == ["htp", "tcp", "within", "stable_for", "interval"]


def test_a_bad_default_is_told_once_and_where_it_is_written() -> None:
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
def test_a_secret_is_never_in_a_problem(line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        services(GLOBAL + entry(line))
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value.problems)


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
def test_whatever_is_written_the_answer_is_a_config_or_errors_with_place_and_remedy(
    written: dict[Key[Any], object],
) -> None:
    service: dict[str, object] = {
        "machine": "*",
        "service": "nginx",
        "dirs": [{"local": "/etc/nginx", "link": "nginx"}],
    }
    service |= {key.name: value for key, value in written.items()}
    answer = answer_to(f'global = {{ upstream = "/srv/x.git" }}\nservices = [{toml(service)}]')
    assert well_said(answer)
    places = tuple(f"services[0].{key.name}" for key in written)
    for problem in answer.problems if isinstance(answer, ConfigError) else ():
        assert problem.path.startswith(places)
        assert REMEDY.search(problem.message), problem.message
        assert len(problem.message) < 400
