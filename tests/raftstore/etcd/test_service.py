"""The services on decoded messages, in virtual time and without a wire."""

from typing import Any

import pytest

from tests.raftstore.etcd.services import KV, Served, play, refusal, served
from understudy.actors import SimWorld, World
from understudy.raftstore.etcd.autocompaction import RevisionCompactor
from understudy.raftstore.etcd.grpc import Code, RpcError
from understudy.raftstore.etcd.schema import METHODS, messages
from understudy.raftstore.etcd.service import ServiceOptions
from understudy.raftstore.group import raft_group
from understudy.raftstore.membership import StartMember, StopMember
from understudy.raftstore.memory import memory_store

PARTS = 40


def test_every_method_is_served_or_says_that_it_is_not() -> None:
    async def scenario(s: Served) -> None:
        missing = []
        for path, method in sorted(METHODS.items()):
            if method.client_streaming:
                continue
            error = None
            try:
                await s.call(path, method.request())
            except RpcError as refused:
                error = refused
            if error is not None and "is not implemented" in error.message:
                assert error.code is Code.UNIMPLEMENTED
                missing.append(path)
        assert missing == []

    play(scenario, raft_group())


def test_every_answer_says_who_answered_at_which_revision() -> None:
    async def scenario(s: Served) -> None:
        await s.put(b"a")
        for path, request in (
            (f"{KV}Range", messages.RangeRequest(key=b"a")),
            ("/etcdserverpb.Lease/LeaseLeases", messages.LeaseLeasesRequest()),
            ("/etcdserverpb.Lease/LeaseTimeToLive", messages.LeaseTimeToLiveRequest(ID=7)),
            ("/etcdserverpb.Maintenance/Status", messages.StatusRequest()),
            ("/etcdserverpb.Cluster/MemberList", messages.MemberListRequest()),
        ):
            header = (await s.call(path, request)).header
            assert (header.cluster_id, header.revision) == (77, 2), path
            assert header.member_id and header.raft_term, path

    play(scenario, raft_group(), ServiceOptions(cluster_id=77))


def test_a_snapshot_whose_member_stops_is_no_whole_one() -> None:
    async def scenario(s: Served) -> None:
        for number in range(80):
            await s.put(b"%d" % number, b"x" * 100_000)
        stream = s.channel.stream("/etcdserverpb.Maintenance/Snapshot")
        await stream.send(messages.SnapshotRequest())
        first = await stream.receive()
        assert first.remaining_bytes > 8_000_000
        status = await s.call("/etcdserverpb.Maintenance/Status", messages.StatusRequest())
        await s.store.ask(StopMember(status.leader))

        async def rest() -> None:
            while await stream.receive() is not None:
                pass

        assert (await refusal(rest())).code is Code.UNAVAILABLE

    play(scenario, raft_group())


def test_answers_tell_the_new_term_as_soon_as_the_leader_has_moved() -> None:
    async def scenario(s: Served) -> None:
        await s.put(b"k")
        status = await s.call("/etcdserverpb.Maintenance/Status", messages.StatusRequest())
        target = next(member for member in (1, 2, 3) if member != status.leader)
        move = messages.MoveLeaderRequest(targetID=target)
        moved = await s.call("/etcdserverpb.Maintenance/MoveLeader", move)
        read = await s.call(f"{KV}Range", messages.RangeRequest(key=b"k"))
        for header in (moved.header, read.header):
            assert header.raft_term == status.raftTerm + 1 and header.member_id == target

    play(scenario, raft_group())


@pytest.mark.parametrize("schedule", range(5))
def test_the_first_answer_under_another_leader_tells_its_term(schedule: int) -> None:
    async def scenario(s: Served) -> None:
        await s.put(b"k")
        status = await s.call("/etcdserverpb.Maintenance/Status", messages.StatusRequest())
        await s.store.ask(StopMember(status.leader))
        header = (await s.call(f"{KV}Put", messages.PutRequest(key=b"k"))).header
        now = await s.call("/etcdserverpb.Maintenance/Status", messages.StatusRequest())
        assert now.leader != status.leader and now.raftTerm > status.raftTerm
        assert (header.member_id, header.raft_term) == (now.leader, now.raftTerm)

    play(scenario, raft_group(), schedule=schedule)


