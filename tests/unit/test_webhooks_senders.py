"""Each kind of sender proves itself in its own way, and is understood."""

import hashlib
import hmac
import json
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gitopperd.api.secretfile import SecretError
from gitopperd.api.senders import SENDERS, Delivery, News, RefusedDelivery
from tests.support.pushes import SECRET, payload, signed

NOW = 1_709_365_270
SIGNING_SECRET = "whsec_" + "dGhpcnR5LXR3byBieXRlcyBmb3IgdGhlc2UgdGVzdHM="

# Kind of the headers, kind of the webhook, secret, payload, one of the upstreams that it is about.
PUSHES = [
    ("github", "github", SECRET, "github-push", "git@github.com:example-ops/fleet.git"),
    ("gitlab", "gitlab", SECRET, "gitlab-push", "https://gitlab.example.net/ops/fleet"),
    (
        "gitlab-signed",
        "gitlab",
        SIGNING_SECRET,
        "gitlab-push",
        "ssh://git@gitlab.example.net/ops/fleet.git",
    ),
    ("gitea", "gitea", SECRET, "gitea-push", "https://git.example.net/ops/fleet.git"),
    ("forgejo", "gitea", SECRET, "gitea-push", "ssh://git@git.example.net:2222/ops/fleet.git"),
]
KINDS = [(form, kind, secret) for form, kind, secret, *_ in PUSHES] + [("hmac", "hmac", SECRET)]


def delivery(body: bytes, headers: dict[str, str]) -> Delivery:
    return Delivery(headers=CIMultiDict(headers), body=body, time_seconds=NOW)


def verify(kind: str, body: bytes, headers: dict[str, str], secret: str = SECRET) -> str:
    return SENDERS[kind].verify(delivery(body, headers), secret.encode())


def read(kind: str, body: bytes, headers: dict[str, str] | None = None) -> News:
    return SENDERS[kind].read(delivery(body, headers or {}))


@pytest.mark.parametrize(("form", "kind", "secret", "name", "upstream"), PUSHES)
def test_a_push_of_each_sender_is_verified_and_understood(
    form: str, kind: str, secret: str, name: str, upstream: str
) -> None:
    body = payload(name)
    headers = signed(form, body, secret, NOW)
    assert verify(kind, body, headers, secret)
    news = read(kind, body, headers)
    assert news.concerns(upstream, {"main", "canary"})
    assert not news.concerns(upstream, {"canary"})
    assert not news.concerns("https://git.example.net/ops/other.git", {"main"})


@pytest.mark.parametrize(("form", "kind", "secret"), KINDS)
def test_another_secret_is_refused(form: str, kind: str, secret: str) -> None:
    other = "whsec_b3RoZXI=" if form == "gitlab-signed" else "other"
    with pytest.raises(RefusedDelivery) as caught:
        verify(kind, b"{}", signed(form, b"{}", other, NOW), secret)
    assert (caught.value.status, caught.value.code) == (401, "bad-signature")


@pytest.mark.parametrize(("form", "kind", "secret"), [kind for kind in KINDS if kind[0] != "gitlab"])
def test_a_body_that_was_changed_by_one_byte_is_refused(form: str, kind: str, secret: str) -> None:
    with pytest.raises(RefusedDelivery):
        verify(kind, b"{} ", signed(form, b"{}", secret, NOW), secret)


@pytest.mark.parametrize(("form", "kind", "secret"), KINDS)
def test_each_header_that_proves_something_is_needed(form: str, kind: str, secret: str) -> None:
    headers = signed(form, b"{}", secret, NOW)
    proofs = [
        name for name in headers if "ignature" in name or "Token" in name or name.startswith("webhook-")
    ]
    assert proofs
    for name in proofs:
        less = {key: value for key, value in headers.items() if key != name}
        with pytest.raises(RefusedDelivery):
            verify(kind, b"{}", less, secret)


@pytest.mark.parametrize(("form", "kind", "secret"), KINDS)
@pytest.mark.parametrize(
    "value", ["", "sha256=", "v1,", "t=,v1=", "ü", "\udcff", "t=1,v1=\udcff", "=" * 100, "a b c"]
)
def test_no_header_makes_it_fail_otherwise(form: str, kind: str, secret: str, value: str) -> None:
    headers = dict.fromkeys(signed(form, b"{}", secret, NOW), value)
    with pytest.raises(RefusedDelivery):
        verify(kind, b"{}", headers, secret)


