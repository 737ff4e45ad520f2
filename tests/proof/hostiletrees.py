"""Hostile trees: names, symlinks, modes, depth, width."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import frozen

from tests.proof.hostileground import LIMITS, Ground, Repository
from tests.support import rawpack as raw

__all__ = ["Case", "dotgit_spellings", "tree_cases"]

FILE, LINK, DIRECTORY, GITLINK = "100644", "120000", "40000", "160000"

# What HFS+ takes for nothing in a name: git's utf8.c, next_hfs_char().
IGNORED = [*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF]
CONTROLS = [chr(code).encode() for code in (*range(1, 32), *range(0x7F, 0xA0))]
BIDI = [
    chr(code).encode() for code in (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
]


@frozen
class Case:
    """One hostile repository."""

    name: str
    build: Callable[[Repository], str]
    """Fills a repository, and returns its tip."""
    reason: str = ""
    """A part of the reason for which it is refused; empty where it is deployed."""

    def on(self, here: Ground) -> None:
        """See `Trial`."""
        repository = Repository()
        here.serve(self.build(repository), repository.pack())
        here.hold(here.attempt(), self.reason)


def web(name: str, entries: Callable[[Repository], list[tuple[str, bytes, str]]], reason: str = "") -> Case:
    """A case whose mapped directory has `entries`."""
    return Case(name, lambda it: it.of_web(it.tree(*entries(it))), reason)


def of_rubbish(data: bytes) -> Case:
    """A case whose mapped directory is no directory, but `data`."""
    return Case(f"rubbish {data[:12]!r}", lambda it: it.of_web(it.add(raw.TREE, data)), "malformed")


def beside(name: str, *entries: tuple[str, bytes], reason: str = "") -> Case:
    """A case with `entries` beside the mapped directory."""

    def build(it: Repository) -> str:
        good = it.tree((FILE, b"index", it.blob()))
        return it.of_web(good, *((mode, name, it.blob()) for mode, name in entries))

    return Case(name, build, reason)


def one(mode: str, name: bytes, reason: str = "", data: bytes = b"harmless") -> Case:
    """A case with one entry in the mapped directory."""

    def entries(it: Repository) -> list[tuple[str, bytes, str]]:
        inner = it.tree((FILE, b"x", it.blob())) if mode == DIRECTORY else it.blob(data)
        return [(mode, name, inner)]

    return web(f"{mode} {name[:40]!r} {data[:30]!r}", entries, reason)


def dotgit_spellings() -> Iterator[bytes]:
    """Every kind of name that git's own fsck takes for ``.git``, and some that only look so."""
    yield from (b".git", b".GIT", b".Git", b"git~1", b"GIT~1", b"gIt~1")
    for ending in (
        b" ",
        b".",
        b" .",
        b". ",
        b"...",
        b"::$INDEX_ALLOCATION",
        b":x",
        b"\\x",
        b"\\",
        b" . \\y",
    ):
        yield from (b".git" + ending, b".GIT" + ending, b"git~1" + ending)
    for code in IGNORED:
        for at in range(5):
            name = ".gIt"[:at] + chr(code) + ".gIt"[at:]
            yield name.encode()
    yield "\u200d.\u200dg\u200di\u200dt\u200d".encode()
    yield from (b".gitx", b"git~2", b"git~11", b".git~1", b"x.git", b".gi", b".g", b"git", b".gitmodules")
    yield from (
        ".g\u0131t".encode(),
        ".\u200bgit".encode(),
        b".git\xff",
        b".GIT\xe2\x80x",
        b".g\xe2\x80\x8cit\xff",
        b"\xe2\x80.git",
        b".gi\xfft",
        ".g\u0131t".encode(),
    )


