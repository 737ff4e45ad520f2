"""Every mistake is told, where it stands, with a remedy, and without a secret."""

import errno
import os
from pathlib import Path

import pytest

from libgitopper import ConfigError, Overrides, load_config
from libgitopper.config import parse_config

GLOBAL = '[global]\nupstream = "https://git.example.net/config.git"\n'
DIRS = 'dirs = [{ local = "/etc/nginx", link = "nginx" }]'
HEAD = '[[services]]\nmachine = "web1"\nservice = "nginx"\n'


def problems(text: str, *, hosts: frozenset[str] = frozenset({"web1"}), **more) -> list[tuple[str, str]]:
    """Return path and message of each mistake in `text`."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, origin="gitopper.toml", hosts=hosts, root=True, environ={}, **more)
    return [(problem.path, problem.message) for problem in caught.value.problems]


def service(*lines: str, dirs: str = DIRS, name: str = "nginx", machine: str = "web1") -> str:
    head = f'[[services]]\nmachine = "{machine}"\nservice = "{name}"\n'
    return head + "\n".join((*lines, dirs)) + "\n"


def mapped(*locals_: str) -> str:
    return "dirs = [" + ", ".join(f'{{ local = "{path}", link = "x" }}' for path in locals_) + "]"


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


def test_ten_mistakes_are_ten_problems_in_file_order_each_with_its_remedy():
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


def test_the_error_reads_as_a_list_with_file_path_value_and_remedy():
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
def test_a_bad_line_of_a_service_is_the_only_problem(line, path, says):
    ((where, message),) = problems(GLOBAL + service(line))
    assert where == f"services[0].{path}"
    assert says in message


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
def test_bad_dirs_are_the_only_problem(dirs, path, says):
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
def test_tables_that_are_wrong(text, path, says):
    found = dict(problems(text))
    assert says in found[path]


def test_each_service_without_an_upstream_is_told():
    found = problems(service() + service(name="app", dirs=mapped("/etc/app")))
    assert [path for path, _ in found] == ["services[0].upstream", "services[1].upstream"]
    assert all("here, or in [global]" in message for _, message in found)


def test_a_bad_upstream_in_global_is_told_once():
    found = problems(GLOBAL.replace("https", "ftp") + service() + service(name="a", dirs=mapped("/a")))
    assert [path for path, _ in found] == ["global.upstream"]


def test_a_bad_default_for_systemd_is_told_once_and_where_it_is_written():
    text = GLOBAL + 'action = "kick"\n' + service() + service(name="app", dirs=mapped("/etc/app"))
    assert [path for path, _ in problems(text)] == ["global.action"]


def test_a_typo_for_another_host_is_found_on_any():
    ((path, _),) = problems(GLOBAL + service('interval = "soon"', machine="elsewhere"))
    assert path == "services[0].interval"


@pytest.mark.parametrize("machine", ['""', '"a b"', '"web["', '"web]"', '"web[]"', '"a/b"', '"web,db"'])
def test_a_machine_that_could_never_match_is_told(machine):
    text = GLOBAL + service().replace('"web1"', f'["ok", {machine}]')
    ((path, message),) = problems(text)
    assert path == "services[0].machine[1]"
    assert "write" in message


def test_no_machine_at_all_is_told():
    assert problems(GLOBAL + service().replace('"web1"', "[]"))[0][0] == "services[0].machine"


@pytest.mark.parametrize(
    "name", ["", ".gitopper", "-x", "a/b", "..", "a\\n", "a b", "x" * 201, "nginx\\u0000", "é"]
)
def test_a_name_that_is_no_unit_is_told(name):
    assert [path for path, _ in problems(GLOBAL + service(name=name))] == ["services[0].service"]


class TestServicesOfOneHost:
    def test_one_name_twice(self):
        ((path, message),) = problems(GLOBAL + service() + service(dirs=mapped("/b")))
        assert path == "services[1].service"
        assert '"nginx" is services[0] already' in message
        assert "(both run on web1)" in message

    def test_one_name_on_two_hosts_is_fine(self):
        text = GLOBAL + service() + service(machine="web2")
        config = parse_config(text, origin="x", hosts={"web1"}, root=True, environ={})
        assert len(config.services) == 1

    def test_a_clash_on_another_host_is_found_on_any(self):
        text = GLOBAL + service(machine="db1") + service(machine="db*", dirs=mapped("/b"))
        ((path, message),) = problems(text)
        assert path == "services[1].service"
        assert "(both run on db1)" in message

    def test_a_clash_that_only_this_host_shows(self):
        text = GLOBAL + service(machine="w*") + service(machine="*1", dirs=mapped("/b"))
        assert parse_config(text, origin="x", hosts={"w2"}, root=True, environ={}).services
        assert [path for path, _ in problems(text)] == ["services[1].service"]

    def test_a_clash_of_a_glob_is_found_on_any_host(self):
        text = GLOBAL + service(machine="db*") + service(machine="DB*", dirs=mapped("/b"))
        ((path, message),) = problems(text)
        assert path == "services[1].service"
        assert "(both run on db*)" in message

    def test_one_path_mapped_by_two(self):
        ((path, message),) = problems(GLOBAL + service() + service(name="app"))
        assert path == "services[1].dirs[0].local"
        assert '"/etc/nginx" is services[0].dirs[0].local already; map a path once' in message

    def test_a_path_inside_another_services(self):
        text = GLOBAL + service() + service(name="app", dirs=mapped("/etc/nginx/app"))
        ((path, message),) = problems(text)
        assert path == "services[1].dirs[0].local"
        assert 'lies inside "/etc/nginx" (services[0].dirs[0].local)' in message

    def test_names_that_only_begin_alike_are_not_nested(self):
        text = GLOBAL + service() + service(name="app", dirs=mapped("/etc/nginx2"))
        assert len(parse_config(text, origin="x", hosts={"web1"}, root=True, environ={}).services) == 2

    def test_one_upstream_with_two_credentials(self):
        text = GLOBAL + service() + service('credentials = "/c"', name="app", dirs=mapped("/a"))
        ((path, message),) = problems(text)
        assert path == "services[1].upstream"
        assert "share one store" in message

    def test_a_path_inside_another_services_mount(self):
        text = GLOBAL + service('mount = "/srv/m"') + service(name="app", dirs=mapped("/srv/m/app"))
        ((path, message),) = problems(text)
        assert path == "services[1].dirs[0].local"
        assert 'lies inside the mount "/srv/m"' in message

    def test_a_mount_that_leads_through_a_live_link(self):
        more = 'mount = "/var/lib/gitopper/nginx/x"'
        ((path, _),) = problems(GLOBAL + service() + service(more, name="app", dirs=mapped("/a")))
        assert path == "services[1].mount"

    def test_a_global_mount_that_leads_through_a_live_link(self):
        text = GLOBAL + 'mount = "/srv/nginx"\n' + service('mount = "/srv"')
        assert [path for path, _ in problems(text)] == ["global.mount"]

    def test_a_bad_key_is_not_judged_by_the_default_that_it_hides(self):
        text = GLOBAL + 'reload = "command"\n' + service('reload = "/x"', 'mount = "x"')
        assert [path for path, _ in problems(text)] == ["services[0].reload", "services[0].mount"]
        text = GLOBAL + 'action = "kick"\n' + service('action = "a b"')
        assert [path for path, _ in problems(text)] == ["services[0].action"]

    def test_a_clash_inside_one_service_is_told_once(self):
        text = GLOBAL + service(dirs=mapped("/a", "/a/b")) + service(name="app", dirs=mapped("/c"))
        assert [path for path, _ in problems(text)] == ["services[0].dirs[1].local"]

    def test_a_bad_key_does_not_hide_a_clash(self):
        found = problems(GLOBAL + service("keep = 0") + service(name="app"))
        assert [path for path, _ in found] == ["services[0].keep", "services[1].dirs[0].local"]


class TestKeysThatContradictEachOther:
    def test_a_command_for_systemd(self):
        ((path, _),) = problems(GLOBAL + service('reload = "systemd"', 'command = ["x"]'))
        assert path == "services[0].command"

    def test_readonly_with_symlinks(self):
        ((path, message),) = problems(GLOBAL + "readonly = true\n" + service('publish = "symlink"'))
        assert path == "global.readonly"
        assert 'write publish = "bind"' in message

    def test_readonly_is_fine_where_symlink_is_only_the_default(self):
        text = GLOBAL + service("readonly = true")
        environ = {"HOME": "/home/ann"}
        assert parse_config(text, origin="x", hosts={"web1"}, root=False, environ=environ).services

    def test_credentials_in_the_url_and_in_a_file(self):
        text = service('upstream = "https://a:b@h/x"', 'credentials = "/c"')
        ((path, message),) = problems(text)
        assert path == "services[0].credentials"
        assert "take it out of the URL" in message

    def test_credentials_beside_a_bad_upstream_are_not_blamed(self):
        text = service('upstream = "ftp://h/x"', 'credentials = "/c"')
        assert [path for path, _ in problems(text)] == ["services[0].upstream"]

    def test_credentials_for_ssh(self):
        ((path, message),) = problems(service('upstream = "ssh://h/x"', 'credentials = "/c"'))
        assert path == "services[0].credentials"
        assert "write ssh_key" in message

    def test_global_credentials_for_no_upstream(self):
        text = '[global]\ncredentials = "/c"\n' + service('upstream = "https://h/x"')
        ((path, message),) = problems(text)
        assert path == "global.credentials"
        assert "move this key to the services" in message


def test_a_mistake_on_the_command_line_is_told_as_one():
    ((path, message),) = problems(GLOBAL + service(), overrides=Overrides(upstream="ftp://h/x"))
    assert path == "overrides.upstream"
    assert '"ftp"' in message


@pytest.mark.parametrize(
    "line",
    [
        'upstream = "ssh://git:hunter2@host/x"',
        'upstream = "ftp://bob:hunter2@host/x"',
        'upstream = "https://bob:hunter2@host"',
        'upstream = "https://bob:hun/hunter2@host/x"',
        'upstream = "https://bob:1/hunter2@host/x"',
        'upstream = "https://bob/hunter2@host/x"',
        'upstream = "https://bob:hun#hunter2@host/x"',
        'upstream = "https://bob:hun?hunter2@host/x"',
        'upstream = "https://bob:a@hunter2@ho st/x"',
        'upstream = "https://hunter2@host:nan/x"',
        'upstream = "https://host/x?token=hunter2"',
        'upstream = "https://host/x?token=a@hunter2"',
        'upstream = "bob:hunter2@host/x"',
        'upstream = "hunter2@host/x"',
        'upstream = "hunter2:x-oauth-basic@host/x"',
        'upstream = ["https://bob:hunter2@host/x"]',
        'branch = "https://bob:hunter2@host/x"',
        'interval = "https://bob:hunter2@host/x"',
        'upstrem = "https://bob:hunter2@host/x"',
        'credentials = "bob:hunter2"',
        'credentials = "hunter2"',
        'ssh_key = "hunter2"',
        'command = "curl -u bob:hunter2 http://host"',
        'password = "hunter2"',
    ],
)
def test_a_secret_is_never_in_a_problem(line):
    with pytest.raises(ConfigError) as caught:
        parse_config(GLOBAL + service(line), origin="x", hosts={"web1"}, root=True, environ={})
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value.problems)


class TestFiles:
    def load(self, path) -> str:
        with pytest.raises(ConfigError) as caught:
            load_config(path, hosts={"web1"}, root=True, environ={})
        (problem,) = caught.value.problems
        assert problem.path == ""
        assert str(caught.value).startswith(f"{path}: ")
        return problem.message

    def test_missing(self, tmp_path):
        assert "No such file or directory; name a file that exists" in self.load(tmp_path / "x.toml")

    def test_a_directory(self, tmp_path):
        assert "name the file in it" in self.load(tmp_path)

    def test_unreadable(self, tmp_path, monkeypatch):
        def refuse(path):  # the kernel refuses root nothing, and the tests run as root too
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

        monkeypatch.setattr(Path, "read_bytes", refuse)
        assert self.load(tmp_path / "x.toml") == (
            "can't be read: Permission denied; let this user read it, or run as one who may"
        )

    def test_a_link_to_itself(self, tmp_path):
        path = tmp_path / "x.toml"
        path.symlink_to(path)
        assert "see that it can be read" in self.load(path)

    def test_a_name_with_a_nul(self):
        assert "name another file" in self.load(Path("x\0.toml"))

    def test_not_utf8(self, tmp_path):
        path = tmp_path / "x.toml"
        path.write_bytes(b'[global]\nbranch = "m\xe4in"\n')
        assert self.load(path) == "the byte 0xe4 at line 2, byte 12 is not UTF-8; save the file as UTF-8"

    def test_not_toml(self, tmp_path):
        path = tmp_path / "x.toml"
        path.write_text("[global]\nbranch = main\n")
        assert "not valid TOML" in (message := self.load(path))
        assert "(at line 2, column 10)" in message

    def test_numbers_and_nesting_beyond_what_python_takes(self, tmp_path):
        path = tmp_path / "x.toml"
        for text in ("a = " + "9" * 5000, "a = " + "[" * 5000 + "]" * 5000):
            path.write_text(text)
            assert self.load(path)


def test_a_huge_number_is_told_without_printing_it():
    ((path, message),) = problems(GLOBAL + service("keep = 0x" + "f" * 6000))
    assert path == "services[0].keep"
    assert "a huge number" in message
