"""What a check sees: the release at its real paths, and the host around it. Others see nothing of it."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import cast

import pytest

from gitopper_plugins import bind, symlink
from libgitopper import CheckError, CheckRequest, MountRequest, MountVerb, Release
from tests.support.checking import Site, hooks, make_site, mounts, tree, watching
from tests.support.namespace import in_mount_namespace, make_propagation, mount_tmpfs
from tests.support.ordinary import as_ordinary_user

NEW = {"web/conf": "new\n", "web/sites/one": "new\n", "one.conf": "new\n"}
OLD = dict.fromkeys(NEW, "old\n")


def publish(site: Site, release: Release) -> None:
    plugin = bind if site.service.publish == "bind" else symlink
    request = MountRequest(service=site.service, verb=MountVerb.PUBLISH, release=release)
    published = plugin.gitopper_mount(request)
    assert published is not None
    assert published.release == release.id


class Cases:
    """Where a release can be wanted. Each test runs as root, and as an ordinary user."""

    publish = "symlink"

    def site(self, home: Path) -> Site:
        return make_site(home / "site", publish=self.publish)

    def check_quietly(self, site: Site, script: str) -> str:
        """Return what `script` prints in the view; fail when anything of the view is seen outside of it."""
        release = site.release("new", NEW)
        tops = [site.home, *site.home.iterdir()]
        before, mounted = tree(site.home), mounts()
        # Long enough to be seen, if there is something to see.
        with watching(lambda: tuple(_names(top) for top in tops)) as seen:
            told = site.seen(release, f"{script}; sleep 0.1")
        (site.out / "seen").unlink()
        assert {_without(names, "seen") for names in seen} == {_without(seen[0], "seen")}
        assert tree(site.home) == before
        assert mounts() == mounted
        site.assert_nothing_runs()
        return told

    def test_a_directory_that_is_there(self, place: Path) -> None:
        site = self.site(place)
        site.mapped(("web", "etc"))
        (site.home / "etc").mkdir()
        (site.home / "etc/own").write_text("what was there before")
        assert self.check_quietly(site, "cd $HERE/etc; ls; cat conf sites/one") == "conf\nsites\nnew\nnew\n"

    def test_a_file_that_is_there(self, place: Path) -> None:
        site = self.site(place)
        site.mapped(("one.conf", "one.conf"), files=["one.conf"])
        (site.home / "one.conf").write_text("own")
        assert self.check_quietly(site, "cat $HERE/one.conf") == "new\n"

    def test_places_that_are_missing_below_one_directory(self, place: Path) -> None:
        site = self.site(place)
        site.mapped(
            ("web", "etc/a/b"), ("one.conf", "etc/a/c/one"), ("web/sites", "etc/d"), files=["one.conf"]
        )
        (site.home / "etc").mkdir()
        (site.home / "etc/own").write_text("own\n")
        (site.home / "etc/link").symlink_to("own")
        script = (
            "cd $HERE/etc; ls; cat a/b/conf a/c/one d/one own link; readlink link; touch x; test ! -e /x"
        )
        told = self.check_quietly(site, script)
        assert told == "a\nd\nlink\nown\nnew\nnew\nnew\nown\nown\nown\n"

    def test_what_is_beside_a_missing_place_is_the_real_thing(self, place: Path) -> None:
        site = self.site(place)
        site.mapped(("web", "etc"))
        (site.home / "log").mkdir()
        (site.home / "state").write_text("one\n")
        assert site.seen(
            site.release("new", NEW), "cat $HERE/etc/conf; echo x >$HERE/log/new; cat $HERE/state"
        )
        assert (site.home / "log/new").read_text() == "x\n"
        site.check(site.release("new", NEW), "echo two >>$HERE/state")
        assert (site.home / "state").read_text() == "one\ntwo\n", "a file beside it is no copy"

    def test_a_file_where_a_directory_is_wanted_and_the_other_way_round(self, place: Path) -> None:
        site = self.site(place)
        site.mapped(("web", "etc"), ("one.conf", "one"), ("web/sites", "way/deep"), files=["one.conf"])
        (site.home / "etc").write_text("a file")
        (site.home / "one").mkdir()
        (site.home / "way").write_text("a file")
        assert self.check_quietly(site, "cd $HERE; cat etc/conf one way/deep/one; ls") == (
            "new\nnew\nnew\ndata\netc\none\nout\nway\n"
        )

    def test_links_are_followed_also_those_that_lead_nowhere(self, place: Path) -> None:
        site = self.site(place)
        site.mapped(("web", "etc"), ("one.conf", "one"), files=["one.conf"])
        (site.home / "real").mkdir()
        (site.home / "etc").symlink_to("real")
        (site.home / "one").symlink_to(site.home / "nowhere/at/all")
        told = self.check_quietly(site, "cd $HERE; cat etc/conf real/conf one nowhere/at/all")
        assert told == "new\n" * 4

    def test_a_link_that_leads_to_itself_is_named(self, place: Path) -> None:
        site = self.site(place)
        site.mapped(("web", "etc"))
        (site.home / "etc").symlink_to("etc")
        with pytest.raises(
            CheckError, match=rf"no private view.*{site.home}/etc.*symbolic links"
        ) as failed:
            site.check(site.release("new", NEW), "true")
        assert failed.value.retryable

    def test_what_is_mounted_below_a_directory_with_a_missing_place_stays_in_sight(
        self, place: Path
    ) -> None:
        site = self.site(place)
        site.mapped(("web", "etc/web"))
        (site.home / "etc/other").mkdir(parents=True)
        # An ordinary user can't mount here, but sees what is mounted all over the host.
        if os.geteuid() == 0:
            mount_tmpfs(site.home / "etc/other")
            (site.home / "etc/other/below").mkdir()
            mount_tmpfs(site.home / "etc/other/below")
            (site.home / "etc/other/below/conf").write_text("other\n")
            assert site.seen(
                site.release("new", NEW), "cat $HERE/etc/other/below/conf $HERE/etc/web/conf"
            ) == ("other\nnew\n")
        else:
            inside = site.seen(site.release("new", NEW), "grep -c . /proc/self/mountinfo")
            assert int(inside) >= len(mounts().splitlines())

    def test_a_place_below_a_directory_of_the_root_that_is_missing(self, place: Path) -> None:
        site = self.site(place)
        missing = Path("/gitopper-missing")
        site.mapped(("web", missing / "etc"))
        told = site.seen(
            site.release("new", NEW),
            f"cat {missing}/etc/conf; cd /; ls -d etc usr proc; ls /proc/self/fd | wc -l",
        )
        assert told.startswith("new\netc\nproc\nusr\n")
        assert not missing.exists()

    def test_a_second_look_at_what_is_published_by_link_already(self, place: Path) -> None:
        site = make_site(place / "site", publish="symlink")
        site.mapped(("web", "etc"), ("one.conf", "one"), files=["one.conf"])
        old, new = site.release("old", OLD), site.release("new", NEW)
        assert site.seen(old, "cat $HERE/etc/conf $HERE/one") == "old\nold\n", "at the first deploy"
        assert not os.path.lexists(site.home / "etc")
        publish(site, old)
        with watching(
            lambda: (site.home / "etc/conf").read_text() + (site.home / "one").read_text()
        ) as seen:
            assert site.seen(new, "cat $HERE/etc/conf $HERE/one; sleep 0.1") == "new\nnew\n"
        assert seen == ["old\nold\n"]
        publish(site, new)
        assert (site.home / "etc/conf").read_text() == "new\n"

    def test_a_path_that_the_former_release_does_not_have(self, place: Path) -> None:
        site = make_site(place / "site", publish="symlink")
        site.mapped(("web", "etc"))
        publish(site, site.release("old", OLD))
        former = tree(site.service.mount)
        site.mapped(("moved", "etc"))
        (site.home / "etc").unlink()
        (site.home / "etc").symlink_to(site.service.live / "moved")
        moved = site.release("newer", {"moved/conf": "newer\n"})
        assert site.seen(moved, "cat $HERE/etc/conf; ! touch $HERE/data/app/x 2>/dev/null") == "newer\n"
        assert {name: former[name] for name in former if "old" in name} == {
            name: about for name, about in tree(site.service.mount).items() if "old" in name
        }


Names = tuple[str, ...]


def _names(top: Path) -> Names:
    return (
        tuple(sorted(path.name for path in top.iterdir())) if top.is_dir() else (str(top.lstat().st_ino),)
    )


def _without(seen: object, name: str) -> tuple[Names, ...]:
    return tuple(tuple(n for n in names if n != name) for names in cast("tuple[Names, ...]", seen))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path


@in_mount_namespace
class TestAsRoot(Cases):
    """In a mount namespace, as the daemon in that of the host."""

    def test_what_is_published_by_mount_already(self, place: Path) -> None:
        site = make_site(place / "site")
        site.mapped(("web", "etc"), ("one.conf", "one"), files=["one.conf"])
        old, new = site.release("old", OLD), site.release("new", NEW)
        publish(site, old)
        mounted = mounts()
        with watching(
            lambda: (site.home / "etc/conf").read_text() + (site.home / "one").read_text()
        ) as seen:
            assert site.seen(new, "cat $HERE/etc/conf $HERE/one; sleep 0.1") == "new\nnew\n"
        assert seen == ["old\nold\n"]
        assert mounts() == mounted
        publish(site, new)

    def test_other_services_below_a_missing_directory_keep_their_files(self, place: Path) -> None:
        other, site = make_site(place / "other"), make_site(place / "site")
        other.mapped(("web", site.home / "etc/other"))
        publish(other, other.release("old", OLD))
        site.mapped(("web", "etc/web"))
        script = (
            "cat $HERE/etc/other/conf $HERE/etc/web/conf; touch $HERE/etc/other/x; rm $HERE/etc/other/x"
        )
        assert site.seen(site.release("new", NEW), script) == "old\nnew\n"

    def test_a_host_that_shares_its_mounts_as_systemd_does_sees_nothing(self, place: Path) -> None:
        make_propagation(Path("/"), "shared", recursive=True)
        site = make_site(place / "site")
        site.mapped(("web", "etc"), ("web", "missing/etc"))
        (site.home / "etc").mkdir()
        with watching(mounts) as seen:
            assert site.seen(site.release("new", NEW), "cat $HERE/etc/conf; sleep 0.2") == "new\n"
        assert len(seen) == 1
        assert not (site.home / "missing").exists()

    def test_more_entries_than_a_process_may_open_files(self, place: Path) -> None:
        site = make_site(place / "site")
        site.mapped(("web", "many/web"))
        (site.home / "many").mkdir()
        for number in range(1500):
            (site.home / "many" / str(number)).touch()
        assert site.seen(site.release("new", NEW), "ls $HERE/many | wc -l").strip() == "1501"

    @pytest.mark.root
    def test_nginx_judges_a_configuration_where_it_looks_for_it(self, place: Path) -> None:
        program = shutil.which("nginx", path="/usr/sbin:/usr/bin")
        assert program, "install nginx-light"
        conf = Path("/etc/nginx")
        mount_tmpfs(Path("/run"))
        mount_tmpfs(Path("/var/log"))
        Path("/var/log/nginx").mkdir()
        mount_tmpfs(conf)
        (conf / "nginx.conf").write_text("events {}\nhttp { server { listen 127.0.0.1:1; } }\n")
        site = make_site(place / "site")
        site.mapped(("nginx", conf))
        good = "events {}\nhttp { include /etc/nginx/sites/*; }\n"
        files = {"nginx/nginx.conf": good, "nginx/sites/one": "server { listen 127.0.0.1:1; }\n"}
        request = site.request(site.release("good", files), (program, "-t"))
        assert _ask(request) == ""
        bad = site.release(
            "bad", files | {"nginx/sites/one": "server {\n  listen 127.0.0.1:1;\n  foo bar;\n}\n"}
        )
        with pytest.raises(CheckError) as refused:
            _ask(site.request(bad, (program, "-t")))
        assert re.fullmatch(
            rf"{program} -t: exit code 1: .*\[emerg\].* unknown directive \"foo\" in /etc/nginx/sites/one:3"
            r" \| nginx: configuration file /etc/nginx/nginx.conf test failed",
            str(refused.value),
        )
        assert not refused.value.retryable
        assert (conf / "nginx.conf").read_text().startswith("events {}\nhttp { server")

    def test_a_source_that_is_mounted_over_by_what_comes_before_it(self, place: Path) -> None:
        """A mapping that covers the directory in which the releases are."""
        site = make_site(place / "site")
        site.mapped(("web", "data"), ("one.conf", "one"), files=["one.conf"])
        assert site.seen(site.release("new", NEW), "cat $HERE/data/conf $HERE/one") == "new\nnew\n"


@as_ordinary_user
class TestAsOrdinaryUser(Cases):
    """In a user namespace, which the check makes for itself."""


def _ask(request: CheckRequest) -> str:
    (accepted,) = hooks().check(request)
    return accepted.note