def test_the_example_that_github_documents_fits() -> None:
    # docs.github.com, "Validating webhook deliveries", section "Testing the webhook payload validation".
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    headers = {"X-Hub-Signature-256": signature}
    assert verify("github", b"Hello, World!", headers, "It's a Secret to Everybody")


def test_the_example_of_standard_webhooks_fits() -> None:
    # The known answer of the reference libraries, github.com/standard-webhooks/standard-webhooks.
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,bm90IHRoaXMgb25l v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    given = Delivery(headers=CIMultiDict(headers), body=b'{"test": 2432232314}', time_seconds=1614265400)
    secret = b"whsec_" + b"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert SENDERS["gitlab"].verify(given, secret) == "msg_p5jXN8AQM9LWM0D4loKWxJek"


def test_a_signing_secret_of_gitlab_is_not_satisfied_by_its_token_header() -> None:
    with pytest.raises(RefusedDelivery, match="webhook-signature"):
        verify("gitlab", b"{}", {"X-Gitlab-Token": SIGNING_SECRET}, SIGNING_SECRET)


@pytest.mark.parametrize("secret", ["whsec_", "whsec_not base64", "whsec_abc"])
def test_a_signing_secret_that_can_not_be_one_is_told_to_the_operator(secret: str) -> None:
    with pytest.raises(SecretError, match="copy it from GitLab again") as caught:
        verify("gitlab", b"{}", signed("gitlab", b"{}"), secret)
    assert "not base64" not in str(caught.value)


@pytest.mark.parametrize(
    ("form", "kind", "secret"), [("gitlab-signed", "gitlab", SIGNING_SECRET), KINDS[-1]]
)
@pytest.mark.parametrize(("off", "taken"), [(-301, False), (-299, True), (299, True), (301, False)])
def test_a_delivery_is_stale_after_five_minutes(
    form: str, kind: str, secret: str, off: int, taken: bool
) -> None:
    headers = signed(form, b"{}", secret, NOW + off)
    if taken:
        assert verify(kind, b"{}", headers, secret)
        return
    with pytest.raises(RefusedDelivery, match="compare the clocks") as caught:
        verify(kind, b"{}", headers, secret)
    assert (caught.value.status, caught.value.code) == (401, "stale-delivery")


@pytest.mark.parametrize("seconds", ["", "soon", "-1", "1e9", "٣", "9" * 13])
def test_a_time_that_is_none_is_stale_although_it_is_signed(seconds: str) -> None:
    digest = hmac.new(SECRET.encode(), seconds.encode() + b".{}", hashlib.sha256).hexdigest()
    with pytest.raises(RefusedDelivery) as caught:
        verify("hmac", b"{}", {"X-Signature": f"t={seconds},v1={digest}"})
    assert caught.value.code == "stale-delivery"


@pytest.mark.parametrize(("form", "kind", "secret"), KINDS)
def test_the_mark_is_the_same_for_a_replay_and_another_for_another_push(
    form: str, kind: str, secret: str
) -> None:
    one, two = b'{"ref": 1}', b'{"ref": 2}'
    first = signed(form, one, secret, NOW)
    replayed = verify(
        kind, one, first | {"X-GitHub-Delivery": "invented", "X-Gitea-Delivery": "too"}, secret
    )
    assert verify(kind, one, first, secret) == replayed
    assert verify(kind, two, signed(form, two, secret, NOW), secret) != replayed


def test_two_branches_that_gitlab_tells_under_one_event_are_two_deliveries() -> None:
    headers = {"X-Gitlab-Token": SECRET, "X-Gitlab-Event-UUID": "1"}
    assert verify("gitlab", b'{"ref": 1}', headers) != verify("gitlab", b'{"ref": 2}', headers)


def test_github_and_gitea_may_send_the_payload_as_a_form() -> None:
    for kind, name, upstream in (
        ("github", "github-push", "https://github.com/example-ops/fleet"),
        ("gitea", "gitea-push", "https://git.example.net/ops/fleet"),
    ):
        body = urlencode({"payload": payload(name)}).encode()
        news = read(kind, body, {"Content-Type": "application/x-www-form-urlencoded"})
        assert news.concerns(upstream, {"main"})