def names() -> Iterator[Case]:
    """Names that are none, that are too long, or that would play tricks."""
    for name in (b".", b"..", b"...", b"a/b", b"/etc", b"../../outside/passwd", b"a/", b"/"):
        yield one(FILE, name, "is not safe")
        yield one(DIRECTORY, name, "is not safe")
    for size in (256, 1000, 4096, 60_000):
        yield one(FILE, b"n" * size, "more than 255 bytes")
    yield one(FILE, b"n" * 255)
    yield one(FILE, b"\xff" * 256, "more than 255 bytes")
    for name in (
        b"\xff\xfe",
        b"\xc3",
        b"caf\xe9",
        b"-rf",
        b"a\\b",
        b"CON",
        b"nul.txt",
        b"~",
        b"$(id)",
        b"`id`",
    ):
        yield one(FILE, name)
    for piece in (
        *CONTROLS,
        *BIDI,
        b"\x1b]0;owned\x07",
        b"\x1b[2J\x1b[H",
        b"\r\n<3>all is lost",
        b"\xe2\x80\xa8",
    ):
        yield one(FILE, b"in" + piece + b"conf")
        yield one(LINK, b"in" + piece, "absolute path", data=b"/etc/" + piece)
        yield one("10644", piece + b"x", "its mode is")
    yield web(
        "cases collide", lambda it: [(FILE, b"NGINX", it.blob(b"1")), (FILE, b"nginx", it.blob(b"2"))]
    )
    yield web(
        "composed and not",
        lambda it: [(FILE, b"e\xcc\x81", it.blob(b"1")), (FILE, b"\xc3\xa9", it.blob(b"2"))],
    )
    yield web(
        "twice", lambda it: [(FILE, b"a", it.blob(b"1")), (FILE, b"a", it.blob(b"2"))], "it is there twice"
    )
    yield web(
        "twice, apart",
        lambda it: [(FILE, b"a", it.blob(b"1")), (FILE, b"b", it.blob()), (FILE, b"a", it.blob(b"2"))],
        "it is there twice",
    )
    yield web(
        "a symlink and a directory of one name",
        lambda it: [
            (LINK, b"a", it.blob(b"../../../outside")),
            (DIRECTORY, b"a", it.tree((FILE, b"passwd", it.blob()))),
        ],
        "it is there twice",
    )  # fmt: skip
    yield web("not in order", lambda it: [(FILE, b"b", it.blob()), (FILE, b"a", it.blob())])


def around() -> Iterator[Case]:
    """What stands beside the mapped directory, and could be taken for a part of it."""
    yield beside("a file of the mapping", (FILE, b"web/index"), reason="is not safe")
    yield beside("an absolute path", (FILE, b"/etc/passwd"), reason="is not safe")
    yield beside("the parent", (FILE, b".."), reason="is not safe")
    yield beside("git itself", (FILE, b".GIT"), reason="is not safe")
    yield beside("the mapping twice", (FILE, b"web"), reason="it is there twice")
    yield beside("another twice", (FILE, b"x"), (FILE, b"x"), reason="it is there twice")
    yield beside("a name that is too long", (FILE, b"n" * 5000), reason="more than 255 bytes")
    yield beside("names to be seen", (FILE, b"\x1b[2J"), (FILE, b"\xff"), (FILE, "x\u202e".encode()))
    yield beside("old modes", ("100664", b"a"), ("100600", b"b"), ("104755", b"c"), (LINK, b"d"))


def links() -> Iterator[Case]:
    """Symlinks that lead out, by themselves or together."""
    for target in (b"/etc/passwd", b"//etc", b"/", b"/proc/self/root", b"/dev/stdin"):
        yield one(LINK, b"l", "absolute path", data=target)
    for target in (b"..", b"../web/x", b"../../outside", b"./../x", b".//..//x"):
        yield one(LINK, b"l", "outside of the mapped directory", data=target)
    for target in (b"a/../../x", b"a/..", b"./a/./../b", b"l/.."):
        yield one(LINK, b"l", "without .. after a name", data=target)
    for target in (b"", b"a\0b", b"x" * 4096, b"x" * 100_000):
        yield one(LINK, b"l", "without a proper target", data=target)
    for target in (b"l", b"missing", b".", b"./", b"x" * 255, b"\xff", b"a\nb"):
        yield one(LINK, b"l", data=target)
    yield web(
        "through another symlink",
        lambda it: [
            (LINK, b"out", it.blob(b"sub/up/../outside")),
            (DIRECTORY, b"sub", it.tree((LINK, b"up", it.blob(b"..")))),
        ],
        "without .. after a name",
    )  # fmt: skip
    yield web("in a circle", lambda it: [(LINK, b"a", it.blob(b"b")), (LINK, b"b", it.blob(b"a"))])
    yield web(
        "a large target", lambda it: [(LINK, b"a", it.blob(b"x" * (2 * LIMITS.file_bytes)))], "max_file"
    )
    yield Case(
        "the mapped directory",
        lambda it: it.commit(it.tree((LINK, b"web", it.blob(b"/etc")))),
        "is a symlink",
    )


