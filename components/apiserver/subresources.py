"""Subresources that are more than another way to write the object: scale, binding, eviction, log, proxy."""

from collections.abc import Callable
from typing import Any
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
    method_not_allowed,
    not_found,
    too_many_requests,
    unavailable,
)
from understudy.components.machinery.resources import (
    ENDPOINT_SLICES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    SERVICES,
)
from understudy.components.machinery.schema import schema_for
from understudy.components.machinery.selectors import label_selector_from_object
from understudy.components.machinery.tables import SCALE_PRINTER, print_table

from .bodies import check_type, conformed, decode_body, media_type
from .cacher import Interest
from .context import RequestContext
from .deletes import DeleteOptions, Deletes
from .encoding import Stored
from .reads import headers, now_of, read_object, render_value, rendering_of
from .registry import Registry
from .routing import go_bool
from .writes import Writes

SCALE = "autoscaling/v1"
PROXY_TIMEOUT_SECONDS = 30.0
LOG_OPEN_TIMEOUT_SECONDS = 10.0
LOG_CHUNKS = 64
"""Chunks of a log that may wait to be collected into one answer."""

SUCCESS: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


@define
class Subresources:
    """The handlers of subresources that are more than another way to write the object."""

    registry: Registry
    writes: Writes
    deletes: Deletes
    kubelet_of: Callable[[str], Ref[kubelet.KubeletServing]]
    """The kubelet of a node, by name."""
    network: Ref[podnet.PodNetwork]

    # -- scale

    async def scale(self, context: RequestContext) -> ApiResponse:
        """GET, PUT and PATCH of `scale`."""
        rendering = rendering_of(context)
        verb = context.info.verb
        if verb == "get":
            entry = await read_object(self.registry, context)
        else:
            manager, dry_run = context.field_manager(), context.dry_run()
            change = self._scaled_by_patch(context) if verb == "patch" else self._scaled_by_put(context)

            def scaled(obj: Object) -> Object:
                scale = change(scale_of(obj))
                replicas = (scale.get("spec") or {}).get("replicas", 0)
                if not isinstance(replicas, int) or replicas < 0:
                    raise invalid(
                        "autoscaling",
                        "Scale",
                        context.info.name,
                        [
                            FieldError(
                                "FieldValueInvalid",
                                "spec.replicas",
                                replicas,
                                "must be greater than or equal to 0",
                            )
                        ],
                    )
                version = (scale.get("metadata") or {}).get("resourceVersion")
                if version:
                    obj["metadata"]["resourceVersion"] = version
                obj["spec"]["replicas"] = replicas
                return obj

            entry = await self.writes.modify(context, scaled, manager, dry_run)
        scale = scale_of(entry.parse())
        if rendering.shape == "table":
            value = print_table(
                SCALE_PRINTER, [scale], now_of(context), api_version=rendering.shape_api_version
            )
            return ApiResponse(200, headers(context, rendering), rendering.encode(value))
        return render_value(context, rendering, scale)

    def _scaled_by_put(self, context: RequestContext) -> Callable[[Object], Object]:
        scale, found = decode_body(context, "Scale")
        check_type(scale, SCALE, "Scale")
        scale = conformed(context, scale, found, schema_for(SCALE, "Scale"))
        if scale.get("metadata", {}).get("name") != context.info.name:
            raise bad_request("the name of the object does not match the name on the URL")
        return lambda live: scale

    def _scaled_by_patch(self, context: RequestContext) -> Callable[[Object], Object]:
        media = media_type(context)
        if media == "application/apply-patch+yaml":
            raise method_not_allowed("scale takes JSON, merge and strategic merge patches")
        patch = self.writes.patcher(context, media, schema_for(SCALE, "Scale"))

        def change(live: Object) -> Object:
            new, duplicates = patch(live)
            return conformed(context, new, duplicates, schema_for(SCALE, "Scale"))

        return change

    # -- binding and eviction

    async def bind(self, context: RequestContext, name: str) -> ApiResponse:
        """POST of `pods/NAME/binding`, and of `bindings`: assign a pod to a node, once."""
        rendering = rendering_of(context)
        binding, found = decode_body(context, "Binding")
        check_type(binding, "v1", "Binding")
        binding = conformed(context, binding, found, schema_for("v1", "Binding"))
        metadata = binding.get("metadata") or {}
        name = name or metadata.get("name", "")
        target = binding.get("target") or {}
        if target.get("kind") not in (None, "", "Node"):
            raise invalid(
                "",
                "Binding",
                name,
                [
                    FieldError(
                        "FieldValueNotSupported",
                        "target.kind",
                        target["kind"],
                        'supported values: "Node", "<empty>"',
                    )
                ],
            )
        if not target.get("name"):
            raise invalid("", "Binding", name, [FieldError("FieldValueRequired", "target.name", "", "")])
        dry_run = context.dry_run()

        async def change(current: Stored | None) -> Stored | None:
            if current is None:
                raise not_found("", "pods", name)
            pod = current.parse()
            self._check_bindable(pod, metadata, name)
            pod["spec"]["nodeName"] = target["name"]
            pod["metadata"].setdefault("annotations", {}).update(metadata.get("annotations") or {})
            if not pod["metadata"]["annotations"]:
                del pod["metadata"]["annotations"]
            _set_condition(pod, context.now)
            return current if dry_run else await self.registry.replace(current, pod)

        await self.registry.attempt(PODS, context.namespace, name, change)
        return render_value(context, rendering, SUCCESS, 201)

    def _check_bindable(self, pod: Object, metadata: Object, name: str) -> None:
        live, node = pod["metadata"], pod["spec"].get("nodeName")
        problem = ""
        if metadata.get("uid") and metadata["uid"] != live["uid"]:
            problem = f"Precondition failed: UID in precondition: {metadata['uid']}, live: {live['uid']}"
        elif live.get("deletionTimestamp"):
            problem = f"pod {name} is being deleted, cannot be assigned to a host"
        elif node:
            problem = f'pod {name} is already assigned to node "{node}"'
        elif pod["spec"].get("schedulingGates"):
            problem = f"pod {name} has non-empty .spec.schedulingGates"
        if problem:
            raise conflict("", "pods/binding", name, problem)

    async def evict(self, context: RequestContext) -> ApiResponse:
        """POST of `pods/NAME/eviction`: delete a pod unless a disruption budget forbids it."""
        rendering = rendering_of(context)
        eviction, found = decode_body(context, "Eviction")
        check_type(eviction, "policy/v1", "Eviction")
        eviction = conformed(context, eviction, found, schema_for("policy/v1", "Eviction"))
        if (eviction.get("metadata") or {}).get("name", context.info.name) != context.info.name:
            raise bad_request("the name of the eviction does not match the name on the URL")
        entry = await read_object(self.registry, context)
        self._check_budgets(context, entry)
        options = eviction.get("deleteOptions") or {}
        preconditions = options.get("preconditions") or {}
        await self.deletes.delete_object(
            context,
            context.namespace,
            context.info.name,
            DeleteOptions(
                options.get("gracePeriodSeconds"),
                options.get("propagationPolicy"),
                None,
                preconditions.get("uid"),
                preconditions.get("resourceVersion"),
                context.dry_run(options.get("dryRun")),
            ),
        )
        return render_value(context, rendering, SUCCESS, 201)

    def _check_budgets(self, context: RequestContext, entry: Stored) -> None:
        if entry.fields.get("status.phase") in ("Succeeded", "Failed", "Pending"):
            return
        budgets = self.registry.cache(POD_DISRUPTION_BUDGETS).list(Interest(context.namespace))
        for stored_budget in budgets:
            budget = stored_budget.parse()
            if not label_selector_from_object(budget["spec"].get("selector")).matches(entry.labels):
                continue
            status = budget.get("status") or {}
            if status.get("disruptionsAllowed", 0) <= 0:
                raise too_many_requests(
                    "Cannot evict pod as it would violate the pod's disruption budget.", 10
                )

    # -- what the node answers

    async def log(
        self,
        context: RequestContext,
        channel: Callable[[str, int], tuple[ChannelWriter[bytes], ChannelReader[bytes]]],
    ) -> ApiResponse:
        """GET of `pods/NAME/log`."""
        entry = await read_object(self.registry, context)
        pod = entry.parse()
        node = pod["spec"].get("nodeName")
        container = self._container(context, pod)
        if not node:
            # Nothing has run yet, so there is nothing to read: the real server answers an empty log.
            return ApiResponse(200, (("content-type", "text/plain"),), b"")
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
            tail_lines=self._number(context, "tailLines"),
            since_seconds=self._number(context, "sinceSeconds", least=1),
            since_time=context.request.parameter("sinceTime") or "",
            timestamps=go_bool(context.request.parameter("timestamps")),
            previous=go_bool(context.request.parameter("previous")),
            limit_bytes=self._number(context, "limitBytes", least=1),
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

    def _number(self, context: RequestContext, name: str, least: int = 0) -> int | None:
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
            raise bad_request(f"pod {name} has no IP yet")
        ports = [p for c in pod["spec"]["containers"] for p in c.get("ports") or ()]
        if not port:
            return ip, ports[0]["containerPort"] if ports else 80
        if port.isdigit():
            return ip, int(port)
        for named in ports:
            if named.get("name") == port:
                return ip, named["containerPort"]
        raise bad_request(f'pod {name} has no port "{port}"')


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


