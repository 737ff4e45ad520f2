"""The state that is shown: each state, each text, and what must never be shown."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import example, given
from hypothesis import strategies as st

from libgitopper import (
    AuthError,
    CheckoutError,
    CommandError,
    Content,
    Deployed,
    GitopperError,
    Intent,
    IntentKind,
    PluginError,
    PublishError,
    ReloadError,
    Service,
    Source,
    SourceError,
    SourceHealth,
    State,
    StateError,
    StepError,
    UnknownRevision,
    derive,
)

A, B = "a" * 40, "b" * 40
GOOD = SourceHealth(polled=True, last_success=datetime(2026, 1, 1, tzinfo=UTC))
DOWN = SourceHealth(polled=True, error="https://example.net: no route to host")
TRACK, FREEZE = Intent(), Intent(kind=IntentKind.FREEZE)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
BACK = Intent(kind=IntentKind.ROLLBACK, revision=A)


def deployed(revision: str, note: str = "") -> Deployed:
    service = Service(
        name="web",
        source=Source(upstream="https://example.net", branch="main"),
        mappings=(),
        mount=Path("/m"),
    )
    return Deployed(
        revision=revision,
        release="r",
        content=Content(revision=revision, entries=()),
        service=service,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        note=note,
    )


def shown(**changes: Any) -> tuple[State, str]:
    """By default: a service that is well."""
    values: dict[str, Any] = {
        "intent": TRACK,
        "deployed": deployed(A),
        "tip": A,
        "source": GOOD,
        "branch": "main",
        "error": None,
    }
    return derive(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "state", "info"),
    [
        pytest.param({}, State.OK, "", id="well"),
        pytest.param({"deployed": deployed(A, "x is stopped")}, State.OK, "x is stopped", id="note"),
        pytest.param({"source": SourceHealth()}, State.DIFF, "not fetched yet", id="not polled"),
        pytest.param({"source": DOWN}, State.DIFF, DOWN.error, id="upstream down"),
        pytest.param(
            {"tip": None},
            State.DIFF,
            "upstream has no branch 'main'; stays at aaaaaaaaaaaa",
            id="branch gone",
        ),
        pytest.param(
            {"tip": None, "deployed": None},
            State.DIFF,
            "upstream has no branch 'main'",
            id="no branch ever",
        ),
        pytest.param({"tip": B}, State.DIFF, "bbbbbbbbbbbb is not deployed yet", id="behind"),
        pytest.param({"deployed": None}, State.DIFF, "aaaaaaaaaaaa is not deployed yet", id="first"),
        pytest.param({"intent": FREEZE}, State.FREEZE, "", id="frozen"),
        pytest.param(
            {"intent": FREEZE, "tip": B, "source": DOWN}, State.FREEZE, "", id="frozen, upstream down"
        ),
        pytest.param(
            {"intent": FREEZE, "deployed": deployed(A, "n")}, State.FREEZE, "n", id="frozen, note"
        ),
        pytest.param(
            {"intent": FREEZE, "deployed": None},
            State.DIFF,
            "frozen before its first deploy: nothing is published",
            id="frozen empty",
        ),
        pytest.param(
            {"intent": evolve(FREEZE, by="alice (uid 1000)", until=NOON, reason="upgrade")},
            State.FREEZE,
            "frozen by alice (uid 1000) until 2026-11-22T12:00Z: upgrade",
            id="frozen, with all that is known",
        ),
        pytest.param(
            {"intent": evolve(FREEZE, until=NOON.replace(second=7))},
            State.FREEZE,
            "frozen until 2026-11-22T12:00:07Z",
            id="frozen until",
        ),
        pytest.param(
            {"intent": evolve(FREEZE, reason="new disks"), "deployed": deployed(A, "n")},
            State.FREEZE,
            "frozen: new disks; n",
            id="frozen, reason and note",
        ),
        pytest.param(
            {"intent": evolve(FREEZE, by="ops"), "error": PublishError("in the way")},
            State.BROKEN,
            "frozen by ops; in the way",
            id="frozen and failed",
        ),
        pytest.param(
            {"intent": evolve(BACK, by="ops")}, State.FREEZE, f"ROLLBACK: {A}", id="rolled back by"
        ),
        pytest.param({"intent": BACK}, State.FREEZE, f"ROLLBACK: {A}", id="rolled back"),
        pytest.param(
            {"intent": BACK, "deployed": deployed(A, "n")},
            State.FREEZE,
            f"ROLLBACK: {A}; n",
            id="rolled back, note",
        ),
        pytest.param(
            {"intent": BACK, "deployed": deployed(B)}, State.ROLLBACK, f"to {A}", id="rolling back"
        ),
        pytest.param(
            {"intent": BACK, "deployed": None}, State.ROLLBACK, f"to {A}", id="rolling back from nothing"
        ),
        pytest.param(
            {"intent": BACK, "deployed": deployed(B), "source": DOWN},
            State.ROLLBACK,
            f"to {A}; {DOWN.error}",
            id="rolling back, upstream down",
        ),
        pytest.param({"error": ReloadError("exit code 1")}, State.BROKEN, "exit code 1", id="reload"),
        pytest.param({"error": PublishError("in the way")}, State.BROKEN, "in the way", id="publish"),
        pytest.param({"error": CommandError("ended")}, State.BROKEN, "ended", id="command"),
        pytest.param({"error": PluginError("no plugin")}, State.BROKEN, "no plugin", id="plugin"),
        pytest.param({"error": StateError("disk full")}, State.BROKEN, "disk full", id="state store"),
        pytest.param({"error": CheckoutError("no web")}, State.DIFF, "no web", id="checkout"),
        pytest.param({"error": SourceError("gone")}, State.DIFF, "gone", id="source"),
        pytest.param({"error": AuthError("refused")}, State.DIFF, "refused", id="auth"),
        pytest.param(
            {"error": ReloadError("exit code 1"), "source": DOWN},
            State.BROKEN,
            f"exit code 1; {DOWN.error}",
            id="reload, upstream down",
        ),
        pytest.param(
            {"error": SourceError("gone"), "source": DOWN},
            State.DIFF,
            "gone",
            id="the same trouble is told once",
        ),
        pytest.param(
            {"error": ReloadError("exit code 1"), "intent": FREEZE},
            State.BROKEN,
            "frozen; exit code 1",
            id="frozen",
        ),
        pytest.param(
            {"error": UnknownRevision("no such"), "intent": BACK, "deployed": deployed(B)},
            State.BROKEN,
            "rollback to aaaaaaaaaaaa failed; no such",
            id="rollback fails",
        ),
        pytest.param(
            {"error": PublishError("in the way"), "intent": BACK},
            State.BROKEN,
            "rolled back to aaaaaaaaaaaa; in the way",
            id="rolled back, and something else fails",
        ),
    ],
)
def test_each_state_has_its_case(changes: dict[str, object], state: State, info: str) -> None:
    assert shown(**changes) == (state, info)


TEXTS = st.text(max_size=30) | st.sampled_from(["", "\n", "a\nb", "\x1b[31mred", "\u202eevil", "\udcff"])
ERRORS = st.builds(
    lambda kind, text: kind(text),
    st.sampled_from(
        [SourceError, AuthError, CheckoutError, PublishError, StepError, StateError, GitopperError]
    ),
    TEXTS,
)
SITUATIONS = st.fixed_dictionaries(
    {
        "intent": st.builds(
            Intent, kind=st.sampled_from(IntentKind), revision=st.none() | st.sampled_from([A, B])
        ),
        "deployed": st.none() | st.builds(deployed, st.sampled_from([A, B]), TEXTS),
        "tip": st.none() | st.sampled_from([A, B]),
        "source": st.builds(SourceHealth, polled=st.booleans(), error=st.none() | TEXTS),
        "branch": TEXTS,
        "error": st.none() | ERRORS,
    }
)
WELL = {"intent": TRACK, "deployed": deployed(A), "tip": A, "source": GOOD, "branch": "main", "error": None}


@given(situation=SITUATIONS)
@example(situation=WELL)
@example(situation=WELL | {"source": SourceHealth(polled=True, error="")})
@example(situation=WELL | {"error": StepError("")})
@example(situation=WELL | {"deployed": deployed(A, "two\nlines \x1b[31m")})
def test_whatever_happens_there_is_a_state_and_ok_is_never_a_guess(situation: dict[str, Any]) -> None:
    state, info = shown(**situation)
    assert isinstance(state, State)
    assert info == " ".join(info.split()), "one line, no runs of white space"
    assert info.isprintable()
    source, there = situation["source"], situation["deployed"]
    assert isinstance(source, SourceHealth)
    if state is State.OK:
        assert situation["error"] is None
        assert source.polled
        assert source.error is None
        assert isinstance(there, Deployed)
        assert there.revision == situation["tip"]
        assert situation["intent"].kind is IntentKind.TRACK
    elif state is not State.FREEZE:
        assert info, "a state that is not well says why"
    if state is State.FREEZE:
        assert situation["error"] is None
        assert there is not None
