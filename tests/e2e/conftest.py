"""Fixtures of the end-to-end tests."""

from tests.support.fixtures import systemd_box

__all__ = ["systemd_box"]