def test_a_transaction_within_another_says_no_revision() -> None:
    async def scenario(s: Served) -> None:
        inner = messages.TxnRequest(success=[messages.RequestOp(request_put=messages.PutRequest(key=b"a"))])
        outer = messages.TxnRequest(success=[messages.RequestOp(request_txn=inner)])
        answer = await s.call(f"{KV}Txn", outer)
        assert answer.header.revision == 2
        within = answer.responses[0].response_txn
        assert within.HasField("header") and within.header.revision == 0
        assert within.responses[0].response_put.header.revision == 2

    play(scenario)


@pytest.mark.parametrize(
    ("path", "request_", "code", "text"),
    [
        ("Range", messages.RangeRequest(), 3, "key is not provided"),
        (
            "Range",
            messages.RangeRequest(key=b"a", revision=99),
            11,
            "mvcc: required revision is a future revision",
        ),
        ("Range", messages.RangeRequest(key=b"a", sort_order=9), 3, "invalid sort option"),
        ("Put", messages.PutRequest(key=b"a", lease=9), 5, "requested lease not found"),
        ("Put", messages.PutRequest(key=b"n", ignore_value=True), 3, "key not found"),
        ("Put", messages.PutRequest(key=b"n", value=b"v", ignore_value=True), 3, "value is provided"),
        ("Put", messages.PutRequest(key=b"n", lease=1, ignore_lease=True), 3, "lease is provided"),
        ("Put", messages.PutRequest(key=b"k", value=b"x" * 1_600_000), 3, "request is too large"),
        (
            "Compact",
            messages.CompactionRequest(revision=50),
            11,
            "mvcc: required revision is a future revision",
        ),
        ("Txn", messages.TxnRequest(success=[messages.RequestOp()]), 3, "key not found"),
        (
            "Txn",
            messages.TxnRequest(success=[messages.RequestOp(request_put=messages.PutRequest(key=b"k"))] * 2),
            3,
            "duplicate key given in txn request",
        ),
        (
            "Txn",
            messages.TxnRequest(compare=[messages.Compare(key=b"k")] * 200),
            3,
            "too many operations in txn request",
        ),
    ],
)
def test_refusals_have_etcds_codes_and_texts(path: str, request_: Any, code: int, text: str) -> None:
    async def scenario(s: Served) -> None:
        error = await refusal(s.call(f"{KV}{path}", request_))
        assert (int(error.code), error.message) == (code, f"etcdserver: {text}")

    play(scenario)


def test_a_watch_is_created_before_its_events_and_silent_after_it_is_canceled() -> None:
    async def scenario(s: Served) -> None:
        await s.put(b"k", b"1")
        stream = await s.watch(key=b"k", start_revision=2, watch_id=5)
        created = await stream.receive()
        assert (created.created, created.watch_id, len(created.events)) == (True, 5, 0)
        first = await stream.receive()
        assert [event.kv.value for event in first.events] == [b"1"]
        await s.put(b"k", b"2")
        assert (await stream.receive()).events[0].kv.mod_revision == 3
        cancel = messages.WatchCancelRequest(watch_id=5)
        await stream.send(messages.WatchRequest(cancel_request=cancel))
        canceled = await stream.receive()
        assert (canceled.canceled, canceled.watch_id) == (True, 5)
        await s.put(b"k", b"3")
        await s.create(stream, key=b"k")
        assert (await stream.receive()).created
        await s.put(b"k", b"4")
        assert (await stream.receive()).events[0].kv.value == b"4"
        stream.cancel()

    play(scenario)


