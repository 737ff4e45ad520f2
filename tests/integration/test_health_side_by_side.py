"""Services whose health is watched keep nobody waiting: no other service, and no operator."""

from __future__ import annotations

from gitopperd.work.threads import PASSES
from tests.support.daemon import wait_until
from tests.support.site import Site

WATCHED = 'health = { command = ["false"], within = "10m", interval = "5m" }'


def test_more_watches_than_places_for_passes_hold_up_neither_a_deploy_nor_a_new_configuration(
    site: Site,
) -> None:
    watched = [f"watched{number:02}" for number in range(PASSES + 2)]
    site.upstream.commit({f"{name}/etc/conf": "1" for name in (*watched, "quiet")})
    ill = [f"{name}: {WATCHED}" for name in watched]
    site.configure(*ill, interval="1h")
    with site.daemon as daemon:
        wait_until(lambda: all(site.reloads(name) for name in watched), "not all of them are watched")
        site.configure(*ill, "quiet", interval="1h")
        status, _ = daemon.ask("POST", "/do/reload-config")
        assert status == 200
        daemon.wait_for("quiet", "OK")
        assert {daemon.service(name)["state"] for name in watched} == {"DIFF"}, "a watch has ended"
