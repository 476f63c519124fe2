"""Subresources that lead elsewhere: binding, log, exec and its like, proxy."""

from collections.abc import Callable
from urllib.parse import urlencode

from attrs import define

from understudy.actors import ActorStopped, AskTimeout, ChannelReader, ChannelWriter, Ref
from understudy.components.boundary import kubelet_api as kubelet
from understudy.components.boundary import podnet
from understudy.components.machinery.api import ApiResponse, Object
from understudy.components.machinery.errors import (
    ApiError,
    FieldError,
    bad_request,
    conflict,
    invalid,
    not_found,
    unavailable,
)
from understudy.components.machinery.resources import (
    ENDPOINT_SLICES,
    PODS,
    SERVICES,
)
from understudy.components.machinery.schema import schema_for

from .bodies import check_type, conformed, decode_body
from .cacher import Interest
from .context import RequestContext
from .encoding import Stored
from .eviction import SUCCESS, set_condition
from .reads import read_object, render_value, rendering_of
from .registry import Registry
from .routing import go_bool

PROXY_TIMEOUT_SECONDS = 30.0
LOG_OPEN_TIMEOUT_SECONDS = 10.0
LOG_CHUNKS = 64
"""Chunks of a log that may wait to be collected into one answer."""


@define
class Subresources:
    """The handlers of subresources that are more than another way to write the object."""

    registry: Registry
    kubelet_of: Callable[[str], Ref[kubelet.KubeletServing]]
    """The kubelet of a node, by name."""
    network: Ref[podnet.PodNetwork]

    # -- binding

    async def bind(self, context: RequestContext, name: str) -> ApiResponse:
        """POST of `pods/NAME/binding`, and of `bindings`: assign a pod to a node, once."""
        rendering = rendering_of(context)
        binding, found = decode_body(context, "Binding")
        check_type(binding, "v1", "Binding")
        binding = conformed(context, binding, found, schema_for("v1", "Binding"))
        metadata = binding.get("metadata") or {}
        name = name or metadata.get("name", "")
        target = binding.get("target") or {}
        if metadata.get("name", name) != name:
            raise bad_request("name in URL does not match name in Binding object")
        # The real server answers 500 without a reason to a binding that it finds fault with.
        if target.get("kind") not in (None, "", "Node"):
            raise ApiError(
                500,
                "",
                f'target.kind: Unsupported value: "{target["kind"]}": supported values: "Node", "<empty>"',
            )
        if not target.get("name"):
            raise ApiError(500, "", "target.name: Required value")
        dry_run = context.dry_run()

        async def change(current: Stored | None) -> Stored | None:
            if current is None:
                raise not_found("", "pods", name)
            pod = current.parse()
            self._check_bindable(pod, metadata, name)
            pod["spec"]["nodeName"] = target["name"]
            for part in ("labels", "annotations"):
                if metadata.get(part):
                    pod["metadata"].setdefault(part, {}).update(metadata[part])
            status = pod.setdefault("status", {})
            status.pop("nominatedNodeName", None)
            set_condition(
                status.setdefault("conditions", []),
                {
                    "type": "PodScheduled",
                    "status": "True",
                    "lastProbeTime": None,
                    "lastTransitionTime": context.now,
                },
            )
            return current if dry_run else await self.registry.replace(current, pod)

        await self.registry.attempt(PODS, context.namespace, name, change)
        return render_value(context, rendering, SUCCESS, 201)

    def _check_bindable(self, pod: Object, metadata: Object, name: str) -> None:
        live, node = pod["metadata"], pod["spec"].get("nodeName")
        for key in ("uid", "resourceVersion"):
            if metadata.get(key) and metadata[key] != live[key]:
                problem = f"Precondition failed: {key} in precondition: {metadata[key]}, live: {live[key]}"
                raise conflict("", "pods", name, problem)
        problem = ""
        if live.get("deletionTimestamp"):
            problem = f"pod {name} is being deleted, cannot be assigned to a host"
        elif node:
            problem = f'pod {name} is already assigned to node "{node}"'
        elif pod["spec"].get("schedulingGates"):
            problem = f"pod {name} has non-empty .spec.schedulingGates"
        if problem:
            raise conflict("", "pods/binding", name, problem)

    # -- what the node answers

    async def log(
        self,
        context: RequestContext,
        channel: Callable[[str, int], tuple[ChannelWriter[bytes], ChannelReader[bytes]]],
    ) -> ApiResponse:
        """GET of `pods/NAME/log`."""
        numbers = {name: self._number(context, name, least) for name, least in _LOG_NUMBERS.items()}
        entry = await read_object(self.registry, context)
        pod = entry.parse()
        node = pod["spec"].get("nodeName")
        container = self._container(context, pod)
        if not node:
            # Nothing has run yet, so there is nothing to read.
            return ApiResponse(204, (), b"")
        stream, reader = context.request.stream, None
        if stream is None:
            if go_bool(context.request.parameter("follow")):
                raise bad_request("following a log needs a transport that can stream")
            stream, reader = channel("log", LOG_CHUNKS)
        request = kubelet.GetContainerLogs(
            context.namespace,
            context.info.name,
            container,
            stream,
            follow=go_bool(context.request.parameter("follow")),
            tail_lines=numbers["tailLines"],
            since_seconds=numbers["sinceSeconds"],
            since_time=context.request.parameter("sinceTime") or "",
            timestamps=go_bool(context.request.parameter("timestamps")),
            previous=go_bool(context.request.parameter("previous")),
            limit_bytes=numbers["limitBytes"],
        )
        try:
            await self.kubelet_of(node).ask(request, LOG_OPEN_TIMEOUT_SECONDS)
        except kubelet.KubeletError as error:
            reason = {400: "BadRequest", 404: "NotFound"}.get(error.code, "InternalError")
            raise ApiError(error.code, reason, error.message) from error
        except (ActorStopped, AskTimeout) as error:
            raise _node_unreachable(node, error) from error
        body = b"" if reader is None else b"".join([chunk async for chunk in reader])
        return ApiResponse(200, (("content-type", "text/plain"),), body, streaming=reader is None)

    def _container(self, context: RequestContext, pod: Object) -> str:
        """The container that is meant: the named one, or the only one. Raises 400."""
        spec = pod["spec"]
        name = context.request.parameter("container") or ""
        every = [
            c["name"]
            for key in ("containers", "initContainers", "ephemeralContainers")
            for c in spec.get(key) or ()
        ]
        if not name:
            if len(spec["containers"]) == 1:
                return str(spec["containers"][0]["name"])
            annotations = pod["metadata"].get("annotations") or {}
            name = annotations.get("kubectl.kubernetes.io/default-container", "")
            if not name:
                raise bad_request(
                    f"a container name must be specified for pod {context.info.name}, choose one of: {every}"
                )
        if name not in every:
            raise bad_request(f"container {name} is not valid for pod {context.info.name}")
        return name

    def _number(self, context: RequestContext, name: str, least: int) -> int | None:
        text = context.request.parameter(name)
        if not text:
            return None
        try:
            number = int(text)
        except ValueError:
            raise bad_request(f'{name}: "{text}" is not a whole number') from None
        if number < least:
            raise invalid(
                "",
                "PodLogOptions",
                context.info.name,
                [FieldError("FieldValueInvalid", name, number, f"must be greater than or equal to {least}")],
            )
        return number

    async def session(self, context: RequestContext) -> ApiResponse:
        """exec, attach and port-forward."""
        entry = await read_object(self.registry, context)
        pod = entry.parse()
        if context.info.subresource != "portforward":
            self._container(context, pod)
        if not pod["spec"].get("nodeName"):
            raise bad_request(f"pod {context.info.name} does not have a host assigned")
        raise ApiError(
            501,
            "NotImplemented",
            f"{context.info.subresource} is not served by this version of Understudy yet: read the"
            " container's log, or send requests through the proxy subresource",
        )

    # -- proxy

    async def proxy(self, context: RequestContext) -> ApiResponse:
        """Any request to services/NAME:PORT/proxy or pods/NAME:PORT/proxy."""
        name, port, tls = _proxy_target(context.info.name)
        if context.resource == SERVICES:
            ip, number = await self._service_endpoint(context, name, port)
        elif context.resource == PODS:
            ip, number = await self._pod_address(context, name, port)
        else:
            raise ApiError(
                501, "NotImplemented", "nodes are not proxied to by this version of Understudy yet"
            )
        request = context.request
        path = "/" + context.info.rest
        query = urlencode(request.query)
        passed = tuple((k, v) for k, v in request.headers if k not in _HOP_BY_HOP)
        exchange = podnet.HttpExchange(
            ip,
            number,
            request.method,
            f"{path}?{query}" if query else path,
            (*passed, ("host", f"{ip}:{number}")),
            request.body,
            tls=tls,
        )
        try:
            answer = await self.network.ask(exchange, PROXY_TIMEOUT_SECONDS)
        except podnet.ConnectionRefused as error:
            raise unavailable(f"error trying to reach service: {error}") from error
        except (AskTimeout, ActorStopped) as error:
            raise unavailable(f"error trying to reach service: no answer from {ip}:{number}") from error
        kept = tuple((k, v) for k, v in answer.headers if k not in _HOP_BY_HOP)
        return ApiResponse(answer.status, kept, answer.body)

    async def _service_endpoint(self, context: RequestContext, name: str, port: str) -> tuple[str, int]:
        """A ready endpoint of a Service."""
        await self.registry.fresh()
        service = self.registry.cache(SERVICES).get(context.namespace, name)
        if service is None:
            raise not_found("", "services", name)
        ports = service.parse()["spec"].get("ports") or []
        wanted = [p for p in ports if not port or port in (p.get("name", ""), str(p["port"]))]
        if not wanted:
            raise unavailable(f'no endpoints available for service "{name}": it has no port "{port}"')
        port_name = wanted[0].get("name", "")
        found: list[tuple[str, int]] = []
        for entry in self.registry.cache(ENDPOINT_SLICES).list(Interest(context.namespace)):
            if entry.labels.get("kubernetes.io/service-name") != name:
                continue
            piece = entry.parse()
            for slice_port in piece.get("ports") or ():
                if (slice_port.get("name") or "") == port_name:
                    found += [
                        (endpoint["addresses"][0], slice_port["port"])
                        for endpoint in piece.get("endpoints") or ()
                        if (endpoint.get("conditions") or {}).get("ready", True)
                    ]
        if not found:
            raise unavailable(f'no endpoints available for service "{name}"')
        return found[self.registry.world.rng("service proxy").randrange(len(found))]

    async def _pod_address(self, context: RequestContext, name: str, port: str) -> tuple[str, int]:
        await self.registry.fresh()
        entry = self.registry.cache(PODS).get(context.namespace, name)
        if entry is None:
            raise not_found("", "pods", name)
        pod = entry.parse()
        ip = (pod.get("status") or {}).get("podIP")
        if not ip:
            raise bad_request("address not allowed")
        ports = [p for c in pod["spec"]["containers"] for p in c.get("ports") or ()]
        if not port:
            return ip, ports[0]["containerPort"] if ports else 80
        if port.isdigit():
            return ip, int(port)
        for named in ports:
            if named.get("name") == port:
                return ip, named["containerPort"]
        raise bad_request(f'pod {name} has no port "{port}"')


_LOG_NUMBERS = {"tailLines": 0, "sinceSeconds": 1, "limitBytes": 1}
"""Parameters of a log that are numbers, and the least that each may be."""

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "host",
        "content-length",
        "authorization",
    }
)


def _proxy_target(text: str) -> tuple[str, str, bool]:
    """Name, port and whether to speak TLS, out of `name`, `name:port` or `scheme:name:port`."""
    parts = text.split(":")
    if len(parts) == 1:
        return parts[0], "", False
    if len(parts) == 2:
        return parts[0], parts[1], False
    if len(parts) == 3 and parts[0] in ("http", "https", ""):
        return parts[1], parts[2], parts[0] == "https"
    raise bad_request(f'invalid proxy target "{text}": write name, name:port or scheme:name:port')


def _node_unreachable(node: str, error: Exception) -> ApiError:
    return ApiError(
        500,
        "InternalError",
        f"Internal error occurred: the kubelet of node {node} cannot be reached: {error!r}",
    )
