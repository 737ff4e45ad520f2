"""Sync windows: the times of the week in which new commits are deployed. Pure.

A window is open whenever a clock on a wall in its zone shows a time within it. That settles the days on
which clocks are changed: an hour that comes twice is open twice, one that is left out never.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from attrs import frozen

__all__ = ["Window", "opening", "parse_window"]

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
EVERY_DAY = frozenset(range(7))
DAY_MINUTES = 24 * 60

EXAMPLE = 'write it as "Mon-Fri 09:00-17:00 Europe/Amsterdam"'
_TIMES = re.compile(r"([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})")


@frozen(kw_only=True)
class Window:
    """A span of local time on some days of the week, as ``Mon-Fri 09:00-17:00 Europe/Amsterdam``."""

    text: str
    """As it is written in the configuration; what an operator is shown."""
    days: frozenset[int]
    """0 for Monday to 6 for Sunday: the days on which it begins."""
    start_minute: int
    """Minutes after local midnight; 0 to 1439."""
    end_minute: int
    """As `start_minute`, exclusive; up to 1440. Not after `start_minute`: it ends on the next day."""
    zone: str
    """IANA name of the time zone, as ``Europe/Amsterdam``; ``UTC`` where none is written."""

    def local(self, at: datetime) -> datetime:
        """Return `at` as clocks in the window's zone show it."""
        return at.astimezone(_zone(self.zone))

    def is_open(self, at: datetime) -> bool:
        """Tell whether the window is open at `at`."""
        local = self.local(at)
        today, minute = local.weekday(), local.hour * 60 + local.minute
        if self.start_minute < self.end_minute:
            return today in self.days and self.start_minute <= minute < self.end_minute
        yesterday = (today - 1) % 7
        return (today in self.days and minute >= self.start_minute) or (
            yesterday in self.days and minute < self.end_minute
        )


def parse_window(text: str) -> Window:
    """Read a window: days, times and, if it is not UTC, a time zone.

    Days are ``Mon-Fri``, ``Sat,Sun``, ``Fri-Mon``, ``daily`` or ``*``. Times are ``09:00-17:00``; they may
    go over midnight, and end at ``24:00``. The zone is an IANA name.

    Raises:
        ValueError: it is no window; the text says what is wrong, and what to write.
    """
    words = text.split()
    if len(words) not in {2, 3}:
        raise ValueError(f"{text!r} is not a window; {EXAMPLE}")
    start, end = _read_times(words[1])
    zone = words[2] if len(words) == 3 else "UTC"
    _check_zone(zone)
    return Window(
        text=" ".join(words), days=_read_days(words[0]), start_minute=start, end_minute=end, zone=zone
    )


def opening(windows: Sequence[Window], now: datetime) -> datetime | None:
    """Return when the first of `windows` opens, in UTC; None where one is open at `now`, or there is none.

    `now` is aware.
    """
    if not windows or any(window.is_open(now) for window in windows):
        return None
    return min(_next(window, now.astimezone(UTC)) for window in windows)


def _next(window: Window, at: datetime) -> datetime:
    """Return when a window opens that is closed at `at` (UTC)."""
    # Between two changes of the clocks, wall time runs evenly: go on to where it would open, or to where
    # the clocks are changed, whichever comes first. At most a day, lest two changes hide each other.
    while True:
        local = window.local(at)
        step = min(_until_start(window, local.replace(tzinfo=None)), timedelta(days=1))
        if window.local(at + step).utcoffset() != local.utcoffset():
            step = _until_change(window, at, step)
        at += step
        if window.is_open(at):
            return at


def _until_start(window: Window, local: datetime) -> timedelta:
    """How long until a clock that shows `local`, and is not changed, shows the start of the window."""
    start = time(*divmod(window.start_minute, 60))
    starts = (datetime.combine(local.date() + timedelta(days=n), start) for n in range(8))
    return next(s - local for s in starts if s > local and s.weekday() in window.days)


def _until_change(window: Window, at: datetime, within: timedelta) -> timedelta:
    """How long until the clocks are changed, which they are between `at` and `at + within`."""
    before = window.local(at).utcoffset()
    low, high = 0, -(-within // timedelta(seconds=1))
    while high - low > 1:
        middle = (low + high) // 2
        if window.local(at + timedelta(seconds=middle)).utcoffset() == before:
            low = middle
        else:
            high = middle
    # Clocks are changed on a full second; `at` need not be on one.
    return timedelta(seconds=high) - timedelta(microseconds=at.microsecond)


def _read_days(text: str) -> frozenset[int]:
    if text.lower() in {"daily", "*"}:
        return EVERY_DAY
    return frozenset(day for part in text.split(",") for day in _read_range(part))


def _read_range(text: str) -> list[int]:
    first, dash, last = text.partition("-")
    begin = _read_day(first)
    end = _read_day(last) if dash else begin
    return [(begin + n) % 7 for n in range((end - begin) % 7 + 1)]


def _read_day(text: str) -> int:
    try:
        return DAYS.index(text.capitalize())
    except ValueError:
        known = ", ".join(DAYS)
        raise ValueError(
            f'{text!r} is not a day; write "daily", or days of {known}, as "Mon-Fri" or "Sat,Sun"'
        ) from None


def _read_times(text: str) -> tuple[int, int]:
    match = _TIMES.fullmatch(text)
    if not match:
        raise ValueError(f'{text!r} is not a span of time; write it as "09:00-17:00"')
    hours, minutes, end_hours, end_minutes = (int(number) for number in match.groups())
    start, end = hours * 60 + minutes, end_hours * 60 + end_minutes
    if max(minutes, end_minutes) > 59 or start >= DAY_MINUTES or end > DAY_MINUTES:
        raise ValueError(f'{text!r} is not a span of time; hours go from 00:00 to 24:00, as "22:00-24:00"')
    if start == end:
        raise ValueError(f'{text!r} ends when it begins; write "00:00-24:00" for the whole day')
    return start, end


def _zone(name: str) -> tzinfo:
    # UTC needs no time zone data, which a small host may lack.
    return UTC if name == "UTC" else ZoneInfo(name)


def _check_zone(name: str) -> None:
    try:
        _zone(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        if not _has_data():
            raise ValueError(
                f"{name!r} can't be looked up: this host has no time zone data; install the package tzdata,"
                " or write the window in UTC"
            ) from exc
        raise ValueError(
            f'{name!r} is not a time zone that this host knows; write one as "Europe/Amsterdam", see'
            " `timedatectl list-timezones`"
        ) from exc


def _has_data() -> bool:
    try:
        ZoneInfo("Europe/London")
    except ZoneInfoNotFoundError:
        return False
    return True
