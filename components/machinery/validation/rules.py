"""What validation of one kind consists of; the tables of the other modules are made of this."""

from collections.abc import Callable, Mapping
from typing import Any

from attrs import field, frozen

from understudy.components.machinery import names
from understudy.components.machinery.names import NameCheck
from understudy.components.machinery.validation.findings import Findings

Object = dict[str, Any]
OnObject = Callable[[Object], Findings]
OnChange = Callable[[Object, Object], Findings]


def nothing(obj: Object) -> Findings:
    """No rules beyond those of metadata."""
    return []


def no_change_rules(new: Object, old: Object) -> Findings:
    """No rules about changes beyond those of metadata."""
    return []


def any_name(text: str) -> list[str]:
    """Names that need be path segments only, which is checked for all kinds."""
    return []


@frozen
class Rules:
    """The rules of one kind."""

    name: NameCheck = names.dns1123_subdomain
    create: OnObject = nothing
    """The whole object but its metadata."""
    change: OnChange = no_change_rules
    """What an update may not do."""
    status: OnChange = no_change_rules
    """What a status update may not do."""
    subresources: Mapping[str, OnChange] = field(factory=dict)
    validates_metadata: bool = True
    """False for the few kinds whose names are checked as path segments only."""
    known_finalizers: bool = True
    revalidates: bool = True
    """Whether an update runs `create` on the new object too."""
    change_last: bool = False
    """Whether an update runs `change` after `create`, which shows in the order of findings."""
