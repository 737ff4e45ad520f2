"""The search for secrets finds what it looks for."""

from __future__ import annotations

from pathlib import Path

from tests.support.secrets import leaks, secret

PASSWORD = secret("a-password-for-the-search")


def test_a_secret_in_a_log_or_in_the_state_is_found(tmp_path: Path) -> None:
    home = tmp_path / "some-test"
    (home / "state").mkdir(parents=True)
    (home / "gitopperd.log").write_text(f"https://me:{PASSWORD}@example.net")
    (home / "state" / "state.db").write_bytes(b"\0gitopper_" + b"x" * 43 + b"\0")
    (home / "gitopper.toml").write_text(PASSWORD)
    found = leaks(tmp_path)
    assert len(found) == 2
    assert any("gitopperd.log" in leak for leak in found)
    assert any("state.db" in leak for leak in found)
