"""A push is live at once, told by real clients to a real daemon; and nobody else can make it poll."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.support.pushes import SECRET, payload, signed
from tests.support.site import Site

HOWTO = Path(__file__).parents[2] / "docs" / "howto" / "webhooks.md"
SIGNING_SECRET = "whsec_" + "dGhpcnR5LXR3byBieXRlcyBmb3IgdGhlc2UgdGVzdHM="
# What the payloads call their repository.
URLS = rb"https://(github\.com/example-ops/Fleet|gitlab\.example\.net/ops/fleet|git\.example\.net/ops/fleet)\.git"


def listen(site: Site, *kinds: str, secret: str = SECRET, **configured: str) -> None:
    """Follow the site's upstream, so rarely that only a webhook can be the reason for a poll."""
    site.configure("web", interval="1h", **configured)
    site.daemon.arguments = ("--debug",)
    path = site.home / "webhook.secret"
    path.write_text(f"{secret}\n")
    path.chmod(0o600)
    with site.daemon.config.open("a") as config:
        for kind in kinds:
            config.write(f'[[webhooks]]\nname = "{kind}"\nkind = "{kind}"\nsecret = "{path}"\n')


def curl(site: Site, name: str, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
    """Send a delivery as curl sends it; return status and answer."""
    (site.home / "body").write_bytes(body)
    words = [word for header in headers.items() for word in ("-H", "{}: {}".format(*header))]
    url = f"http://127.0.0.1:{site.daemon.port}/hook/{name}"
    done = subprocess.run(
        ["curl", "--silent", "--noproxy", "*", "-w", "%{http_code}", *words,
         "--data-binary", f"@{site.home / 'body'}", url],
        capture_output=True, text=True, timeout=20, check=True,
    )  # fmt: skip
    return int(done.stdout[-3:]), done.stdout[:-3]


def openssl(body: bytes, secret: str = SECRET) -> str:
    """Sign with a tool that shares no code with ours."""
    words = ["openssl", "dgst", "-sha256", "-hmac", secret, "-r"]
    return subprocess.run(words, input=body, capture_output=True, check=True).stdout.decode().split()[0]


def polls(site: Site) -> int:
    """How often the daemon asked the upstream; its log has each poll as an event."""
    return site.daemon.text().count(f"{site.url}: poll ")


@pytest.mark.parametrize(
    ("kind", "form", "name", "secret"),
    [
        ("github", "github", "github-push", SECRET),
        ("gitlab", "gitlab", "gitlab-push", SECRET),
        ("gitlab", "gitlab-signed", "gitlab-push", SIGNING_SECRET),
        ("gitea", "gitea", "gitea-push", SECRET),
        ("gitea", "forgejo", "gitea-push", SECRET),
    ],
)
def test_a_push_is_live_as_soon_as_its_sender_tells(
    site: Site, kind: str, form: str, name: str, secret: str
) -> None:
    first = site.commit(text="one")
    listen(site, kind, secret=secret)
    body = re.sub(URLS, site.url.encode(), payload(name))
    assert site.url.encode() in body
    headers = signed(form, body, secret)
    if form in ("github", "gitea", "forgejo"):
        digest = openssl(body)
        assert [value for value in headers.values() if digest in value]
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        second = site.commit(text="two")
        assert curl(site, kind, body, headers) == (202, f'{{"polling": ["{site.url}"]}}\n')
        daemon.wait_for("web", "OK", second)
        assert f"webhook:{kind} from 127.0.0.1: push: 202" in daemon.text()
        assert secret not in daemon.text()


def test_the_hook_of_the_how_to_tells_of_a_push(site: Site) -> None:
    first = site.commit(text="one")
    listen(site, "hmac")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        script = re.search(r"```python\n(.*?)```", HOWTO.read_text(), re.DOTALL)
        assert script is not None
        text = script[1].replace("https://web1.example.net:8443/hook/central", hook_url(site, "hmac"))
        text = text.replace("https://git.example.net/config.git", site.url)
        text = text.replace("/etc/gitopper/webhook.secret", str(site.home / "webhook.secret"))
        second = site.commit(text="two")
        told = f"{first} {second} refs/heads/main\n"
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", text], input=told, env={"no_proxy": "*"},
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
        assert (done.stdout, done.stderr) == (f'{{"polling": ["{site.url}"]}}\n\n', "")
        daemon.wait_for("web", "OK", second)


def hook_url(site: Site, name: str) -> str:
    return f"http://127.0.0.1:{site.daemon.port}/hook/{name}"


def test_a_burst_of_fifty_deliveries_is_at_most_two_polls_and_the_last_push_is_live(site: Site) -> None:
    first = site.commit(text="one")
    listen(site, "hmac")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        before = polls(site)
        last = site.commit(text="two")

        def deliver(number: int) -> int:
            body = b'{"upstream": "%s", "number": %d}' % (site.url.encode(), number)
            return send(daemon.port, "/hook/hmac", body, signed("hmac", body))[0]

        started = time.monotonic()
        with ThreadPoolExecutor(4) as clients:
            assert list(clients.map(deliver, range(50))) == [202] * 50
        took = time.monotonic() - started
        daemon.wait_for("web", "OK", last)
        time.sleep(1.5)
        # One more where a slow machine makes the burst longer than the second that is one burst.
        assert 1 <= polls(site) - before <= 2 + int(took)


def test_nobody_without_the_secret_makes_the_daemon_poll(site: Site) -> None:
    first = site.commit(text="one")
    listen(site, "github", "hmac")
    with site.daemon as daemon:
        daemon.wait_for("web", "OK", first)
        before = polls(site)
        assert before > 0
        site.commit(text="two")
        body = b'{"upstream": "%s"}' % site.url.encode()
        assert curl(site, "github", body, {})[0] == 401
        assert curl(site, "github", body, signed("github", body, "guessed"))[0] == 401
        assert curl(site, "hmac", body, signed("hmac", body, at=time.time() - 400))[0] == 401
        assert curl(site, "gitlab", body, signed("gitlab", body))[0] == 404
        assert curl(site, "github", b"{", signed("github", b"{"))[0] == 400
        other = b'{"branch": "canary"}'
        assert curl(site, "hmac", other, signed("hmac", other))[0] == 202
        daemon.wait_for("web", "OK", first)
        assert polls(site) == before
        assert (
            "somebody unknown from 127.0.0.1: push: 401: github: the X-Hub-Signature-256 header"
            in daemon.text()
        )
        assert SECRET not in daemon.text()


def test_a_large_payload_is_taken_and_a_larger_one_refused(site: Site) -> None:
    site.commit(text="one")
    listen(site, "github")
    with site.daemon as daemon:
        answer = ""
        for size, status in ((1024 * 1024, 202), (1024 * 1024 + 1, 413)):
            body = b'{"zen": "' + b"x" * (size - 11) + b'"}'
            got, answer = curl(site, "github", body, signed("github", body))
            assert (len(body), got) == (size, status), answer
        assert '"code": "request-entity-too-large"' in answer
        assert daemon.get("/healthz") == {"status": "alive"}


def send(port: int, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
