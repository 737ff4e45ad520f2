"""The daemon itself on addresses that others reach: what it asks for first, and what it answers to whom."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.certificates import Authority, Pair
from tests.support.daemon import Daemon, wait_until
from tests.support.site import Site


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki") / "ca")


@pytest.fixture
def live(tmp_path: Path, authority: Authority) -> Pair:
    pair = Pair(certificate=tmp_path / "live.pem", key=tmp_path / "live.key")
    authority.issue("daemon", end="20990601120000Z").copy_to(pair)
    return pair


def api(daemon: Daemon, *lines: str) -> None:
    """Add ``[api]`` with `lines` to the config."""
    text = daemon.config.read_text().partition("[api]")[0]
    daemon.config.write_text("\n".join([text, "[api]", *lines, ""]))


def tls(pair: Pair) -> tuple[str, str]:
    return f'certificate = "{pair.certificate}"', f'key = "{pair.key}"'


def get(daemon: Daemon, authority: Authority, path: str = "/list/services") -> tuple[int, str]:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    connection = http.client.HTTPSConnection("localhost", daemon.port, context=context, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def refused(daemon: Daemon, *arguments: str) -> str:
    done = subprocess.run(
        daemon.command(*arguments), capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2, done.stderr
    return done.stderr


def test_an_open_address_without_tls_is_refused_with_the_remedy(site: Site) -> None:
    site.configure("web")
    daemon = site.daemon
    for told in (refused(daemon, "-a", "0.0.0.0:0"), refused(daemon, "-a", "[::]:0")):
        assert "write certificate and key in [api], or listen on 127.0.0.1" in told
    api(daemon, 'listen = "0.0.0.0:8000"')
    assert 'gitopper.toml: api.listen: "0.0.0.0:8000" can be reached from other hosts' in refused(daemon)
    assert not (site.home / "state").exists()


def test_the_config_says_where_to_listen_and_the_command_line_wins(site: Site) -> None:
    site.configure("web")
    port = free_port()
    api(site.daemon, f'listen = "127.0.0.1:{port}"')
    site.daemon.address = None
    with site.daemon as daemon:
        assert daemon.port == port
        daemon.address = "127.0.0.1:0"
        daemon.restart()
        assert daemon.port != port
        assert daemon.ask("GET", "/healthz", tcp=True)[0] == 200


def test_plain_http_in_the_open_is_said_loudly_at_each_start(site: Site) -> None:
    site.configure("web")
    api(site.daemon, "insecure = true")
    site.daemon.address = "0.0.0.0:0"
    with site.daemon as daemon:
        assert daemon.ask("GET", "/list/services", tcp=True)[0] == 200
        daemon.restart()
        assert daemon.text().count("WARNING INSECURE: answering on 0.0.0.0:0 in plain http") == 2


def test_it_answers_with_tls_and_follows_the_certificate(
    site: Site, live: Pair, authority: Authority
) -> None:
    site.configure("web")
    api(site.daemon, *tls(live))
    site.daemon.address = "[::]:0"
    with site.daemon as daemon:
        assert f"answering on [::]:{daemon.port} (TLS)" in daemon.text()
        assert get(daemon, authority)[0] == 200
        metrics = get(daemon, authority, "/metrics")[1]
        found = re.search(r"^gitopper_certificate_expiry_time_seconds (\S+)$", metrics, re.MULTILINE)
        assert found
        assert float(found[1]) == ssl.cert_time_to_seconds("Jun  1 12:00:00 2099 GMT")
        authority.issue("renewed", end="20980601120000Z").copy_to(live)
        wait_until(lambda: "another certificate is in use, until 2098-06-01" in daemon.text(), "not taken")
        shutil.copyfile(authority.issue("stranger").key, live.key)
        wait_until(lambda: "the certificate of before stays in use" in daemon.text(), "not told")
        time.sleep(2.5)
        assert daemon.text().count("the certificate of before stays in use") == 1
        assert get(daemon, authority)[0] == 200


def test_a_certificate_that_is_missing_keeps_no_service_from_its_files(
    site: Site, live: Pair, authority: Authority
) -> None:
    tip = site.commit()
    site.configure("web")
    live.certificate.unlink()
    api(site.daemon, *tls(live))
    site.daemon.address = "0.0.0.0:0"
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", tip)
        assert f"{live.certificate}: No such file or directory" in daemon.text()
        with pytest.raises(OSError):
            get(daemon, authority)
        authority.issue("late").copy_to(live)
        wait_until(lambda: "another certificate is in use" in daemon.text(), "not taken")
        assert get(daemon, authority)[0] == 200


ELSEWHERE = """
ip link set lo up
ip addr add 192.0.2.1/32 dev lo
{daemon} & trap 'kill $!; wait' EXIT
for _ in $(seq 100); do
    curl -s --noproxy '*' --unix-socket {socket} http://x/healthz >/dev/null && break
    sleep 0.1
