"""The images that a fake container runtime knows, as data: how each is pulled, starts, answers and ends.

`docs/fake-runtime.md` is the table for users. An image that nothing here names can be pulled, runs until
it is stopped, and answers HTTP on the ports that its container declares.
"""

import re
from collections.abc import Callable, Mapping

from attrs import field, frozen

from .cri import CriCode
from .image_reference import ImageReference

NEVER = float("inf")


@frozen
class PullFailure:
    """Why an image cannot be pulled; `text` may use {image}, the full reference."""

    code: CriCode
    text: str


NOT_FOUND = PullFailure(
    CriCode.NOT_FOUND,
    'failed to pull and unpack image "{image}": failed to resolve reference "{image}": {image}: not found',
)


@frozen
class ImageScript:
    """What the containers of one image do. All times are seconds."""

    pull_seconds: float = 0.0
    pull_failure: PullFailure | None = None
    start_error: str = ""
    """The container cannot be started, and this is what the runtime says."""
    script: str = ""
    """What the image's own program does, in shell; "" runs until it is stopped."""
    has_shell: bool = False
    """An image of tools: every command is a shell's, and one that is not known is `not found` (127).
    In other images such a command is the image's own program."""
    listens: bool = True
    """Answers on the ports that the container declares, or else on `default_ports`."""
    default_ports: tuple[int, ...] = ()
    listens_after: float = 0.0
    """From the start until it listens and passes exec probes; NEVER is possible."""
    healthy_for: float = NEVER
    """From the start until it answers 503, NOT_SERVING, and fails exec probes."""
    stops_after: float = 0.0
    """From SIGTERM to its end; NEVER ignores the signal and is killed at the end of the grace period."""
    stop_exit_code: int = 0
    size: int = 20_000_000
    """Bytes."""


RUNS = ImageScript()
TOOLS = ImageScript(has_shell=True, script="exit 0", listens=False, stop_exit_code=143, size=4_000_000)
WEB = ImageScript(default_ports=(80,), size=72_000_000)


def _server(*ports: int) -> ImageScript:
    return ImageScript(default_ports=ports, size=120_000_000)


BY_REPOSITORY: Mapping[str, ImageScript] = {
    "docker.io/library/nginx": WEB,
    "docker.io/library/httpd": WEB,
    "docker.io/library/caddy": WEB,
    "docker.io/nginxdemos/hello": WEB,
    "docker.io/traefik/whoami": WEB,
    "registry.k8s.io/e2e-test-images/nginx": WEB,
    "registry.k8s.io/e2e-test-images/httpd": WEB,
    "registry.k8s.io/e2e-test-images/agnhost": _server(8080),
    "registry.k8s.io/echoserver": _server(8080),
    "docker.io/library/redis": _server(6379),
    "docker.io/library/memcached": _server(11211),
    "docker.io/library/postgres": _server(5432),
    "docker.io/library/mysql": _server(3306),
    "docker.io/library/mongo": _server(27017),
    "registry.k8s.io/pause": ImageScript(listens=False, size=320_000),
    "docker.io/library/busybox": TOOLS,
    "docker.io/library/alpine": TOOLS,
    "docker.io/library/bash": TOOLS,
    "docker.io/library/debian": TOOLS,
    "docker.io/library/ubuntu": TOOLS,
    "docker.io/curlimages/curl": TOOLS,
    "registry.k8s.io/e2e-test-images/busybox": TOOLS,
    "gcr.io/google-containers/busybox": TOOLS,
    "registry.k8s.io/busybox": TOOLS,
    "docker.io/library/perl": ImageScript(
        script="echo 3.14159265358979323846264338327950288419716939937510", listens=False
    ),
    "docker.io/library/hello-world": ImageScript(
        script='echo; echo "Hello from Docker!"; echo "This message comes from a fake container."',
        listens=False,
        size=13_000,
    ),
}

FAKE_PREFIX = "understudy.dev/fake/"

_NUMBER = r"(\d+(?:\.\d+)?)s"
_SPECIAL: tuple[tuple[str, Callable[..., ImageScript]], ...] = (
    ("crash", lambda: ImageScript(script="echo crashing >&2; exit 1")),
    (r"crash-after-" + _NUMBER, lambda s: ImageScript(script=f"sleep {s}; echo crashing >&2; exit 1")),
    (r"exit-(\d+)", lambda code: ImageScript(script=f"exit {code}")),
    (
        r"exit-(\d+)-after-" + _NUMBER,
        lambda code, s: ImageScript(script=f"sleep {s}; exit {code}"),
    ),
    ("completes", lambda: ImageScript(script="echo done", listens=False)),
    (
        r"completes-after-" + _NUMBER,
        lambda s: ImageScript(script=f"echo working; sleep {s}; echo done", listens=False),
    ),
    ("never-ready", lambda: ImageScript(default_ports=(80,), listens_after=NEVER)),
    (
        r"(?:slow-start|ready-after)-" + _NUMBER,
        lambda s: ImageScript(default_ports=(80,), listens_after=float(s)),
    ),
    (
        r"unhealthy-after-" + _NUMBER,
        lambda s: ImageScript(default_ports=(80,), healthy_for=float(s)),
    ),
    ("pull-error", lambda: ImageScript(pull_failure=NOT_FOUND)),
    (
        "pull-unauthorized",
        lambda: ImageScript(
            pull_failure=PullFailure(
                CriCode.UNKNOWN,
                'failed to pull and unpack image "{image}": failed to resolve reference "{image}": '
                "pull access denied, repository does not exist or may require authorization",
            )
        ),
    ),
    (r"slow-pull-" + _NUMBER, lambda s: ImageScript(default_ports=(80,), pull_seconds=float(s))),
    (
        "start-error",
        lambda: ImageScript(
            start_error="failed to create containerd task: failed to create shim task: OCI runtime "
            'create failed: runc create failed: unable to start container process: exec: "missing": '
            "executable file not found in $PATH"
        ),
    ),
    ("ignores-sigterm", lambda: ImageScript(default_ports=(80,), stops_after=NEVER)),
    (r"slow-stop-" + _NUMBER, lambda s: ImageScript(default_ports=(80,), stops_after=float(s))),
    (
        "chatty",
        lambda: ImageScript(script="i=0; while true; do echo line $i; i=$((i+1)); sleep 1; done"),
    ),
    ("web", lambda: WEB),
)


def _special(name: str) -> ImageScript:
    for pattern, build in _SPECIAL:
        match = re.fullmatch(pattern, name)
        if match is not None:
            return build(*match.groups())
    return ImageScript(pull_failure=NOT_FOUND)


@frozen
class Catalogue:
    """Which image does what: one's own scripts first, then the names under `understudy.dev/fake/`."""

    own: Mapping[str, ImageScript] = field(factory=dict)
    """By full reference (`docker.io/library/nginx:1.27`) or by repository, which any tag then has."""

    def script(self, reference: ImageReference) -> ImageScript:
        """What the image does."""
        for name in (str(reference), reference.repository):
            if name in self.own:
                return self.own[name]
        if reference.repository.startswith(FAKE_PREFIX):
            return _special(reference.repository[len(FAKE_PREFIX) :])
        return BY_REPOSITORY.get(reference.repository, RUNS)
