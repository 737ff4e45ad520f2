"""What ends gitopperhdr with code 1."""

from __future__ import annotations

__all__ = ["HeaderError"]


class HeaderError(Exception):
    """There is no header for this file; the text says why, and what to do."""
