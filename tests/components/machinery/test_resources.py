"""Resources agree with the recorded discovery documents."""

import json
from pathlib import Path

import pytest

from understudy.components.machinery import resources
from understudy.components.machinery.resources import DEPLOYMENTS, EVENTS, PODS, builtin_resources


def test_every_recorded_resource_and_subresource_is_there(facts_dir: Path) -> None:
    legacy = json.loads((facts_dir / "kubernetes" / "discovery.json").read_bytes())["legacy"]
    seen = 0
    for document in legacy.values():
        for row in document.get("resources", ()):
            group, _, version = document["groupVersion"].rpartition("/")
            plural, _, sub = row["name"].partition("/")
            resource = resources.lookup(group, version, plural)
            seen += 1
            assert resource is not None, row
            if sub:
                below = resources.subresource(resource, sub)
                assert below is not None, row
                assert below.kind == row["kind"]
                assert (below.group, below.version) == (row.get("group", group), row.get("version", version))
                assert sorted(below.verbs) == row["verbs"]
            else:
                assert resource.kind == row["kind"]
                assert resource.namespaced == row["namespaced"]
                assert resource.singular == row["singularName"]
                assert sorted(resource.verbs) == row["verbs"]
                assert list(resource.short_names) == row.get("shortNames", [])
                assert list(resource.categories) == row.get("categories", [])
                assert resource.storage_version_hash == row.get("storageVersionHash", "")
    assert seen == len(builtin_resources()) + len(resources.builtin_subresources())


def test_names() -> None:
    assert (PODS.group_version, PODS.group_resource, PODS.list_kind) == ("v1", "pods", "PodList")
    assert (DEPLOYMENTS.api_version, DEPLOYMENTS.group_resource) == ("apps/v1", "deployments.apps")
    assert EVENTS.group == ""


@pytest.mark.parametrize("resource", builtin_resources(), ids=lambda r: r.group_resource)
def test_a_kind_leads_back_to_its_resource(resource: resources.Resource) -> None:
    found = resources.for_kind(resource.api_version, resource.kind)
    assert found is not None
    assert found.kind == resource.kind


def test_what_is_not_there() -> None:
    assert resources.lookup("apps", "v1", "pods") is None
    assert resources.for_kind("v1", "Nope") is None
    assert resources.subresource(PODS, "scale") is None
