"""Every mistake is told, where it stands, and with a remedy."""

import pytest

from libgitopper import ConfigError
from libgitopper.config import parse_config
from tests.support.configs import GLOBAL, mapped, problems, service

TEN_MISTAKES = """
[global]
upstream = "ftp://git.example.net/config.git"
intervall = "5m"
keep = "5"

[[services]]
machine = "web1.example.net"
service = "../nginx"
interval = "soon"
readonly = "no"
action = "start"
dirs = [{ local = "etc/nginx", link = "nginx/../etc" }]

[[services]]
machine = "elsewhere"
branch = "main..live"
upstream = "/srv/git/config.git"
dirs = [{ local = "/etc/app", link = "app" }]
"""


def test_ten_mistakes_are_ten_problems_in_file_order_each_with_its_remedy() -> None:
    found = problems(TEN_MISTAKES)
    assert [path for path, _ in found] == [
        "global.upstream",
        "global.intervall",
        "global.keep",
        "services[0].service",
        "services[0].interval",
        "services[0].readonly",
        "services[0].action",
        "services[0].dirs[0].local",
        "services[0].dirs[0].link",
        "services[1].branch",
        "services[1].service",
    ]
    values = ["ftp", "unknown key", '"5"', '"../nginx"', '"soon"', '"no"', '"start"', '"etc/nginx"']
    values += ['"nginx/../etc"', '"main..live"', "missing"]
    remedies = ['write "https://', 'mean "interval"', "write one, without quotes", 'as "nginx"']
    remedies += ['write "30s" or "5m"', "write true or false", '"try-restart"', 'begin it with "/"']
    remedies += ["from the top of the repository", 'as "main"', 'write service = "nginx"']
    for (_, message), value, remedy in zip(found, values, remedies, strict=True):
        assert value in message
        assert remedy in message


def test_the_error_reads_as_a_list_with_file_path_value_and_remedy() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(TEN_MISTAKES, origin="gitopper.toml", hosts=frozenset(), root=True, environ={})
    lines = str(caught.value).splitlines()
    assert 'gitopper.toml: services[0].interval: "soon" is not a duration; write "30s" or "5m"' in lines
    assert len(lines) == len(caught.value.problems)


