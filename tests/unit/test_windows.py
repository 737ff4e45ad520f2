"""Sync windows: reading them, and when they open, against a clock that is looked at every minute."""

from __future__ import annotations

import importlib
import zoneinfo
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from operator import ne
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gitopper_plugins import window
from libgitopper import Hold, HoldRequest, Window, opening, parse_window
from libgitopper.testing.reload import service_for_tests

WEEK_MINUTES = 7 * 24 * 60


@pytest.mark.parametrize(
    ("text", "days", "start", "end", "zone"),
    [
        ("Mon-Fri 09:00-17:00 Europe/Amsterdam", {0, 1, 2, 3, 4}, 540, 1020, "Europe/Amsterdam"),
        ("Sat,Sun 10:00-12:00", {5, 6}, 600, 720, "UTC"),
        ("daily 22:00-04:00 UTC", set(range(7)), 1320, 240, "UTC"),
        ("* 00:00-24:00", set(range(7)), 0, 1440, "UTC"),
        ("Fri-Mon 23:59-24:00", {4, 5, 6, 0}, 1439, 1440, "UTC"),
        ("Mon,Wed-Thu,sun 00:00-00:01", {0, 2, 3, 6}, 0, 1, "UTC"),
        ("Tue-Tue 12:00-13:00", {1}, 720, 780, "UTC"),
        ("MON-SUN 20:00-00:00", set(range(7)), 1200, 0, "UTC"),
    ],
)
def test_a_window_is_read(text: str, days: set[int], start: int, end: int, zone: str) -> None:
    assert parse_window(text) == Window(
        text=text, days=frozenset(days), start_minute=start, end_minute=end, zone=zone
    )


def test_blanks_are_no_part_of_its_text() -> None:
    assert parse_window("  Mon  09:00-10:00\t").text == "Mon 09:00-10:00"


