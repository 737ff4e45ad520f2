"""A configuration without a service for this host: nothing is withdrawn, and who reloads it is told."""

from __future__ import annotations

from tests.support.simulateddaemon import ctl
from tests.support.site import Site


def test_who_reloads_a_config_with_no_service_for_this_host_is_told_what_is_still_published(
    site: Site,
) -> None:
    site.commit("motd", "1")
    tip = site.commit(text="1")
    site.configure("web", "motd")
    at = f"@unix:{site.home}/gitopperd.sock"
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", tip)
        daemon.wait_for("motd", "OK", tip)
        ours = daemon.config.read_text()
        assert ctl("do", "reload-config", at).stdout.endswith("the configuration is read; services: 2\n")
        daemon.config.write_text(ours.replace('machine = "*"', 'machine = "another.example.net"'))
        told = ctl("do", "reload-config", at).stdout
        assert "the configuration is read; services: 0; " in told
        assert "nothing is withdrawn; still published: " in told
        assert "Is the host name right?" in told
        assert ("motd" in told, "web" in told) == (True, True)
        assert (site.shown("web"), site.shown("motd")) == ("1", "1")
        entry = daemon.get("/audit?limit=1")["audit"][0]
        assert "still published" in entry["reason"]
        daemon.config.write_text(ours)
        assert ctl("do", "reload-config", at).stdout.endswith("the configuration is read; services: 2\n")