def test_watches_that_cannot_be_are_refused_and_the_stream_goes_on() -> None:
    async def scenario(s: Served) -> None:
        stream = await s.watch(key=b"b", range_end=b"a")
        refused = await stream.receive()
        assert (refused.created, refused.canceled, refused.watch_id) == (True, True, -1)
        assert refused.cancel_reason == "mvcc: watcher range is empty"
        await s.create(stream, key=b"k", watch_id=3)
        assert (await stream.receive()).watch_id == 3
        await s.create(stream, key=b"k", watch_id=3)
        assert (
            await stream.receive()
        ).cancel_reason == "mvcc: duplicate watch ID provided on the WatchStream"
        await s.create(stream, key=b"k")
        assert (await stream.receive()).watch_id == 0
        stream.cancel()

    play(scenario)


def test_a_stream_has_so_many_watches_and_no_more() -> None:
    async def scenario(s: Served) -> None:
        stream = await s.watch(key=b"a")
        await s.create(stream, key=b"b", watch_id=9)
        await s.create(stream, key=b"c")
        assert [(await stream.receive()).canceled for _ in range(2)] == [False, False]
        assert "too many watches" in (await stream.receive()).cancel_reason
        await stream.send(messages.WatchRequest(cancel_request=messages.WatchCancelRequest(watch_id=9)))
        assert (await stream.receive()).canceled
        await s.create(stream, key=b"c")
        assert not (await stream.receive()).canceled
        stream.cancel()

    play(scenario, options=ServiceOptions(watches_max=2))


def test_a_watch_that_is_canceled_between_the_parts_of_an_answer_says_no_more() -> None:
    async def scenario(s: Served) -> None:
        operations = [
            messages.RequestOp(request_put=messages.PutRequest(key=b"k%d" % number, value=b"x" * 300_000))
            for number in range(PARTS)
        ]
        stream = await s.watch(key=b"k", range_end=b"l", watch_id=1, fragment=True)
        assert (await stream.receive()).created
        await s.call(f"{KV}Txn", messages.TxnRequest(success=operations))
        # Nobody reads: some parts fill the pipe, and the rest waits behind it.
        await s.world.sleep(1.0)
        await stream.send(messages.WatchRequest(cancel_request=messages.WatchCancelRequest(watch_id=1)))
        await s.world.sleep(1.0)
        parts = 0
        while not (response := await stream.receive()).canceled:
            assert response.fragment
            parts += 1
        assert 0 < parts < PARTS
        await s.create(stream, key=b"other", watch_id=2)
        assert (await stream.receive()).watch_id == 2
        stream.cancel()

    whole = memory_store(max_request_bytes=64 << 20)
    play(scenario, whole, ServiceOptions(max_request_bytes=1))


def test_health_is_told_whenever_it_changes() -> None:
    async def scenario(s: Served) -> None:
        stream = s.channel.stream("/grpc.health.v1.Health/Watch")
        await stream.send(messages.HealthCheckRequest())
        assert (await stream.receive()).status in (1, 2)
        await s.put(b"k")
        other = s.channel.stream("/grpc.health.v1.Health/Watch")
        await other.send(messages.HealthCheckRequest(service="other"))
        assert (await other.receive()).status == 3
        leading = s.channel.stream("/grpc.health.v1.Health/Watch")
        await leading.send(messages.HealthCheckRequest())
        assert (await leading.receive()).status == 1
        for member in (1, 2):
            await s.store.ask(StopMember(member))
        assert (await leading.receive()).status == 2
        await s.store.ask(StartMember(1))
        assert (await leading.receive()).status == 1
        error = await refusal(
            s.call("/grpc.health.v1.Health/Check", messages.HealthCheckRequest(service="other"))
        )
        assert error.code is Code.NOT_FOUND
        for each in (stream, other, leading):
            each.cancel()

    play(scenario, raft_group())


def test_a_watch_of_what_is_compacted_says_from_where_it_can_begin() -> None:
    async def scenario(s: Served) -> None:
        for _ in range(4):
            await s.put(b"k")
        await s.call(f"{KV}Compact", messages.CompactionRequest(revision=4))
        stream = await s.watch(key=b"k", start_revision=2)
        assert (await stream.receive()).created
        canceled = await stream.receive()
        assert (canceled.canceled, canceled.compact_revision) == (True, 4)
        stream.cancel()

    play(scenario)


