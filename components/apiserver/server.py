"""The API server actor: one request in, one answer out, through authentication, authorization and admission.

Every request is handled in a task of its own, so that a slow one never holds up others. The state is the
registry's caches and the allocators; both are rebuilt from the store at start.
"""

import logging
from collections.abc import Callable, Iterable
from functools import cache
from typing import Protocol

import orjson
from attrs import field, frozen

from understudy.actors import Actor, DeadlineExceeded, Ref, handles
from understudy.components.boundary import kubelet_api as kubelet
from understudy.components.boundary import podnet
from understudy.components.machinery.api import BODY_BYTES_MAX, ApiRequest, ApiResponse, ApiServing
from understudy.components.machinery.defaults import apply_defaults
from understudy.components.machinery.errors import (
    ApiError,
    bad_request,
    internal_error,
    method_not_allowed,
    no_such_path,
    timeout,
    too_large,
)
from understudy.components.machinery.resources import (
    BINDINGS,
    NAMESPACES,
    PODS,
    SERVICES,
    Resource,
    builtin_resources,
    for_kind,
    lookup,
    subresource,
)
from understudy.components.machinery.schema import schema_for
from understudy.components.machinery.strategy import strategy_for
from understudy.components.machinery.warnings import deprecated_api
from understudy.raftstore import storage as etcd

from . import version
from .access import access_attributes, forbidden_access
from .admission import Admission
from .allocators import ServiceAllocators, cluster_ips
from .authentication import Authenticator, StaticToken
from .authorization import Authorizer
from .bootstrap_policy import initial_objects
from .context import RequestContext, UserInfo
from .deletes import Deletes
from .eviction import Evictions
from .inflight import InFlight
from .negotiation import negotiate
from .patches import Patches
from .paths import Paths, no_such_page
from .plugins import default_plugins
from .reads import ANY_SHAPE, get_object, list_objects, warning_headers
from .registry import STORE_TIMEOUT_SECONDS, Registry
from .reviews import Reviews
from .routing import RequestInfo, classify, go_bool
from .scale import Scales
from .services import ServiceAllocation
from .subresources import Subresources
from .watches import open_watch, read_watch_options
from .writes import Writes

log = logging.getLogger("understudy.apiserver")


@frozen
class ApiServerOptions:
    """Options by kube-apiserver's own names."""

    request_timeout_seconds: float = 60.0
    """--request-timeout: how long a request that is not a watch may take."""
    max_requests_inflight: int = 400
    """--max-requests-inflight: reading requests that are worked on at once; more wait."""
    max_mutating_requests_inflight: int = 200
    """--max-mutating-requests-inflight: the same for writing ones."""
    etcd_compaction_interval_seconds: float = 300.0
    """--etcd-compaction-interval: how often old revisions are forgotten."""
    event_ttl_seconds: int = 3600
    """--event-ttl: how long events are kept."""
    service_cluster_ip_range: str = "10.96.0.0/16"
    """--service-cluster-ip-range"""
    static_tokens: tuple[StaticToken, ...] = field(factory=tuple)
    """--token-auth-file: bearer tokens and whom they stand for."""
    anonymous_auth: bool = True
    """--anonymous-auth"""
    advertise_host: str = "127.0.0.1"
    """--advertise-address: where the `kubernetes` Service leads to."""
    advertise_port: int = 6443


class _Handler(Protocol):
    async def __call__(self, context: RequestContext) -> ApiResponse: ...


