"""How a comment looks in a file, by the file's name."""

from __future__ import annotations

from pathlib import PurePath

from gitopperd.hdr.errors import HeaderError

__all__ = ["comment", "delimiters"]

HASH, SLASHES, SEMICOLON, DASHES = ("# ", ""), ("// ", ""), ("; ", ""), ("-- ", "")
QUOTE, PERCENT, BANG, DOTS = ('" ', ""), ("% ", ""), ("! ", ""), (".. ", "")
STARS, MARKUP, BRACES = ("/* ", " */"), ("<!-- ", " -->"), ("{{!-- ", " --}}")

_BY_SUFFIX = {
    SLASHES: "c cc cpp cs cue dart go gradle groovy h hpp java js json5 jsonc jsonnet jsx kt kts libsonnet"
    " mjs php proto rs scala swift ts tsx",
    SEMICOLON: "asm el lisp zone",
    DASHES: "lua sql hs elm adb ads vhd vhdl",
    QUOTE: "vim",
    PERCENT: "tex sty cls bib erl hrl",
    BANG: "f90 f95 xresources",
    STARS: "css scss less",
    MARKUP: "htm html md svg vue xhtml xml xsd xsl xslt plist",
    BRACES: "hbs",
    DOTS: "rst",
}
_SUFFIXES = {f".{suffix}": pair for pair, suffixes in _BY_SUFFIX.items() for suffix in suffixes.split()}

_NAMES = {"named.conf": SLASHES, ".vimrc": QUOTE, "vimrc": QUOTE, ".xresources": BANG, "php.ini": SEMICOLON}

# No comment of any kind: a header would break them.
_NONE = frozenset({".json", ".csv", ".tsv", ".pem", ".crt", ".key"})


def delimiters(name: str) -> tuple[str, str]:
    """Return what stands before and after a comment in a file of this name; ``# `` where nothing is known.

    Raises:
        HeaderError: such files have no comments.
    """
    path = PurePath(name.lower())
    if path.suffix in _NONE:
        raise HeaderError(
            f"{name}: {path.suffix} files have no comments; if this one has, say what they begin with: -p"
        )
    return _NAMES.get(path.name) or _SUFFIXES.get(path.suffix) or HASH


def comment(line: str, before: str, after: str) -> str:
    """Return `line` as a comment."""
    if (before, after) == MARKUP:
        # Two hyphens would end it. In a URL their code does as well.
        line = line.replace("--", "-%2D")
    return f"{before}{line}{after}"
