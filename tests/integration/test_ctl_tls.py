"""gitopperctl over TLS, against simulated daemons: what goes wrong, and the remedy that it tells."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
import warnings
from pathlib import Path

import pytest

from tests.support.certificates import Authority, Pair
from tests.support.simulateddaemon import ROOT, Daemons, command, ctl, daemon, environment

__all__ = ["daemon"]  # a fixture

TOKEN = "s3cret-t0ken"
EXPIRED = "20200201000000Z"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ca")


@pytest.fixture(scope="module")
def good(authority: Authority) -> Pair:
    return authority.issue("good")


def server(pair: Pair, clients: Authority | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients.certificate)
    return context


@pytest.fixture
def ca(authority: Authority) -> tuple[str, str]:
    return ("--ca", str(authority.certificate))


@pytest.fixture
def token(tmp_path: Path) -> str:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return str(path)


def refusal(*words: str, **environ: str) -> str:
    """Run a command that fails for its one host, and return why."""
    done = ctl(*words, **environ)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_daemon_with_a_certificate_of_the_ca_is_asked(
    daemon: Daemons, good: Pair, ca: tuple[str, str], token: str
) -> None:
    web = daemon(tls=server(good))
    done = ctl("list", "services", web.at, *ca, "--token-file", token)
    assert (done.returncode, done.stderr) == (0, "")
    assert "grafana-server" in done.stdout
    assert web.tokens == [f"Bearer {TOKEN}"]


def test_the_environment_is_as_good_as_flags(daemon: Daemons, good: Pair, authority: Authority) -> None:
    web = daemon(tls=server(good))
    done = ctl(
        "list", "services", f"@127.0.0.1:{web.port}",
        GITOPPERCTL_CA=str(authority.certificate), GITOPPERCTL_TOKEN=TOKEN, GITOPPERCTL_TLS="true",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert web.tokens == [f"Bearer {TOKEN}"]


def test_hosts_of_a_group_have_settings_of_their_own(
    daemon: Daemons, good: Pair, authority: Authority, tmp_path: Path, token: str
) -> None:
    plain, secure, tokenless = daemon(), daemon(tls=server(good)), daemon()
    config = tmp_path / "ctl.toml"
    config.write_text(
        f'[hosts.localhost]\ntls = true\nca = "{authority.certificate}"\n'
        f'[hosts."127.0.0.1"]\ntoken_file = "{token}"\n'
        f'[groups]\nall = ["127.0.0.1:{plain.port}", "localhost:{secure.port}"]\n'
    )
    local = f"@unix:{tmp_path}/d.sock"
    unix = daemon(at=f"{tmp_path}/d.sock")
    done = ctl("list", "services", "@@all", local, GITOPPERCTL_CONFIG=str(config))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("grafana-server") == 3
    assert (plain.tokens, secure.tokens, unix.tokens, tokenless.tokens) == (
        [f"Bearer {TOKEN}"],
        [None],
        [None],
        [],
    )


def test_a_ca_that_is_not_known(daemon: Daemons, good: Pair, tmp_path: Path) -> None:
    web = daemon(tls=server(good))
    said = refusal("list", "services", web.at)
    assert "its certificate is not signed by a CA that this system trusts" in said
    assert "--ca FILE" in said
    other = Authority(tmp_path / "other", "Other CA")
    said = refusal("list", "services", web.at, "--ca", str(other.certificate))
    assert f"its certificate is not signed by the CA in {other.certificate}" in said
    assert web.asked == []


def test_a_certificate_that_signed_itself_is_trusted_when_it_is_given(
    daemon: Daemons, tmp_path: Path
) -> None:
    pair = Pair(certificate=tmp_path / "c.pem", key=tmp_path / "k.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc",
         "-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", pair.key, "-out",
         pair.certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    web = daemon(tls=server(pair))
    assert "or, if it signed itself, that certificate" in refusal("list", "services", web.at)
    assert ctl("list", "services", web.at, "--ca", str(pair.certificate)).returncode == 0


def test_a_certificate_that_expired(daemon: Daemons, authority: Authority, ca: tuple[str, str]) -> None:
    web = daemon(tls=server(authority.issue("expired", end=EXPIRED)))
    said = refusal("list", "services", web.at, *ca)
    assert "its certificate expired: valid until Feb  1 00:00:00 2020 GMT (here it is now " in said
    assert "renew it on that host, or set the clock" in said
    assert web.asked == []


def test_a_certificate_of_the_future(daemon: Daemons, authority: Authority, ca: tuple[str, str]) -> None:
    web = daemon(tls=server(authority.issue("early", start="20900101000000Z")))
    assert "is not valid yet: valid from Jan  1 00:00:00 2090 GMT" in refusal(
        "list", "services", web.at, *ca
    )


def test_a_certificate_for_other_names_tells_them(
    daemon: Daemons, authority: Authority, ca: tuple[str, str]
) -> None:
    pair = authority.issue("other", names="DNS:web1.example.net,DNS:*.web.example.net,IP:192.0.2.1")
    web = daemon(tls=server(pair))
    said = refusal("list", "services", web.at, *ca)
    assert (
        "its certificate is not for 127.0.0.1, but for web1.example.net, *.web.example.net, 192.0.2.1;"
        in said
    )
    said = refusal("list", "services", f"@https://localhost:{web.port}", *ca)
    assert "is not for localhost, but for web1" in said
    assert web.asked == []


def test_a_certificate_that_is_wrong_in_more_ways_than_one_is_still_told(
    daemon: Daemons, authority: Authority, ca: tuple[str, str]
) -> None:
    web = daemon(tls=server(authority.issue("both", names="DNS:web1", end=EXPIRED)))
    assert "its certificate" in refusal("list", "services", web.at, *ca)
    web = daemon(tls=server(authority.issue("client-only", usage="clientAuth")))
    assert "its certificate is not accepted: " in refusal("list", "services", web.at, *ca)
    assert web.asked == []


def test_a_daemon_without_tls_is_told_from_one_with(
    daemon: Daemons, good: Pair, ca: tuple[str, str]
) -> None:
    plain, secure = daemon(), daemon(tls=server(good))
    assert "speaks no TLS" in refusal("list", "services", f"@https://127.0.0.1:{plain.port}", *ca)
    said = refusal("list", "services", f"@http://127.0.0.1:{secure.port}")
    assert "what listens there speaks TLS, not plain http: write @https://, or --tls" in said
    assert (plain.asked, secure.asked) == ([], [])


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_our_certificate_is_shown_where_it_is_wanted(
    daemon: Daemons,
    good: Pair,
    authority: Authority,
    ca: tuple[str, str],
    tmp_path: Path,
    newest: ssl.TLSVersion,
) -> None:
    context = server(good, clients=authority)
    context.maximum_version = newest
    web = daemon(tls=context)
    mine = authority.client(f"ops{newest}")
    said = refusal("list", "services", web.at, *ca)
    assert "certificate of ours" in said
    assert "--cert FILE" in said

    pair = ("--cert", str(mine.certificate), "--key", str(mine.key))
    done = ctl("list", "services", web.at, *ca, *pair)
    assert (done.returncode, done.stderr) == (0, "")

    both = tmp_path / "both.pem"
    both.write_bytes(mine.certificate.read_bytes() + mine.key.read_bytes())
    both.chmod(0o600)
    assert ctl("list", "services", web.at, *ca, "--cert", str(both)).returncode == 0

    for name, bad in (
        ("stranger", Authority(tmp_path / "other", "Other CA").client("ops")),
        ("expired", authority.client(f"old{newest}", end=EXPIRED)),
    ):
        said = refusal(
            "list", "services", web.at, *ca, "--cert", str(bad.certificate), "--key", str(bad.key)
        )
        # In TLS 1.3 the server may be gone before we hear why.
        assert "it refuses our certificate" in said or f"is our certificate, {bad.certificate}" in said, (
            name
        )
    assert len(web.asked) == 2


def test_files_of_ours_that_cannot_be_used(
    daemon: Daemons, good: Pair, authority: Authority, ca: tuple[str, str], tmp_path: Path
) -> None:
    web = daemon(tls=server(good))
    mine, other = authority.client("mine"), authority.client("other")

    def with_pair(certificate: Path, key: Path) -> str:
        return refusal("list", "services", web.at, *ca, "--cert", str(certificate), "--key", str(key))

    assert "can't use the CA in /no/such: No such file" in refusal(
        "list", "services", web.at, "--ca", "/no/such"
    )
    assert f"can't use the CA in {mine.key}" in refusal("list", "services", web.at, "--ca", str(mine.key))
    assert "can't read the key in /no/such: No such file" in with_pair(mine.certificate, Path("/no/such"))
    assert "can't use our certificate" in with_pair(Path("/no/such"), mine.key)
    assert "key values mismatch" in with_pair(mine.certificate, other.key)

    opened = tmp_path / "opened.key"
    opened.write_bytes(mine.key.read_bytes())
    opened.chmod(0o644)
    assert f"others may read it; chmod 600 {opened}" in with_pair(mine.certificate, opened)

    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "pkey", "-in", mine.key, "-aes256", "-passout", "pass:x", "-out", locked], check=True
    )
    locked.chmod(0o600)
    assert "has a password; `openssl pkey -in … -out …` removes it" in with_pair(mine.certificate, locked)
    assert web.asked == []


UNKNOWN = {"error": {"code": "unknown-identity", "message": "nobody whom this host knows"}}


def test_a_daemon_that_does_not_know_us_says_what_we_could_do(
    daemon: Daemons, good: Pair, authority: Authority, ca: tuple[str, str], tmp_path: Path, token: str
) -> None:
    answers = {"/list/services": (401, UNKNOWN)}
    plain, secure = daemon(answers), daemon(answers, tls=server(good))
    assert "(no token was sent: --token-file FILE" in refusal("list", "services", plain.at)
    said = refusal("list", "services", secure.at, *ca, "--token-file", token)
    assert f"nobody whom this host knows (the token of {token} may have expired, been revoked" in said
    mine = authority.client("unmapped")
    pair = ("--cert", str(mine.certificate), "--key", str(mine.key))
    said = refusal("list", "services", secure.at, *ca, *pair)
    assert f"[auth.mtls] gives no role to our certificate {mine.certificate}" in said
    unix = daemon(answers, at=f"{tmp_path}/d.sock")
    assert refusal("list", "services", unix.at).endswith("nobody whom this host knows\n")


def test_what_we_may_not_do_is_told_in_the_daemon_s_words(daemon: Daemons) -> None:
    error = {"error": {"code": "forbidden", "message": "token:ci lacks the role operate for web"}}
    web = daemon({"/state/freeze/web": (403, error)})
    assert refusal("state", "freeze", web.at, "web").endswith(": token:ci lacks the role operate for web\n")


@pytest.mark.parametrize("how", ["flag", "file", "environment"])
def test_a_token_never_goes_over_the_network_in_plain_http(tmp_path: Path, token: str, how: str) -> None:
    """The host can't be reached, and it is not tried: a name would be looked up."""
    environ, words = {}, []
    if how == "flag":
        words = ["--token-file", token]
    elif how == "environment":
        environ = {"GITOPPERCTL_TOKEN": TOKEN}
    else:
        config = tmp_path / "ctl.toml"
        config.write_text(f'[defaults]\ntoken = "{TOKEN}"\n')
        config.chmod(0o600)
        environ = {"GITOPPERCTL_CONFIG": str(config)}
    said = refusal("list", "services", "@http://web1.invalid", *words, **environ)
    assert "is not sent over plain http, where others could read it" in said
    assert TOKEN not in said


