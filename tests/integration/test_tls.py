"""TLS before real clients: curl, Python's own, and those that mean no good."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from gitopperd.listener.limits import Limits
from libgitopper import Api, Config
from libgitopper.config import parse_config
from tests.support.certificates import Authority, Pair
from tests.support.daemon import wait_until
from tests.support.listener import Served, serve

QUICK = Limits(
    connections=40,
    per_peer=30,
    handshake_seconds=1.0,
    request_seconds=1.0,
    linger_seconds=0.5,
    sweep_seconds=0.05,
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki") / "ca")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki") / "stranger", "Somebody's CA")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Pair:
    home = tmp_path_factory.mktemp("tls")
    pair = Pair(certificate=home / "live.pem", key=home / "live.key")
    authority.issue("server").copy_to(pair)
    return pair


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, live: Pair, authority: Authority) -> Iterator[Served]:
    api = Api(certificate=live.certificate, key=live.key, client_ca=authority.certificate)
    with serve(tmp_path_factory.mktemp("listener"), api=api, limits=QUICK) as made:
        assert made.listener.tls is not None
        made.listener.tls._look_seconds = 0.02
        yield made


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.certificate))


def config(*api: str) -> Config:
    text = "\n".join(["services = []", "[api]", *api])
    return parse_config(text, origin="gitopper.toml", hosts=set(), root=True, environ={})


def curl(served: Served, *arguments: object, path: str = "whoami") -> subprocess.CompletedProcess[str]:
    url = f"https://localhost:{served.port}/{path}"
    argv = ["curl", "-sS", "--noproxy", "*", "--max-time", "10", *map(str, arguments), url]
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return subprocess.run(argv, capture_output=True, text=True, env=clean, timeout=20, check=False)


def presenting(pair: Pair) -> list[object]:
    return ["--cert", pair.certificate, "--key", pair.key]


def test_curl_with_the_right_ca(served: Served, authority: Authority) -> None:
    done = curl(served, "--cacert", authority.certificate, "-v")
    assert done.stdout == '{"remote": "127.0.0.1"}\n'
    assert "TLSv1.3" in done.stderr
    assert "server accepted http/1.1" in done.stderr


def test_curl_with_another_ca_refuses_us(served: Served, stranger: Authority) -> None:
    assert curl(served, "--cacert", stranger.certificate).returncode == 60


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"end": "20210101000000Z"}, "expired"),
        ({"names": "DNS:elsewhere.example.net"}, "does not match|no alternative certificate subject name"),
    ],
    ids=["expired", "another name"],
)
def test_a_certificate_that_is_not_good_is_served_and_clients_refuse_it(
    authority: Authority, tmp_path: Path, more: dict[str, str], told: str
) -> None:
    pair = authority.issue("bad", **more)
    with serve(tmp_path, api=Api(certificate=pair.certificate, key=pair.key)) as served:
        done = curl(served, "--cacert", authority.certificate)
        assert done.returncode == 60
        assert any(words in done.stderr for words in told.split("|"))


def test_a_clients_certificate_is_seen(served: Served, authority: Authority) -> None:
    alice = authority.client("alice")
    done = curl(served, "--cacert", authority.certificate, *presenting(alice))
    assert '"subject": "CN=alice,O=Example"' in done.stdout
    assert '"names": ["email:alice@example.net"]' in done.stdout
    argv = ["openssl", "x509", "-in", str(alice.certificate), "-noout", "-fingerprint", "-sha256"]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert told.strip().partition("=")[2].replace(":", "").lower() in done.stdout


def test_a_clients_certificate_that_is_not_good_is_no_way_in(
    served: Served, authority: Authority, stranger: Authority
) -> None:
    for pair in (
        stranger.client("mallory"),
        authority.client("late", end="20210101000000Z"),
        authority.client("early", start="20980101000000Z"),
        authority.issue("a server's"),
    ):
        done = curl(served, "--cacert", authority.certificate, *presenting(pair))
        assert done.returncode != 0, pair
        assert done.stdout == ""


def test_a_clients_certificate_ends_at_its_time_also_on_an_open_connection(
    served: Served, authority: Authority
) -> None:
    end = time.time() + 3
    brief = authority.client("brief", end=time.strftime("%Y%m%d%H%M%SZ", time.gmtime(end)))
    context = trusting(authority)
    context.load_cert_chain(brief.certificate, brief.key)
    connection = http.client.HTTPSConnection("localhost", served.port, context=context, timeout=10)
    with contextlib.closing(connection):
        seen = []
        while time.time() < end + 1.5:
            connection.request("GET", "/whoami")
            seen.append(b"brief" in connection.getresponse().read())
            time.sleep(0.2)
    assert seen[0]
    assert not seen[-1]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_old_versions_of_tls_are_refused(served: Served, authority: Authority, version: str) -> None:
    old = ["--tls-max", version, f"--tlsv{version}", "--ciphers", "DEFAULT@SECLEVEL=0"]
    done = curl(served, "--cacert", authority.certificate, *old)
    assert done.returncode == 35
    assert done.stdout == ""
    assert curl(served, "--cacert", authority.certificate, "--tls-max", "1.2").returncode == 0


def test_renegotiation_is_refused(served: Served, authority: Authority) -> None:
    argv = ["openssl", "s_client", "-connect", f"localhost:{served.port}", "-tls1_2"]
    done = subprocess.run(argv, input="R\n", capture_output=True, text=True, timeout=20, check=False)
    assert "RENEGOTIATING" in done.stderr + done.stdout
    assert "no renegotiation" in done.stderr.lower()


def test_plain_http_on_the_tls_port_gets_nothing(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with served.connect() as sock:
        sock.sendall(b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"world" not in sock.recv(100)
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


def test_a_handshake_that_stalls_is_cut_and_others_are_answered(
    served: Served, authority: Authority
) -> None:
    hello = ssl.MemoryBIO()
    half = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        half.do_handshake()
    said = hello.read()
    for part in (b"", said[:20], said):
        with served.connect(source="127.0.0.2") as sock:
            sock.sendall(part)
            started = time.monotonic()
            assert served.get(tls=trusting(authority))[0] == 200
            assert served.get(sock=served.connect_unix())[0] == 200
            assert time.monotonic() - started < 3
            with contextlib.suppress(ConnectionError):
                while sock.recv(65536):
                    pass
            assert time.monotonic() - started < 3
    wait_until(lambda: served.tcp.inside == 0, "connections are left over")


FLOOD = """
import socket, ssl, sys, time
context = ssl._create_unverified_context()
held, end, number = [], time.monotonic() + 3, 0
while time.monotonic() < end:
    number += 1
    try:
        target, source = ("127.0.0.1", int(sys.argv[1])), (f"127.0.1.{number % 4}", 0)
        held.append(socket.create_connection(target, 1, source))
        if number % 2:
            held[-1] = context.wrap_socket(held[-1])
    except OSError:
        pass
    while len(held) > 100:
        held.pop(0).close()
