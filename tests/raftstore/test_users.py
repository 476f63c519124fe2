"""Users, roles and permissions: decisions against a naive twin, refusals as etcd has them."""

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from understudy.actors import SimWorld, World
from understudy.mailbox import decode, encode
from understudy.properties.store_requests import AUTH_REQUESTS, PERMISSIONS
from understudy.raftstore.authorization import check_permission
from understudy.raftstore.keyspace import in_range
from understudy.raftstore.leases import LeaseState, LeaseTable
from understudy.raftstore.machine import StateMachine
from understudy.raftstore.passwords import (
    ATTEMPTS,
    hash_password,
    make_salt,
    password_matches,
    serve_password,
)
from understudy.raftstore.storage import (
    ALL_KEYS_END,
    AssignToken,
    AsUser,
    AuthDisable,
    AuthEnable,
    Authenticate,
    AuthenticateReply,
    AuthError,
    AuthStatus,
    Compact,
    Compare,
    DeleteRange,
    ExpireTokens,
    HashKV,
    LeaseRevoke,
    LeaseTimeToLive,
    PasswordHash,
    PasswordHashReply,
    Permission,
    Put,
    Range,
    RoleAdd,
    RoleDelete,
    RoleGet,
    RoleGrantPermission,
    RoleRevokePermission,
    Txn,
    UserAdd,
    UserChangePassword,
    UserDelete,
    UserGet,
    UserGrantRole,
    UserRevokeRole,
    Watch,
)
from understudy.raftstore.users import Users, UsersState


def words(length: int) -> list[bytes]:
    letters = (b"\0", b"a", b"b", b"c", b"\xff")
    return [b""] if not length else [word + letter for word in words(length - 1) for letter in letters]


POINTS = sorted(word for length in (1, 2, 3) for word in words(length))
"""Enough keys to tell any two of the ranges that are drawn apart."""
STARTS = st.sampled_from([b"a", b"aa", b"ab", b"b", b"b\xff", b"c"])
ENDS = st.sampled_from([b"", b"ab", b"b", b"c", ALL_KEYS_END])


@settings(max_examples=300, deadline=None)
@given(st.lists(PERMISSIONS, max_size=4), STARTS, ENDS, st.sampled_from(["read", "write"]))
def test_a_range_is_allowed_when_each_of_its_keys_is(
    granted: list[Permission], start: bytes, end: bytes, kind: str
) -> None:
    assume(not end or end == ALL_KEYS_END or start < end)
    users = Users()
    users.apply(UserAdd("ada", no_password=True))
    for number, permission in enumerate(granted):
        role = f"role {number % 2}"
        if role not in users.roles:
            users.apply(RoleAdd(role))
            users.apply(UserGrantRole("ada", role))
        users.apply(RoleGrantPermission(role, permission))
    # The last word of each role on a range counts.
    allowed = [
        permission
        for role in users.roles.values()
        for permission in role.permissions
        if permission.type in (kind, "readwrite")
    ]
    wanted = [point for point in POINTS if in_range(point, start, end)]
    expected = all(any(in_range(point, p.key, p.range_end) for p in allowed) for point in wanted)
    # Beyond the last point of the universe there are more keys.
    if end == ALL_KEYS_END:
        expected = expected and any(p.range_end == ALL_KEYS_END for p in allowed)
    request = Range(start, end) if kind == "read" else DeleteRange(start, end)
    try:
        check_permission(request, "ada", users, LeaseTable())
    except AuthError as refused:
        assert refused.problem == "permission denied" and not expected
    else:
        assert expected


@settings(max_examples=150, deadline=None)
@given(st.lists(AUTH_REQUESTS, max_size=30))
def test_each_change_makes_one_revision_and_a_refused_one_none(requests: list[object]) -> None:
    users = Users()
    for request in requests:
        if isinstance(request, UserGet | RoleGet) or "List" in type(request).__name__:
            continue
        before = users.state()
        try:
            users.apply(request)  # type: ignore[arg-type]  # those that only read were left out
        except AuthError:
            assert users.state() == before
        else:
            repeated = isinstance(request, UserGrantRole) and users.state() == before
            assert repeated or users.revision == before.revision + 1
        for user in users.users.values():
            assert list(user.roles) == sorted(set(user.roles))
            assert all(role == "root" or role in users.roles for role in user.roles)
    state = users.state()
    restored = decode(encode(state))
    assert isinstance(restored, UsersState) and Users.restore(restored).state() == state


