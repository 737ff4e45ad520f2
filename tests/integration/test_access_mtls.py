"""Client certificates to roles, with real certificates, curl, and what openssl says of them."""

from __future__ import annotations

import importlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import Authority, Pair
from tests.support.curl import curl
from tests.support.site import Site
from tests.support.site import site as make_site

SUBJECTS = {
    "plain": "/O=Example/CN=deploy",
    "comma": "/O=Example, Inc./CN=deploy",
    "sneaky": "/CN=deploy,O=Example",
    "reversed": "/CN=deploy/O=Example",
    "joined": "/O=Example+CN=deploy",
    "plus": "/O=Example+UID\\=root/CN=a\\+b",
    "quoted": '/O=Example/CN= "#<>;\\\\" ',
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki") / "ca")


def _with_subject(authority: Authority, name: str, subject: str) -> Pair:
    """Issue a certificate with the subject as it is: `openssl ca` puts its parts in an order of its own."""
    pair = authority.issue(name, subject=subject, names="DNS:x.example.net", usage="clientAuth")
    home = authority.certificate.parent
    command = [
        "openssl",
        "x509",
        "-req",
        "-in",
        home / f"{name}.csr",
        "-out",
        pair.certificate,
        "-days",
        "2",
    ]
    command += ["-CA", authority.certificate, "-CAkey", home / "ca.key", "-copy_extensions", "copyall"]
    subprocess.run([str(word) for word in command], capture_output=True, check=True)
    return pair


@pytest.fixture(scope="module")
def pairs(authority: Authority) -> dict[str, Pair]:
    found = {name: _with_subject(authority, name, subject) for name, subject in SUBJECTS.items()}
    found["named"] = authority.issue(
        "named", subject="/CN=n", names="DNS:ops.example.net,email:ops@example.net", usage="clientAuth"
    )
    found["nobody"] = authority.client("nobody")
    return found


def said_by_openssl(pair: Pair) -> dict[str, str]:
    """Return subject and fingerprint as the page tells to look them up."""
    command = [
        "openssl",
        "x509",
        "-in",
        str(pair.certificate),
        "-noout",
        "-subject",
        "-fingerprint",
        "-sha256",
    ]
    done = subprocess.run(
        [*command, "-nameopt", "sname,sep_comma_plus,esc_2253"], capture_output=True, text=True, check=True
    )
    lines = dict(line.split("=", 1) for line in done.stdout.splitlines())
    return {"subject": lines["subject"], "fingerprint": lines["sha256 Fingerprint"]}


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, pairs: dict[str, Pair]
) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("mtls")
    server = authority.issue("server")
    plain, comma = (said_by_openssl(pairs[name]) for name in ("plain", "comma"))
    with make_site(home) as made:
        made.upstream.commit({"web/etc/conf": "1", "db/etc/conf": "1"})
        made.configure("web", "db", interval="1h")
        with made.daemon.config.open("a") as config:
            config.write(
                f'[api]\ncertificate = "{server.certificate}"\nkey = "{server.key}"\n'
                f'client_ca = "{authority.certificate}"\nanonymous = "none"\n'
                "[auth.mtls]\nclients = [\n"
                f'  {{ subject = \'{plain["subject"]}\', role = "operate", services = ["web"] }},\n'
                f'  {{ fingerprint = "{comma["fingerprint"]}", role = "admin" }},\n'
                '  { name = "email:ops@example.net", role = "read" },\n'
                '  { name = "DNS:Ops.example.net", role = "operate", services = ["d*"] },\n'
                "]\n"
            )
        with made.daemon as daemon:
            daemon.wait_for("web", "OK")
            yield made


def ask(site: Site, authority: Authority, method: str, path: str, pair: Pair | None) -> tuple[int, str]:
    """Return status, and the message of an error."""
    ours = ("--cert", str(pair.certificate), "--key", str(pair.key)) if pair else ()
    url = f"https://127.0.0.1:{site.daemon.port}{path}"
    status, _, body = curl("--cacert", str(authority.certificate), *ours, "-X", method, url)
    return status, body["error"]["message"] if isinstance(body, dict) and "error" in body else ""


def test_certificates_have_their_roles(site: Site, authority: Authority, pairs: dict[str, Pair]) -> None:
    for name, allowed in {
        "plain": {"list", "freeze web"},
        "comma": {"list", "metrics", "freeze web", "freeze db", "audit"},
        "named": {"list", "metrics", "freeze db"},
    }.items():
        for what, (method, path) in {
            "list": ("GET", "/list/services"),
            "metrics": ("GET", "/metrics"),
            "freeze web": ("POST", "/state/freeze/web"),
            "freeze db": ("POST", "/state/freeze/db"),
            "audit": ("GET", "/audit"),
        }.items():
            status, message = ask(site, authority, method, path, pairs[name])
            assert status == (200 if what in allowed else 403), (name, what, message)


@pytest.mark.parametrize("name", ["nobody", "sneaky", "reversed", "joined", "quoted", None])
def test_a_certificate_that_no_entry_names_is_nobodys(
    site: Site, authority: Authority, pairs: dict[str, Pair], name: str | None
) -> None:
    pair = pairs[name] if name else None
    for method, path in (("GET", "/list/services"), ("POST", "/state/freeze/web")):
        status, message = ask(site, authority, method, path, pair)
        assert status == 401
        assert "certificate" in message


def test_who_came_by_certificate_is_in_the_audit(
    site: Site, authority: Authority, pairs: dict[str, Pair]
) -> None:
    assert ask(site, authority, "POST", "/state/freeze/web", pairs["plain"])[0] == 200
    url = f"https://127.0.0.1:{site.daemon.port}/audit?limit=1"
    pair = pairs["comma"]
    cert = ("--cert", str(pair.certificate), "--key", str(pair.key))
    _, _, body = curl("--cacert", str(authority.certificate), *cert, url)
    assert body["audit"][0]["who"] == "certificate O=Example,CN=deploy"


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_subject_is_written_as_openssl_writes_it(
    name: str, pairs: dict[str, Pair], tmp_path: Path
) -> None:
    from gitopperd.api.certificate import subject_text

    # What the standard library itself is tested by.
    parsed = importlib.import_module("_ssl")._test_decode_cert(str(pairs[name].certificate))
    assert subject_text(parsed["subject"]) == said_by_openssl(pairs[name])["subject"]
