"""Getting a container's image: pull policies, back-off, and the words that go with each outcome."""

from collections.abc import Callable

from attrs import define

from understudy.actors import Ref, World
from understudy.components.boundary import cri
from understudy.components.boundary.image_reference import InvalidImageReference, parse
from understudy.components.machinery.durations import format_duration
from understudy.mailbox import Refusal

from .backoff import Backoff

PULL_TIMEOUT_SECONDS = 3600.0

Tell = Callable[[str, str, str], None]
"""Says an event about the container: type, reason, message."""


class StartError(Exception):
    """A container cannot be started now: the reason and the message of its `waiting` state."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.retry_after: float | None = None
        """Seconds until it is worth trying again; None: the usual time."""


@define(eq=False)
class ImagePuller:
    """Makes sure that an image is on the node."""

    world: World
    runtime: Ref[cri.ContainerRuntime]
    backoff: Backoff
    _last_errors: dict[str, str]

    @classmethod
    def of(
        cls, world: World, runtime: Ref[cri.ContainerRuntime], initial: float, longest: float
    ) -> "ImagePuller":
        return cls(world, runtime, Backoff(initial, longest), {})

    def forget(self, pod_uid: str) -> None:
        """The pod is gone."""
        self.backoff.forget(f"{pod_uid}_")
        self._last_errors = {
            key: text for key, text in self._last_errors.items() if not key.startswith(f"{pod_uid}_")
        }

    async def ensure(self, pod_uid: str, image: str, policy: str, tell: Tell) -> str:
        """The image, ready to be used, as what to create a container from.

        Raises:
            StartError: InvalidImageName, ErrImagePull, ImagePullBackOff or ErrImageNeverPull.
        """
        try:
            reference = parse(image)
        except InvalidImageReference as error:
            message = (
                f'Failed to apply default image tag "{image}": couldn\'t parse image name "{image}": {error}'
            )
            tell("Warning", "InspectFailed", message)
            raise StartError("InvalidImageName", message) from None
        policy = policy or ("Always" if reference.tag == "latest" else "IfNotPresent")
        try:
            present = (await self.runtime.ask(cri.GetImageStatus(cri.ImageSpec(image)))).image
        except Refusal as error:
            message = f'Failed to inspect image "{image}": {error or type(error).__name__}'
            tell("Warning", "InspectFailed", message)
            raise StartError("ImageInspectError", message) from error
        if present is not None and policy != "Always":
            tell("Normal", "Pulled", f'Container image "{image}" already present on machine')
            return present.id
        if policy == "Never":
            message = f'Container image "{image}" is not present with pull policy of Never'
            tell("Warning", "ErrImageNeverPull", message)
            raise StartError("ErrImageNeverPull", message)
        return await self._pull(f"{pod_uid}_{image}", image, tell)

    async def _pull(self, key: str, image: str, tell: Tell) -> str:
        now = self.world.monotonic()
        remaining = self.backoff.remaining(key, now)
        if remaining > 0:
            message = f'Back-off pulling image "{image}"'
            tell("Normal", "BackOff", message)
            last = self._last_errors.get(key)
            refused = StartError("ImagePullBackOff", f"{message}: ErrImagePull: {last}" if last else message)
            refused.retry_after = remaining
            raise refused
        tell("Normal", "Pulling", f'Pulling image "{image}"')
        try:
            await self.runtime.ask(cri.PullImage(cri.ImageSpec(image)), PULL_TIMEOUT_SECONDS)
            pulled = (await self.runtime.ask(cri.GetImageStatus(cri.ImageSpec(image)))).image
        except Refusal as error:
            text = str(error) or type(error).__name__
            tell("Warning", "Failed", f'Failed to pull image "{image}": {text}')
            self._last_errors[key] = text
            failed = StartError("ErrImagePull", text)
            self.backoff.next(key, self.world.monotonic(), self.world.monotonic())
            failed.retry_after = min(self.backoff.remaining(key, self.world.monotonic()), 1.0)
            raise failed from error
        if pulled is None:
            raise StartError("ErrImagePull", f'image "{image}" is gone again right after its pull')
        took = format_duration(round((self.world.monotonic() - now) * 1000) * 1_000_000)
        tell(
            "Normal",
            "Pulled",
            f'Successfully pulled image "{image}" in {took} ({took} including waiting). '
            f"Image size: {pulled.size} bytes.",
        )
        return pulled.id