def test_ranges_that_touch_count_as_one_and_a_later_word_replaces_an_earlier() -> None:
    users = Users()
    users.apply(UserAdd("ada", no_password=True))
    users.apply(RoleAdd("role"))
    users.apply(UserGrantRole("ada", "role"))
    for start, end in ((b"a", b"c"), (b"c", b"e"), (b"e", b""), (b"e\0", b"g"), (b"h", ALL_KEYS_END)):
        users.apply(RoleGrantPermission("role", Permission("readwrite", start, end)))
    for request in (Range(b"b", b"d"), Range(b"a", b"g"), DeleteRange(b"z", ALL_KEYS_END)):
        check_permission(request, "ada", users, LeaseTable())
    for request in (Range(b"a", b"h"), Range(b"g"), Range(b"a", ALL_KEYS_END)):
        with pytest.raises(AuthError, match="permission denied"):
            check_permission(request, "ada", users, LeaseTable())
    users.apply(RoleGrantPermission("role", Permission("read", b"c", b"e")))
    assert [p.type for p in users.permissions("role") if (p.key, p.range_end) == (b"c", b"e")] == ["read"]
    check_permission(Range(b"b", b"d"), "ada", users, LeaseTable())
    with pytest.raises(AuthError, match="permission denied"):
        check_permission(DeleteRange(b"b", b"d"), "ada", users, LeaseTable())


def enabled() -> Users:
    """root, ada who reads [a, b), and bob who writes b."""
    users = Users()
    for request in (
        UserAdd("root", hashed_password="#"),
        UserGrantRole("root", "root"),
        UserAdd("ada", hashed_password="#"),
        UserAdd("bob", no_password=True),
        RoleAdd("reader"),
        RoleAdd("writer"),
        RoleGrantPermission("reader", Permission("read", b"a", b"b")),
        RoleGrantPermission("writer", Permission("write", b"b")),
        UserGrantRole("ada", "reader"),
        UserGrantRole("bob", "writer"),
        AuthEnable(),
    ):
        users.apply(request)
    return users


def test_it_cannot_be_enabled_without_a_root_that_is_one() -> None:
    users = Users()
    with pytest.raises(AuthError, match="root user does not exist"):
        users.apply(AuthEnable())
    users.apply(UserAdd("root", no_password=True))
    with pytest.raises(AuthError, match="root role not granted"):
        users.apply(AuthEnable())
    users.apply(UserGrantRole("root", "root"))
    users.apply(AuthEnable())
    revision = users.revision
    users.apply(AuthEnable())
    assert users.enabled and users.revision == revision


@pytest.mark.parametrize(
    "request_",
    [UserDelete("root"), UserRevokeRole("root", "root"), RoleDelete("root")],
)
def test_root_stays_root_while_it_is_enabled(request_: object) -> None:
    users = enabled()
    with pytest.raises(AuthError, match="invalid auth management"):
        users.apply(request_)  # type: ignore[arg-type]  # each of them is an AuthWrite
    users.apply(AuthDisable())
    if not isinstance(request_, RoleDelete):
        users.apply(request_)  # type: ignore[arg-type]  # as above


def test_tokens_end_with_their_user_their_password_and_with_authentication() -> None:
    users = enabled()

    def token() -> str:
        return users.apply(AssignToken("ada", "n", users.revision))

    first, second = token(), token()
    assert first != second and users.owner(first) == "ada"
    users.apply(ExpireTokens((first,)))
    with pytest.raises(AuthError, match="invalid auth token"):
        users.owner(first)
    users.apply(UserChangePassword("ada", hashed_password="!"))
    with pytest.raises(AuthError, match="invalid auth token"):
        users.owner(second)
    third = token()
    users.apply(UserDelete("ada"))
    with pytest.raises(AuthError, match="invalid auth token"):
        users.owner(third)
    users.apply(UserAdd("ada", hashed_password="#"))
    third = token()
    users.apply(AuthDisable())
    with pytest.raises(AuthError, match="invalid auth token"):
        users.owner(third)
    with pytest.raises(AuthError, match="auth not enabled"):
        token()


