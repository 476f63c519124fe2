"""Admission: what may still change or refuse a write after it was authorized.

A plugin sees the object in its stored version, defaulted. Mutating plugins change it in place; then it is
validated; then validating plugins may refuse it. Order and names are the real server's.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

from attrs import define

from understudy.components.machinery.api import Object
from understudy.components.machinery.resources import Resource

from .context import UserInfo
from .registry import Registry

Operation = Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]


@define
class Attributes:
    """One write, as admission sees it."""

    operation: Operation
    resource: Resource
    subresource: str
    namespace: str
    name: str
    """"" while a name is still to be generated."""
    obj: Object | None
    """The object to be stored; None for a deletion."""
    old: Object | None
    """The object as it is stored; None for a creation. Not to be changed."""
    user: UserInfo
    dry_run: bool
    warnings: list[str]


class Plugin(Protocol):
    """One admission plugin. Raises ApiError to refuse."""

    async def admit(self, attributes: Attributes, registry: Registry) -> None:
        """Change the object in place."""

    async def validate(self, attributes: Attributes, registry: Registry) -> None:
        """Look at the object as it will be stored."""


@define
class Admission:
    """The chain of plugins."""

    plugins: Sequence[Plugin]
    registry: Registry

    async def admit(self, attributes: Attributes) -> None:
        """Run the mutating half."""
        for plugin in self.plugins:
            await plugin.admit(attributes, self.registry)

    async def validate(self, attributes: Attributes) -> None:
        """Run the validating half."""
        for plugin in self.plugins:
            await plugin.validate(attributes, self.registry)
