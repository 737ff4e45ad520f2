"""Services of one host that get in the way of each other, and keys that contradict each other, are told."""

from libgitopper.config import parse_config
from tests.support.configs import GLOBAL, mapped, problems, service


class TestServicesOfOneHost:
    def test_one_name_twice(self) -> None:
        ((path, message),) = problems(GLOBAL + service() + service(dirs=mapped("/b")))
        assert path == "services[1].service"
        assert '"nginx" is services[0] already' in message
        assert "(both run on web1)" in message

    def test_one_name_on_two_hosts_is_fine(self) -> None:
        text = GLOBAL + service() + service(machine="web2")
        config = parse_config(text, origin="x", hosts={"web1"}, root=True, environ={})
        assert len(config.services) == 1

    def test_a_clash_on_another_host_is_found_on_any(self) -> None:
        text = GLOBAL + service(machine="db1") + service(machine="db*", dirs=mapped("/b"))
        ((path, message),) = problems(text)
        assert path == "services[1].service"
        assert "(both run on db1)" in message

    def test_a_clash_that_only_this_host_shows(self) -> None:
        text = GLOBAL + service(machine="w*") + service(machine="*1", dirs=mapped("/b"))
        assert parse_config(text, origin="x", hosts={"w2"}, root=True, environ={}).services
        assert [path for path, _ in problems(text)] == ["services[1].service"]

    def test_a_clash_of_a_glob_is_found_on_any_host(self) -> None:
        text = GLOBAL + service(machine="db*") + service(machine="DB*", dirs=mapped("/b"))
        ((path, message),) = problems(text)
        assert path == "services[1].service"
        assert "(both run on db*)" in message

    def test_one_path_mapped_by_two(self) -> None:
        ((path, message),) = problems(GLOBAL + service() + service(name="app"))
        assert path == "services[1].dirs[0].local"
        assert '"/etc/nginx" is services[0].dirs[0].local already; map a path once' in message

    def test_a_path_inside_another_services(self) -> None:
        text = GLOBAL + service() + service(name="app", dirs=mapped("/etc/nginx/app"))
        ((path, message),) = problems(text)
        assert path == "services[1].dirs[0].local"
        assert 'lies inside "/etc/nginx" (services[0].dirs[0].local)' in message

    def test_names_that_only_begin_alike_are_not_nested(self) -> None:
        text = GLOBAL + service() + service(name="app", dirs=mapped("/etc/nginx2"))
        assert len(parse_config(text, origin="x", hosts={"web1"}, root=True, environ={}).services) == 2

    def test_one_upstream_with_two_credentials(self) -> None:
        text = GLOBAL + service() + service('credentials = "/c"', name="app", dirs=mapped("/a"))
        ((path, message),) = problems(text)
        assert path == "services[1].upstream"
        assert "share one store" in message

    def test_a_path_inside_another_services_mount(self) -> None:
        text = GLOBAL + service('mount = "/srv/m"') + service(name="app", dirs=mapped("/srv/m/app"))
        ((path, message),) = problems(text)
        assert path == "services[1].dirs[0].local"
        assert 'lies inside the mount "/srv/m"' in message

    def test_a_mount_that_leads_through_a_live_link(self) -> None:
        more = 'mount = "/var/lib/gitopper/nginx/x"'
        ((path, _),) = problems(GLOBAL + service() + service(more, name="app", dirs=mapped("/a")))
        assert path == "services[1].mount"

    def test_a_global_mount_that_leads_through_a_live_link(self) -> None:
        text = GLOBAL + 'mount = "/srv/nginx"\n' + service('mount = "/srv"')
        assert [path for path, _ in problems(text)] == ["global.mount"]

    def test_a_bad_key_is_not_judged_by_the_default_that_it_hides(self) -> None:
        text = GLOBAL + 'reload = "command"\n' + service('reload = "/x"', 'mount = "x"')
        assert [path for path, _ in problems(text)] == ["services[0].reload", "services[0].mount"]
        text = GLOBAL + 'action = "kick"\n' + service('action = "a b"')
        assert [path for path, _ in problems(text)] == ["services[0].action"]

    def test_a_clash_inside_one_service_is_told_once(self) -> None:
        text = GLOBAL + service(dirs=mapped("/a", "/a/b")) + service(name="app", dirs=mapped("/c"))
        assert [path for path, _ in problems(text)] == ["services[0].dirs[1].local"]

    def test_a_bad_key_does_not_hide_a_clash(self) -> None:
        found = problems(GLOBAL + service("keep = 0") + service(name="app"))
        assert [path for path, _ in found] == ["services[0].keep", "services[1].dirs[0].local"]


class TestKeysThatContradictEachOther:
    def test_a_command_for_systemd(self) -> None:
        ((path, _),) = problems(GLOBAL + service('reload = "systemd"', 'command = ["x"]'))
        assert path == "services[0].command"

    def test_readonly_with_symlinks(self) -> None:
        ((path, message),) = problems(GLOBAL + "readonly = true\n" + service('publish = "symlink"'))
        assert path == "global.readonly"
        assert 'write publish = "bind"' in message

    def test_readonly_is_fine_where_symlink_is_only_the_default(self) -> None:
        text = GLOBAL + service("readonly = true")
        environ = {"HOME": "/home/ann"}
        assert parse_config(text, origin="x", hosts={"web1"}, root=False, environ=environ).services

    def test_credentials_in_the_url_and_in_a_file(self) -> None:
        text = service('upstream = "https://a:b@h/x"', 'credentials = "/c"')
        ((path, message),) = problems(text)
        assert path == "services[0].credentials"
        assert "take it out of the URL" in message

    def test_credentials_beside_a_bad_upstream_are_not_blamed(self) -> None:
        text = service('upstream = "ftp://h/x"', 'credentials = "/c"')
        assert [path for path, _ in problems(text)] == ["services[0].upstream"]

    def test_credentials_for_ssh(self) -> None:
        ((path, message),) = problems(service('upstream = "ssh://h/x"', 'credentials = "/c"'))
        assert path == "services[0].credentials"
        assert "write ssh_key" in message

    def test_global_credentials_for_no_upstream(self) -> None:
        text = '[global]\ncredentials = "/c"\n' + service('upstream = "https://h/x"')
        ((path, message),) = problems(text)
        assert path == "global.credentials"
        assert "move this key to the services" in message
