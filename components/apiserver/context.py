"""One request on its way through the API server: who asks what, with the rules that apply to it."""

from attrs import define, field, frozen

from understudy.components.machinery.api import ApiRequest
from understudy.components.machinery.errors import FieldError, bad_request, invalid
from understudy.components.machinery.managed_fields import field_manager
from understudy.components.machinery.preparation import Writer
from understudy.components.machinery.resources import Resource, Subresource
from understudy.components.machinery.schema import Schema
from understudy.components.machinery.strategy import Strategy

from .routing import RequestInfo, go_bool

FIELD_MANAGER_LENGTH_MAX = 128


@frozen
class UserInfo:
    """An authenticated user."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


ANONYMOUS = UserInfo("system:anonymous", ("system:unauthenticated",))


@define(eq=False)
class RequestContext:
    """What every handler of a resource request needs."""

    request: ApiRequest
    info: RequestInfo
    user: UserInfo
    resource: Resource
    """As served under this path."""
    strategy: Strategy
    schema: Schema | None
    """Of the resource's objects; None for kinds without a published schema."""
    now: str
    """The time of the request, as `metav1.Time`."""
    subresource: Subresource | None = None
    warnings: list[str] = field(factory=list)
    """Texts of `Warning:` headers."""

    @property
    def namespace(self) -> str:
        """The namespace of the path, "" for cluster-scoped resources."""
        return self.info.namespace if self.resource.namespaced else ""

    @property
    def writer(self) -> Writer:
        """Who writes, and when."""
        user = self.user
        return Writer(self.now, user.name, user.uid, user.groups, user.extra)

    def field_manager(self) -> str:
        """The manager that this write's fields belong to. Raises 422 for an unusable name."""
        given = self.request.parameter("fieldManager") or ""
        if len(given) > FIELD_MANAGER_LENGTH_MAX or not given.isprintable():
            raise self._invalid_option(
                FieldError(
                    "FieldValueTooLong" if given.isprintable() else "FieldValueInvalid",
                    "fieldManager",
                    given,
                    f"may not be more than {FIELD_MANAGER_LENGTH_MAX} bytes"
                    if given.isprintable()
                    else "should only contain printable characters",
                )
            )
        return field_manager(given, self.request.header("user-agent") or "")

    def field_validation(self) -> str:
        """Ignore, Warn or Strict."""
        given = self.request.parameter("fieldValidation") or "Warn"
        if given not in ("Ignore", "Warn", "Strict"):
            raise self._invalid_option(
                FieldError(
                    "FieldValueNotSupported",
                    "fieldValidation",
                    given,
                    'supported values: "Ignore", "Strict", "Warn"',
                )
            )
        return given

    def dry_run(self, in_body: list[str] | None = None) -> bool:
        """Whether nothing may be stored."""
        given = [value for key, value in self.request.query if key == "dryRun"] or (in_body or [])
        for value in given:
            if value != "All":
                raise self._invalid_option(
                    FieldError("FieldValueNotSupported", "dryRun", given, 'supported values: "All"')
                )
        return bool(given)

    def force(self) -> bool:
        """Whether an apply may take fields from other managers."""
        return go_bool(self.request.parameter("force"))

    def _invalid_option(self, finding: FieldError) -> Exception:
        method = {"POST": "CreateOptions", "PUT": "UpdateOptions", "PATCH": "PatchOptions"}
        kind = method.get(self.request.method, "DeleteOptions")
        return invalid("meta.k8s.io", kind, "", [finding])


def parse_uint(text: str, name: str) -> int:
    """A non-negative integer parameter. Raises 400 with a hint."""
    if not text.isascii() or not text.isdigit():
        raise bad_request(f"{name}: Invalid value: {text!r}: must be a whole number")
    return int(text)