@pytest.mark.parametrize(
    ("line", "path", "says"),
    [
        ("interval = 300", "interval", '300 has no unit; write "30s"'),
        ("interval = true", "interval", "true is not a string"),
        ('interval = "500ms"', "interval", "too short"),
        ('interval = "1000h"', "interval", "too long"),
        ('interval = "5 m"', "interval", "not a duration"),
        ('interval = "5s5m"', "interval", "not a duration"),
        ('interval = "٣s"', "interval", "not a duration"),
        ('timeout = "0s"', "timeout", "too short"),
        ("keep = 5.0", "keep", "5.0 is not a whole number from 1 to 100"),
        ("keep = true", "keep", "true is not a whole number"),
        ("keep = 0", "keep", "0 is not"),
        ("keep = 101", "keep", "101 is not"),
        ("readonly = 1", "readonly", "1 is not a boolean; write true or false"),
        ("readonly = 1979-05-27", "readonly", "a date or time is not a boolean"),
        ("branch = {}", "branch", "a table is not a string"),
        ('branch = "refs/heads/main"', "branch", 'leave out "refs/heads/"'),
        ('branch = "-x"', "branch", 'begins with "-"'),
        ('mount = "~/x"', "mount", "~ is not expanded"),
        ('mount = "/"', "mount", "root directory"),
        ('mount = "/srv/.gitopper/x"', "mount", "write the directory around it"),
        ('mount = "/srv\\u0007"', "mount", "U+0007"),
        ('publish = "no plugin"', "publish", 'write "bind" or "symlink"'),
        ('user = "a/b"', "user", "not the name of a user"),
        ('user = "0"', "user", "not the name of a user"),
        ('package = "-y"', "package", "not the name of a package"),
        ('package = "nginx=1.2"', "package", "without version"),
        ('action = "stop"', "action", 'write "reload"'),
        ('action = "re load"', "action", "is not an action"),
        ("action = false", "action", 'or "" for none'),
        ("command = []", "command", "names no command"),
        ('command = [""]', "command", "names no command"),
        ('command = ["a", 1]', "command[1]", "this is not a string (not shown: it may be a secret)"),
        ('command = ["a\\u0000"]', "command[0]", "U+0000"),
        ('reload = "command"', "reload", "needs a command"),
        ('upstream = "git.example.net/x"', "upstream", "neither a URL nor an absolute path"),
        ('upstream = "host:x.git"', "upstream", "neither a URL nor an absolute path"),
        ('upstream = "https:/host/x"', "upstream", "neither a URL nor an absolute path"),
        ('upstream = "https://host"', "upstream", "names no repository"),
        ('upstream = "https:///x"', "upstream", "has no host"),
        ('upstream = "https://host:http/x"', "upstream", "can't be read"),
        ('upstream = "https://host/x?y=z"', "upstream", "a query or a fragment"),
        ('upstream = "https://host/x y"', "upstream", "white space"),
        ('upstream = "https://host/x\\ty"', "upstream", "white space"),
        ('upstream = "ssh://-oProxyCommand=x/y"', "upstream", "has no host"),
        ('upstream = "ssh://-x@host/y"', "upstream", "no ssh server"),
        ('upstream = "https://@host/y"', "upstream", "without a user"),
        ('upstream = "git@host:-x"', "upstream", 'begins with "-"'),
        ('upstream = "git://me@host/x"', "upstream", "the git protocol knows none"),
        ('upstream = "file://host/x"', "upstream", "files are on this host"),
        ('upstream = "/srv/../x"', "upstream", '".."'),
        ('upstream = ""', "upstream", "is empty"),
        ('ssh_key = "/etc/id"', "ssh_key", "it is for ssh; remove it, or write credentials"),
        ("local = 1", "local", "move it to an entry of dirs"),
        ("Intervall = 1", "Intervall", 'did you mean "interval"?'),
        ("ssh-key = 1", "ssh-key", 'did you mean "ssh_key"?'),
        ("zzz = 1", "zzz", "remove it, or write one of: machine, service"),
        ('"a b\\n" = 1', '"a b\\n"', "unknown key"),
    ],
)
def test_a_bad_line_of_a_service_is_the_only_problem(line: str, path: str, says: str) -> None:
    ((where, message),) = problems(GLOBAL + service(line))
    assert where == f"services[0].{path}"
    assert says in message


@pytest.mark.parametrize("key", ["ssh_key", "credentials"])
def test_an_upstream_without_a_login_is_offered_no_other_key_for_it(key: str) -> None:
    lines = f'upstream = "/srv/git/x.git"\n{key} = "/etc/secret"'
    ((_, message),) = problems(GLOBAL + service(lines))
    assert message.endswith("; remove it")


