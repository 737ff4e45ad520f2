"""[api], [auth] and [[webhooks]]: what they mean, and how their mistakes are told."""

from pathlib import Path

import pytest

from libgitopper import Api, AuthSettings, Config, ConfigError, Webhook
from libgitopper.config import parse_config
from libgitopper.config.api import WEBHOOK_KINDS

HOOK = '[[webhooks]]\nname = "github"\nkind = "github"\nsecret = "/etc/gitopper/secret"\n'


def config(text: str) -> Config:
    return parse_config(
        f"services = []\n{text}", origin="gitopper.toml", hosts={"web1"}, root=True, environ={}
    )


def problems(text: str) -> dict[str, str]:
    """Return path to message; a path that occurs twice fails the test."""
    with pytest.raises(ConfigError) as caught:
        config(text)
    told = {problem.path: problem.message for problem in caught.value.problems}
    assert len(told) == len(caught.value.problems)
    return told


def test_without_any_of_them_the_daemon_faces_loopback_and_asks_peercred() -> None:
    read = config("")
    assert read.api == Api()
    assert (read.api.listen, read.api.insecure, read.api.anonymous) == (None, False, None)
    assert read.auth == (AuthSettings(plugin="peercred", settings={}),)
    assert read.webhooks == ()


def test_every_key_of_api() -> None:
    read = config(
        '[api]\nlisten = "0.0.0.0:8443"\n'
        'certificate = "/etc/gitopper/cert.pem"\nkey = "/etc/gitopper/key.pem"\n'
        'client_ca = "/etc/gitopper/ca.pem"\ninsecure = true\nanonymous = "none"\n'
    )
    assert read.api == Api(
        listen="0.0.0.0:8443",
        certificate=Path("/etc/gitopper/cert.pem"),
        key=Path("/etc/gitopper/key.pem"),
        client_ca=Path("/etc/gitopper/ca.pem"),
        insecure=True,
        anonymous=False,
    )


@pytest.mark.parametrize(
    "listen", ["127.0.0.1:8000", "0.0.0.0:1", "[::]:8000", "[::1]:65535", "[::ffff:1.2.3.4]:80"]
)
def test_an_address_to_listen_on(listen: str) -> None:
    assert config(f'[api]\ninsecure = true\nlisten = "{listen}"').api.listen == listen


@pytest.mark.parametrize(
    "listen",
    ["", "8000", ":8000", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "web1:8000",
     "::1:8000", "[::1:8000", "[127.0.0.1:8000", "::1",
     "127.0.0.1:\u0668\u0660", "127.0.0.1:-1", "1.2.3:80", " 127.0.0.1:80"],
)  # fmt: skip
def test_what_is_no_address_is_told_with_the_remedy(listen: str) -> None:
    assert (
        'write "127.0.0.1:8000", "0.0.0.0:8000" or "[::]:8000"'
        in problems(f'[api]\nlisten = "{listen}"')["api.listen"]
    )


TLS = '[api]\ncertificate = "/etc/cert.pem"\nkey = "/etc/key.pem"\n'


@pytest.mark.parametrize("listen", ["127.0.0.1:8000", "127.9.9.9:8000", "[::1]:8000"])
def test_on_loopback_no_encryption_is_asked_for(listen: str) -> None:
    assert not config(f'[api]\nlisten = "{listen}"').api.insecure


@pytest.mark.parametrize("listen", ["0.0.0.0:8000", "192.0.2.7:8000", "[::]:8000", "[2001:db8::7]:8000"])
def test_elsewhere_it_is_tls_or_insecure_or_a_mistake(listen: str) -> None:
    assert config(f'{TLS}listen = "{listen}"').api.listen == listen
    assert config(f'[api]\ninsecure = true\nlisten = "{listen}"').api.listen == listen
    for plain in ("[api]\n", "[api]\ninsecure = false\n"):
        assert "insecure = true" in problems(f'{plain}listen = "{listen}"')["api.listen"]


@pytest.mark.parametrize(("written", "read"), [('"read"', True), ('"none"', False)])
def test_anonymous_is_read_or_none(written: str, read: bool) -> None:
    assert config(f"[api]\nanonymous = {written}").api.anonymous is read


def test_the_mistakes_of_api_are_told_at_once_each_with_its_remedy() -> None:
    told = problems(
        '[api]\nlisten = 8000\nanonymous = true\ninsecure = "yes"\ncertificate = "cert.pem"\n'
        'client_ca = "/etc/ca.pem"\nlissten = "x"\n'
    )
    assert 'write "127.0.0.1:8000"' in told["api.listen"]
    assert 'write "read" or "none"' in told["api.anonymous"]
    assert "write true or false" in told["api.insecure"]
    assert 'begin it with "/"' in told["api.certificate"]
    assert "TLS needs both" in told["api.key"]
    assert 'did you mean "listen"' in told["api.lissten"]
    assert len(told) == 6