def scale_of(obj: Object) -> Object:
    """The Scale of a scalable object."""
    metadata, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    selector: Any = spec.get("selector")
    if obj["kind"] == "ReplicationController":
        text = ",".join(f"{k}={v}" for k, v in sorted((selector or {}).items()))
    else:
        text = str(label_selector_from_object(selector))
    shown: Object = {"replicas": status.get("replicas", 0)}
    if text:
        shown["selector"] = text
    return {
        "kind": "Scale",
        "apiVersion": SCALE,
        "metadata": {key: metadata[key] for key in kept if key in metadata},
        "spec": {"replicas": spec["replicas"]} if spec.get("replicas") else {},
        "status": shown,
    }


def _set_condition(pod: Object, now: str) -> None:
    """PodScheduled is true once the pod has a node."""
    conditions = pod.setdefault("status", {}).setdefault("conditions", [])
    for condition in conditions:
        if condition["type"] == "PodScheduled":
            if condition["status"] != "True":
                condition.clear()
                condition.update(
                    {
                        "type": "PodScheduled",
                        "status": "True",
                        "lastProbeTime": None,
                        "lastTransitionTime": now,
                        "observedGeneration": pod["metadata"].get("generation", 1),
                    }
                )
            return
    conditions.append(
        {
            "type": "PodScheduled",
            "status": "True",
            "lastProbeTime": None,
            "lastTransitionTime": now,
            "observedGeneration": pod["metadata"].get("generation", 1),
        }
    )
