"""The state machine of a release: which state may follow which."""

from contracts.release import State

ALLOWED: dict[State, frozenset[State]] = {
    State.BUILDING: frozenset({State.BUILT, State.FAILED}),
    State.BUILT: frozenset({State.JUDGED, State.BLOCKED, State.FAILED}),
    State.JUDGED: frozenset({State.AWAITING_APPROVAL, State.BLOCKED, State.SUPERSEDED, State.FAILED}),
    # back to judged: the live release moved, so the evidence was made again
    State.AWAITING_APPROVAL: frozenset({
        State.PROBING, State.JUDGED, State.BLOCKED, State.REJECTED, State.EXPIRED, State.SUPERSEDED, State.FAILED,
    }),
    # back to retired: a roll-back that did not come through
    State.PROBING: frozenset({State.LIVE, State.ROLLED_BACK, State.RETIRED}),
    State.LIVE: frozenset({State.RETIRED, State.ROLLED_BACK}),
    State.RETIRED: frozenset({State.PROBING, State.COLLECTED}),
    State.ROLLED_BACK: frozenset({State.PROBING, State.COLLECTED}),  # a person takes a roll-back back
    # a build, or a swap whose approval still stands, may be tried again
    State.FAILED: frozenset({State.BUILDING, State.AWAITING_APPROVAL, State.COLLECTED}),
    State.BLOCKED: frozenset({State.JUDGED, State.COLLECTED}),  # judged again, against another live release
    State.EXPIRED: frozenset({State.JUDGED, State.BLOCKED, State.COLLECTED}),
    State.REJECTED: frozenset({State.COLLECTED}),
    State.SUPERSEDED: frozenset({State.COLLECTED}),
    State.COLLECTED: frozenset(),
}

COLLECTABLE = frozenset(state for state, after in ALLOWED.items() if State.COLLECTED in after)
"""Nothing can go on with a release in one of these, unless a person goes back to it."""

ROLLED_BACK_TO = frozenset({State.RETIRED, State.ROLLED_BACK})
"""A release that comes to probing from one of these was live before: the swap is a roll-back."""


def may_follow(before: State, after: State) -> bool:
    """True where `after` may come next; staying where one is always may."""
    return before == after or after in ALLOWED[before]
