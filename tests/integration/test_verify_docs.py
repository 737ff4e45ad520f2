"""The commands of the page on signatures work, in the order in which it has them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.signing import gpg_home
from tests.support.upstream import ENVIRONMENT
from tests.support.verifying import VerifyingHost, verifying_host

PAGE = Path(__file__).parents[2] / "docs/howto/signatures.md"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[VerifyingHost]:
    with verifying_host(tmp_path) as host:
        yield host


def commands(section: str) -> list[str]:
    """The blocks of shell commands below a heading."""
    text = PAGE.read_text().split(f"## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL)


def shell(script: str, directory: Path, home: Path, **more: str) -> None:
    """Run `script` as a reader would, with `home` for what is the reader's and the host's own."""
    env = {**ENVIRONMENT, "HOME": str(home), "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"), **more}
    script = script.replace("/etc/gitopper", str(home))
    subprocess.run(["sh", "-eu", "-c", script], cwd=directory, env=env, check=True, capture_output=True)


def test_with_ssh_keys(host: VerifyingHost, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    shell('ssh-keygen -q -t ed25519 -N "" -f ~/.ssh/id_ed25519', tmp_path, home)
    committer, on_the_host = commands("With ssh keys")
    shell(committer, tmp_path, home)
    shell(on_the_host, home / ".ssh", home)
    shell("git commit --quiet --allow-empty --message signed", host.upstream.work, home)
    host.upstream.push()
    host.allow((home / "allowed_signers").read_text())
    assert host.ask()
    (by_hand,) = commands("Ask by hand")
    store = host.stage.fetch()
    for where in (host.stage.checkout(host.service()).path, store.path):
        shell(by_hand.replace("HEAD", store.tips["main"]), where, home)
        with pytest.raises(subprocess.CalledProcessError):
            shell(by_hand.replace("HEAD", store.tips["main"] + "~1"), where, home)
    # The remedy for what is not signed.
    accepted = host.upstream.push()
    unsigned = "date > file; git add file; git commit --quiet --no-gpg-sign --message unsigned"
    shell(unsigned, host.upstream.work, home)
    host.upstream.push()
    assert "is not signed" in host.refusal(accepted=accepted)
    (remedy,) = re.findall(r"`(git rebase .*?)`", PAGE.read_text())
    shell(remedy.replace("ACCEPTED", accepted), host.upstream.work, home)
    host.upstream.push()
    assert host.ask(accepted=accepted)


def test_with_openpgp_keys(host: VerifyingHost, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    committer, on_the_host = commands("With OpenPGP keys")
    with gpg_home() as gpg:
        gpg.key("alice")
        shell(committer, tmp_path, home)
        shell(on_the_host, home, home, GNUPGHOME=str(gpg.path))
        sign = "git commit --quiet --allow-empty --message signed"
        shell(sign, host.upstream.work, home, GNUPGHOME=str(gpg.path))
        shell("git verify-commit HEAD", host.upstream.work, home, GNUPGHOME=str(gpg.path))
    host.upstream.push()
    (home / "keyring.gpg").chmod(0o644)
    host.trust(home / "keyring.gpg")
    assert host.ask()


def test_page_shows_the_words_that_are_said() -> None:
    plugins = Path(__file__).parents[2] / "plugins/gitopper_plugins"
    code = "".join(path.read_text() for path in [*plugins.glob("*.py"), *plugins.glob("dulwich/*.py")])
    quoted = re.findall(r"^\| `(.*?)` \|", PAGE.read_text().split("## When it says no")[1], re.MULTILINE)
    assert len(quoted) == 8
    for words in quoted:
        for part in re.split(r"…|\(|\)", words):
            if part.strip(": ") and not part.startswith(": key has expired"):  # ssh-keygen's own
                assert re.sub(r"\s+", " ", part).strip(": ") in re.sub(r'"\s+f?"', "", code), part
