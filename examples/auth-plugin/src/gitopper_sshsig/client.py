"""``gitopper-sign``: the curl arguments for one signed request."""

from __future__ import annotations

import argparse
import base64
import secrets
import subprocess
import sys
import time
import urllib.parse

from gitopper_sshsig.message import NAMESPACE, NONCE, PRINCIPAL, SIGNATURE, TIME, signed_text


def sign(*, key: str, principal: str, method: str, url: str) -> dict[str, str]:
    """Return the headers of a signed request.

    Raises:
        subprocess.CalledProcessError: ssh-keygen refused; it told why on standard error.
    """
    parts = urllib.parse.urlsplit(url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    sent, nonce = str(int(time.time())), secrets.token_hex(16)
    text = signed_text(method=method, host=parts.netloc, path=path, time=sent, nonce=nonce)
    argv = ["ssh-keygen", "-Y", "sign", "-q", "-f", key, "-n", NAMESPACE]
    armored = subprocess.run(argv, input=text, stdout=subprocess.PIPE, check=True).stdout
    signature = base64.b64encode(armored).decode()
    return {PRINCIPAL: principal, TIME: sent, NONCE: nonce, SIGNATURE: signature}


def main() -> int:
    """Print ``-H name:value …`` and the URL, without spaces in any of them, for a shell to split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "-k", "--key", required=True, help="private key, or a public one whose agent has it"
    )
    parser.add_argument("-I", "--principal", required=True, help="who you are in the allowed signers file")
    parser.add_argument("method", help="as curl's -X")
    parser.add_argument("url")
    given = parser.parse_args()
    try:
        headers = sign(key=given.key, principal=given.principal, method=given.method, url=given.url)
    except subprocess.CalledProcessError as exc:
        return exc.returncode
    print(*(f"-H {name}:{value}" for name, value in headers.items()), given.url)
    return 0


if __name__ == "__main__":
    sys.exit(main())
