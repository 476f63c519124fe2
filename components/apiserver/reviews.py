"""Reviews: questions about who somebody is and what they may do, asked by creating an object.

Nothing is stored; the object comes back with its status filled in. Source: the API reference of
authentication.k8s.io/v1 and authorization.k8s.io/v1.
"""

from typing import Any

from attrs import define

from understudy.components.machinery.api import ApiResponse, Object
from understudy.components.machinery.errors import ApiError, FieldError, bad_request, invalid
from understudy.components.machinery.managed_fields import track_update
from understudy.components.machinery.resources import (
    LOCAL_SUBJECT_ACCESS_REVIEWS,
    SELF_SUBJECT_ACCESS_REVIEWS,
    SELF_SUBJECT_REVIEWS,
    SELF_SUBJECT_RULES_REVIEWS,
    SUBJECT_ACCESS_REVIEWS,
    TOKEN_REVIEWS,
    Resource,
)
from understudy.components.machinery.schema import schema_for

from .access import AccessAttributes
from .admission import Attributes
from .authentication import Authenticator
from .authorization import Authorizer
from .bodies import check_type, conformed, decode_body
from .context import RequestContext, UserInfo
from .plugins.node_restriction import NodeRestriction
from .reads import render_value, rendering_of
from .service_account_tokens import ISSUER

_TOKEN_REQUEST = ("authentication.k8s.io/v1", "TokenRequest")
_ACCESS_REVIEWS = frozenset(
    resource.plural
    for resource in (SUBJECT_ACCESS_REVIEWS, LOCAL_SUBJECT_ACCESS_REVIEWS, SELF_SUBJECT_ACCESS_REVIEWS)
)
_RESTRICTION = NodeRestriction()
_OPERATORS = {"In", "NotIn", "Exists", "DoesNotExist"}


@define(eq=False)
class Reviews:
    """The handlers of the review resources, and of service account tokens."""

    authenticator: Authenticator
    authorizer: Authorizer

    def handles(self, resource: Resource) -> bool:
        """Whether that is a review."""
        return resource.plural in _REVIEWS and resource.group in (
            TOKEN_REVIEWS.group,
            SUBJECT_ACCESS_REVIEWS.group,
        )

    async def serve(self, context: RequestContext) -> ApiResponse:
        """POST of a review."""
        rendering = rendering_of(context)
        resource = context.resource
        manager = context.field_manager()
        context.dry_run()
        obj, found = decode_body(context, resource.kind)
        check_type(obj, resource.api_version, resource.kind)
        obj = conformed(context, obj, found, context.schema)
        metadata = obj.setdefault("metadata", {})
        if resource.namespaced:
            if metadata.setdefault("namespace", context.namespace) != context.namespace:
                raise bad_request(
                    f"the namespace of the provided object ({metadata['namespace']}) does not match the"
                    f" namespace sent on the request ({context.namespace})"
                )
        else:
            metadata.pop("namespace", None)
        if resource == SELF_SUBJECT_REVIEWS:
            metadata["creationTimestamp"] = context.now
        if context.schema is not None:
            managed = track_update(
                context.schema, None, obj, manager, time=context.now, api_version=resource.api_version
            )
            if managed:
                metadata["managedFields"] = managed
        return render_value(context, rendering, await self.handle(context, obj), 201)

    async def handle(self, context: RequestContext, obj: Object) -> Object:
        """A review, answered. Raises 400 and 422."""
        plural = context.resource.plural
        if plural in _ACCESS_REVIEWS:
            return self._access_review(context, obj)
        if plural == SELF_SUBJECT_RULES_REVIEWS.plural:
            return self._rules_review(context, obj)
        if plural == SELF_SUBJECT_REVIEWS.plural:
            return {**obj, "status": {"userInfo": _shown(context.user)}}
        return await self._token_review(obj)

    async def token(self, context: RequestContext) -> ApiResponse:
        """POST of a service account's `token` subresource."""
        rendering = rendering_of(context)
        dry_run = context.dry_run()
        obj, found = decode_body(context, _TOKEN_REQUEST[1])
        if obj:
            check_type(obj, *_TOKEN_REQUEST)
        obj = conformed(context, obj, found, schema_for(*_TOKEN_REQUEST))
        attributes = Attributes(
            "CREATE",
            context.resource,
            context.info.subresource,
            context.namespace,
            context.info.name,
            obj,
            None,
            context.user,
            dry_run,
            context.warnings,
        )
        # Of the admission plugins this is the only one that looks at tokens.
        await _RESTRICTION.admit(attributes, self.authenticator.registry)
        answer = await self.authenticator.tokens.request(
            context.namespace, context.info.name, obj, dry_run=dry_run
        )
        return render_value(context, rendering, answer, 201)

    # -- authorization.k8s.io

    def _access_review(self, context: RequestContext, obj: Object) -> Object:
        spec = obj.get("spec") or {}
        resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
        own = context.resource == SELF_SUBJECT_ACCESS_REVIEWS
        local = context.resource == LOCAL_SUBJECT_ACCESS_REVIEWS
        findings = _check_target(resource, path)
        if not own and not spec.get("user") and not spec.get("groups"):
            findings.append(
                FieldError(
                    "FieldValueInvalid", "spec.user", "", "at least one of user or group must be specified"
                )
            )
        if local:
            findings += _check_local(context, resource, path)
        if findings:
            raise invalid("authorization.k8s.io", "", "", findings)
        if own:
            user = context.user
        else:
            extra = tuple((key, tuple(values)) for key, values in (spec.get("extra") or {}).items())
            user = UserInfo(spec.get("user", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""), extra)
        if resource is not None:
            asked = AccessAttributes(
                user,
                resource.get("verb", ""),
                resource.get("group", ""),
                resource.get("version", ""),
                resource.get("resource", ""),
                resource.get("subresource", ""),
                resource.get("namespace", ""),
                resource.get("name", ""),
                field_selector=_selected(resource),
            )
        else:
            assert path is not None
            asked = AccessAttributes(user, path.get("verb", ""), path=path.get("path", ""), is_resource=False)
        decision = self.authorizer.authorize(asked)
        status: Object = {"allowed": decision.allowed}
        if decision.reason:
            status["reason"] = decision.reason
        return {**obj, "status": status}

    def _rules_review(self, context: RequestContext, obj: Object) -> Object:
        namespace = (obj.get("spec") or {}).get("namespace", "")
        if not namespace:
            raise bad_request("no namespace on request")
        resources, paths, incomplete = self.authorizer.rules_for(context.user, namespace)
        status: Object = {
            "resourceRules": resources,
            "nonResourceRules": paths,
            "incomplete": incomplete,
        }
        if incomplete:
            status["evaluationError"] = "node authorizer does not support user rule resolution"
        return {**obj, "status": status}

    # -- authentication.k8s.io

    async def _token_review(self, obj: Object) -> Object:
        spec = obj.get("spec") or {}
        token = spec.get("token", "")
        if not token:
            raise bad_request("token is required for TokenReview in authentication")
        audiences = tuple(spec.get("audiences") or (ISSUER,))
        try:
            user, meant_for = await self.authenticator.token_audiences(token, audiences)
        except ApiError as error:
            if error.code != 401:
                raise
            return {**obj, "status": {"user": {}, "error": "invalid bearer token"}}
        status = {"authenticated": True, "user": _shown(user), "audiences": list(meant_for)}
        return {**obj, "status": status}


