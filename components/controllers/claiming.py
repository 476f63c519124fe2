"""Carrying out claims: adopt and release objects through the API."""

from collections.abc import Iterable
from typing import Any

from understudy.components.client import Client
from understudy.components.controllers.ownership import (
    Claim,
    adoption_patch,
    claim,
    controller_reference,
    release_patch,
)
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import Resource
from understudy.components.machinery.selectors import LabelSelector

Object = dict[str, Any]


async def claim_all(
    client: Client,
    controller: Object,
    controller_resource: Resource,
    selector: LabelSelector,
    candidates: Iterable[Object],
    candidate_resource: Resource,
) -> list[Object]:
    """The candidates that belong to `controller`, after adopting and releasing those that must be.

    Before the first adoption the controller is read from the server: one that was deleted, or whose
    deletion has begun, adopts nothing (else its garbage collection would take along what was orphaned).
    Raises ApiError when an adoption or a release is refused.
    """
    kept: list[Object] = []
    may_adopt: bool | None = None
    metadata = controller["metadata"]
    namespace = metadata["namespace"]
    for candidate in candidates:
        decision = claim(controller, selector, candidate)
        name = candidate["metadata"]["name"]
        if decision is Claim.KEEP:
            kept.append(candidate)
        elif decision is Claim.ADOPT:
            if may_adopt is None:
                fresh = await client.get(controller_resource, metadata["name"], namespace)
                may_adopt = fresh["metadata"]["uid"] == metadata["uid"] and not fresh["metadata"].get(
                    "deletionTimestamp"
                )
            if may_adopt:
                reference = controller_reference(
                    controller, controller_resource.api_version, controller_resource.kind
                )
                patch = adoption_patch(candidate, reference)
                adopted = await _patch(client, candidate_resource, name, namespace, patch)
                if adopted is not None:
                    kept.append(adopted)
        elif decision is Claim.RELEASE:
            await _patch(
                client, candidate_resource, name, namespace, release_patch(candidate, metadata["uid"])
            )
    return kept


async def _patch(
    client: Client, resource: Resource, name: str, namespace: str, patch: Object
) -> Object | None:
    try:
        return await client.patch(resource, name, patch, namespace, type="strategic")
    except ApiError as error:
        if error.code == 404 or error.reason == "Invalid":
            return None  # gone, or replaced by a namesake with another uid
        raise
