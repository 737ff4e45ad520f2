"""The signatures that plugins rely on are those of the snapshot."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import attrs

from libgitopper import HOOK_API, MountVerb, hookspecs, limits, repository, requests, safeguards
from libgitopper.access import AuthRequest, Grant, Identity, TlsPeer, UnixPeer

SNAPSHOT = Path(__file__).with_name("hook_api_snapshot.json")


def _fields(kind: type) -> dict[str, str]:
    return {
        field.name: f"{field.type}{'' if field.default is attrs.NOTHING else ' (has a default)'}"
        for field in attrs.fields(kind)
    }


def _members(protocol: type) -> dict[str, str]:
    found = {}
    for name, member in vars(protocol).items():
        function = member.fget if isinstance(member, property) else member
        if not name.startswith("_") and callable(function):
            found[name] = ("property " if isinstance(member, property) else "") + str(
                inspect.signature(function)
            )
    return found


def current_api() -> dict[str, Any]:
    """Everything that a plugin's code relies on."""
    specs = {name: getattr(hookspecs.Specs, name) for name in hookspecs.HOOKS}
    values = [AuthRequest, Identity, Grant, UnixPeer, TlsPeer]
    for module in (requests, repository, safeguards, limits):
        values += [v for name in module.__all__ if attrs.has(v := getattr(module, name))]
    return {
        "version": HOOK_API,
        "hooks": {
            name: {
                "signature": str(inspect.signature(spec)),
                "first result": spec.gitopper_spec["firstresult"],
            }
            for name, spec in specs.items()
        },
        "values": {kind.__name__: _fields(kind) for kind in values},
        "store": _members(repository.Store),
        "verbs": {verb.name: verb.value for verb in MountVerb},
    }


def test_the_signatures_are_those_of_the_snapshot() -> None:
    """What only adds (a hook, a field with a default) needs a new snapshot; the rest a new HOOK_API, too.

    To write it: ``python -m tests.unit.test_hook_api``.
    """
    assert current_api() == json.loads(SNAPSHOT.read_text())


def test_hooks_have_neither_keyword_only_parameters_nor_defaults() -> None:
    # pluggy drops the one, and mishandles the other.
    for name in hookspecs.HOOKS:
        for parameter in inspect.signature(getattr(hookspecs.Specs, name)).parameters.values():
            assert parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
            assert parameter.default is inspect.Parameter.empty


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(current_api(), indent=2) + "\n")
