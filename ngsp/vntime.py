"""Days in Viet Nam: a date in a document is a day of Asia/Ho_Chi_Minh, whatever the clock of a machine is set to."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

VIETNAM = timezone(timedelta(hours=7))
"""Asia/Ho_Chi_Minh: one offset since 1975, no daylight saving time."""


def day_of(moment: datetime) -> date:
    """The day in Viet Nam at `moment`."""
    return moment.astimezone(VIETNAM).date()


def midnight(day: date) -> datetime:
    """The moment at which `day` begins in Viet Nam."""
    return datetime(day.year, day.month, day.day, tzinfo=VIETNAM)
