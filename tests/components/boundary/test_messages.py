"""The boundary messages are frozen plain data that survive the codec's kind of round trip."""

import enum
import inspect
from collections.abc import Iterator
from types import ModuleType

import attrs
import pytest

from understudy.components.boundary import cni, cri, dataplane, dns_upstream, kubelet_api, name_server, podnet
from understudy.mailbox import decode, encode

MODULES = (cri, cni, dataplane, dns_upstream, kubelet_api, name_server, podnet)


def message_classes(module: ModuleType) -> Iterator[type]:
    for _, value in inspect.getmembers(module, inspect.isclass):
        is_protocol = not attrs.has(value) and not issubclass(value, Exception)
        if value.__module__ == module.__name__ and not issubclass(value, enum.Enum) and not is_protocol:
            yield value


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_every_class_is_frozen_attrs_data(module: ModuleType) -> None:
    classes = list(message_classes(module))
    assert classes
    for cls in classes:
        assert attrs.has(cls), cls
        names = [a.name for a in attrs.fields(attrs.resolve_types(cls))]
        if names:
            instance = cls.__new__(cls)
            with pytest.raises(attrs.exceptions.FrozenInstanceError):
                setattr(instance, names[0], None)


SANDBOX = cri.PodSandboxConfig(
    cri.PodSandboxMetadata("web-1", "uid-1", "default"), hostname="web-1", labels={"app": "web"}
)
SAMPLES = [
    cri.RunPodSandbox(SANDBOX),
    cri.CreateContainer(
        "s1",
        cri.ContainerConfig(
            cri.ContainerMetadata("web", 2),
            cri.ImageSpec("nginx:1.27"),
            command=("sh", "-c", "true"),
            envs=(("A", "1"),),
            mounts=(cri.Mount("/data", "/var/data", readonly=True),),
        ),
        SANDBOX,
    ),
    cri.LogLine(5, cri.LogStream.STDERR, b"\x00\xffbytes"),
    podnet.HttpAnswer(200, (("content-type", "text/plain"),), b"web-1"),
    kubelet_api.OpenSession(kubelet_api.SessionKind.EXEC, "default", "web-1", command=("sh",)),
    cri.ListContainers(state=cri.ContainerState.RUNNING, label_selector={"a": "b"}),
    cri.ImageStatusReply(None),
    cni.Result((cni.IPConfig("10.244.0.2/24", "10.244.0.1", 0),), (cni.Interface("eth0"),)),
    cni.Del(cni.Attachment("c", "", "default", "web-1", "uid-1"), prev_result=None),
    dataplane.ReplaceRules(
        dataplane.RuleSet(
            (
                dataplane.ServiceRule(
                    dataplane.ServicePortName("default", "web"),
                    dataplane.Protocol.TCP,
                    ("10.96.0.10",),
                    80,
                    cluster_endpoints=(dataplane.Endpoint("10.244.0.2", 8080),),
                ),
            )
        ),
        7,
    ),
    name_server.Query(b"\x00\x01"),
    dns_upstream.Exchange(b"\x00\x01", "tcp"),
    dataplane.Verdict(
        dataplane.Action.FORWARD, "10.244.0.2", 80, dataplane.ServicePortName("default", "web")
    ),
]


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_equal_from_the_wire(message: object) -> None:
    assert decode(encode(message)) == message


def test_errors_read_as_the_real_ones() -> None:
    error = cri.CriError(cri.CriCode.NOT_FOUND, "no such image")
    assert str(error) == "rpc error: code = NotFound desc = no such image"
    assert str(decode(encode(error))) == str(error), "a refusal crosses hosts"
    refused = decode(encode(podnet.ConnectionRefused("10.244.0.2", 80)))
    assert str(refused) == "dial tcp 10.244.0.2:80: connect: connection refused"
    with pytest.raises(cri.CriError) as caught:
        raise error
    assert caught.value.code is cri.CriCode.NOT_FOUND
    assert str(cni.CniError(cni.CniCode.INTERNAL, "no addresses", "range full")) == "no addresses: range full"
