"""Who is known by the kernel's word, and who by a certificate."""

from __future__ import annotations

import grp
import os
from collections.abc import Mapping

import pytest

from gitopper_plugins import mtls, peercred
from gitopperd.api.certificate import subject_text
from libgitopper import Grant, Identity, Role, TlsPeer, UnixPeer
from libgitopper.testing.auth import request_for_tests

STRANGER = 4_000_000_000
FINGERPRINT = "0123456789abcdef" * 4
GROUPS = [group for group in grp.getgrall() if group.gr_gid not in (0, peercred.UNMAPPED)][:2]


def local(uid: int = STRANGER, gid: int = STRANGER, *groups: int, **settings: object) -> Identity | None:
    peer = UnixPeer(pid=1, uid=uid, gid=gid, groups=frozenset(groups))
    return peercred.gitopper_auth(
        request_for_tests(plugin="peercred", settings=settings, peer=None, unix=peer)
    )


def test_root_and_the_daemons_user_may_do_all() -> None:
    for uid in {0, os.geteuid()}:
        identity = local(uid)
        assert identity is not None
        assert identity.grants == (Grant(role=Role.ADMIN),)
        assert f"uid {uid}" in identity.name


@pytest.mark.parametrize("supplementary", [True, False])
def test_a_group_gives_its_role_for_its_services(supplementary: bool) -> None:
    group = GROUPS[0]
    groups = [{"name": group.gr_name, "role": "operate", "services": ["web*"]}]
    identity = (
        local(STRANGER, STRANGER, 7, group.gr_gid, groups=groups)
        if supplementary
        else local(STRANGER, group.gr_gid, groups=groups)
    )
    assert identity == Identity(
        name=f"uid {STRANGER}", grants=(Grant(role=Role.OPERATE, services=("web*",)),)
    )
    assert local(groups=groups) is None


def test_several_groups_add_up() -> None:
    one, two = GROUPS
    groups = [
        {"name": one.gr_name, "role": "read"},
        {"name": "no-such-group-here", "role": "admin"},
        {"name": two.gr_name, "role": "operate", "services": ["web"]},
    ]
    identity = local(STRANGER, one.gr_gid, two.gr_gid, groups=groups)
    assert identity is not None
    assert [grant.role for grant in identity.grants] == [Role.READ, Role.OPERATE]
    assert identity.may(Role.OPERATE, "web")
    assert not identity.may(Role.OPERATE, "db")
    assert not identity.may_everywhere(Role.OPERATE)
    assert identity.may_everywhere(Role.READ)


def test_users_that_our_namespace_does_not_know_are_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: peercred.UNMAPPED)
    assert local(peercred.UNMAPPED) is None
    for group in grp.getgrall():
        if group.gr_gid == peercred.UNMAPPED:
            groups = [{"name": group.gr_name, "role": "operate"}]
            assert local(STRANGER, peercred.UNMAPPED, groups=groups) is None


def certified(
    *clients: Mapping[str, object], subject: str = "CN=web1,O=Example", names: tuple[str, ...] = ()
) -> Identity | None:
    peer = TlsPeer(subject=subject, names=names, fingerprint=FINGERPRINT)
    request = request_for_tests(plugin="mtls", settings={"clients": list(clients)}, tls=peer)
    return mtls.gitopper_auth(request)


@pytest.mark.parametrize(
    "who",
    [
        {"subject": "CN=web1,O=Example"},
        {"name": "DNS:ops.example.net"},
        {"name": "DNS:OPS.example.net"},
        {"name": "email:ops@example.net"},
        {"fingerprint": FINGERPRINT},
        {"fingerprint": ":".join(FINGERPRINT[i : i + 2] for i in range(0, 64, 2)).upper()},
    ],
)
def test_a_certificate_is_known_by_subject_name_or_fingerprint(who: dict[str, str]) -> None:
    names = ("DNS:Ops.Example.net", "email:ops@example.net")
    identity = certified({**who, "role": "operate"}, names=names)
    assert identity == Identity(name="certificate CN=web1,O=Example", grants=(Grant(role=Role.OPERATE),))


@pytest.mark.parametrize(
    "who",
    [
        {"subject": "CN=web1"},
        {"subject": "CN=WEB1,O=Example"},
        {"subject": "O=Example,CN=web1"},
        {"name": "DNS:example.net"},
        {"name": "DNS:*.example.net"},
        {"name": "email:OPS@example.net"},
        {"name": "URI:ops.example.net"},
        {"fingerprint": "0" * 64},
    ],
)
def test_nothing_less_than_all_of_it_will_do(who: dict[str, str]) -> None:
    names = ("DNS:ops.example.net", "email:ops@example.net")
    assert certified({**who, "role": "admin"}, names=names) is None


def test_a_certificate_without_a_subject_goes_by_its_first_name() -> None:
    entry = {"fingerprint": FINGERPRINT, "role": "read"}
    identity = certified(entry, subject="", names=("DNS:a", "DNS:b"))
    assert identity is not None
    assert identity.name == "certificate DNS:a"
    identity = certified(entry, subject="")
    assert identity is not None
    assert identity.name == f"certificate {FINGERPRINT}"


def test_a_subject_has_short_names_in_the_order_of_the_certificate() -> None:
    subject = ((("countryName", "DE"),), (("organizationName", "Example"),), (("commonName", "web1"),))
    assert subject_text(subject) == "C=DE,O=Example,CN=web1"
    assert subject_text(((("commonName", "a"), ("userId", "b")), (("pseudonym", "c"),))) == (
        "CN=a+UID=b,pseudonym=c"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("web1,O=Example", r"CN=web1\,O=Example"),
        ("a+UID=root", r"CN=a\+UID=root"),
        ("a\\,b", r"CN=a\\\,b"),
        (" a ", r"CN=\ a\ "),
        ("#a", r"CN=\#a"),
        ("a\nb\x00", r"CN=a\0Ab\00"),
    ],
)
def test_no_value_in_a_subject_passes_for_another_attribute(value: str, text: str) -> None:
    assert subject_text(((("commonName", value),),)) == text
    assert text.isprintable()