class ApiServer(Actor[ApiServing]):
    """One API server on one store."""

    def __init__(
        self,
        storage: Ref[etcd.Storage],
        options: ApiServerOptions,
        kubelet_of: Callable[[str], Ref[kubelet.KubeletServing]],
        network: Ref[podnet.PodNetwork],
    ) -> None:
        self.options = options
        self._storage = storage
        self._kubelet_of = kubelet_of
        self._network = network

    async def on_start(self) -> None:
        world = self.world
        self.registry = Registry(self._storage, world, event_ttl_seconds=self.options.event_ttl_seconds)
        self.reading = InFlight(world, self.options.max_requests_inflight)
        self.mutating = InFlight(world, self.options.max_mutating_requests_inflight)
        self.context.start_soon(self.registry.follow, self.context, name=f"{self.context.path} watch cache")
        self.authorizer = Authorizer(self.registry)
        self.authenticator = Authenticator(
            self.registry,
            world,
            self.authorizer,
            static_tokens=self.options.static_tokens,
            anonymous=self.options.anonymous_auth,
        )
        self.allocation = ServiceAllocation(world, ServiceAllocators())
        admission = Admission(default_plugins(world, self.authorizer), self.registry)
        self.writes = Writes(self.registry, admission, self.allocation)
        self.patches = Patches(self.writes)
        self.deletes = Deletes(self.registry, admission, self.allocation)
        self.scales = Scales(self.registry, self.writes)
        self.evictions = Evictions(self.registry, self.deletes)
        self.subresources = Subresources(self.registry, self._kubelet_of, self._network)
        self.reviews = Reviews(self.authenticator, self.authorizer)
        address = f"{self.options.advertise_host}:{self.options.advertise_port}"
        self.paths = Paths(self.authenticator.tokens, address)
        await self.registry.ready()
        await self._bootstrap()
        for problem in self.allocation.follow(self.registry.cache(SERVICES)):
            log.warning("service %s", problem)
        self.context.start_soon(self._compact, name=f"{self.context.path} compaction")

    async def _bootstrap(self) -> None:
        """Store the objects that every cluster starts with; what is there already stays as it is."""
        objects = initial_objects(self.world, self.options.advertise_host, self.options.advertise_port)
        for obj in objects:
            resource = for_kind(obj["apiVersion"], obj["kind"])
            assert resource is not None, obj["kind"]
            obj["metadata"] |= {"uid": self.world.uuid("uids"), "creationTimestamp": self.world.now_text()}
            apply_defaults(obj)
            strategy_for(resource).prepare_for_create(obj)
        for service in [obj for obj in objects if obj["kind"] == "Service"]:
            addresses = cluster_ips(service["spec"])
            objects += [self.allocation.address_object(service, address) for address in addresses]
        await self.registry.reach(await self.registry.create_missing(objects))

    async def _compact(self) -> None:
        """Forget revisions that are older than one interval."""
        before = self.registry.revision
        while True:
            await self.world.sleep(self.options.etcd_compaction_interval_seconds, "compaction")
            try:
                if before > 1:
                    await self._storage.ask(etcd.Compact(before), STORE_TIMEOUT_SECONDS)
                self.registry.forget(before)
            except etcd.Compacted:
                pass  # another API server was first
            except etcd.StorageError as error:
                log.warning("compaction at revision %d failed: %s", before, error)
            before = self.registry.revision

    # -- requests

    @handles(ApiRequest, concurrent=True)
    async def serve(self, request: ApiRequest) -> ApiResponse:
        """Answer a request; a refusal is an answer too."""
        try:
            answer = await self._serve(request)
        except ApiError as error:
            answer = _refusal(error)
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            answer = _refusal(internal_error(f"{request.method} {request.path} failed; see the server's log"))
        return answer

    async def _serve(self, request: ApiRequest) -> ApiResponse:
        info = classify(request)
        user = await self.authenticator.authenticate(request)
        if len(request.body) > BODY_BYTES_MAX:
            raise too_large(BODY_BYTES_MAX)
        self._authorize(user, info, request)
        if not info.is_resource:
            return await self.paths.serve(request, info.path)
        resource = lookup(info.group, info.version, info.plural)
        if resource is None:
            if (info.group, info.version) not in _served_versions():
                return no_such_page()
            raise no_such_path()
        context = self._context(request, info, user, resource)
        try:
            if info.verb == "watch" or (info.subresource == "log" and request.stream is not None):
                return await self._dispatch(context)
            places = self.reading if info.verb in ("get", "list") else self.mutating
            with self.world.deadline(self.options.request_timeout_seconds):
                async with places.place():
                    return await self._dispatch(context)
        except ApiError as error:
            return _refusal(error, context.warnings)
        except DeadlineExceeded:
            seconds = self.options.request_timeout_seconds
            return _refusal(timeout(f"request did not complete within {seconds:g}s"), context.warnings)

    def _authorize(self, user: UserInfo, info: RequestInfo, request: ApiRequest) -> None:
        asked = access_attributes(user, info, request)
        decision = self.authorizer.authorize(asked)
        if not decision.allowed:
            raise forbidden_access(asked, decision)

    def _context(
        self, request: ApiRequest, info: RequestInfo, user: UserInfo, resource: Resource
    ) -> RequestContext:
        if info.namespace and not resource.namespaced and resource != NAMESPACES:
            raise no_such_path()
        if resource.namespaced and not info.namespace and info.name and info.verb != "watch":
            raise no_such_path()
        below = None
        if info.subresource:
            below = subresource(resource, info.subresource)
            if below is None:
                raise no_such_path()
        context = RequestContext(
            request,
            info,
            user,
            resource,
            strategy_for(resource),
            schema_for(resource.api_version, resource.kind),
            self.world.now_text(),
            below,
        )
        warning = deprecated_api(resource)
        if warning:
            context.warnings.append(warning)
        return context

    async def _dispatch(self, context: RequestContext) -> ApiResponse:
        info = context.info
        if info.subresource:
            return await self._dispatch_subresource(context)
        resource = context.resource
        if resource == BINDINGS:
            if info.verb != "create":
                raise method_not_allowed()
            return await self.subresources.bind(context, "")
        if not self.registry.is_stored(resource):
            if self.reviews.handles(resource) and info.verb == "create":
                return await self.reviews.serve(context)
            if resource.plural == "componentstatuses" and info.verb in ("get", "list"):
                return version.component_statuses(context)
            raise method_not_allowed()
        if context.request.method == "HEAD":
            raise method_not_allowed()
        if info.verb not in resource.verbs and not (info.verb == "watch" and "watch" in resource.verbs):
            raise method_not_allowed()
        if info.verb == "watch":
            return await self._watch(context)
        # Each verb belongs to an object or to a collection, and only reads cross namespaces.
        to_object = info.verb in ("get", "update", "patch", "delete")
        within = not resource.namespaced or info.namespace or info.verb in ("list", "watch")
        if (bool(info.name) != to_object and info.verb not in ("list", "watch")) or not within:
            raise method_not_allowed()
        handlers: dict[str, _Handler] = {
            "create": self.writes.create,
            "update": self.writes.update,
            "patch": self.patches.patch,
            "delete": self.deletes.delete,
            "deletecollection": self.deletes.delete_collection,
        }
        if info.verb == "get":
            return await get_object(self.registry, context)
        if info.verb == "list":
            return await list_objects(self.registry, context)
        handler = handlers.get(info.verb)
        if handler is None:
            raise method_not_allowed()
        return await handler(context)

    async def _watch(self, context: RequestContext) -> ApiResponse:
        pretty = go_bool(context.request.parameter("pretty"))
        rendering = negotiate(
            context.request.header("accept"), shapes=ANY_SHAPE, pretty=pretty, streaming=True
        )
        options = read_watch_options(context, self.world)
        stream = context.request.stream
        if stream is None:
            raise bad_request("a watch needs a transport that can stream")
        self.context.adopt(stream)
        return await open_watch(self.registry, context, rendering, options, stream, self.context.start_soon)

    async def _dispatch_subresource(self, context: RequestContext) -> ApiResponse:
        info, resource, below = context.info, context.resource, context.subresource
        assert below is not None
        name = info.subresource
        if name == "proxy":
            return await self.subresources.proxy(context)
        session = name in ("exec", "attach", "portforward")
        if info.verb not in below.verbs and not (session and info.verb == "get"):
            raise method_not_allowed()
        if name == "scale":
            return await self.scales.serve(context)
        if resource == PODS:
            if name == "binding":
                return await self.subresources.bind(context, info.name)
            if name == "eviction":
                return await self.evictions.serve(context)
            if name == "log":
                return await self.subresources.log(context, self.context.channel)
            if session:
                return await self.subresources.session(context)
        if name == "token":
            return await self.reviews.token(context)
        if below.kind != resource.kind:
            raise method_not_allowed(
                f"{resource.plural}/{name} is not served by this version of Understudy yet"
            )
        if info.verb == "get":
            return await get_object(self.registry, context)
        if info.verb == "update":
            return await self.writes.update(context)
        if info.verb == "patch":
            return await self.patches.patch(context)
        raise method_not_allowed()


@cache
def _served_versions() -> frozenset[tuple[str, str]]:
    return frozenset((resource.group, resource.version) for resource in builtin_resources())


def _refusal(error: ApiError, warnings: Iterable[str] = ()) -> ApiResponse:
    found = (("content-type", "application/json"), *error.headers, *warning_headers(warnings))
    return ApiResponse(error.code, found, orjson.dumps(error.status))
