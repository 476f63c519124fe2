"""The network plugin of one fake node: it hands out addresses from the node's pod CIDR, and nothing more."""

from ipaddress import IPv4Address, ip_network

from attrs import evolve

from understudy.actors import Actor, handles

from .cni import (
    Add,
    Attachment,
    Check,
    Checked,
    CniCode,
    CniError,
    CollectGarbage,
    Del,
    Detached,
    Interface,
    NetworkPlugin,
    Result,
    Route,
)
from .ipam import PodAddresses

_Key = tuple[str, str]
"""Sandbox id and interface name."""


class FakeCni(Actor[NetworkPlugin]):
    """ADD, DEL, CHECK and GC for one node."""

    def __init__(self) -> None:
        self.addresses: dict[str, PodAddresses] = {}
        self.attached: dict[_Key, tuple[str, Result]] = {}
        """With the subnet that each attachment's address is from."""

    @handles(Add)
    def add(self, message: Add) -> Result:
        attachment = message.attachment
        key = _key(attachment)
        if key in self.attached:
            raise CniError(
                CniCode.INTERNAL,
                f"container {attachment.container_id} already has an interface {attachment.ifname}",
            )
        subnet = message.config.subnet
        config = self._addresses(subnet).allocate(attachment.container_id)
        interface = Interface(attachment.ifname, _mac(config.address), attachment.netns)
        result = Result((evolve(config, interface=0),), (interface,), (Route("0.0.0.0/0", config.gateway),))
        self.attached[key] = (subnet, result)
        return result

    def _addresses(self, subnet: str) -> PodAddresses:
        if subnet not in self.addresses:
            try:
                network = ip_network(subnet)
            except ValueError as error:
                raise CniError(CniCode.INVALID_NETWORK_CONFIG, "invalid subnet", str(error)) from None
            if network.version != 4 or network.num_addresses < 4:
                raise CniError(CniCode.INVALID_NETWORK_CONFIG, f"cannot allocate from the subnet {subnet}")
            self.addresses[subnet] = PodAddresses(subnet)
        return self.addresses[subnet]

    @handles(Del)
    def delete(self, message: Del) -> Detached:
        self._free(_key(message.attachment))
        return Detached()

    def _free(self, key: _Key) -> None:
        known = self.attached.pop(key, None)
        if known is not None:
            self.addresses[known[0]].release(key[0])

    @handles(Check)
    def check(self, message: Check) -> Checked:
        known = self.attached.get(_key(message.attachment))
        if known is None:
            raise CniError(
                CniCode.UNKNOWN_CONTAINER, f"container {message.attachment.container_id} is not attached"
            )
        if known[1].ips != message.prev_result.ips:
            raise CniError(CniCode.INTERNAL, "the addresses are not those of the previous result")
        return Checked()

    @handles(CollectGarbage)
    def collect_garbage(self, message: CollectGarbage) -> Detached:
        for key in [key for key in self.attached if key[0] not in message.valid_attachments]:
            self._free(key)
        return Detached()


def _key(attachment: Attachment) -> _Key:
    return attachment.container_id, attachment.ifname


def _mac(address: str) -> str:
    """A locally administered hardware address made from the IP address, as bridges make them."""
    octets = IPv4Address(address.partition("/")[0]).packed
    return "0a:58:" + ":".join(f"{octet:02x}" for octet in octets)
