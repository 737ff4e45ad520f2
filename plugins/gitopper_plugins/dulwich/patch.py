"""Patches that ``git apply`` takes, as ``git diff --full-index --binary`` would write them.

The format is told in git-diff-files(1), "generating patch text with -p"; that of binary hunks is in
git's diff.c and apply.c: lines of base 85, each led by a letter for how many bytes it stands for.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from attrs import field, frozen
from dulwich.objects import ObjectID

from gitopper_plugins.dulwich.blobs import bring_blobs
from gitopper_plugins.dulwich.compare import Difference, Version
from gitopper_plugins.dulwich.linediff import hunks
from gitopper_plugins.dulwich.objects import BLOB, Objects, TooLarge
from gitopper_plugins.dulwich.tree import DIRECTORY, SUBMODULE, kind_of
from libgitopper import CheckoutError, Service

if TYPE_CHECKING:  # a store writes patches
    from gitopper_plugins.dulwich.store import SharedStore

__all__ = ["LIMIT_BYTES", "Side", "comment", "file_patch", "patch_of", "quoted"]

LIMIT_BYTES = 16 * 1024 * 1024
"""The longest patch: it is held in memory, kept in the state, and sent as one answer."""
_NOTHING = b"0" * 40
_LINE_BYTES = 52
# What takes a binary change back. Within the store `git apply -R` does without it.
REVERSE_BYTES = 1024 * 1024

_UNSAFE = re.compile(rb'[\x00-\x1f"\\\x7f-\xff]')
_ESCAPES = {
    7: b"\\a", 8: b"\\b", 9: b"\\t", 10: b"\\n", 11: b"\\v", 12: b"\\f", 13: b"\\r",
    34: b'\\"', 92: b"\\\\",
}  # fmt: skip


@frozen
class Side:
    """A file as it is on one side of a patch."""

    mode: int
    """As git records it; not of a directory."""
    id: ObjectID
    data: bytes | None = field(default=None, repr=False)
    """Its content, or target; None for a submodule. Also on the side before, where it can't be had: then
    the patch tells all of the new content, and nothing of the old."""


def patch_of(store: SharedStore, differences: Iterable[Difference], service: Service) -> bytes:
    """The patch with all of `differences`.

    Raises:
        SourceError: file contents are missing, and upstream can't give them now.
        CheckoutError: it would be longer than `LIMIT_BYTES`.
    """
    differences = list(differences)
    bring_blobs(store, [blob for difference in differences for blob in difference.blobs], service)
    parts, size = [], 0
    too_long = CheckoutError(
        f"the patch would be longer than {LIMIT_BYTES} bytes; use `git diff` in {service.live}",
        retryable=False,
    )
    for difference in differences:
        try:
            sides = [_side(store.objects, version) for version in (difference.before, difference.after)]
        except TooLarge:
            raise too_long from None
        parts.append(file_patch(difference.path, *sides))
        size += len(parts[-1])
        if size > LIMIT_BYTES:
            raise too_long
    return b"".join(parts)


def _side(objects: Objects, version: Version | None) -> Side | None:
    if version is None or version.mode == DIRECTORY:
        return None
    if version.mode == SUBMODULE:
        return Side(version.mode, version.id)
    return Side(version.mode, version.id, objects.read(version.id, BLOB, LIMIT_BYTES))


def file_patch(path: bytes, before: Side | None, after: Side | None) -> bytes:
    """What makes `after` of `before`; None on either side for no file."""
    if before and after and kind_of(before.mode) != kind_of(after.mode):
        return file_patch(path, before, None) + file_patch(path, None, after)
    return b"".join(_file_patch(path, before, after))


def comment(text: bytes) -> bytes:
    """Lines that `git apply` skips, where no diff came before them."""
    return b"".join(b"# " + line + b"\n" for line in text.split(b"\n"))


def quoted(name: bytes) -> bytes:
    """As git shows a name: plain, or in quotes with escapes."""
    if not _UNSAFE.search(name):
        return name
    return b'"' + _UNSAFE.sub(lambda found: _escape(found[0][0]), name) + b'"'


def _escape(byte: int) -> bytes:
    return _ESCAPES.get(byte, b"\\%03o" % byte)


def _file_patch(path: bytes, before: Side | None, after: Side | None) -> Iterator[bytes]:
    yield b"diff --git " + quoted(b"a/" + path) + b" " + quoted(b"b/" + path) + b"\n"
    if before is None and after:
        yield b"new file mode %06o\n" % after.mode
    elif before and after is None:
        yield b"deleted file mode %06o\n" % before.mode
    elif before and after and before.mode != after.mode:
        yield b"old mode %06o\nnew mode %06o\n" % (before.mode, after.mode)
    old, new = before.id if before else _NOTHING, after.id if after else _NOTHING
    if old == new:
        return
    mode = b" %06o" % after.mode if before and after and before.mode == after.mode else b""
    yield b"index " + old + b".." + new + mode + b"\n"
    yield from _content(path, before, after)


def _content(path: bytes, before: Side | None, after: Side | None) -> Iterator[bytes]:
    old, new = _text(before), _text(after)
    if new is None:
        raise ValueError("a patch needs the content of what it makes")
    text = None if old is None or b"\0" in old or b"\0" in new else hunks(old, new)
    if text is None:
        yield from _binary(old, new)
    elif old != new:
        # With a space in the name, a tab tells where it ends.
        end = b"\t\n" if b" " in path else b"\n"
        yield b"--- " + (quoted(b"a/" + path) + end if before else b"/dev/null\n")
        yield b"+++ " + (quoted(b"b/" + path) + end if after else b"/dev/null\n")
        yield from text


def _text(side: Side | None) -> bytes | None:
    if side is None:
        return b""
    if kind_of(side.mode) == SUBMODULE:
        return b"Subproject commit " + side.id + b"\n"
    return side.data


def _binary(old: bytes | None, new: bytes) -> Iterator[bytes]:
    yield b"GIT binary patch\n"
    yield from _literal(new)
    if old is not None and len(old) <= REVERSE_BYTES:
        yield from _literal(old)


def _literal(data: bytes) -> Iterator[bytes]:
    yield b"literal %d\n" % len(data)
    packed = zlib.compress(data)
    text = base64.b85encode(packed, pad=True)
    for start in range(0, len(packed), _LINE_BYTES):
        count = min(_LINE_BYTES, len(packed) - start)
        digits = text[start // 4 * 5 : (start + _LINE_BYTES) // 4 * 5]
        yield bytes([count + 64 if count <= 26 else count + 70]) + digits + b"\n"
    yield b"\n"
