"""The Pod Security Standards as checks of a pod: what each level forbids, and in which field it was found.

Source: Kubernetes documentation, "Pod Security Standards" (latest version).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from understudy.components.machinery.api import Object

Level = Literal["privileged", "baseline", "restricted"]
LEVELS: tuple[Level, ...] = ("privileged", "baseline", "restricted")
Check = Callable[[Object, Object], tuple[str, str] | None]
"""(pod metadata, pod spec) -> what is forbidden and where it was found, or None."""

_BASELINE_CAPABILITIES = frozenset(
    (
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    )
)
_SELINUX_TYPES = frozenset(("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"))
_SYSCTLS = frozenset(
    (
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    )
)
_RESTRICTED_VOLUMES = frozenset(
    (
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    )
)
_APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"


def violations(level: Level, metadata: Object, spec: Object) -> list[tuple[str, str]]:
    """What the level forbids in this pod: (what, where) in the order of the standard's checks."""
    if level == "privileged":
        return []
    checks = [*_BASELINE.values()] if level == "baseline" else [*_restricted().values()]
    return [found for check in checks if (found := check(metadata, spec)) is not None]


def explain(found: Sequence[tuple[str, str]]) -> str:
    """The violations as one text."""
    return ", ".join(f"{what} ({where})" if where else what for what, where in found)


def containers(spec: Object) -> Iterator[Object]:
    """All containers of a pod."""
    for group in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(group) or ()


def _context(holder: Object) -> Object:
    return holder.get("securityContext") or {}


def _named(names: Sequence[str], one: str = "container") -> str:
    quoted = ", ".join(f'"{name}"' for name in names)
    return f"{one} {quoted}" if len(names) == 1 else f"{one}s {quoted}"


def _bad_containers(spec: Object, is_bad: Callable[[Object], bool]) -> list[str]:
    return [container["name"] for container in containers(spec) if is_bad(container)]


# -- baseline


