"""Who may call what, for what and when: `authorise` held against an oracle that is made differently."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from ngsp.access import authorise, try_out
from ngsp.errors import AccessDenied, AgreementAmbiguous, MalformedHeader, NgspError
from ngsp.messages import ServiceKey
from ngsp.registry.model import SCOPES, Agreement, Client, Member, Schema, Service, Snapshot
from ngsp.text import Text
from tests.support.effort import examples

EPOCH = datetime(2026, 2, 28, 17, tzinfo=UTC)
"""Midnight in Viet Nam. Cases are in minutes and days from here, so that the oracle compares whole numbers only."""
FIRST_DAY = date(2026, 3, 1)
DAY = 1440
NAME = Text("Tên", "Name")
OPEN = Schema({"type": "object"}, "0" * 64)

T = TypeVar("T")
Choose = Callable[[Sequence[T]], T]


@dataclass(frozen=True)
class MemberCase:
    code: str
    from_day: int
    to_day: int | None


@dataclass(frozen=True)
class ServiceCase:
    path: str
    state: str
    officer: bool


@dataclass(frozen=True)
class AgreementCase:
    id: str
    version: int
    consumer: str
    path: str
    purposes: tuple[str, ...]
    state: str
    from_minute: int
    to_minute: int | None
    consent: bool


@dataclass(frozen=True)
class Case:
    """A registry and a call."""

    members: tuple[MemberCase, ...]
    services: tuple[ServiceCase, ...]
    agreements: tuple[AgreementCase, ...]
    scopes: tuple[str, ...]
    member: str
    path: str
    purpose: str
    agreement: str
    officer: str
    consent: str
    minute: int


MEMBERS = ("H41", "H14", "G01.01")
PATHS = ("G01.01/population/v1", "H14/land/v2")
STATES = ("proposed", "accepted", "refused", "suspended", "revoked", "withdrawn", "superseded", "expired")
HAPPENING = (-2 * DAY, -DAY, -61, -1, 0, 1, 59, DAY - 1, DAY, 2 * DAY)
"""Minutes at which things begin and end and calls are made: few, so that they meet at their edges."""


def case_from(choose: Choose[Any]) -> Case:
    """A case by choices among few values; good ones stand more often, so that all conditions hold in many cases."""

    def often(good: Any, *others: Any) -> Any:
        return choose((good,) * (12 * len(others)) + others) if others else good

    def validity(starts: Sequence[int]) -> tuple[int, int | None]:
        start = often(starts[0], *starts)
        return start, often(None, *(end for end in HAPPENING if end > start))

    members = []
    for code in MEMBERS:
        start, end = validity(HAPPENING)
        if often(True, False):
            members.append(MemberCase(code, start // DAY, None if end is None else end // DAY))
    services = [
        ServiceCase(path, often("active", "disabled", "retired"), choose((False, True)))
        for path in PATHS
        if often(True, False)
    ]
    agreements = []
    for number in range(choose((0, 1, 1, 1, 2, 2, 3))):
        terms = {
            "id": f"agreement-{number}",
            "consumer": often("H41", "H14"),
            "path": often(PATHS[0], PATHS[1]),
            "purposes": often(("birth",), ("birth", "land"), ("land",), ()),
            "consent": choose((False, True)),
        }
        start, end = validity(HAPPENING)
        agreements.append(
            AgreementCase(**terms, version=2, state=often("accepted", *STATES), from_minute=start, to_minute=end)
        )
        if choose((True, False, False)):  # the version before, which held until this one
            agreements.append(
                AgreementCase(**terms, version=1, state="accepted", from_minute=start - DAY, to_minute=start)
            )
    return Case(
        members=tuple(members),
        services=tuple(services),
        agreements=tuple(agreements),
        scopes=often(("exchange",), ("exchange", "adapter"), ("registry",), ()),
        member=often("H41", "H14", "G99"),
        path=often(PATHS[0], PATHS[1], "G01.01/unknown/v1"),
        purpose=often("birth", "land", "Birth", ""),
        agreement=often("", "agreement-0", "agreement-1", "agreement-9"),
        officer=choose(("canbo-1", "canbo-2", "")),
        consent=choose(("consent-1", "consent-2", "")),
        minute=choose(HAPPENING),
    )


def oracle(case: Case) -> tuple[Any, ...]:
    """What must come out, by sets and whole numbers."""

    def runs(start: int, end: int | None, at: int) -> bool:
        return at in range(start, 10**9 if end is None else end)

    day = (case.minute - case.minute % DAY) // DAY
    members = {member.code for member in case.members if runs(member.from_day, member.to_day, day)}
    callable_paths = {s.path for s in case.services if s.state == "active" and s.path[: s.path.find("/")] in members}
    holding = {
        (a.id, a.version)
        for a in case.agreements
        if (a.consumer, a.path, a.state) == (case.member, case.path, "accepted")
        and runs(a.from_minute, a.to_minute, case.minute)
        and case.purpose in a.purposes
        and case.agreement in ("", a.id)
    }
    conditions = ("exchange" in case.scopes, case.member in members, case.path in callable_paths, bool(holding))
    if not all(conditions):
        return ("denied",)
    if len(holding) > 1:
        return ("ambiguous", *sorted(id for id, _ in holding))
    ((id, version),) = holding
    missing = {
        "officer": any(s.officer and s.path == case.path for s in case.services) and case.officer == "",
        "consent": any(a.consent and (a.id, a.version) == (id, version) for a in case.agreements)
        and case.consent == "",
    }
    for name, is_missing in missing.items():
        if is_missing:
            return ("missing", name)
    return ("granted", id, version, case.purpose)


def snapshot_of(case: Case) -> Snapshot:
    def day(number: int) -> date:
        return FIRST_DAY + timedelta(days=number)

    def minute(number: int) -> datetime:
        return EPOCH + timedelta(minutes=number)

    members = {
        m.code: Member(m.code, "", NAME, day(m.from_day), None if m.to_day is None else day(m.to_day), "national")
        for m in case.members
    }
    services = {
        s.path: Service(
            ServiceKey.parse(s.path), NAME, NAME, "query", "idempotent", 5.0, 4096, OPEN, OPEN, "adapter",
            officer_required=s.officer, state=s.state,  # type: ignore[arg-type]
        )
        for s in case.services
    }  # fmt: skip
    by_consumer: dict[tuple[str, str], tuple[Agreement, ...]] = {}
    governing: dict[str, Agreement] = {}
    for a in case.agreements:
        agreement = Agreement(
            a.id, a.version, a.consumer, a.path, frozenset(a.purposes), "NĐ 63/2024", ("",), None, None,
            minute(a.from_minute), None if a.to_minute is None else minute(a.to_minute),
            a.state, a.consent,  # type: ignore[arg-type]
        )  # fmt: skip
        by_consumer[a.consumer, a.path] = (*by_consumer.get((a.consumer, a.path), ()), agreement)
        governing.setdefault(a.id, agreement)
    return Snapshot(1, members, {}, services, governing, by_consumer)


def verdict(case: Case) -> tuple[tuple[Any, ...], NgspError | None]:
    client = Client("client-1", case.member, NAME, frozenset(case.scopes), True)
    try:
        grant = authorise(
            snapshot_of(case),
            client,
            case.path,
            purpose=case.purpose,
            agreement_id=case.agreement,
            officer=case.officer,
            consent=case.consent,
            now=EPOCH + timedelta(minutes=case.minute),
        )
    except AccessDenied as error:
        return ("denied",), error
    except AgreementAmbiguous as error:
        return ("ambiguous", *sorted(error.members["agreements"])), error
    except MalformedHeader as error:
        return ("missing", error.reason.removesuffix(" missing")), error
    assert grant.service.path == case.path
    assert (grant.agreement.consumer, grant.agreement.service) == (case.member, case.path)
    return ("granted", grant.agreement.id, grant.agreement.version, grant.purpose), None


@st.composite
def cases(draw: st.DrawFn) -> Case:
    return case_from(lambda options: draw(st.sampled_from(options)))


@settings(max_examples=examples(2_000), deadline=None)
@given(cases())
def test_authorise_agrees_with_the_oracle(case: Case) -> None:
    expected = oracle(case)
    event(str(expected[0]))
    found, _ = verdict(case)
    assert found == expected


@pytest.mark.long
def test_authorise_agrees_with_the_oracle_in_a_hundred_thousand_cases_more() -> None:
    """And no verdict is rare among them, so that agreement means something."""
    draw = random.Random(63_2024)
    kinds: Counter[str] = Counter()
    for _ in range(100_000):
        case = case_from(draw.choice)
        expected = oracle(case)
        assert verdict(case)[0] == expected, case
        kinds[expected[0]] += 1
    assert set(kinds) == {"granted", "denied", "ambiguous", "missing"}
    assert min(kinds.values()) > 1_000, kinds


GOOD = Case(
    members=tuple(MemberCase(code, -1, None) for code in MEMBERS),
    services=(ServiceCase(PATHS[0], "active", False),),
    agreements=(AgreementCase("agreement-0", 1, "H41", PATHS[0], ("birth",), "accepted", -DAY, DAY, False),),
    scopes=("exchange",),
    member="H41",
    path=PATHS[0],
    purpose="birth",
    agreement="",
    officer="",
    consent="",
    minute=0,
)
(GOOD_AGREEMENT,) = GOOD.agreements
(GOOD_SERVICE,) = GOOD.services
DENIALS: dict[str, Case] = {
    "client has no exchange scope": replace(GOOD, scopes=("registry",)),
    "consumer is not a member in force": replace(GOOD, members=GOOD.members[1:]),
    "unknown service": replace(GOOD, path=PATHS[1]),
    "service is disabled": replace(GOOD, services=(replace(GOOD_SERVICE, state="disabled"),)),
    "provider is not a member in force": replace(GOOD, members=GOOD.members[:2]),
    "no agreement": replace(GOOD, agreement="agreement-9"),
    "no agreement in force": replace(GOOD, minute=DAY),
    "purpose outside the agreement": replace(GOOD, purpose="land"),
}


@pytest.mark.parametrize("reason", DENIALS)
def test_every_denial_is_the_same_to_the_caller_and_exact_to_operators(reason: str) -> None:
    found, error = verdict(DENIALS[reason])
    assert found == ("denied",) == oracle(DENIALS[reason])
    assert error is not None
    plain = AccessDenied()
    assert (error.code, error.status, error.detail, error.members) == (
        plain.code,
        plain.status,
        plain.detail,
        plain.members,
    )
    assert error.reason == reason


@pytest.mark.parametrize(("minute", "allowed"), [(-DAY - 1, False), (-DAY, True), (DAY - 1, True), (DAY, False)])
def test_an_agreement_holds_from_its_first_instant_to_before_its_last(minute: int, allowed: bool) -> None:
    assert (verdict(replace(GOOD, minute=minute))[0][0] == "granted") is allowed


@pytest.mark.parametrize(
    ("now", "allowed"),
    [
        ("2026-03-01T23:59:59+07:00", False),
        ("2026-03-02T00:00:00+07:00", True),
        ("2026-03-01T17:00:00+00:00", True),
        ("2026-03-03T23:59:59+07:00", True),
        ("2026-03-03T17:00:00+00:00", False),
        ("2026-03-04T00:00:00+07:00", False),
        ("2026-03-04T06:59:59+07:00", False),
    ],
)
@pytest.mark.parametrize("end", ["H41", "G01.01"])
def test_a_member_is_one_from_midnight_in_viet_nam(now: str, allowed: bool, end: str) -> None:
    """At either end of a call; wherever the gateway stands and whatever its clock shows."""
    members = tuple(MemberCase(code, 1, 3) if code == end else MemberCase(code, -1, None) for code in MEMBERS)
    minutes = (datetime.fromisoformat(now) - EPOCH) // timedelta(minutes=1)
    everlasting = (replace(GOOD_AGREEMENT, to_minute=None),)
    case = replace(GOOD, members=members, agreements=everlasting, minute=minutes)
    assert (verdict(case)[0][0] == "granted") is allowed
    assert oracle(case) == verdict(case)[0]


@pytest.mark.parametrize(
    ("days", "allowed"), [((1, None), True), ((-1, 2), True), ((-1, 1), False), ((2, None), False)]
)
def test_the_sandbox_has_the_day_of_viet_nam_too(days: tuple[int, int | None], allowed: bool) -> None:
    """At 17:30 UTC of the first day, when the second has begun in Viet Nam."""
    snapshot = snapshot_of(replace(GOOD, members=(MemberCase("H41", *days),)))
    client = Client("client-1", "H41", NAME, frozenset(("exchange",)), True, sandbox=True)
    now = datetime(2026, 3, 1, 17, 30, tzinfo=UTC)
    asked = {"purpose": "birth", "agreement_id": "", "officer": "", "consent": ""}
    try:
        granted = try_out(snapshot, client, PATHS[0], now=now, **asked).sandbox
    except AccessDenied as error:
        assert error.reason == "consumer is not a member in force"
        granted = False
    assert granted is allowed


def test_a_call_at_the_change_of_versions_has_exactly_one() -> None:
    later = replace(GOOD_AGREEMENT, version=2, from_minute=10, to_minute=None)
    earlier = replace(GOOD_AGREEMENT, to_minute=10)
    versions = [verdict(replace(GOOD, agreements=(later, earlier), minute=at))[0][2] for at in (9, 10, 11)]
    assert versions == [1, 2, 2]


def test_ambiguity_names_the_callers_own_agreements_only() -> None:
    second = replace(GOOD_AGREEMENT, id="agreement-1")
    others = replace(GOOD_AGREEMENT, id="agreement-2", consumer="H14")
    case = replace(GOOD, agreements=(GOOD_AGREEMENT, second, others))
    assert verdict(case)[0] == ("ambiguous", "agreement-0", "agreement-1")
    assert verdict(replace(case, agreement="agreement-1"))[0] == ("granted", "agreement-1", 1, "birth")


def test_one_grant_is_shared_by_calls_under_it() -> None:
    snapshot = snapshot_of(GOOD)
    client = Client("client-1", "H41", NAME, frozenset(("exchange",)), True)
    granted = [
        authorise(snapshot, client, PATHS[0], purpose="birth", agreement_id=id, officer="", consent="", now=EPOCH)
        for id in ("", "agreement-0")
    ]
    assert granted[0] is granted[1]


def test_scopes_other_than_exchange_open_nothing() -> None:
    every_other = tuple(scope for scope in SCOPES if scope != "exchange")
    assert verdict(replace(GOOD, scopes=every_other))[0] == ("denied",)
