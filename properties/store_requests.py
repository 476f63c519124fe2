"""Requests to a store as Hypothesis draws them: few keys, so that they meet; all that etcd's API has.

Revisions are drawn as distances: `placed` makes them absolute just before a request is sent, so that reads
and compactions hit what is there, what is gone and what is still to come, however long a run gets.
"""

from typing import Any

from attrs import evolve
from hypothesis import strategies as st

from understudy.raftstore.storage import (
    ALL_KEYS_END,
    Compact,
    Compare,
    DeleteRange,
    LeaseGrant,
    LeaseRevoke,
    Permission,
    Put,
    Range,
    RoleAdd,
    RoleDelete,
    RoleGet,
    RoleGrantPermission,
    RoleList,
    RoleRevokePermission,
    Txn,
    UserAdd,
    UserChangePassword,
    UserDelete,
    UserGet,
    UserGrantRole,
    UserList,
    UserRevokeRole,
)

LEASES = (1, 2, 3)
"""The ids that are granted; a fourth is asked for too."""

KEYS = st.sampled_from([b"a", b"aa", b"ab", b"b", b"b\xff", b"c"])
ENDS = st.sampled_from([b"", b"", b"b", b"ab", b"d", b"\0", ALL_KEYS_END])
VALUES = st.binary(max_size=2)
LEASE_IDS = st.sampled_from([0] * 12 + [*LEASES, 4])
BOOLS = st.sampled_from([False, False, False, True])
BACK = st.sampled_from([None, None, None, 0, 1, 2, 3, 5, 8, -1])
"""How far back a revision lies; -1 is the coming one, None no revision at all."""

OPERATORS = st.sampled_from(["=", "!=", "<", ">"])
NUMBERS = st.integers(0, 4)
"""To compare versions and leases with; revisions are placed as distances."""


def _weighted(*choices: tuple[int, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """One of several strategies, each so often. (`one_of` takes the same one twice for once.)"""
    several = [strategy for weight, strategy in choices for _ in range(weight)]
    return st.sampled_from(several).flatmap(lambda strategy: strategy)


def _puts() -> st.SearchStrategy[Put]:
    plain = st.builds(Put, KEYS, VALUES, LEASE_IDS, BOOLS)
    keeping = st.builds(Put, KEYS, st.just(b""), st.just(0), BOOLS, st.booleans(), st.booleans())
    return _weighted((5, plain), (1, keeping))


def _ranges() -> st.SearchStrategy[Range]:
    bound = st.sampled_from([0, 0, 0, 1, 3])
    return st.builds(
        Range,
        KEYS,
        ENDS,
        limit=st.integers(0, 3),
        revision=BACK.map(_distance),
        keys_only=BOOLS,
        count_only=BOOLS,
        serializable=BOOLS,
        sort_order=st.sampled_from(["none", "none", "ascend", "descend"]),
        sort_target=st.sampled_from(["key", "version", "create", "mod", "value"]),
        min_mod_revision=bound.map(_distance_if_any),
        max_mod_revision=bound.map(_distance_if_any),
        min_create_revision=bound.map(_distance_if_any),
        max_create_revision=bound.map(_distance_if_any),
    )


DISTANCE = 1 << 40
"""Revisions above it are distances: DISTANCE + 3 lies three back."""


def _distance(back: int | None) -> int:
    return 0 if back is None else DISTANCE + back


def _distance_if_any(back: int) -> int:
    return DISTANCE + back if back else 0


PUTS = _puts()
RANGES = _ranges()
DELETES = st.builds(DeleteRange, KEYS, ENDS, BOOLS)
COMPARES = st.one_of(
    st.builds(Compare, KEYS, st.sampled_from(["version", "lease"]), OPERATORS, NUMBERS, ENDS),
    st.builds(
        Compare, KEYS, st.sampled_from(["mod", "create"]), OPERATORS, st.integers(0, 6).map(_distance), ENDS
    ),
    st.builds(Compare, KEYS, st.just("value"), OPERATORS, VALUES, ENDS),
)


def _txns(operations: st.SearchStrategy[Any]) -> st.SearchStrategy[Txn]:
    branches = st.lists(operations, max_size=3).map(tuple)
    return st.builds(Txn, st.lists(COMPARES, max_size=2).map(tuple), branches, branches)


OPERATIONS = PUTS | RANGES | DELETES
TXNS = _txns(OPERATIONS)
NESTED_TXNS = _txns(OPERATIONS | TXNS)
COMPACTIONS = st.builds(Compact, st.sampled_from([0, 0, 1, 2, 3, 6, -1]).map(_distance), st.booleans())
GRANTS = st.builds(LeaseGrant, st.sampled_from([600, 3600]), st.sampled_from(LEASES))
REVOCATIONS = st.builds(LeaseRevoke, st.sampled_from([*LEASES, 4]))

REQUESTS = _weighted(
    (6, PUTS),
    (2, RANGES),
    (1, DELETES),
    (2, TXNS),
    (1, NESTED_TXNS),
    (2, COMPACTIONS),
    (1, GRANTS),
    (1, REVOCATIONS),
)
"""Everything about keys and leases."""

NAMES = st.sampled_from(["root", "ada", "bob", ""])
ROLES = st.sampled_from(["root", "reader", "writer", ""])
PERMISSIONS = st.builds(Permission, st.sampled_from(["read", "write", "readwrite"]), KEYS, ENDS).filter(
    # Older releases of etcd take ranges that are empty.
    lambda granted: granted.range_end in (b"", ALL_KEYS_END) or granted.key < granted.range_end
)
AUTH_REQUESTS = st.one_of(
    st.builds(UserAdd, NAMES, no_password=st.just(True)),
    st.builds(UserDelete, NAMES),
    st.builds(UserChangePassword, NAMES),
    st.builds(UserGrantRole, NAMES, ROLES),
    st.builds(UserGrantRole, NAMES, ROLES),
    st.builds(UserRevokeRole, NAMES, ROLES),
    st.builds(UserGet, NAMES),
    st.builds(UserList),
    st.builds(RoleAdd, ROLES),
    st.builds(RoleDelete, ROLES),
    st.builds(RoleGrantPermission, ROLES, PERMISSIONS),
    st.builds(RoleGrantPermission, ROLES, PERMISSIONS),
    st.builds(RoleRevokePermission, ROLES, KEYS, ENDS),
    st.builds(RoleGet, ROLES),
    st.builds(RoleList),
)
"""Users, roles and permissions, without enabling anything and without passwords to compare."""


def placed(request: Any, revision: int) -> Any:
    """The request with its distances made revisions, for a store that is at `revision`."""
    match request:
        case Range():
            return evolve(
                request,
                revision=_place(request.revision, revision),
                min_mod_revision=_place(request.min_mod_revision, revision),
                max_mod_revision=_place(request.max_mod_revision, revision),
                min_create_revision=_place(request.min_create_revision, revision),
                max_create_revision=_place(request.max_create_revision, revision),
            )
        case Compact():
            return evolve(request, revision=_place(request.revision, revision))
        case Txn():
            return Txn(
                tuple(placed(compare, revision) for compare in request.compares),
                tuple(placed(operation, revision) for operation in request.success),
                tuple(placed(operation, revision) for operation in request.failure),
            )
        case Compare() if isinstance(request.value, int):
            return evolve(request, value=_place(request.value, revision))
    return request


def _place(number: int, revision: int) -> int:
    return max(0, revision - (number - DISTANCE)) if number > DISTANCE // 2 else number
