"""Image references: `[domain/]path[:tag][@digest]`, with the defaults of the container world.

Grammar and wording: the `reference` package that Docker, containerd and the kubelet share.
"""

import re

from attrs import frozen

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_DOMAIN = re.compile(
    r"(?:\[[0-9a-fA-F:]+\]|[a-zA-Z0-9]+(?:-+[a-zA-Z0-9]+)*(?:\.[a-zA-Z0-9]+(?:-+[a-zA-Z0-9]+)*)*)(?::[0-9]+)?"
)
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_NAME_LENGTH_MAX = 255

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"


class InvalidImageReference(ValueError):
    """Text that names no image; says why in the words of the container world."""


@frozen
class ImageReference:
    """An image with its defaults filled in."""

    domain: str
    path: str
    tag: str
    """"" when there is a digest and no tag."""
    digest: str = ""

    @property
    def repository(self) -> str:
        """`docker.io/library/nginx`."""
        return f"{self.domain}/{self.path}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.repository}{tag}{digest}"


def parse(text: str) -> ImageReference:
    """The reference that `text` means: `nginx` is `docker.io/library/nginx:latest`.

    Raises:
        InvalidImageReference: it is none.
    """
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise InvalidImageReference("invalid reference format")
    head, slash, tail = rest.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost" or head != head.lower()):
        domain, remainder = head, tail
    else:
        domain, remainder = DEFAULT_DOMAIN, rest
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = f"library/{remainder}"
    path, colon, tag = remainder.partition(":")
    if path != path.lower() and _PATH.fullmatch(path.lower()):
        raise InvalidImageReference(f"invalid reference format: repository name ({path}) must be lowercase")
    if not (_DOMAIN.fullmatch(domain) and _PATH.fullmatch(path) and (not colon or _TAG.fullmatch(tag))):
        raise InvalidImageReference("invalid reference format")
    if len(path) > _NAME_LENGTH_MAX:
        raise InvalidImageReference(f"repository name must not be more than {_NAME_LENGTH_MAX} characters")
    return ImageReference(domain, path, tag if colon else "" if digest else DEFAULT_TAG, digest)