def test_progress_comes_behind_every_event_of_the_stream() -> None:
    async def scenario(s: Served) -> None:
        stream = await s.watch(key=b"a", start_revision=2)
        await s.create(stream, key=b"b", start_revision=2)
        revision = 0
        for number in range(60):
            revision = await s.put(b"a" if number % 2 else b"b")
        await stream.send(messages.WatchRequest(progress_request=messages.WatchProgressRequest()))
        seen = []
        while True:
            response = await stream.receive()
            seen += [event.kv.mod_revision for event in response.events]
            if response.watch_id == -1:
                break
        assert response.header.revision >= revision
        assert sorted(seen) == list(range(2, revision + 1))
        stream.cancel()

    for schedule in range(10):
        play(scenario, schedule=schedule)
    play(scenario, raft_group())


def test_nothing_comes_behind_a_cancellation_in_whatever_order_tasks_run() -> None:
    async def scenario(s: Served) -> None:
        stream = await s.watch(key=b"k", start_revision=2, watch_id=1, fragment=True)
        assert (await stream.receive()).created
        for _ in range(40):
            await s.put(b"k")
        cancel = messages.WatchCancelRequest(watch_id=1)
        await stream.send(messages.WatchRequest(cancel_request=cancel))
        while not (await stream.receive()).canceled:
            pass
        await s.create(stream, key=b"other", watch_id=2)
        assert (await stream.receive()).watch_id == 2
        stream.cancel()

    for schedule in range(10):
        play(scenario, schedule=schedule)


def test_a_quiet_watch_is_told_how_far_it_is_where_it_asked_for_it() -> None:
    async def scenario(s: Served) -> None:
        stream = await s.watch(key=b"quiet", progress_notify=True)
        await s.create(stream, key=b"silent")
        assert (await stream.receive()).created and (await stream.receive()).created
        revision = await s.put(b"other")
        before = s.world.monotonic()
        told = await stream.receive()
        assert (told.watch_id, told.header.revision, len(told.events)) == (0, revision, 0)
        assert 590 < s.world.monotonic() - before < 1300
        stream.cancel()

    play(scenario)


def test_a_large_answer_is_split_where_the_client_allows_it() -> None:
    async def scenario(s: Served) -> None:
        operations = [
            messages.RequestOp(request_put=messages.PutRequest(key=b"k%d" % number, value=b"x" * 400_000))
            for number in range(3)
        ]
        whole = await s.watch(key=b"k", range_end=b"l")
        split = await s.watch(key=b"k", range_end=b"l", fragment=True)
        assert (await whole.receive()).created and (await split.receive()).created
        await s.call(f"{KV}Txn", messages.TxnRequest(success=operations))
        assert len((await whole.receive()).events) == 3
        parts = [await split.receive() for _ in range(2)]
        assert [(len(part.events), part.fragment) for part in parts] == [(2, True), (1, False)]
        whole.cancel()
        split.cancel()

    play(scenario, options=ServiceOptions(max_request_bytes=400_000))