def test_a_token_is_not_given_for_a_password_that_was_compared_before_users_changed() -> None:
    users = enabled()
    known = users.revision
    users.apply(UserChangePassword("ada", hashed_password="!"))
    with pytest.raises(AuthError, match="old auth revision"):
        users.apply(AssignToken("ada", "n", known))
    for name, problem in (("nobody", "authentication failed"), ("bob", "user has no password")):
        with pytest.raises(AuthError, match=problem):
            users.apply(AssignToken(name, "n", users.revision))


LEASED = LeaseTable()
LEASED.add(LeaseState(1, 60))
LEASED.add(LeaseState(2, 60))
LEASED.attach(1, b"a")
LEASED.attach(2, b"b")


@pytest.mark.parametrize(
    ("user", "request_", "problem"),
    [
        ("ada", Range(b"a", b"b"), None),
        ("ada", Range(b"a", b"c"), "permission denied"),
        ("ada", Put(b"a", b""), "permission denied"),
        ("bob", Put(b"b", b""), None),
        ("bob", Put(b"b", b"", prev_kv=True), "permission denied"),
        ("bob", Put(b"b", b"", lease=2), None),
        ("bob", Put(b"b", b"", lease=1), "permission denied"),
        ("bob", DeleteRange(b"b"), None),
        ("bob", DeleteRange(b"b", b"c"), "permission denied"),
        ("bob", DeleteRange(b"b", prev_kv=True), "permission denied"),
        ("bob", Txn((), (Put(b"b", b"", lease=1),)), "permission denied"),
        ("ada", Txn((Compare(b"b", "version", "=", 0),)), "permission denied"),
        ("ada", Txn((), (), (Txn((), (Range(b"b"),)),)), "permission denied"),
        ("ada", Txn((), (Range(b"a"),), (Txn((), (Range(b"aa"),)),)), None),
        ("bob", LeaseRevoke(2), None),
        ("bob", LeaseRevoke(1), "permission denied"),
        ("ada", LeaseTimeToLive(1, keys=True), None),
        ("ada", LeaseTimeToLive(2, keys=True), "permission denied"),
        ("ada", LeaseTimeToLive(2), None),
        ("ada", UserGet("ada"), None),
        ("ada", UserGet("bob"), "permission denied"),
        ("ada", RoleGet("reader"), None),
        ("ada", RoleGet("writer"), "permission denied"),
        ("ada", AuthStatus(), "permission denied"),
        ("ada", HashKV(), "permission denied"),
        ("ada", AuthDisable(), "permission denied"),
        ("", AuthDisable(), "user name is empty"),
        ("", Range(b"a"), "user name is empty"),
        ("", UserGet(""), "user name is empty"),
        ("nobody", Range(b"a"), "permission denied"),
        ("", Compact(1), None),
        ("root", Txn((), (DeleteRange(b"\0", ALL_KEYS_END),)), None),
        ("root", AuthDisable(), None),
    ],
)
def test_who_may_do_what(user: str, request_: object, problem: str | None) -> None:
    users = enabled()
    if problem is None:
        check_permission(request_, user, users, LEASED)
        return
    with pytest.raises(AuthError) as refused:
        check_permission(request_, user, users, LEASED)
    assert refused.value.problem == problem


def test_a_permission_that_is_taken_back_is_gone_at_once() -> None:
    users = enabled()
    check_permission(Range(b"a"), "ada", users, LEASED)
    users.apply(RoleRevokePermission("reader", b"a", b"b"))
    with pytest.raises(AuthError, match="permission denied"):
        check_permission(Range(b"a"), "ada", users, LEASED)
    users.apply(RoleDelete("reader"))
    assert users.user("ada").roles == ()


