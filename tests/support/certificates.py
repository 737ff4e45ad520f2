"""A throw-away CA and its certificates, made by openssl on the spot: good ones, and bad in every way."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from attrs import frozen

__all__ = ["Authority", "Pair"]

# `openssl ca` and not `openssl x509`: only it can set both dates.
CONFIG = """\
[ca]
default_ca = main
[main]
dir = {home}
database = {home}/index
new_certs_dir = {home}
certificate = {home}/ca.pem
private_key = {home}/ca.key
default_md = sha256
rand_serial = yes
unique_subject = no
policy = any
copy_extensions = copy
[any]
commonName = supplied
organizationName = optional
emailAddress = optional
[req]
distinguished_name = name
prompt = no
[name]
[leaf]
basicConstraints = critical, CA:FALSE
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""
FAR = "20990101000000Z"


@frozen(kw_only=True)
class Pair:
    """A certificate and its key, both PEM files."""

    certificate: Path
    key: Path

    def copy_to(self, other: Pair) -> None:
        """Put this pair in the place of `other`, as an ACME client does: each file by a rename."""
        for mine, theirs in ((self.certificate, other.certificate), (self.key, other.key)):
            fresh = theirs.with_suffix(".new")
            shutil.copyfile(mine, fresh)
            fresh.chmod(0o600)
            fresh.replace(theirs)


class Authority:
    """A CA in a directory of its own."""

    def __init__(self, home: Path, name: str = "Test CA") -> None:
        home.mkdir()
        self._home = home
        self._config = home / "openssl.cnf"
        self._config.write_text(CONFIG.format(home=home))
        (home / "index").touch()
        self.certificate = home / "ca.pem"
        key = self._new_key(home / "ca.key")
        self._openssl(
            "req", "-x509", "-new", "-key", key, "-out", self.certificate, "-days", "3650",
            "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip

    def issue(
        self,
        name: str,
        *,
        subject: str = "/CN=gitopper",
        names: str = "DNS:localhost,IP:127.0.0.1,IP:::1",
        usage: str = "serverAuth",
        start: str = "20200101000000Z",
        end: str = FAR,
    ) -> Pair:
        """Issue a certificate; `start` and `end` are times as openssl writes them."""
        pair = Pair(certificate=self._home / f"{name}.pem", key=self._new_key(self._home / f"{name}.key"))
        request = self._home / f"{name}.csr"
        self._openssl(
            "req", "-new", "-key", pair.key, "-out", request, "-subj", subject,
            "-addext", f"subjectAltName={names}", "-addext", f"extendedKeyUsage={usage}",
        )  # fmt: skip
        self._openssl(
            "ca", "-batch", "-notext", "-in", request, "-out", pair.certificate, "-extensions", "leaf",
            "-startdate", start, "-enddate", end,
        )  # fmt: skip
        return pair

    def client(self, name: str, **more: str) -> Pair:
        """Issue a client's certificate for ``<name>@example.net``."""
        names = f"email:{name}@example.net"
        return self.issue(name, subject=f"/O=Example/CN={name}", names=names, usage="clientAuth", **more)

    def _new_key(self, path: Path) -> Path:
        # An elliptic curve: made in a millisecond, where RSA takes a hundred.
        self._run(
            "openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path
        )
        path.chmod(0o600)
        return path

    def _openssl(self, command: str, *arguments: object) -> None:
        self._run("openssl", command, "-config", self._config, *arguments)

    def _run(self, *argv: object) -> None:
        done = subprocess.run(
            [str(a) for a in argv], capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, f"{argv}:\n{done.stderr}"
