"""No file with the markers of a merge conflict is published."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from libgitopper import Accepted, CheckError, CheckRequest, hookimpl

# As git writes them, in this order, each at the start of a line. One alone may be a heading.
MARKERS = (b"<<<<<<< ", b"=======\n", b">>>>>>> ")


@hookimpl
def gitopper_check(request: CheckRequest) -> Accepted:
    """Refuse a release in which some file has a conflict.

    Raises:
        CheckError: it has one (the same content is not tried again), or can't be read (it is).
    """
    release = request.release.path
    try:
        for path in _files(request):
            if line := _conflict(path):
                where = f"{path.relative_to(release)}:{line}"
                raise CheckError(f"{where}: a merge conflict that nobody resolved; push a commit that does")
    except OSError as exc:
        raise CheckError(f"{exc.filename}: {exc.strerror}", retryable=True) from exc
    return Accepted()


def _files(request: CheckRequest) -> Iterator[Path]:
    """The plain files of the release; its links are not followed: they may lead out of it."""
    for mapping in request.service.mappings:
        top = request.release.path / mapping.link
        yield from (path for path in (top, *top.rglob("*")) if path.is_file() and not path.is_symlink())


def _conflict(path: Path) -> int:
    """Return the number of the line where the first conflict begins; 0 where there is none."""
    seen, begins = 0, 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.startswith(MARKERS[0]):
                seen, begins = 1, number
            elif seen and line.startswith(MARKERS[seen]):
                seen += 1
                if seen == len(MARKERS):
                    return begins
    return 0
