"""Where the daemon may listen, and what it says where it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitopperd.listener.listen import ExposedError, check_exposure, parse_address
from libgitopper import Api, ConfigError
from libgitopper.config import parse_config

WITH_TLS = Api(certificate=Path("/tls.pem"), key=Path("/tls.key"))
LOOPBACK = ["127.0.0.1:8000", "127.8.9.10:8000", "[::1]:8000"]
EXPOSED = ["0.0.0.0:8000", "[::]:8000", "192.0.2.1:80", "[2001:db8::1]:443", "[::ffff:127.0.0.1]:8000"]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("127.0.0.1:8001", "127.0.0.1:8001"),
        (":8001", "127.0.0.1:8001"),
        ("localhost:8001", "127.0.0.1:8001"),
        ("0.0.0.0", "0.0.0.0:8000"),
        ("[::]", "[::]:8000"),
        ("::1", "[::1]:8000"),
        ("[2001:DB8:0::1]:443", "[2001:db8::1]:443"),
    ],
)
def test_an_address_is_read(text: str, meant: str) -> None:
    assert str(parse_address(text)) == meant


@pytest.mark.parametrize(
    "text",
    [
        "*:8000",
        "web1:8000",
        "127.0.0.1:http",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "[::1",
        "[::1]8000",
        "::1]:80",
        "1.2.3:80",
    ],
)
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:8000|between 0 and 65535"):
        parse_address(text)


@pytest.mark.parametrize("text", LOOPBACK)
def test_loopback_needs_nothing(text: str) -> None:
    check_exposure(parse_address(text), Api())


@pytest.mark.parametrize("text", EXPOSED)
def test_any_other_address_needs_tls_or_the_word_insecure(text: str) -> None:
    address = parse_address(text)
    with pytest.raises(
        ExposedError, match=r"certificate and key in \[api\].*127\.0\.0\.1.*insecure = true"
    ):
        check_exposure(address, Api())
    check_exposure(address, WITH_TLS)
    check_exposure(address, Api(insecure=True))


def config(*lines: str) -> Api:
    text = "\n".join(["services = []", "[api]", *lines])
    return parse_config(text, origin="gitopper.toml", hosts=set(), root=True, environ={}).api


@pytest.mark.parametrize("text", EXPOSED)
def test_a_config_that_listens_in_the_open_is_refused(text: str) -> None:
    listen = f'listen = "{text}"'
    with pytest.raises(
        ConfigError, match=r"api\.listen.*write certificate and key, or listen on 127\.0\.0\.1"
    ):
        config(listen)
    assert config(listen, "insecure = true").insecure
    assert config(listen, 'certificate = "/tls.pem"', 'key = "/tls.key"').certificate == Path("/tls.pem")


def test_what_is_wrong_with_the_certificate_is_not_told_twice() -> None:
    with pytest.raises(ConfigError) as caught:
        config('listen = "0.0.0.0:8000"', 'certificate = "relative.pem"', 'key = "/tls.key"')
    assert [problem.path for problem in caught.value.problems] == ["api.certificate"]