def test_what_was_let_in_before_users_changed_is_refused_behind_that() -> None:
    """It is judged by the state that its entry of the log meets; whoever asked is told to ask again."""
    machine = StateMachine()
    machine.users = enabled()
    write = AsUser(Put(b"k", b"v"), user="root")
    first, second = (machine.proposal(write, 0.0) for _ in range(2))
    assert machine.run(first)[0].refusal is None
    assert machine.run(AsUser(RoleAdd("new"), user="root"))[0].refusal is None
    refusal = machine.run(second)[0].refusal
    assert isinstance(refusal, AuthError) and refusal.problem == "old auth revision"
    assert machine.store.revision == 2
    assert machine.run(machine.proposal(write, 0.0))[0].refusal is None
    # With authentication disabled there is nothing to be old.
    late = machine.proposal(write, 0.0)
    assert machine.run(AsUser(AuthDisable(), user="root"))[0].refusal is None
    assert machine.run(late)[0].refusal is None


def test_only_a_write_that_is_somebodys_is_judged_and_a_watch_once() -> None:
    machine = StateMachine()
    machine.users = enabled()
    assert machine.run(Put(b"k", b"v"), trusted=True)[0].refusal is None
    refusal = machine.run(Put(b"k", b"v"))[0].refusal
    assert isinstance(refusal, AuthError) and refusal.problem == "user name is empty"
    with pytest.raises(AuthError, match="permission denied"):
        machine.open_watch(Watch(b"b", user="ada"))
    assert machine.open_watch(Watch(b"aa", user="ada"))
    # One that goes on at another member was let in, whatever has become of its token meanwhile.
    assert machine.open_watch(Watch(b"b", token="gone", granted=True))


@given(st.binary(min_size=16, max_size=16))
def test_salts_are_what_bcrypt_reads(drawn: bytes) -> None:
    salt = make_salt(drawn, 4)
    assert len(salt) == 29
    hashed = hash_password(b"secret", salt)
    assert hashed.startswith(salt) and password_matches(b"secret", hashed)
    assert not password_matches(b"Secret", hashed)
    assert not password_matches(b"x" * 80, hashed) and not password_matches(b"", b"")


@pytest.mark.parametrize("changes", [0, 1, ATTEMPTS - 1, ATTEMPTS])
def test_a_password_is_compared_again_when_users_changed_meanwhile_and_not_for_ever(changes: int) -> None:
    hashed = hash_password(b"secret", make_salt(bytes(16), 4)).decode()
    asked: list[Any] = []

    async def ask(request: Any) -> Any:
        asked.append(request)
        compared = sum(isinstance(each, PasswordHash) for each in asked)
        if isinstance(request, PasswordHash):
            return PasswordHashReply(1, compared, hashed)
        if request.auth_revision <= changes:
            raise AuthError("old auth revision")
        return AuthenticateReply(1, "token")

    async def main(world: World) -> Any:
        return await serve_password(Authenticate("ada", "secret"), ask, world, 4)

    if changes < ATTEMPTS:
        assert SimWorld(1).run(main) == AuthenticateReply(1, "token")
    else:
        with pytest.raises(AuthError, match="old auth revision: users change faster"):
            SimWorld(1).run(main)
    nonces = [each.nonce for each in asked if isinstance(each, AssignToken)]
    assert len(set(nonces)) == min(changes + 1, ATTEMPTS)


def test_what_else_is_refused_while_a_password_is_compared_is_told() -> None:
    hashed = hash_password(b"secret", make_salt(bytes(16), 4)).decode()

    async def ask(request: Any) -> Any:
        if isinstance(request, PasswordHash):
            return PasswordHashReply(1, 1, hashed)
        raise AuthError("auth not enabled")

    async def main(world: World, password: str) -> Any:
        return await serve_password(Authenticate("ada", password), ask, world, 4)

    with pytest.raises(AuthError, match="auth not enabled"):
        SimWorld(1).run(lambda world: main(world, "secret"))
    with pytest.raises(AuthError, match="authentication failed"):
        SimWorld(1).run(lambda world: main(world, "wrong"))