def test_who_is_nobody_changes_no_members_once_there_are_users() -> None:
    async def main(world: World) -> None:
        async with served(world, raft_group(), ServiceOptions()) as s:
            auth, cluster = "/etcdserverpb.Auth/", "/etcdserverpb.Cluster/"
            for name in ("root", "ada"):
                await s.call(f"{auth}UserAdd", messages.AuthUserAddRequest(name=name, password="pw"))
            grant = messages.AuthUserGrantRoleRequest(user="root", role="root")
            await s.call(f"{auth}UserGrantRole", grant)
            urls = ["http://127.0.0.1:1"]
            changes = {
                f"{cluster}MemberAdd": messages.MemberAddRequest(peerURLs=urls, isLearner=True),
                f"{cluster}MemberUpdate": messages.MemberUpdateRequest(ID=2, peerURLs=urls),
                f"{cluster}MemberPromote": messages.MemberPromoteRequest(ID=2),
                f"{cluster}MemberRemove": messages.MemberRemoveRequest(ID=2),
                "/etcdserverpb.Maintenance/MoveLeader": messages.MoveLeaderRequest(targetID=2),
            }
            before = (await s.call(f"{cluster}MemberList", messages.MemberListRequest())).members
            await s.call(f"{auth}AuthEnable", messages.AuthEnableRequest())
            tokens = {"": ""}
            for name in ("root", "ada"):
                request = messages.AuthenticateRequest(name=name, password="pw")
                tokens[name] = (await s.call(f"{auth}Authenticate", request)).token
            for name, problem in (("", "user name is empty"), ("ada", "permission denied")):
                for path, change in changes.items():
                    with pytest.raises(RpcError, match=problem):
                        await s.call(path, change, token=tokens[name])
                # Where they are, everybody may know.
                listed = await s.call(
                    f"{cluster}MemberList", messages.MemberListRequest(), token=tokens[name]
                )
                assert listed.members == before
            with pytest.raises(RpcError, match="can only promote a learner"):
                path = f"{cluster}MemberPromote"
                await s.call(path, changes[path], token=tokens["root"])
            added = await s.call(f"{cluster}MemberAdd", changes[f"{cluster}MemberAdd"], token=tokens["root"])
            assert len(added.members) == 4
            removal = messages.MemberRemoveRequest(ID=added.member.ID)
            await s.call(f"{cluster}MemberRemove", removal, token=tokens["root"])
            # Who was removed is not found, as any number that never was.
            with pytest.raises(RpcError, match="member not found") as refused:
                await s.call(f"{cluster}MemberRemove", removal, token=tokens["root"])
            assert refused.value.code is Code.NOT_FOUND

    SimWorld(1, turns_max=400_000).run(main)


def test_a_lease_that_is_over_ends_no_stream_of_keep_alives() -> None:
    async def scenario(s: Served) -> None:
        grant = messages.LeaseGrantRequest(TTL=30)
        lease = (await s.call("/etcdserverpb.Lease/LeaseGrant", grant)).ID
        stream = s.channel.stream("/etcdserverpb.Lease/LeaseKeepAlive")
        for number, left in ((lease, 30), (12345, 0), (lease, 30)):
            await stream.send(messages.LeaseKeepAliveRequest(ID=number))
            response = await stream.receive()
            assert (number, left) == (response.ID, response.TTL)
        stream.cancel()

    play(scenario)


def test_without_a_leader_streams_that_ask_for_one_end() -> None:
    async def scenario(s: Served) -> None:
        await s.put(b"k")
        led = s.channel.stream("/etcdserverpb.Watch/Watch", {"hasleader": "true"})
        await s.create(led, key=b"k")
        assert (await led.receive()).created
        for member in (1, 2):
            await s.store.ask(StopMember(member))
        error = await refusal(led.receive())
        assert (error.code, error.message) == (Code.UNAVAILABLE, "etcdserver: no leader")
        error = await refusal(s.call(f"{KV}Range", messages.RangeRequest(key=b"k"), hasleader="true"))
        assert error.message == "etcdserver: no leader"
        health = await s.call("/grpc.health.v1.Health/Check", messages.HealthCheckRequest())
        assert health.status == 2
        read = await s.call(f"{KV}Range", messages.RangeRequest(key=b"k", serializable=True))
        assert read.count == 1
        # What members are compared by is told by each for itself.
        hashed = await s.call("/etcdserverpb.Maintenance/HashKV", messages.HashKVRequest())
        whole = await s.call("/etcdserverpb.Maintenance/Hash", messages.HashRequest())
        assert hashed.header.revision == whole.header.revision == 2 and hashed.hash

    play(scenario, raft_group())


def test_the_past_is_forgotten_regularly() -> None:
    async def scenario(s: Served) -> None:
        async with s.world.nursery() as nursery:
            nursery.start_soon(s.service.compact_regularly, RevisionCompactor(10))
            for _ in range(30):
                await s.put(b"k")
            await s.world.sleep(400.0)
            error = await refusal(s.call(f"{KV}Range", messages.RangeRequest(key=b"k", revision=20)))
            assert error.message.endswith("has been compacted")
            await s.call(f"{KV}Range", messages.RangeRequest(key=b"k", revision=21))
            nursery.cancel()

    play(scenario)