def _host_namespaces(metadata: Object, spec: Object) -> tuple[str, str] | None:
    found = [name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    return ("host namespaces", ", ".join(f"{name}=true" for name in found)) if found else None


def _privileged(metadata: Object, spec: Object) -> tuple[str, str] | None:
    found = _bad_containers(spec, lambda c: bool(_context(c).get("privileged")))
    if not found:
        return None
    return "privileged", f"{_named(found)} must not set securityContext.privileged=true"


def _added(container: Object) -> list[str]:
    return list((_context(container).get("capabilities") or {}).get("add") or ())


def _capabilities(metadata: Object, spec: Object) -> tuple[str, str] | None:
    found = _bad_containers(spec, lambda c: any(name not in _BASELINE_CAPABILITIES for name in _added(c)))
    if not found:
        return None
    names = sorted(
        {name for c in containers(spec) for name in _added(c) if name not in _BASELINE_CAPABILITIES}
    )
    shown = ", ".join(f'"{name}"' for name in names)
    return (
        "non-default capabilities",
        f"{_named(found)} must not include {shown} in securityContext.capabilities.add",
    )


def _host_paths(metadata: Object, spec: Object) -> tuple[str, str] | None:
    found = [volume["name"] for volume in spec.get("volumes") or () if volume.get("hostPath") is not None]
    return ("hostPath volumes", _named(found, "volume")) if found else None


def _host_ports(metadata: Object, spec: Object) -> tuple[str, str] | None:
    names, numbers = [], []
    for container in containers(spec):
        own = [port["hostPort"] for port in container.get("ports") or () if port.get("hostPort")]
        if own:
            names.append(container["name"])
            numbers += [str(number) for number in own]
    if not names:
        return None
    word = "uses" if len(names) == 1 else "use"
    title = "hostPort" if len(numbers) == 1 else "hostPorts"
    return "hostPort", f"{_named(names)} {word} {title} {', '.join(sorted(set(numbers)))}"


def _host_probes(metadata: Object, spec: Object) -> tuple[str, str] | None:
    def has_host(container: Object) -> bool:
        handlers: list[Any] = [
            container.get(name) for name in ("livenessProbe", "readinessProbe", "startupProbe")
        ]
        lifecycle = container.get("lifecycle") or {}
        handlers += [lifecycle.get("postStart"), lifecycle.get("preStop")]
        for handler in handlers:
            for kind in ("httpGet", "tcpSocket"):
                if ((handler or {}).get(kind) or {}).get("host"):
                    return True
        return False

    found = _bad_containers(spec, has_host)
    return ("probe or lifecycle host", f"{_named(found)} must not set a host") if found else None


def _app_armor(metadata: Object, spec: Object) -> tuple[str, str] | None:
    found = []
    if (_context(spec).get("appArmorProfile") or {}).get("type") == "Unconfined":
        found.append('pod must not set AppArmor profile type to "Unconfined"')
    bad = _bad_containers(
        spec, lambda c: (_context(c).get("appArmorProfile") or {}).get("type") == "Unconfined"
    )
    if bad:
        found.append(f'{_named(bad)} must not set AppArmor profile type to "Unconfined"')
    for key, value in sorted((metadata.get("annotations") or {}).items()):
        if key.startswith(_APPARMOR_ANNOTATION) and not (
            value in ("", "runtime/default") or value.startswith("localhost/")
        ):
            found.append(f'annotation "{key}" must not be "{value}"')
    return (
        ("forbidden AppArmor profile" + ("s" if len(found) > 1 else ""), "; ".join(found)) if found else None
    )


def _selinux(metadata: Object, spec: Object) -> tuple[str, str] | None:
    found = []
    holders = [("pod", _context(spec))]
    holders += [(_named([c["name"]]), _context(c)) for c in containers(spec)]
    for who, context in holders:
        options = context.get("seLinuxOptions") or {}
        if options.get("type", "") not in _SELINUX_TYPES:
            found.append(f'type "{options["type"]}" for {who}')
        found += [f"{name} may not be set for {who}" for name in ("user", "role") if options.get(name)]
    return ("seLinuxOptions", "; ".join(found)) if found else None


def _proc_mount(metadata: Object, spec: Object) -> tuple[str, str] | None:
    if spec.get("hostUsers") is False:
        return None
    found = _bad_containers(spec, lambda c: _context(c).get("procMount", "Default") != "Default")
    return ("procMount", f"{_named(found)} must not set securityContext.procMount") if found else None


def _seccomp_type(holder: Object) -> str | None:
    profile = _context(holder).get("seccompProfile")
    return None if profile is None else profile.get("type", "")


def _seccomp(metadata: Object, spec: Object) -> tuple[str, str] | None:
    found = []
    if _seccomp_type(spec) == "Unconfined":
        found.append('pod must not set securityContext.seccompProfile.type to "Unconfined"')
    bad = _bad_containers(spec, lambda c: _seccomp_type(c) == "Unconfined")
    if bad:
        found.append(f'{_named(bad)} must not set securityContext.seccompProfile.type to "Unconfined"')
    return ("seccompProfile", "; ".join(found)) if found else None


def _sysctls(metadata: Object, spec: Object) -> tuple[str, str] | None:
    found = [s["name"] for s in _context(spec).get("sysctls") or () if s["name"] not in _SYSCTLS]
    return ("forbidden sysctls", ", ".join(found)) if found else None


def _windows_host_process(metadata: Object, spec: Object) -> tuple[str, str] | None:
    def is_host(holder: Object) -> bool:
        return bool((_context(holder).get("windowsOptions") or {}).get("hostProcess"))

    found = _bad_containers(spec, is_host)
    where = ([_named(found)] if found else []) + (["pod"] if is_host(spec) else [])
    if not where:
        return None
    return (
        "hostProcess",
        f"{' and '.join(where)} must not set securityContext.windowsOptions.hostProcess=true",
    )


# -- restricted


def _is_windows(spec: Object) -> bool:
    return (spec.get("os") or {}).get("name") == "windows"


def _escalation(metadata: Object, spec: Object) -> tuple[str, str] | None:
    if _is_windows(spec):
        return None
    found = _bad_containers(spec, lambda c: _context(c).get("allowPrivilegeEscalation") is not False)
    if not found:
        return None
    return (
        "allowPrivilegeEscalation != false",
        f"{_named(found)} must set securityContext.allowPrivilegeEscalation=false",
    )


def _capabilities_dropped(metadata: Object, spec: Object) -> tuple[str, str] | None:
    if _is_windows(spec):
        return None
    keeping = _bad_containers(
        spec, lambda c: "ALL" not in ((_context(c).get("capabilities") or {}).get("drop") or ())
    )
    adding = _bad_containers(spec, lambda c: any(name != "NET_BIND_SERVICE" for name in _added(c)))
    found = []
    if keeping:
        found.append(f'{_named(keeping)} must set securityContext.capabilities.drop=["ALL"]')
    if adding:
        names = sorted({name for c in containers(spec) for name in _added(c) if name != "NET_BIND_SERVICE"})
        shown = ", ".join(f'"{name}"' for name in names)
        found.append(f"{_named(adding)} must not include {shown} in securityContext.capabilities.add")
    return ("unrestricted capabilities", "; ".join(found)) if found else None


def _non_root(metadata: Object, spec: Object) -> tuple[str, str] | None:
    if spec.get("hostUsers") is False:
        return None
    whole = _context(spec).get("runAsNonRoot")
    explicit = _bad_containers(spec, lambda c: _context(c).get("runAsNonRoot") is False)
    implicit = _bad_containers(spec, lambda c: _context(c).get("runAsNonRoot") is None)
    explicit_text = ["pod must not set securityContext.runAsNonRoot=false"] if whole is False else []
    if explicit:
        explicit_text.append(f"{_named(explicit)} must not set securityContext.runAsNonRoot=false")
    if explicit_text:
        return "runAsNonRoot != true", "; ".join(explicit_text)
    if implicit and whole is not True:
        return (
            "runAsNonRoot != true",
            f"pod or {_named(implicit)} must set securityContext.runAsNonRoot=true",
        )
    return None


def _root_user(metadata: Object, spec: Object) -> tuple[str, str] | None:
    if spec.get("hostUsers") is False:
        return None
    found = ["pod must not set runAsUser=0"] if _context(spec).get("runAsUser") == 0 else []
    bad = _bad_containers(spec, lambda c: _context(c).get("runAsUser") == 0)
    if bad:
        found.append(f"{_named(bad)} must not set runAsUser=0")
    return ("runAsUser=0", "; ".join(found)) if found else None


def _seccomp_set(metadata: Object, spec: Object) -> tuple[str, str] | None:
    if _is_windows(spec):
        return None
    allowed = ("RuntimeDefault", "Localhost")
    unconfined = _seccomp(metadata, spec)
    if unconfined is not None:
        return unconfined
    if _seccomp_type(spec) in allowed:
        return None
    found = _bad_containers(spec, lambda c: _seccomp_type(c) not in allowed)
    if not found:
        return None
    return (
        "seccompProfile",
        f"pod or {_named(found)} must set securityContext.seccompProfile.type to"
        ' "RuntimeDefault" or "Localhost"',
    )


def _volume_kinds(metadata: Object, spec: Object) -> tuple[str, str] | None:
    found: list[str] = []
    kinds: list[str] = []
    for volume in spec.get("volumes") or ():
        other = [key for key in volume if key != "name" and key not in _RESTRICTED_VOLUMES]
        if other:
            found.append(volume["name"])
            kinds += other
    if not found:
        return None
    word = "uses" if len(found) == 1 else "use"
    shown = ", ".join(f'"{kind}"' for kind in sorted(set(kinds)))
    title = "type" if len(set(kinds)) == 1 else "types"
    return "restricted volume types", f"{_named(found, 'volume')} {word} restricted volume {title} {shown}"


_BASELINE: dict[str, Check] = {
    "appArmorProfile": _app_armor,
    "capabilities": _capabilities,
    "hostNamespaces": _host_namespaces,
    "hostPathVolumes": _host_paths,
    "hostPorts": _host_ports,
    "hostProbesAndHostLifecycle": _host_probes,
    "privileged": _privileged,
    "procMount": _proc_mount,
    "seLinuxOptions": _selinux,
    "seccompProfile": _seccomp,
    "sysctls": _sysctls,
    "windowsHostProcess": _windows_host_process,
}


def _restricted() -> dict[str, Check]:
    """The checks of the restricted level: stricter ones take the place of the baseline's."""
    checks = dict(_BASELINE)
    for replaced in ("capabilities", "hostPathVolumes", "seccompProfile"):
        del checks[replaced]
    return {
        **checks,
        "allowPrivilegeEscalation": _escalation,
        "capabilities": _capabilities_dropped,
        "restrictedVolumes": _volume_kinds,
        "runAsNonRoot": _non_root,
        "runAsUser": _root_user,
        "seccompProfile": _seccomp_set,
    }