@pytest.mark.parametrize(("one", "other"), [("certificate", "key"), ("key", "certificate")])
def test_certificate_and_key_come_together(one: str, other: str) -> None:
    told = problems(f'[api]\n{one} = "/etc/x.pem"')
    assert list(told) == [f"api.{other}"]
    assert f"write {other} =" in told[f"api.{other}"]


def test_client_certificates_need_tls() -> None:
    assert "write certificate and key, too" in problems('[api]\nclient_ca = "/etc/ca.pem"')["api.client_ca"]


@pytest.mark.parametrize("table", ["api = 1", 'api = "x"', "api = []", "auth = 1", "auth = []"])
def test_what_should_be_a_table_and_is_none_is_told(table: str) -> None:
    assert list(problems(table)) == [table.split()[0]]


def test_auth_plugins_are_asked_in_the_order_that_is_written() -> None:
    read = config(
        '[auth]\nplugins = ["token", "peercred"]\n[auth.token]\nfile = "/etc/tokens"\ndeep = { a = 1 }'
    )
    assert read.auth == (
        AuthSettings(plugin="token", settings={"file": "/etc/tokens", "deep": {"a": 1}}),
        AuthSettings(plugin="peercred", settings={}),
    )


def test_without_a_list_peercred_is_asked_and_then_each_plugin_that_has_a_table() -> None:
    read = config('[auth.token]\nfile = "/x"\n[auth.company]\n[auth.peercred]\noperate = "ops"')
    assert [auth.plugin for auth in read.auth] == ["peercred", "token", "company"]
    assert read.auth[0].settings == {"operate": "ops"}


def test_what_an_auth_plugin_is_told_is_not_shown() -> None:
    read = config('[auth.company]\npassword = "top-secret"')
    assert "top-secret" not in repr(read)


def test_the_mistakes_of_auth_are_told_at_once() -> None:
    told = problems('[auth]\nplugins = ["token", "token", "peercred"]\nextra = 1\n[auth.mtls]\nca = "/x"')
    assert "token is named twice" in told["auth.plugins"]
    assert 'add "mtls" there' in told["auth.mtls"]
    assert "unknown key" in told["auth.extra"]
    assert len(told) == 3


@pytest.mark.parametrize("plugins", ["[]", '"token"', "1", "{}"])
def test_the_list_of_auth_plugins_is_a_list(plugins: str) -> None:
    assert any("auth" in path for path in problems(f"[auth]\nplugins = {plugins}"))


@pytest.mark.parametrize("name", ["", "1x", "a b", "../x", "x" * 65])
def test_the_name_of_an_auth_plugin_is_checked(name: str) -> None:
    assert "is not the name of a plugin" in problems(f'[auth]\nplugins = ["{name}"]')["auth.plugins[0]"]


@pytest.mark.parametrize("kind", WEBHOOK_KINDS)
def test_a_webhook_of_each_kind(kind: str) -> None:
    read = config(f'[[webhooks]]\nname = "x-1"\nkind = "{kind}"\nsecret = "/etc/gitopper/secret"')
    assert read.webhooks == (Webhook(name="x-1", kind=kind, secret_file=Path("/etc/gitopper/secret")),)


def test_several_webhooks_keep_their_order() -> None:
    assert [hook.name for hook in config(HOOK.replace("github", "b", 1) + HOOK).webhooks] == ["b", "github"]


def test_the_mistakes_of_webhooks_are_told_at_once_each_with_its_remedy() -> None:
    told = problems(
        '[[webhooks]]\nname = "a/b"\nkind = "bitbucket"\nsecret = "etc/secret"\ntoken = "x"\n[[webhooks]]\n'
    )
    assert "is not a name for a webhook" in told["webhooks[0].name"]
    assert 'one of "github", "gitlab", "gitea", "forgejo", "hmac"' in told["webhooks[0].kind"]
    assert "not the absolute path of a file" in told["webhooks[0].secret"]
    assert "unknown key" in told["webhooks[0].token"]
    assert all("missing" in told[f"webhooks[1].{key}"] for key in ("name", "kind", "secret"))
    assert len(told) == 7


def test_two_webhooks_of_one_name_are_told() -> None:
    assert list(problems(HOOK + HOOK)) == ["webhooks[1].name"]


def test_a_secret_that_was_written_in_place_of_its_path_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        config(HOOK.replace("/etc/gitopper/secret", "top-secret"))
    assert "top-secret" not in str(caught.value)
    assert "put the secret into a file" in str(caught.value)


@pytest.mark.parametrize("webhooks", ["webhooks = 1", 'webhooks = "x"', "[webhooks]\nname = 'x'"])
def test_webhooks_are_a_list_of_tables(webhooks: str) -> None:
    assert "write [[webhooks]]" in problems(webhooks)["webhooks"]
