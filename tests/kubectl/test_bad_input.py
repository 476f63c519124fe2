"""What kubectl shows when the user is wrong."""

import pytest

from .conftest import Kubectl
from .test_main_job import DEPLOYMENT, POD


def refused(kubectl: Kubectl, manifest: str, *options: str) -> str:
    """What kubectl says when a manifest is refused."""
    done = kubectl.run("create", "-f", "-", *options, stdin=manifest)
    assert done.returncode == 1, done.stdout
    return done.stderr


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (POD.replace("kind: Pod", "kind: Podd"), 'no matches for kind "Podd"'),
        (POD.replace("image:", "imagee:"), 'unknown field "spec.containers[0].imagee"'),
        (POD.replace("    image: nginx:1.27\n", ""), "spec.containers[0].image: Required value"),
        (POD.replace("name: web\n  labels", "name: Web_1\n  labels"), "metadata.name: Invalid value"),
        (
            DEPLOYMENT.replace("{app: site}}\n  template", "{app: other}}\n  template"),
            "does not match template",
        ),
        (POD.replace("containers:", "containers: [}"), "error parsing"),
    ],
)
def test_a_manifest_is_refused_with_the_place(kubectl: Kubectl, manifest: str, words: str) -> None:
    assert words in refused(kubectl, manifest)
    assert kubectl("get", "pods,deployments", check=False).startswith("No resources found")


def test_a_bad_quantity_names_its_field(kubectl: Kubectl) -> None:
    manifest = POD + "    resources: {requests: {cpu: lots}}\n"
    said = refused(kubectl, manifest)
    assert "quantities must match the regular expression" in said


def test_warnings_are_shown(kubectl: Kubectl) -> None:
    manifest = POD.replace("image:", "imagee: x\n    image:")
    done = kubectl.run("create", "-f", "-", "--validate=warn", stdin=manifest)
    assert done.returncode == 0, done.stderr
    assert 'Warning: unknown field "spec.containers[0].imagee"' in done.stderr


def test_names_that_are_taken_and_things_that_are_not_there(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "a")
    assert "(AlreadyExists)" in kubectl(
        "create", "configmap", "a", check=False
    ) or "already exists" in kubectl("create", "configmap", "a", check=False)
    assert '(NotFound): pods "nobody" not found' in kubectl("get", "pod", "nobody", check=False)
