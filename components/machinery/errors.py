"""Status errors: what an API server answers when a request cannot be done.

The shapes are those of `metav1.Status`; reasons and codes are listed in the API conventions
("Response Status Kind"). A handler raises :class:`ApiError`; the request pipeline turns it into the
response, so that no other layer builds a Status by hand.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from attrs import frozen

Object = dict[str, Any]


@frozen
class FieldError:
    """One finding of a validation: becomes a cause in `details.causes` of a 422."""

    type: str
    """The cause's reason, e.g. `FieldValueRequired`."""
    field: str
    """Path of the field, e.g. `spec.containers[0].image`."""
    value: Any
    """The offending value; not shown for required, forbidden and too-long findings."""
    detail: str
    """What is wrong with it and what would be right."""

    @property
    def message(self) -> str:
        """The finding without its path, as a cause's `message` words it."""
        title = _TITLES[self.type]
        if self.type in ("FieldValueRequired", "FieldValueForbidden", "FieldValueTooLong", "InternalError"):
            return f"{title}: {self.detail}" if self.detail else title
        shown = _show(self.value)
        return f"{title}: {shown}: {self.detail}" if self.detail else f"{title}: {shown}"


_TITLES = {
    "FieldValueRequired": "Required value",
    "FieldValueInvalid": "Invalid value",
    "FieldValueNotSupported": "Unsupported value",
    "FieldValueDuplicate": "Duplicate value",
    "FieldValueForbidden": "Forbidden",
    "FieldValueTooLong": "Too long",
    "FieldValueTooMany": "Too many",
    "FieldValueNotFound": "Not found",
    "FieldValueTypeInvalid": "Invalid value",
    "InternalError": "Internal error",
}


def _show(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    import orjson

    return orjson.dumps(value).decode()


class ApiError(Exception):
    """A request that the API server refuses, with the `Status` that says why."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: Object | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.headers = tuple(headers)

    @property
    def status(self) -> Object:
        """The `Status` object of the answer."""
        status: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            status["reason"] = self.reason
        if self.details is not None:
            status["details"] = self.details
        status["code"] = self.code
        return status

    def __repr__(self) -> str:
        return f"ApiError({self.code}, {self.reason!r}, {self.message!r})"


def _details(group: str, kind: str, name: str, **more: Any) -> Object:
    details: Object = {}
    if name:
        details["name"] = name
    if group:
        details["group"] = group
    if kind:
        details["kind"] = kind
    details.update({key: value for key, value in more.items() if value})
    return details


def _qualified(group: str, resource: str) -> str:
    return f"{resource}.{group}" if group else resource


def bad_request(message: str) -> ApiError:
    """400 BadRequest: the request itself cannot be understood."""
    return ApiError(400, "BadRequest", message)


def unauthorized(message: str = "Unauthorized") -> ApiError:
    """401 Unauthorized: credentials were given and do not hold."""
    return ApiError(401, "Unauthorized", message)


def forbidden(group: str, resource: str, name: str, message: str) -> ApiError:
    """403 Forbidden: authorization or admission says no."""
    subject = f'{_qualified(group, resource)} "{name}"' if name else _qualified(group, resource)
    return ApiError(403, "Forbidden", f"{subject} is forbidden: {message}", _details(group, resource, name))


def not_found(group: str, resource: str, name: str) -> ApiError:
    """404 NotFound: no such object."""
    return ApiError(
        404, "NotFound", f'{_qualified(group, resource)} "{name}" not found', _details(group, resource, name)
    )


def no_such_path() -> ApiError:
    """404 NotFound for a path that names nothing that is served."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def method_not_allowed(
    message: str = "the server does not allow this method on the requested resource",
) -> ApiError:
    """405 MethodNotAllowed."""
    return ApiError(405, "MethodNotAllowed", message, {})


def not_acceptable(message: str) -> ApiError:
    """406 NotAcceptable: none of the media types in Accept can be produced."""
    return ApiError(406, "NotAcceptable", message)


def already_exists(group: str, resource: str, name: str) -> ApiError:
    """409 AlreadyExists."""
    return ApiError(
        409,
        "AlreadyExists",
        f'{_qualified(group, resource)} "{name}" already exists',
        _details(group, resource, name),
    )


def conflict(group: str, resource: str, name: str, message: str, causes: Iterable[Object] = ()) -> ApiError:
    """409 Conflict: the object changed since it was read, or another field manager owns a field."""
    return ApiError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {_qualified(group, resource)} "{name}": {message}',
        _details(group, resource, name, causes=list(causes)),
    )


def gone(message: str) -> ApiError:
    """410 Expired: that resourceVersion or continue token is no longer kept."""
    return ApiError(410, "Expired", message)


def too_large(limit: int) -> ApiError:
    """413 RequestEntityTooLarge: the body is over `limit` bytes."""
    return ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}")


def unsupported_media_type(message: str) -> ApiError:
    """415 UnsupportedMediaType."""
    return ApiError(415, "UnsupportedMediaType", message)


def invalid(group: str, kind: str, name: str, findings: Sequence[FieldError]) -> ApiError:
    """422 Invalid: the object breaks the rules of its kind; one cause a finding."""
    causes = [{"reason": f.type, "message": f.message, "field": f.field} for f in findings]
    texts = [f"{f.field}: {f.message}" for f in findings]
    unique = list(dict.fromkeys(texts))
    joined = unique[0] if len(unique) == 1 else "[" + ", ".join(unique) + "]"
    return ApiError(
        422,
        "Invalid",
        f'{_qualified(group, kind)} "{name}" is invalid: {joined}',
        _details(group, kind, name, causes=causes),
    )


def too_many_requests(message: str, retry_after_seconds: int) -> ApiError:
    """429 TooManyRequests: try again after `retry_after_seconds`."""
    return ApiError(
        429,
        "TooManyRequests",
        message,
        {"retryAfterSeconds": retry_after_seconds},
        [("Retry-After", str(retry_after_seconds))],
    )


def internal_error(message: str) -> ApiError:
    """500 InternalError: the fault is the server's."""
    return ApiError(
        500, "InternalError", f"Internal error occurred: {message}", {"causes": [{"message": message}]}
    )


def unavailable(message: str, retry_after_seconds: int = 1) -> ApiError:
    """503 ServiceUnavailable: the store or a backend cannot be reached for now."""
    return ApiError(
        503,
        "ServiceUnavailable",
        message,
        {"retryAfterSeconds": retry_after_seconds},
        [("Retry-After", str(retry_after_seconds))],
    )


def timeout(message: str) -> ApiError:
    """504 Timeout: the request's deadline passed before its outcome was known."""
    return ApiError(504, "Timeout", f"Timeout: {message}", {})
