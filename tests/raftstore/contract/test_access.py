"""Who may do what behind the Storage contract: users, roles, passwords, tokens."""

from typing import Any

import pytest
import trio

from tests.raftstore.contract.stores import Bench, Play, bench, saved
from understudy.actors import RealWorld
from understudy.raftstore import passwords
from understudy.raftstore.storage import (
    AsUser,
    AuthDisable,
    AuthEnable,
    Authenticate,
    AuthError,
    AuthStatus,
    HashKV,
    InvalidRequest,
    OpenWatch,
    Permission,
    Put,
    Range,
    RoleAdd,
    RoleGrantPermission,
    Txn,
    Unavailable,
    UserAdd,
    UserChangePassword,
    UserGet,
    UserGrantRole,
    UserList,
    Watch,
    prefix_end,
)


def test_a_password_that_bcrypt_would_cut_is_refused(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        await b.store.ask(UserAdd("eve", "x" * 72))
        with pytest.raises(AuthError, match="password too long"):
            await b.store.ask(UserAdd("adam", "x" * 73))

    play(scenario)


def test_a_request_is_on_behalf_of_one() -> None:
    with pytest.raises(InvalidRequest, match="wrap it once"):
        AsUser(AsUser(UserAdd("eve", "pw"), user="root"), user="eve")


def test_passwords_that_wait_to_be_hashed_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever tries many must not keep others from theirs for ever."""
    monkeypatch.setattr(passwords, "WAITING_MAX", 3)

    async def main() -> None:
        answers: list[str] = []
        async with RealWorld.open(seed=1) as world, bench(world, "memory") as b:

            async def add(number: int) -> None:
                try:
                    await b.store.ask(UserAdd(f"user {number}", "pw"))
                except Unavailable as refused:
                    assert not refused.maybe_applied
                    answers.append("refused")
                else:
                    answers.append("done")

            async with world.nursery() as nursery:
                await passwords._hashing.acquire()
                for number in range(20):
                    nursery.start_soon(add, number)
                with world.deadline(5.0):
                    while len(answers) < 17:
                        await world.sleep(0.001)
                passwords._hashing.release()
            assert answers == ["refused"] * 17 + ["done"] * 3
            assert len((await b.store.ask(UserList())).users) == 3
            assert (await b.store.ask(UserAdd("later", "pw"))).revision == 1

    trio.run(main)


def test_what_is_no_hash_never_becomes_one(play: Play) -> None:
    """Whoever may add users must not get anything to where only hashes are looked for."""

    async def scenario(b: Bench) -> None:
        await b.store.ask(UserAdd("root", "secret"))
        await b.store.ask(UserAdd("eve", "pw", hashed_password="garbage"))
        await b.store.ask(UserAdd("nobody", no_password=True))
        await b.store.ask(UserGrantRole("root", "root"))
        await b.store.ask(AuthEnable())
        with pytest.raises(AuthError, match="authentication failed"):
            await b.store.ask(Authenticate("eve", "garbage"))
        with pytest.raises(AuthError, match="user has no password"):
            await b.store.ask(Authenticate("nobody", ""))
        root = (await b.store.ask(Authenticate("root", "secret"))).token
        await b.store.ask(AsUser(UserChangePassword("eve", "new", hashed_password="garbage"), root))
        assert (await b.store.ask(Authenticate("eve", "new"))).token

    play(scenario)


def test_whoever_a_front_has_seen_the_certificate_of_needs_no_token(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        await b.store.ask(UserAdd("root", "secret"))
        await b.store.ask(UserGrantRole("root", "root"))
        await b.store.ask(AuthEnable())
        assert (await b.store.ask(AsUser(Put(b"k", b"v"), user="root"))).revision == 2
        assert (await b.store.ask(AsUser(AuthStatus(), user="root"))).enabled is True
        with pytest.raises(AuthError, match="permission denied"):
            await b.store.ask(AsUser(Put(b"k", b"v"), user="nobody"))

    play(scenario)


def test_users_may_do_what_their_roles_say(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        ask = b.store.ask
        with pytest.raises(AuthError, match="root user does not exist"):
            await ask(AuthEnable())
        with pytest.raises(AuthError, match="auth not enabled"):
            await ask(Authenticate("root", "secret"))
        await ask(UserAdd("root", "secret"))
        await ask(UserGrantRole("root", "root"))
        await ask(UserAdd("ada", "pass"))
        await ask(RoleAdd("reader"))
        await ask(RoleGrantPermission("reader", Permission("read", b"/a/", prefix_end(b"/a/"))))
        await ask(UserGrantRole("ada", "reader"))
        await ask(Put(b"/a/1", b"x"))
        await ask(AuthEnable())
        with pytest.raises(AuthError, match="user name is empty"):
            await ask(Range(b"/a/1"))
        with pytest.raises(AuthError, match="authentication failed"):
            await ask(Authenticate("ada", "wrong"))
        ada = (await ask(Authenticate("ada", "pass"))).token
        root = (await ask(Authenticate("root", "secret"))).token
        assert (await ask(AsUser(Range(b"/a/1"), ada))).count == 1
        assert (await ask(AsUser(Range(b"/a/1", serializable=True), ada))).count == 1
        for refused in (Put(b"/a/1", b""), Range(b"/b"), UserList(), HashKV(), Txn((), (Put(b"/a/1", b""),))):
            with pytest.raises(AuthError, match="permission denied"):
                await ask(AsUser(refused, ada))
        with pytest.raises(AuthError, match="invalid auth token"):
            await ask(AsUser(Range(b"/a/1"), "nonsense"))
        assert (await ask(AsUser(UserGet("ada"), ada))).roles == ("reader",)
        assert (await ask(AsUser(UserList(), root))).users == ("ada", "root")
        assert (await ask(AsUser(Put(b"/b", b"y"), root))).revision == 3
        await ask(AsUser(RoleGrantPermission("reader", Permission("readwrite", b"/b")), root))
        assert (await ask(AsUser(Put(b"/b", b"z"), ada))).revision == 4
        await ask(AsUser(UserChangePassword("ada", "new"), root))
        with pytest.raises(AuthError, match="invalid auth token"):
            await ask(AsUser(Range(b"/b"), ada))
        with pytest.raises(AuthError, match="authentication failed"):
            await ask(Authenticate("ada", "pass"))
        assert (await ask(Authenticate("ada", "new"))).token not in (ada, root)
        await ask(AsUser(AuthDisable(), root))
        assert (await ask(Range(b"/b"))).kvs[0].value == b"z"

    play(scenario)


def test_a_watch_needs_a_permission_when_it_is_opened(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        setup: tuple[Any, ...] = (UserAdd("root", "r"), UserGrantRole("root", "root"), AuthEnable())
        for request in setup:
            await b.store.ask(request)
        with pytest.raises(AuthError, match="user name is empty"):
            await b.watch(Watch(b"k"))
        token = (await b.store.ask(Authenticate("root", "r"))).token
        writer, reader = b.system.own_channel("test watch", 8)
        await b.store.ask(AsUser(OpenWatch(Watch(b"k"), writer), token))
        await b.store.ask(AsUser(Put(b"k", b""), token))
        assert [e.kv.key for e in await b.events(reader, 1)] == [b"k"]

    play(scenario)


def test_a_snapshot_is_roots_alone(play: Play) -> None:
    async def scenario(b: Bench) -> None:
        setup: tuple[Any, ...] = (UserAdd("root", "r"), UserGrantRole("root", "root"), UserAdd("ada", "a"))
        for request in (*setup, AuthEnable()):
            await b.store.ask(request)
        with pytest.raises(AuthError, match="user name is empty"):
            await saved(b)
        with pytest.raises(AuthError, match="permission denied"):
            await saved(b, (await b.store.ask(Authenticate("ada", "a"))).token)
        assert await saved(b, (await b.store.ask(Authenticate("root", "r"))).token)

    play(scenario)