@pytest.mark.parametrize(
    ("dirs", "path", "says"),
    [
        ("dirs = []", "dirs", "the list is empty"),
        ('dirs = "x"', "dirs", "is not a list of tables"),
        ('dirs = { local = "/a", link = "a" }', "dirs", "a table is not a list of tables"),
        ("dirs = [1]", "dirs[0]", "1 is not a table"),
        ('dirs = [{ link = "a" }]', "dirs[0].local", 'missing; write local = "/etc/nginx"'),
        ('dirs = [{ local = "/a" }]', "dirs[0].link", 'missing; write link = "nginx/etc"'),
        ('dirs = [{ local = "/a", link = "a", fil = true }]', "dirs[0].fil", 'mean "file"'),
        ('dirs = [{ local = "/a", link = "a", file = 1 }]', "dirs[0].file", "not a boolean"),
        ('dirs = [{ local = "/a", link = "/a" }]', "dirs[0].link", "is absolute"),
        ('dirs = [{ local = "/a", link = "./" }]', "dirs[0].link", "names the whole repository"),
        ('dirs = [{ local = "/a", link = "" }]', "dirs[0].link", "names the whole repository"),
        ('dirs = [{ local = "/a", link = "x/.GIT/y" }]', "dirs[0].link", '".git"'),
        ('dirs = [{ local = "/a/../b", link = "x" }]', "dirs[0].local", '".."'),
        (mapped("/etc/a", "/etc/a/"), "dirs[1].local", "is services[0].dirs[0].local already"),
        (mapped("/etc/a/b", "/etc/a"), "dirs[0].local", 'lies inside "/etc/a"'),
        (mapped("/var/lib/gitopper/x"), "dirs[0].local", "lies inside the mount"),
        (mapped("/var"), "dirs[0].local", "is around the mount"),
    ],
)
def test_bad_dirs_are_the_only_problem(dirs: str, path: str, says: str) -> None:
    ((where, message),) = problems(GLOBAL + service(dirs=dirs))
    assert where == f"services[0].{path}"
    assert says in message


@pytest.mark.parametrize(
    ("text", "path", "says"),
    [
        ("", "services", "write [[services]]"),
        ("services = 1", "services", "write [[services]]"),
        ('[services]\nmachine = "web1"', "services", "with two brackets"),
        ("services = [1]", "services[0]", "1 is not a table"),
        ("global = 1\nservices = []", "global", "1 is not a table"),
        ("[globel]\n" + service(), "globel", "did you mean [global]?"),
        ("[Services]\n", "Services", "did you mean [[services]]?"),
        ('interval = "5m"\n' + service(), "interval", "outside of any table; move it to [global]"),
        ('[global]\nmachine = "x"\n' + service(), "global.machine", "move it to [[services]]"),
        ("[plugins]\n" + service(), "plugins", "unknown; remove it"),
    ],
)
def test_tables_that_are_wrong(text: str, path: str, says: str) -> None:
    found = dict(problems(text))
    assert says in found[path]


def test_each_service_without_an_upstream_is_told() -> None:
    found = problems(service() + service(name="app", dirs=mapped("/etc/app")))
    assert [path for path, _ in found] == ["services[0].upstream", "services[1].upstream"]
    assert all("here, or in [global]" in message for _, message in found)


def test_a_bad_upstream_in_global_is_told_once() -> None:
    found = problems(GLOBAL.replace("https", "ftp") + service() + service(name="a", dirs=mapped("/a")))
    assert [path for path, _ in found] == ["global.upstream"]


def test_a_bad_default_for_systemd_is_told_once_and_where_it_is_written() -> None:
    text = GLOBAL + 'action = "kick"\n' + service() + service(name="app", dirs=mapped("/etc/app"))
    assert [path for path, _ in problems(text)] == ["global.action"]


def test_a_typo_for_another_host_is_found_on_any() -> None:
    ((path, _),) = problems(GLOBAL + service('interval = "soon"', machine="elsewhere"))
    assert path == "services[0].interval"


@pytest.mark.parametrize("machine", ['""', '"a b"', '"web["', '"web]"', '"web[]"', '"a/b"', '"web,db"'])
def test_a_machine_that_could_never_match_is_told(machine: str) -> None:
    text = GLOBAL + service().replace('"web1"', f'["ok", {machine}]')
    ((path, message),) = problems(text)
    assert path == "services[0].machine[1]"
    assert "write" in message


def test_no_machine_at_all_is_told() -> None:
    assert problems(GLOBAL + service().replace('"web1"', "[]"))[0][0] == "services[0].machine"


@pytest.mark.parametrize(
    "name", ["", ".gitopper", "-x", "a/b", "..", "a\\n", "a b", "x" * 201, "nginx\\u0000", "é"]
)
def test_a_name_that_is_no_unit_is_told(name: str) -> None:
    assert [path for path, _ in problems(GLOBAL + service(name=name))] == ["services[0].service"]
