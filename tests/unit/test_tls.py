"""The server's TLS follows its files, and says what is wrong with them."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitopperd.listener.der import not_after
from gitopperd.listener.tls import Tls, TlsError, TlsFiles, load
from tests.support.certificates import Authority, Pair


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki") / "ca")


@pytest.fixture
def live(tmp_path: Path, authority: Authority) -> Pair:
    """A copy of a good pair, to be replaced."""
    pair = Pair(certificate=tmp_path / "live.pem", key=tmp_path / "live.key")
    authority.issue("first").copy_to(pair)
    return pair


def openssl(*arguments: str) -> str:
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True).stdout


def files(pair: Pair, client_ca: Path | None = None) -> TlsFiles:
    return TlsFiles(certificate=pair.certificate, key=pair.key, client_ca=client_ca)


@pytest.mark.parametrize(
    ("end", "expires"),
    [
        ("20491231235959Z", datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("20500101000000Z", datetime(2050, 1, 1, tzinfo=UTC)),
        ("21990101000000Z", datetime(2199, 1, 1, tzinfo=UTC)),
        ("20300228120000Z", datetime(2030, 2, 28, 12, tzinfo=UTC)),
    ],
)
def test_expiry_is_read_from_either_form_of_time(authority: Authority, end: str, expires: datetime) -> None:
    pair = authority.issue("dated", end=end)
    assert load(files(pair)).expires == expires


@pytest.mark.parametrize("algorithm", ["rsa:2048", "ed25519"])
def test_expiry_is_what_openssl_says_for_other_kinds_of_keys(tmp_path: Path, algorithm: str) -> None:
    pair = Pair(certificate=tmp_path / "a.pem", key=tmp_path / "a.key")
    name = ["-subj", f"/CN={'x' * 64}/O=" + "y" * 64]
    out = ["-keyout", str(pair.key), "-out", str(pair.certificate)]
    openssl("req", "-x509", "-newkey", algorithm, "-nodes", *name, *out)
    told = openssl("x509", "-enddate", "-noout", "-in", str(pair.certificate))
    seconds = ssl.cert_time_to_seconds(told.strip().removeprefix("notAfter="))
    assert load(files(pair)).expires.timestamp() == seconds


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_of_certificates_fail_otherwise(junk: bytes) -> None:
    with pytest.raises(ValueError):
        not_after(junk)


def test_a_certificate_cut_anywhere_is_refused(authority: Authority) -> None:
    der = ssl.PEM_cert_to_DER_cert(authority.issue("whole").certificate.read_text())
    for length in range(60):
        with pytest.raises(ValueError):
            not_after(der[:length])


def test_the_context_is_strict(live: Pair, authority: Authority) -> None:
    context = load(files(live)).context
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    names = {cipher["name"] for cipher in context.get_ciphers()}
    assert all(name.startswith(("TLS_", "ECDHE-")) for name in names)
    assert not any("CBC" in name or name.endswith("SHA") for name in names)
    assert context.verify_mode == ssl.CERT_NONE
    assert load(files(live, authority.certificate)).context.verify_mode == ssl.CERT_OPTIONAL


def test_each_trouble_with_the_files_is_told_with_its_remedy(
    tmp_path: Path, live: Pair, authority: Authority
) -> None:
    other = authority.issue("other")
    missing, junk = tmp_path / "missing.pem", tmp_path / "junk.pem"
    junk.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    encrypted = tmp_path / "encrypted.key"
    openssl("pkey", "-in", str(live.key), "-aes128", "-passout", "pass:secret", "-out", str(encrypted))
    for pair, client_ca, told in (
        (Pair(certificate=missing, key=live.key), None, f"{missing}: No such file"),
        (Pair(certificate=live.certificate, key=missing), None, f"{missing}: No such file"),
        (Pair(certificate=tmp_path, key=live.key), None, f"{tmp_path}: Is a directory"),
        (live, missing, f"{missing}: No such file"),
        (live, junk, f"{junk}: holds no CA certificate"),
        (live, live.key, f"{live.key}: holds no CA certificate"),
        (Pair(certificate=live.certificate, key=other.key), None, "is not the key of"),
        (Pair(certificate=junk, key=live.key), None, "are no certificate and key in PEM"),
        (Pair(certificate=live.key, key=live.certificate), None, "are no certificate and key in PEM"),
        (Pair(certificate=live.certificate, key=encrypted), None, "without a passphrase"),
    ):
        with pytest.raises(TlsError, match=told):
            load(files(pair, client_ca))


def test_another_pair_is_used_as_soon_as_it_is_there(live: Pair, authority: Authority) -> None:
    tls = Tls(files(live))
    before = tls.context
    tls.look()
    assert tls.context is before
    authority.issue("second", end="20600101000000Z").copy_to(live)
    tls.look()
    assert tls.context is not before
    assert tls.expires == datetime(2060, 1, 1, tzinfo=UTC)


def test_a_copy_of_the_same_size_and_mtime_is_noticed(live: Pair, authority: Authority) -> None:
    tls = Tls(files(live))
    before, seen = tls.context, live.certificate.stat()
    live.certificate.write_text(live.certificate.read_text())
    os.utime(live.certificate, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    tls.look()
    assert tls.context is not before


def test_a_bad_pair_is_told_once_and_the_good_one_goes_on(
    live: Pair, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    tls = Tls(files(live))
    before = tls.context
    shutil.copyfile(authority.issue("stranger").key, live.key)
    tls.look()
    assert not caplog.records, "a pair that is being written is no reason to complain"
    for _ in range(5):
        tls.look()
    assert tls.context is before
    assert [r.levelname for r in caplog.records] == ["ERROR"]
    assert "is not the key of" in caplog.text
    assert "the certificate of before stays in use" in caplog.text
    live.key.unlink()
    for _ in range(5):
        tls.look()
    assert len(caplog.records) == 2
    authority.issue("mended").copy_to(live)
    tls.look()
    assert tls.context is not before


def test_a_pair_that_is_bad_at_the_start_is_told_and_waited_for(
    live: Pair, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    live.key.unlink()
    tls = Tls(files(live))
    assert (tls.context, tls.expires) == (None, None)
    assert "until then, nobody is answered" in caplog.text
    for _ in range(5):
        tls.look()
    assert len(caplog.records) == 1
    authority.issue("late").copy_to(live)
    tls.look()
    assert tls.context is not None


def test_other_files_that_are_bad_leave_the_ones_of_before(
    live: Pair, authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tls = Tls(files(live))
    before = tls.context
    tls.go_over(files(Pair(certificate=tmp_path / "missing.pem", key=live.key)))
    assert tls.context is before
    assert "missing.pem" in caplog.text
    authority.issue("renewed").copy_to(live)
    tls.look()
    assert tls.context is not before, "and they are still followed"


def test_other_files_that_are_not_there_yet_are_taken_once_they_are(
    live: Pair, authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tls = Tls(files(live))
    new = Pair(certificate=tmp_path / "new.pem", key=tmp_path / "new.key")
    tls.go_over(files(new))
    for _ in range(3):
        tls.look()
    assert caplog.text.count("No such file") == 1
    authority.issue("brought", end="20980601120000Z").copy_to(new)
    tls.look()
    assert tls.expires == datetime(2098, 6, 1, 12, tzinfo=UTC)
    authority.issue("renewed", end="20970601120000Z").copy_to(live)
    tls.look()
    assert tls.expires == datetime(2098, 6, 1, 12, tzinfo=UTC), "those of before are followed no more"


@pytest.mark.parametrize(("days", "level"), [(13, "WARNING"), (-1, "ERROR")])
def test_expiry_is_told_in_time_once_a_day(
    authority: Authority, days: int, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    pair = authority.issue("ending", end="20400101000000Z")
    clock = [datetime(2040, 1, 1, tzinfo=UTC) - timedelta(days=days)]
    tls = Tls(files(pair), now=lambda: clock[0])
    for _ in range(3):
        tls.look()
    assert [record.levelname for record in caplog.records] == [level]
    clock[0] += timedelta(days=1)
    tls.look()
    tls.look()
    assert len(caplog.records) == 2


def test_expiry_in_two_weeks_or_later_is_not_told(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    pair = authority.issue("lasting", end="20400101000000Z")
    Tls(files(pair), now=lambda: datetime(2039, 12, 17, tzinfo=UTC)).look()
    assert not caplog.records