@pytest.mark.parametrize(
    ("kind", "body", "note"),
    [
        ("github", payload("github-ping"), "a ping"),
        ("github", b'{"ref": "refs/tags/v1", "repository": {}}', "not a push to a branch"),
        ("github", b'{"ref": "main", "ref_type": "branch"}', "not a push to a branch"),
        ("github", b'{"action": "opened"}', "not a push to a branch"),
        ("github", b'{"ref": 7, "repository": 8}', "not a push to a branch"),
        ("gitlab", b'{"object_kind": "merge_request"}', "not a push"),
        ("gitlab", b'{"object_kind": "tag_push", "ref": "refs/tags/v1"}', "not a push"),
        ("gitea", b'{"ref": null}', "not a push to a branch"),
    ],
)
def test_what_is_no_push_to_a_branch_is_no_news(kind: str, body: bytes, note: str) -> None:
    news = read(kind, body)
    assert news.note == note
    assert not news.concerns("https://github.com/example-ops/fleet", {"main"})


@pytest.mark.parametrize("kind", SENDERS)
@pytest.mark.parametrize(
    "body",
    [b"nonsense", b"[]", b'"text"', b"\xff\xfe\xfd", b"{", b"[" * 100_000, b'{"a":' + b"9" * 5000 + b"}"],
)
def test_a_body_that_is_no_json_object_is_told(kind: str, body: bytes) -> None:
    with pytest.raises(RefusedDelivery, match="not a JSON object") as caught:
        read(kind, body)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "repository", [None, [], "x", 7, {"clone_url": 7}, {"clone_url": None, "ssh_url": ["x"]}, {}]
)
def test_a_push_without_a_repository_concerns_nothing(repository: object) -> None:
    body = json.dumps({"ref": "refs/heads/main", "repository": repository, "project": repository,
                       "object_kind": "push"}).encode()  # fmt: skip
    for kind in ("github", "gitlab", "gitea"):
        assert not read(kind, body).concerns("https://github.com/example-ops/fleet", {"main"})


def test_a_system_hook_of_gitlab_is_understood() -> None:
    told = json.loads(payload("gitlab-push"))
    del told["object_kind"]
    assert read("gitlab", json.dumps(told).encode()).concerns(
        "https://gitlab.example.net/ops/fleet", {"main"}
    )


@pytest.mark.parametrize(
    ("body", "upstream", "branch", "concerned"),
    [
        ("", "/srv/git/fleet.git", "main", True),
        ("{}", "/srv/git/fleet.git", "main", True),
        ('{"upstream": "/srv/git/fleet.git"}', "file:///srv/git/fleet.git", "main", True),
        ('{"upstream": "/srv/git/fleet.git", "branch": "main"}', "/srv/git/fleet.git", "main", True),
        ('{"branch": "refs/heads/main"}', "/srv/git/fleet.git", "main", True),
        ('{"branch": "canary"}', "/srv/git/fleet.git", "main", False),
        ('{"upstream": "/srv/git/other.git"}', "/srv/git/fleet.git", "main", False),
        ('{"upstream": "nonsense"}', "/srv/git/fleet.git", "main", False),
        ('{"upstream": "", "branch": ""}', "/srv/git/fleet.git", "main", False),
    ],
)
def test_a_generic_sender_names_what_it_likes(
    body: str, upstream: str, branch: str, concerned: bool
) -> None:
    assert read("hmac", body.encode()).concerns(upstream, {branch}) is concerned


@pytest.mark.parametrize("body", [b'{"upstream": 7}', b'{"branch": ["main"]}'])
def test_a_generic_sender_that_names_no_string_is_told(body: bytes) -> None:
    with pytest.raises(RefusedDelivery, match="upstream and branch are strings"):
        read("hmac", body)


def test_a_refusal_has_neither_the_secret_nor_what_would_have_fitted() -> None:
    for form, kind, secret in KINDS:
        with pytest.raises(RefusedDelivery) as caught:
            verify(kind, b"{}", {}, secret)
        right = signed(form, b"{}", secret, NOW)
        assert secret not in str(caught.value)
        assert not any(len(value) > 30 and value in str(caught.value) for value in right.values())
        assert secret not in repr(delivery(b"{}", right))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
MEMBERS = st.sampled_from(
    ["ref", "repository", "project", "object_kind", "event_name", "clone_url", "upstream", "branch", "zen"]
)


@given(kind=st.sampled_from(sorted(SENDERS)), payload=st.dictionaries(MEMBERS, VALUES))
def test_whatever_a_verified_body_says_is_understood_or_refused(
    kind: str, payload: dict[str, object]
) -> None:
    try:
        news = read(kind, json.dumps(payload).encode())
    except RefusedDelivery:
        return
    # Only a generic sender may mean every upstream without naming one.
    assert kind == "hmac" or not news.concerns("/srv/git/nobody-named-this", {"main"})