@pytest.mark.parametrize(
    ("text", "wrong", "remedy"),
    [
        ("", "'' is not a window", '"Mon-Fri 09:00-17:00 Europe/Amsterdam"'),
        ("Mon-Fri", "'Mon-Fri' is not a window", '"Mon-Fri 09:00-17:00 Europe/Amsterdam"'),
        ("Mon 09:00 - 17:00", "is not a window", '"Mon-Fri 09:00-17:00'),
        ("Mon 09:00-17:00 UTC please", "is not a window", '"Mon-Fri 09:00-17:00'),
        ("Monday 09:00-17:00", "'Monday' is not a day", "Mon, Tue"),
        ("Mon- 09:00-17:00", "'' is not a day", '"Mon-Fri"'),
        ("Mon-Wed-Fri 09:00-17:00", "'Wed-Fri' is not a day", '"Sat,Sun"'),
        ("Mon, 09:00-17:00", "'' is not a day", '"daily"'),
        ("Mon 9:00-17:00", "'9:00-17:00' is not a span of time", '"09:00-17:00"'),
        ("Mon 09:00-24:01", "'09:00-24:01' is not a span of time", "24:00"),
        ("Mon 24:00-25:00", "'24:00-25:00' is not a span", "24:00"),
        ("Mon 09:60-10:00", "'09:60-10:00' is not a span", "24:00"),
        ("Mon 09:00-09:00", "ends when it begins", '"00:00-24:00"'),
        ("Mon 09:00-17:00 Europe/Amsterdan", "'Europe/Amsterdan' is not a time zone", "timedatectl"),
        ("Mon 09:00-17:00 Europe", "'Europe' is not a time zone", '"Europe/Amsterdam"'),
        ("Mon 09:00-17:00 ../../etc/localtime", "is not a time zone", '"Europe/Amsterdam"'),
        ("Mon 09:00-17:00 /etc/localtime", "is not a time zone", '"Europe/Amsterdam"'),
        ("Mon 09:00-17:00 a\0b", "'a\\x00b' is not a time zone", '"Europe/Amsterdam"'),
        (f"Mon 09:00-17:00 {'x' * 300}", "is not a time zone", '"Europe/Amsterdam"'),
    ],
)
def test_what_is_no_window_is_told_with_the_remedy(text: str, wrong: str, remedy: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_window(text)
    assert wrong in str(caught.value)
    assert remedy in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def _without_zones(tmp_path: Path) -> Iterator[None]:
    """A host without time zone data."""
    zoneinfo.reset_tzpath((str(tmp_path),))
    zoneinfo.ZoneInfo.clear_cache()
    yield
    zoneinfo.reset_tzpath()
    zoneinfo.ZoneInfo.clear_cache()


@pytest.mark.usefixtures("_without_zones")
def test_a_host_without_time_zone_data_knows_utc_and_is_told_what_to_install() -> None:
    try:
        importlib.import_module("tzdata")
    except ImportError:
        with pytest.raises(
            ValueError, match=r"no time zone data; install the package tzdata, or write .*UTC"
        ):
            parse_window("Mon 09:00-17:00 Europe/Amsterdam")
    assert opening([parse_window("daily 09:00-17:00 UTC")], at("2026-11-22 06:00")) == at(
        "2026-11-22 09:00"
    )


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def when(*windows: str, now: str) -> datetime | None:
    return opening([*map(parse_window, windows)], at(now))


def test_without_windows_it_is_always_open() -> None:
    assert opening((), at("2026-11-22 06:00")) is None


def test_a_window_opens_at_its_first_minute_and_closes_at_its_last() -> None:
    text = "Mon-Fri 09:00-17:00 Europe/Amsterdam"
    assert when(text, now="2026-11-20 15:59:59.999999") is None
    assert when(text, now="2026-11-20 16:00") == at("2026-11-23 08:00")  # a Friday evening
    assert when(text, now="2026-11-23 07:59:59.999999") == at("2026-11-23 08:00")
    assert when(text, now="2026-11-23 08:00") is None


def test_over_midnight_it_belongs_to_the_day_on_which_it_begins() -> None:
    text = "Fri 22:00-04:00"
    assert when(text, now="2026-11-20 03:00") == at("2026-11-20 22:00")
    assert when(text, now="2026-11-21 03:59") is None
    assert when(text, now="2026-11-21 04:00") == at("2026-11-27 22:00")


def test_the_night_from_sunday_to_monday_is_one_window() -> None:
    text = "Sun 22:00-04:00"
    assert when(text, now="2026-11-23 03:59") is None
    assert when(text, now="2026-11-22 03:00") == at("2026-11-22 22:00")


def test_one_open_window_of_several_is_enough_and_the_first_to_open_counts() -> None:
    windows = ("Mon 09:00-10:00", "Sun 06:00-07:00 Asia/Kolkata")
    assert when(*windows, now="2026-11-22 00:45") is None
    assert when(*windows, now="2026-11-22 00:15") == at("2026-11-22 00:30")
    assert when(*windows, now="2026-11-22 01:30") == at("2026-11-23 09:00")


def test_the_time_now_can_be_in_any_zone() -> None:
    now = datetime(2026, 11, 22, 23, 30, tzinfo=zoneinfo.ZoneInfo("America/New_York"))
    found = opening([parse_window("Mon 05:00-06:00")], now)
    assert found == at("2026-11-23 05:00")
    assert found.tzinfo is UTC


# In Amsterdam, at 01:00 UTC: on 29 March 2026, 02:00 becomes 03:00; on 25 October, 03:00 becomes 02:00.
def test_an_hour_that_is_left_out_opens_nothing() -> None:
    assert when("Sun 02:15-02:45 Europe/Amsterdam", now="2026-03-28 12:00") == at("2026-04-05 00:15")


def test_a_window_whose_start_is_left_out_opens_when_the_clocks_are_changed() -> None:
    assert when("Sun 02:15-04:00 Europe/Amsterdam", now="2026-03-29 00:00:00.5") == at("2026-03-29 01:00")


def test_an_hour_that_comes_twice_is_open_twice() -> None:
    text = "Sun 02:15-02:45 Europe/Amsterdam"
    assert when(text, now="2026-10-24 12:00") == at("2026-10-25 00:15")
    assert when(text, now="2026-10-25 00:44") is None
    assert when(text, now="2026-10-25 00:45") == at("2026-10-25 01:15")
    assert when(text, now="2026-10-25 01:30") is None


def test_clocks_that_are_put_back_into_a_window_open_it_again() -> None:
    text = "Sun 01:30-02:30 Europe/Amsterdam"
    assert when(text, now="2026-10-25 00:30:10.25") == at("2026-10-25 01:00")


def test_two_changes_within_a_week_do_not_hide_each_other() -> None:
    # Recife put its clocks forward on 8 October 2000, and back on the 15th at midnight: 23:58 came twice.
    text = "Sat 23:58-23:59 America/Recife"
    assert when(text, now="2000-10-08 02:59") == at("2000-10-15 01:58")
    assert when(text, now="2000-10-15 01:59") == at("2000-10-15 02:58")


def test_a_day_that_a_zone_leaves_out_has_no_window() -> None:
    # Samoa went over the date line: after 29 December 2011 came the 31st.
    assert when("Fri 10:00-11:00 Pacific/Apia", now="2011-12-25 00:00") == at("2012-01-05 20:00")


def hold(*windows: str, now: str) -> Hold | None:
    service = service_for_tests("web", windows=tuple(map(parse_window, windows)))
    return window.gitopper_hold(HoldRequest(service=service, revision="a" * 40, now=at(now)))


def test_new_content_is_held_until_a_window_opens() -> None:
    assert hold(now="2026-11-22 12:00") is None
    assert hold("Mon-Fri 09:00-17:00 Europe/Amsterdam", now="2026-11-23 12:00") is None
    assert hold("Mon-Fri 09:00-17:00 Europe/Amsterdam", now="2026-11-22 12:00") == Hold(
        reason="outside of Mon-Fri 09:00-17:00 Europe/Amsterdam; opens 2026-11-23 09:00 CET",
        until=at("2026-11-23 08:00"),
    )


def test_the_time_is_told_by_the_clock_of_the_window_that_opens_first() -> None:
    windows = ("Mon 09:00-10:00", "Mon 09:00-10:00 Asia/Kolkata", "Sun 09:00-10:00 America/New_York")
    assert hold(*windows, now="2026-11-22 16:00") == Hold(
        reason=f"outside of {' and '.join(windows)}; opens 2026-11-23 09:00 IST",
        until=at("2026-11-23 03:30"),
    )


# Each with a year, and what is odd about its clocks.
ZONES = (
    ("UTC", 2026),
    ("Europe/Amsterdam", 2026),
    ("America/Santiago", 2026),  # changed at midnight
    ("Australia/Lord_Howe", 2026),  # by half an hour, in the southern summer
    ("Africa/Casablanca", 2026),  # back for Ramadan
    ("Pacific/Apia", 2011),  # a day left out, besides
)


@cache
def clock(zone: str, year: int) -> Sequence[int]:
    """What a clock shows at each minute (UTC) of a year and five weeks, as the minute of the week."""
    start = datetime(year, 1, 1, tzinfo=UTC)
    wall = zoneinfo.ZoneInfo(zone)
    looks = (start + timedelta(minutes=n) for n in range(400 * 24 * 60))
    locals_ = (look.astimezone(wall) for look in looks)
    return [local.weekday() * 1440 + local.hour * 60 + local.minute for local in locals_]


def minutes_of(one: Window) -> frozenset[int]:
    """The minutes of the week in which a clock on a wall shows a time in the window."""
    end = one.end_minute + (0 if one.end_minute > one.start_minute else 1440)
    return frozenset(
        (day * 1440 + minute) % WEEK_MINUTES for day in one.days for minute in range(one.start_minute, end)
    )


def near_changes() -> st.SearchStrategy[int]:
    """Minutes of a year: any, or within two days of a change of the clocks in one of the zones."""
    days = st.sampled_from([45, 80, 87, 91, 94, 248, 266, 276, 297, 363])
    near = st.tuples(days, st.integers(-1440, 1440)).map(lambda pair: pair[0] * 1440 + pair[1])
    return st.one_of(near, st.integers(0, 364 * 1440))


@st.composite
def any_windows(draw: st.DrawFn, zone: str) -> tuple[Window, ...]:
    minute = st.one_of(st.integers(0, 1439), st.integers(0, 23).map(lambda hour: hour * 60))
    windows = []
    for _ in range(draw(st.integers(1, 2))):
        start = draw(minute)
        end = draw(minute.filter(partial(ne, start)))
        days = draw(st.frozensets(st.integers(0, 6), min_size=1))
        windows.append(Window(text="", days=days, start_minute=start, end_minute=end, zone=zone))
    return tuple(windows)


@st.composite
def any_case(draw: st.DrawFn) -> tuple[tuple[Window, ...], int, int, int]:
    zone, year = draw(st.sampled_from(ZONES))
    seconds = draw(st.sampled_from([0, 0, 1, 59]))
    return draw(any_windows(zone)), year, draw(near_changes()), seconds


@given(any_case())
@example(((parse_window("Sun 02:00-02:30 Europe/Amsterdam"),), 2026, 296 * 1440, 0))
@example(((parse_window("Sun 23:30-00:30 America/Santiago"),), 2026, 93 * 1440, 59))
def test_a_window_opens_when_a_clock_that_is_looked_at_every_minute_says_so(
    case: tuple[tuple[Window, ...], int, int, int],
) -> None:
    windows, year, minute, seconds = case
    start = datetime(year, 1, 1, tzinfo=UTC)
    now = start + timedelta(minutes=minute, seconds=seconds)
    shown = clock(windows[0].zone, year)
    wanted = frozenset().union(*map(minutes_of, windows))
    first = next(n for n in range(minute, len(shown)) if shown[n] in wanted)
    expected = None if first == minute else start + timedelta(minutes=first)
    assert opening(windows, now) == expected
