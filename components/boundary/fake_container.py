"""One fake container: what it runs, whether it listens, and its record in the runtime's lists."""

import json
from collections.abc import Callable, Sequence

from attrs import define, field

from understudy.actors import Event

from .cri import (
    Container,
    ContainerConfig,
    ContainerState,
    ContainerStatus,
    ImageSpec,
    PodSandboxConfig,
)
from .fake_effects import Effects, Sleep
from .fake_images import ImageScript
from .fake_logs import ContainerLog
from .fake_shell import FOREVER, Shell, known

PORTS_ANNOTATION = "io.kubernetes.container.ports"
"""Where the kubelet writes the ports that a container declares, as JSON."""

SIGTERM_EXIT_CODE = 143
SIGKILL_EXIT_CODE = 137


@define(eq=False)
class FakeContainer:
    """State of one container; the runtime actor alone changes it."""

    id: str
    pod_sandbox_id: str
    config: ContainerConfig
    sandbox_config: PodSandboxConfig
    image_ref: str
    image_name: str
    """The full reference: `docker.io/library/nginx:latest`."""
    repository: str
    script: ImageScript
    created_at: int
    exited: Event
    state: ContainerState = ContainerState.CREATED
    started_at: int = 0
    finished_at: int = 0
    started_monotonic: float = 0.0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    log: ContainerLog = field(factory=ContainerLog)
    files: dict[str, bytes] = field(factory=dict)
    shell: Shell | None = None
    """The shell that runs its command, if one does."""
    cancel: Callable[[], None] | None = None
    """Ends the task that runs its command."""
    ports: tuple[int, ...] = ()

    def __attrs_post_init__(self) -> None:
        self.ports = _ports(self.config, self.script)

    def new_shell(self, now_text: Callable[[], str], image_program: Callable[..., Effects] | None) -> Shell:
        """A shell in the container; `image_program` runs what the shell does not know."""
        hostname = self.sandbox_config.hostname
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME": hostname}
        return Shell(env | dict(self.config.envs), self.files, hostname, now_text, image_program)

    def program(self, now_text: Callable[[], str]) -> Effects:
        """What its command does. Also sets `shell` when it is the pod's own command."""
        argv = (*self.config.command, *self.config.args) if self.config.command else self.config.args
        if argv and (self.script.has_shell or known(argv[0])):
            self.shell = self.new_shell(now_text, None if self.script.has_shell else self._own_program)
            return self.shell.run(argv)
        return self._own_program(argv)

    def _own_program(self, _: Sequence[str]) -> Effects:
        if not self.script.script:
            yield Sleep(FOREVER)
            return 0
        shell = self.new_shell(lambda: "", None)
        return (yield from shell.run(("sh", "-c", self.script.script)))

    def probe_program(self, healthy: bool) -> Callable[[Sequence[str]], Effects] | None:
        """What an exec of the image's own commands does: it tells whether the program is healthy."""
        if self.script.has_shell:
            return None

        def tell(_: Sequence[str]) -> Effects:
            yield from ()
            return 0 if healthy else 1

        return tell

    def listening(self, monotonic: float) -> bool:
        """Whether its ports are open."""
        age = monotonic - self.started_monotonic
        running = self.state is ContainerState.RUNNING
        return running and self.script.listens and age >= self.script.listens_after

    def healthy(self, monotonic: float) -> bool:
        """Whether it runs, has come up and has not turned ill."""
        age = monotonic - self.started_monotonic
        return (
            self.state is ContainerState.RUNNING
            and self.script.listens_after <= age < self.script.healthy_for
        )

    def listed(self) -> Container:
        """Its record in lists."""
        return Container(
            self.id,
            self.pod_sandbox_id,
            self.config.metadata,
            self.config.image,
            self.image_ref,
            self.state,
            self.created_at,
            self.config.labels,
            self.config.annotations,
        )

    def status(self) -> ContainerStatus:
        """Its full status."""
        return ContainerStatus(
            self.id,
            self.pod_sandbox_id,
            self.config.metadata,
            self.state,
            self.created_at,
            self.started_at,
            self.finished_at,
            self.exit_code,
            ImageSpec(self.image_name),
            self.image_ref,
            self.reason,
            self.message,
            self.config.labels,
            self.config.annotations,
            f"{self.sandbox_config.log_directory}/{self.config.log_path}",
            self.config.resources,
        )


def _ports(config: ContainerConfig, script: ImageScript) -> tuple[int, ...]:
    """The TCP ports that the program opens: from its arguments, as declared, or the image's own."""
    for argument in config.args:
        name, equals, value = argument.partition("=")
        if equals and name in ("--http-port", "--port") and value.isdigit():
            return (int(value),)
    declared = json.loads(config.annotations.get(PORTS_ANNOTATION, "[]"))
    ports = tuple(
        int(port["containerPort"]) for port in declared if port.get("protocol", "TCP").upper() == "TCP"
    )
    return ports or script.default_ports
