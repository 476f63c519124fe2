"""Answers of watches, whose parts are encoded once for all who are told the same."""

from hypothesis import given
from hypothesis import strategies as st

from tests.raftstore.etcd.services import Served, play
from understudy.raftstore.etcd.schema import messages
from understudy.raftstore.etcd.translation import event_to
from understudy.raftstore.etcd.watching import ENCODED_BYTES_MAX, ENCODED_MAX, MORE_FOLLOWS
from understudy.raftstore.storage import Event, KeyValue
from understudy.raftstore.storage.cluster import Leadership

WATCHES = 12

pairs = st.builds(
    KeyValue,
    st.binary(min_size=1, max_size=5),
    st.binary(max_size=200),
    *[st.integers(0, 1 << 62) for _ in range(4)],
)
events = st.builds(Event, st.sampled_from(["PUT", "DELETE"]), pairs, st.none() | pairs)


@given(st.integers(1, 1 << 62), st.integers(-1, 1 << 40), st.booleans(), st.lists(events, max_size=4))
def test_parts_one_behind_the_other_are_the_answer(
    revision: int, watch_id: int, more: bool, told: list[Event]
) -> None:
    async def scenario(s: Served) -> None:
        encoded = s.service.encoded
        named = messages.WatchResponse(watch_id=watch_id).SerializeToString()
        for _ in range(2):  # Made, and remembered.
            parts = [encoded.header(revision), named, MORE_FOLLOWS if more else b""]
            answer = b"".join([*parts, *[encoded.event(event) for event in told]])
            whole = messages.WatchResponse(
                header=s.service.header(revision),
                watch_id=watch_id,
                fragment=more,
                events=[event_to(event) for event in told],
            )
            assert answer == whole.SerializeToString()

    play(scenario)


def test_headers_follow_who_leads() -> None:
    async def scenario(s: Served) -> None:
        terms = []
        for term in (7, 8):
            s.service.leadership = Leadership(member=1, leader=1, term=term)
            encoded = s.service.encoded.header(5)
            terms.append(messages.WatchResponse.FromString(encoded).header.raft_term)
        assert terms == [7, 8]

    play(scenario)


def test_what_is_remembered_of_events_is_bounded() -> None:
    async def scenario(s: Served) -> None:
        encoded = s.service.encoded
        for size in (10, ENCODED_BYTES_MAX // 10):
            for number in range(3 * ENCODED_MAX):
                encoded.event(Event("PUT", KeyValue(b"k", bytes(size), 1, number, 1)))
                kept = [data for _, data in encoded._events.values()]
                assert len(kept) <= ENCODED_MAX and sum(map(len, kept)) <= 2 * ENCODED_BYTES_MAX

    play(scenario)


def test_watches_of_one_stream_are_each_told_everything_in_order() -> None:
    async def scenario(s: Served) -> None:
        stream = await s.watch(key=b"k")
        for _ in range(WATCHES - 1):
            await s.create(stream, key=b"k")
        for _ in range(WATCHES):
            assert (await stream.receive()).created
        revisions = [await s.put(b"k", b"%d" % number) for number in range(20)]
        # Nobody has read meanwhile: what is the same for all goes out together, and none misses any of it.
        seen: dict[int, list[int]] = {watch_id: [] for watch_id in range(WATCHES)}
        while any(len(found) < len(revisions) for found in seen.values()):
            answer = await stream.receive()
            seen[answer.watch_id] += [event.kv.mod_revision for event in answer.events]
            assert answer.header.revision == seen[answer.watch_id][-1]
        assert all(found == revisions for found in seen.values())
        stream.cancel()

    for schedule in range(5):
        play(scenario, schedule=schedule)
