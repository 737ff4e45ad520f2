"""An upload-pack for repositories of this host, where there is no git: ``python -m`` this, and a path."""

from __future__ import annotations

import sys
from pathlib import Path

from dulwich.errors import NotGitRepository
from dulwich.protocol import CAPABILITY_OFS_DELTA, CAPABILITY_SIDE_BAND_64K, Protocol
from dulwich.server import FileSystemBackend, UploadPackHandler

__all__ = ["serve"]


class _UploadPack(UploadPackHandler):
    @classmethod
    def required_capabilities(cls) -> tuple[bytes, ...]:
        """Without thin-pack, which dulwich insists on: our packs must stand alone."""
        return (CAPABILITY_SIDE_BAND_64K, CAPABILITY_OFS_DELTA)


def serve(path: Path) -> None:
    """Serve one client on the standard streams."""

    def send(data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    protocol = Protocol(sys.stdin.buffer.read, send)
    _UploadPack(FileSystemBackend("/"), [str(path)], protocol).handle()


if __name__ == "__main__":
    try:
        serve(Path(sys.argv[1]))
    except NotGitRepository:
        sys.exit(f"{sys.argv[1]} does not appear to be a git repository")
