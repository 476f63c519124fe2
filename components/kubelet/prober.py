"""Performing one probe or one lifecycle hook: what is asked of a container, and how the answer is read."""

from typing import Any

from understudy.components.boundary import cri, podnet
from understudy.mailbox import Refusal

from .node_context import NodeContext
from .runtime_state import Object

USER_AGENT = "kube-probe/1.36"
_BODY_MAX = 10 * 1024


async def probe(
    context: NodeContext, spec: Object, container: Object, container_id: str, pod_ip: str, timeout: float
) -> tuple[bool, str]:
    """(whether it passed, what to say if not)"""
    if spec.get("exec"):
        return await _exec(context, spec["exec"].get("command") or [], container_id, timeout)
    if spec.get("httpGet"):
        return await _http(context, spec["httpGet"], container, pod_ip, timeout, USER_AGENT)
    if spec.get("tcpSocket"):
        action = spec["tcpSocket"]
        ip = action.get("host") or pod_ip
        port = resolve_port(action.get("port"), container)
        request = podnet.TcpConnect(ip, port, context.host_ips[0])
        try:
            await context.network.ask(request, timeout)
        except podnet.ConnectionRefused as error:
            return False, str(error)
        except Refusal:
            return False, f"dial tcp {ip}:{port}: i/o timeout"
        return True, ""
    if spec.get("grpc"):
        return await _grpc(context, spec["grpc"], pod_ip, timeout)
    return False, "missing probe handler"


async def _exec(
    context: NodeContext, command: list[str], container_id: str, timeout: float
) -> tuple[bool, str]:
    request = cri.ExecSync(container_id, tuple(command), timeout)
    try:
        reply = await context.runtime.ask(request, timeout + 5.0)
    except cri.CriError as error:
        if error.code == cri.CriCode.DEADLINE_EXCEEDED:
            return False, f'command timed out: "{" ".join(command)}" timed out after {timeout:g}s'
        return False, f"rpc error: {error}"
    except Refusal as error:
        return False, str(error) or type(error).__name__
    output = (reply.stdout + reply.stderr)[:_BODY_MAX].decode("utf-8", "replace")
    return reply.exit_code == 0, output


async def _http(
    context: NodeContext, action: Object, container: Object, pod_ip: str, timeout: float, agent: str
) -> tuple[bool, str]:
    ip = action.get("host") or pod_ip
    port = resolve_port(action.get("port"), container)
    scheme = str(action.get("scheme") or "HTTP").lower()
    path = action.get("path") or "/"
    if not path.startswith("/"):
        path = f"/{path}"
    url = f"{scheme}://{ip}:{port}{path}"
    headers = {"user-agent": agent, "accept": "*/*", "host": f"{ip}:{port}"}
    headers |= {h["name"].lower(): h["value"] for h in action.get("httpHeaders") or ()}
    exchange = podnet.HttpExchange(
        ip, port, "GET", path, tuple(headers.items()), b"", context.host_ips[0], scheme == "https"
    )
    try:
        answer = await context.network.ask(exchange, timeout)
    except podnet.ConnectionRefused as error:
        return False, f'Get "{url}": {error}'
    except Refusal:
        why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        return False, f'Get "{url}": {why}'
    if 200 <= answer.status < 400:
        return True, ""
    return False, f"HTTP probe failed with statuscode: {answer.status}"


async def _grpc(context: NodeContext, action: Object, pod_ip: str, timeout: float) -> tuple[bool, str]:
    port = int(action["port"])
    check = podnet.GrpcHealthCheck(pod_ip, port, action.get("service") or "", context.host_ips[0])
    try:
        answer = await context.network.ask(check, timeout)
    except Refusal:
        where = f"{pod_ip}:{port}"
        why = "context deadline exceeded"
        return False, f'timeout: failed to connect service "{where}" within {timeout:g}s: {why}'
    if answer.status == "SERVING":
        return True, ""
    return False, f'service unhealthy (responded with "{answer.status}")'


async def run_hook(
    context: NodeContext, hook: Object, container: Object, container_id: str, pod_ip: str, timeout: float
) -> str | None:
    """Run a postStart or preStop hook to its end; what went wrong, or None."""
    if hook.get("sleep"):
        await context.world.sleep(min(float(hook["sleep"]["seconds"]), timeout), "lifecycle sleep")
        return None
    if hook.get("exec"):
        command = hook["exec"].get("command") or []
        passed, text = await _exec(context, command, container_id, timeout)
        if passed:
            return None
        shown = " ".join(command)
        return f'Exec lifecycle hook ([{shown}]) for Container "{container["name"]}" failed: {text}'
    if hook.get("httpGet"):
        passed, text = await _http(
            context, hook["httpGet"], container, pod_ip, timeout, "kube-lifecycle/1.36"
        )
        return None if passed else f'HTTP lifecycle hook for Container "{container["name"]}" failed: {text}'
    return f"invalid handler: {hook}"


def resolve_port(port: Any, container: Object) -> int:
    """A port by its number, or by its name among the container's ports; 0 when there is none of the name."""
    if isinstance(port, int):
        return port
    for declared in container.get("ports") or ():
        if declared.get("name") == port:
            return int(declared["containerPort"])
    text = str(port)
    return int(text) if text.isdigit() else 0
