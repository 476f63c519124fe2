"""What a component says about objects: counted when repeated, bounded when there is too much of it."""

from understudy.actors import Actor, SimWorld, World
from understudy.components.client import Client, EventRecorder
from understudy.components.client.events import QUEUE_MAX, SPAM_BURST, SPAM_REFILL_SECONDS
from understudy.components.cluster import Cluster
from understudy.components.machinery.resources import EVENTS

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "default", "uid": "u-1", "resourceVersion": "7"},
}


class Talker(Actor[object]):
    """Owns a recorder's task."""

    def __init__(self, recorder: EventRecorder) -> None:
        self.recorder = recorder

    async def on_start(self) -> None:
        self.context.start_soon(self.recorder.run)


async def _recorder(cluster: Cluster) -> tuple[Client, EventRecorder]:
    client = cluster.client()
    recorder = EventRecorder(client, "tester", "here")
    cluster.system.spawn(lambda: Talker(recorder), "talker")
    return client, recorder


def test_the_same_event_again_raises_its_count() -> None:
    async def main(world: World) -> None:
        async with Cluster(0, None, world=world) as cluster:
            client, recorder = await _recorder(cluster)
            for _ in range(3):
                recorder.event(POD, "Warning", "BackOff", "again", field_path="spec.containers{web}")
                await world.sleep(1)
            recorder.event(POD, "Normal", "Started", "at last")
            await world.sleep(1)
            events = (await client.list(EVENTS, "default")).items
            said = {event["reason"]: event for event in events}
            assert {reason: event["count"] for reason, event in said.items()} == {"BackOff": 3, "Started": 1}
            backoff = said["BackOff"]
            assert backoff["firstTimestamp"] < backoff["lastTimestamp"]
            assert backoff["involvedObject"]["fieldPath"] == "spec.containers{web}"
            assert backoff["source"] == {"component": "tester", "host": "here"}

    SimWorld().run(main)


def test_too_much_about_one_object_is_dropped_and_counted() -> None:
    async def main(world: World) -> None:
        async with Cluster(0, None, world=world) as cluster:
            client, recorder = await _recorder(cluster)
            for number in range(SPAM_BURST + 10):
                recorder.event(POD, "Normal", "Said", f"thing {number}")
            await world.sleep(1)
            assert recorder.dropped == 10
            assert len((await client.list(EVENTS, "default")).items) == SPAM_BURST
            await world.sleep(SPAM_REFILL_SECONDS)
            recorder.event(POD, "Normal", "Said", "one more")
            recorder.event(POD, "Normal", "Said", "and one too many")
            assert recorder.dropped == 11

    SimWorld().run(main)


def test_recording_never_waits_for_a_writer() -> None:
    async def main(world: World) -> None:
        async with Cluster(0, None, world=world) as cluster:
            recorder = EventRecorder(cluster.client(), "tester")
            for number in range(QUEUE_MAX + 5):
                about = {**POD, "metadata": {"name": "web", "namespace": "default", "uid": f"u-{number}"}}
                recorder.event(about, "Normal", "Said", "nobody writes this")
            assert recorder.dropped == 5

    SimWorld().run(main)
