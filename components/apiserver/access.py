"""The question that authorization answers: may this user do that to it?"""

from attrs import frozen

from understudy.components.machinery.api import ApiRequest
from understudy.components.machinery.errors import ApiError, forbidden

from .context import UserInfo
from .routing import RequestInfo


@frozen
class AccessAttributes:
    """One question."""

    user: UserInfo
    verb: str
    group: str = ""
    version: str = ""
    plural: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    """What is asked for when it is no resource."""
    is_resource: bool = True
    field_selector: tuple[tuple[str, str], ...] | None = None
    """Fields that a list, watch or deletecollection requires to have one value; None: not looked at."""


@frozen
class Decision:
    """An answer."""

    allowed: bool
    reason: str = ""


def access_attributes(user: UserInfo, info: RequestInfo, request: ApiRequest) -> AccessAttributes:
    """The question that a request asks.

    A selector of one name makes a list or watch one of that object, as far as permissions go.
    """
    selector: tuple[tuple[str, str], ...] = ()
    name = info.name
    if info.is_resource and info.verb in ("list", "watch", "deletecollection"):
        text = request.parameter("fieldSelector")
        if text:
            selector = required_fields(text)
            if not name:
                name = next((value for key, value in selector if key == "metadata.name"), "")
    return AccessAttributes(
        user,
        info.verb,
        info.group,
        info.version,
        info.plural,
        info.subresource,
        info.namespace,
        name,
        info.path,
        info.is_resource,
        selector,
    )


def required_fields(text: str) -> tuple[tuple[str, str], ...]:
    """The `field=value` terms of a field selector; other terms restrict nothing here."""
    found = []
    for term in text.split(","):
        key, operator, value = term.partition("=")
        if operator and not key.endswith("!"):
            found.append((key.strip(), value.removeprefix("=").strip()))
    return tuple(found)


def forbidden_access(asked: AccessAttributes, decision: Decision) -> ApiError:
    """The 403 that says who may not do what."""
    because = f": {decision.reason}" if decision.reason else ""
    if not asked.is_resource:
        return ApiError(
            403,
            "Forbidden",
            f'forbidden: User "{asked.user.name}" cannot {asked.verb} path "{asked.path}"{because}',
            {},
        )
    what = f"{asked.plural}/{asked.subresource}" if asked.subresource else asked.plural
    where = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
    return forbidden(
        asked.group,
        asked.plural,
        asked.name,
        f'User "{asked.user.name}" cannot {asked.verb} resource "{what}" in API group "{asked.group}"'
        f" {where}{because}",
    )