def test_a_token_in_a_file_or_pipe_is_in_no_command_line_and_no_error(
    daemon: Daemons, good: Pair, ca: tuple[str, str], token: str
) -> None:
    web = daemon({"/list/services": (401, UNKNOWN)}, tls=server(good))
    seen: list[bytes] = []
    stop = threading.Event()

    def watch(pid: int) -> None:
        while not stop.is_set():
            try:
                seen.append(Path(f"/proc/{pid}/cmdline").read_bytes())
            except OSError:
                return
            time.sleep(0.01)

    for words, environ in (
        (("--token-file", token), {}),
        ((), {"GITOPPERCTL_TOKEN": TOKEN}),
    ):
        with subprocess.Popen(
            command("list", "services", web.at, *ca, *words),
            cwd=ROOT,
            env=environment(**environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            watcher = threading.Thread(target=watch, args=(process.pid,))
            watcher.start()
            said, _ = process.communicate(timeout=30)
        stop.set()
        watcher.join()
        stop.clear()
        assert TOKEN not in said
    assert seen
    assert not any(TOKEN.encode() in line for line in seen)
    line = f"{' '.join(command('list', 'services', web.at, *ca))} --token-file <(echo {TOKEN})"
    subprocess.run(["bash", "-c", line], cwd=ROOT, env=environment(), capture_output=True, check=False)
    assert web.tokens == [f"Bearer {TOKEN}"] * 3


def test_a_server_that_hangs_in_the_handshake_ends_at_the_deadline(ca: tuple[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        at = f"@https://127.0.0.1:{silent.getsockname()[1]}"
        start = time.monotonic()
        assert "no answer within 0.5 s" in refusal("list", "services", at, *ca, "--timeout", "0.5")
        assert time.monotonic() - start < 5


def test_old_versions_of_tls_are_not_spoken(daemon: Daemons, good: Pair, ca: tuple[str, str]) -> None:
    context = server(good)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    web = daemon(tls=context)
    assert "TLS failed (tlsv1 alert protocol version)" in refusal("list", "services", web.at, *ca)
    assert web.asked == []