def modes() -> Iterator[Case]:
    """Modes of devices, and modes that git no longer writes."""
    for mode in ("0", "10644", "20000", "60666", "140000", "777777", "170000", "7"):
        yield one(mode, b"it", "its mode is")
    for mode in ("100664", "100600", "104755", "106777", "107777", "100000", "0100644"):
        yield one(mode, b"it")
    for mode in ("", "+100644", "-1", "1006448", "0o100644", "1_00", "abc", "9" * 30):
        yield one(mode, b"it", "is malformed")
    yield web(
        "gitlink",
        lambda it: [(GITLINK, b"module", "1" * 40), (FILE, b".gitmodules", it.blob(b"[submodule]"))],
    )
    yield Case(
        "a gitlink as the mapping",
        lambda it: it.commit(it.tree((GITLINK, b"web", "1" * 40))),
        "is a submodule",
    )
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"1" * 64 + b"\nsize 5\n"
    yield web(
        "LFS, filters and line ends, all verbatim",
        lambda it: [
            (
                FILE,
                b".gitattributes",
                it.blob(b"* filter=lfs text eol=crlf ident working-tree-encoding=UTF-16\n"),
            ),
            (FILE, b"large", it.blob(pointer)),
        ],
    )


def shapes() -> Iterator[Case]:
    """Trees that are too deep, too wide, or both; and what is no tree at all."""

    def deep(levels: int, name: bytes = b"d") -> Callable[[Repository], str]:
        def build(it: Repository) -> str:
            below = it.tree((FILE, b"x", it.blob()))
            for _ in range(levels):
                below = it.tree((DIRECTORY, name, below))
            return it.of_web(below)

        return build

    yield Case("100 deep", deep(100))
    yield Case("129 deep", deep(129), "directories deep")
    yield Case("3000 deep", deep(3000), "directories deep")
    yield Case("a path of 30 long names", deep(30, b"n" * 250), "its path is longer")
    yield Case("a tree that multiplies", _multiplying, "more than 200000")
    yield Case("wide at every depth", _wide_and_deep, "more than 200000")
    yield Case("a million entries", lambda it: it.of_web(_million(it)), "more than 200000 entries")
    yield Case(
        "a million entries beside",
        lambda it: it.commit(it.add(raw.TREE, _rows(it.blob(), 1_000_000) + _web(it))),
        "more than 200000 entries",
    )  # fmt: skip
    yield Case("20,000 files", lambda it: it.of_web(it.add(raw.TREE, _rows(it.blob(), 20_000))))
    yield Case("itself", lambda it: it.of_web("1" * 40), "is not in")
    yield Case("an empty tree", lambda it: it.of_web(it.tree()))
    for rubbish in (b"x", b"100644", b"100644 a\0short", b"\0" * 40, b"  a\0" + b"1" * 20, b"1 a" * 99):
        yield of_rubbish(rubbish)
    yield one(FILE, b"", "is not safe")
    yield Case("a blob for a tree", lambda it: it.of_web(it.blob()), "is not in")
    yield Case("a tree for a file", lambda it: it.of_web(it.tree((FILE, b"a", it.tree()))), "not")
    yield Case("a root that is missing", lambda it: it.commit("1" * 40), "lacks commit")
    yield Case("a commit that is none", lambda it: it.add(raw.COMMIT, b"\0\xff" * 50), "lacks commit")
    yield Case("a huge subject", lambda it: _with_subject(it, b"s\x1b" * 200_000))
    yield Case("a commit of two megabytes", lambda it: _with_subject(it, b"s" * (2 << 20)), "lacks commit")


def _with_subject(it: Repository, subject: bytes) -> str:
    return it.commit(it.tree((DIRECTORY, b"web", it.tree((FILE, b"x", it.blob())))), subject=subject)


def _multiplying(it: Repository) -> str:
    below = it.tree((FILE, b"x", it.blob()))
    for _ in range(7):
        below = it.tree(*((DIRECTORY, b"%d" % number, below) for number in range(10)))
    return it.of_web(below)


def _wide_and_deep(it: Repository) -> str:
    below, rows = it.tree(), _rows(it.blob(), 100_000)
    for _ in range(20):
        below = it.add(raw.TREE, rows + raw.tree((DIRECTORY, b"z", below)))
    return it.of_web(below)


def _million(it: Repository) -> str:
    return it.add(raw.TREE, _rows(it.blob(), 1_000_000))


def _rows(blob: str, count: int) -> bytes:
    tail = b"\0" + bytes.fromhex(blob)
    return b"".join(b"100644 %06d" % number + tail for number in range(count))


def _web(it: Repository) -> bytes:
    return raw.tree((DIRECTORY, b"web", it.tree((FILE, b"x", it.blob()))))


def tree_cases() -> dict[str, list[Case]]:
    """All cases, by group."""
    return {
        "names": list(names()),
        "names beside the mapping": list(around()),
        "symlinks": list(links()),
        "modes, modules, filters": list(modes()),
        "shapes": list(shapes()),
    }
