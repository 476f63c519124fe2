"""Request bodies: bytes in any accepted encoding to an object of the expected type.

Unknown and duplicate fields are refused, warned about or ignored as `fieldValidation` says.
"""

from understudy.components.machinery import protobuf
from understudy.components.machinery.api import Object
from understudy.components.machinery.conforming import conform
from understudy.components.machinery.decoding import decode_json, decode_yaml, strict_error
from understudy.components.machinery.errors import bad_request, unsupported_media_type
from understudy.components.machinery.schema import Schema

from .context import RequestContext

JSON, YAML, PROTOBUF = "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"


def media_type(context: RequestContext) -> str:
    """The content type without its parameters; JSON when there is none."""
    header = context.request.header("content-type") or JSON
    return header.split(";", 1)[0].strip().lower()


def decode_body(
    context: RequestContext, kind: str = "", body: bytes | None = None, media: str = ""
) -> tuple[Object, list[str]]:
    """The object of a body, with what strict decoding finds wrong with it.

    Raises:
        ApiError: 400 for a malformed body, 415 for a media type that is not read.
    """
    data = context.request.body if body is None else body
    media = media or media_type(context)
    if media == JSON or media == "*/*":
        return decode_json(data, kind)
    if media == YAML:
        return decode_yaml(data, kind)
    if media == PROTOBUF:
        return protobuf.decode(data, kind), []
    raise unsupported_media_type(
        "the body of the request was in an unknown format - accepted media types include: "
        + ", ".join((JSON, YAML, PROTOBUF))
    )


def check_type(obj: Object, api_version: str, kind: str) -> None:
    """Fill in or check an object's apiVersion and kind. Raises 400."""
    given_version, given_kind = obj.get("apiVersion") or api_version, obj.get("kind") or kind
    if given_version != api_version:
        raise bad_request(
            f"the API version in the data ({given_version}) does not match the expected API version"
            f" ({api_version})"
        )
    if given_kind != kind:
        group, _, version = api_version.rpartition("/")
        raise bad_request(
            f'{given_kind} in version "{version}" cannot be handled as a {kind}: expected kind {kind}'
            f" of {group or 'the core group'}"
        )
    obj["apiVersion"], obj["kind"] = api_version, kind


def conformed(
    context: RequestContext,
    obj: Object,
    found: list[str],
    schema: Schema | None,
    validation: str | None = None,
) -> Object:
    """The object without unknown fields, in the types of its schema; findings are raised, warned or dropped.

    Raises:
        ApiError: 400 for a value of the wrong type, and for findings under `fieldValidation=Strict`.
    """
    findings = list(found)
    made = obj
    if schema is not None:
        made, unknown = conform(schema, obj)
        findings += unknown
    judge(context, obj.get("apiVersion", ""), obj.get("kind", ""), findings, validation)
    return made


def judge(
    context: RequestContext, api_version: str, kind: str, findings: list[str], validation: str | None = None
) -> None:
    """Raise, warn of, or drop what strict decoding found, as `fieldValidation` says."""
    if findings:
        mode = validation or context.field_validation()
        if mode == "Strict":
            raise strict_error(api_version, kind, findings)
        if mode == "Warn":
            context.warnings += findings