_REVIEWS = _ACCESS_REVIEWS | {
    SELF_SUBJECT_RULES_REVIEWS.plural,
    SELF_SUBJECT_REVIEWS.plural,
    TOKEN_REVIEWS.plural,
}


def _shown(user: UserInfo) -> Object:
    info: Object = {"username": user.name}
    if user.uid:
        info["uid"] = user.uid
    if user.groups:
        info["groups"] = list(user.groups)
    if user.extra:
        info["extra"] = {key: list(values) for key, values in user.extra}
    return info


def _go_names(attributes: Object) -> Object:
    """Non-resource attributes as the server's own type spells them, which is how it shows bad values."""
    return {"Path": attributes.get("path", ""), "Verb": attributes.get("verb", "")}


def _check_target(resource: Object | None, path: Object | None) -> list[FieldError]:
    if resource is not None and path is not None:
        return [
            FieldError(
                "FieldValueInvalid",
                "spec.nonResourceAttributes",
                _go_names(path),
                "cannot be specified in combination with resourceAttributes",
            )
        ]
    if resource is None and path is None:
        return [
            FieldError(
                "FieldValueInvalid",
                "spec.resourceAttributes",
                None,
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            )
        ]
    return _check_selectors(resource) if resource is not None else []


def _check_selectors(resource: Object) -> list[FieldError]:
    findings = []
    for name in ("fieldSelector", "labelSelector"):
        selector: Any = resource.get(name)
        if selector is None:
            continue
        at = f"spec.resourceAttributes.{name}"
        raw, requirements = selector.get("rawSelector"), selector.get("requirements")
        if raw and requirements:
            findings.append(
                FieldError(
                    "FieldValueInvalid",
                    f"{at}.rawSelector",
                    raw,
                    "may not specified at the same time as requirements",
                )
            )
        if not raw and not requirements:
            findings.append(
                FieldError(
                    "FieldValueRequired", f"{at}.requirements", None, "when rawSelector is not specified"
                )
            )
        for index, requirement in enumerate(requirements or ()):
            where = f"{at}.requirements[{index}]"
            if not requirement.get("key"):
                findings.append(FieldError("FieldValueRequired", f"{where}.key", None, "must be specified"))
            operator, values = requirement.get("operator", ""), requirement.get("values")
            if operator not in _OPERATORS:
                findings.append(
                    FieldError(
                        "FieldValueInvalid", f"{where}.operator", operator, "not a valid selector operator"
                    )
                )
            elif operator in ("In", "NotIn") and not values:
                findings.append(
                    FieldError(
                        "FieldValueRequired",
                        f"{where}.values",
                        None,
                        "must be specified when `operator` is 'In' or 'NotIn'",
                    )
                )
            elif operator in ("Exists", "DoesNotExist") and values:
                findings.append(
                    FieldError(
                        "FieldValueForbidden",
                        f"{where}.values",
                        None,
                        "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                    )
                )
    return findings


def _check_local(context: RequestContext, resource: Object | None, path: Object | None) -> list[FieldError]:
    findings = []
    if path is not None:
        findings.append(
            FieldError(
                "FieldValueInvalid",
                "spec.nonResourceAttributes",
                _go_names(path),
                "disallowed on this kind of request",
            )
        )
    namespace = (resource or {}).get("namespace", "")
    if resource is not None and namespace != context.namespace:
        findings.append(
            FieldError(
                "FieldValueInvalid",
                "spec.resourceAttributes.namespace",
                namespace,
                "must match metadata.namespace",
            )
        )
    return findings


def _selected(resource: Object) -> tuple[tuple[str, str], ...]:
    selector = resource.get("fieldSelector") or {}
    return tuple(
        (requirement["key"], requirement["values"][0])
        for requirement in selector.get("requirements") or ()
        if requirement.get("operator") == "In" and len(requirement.get("values") or ()) == 1
    )
