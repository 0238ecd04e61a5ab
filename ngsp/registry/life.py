"""The life of an agreement version: one table of what may follow what, and who may do it. Pure.

    proposed ──accept──▶ accepted ◀──resume── suspended
       │ │                │  │ └────suspend──────▲ │
       │ └─withdraw─▶ withdrawn                    │
       └──refuse──▶ refused  └──revoke──▶ revoked ◀┘

A version is also *superseded* once the next one is accepted and has begun, and *expired* by its date.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ngsp.errors import NotFound, ScopeMissing, StateConflict
from ngsp.registry.change import Actor
from ngsp.registry.model import AgreementState
from ngsp.text import Text

Action = Literal["accept", "refuse", "withdraw", "suspend", "resume", "revoke"]
Side = Literal["proposer", "answerer", "either", "suspender"]


@dataclass(frozen=True, slots=True)
class Step:
    """`to`: the state it leads to. `by`: which side may take it. `event`: its name in the history."""

    to: AgreementState
    by: Side
    event: str


STEPS: dict[tuple[AgreementState, Action], Step] = {
    ("proposed", "accept"): Step("accepted", "answerer", "accepted"),
    ("proposed", "refuse"): Step("refused", "answerer", "refused"),
    ("proposed", "withdraw"): Step("withdrawn", "proposer", "withdrawn"),
    ("accepted", "suspend"): Step("suspended", "either", "suspended"),
    ("accepted", "revoke"): Step("revoked", "either", "revoked"),
    ("suspended", "resume"): Step("accepted", "suspender", "resumed"),
    ("suspended", "revoke"): Step("revoked", "either", "revoked"),
}
ON_PROPOSAL: frozenset[Action] = frozenset(("accept", "refuse", "withdraw"))
"""What answers the open proposal; the other actions are about what holds."""
AMENDABLE: frozenset[AgreementState] = frozenset(("accepted", "refused", "withdrawn", "expired"))
"""States of the newest and of the governing version in which another may be proposed. What is suspended is resumed
first; what is revoked stays so, and a new agreement takes its place."""


def step(state: AgreementState, action: Action) -> Step:
    """`StateConflict` (409) where `action` is not possible in `state`."""
    found = STEPS.get((state, action))
    if found is None:
        raise StateConflict(
            Text(
                f"Thỏa thuận đang ở trạng thái «{state}»: không thể thực hiện «{action}».",
                f"The agreement is {state}: {action} is not possible.",
            ),
            reason=f"{action} in state {state}",
            members={"state": state},
        )
    return found


def check_amendable(state: AgreementState) -> None:
    """`StateConflict` (409) where no further version may be proposed."""
    if state not in AMENDABLE:
        raise StateConflict(
            Text(
                f"Thỏa thuận đang ở trạng thái «{state}»: chưa thể đề nghị phiên bản khác.",
                f"The agreement is {state}: another version cannot be proposed now.",
            ),
            reason=f"amend in state {state}",
            members={"state": state},
        )


def check_side(actor: Actor, by: Side, *, consumer: str, provider: str, proposed_by: str, suspended_by: str) -> None:
    """`ScopeMissing` (403) where the actor's member is on the wrong side, `NotFound` (404) where it is on none."""
    if actor.is_operator:
        return
    check_party(actor, consumer, provider)
    if by == "proposer":
        allowed = actor.member == proposed_by
    elif by == "answerer":
        allowed = actor.member == (provider if proposed_by == consumer else consumer)
    elif by == "suspender":
        allowed = actor.member == suspended_by
    else:
        allowed = True
    if not allowed:
        raise ScopeMissing(
            Text(
                "Việc này thuộc về bên kia của thỏa thuận.",
                "This is for the other side of the agreement to do.",
            ),
            reason=f"not the {by}",
        )


def check_party(actor: Actor, consumer: str, provider: str) -> None:
    """`NotFound` (404) where the actor's member has no part in the agreement."""
    if not actor.is_operator and actor.member not in (consumer, provider):
        raise NotFound(reason="agreement of other members")
