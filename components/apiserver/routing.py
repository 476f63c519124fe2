"""What a request asks for: its path and query read as the API conventions lay them out.

Source: Kubernetes API concepts, "Resource URIs"; the verbs are those of authorization.
"""

from attrs import frozen

from understudy.components.machinery.api import ApiRequest

_VERBS = {
    "GET": "get",
    "POST": "create",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
    "HEAD": "get",
}


@frozen
class RequestInfo:
    """A request, classified."""

    verb: str
    """get, list, watch, create, update, patch, delete, deletecollection; for other paths the method."""
    path: str
    is_resource: bool
    group: str = ""
    version: str = ""
    plural: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""
    """What follows the subresource, e.g. the path that is proxied."""


def go_bool(text: str | None) -> bool:
    """A boolean query parameter as Go reads it: absent or unreadable is false, present and empty is true."""
    if text is None:
        return False
    return text in ("", "1", "t", "T", "TRUE", "true", "True")


def classify(request: ApiRequest) -> RequestInfo:
    """Read a request's path and query."""
    path = request.path
    parts = [part for part in path.split("/") if part]
    verb = _VERBS.get(request.method, request.method.lower())
    other = RequestInfo(request.method.lower(), path, False)
    if len(parts) >= 3 and parts[0] == "api":
        group, version, rest = "", parts[1], parts[2:]
    elif len(parts) >= 4 and parts[0] == "apis":
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return other
    namespace = ""
    if rest[0] == "watch":
        # The deprecated /watch/ prefix: the same as watch=true.
        if len(rest) == 1:
            return other
        verb, rest = "watch", rest[1:]
    if rest[0] == "namespaces" and len(rest) > 1:
        namespace = rest[1]
        if len(rest) > 2 and rest[2] not in ("status", "finalize"):
            rest = rest[2:]
    plural = rest[0]
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""
    tail = "/".join(rest[3:])
    if tail and path.endswith("/"):
        tail += "/"
    if plural == "namespaces":
        namespace = name
    if request.method in ("GET", "HEAD"):
        # A path to one object is a plain read, whatever `watch` says, but for the /watch/ prefix.
        if not name and verb != "watch":
            verb = "watch" if go_bool(request.parameter("watch")) else "list"
    elif request.method == "DELETE" and not name:
        verb = "deletecollection"
    return RequestInfo(verb, path, True, group, version, plural, namespace, name, subresource, tail)