done
for url in {urls}; do
    printf '%s ' "$url"
    curl -sS --noproxy '*' --cacert {ca} -o /dev/null -w '%{{http_code}}\\n' "$url" || exit
done
"""


@pytest.mark.parametrize(
    ("anonymous", "near", "far"), [(None, "200", "401"), ("read", "200", "200"), ("none", "401", "401")]
)
def test_the_anonymous_read_from_this_host_only_unless_the_config_says_otherwise(
    site: Site, authority: Authority, anonymous: str | None, near: str, far: str
) -> None:
    """In a network namespace with an address that is not loopback's; whoever uses it has that address."""
    pair = authority.issue("everywhere", names="IP:127.0.0.1,IP:::1,IP:192.0.2.1")
    site.configure("web")
    api(site.daemon, *tls(pair), *([f'anonymous = "{anonymous}"'] if anonymous else []))
    site.daemon.address = "[::]:8443"
    urls = {f"https://{host}:8443/list/services": host for host in ("127.0.0.1", "[::1]", "192.0.2.1")}
    script = ELSEWHERE.format(
        daemon=shlex.join(site.daemon.command()),
        socket=site.home / "gitopperd.sock",
        ca=authority.certificate,
        urls=shlex.join(urls),
    )
    done = subprocess.run(
        ["unshare", "-r", "-n", "bash", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    answers = dict(line.split() for line in done.stdout.splitlines())
    assert answers == {url: far if host == "192.0.2.1" else near for url, host in urls.items()}, done.stderr


def lasts(daemon: Daemon, first: bytes, more: bytes) -> float:
    """Send `first`, then `more` each half second; return after how many seconds the connection is cut."""
    started = time.monotonic()
    address = ("127.0.0.1", daemon.port)
    with contextlib.suppress(ConnectionError), socket.create_connection(address, timeout=0.5) as sock:
        sock.sendall(first)
        while time.monotonic() - started < 20:
            with contextlib.suppress(TimeoutError):
                if not sock.recv(65536):
                    break
            sock.sendall(more)
    return time.monotonic() - started


def test_slow_clients_have_ten_seconds_and_the_honest_do_not_notice(
    site: Site, live: Pair, authority: Authority
) -> None:
    """The limits as they are in production; tests/integration/test_limits.py has them one by one."""
    site.configure("web")
    slow_head = (b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"X-Slow: x\r\n")
    slow_body = (b"POST /hook/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", b"x")
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(100))
        daemon = stack.enter_context(site.daemon)
        slow = [
            pool.submit(lasts, daemon, *what)
            for what in (slow_head, slow_body, (b"", b""))
            for _ in range(20)
        ]
        while not all(each.done() for each in slow):
            started = time.monotonic()
            assert daemon.ask("GET", "/list/services")[0] == 200
            assert daemon.ask("GET", "/list/services", tcp=True)[0] == 200
            assert time.monotonic() - started < 3
            time.sleep(0.2)
        assert all(9 < each.result() < 14 for each in slow), [each.result() for each in slow]
        assert "Traceback" not in daemon.text()
        samples = daemon.metrics()
        assert samples['gitopper_api_connections_ended_total{listener="tcp",reason="slow"}'] >= 40
        assert samples['gitopper_api_connections{listener="unix"}'] == 0