"""


def test_a_flood_of_handshakes_is_bounded_and_the_honest_get_in(
    served: Served, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    before = served.tcp.turned_away["displaced"]
    with subprocess.Popen([sys.executable, "-c", FLOOD, str(served.port)]) as flood:
        wait_until(lambda: served.tcp.turned_away["displaced"] > before, "no flood")
        while flood.poll() is None:
            started = time.monotonic()
            assert served.get(sock=served.connect(source="127.0.0.9"), tls=trusting(authority))[0] == 200
            assert served.get(sock=served.connect_unix())[0] == 200
            assert time.monotonic() - started < 3
            assert served.tcp.inside <= QUICK.connections
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    wait_until(lambda: served.tcp.inside == 0, "connections are left over")


def test_a_client_that_does_not_read_is_cut_over_tls_too(
    live: Pair, authority: Authority, tmp_path: Path
) -> None:
    limits = evolve(QUICK, unread_seconds=1.0)
    api = Api(certificate=live.certificate, key=live.key)
    with serve(tmp_path, api=api, limits=limits) as served:
        raw = served.connect()
        with trusting(authority).wrap_socket(raw, server_hostname="localhost") as sock:
            sock.sendall(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")
            wait_until(lambda: served.tcp.inside == 1, "not there")
            wait_until(lambda: served.tcp.inside == 0, "not cut", seconds=4)


def test_the_certificate_changes_under_load_without_one_failed_request(
    served: Served, live: Pair, authority: Authority
) -> None:
    """Half of the clients keep their connections, half make a new one for each request."""
    pairs = [authority.issue(f"rotation{number}") for number in range(5)]
    context, end = trusting(authority), time.monotonic() + 4
    rotations = 0

    def client(*, fresh: bool) -> tuple[int, set[bytes]]:
        seen: set[bytes] = set()
        connection, count = None, 0
        while time.monotonic() < end:
            if connection is None:
                connection = http.client.HTTPSConnection(
                    "localhost", served.port, context=context, timeout=10
                )
                connection.connect()
                certificate = connection.sock.getpeercert(binary_form=True)
                assert certificate
                seen.add(certificate)
            connection.request("GET", "/hello")
            assert connection.getresponse().read() == b'{"hello": "world"}\n'
            count += 1
            if fresh:
                connection.close()
                connection = None
            time.sleep(0.005)
        if connection:
            connection.close()
        return count, seen

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        clients = [pool.submit(client, fresh=bool(number % 2)) for number in range(6)]
        while time.monotonic() < end:
            pairs[rotations % len(pairs)].copy_to(live)
            rotations += 1
            time.sleep(0.12)
        results = [done.result() for done in clients]
    assert rotations >= 20
    assert all(count > 50 for count, _ in results)
    assert all(len(seen) == 1 for number, (_, seen) in enumerate(results) if number % 2 == 0)
    fresh = set().union(*(seen for _, seen in results))
    assert len(fresh) >= 4, "the new certificates were never served"


def test_another_configuration_brings_another_certificate_and_says_what_it_cannot_bring(
    live: Pair, authority: Authority, stranger: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(tmp_path, api=Api(certificate=live.certificate, key=live.key)) as served:
        apply = served.listener.apply
        other = stranger.issue("other")
        apply(config(f'certificate = "{other.certificate}"', f'key = "{other.key}"'))
        assert served.get(tls=trusting(stranger))[0] == 200
        assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
        apply(config(f'certificate = "{other.certificate}"', f'key = "{live.key}"'))
        assert "is not the key of" in caplog.text
        assert served.get(tls=trusting(stranger))[0] == 200
        apply(config())
        assert "come with the next start" in caplog.text
        assert served.get(tls=trusting(stranger))[0] == 200


def test_without_a_certificate_nobody_is_answered_until_there_is_one(
    authority: Authority, tmp_path: Path
) -> None:
    pair = Pair(certificate=tmp_path / "late.pem", key=tmp_path / "late.key")
    with serve(tmp_path, api=Api(certificate=pair.certificate, key=pair.key)) as served:
        with served.connect() as sock:
            assert sock.recv(1) == b""
        assert served.get(sock=served.connect_unix())[0] == 200
        authority.issue("late server").copy_to(pair)
        tls = served.listener.tls
        assert tls is not None
        served.loop.call_soon_threadsafe(tls.look)
        wait_until(lambda: tls.context is not None, "not taken")
        assert served.get(tls=trusting(authority))[0] == 200
