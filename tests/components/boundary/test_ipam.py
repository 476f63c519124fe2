"""Addresses for sandboxes and blocks for nodes."""

from ipaddress import ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.components.boundary.cni import CniError
from understudy.components.boundary.ipam import CidrsExhausted, NodeCidrs, PodAddresses


def test_addresses_come_in_order_after_the_gateway() -> None:
    addresses = PodAddresses("10.244.1.0/24")
    first = addresses.allocate("a")
    assert (first.address, first.gateway) == ("10.244.1.2/24", "10.244.1.1")
    assert addresses.allocate("b").address == "10.244.1.3/24"
    assert addresses.owner_of("10.244.1.3") == "b"
    assert addresses.owner_of("10.244.1.9") is None
    assert addresses.owner_of("192.0.2.1") is None
    assert addresses.capacity == 253


def test_an_address_given_back_waits_for_its_turn() -> None:
    addresses = PodAddresses("10.0.0.0/29")
    given_out = [addresses.allocate(str(i)).address for i in range(5)]
    assert given_out == [f"10.0.0.{i}/29" for i in range(2, 7)]
    addresses.release("0")
    addresses.release("1")
    addresses.release("nobody")
    addresses.allocate("x")
    addresses.release("x")
    assert addresses.allocate("y").address == "10.0.0.3/29"


def test_exhaustion_and_a_second_add() -> None:
    addresses = PodAddresses("10.0.0.0/30")
    addresses.allocate("a")
    with pytest.raises(CniError, match=r"no IP addresses available in range set: 10\.0\.0\.1-10\.0\.0\.2"):
        addresses.allocate("b")
    with pytest.raises(CniError, match="duplicate allocation is not allowed"):
        addresses.allocate("a")
    addresses.release("a")
    assert addresses.allocate("b").address == "10.0.0.2/30"


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcdefgh")), max_size=60))
def test_no_address_has_two_owners_and_the_state_can_be_rebuilt(steps: list[tuple[bool, str]]) -> None:
    addresses, model = PodAddresses("10.0.0.0/29"), {}
    for take, owner in steps:
        if not take:
            addresses.release(owner)
            model.pop(owner, None)
        elif owner not in model and len(model) < 5:
            config = addresses.allocate(owner)
            assert config.address not in model.values()
            assert ip_interface(config.address).ip in ip_network("10.0.0.0/29")
            model[owner] = config.address
        else:
            with pytest.raises(CniError):
                addresses.allocate(owner)
    again = PodAddresses("10.0.0.0/29")
    for owner, address in model.items():
        again.hold(owner, address.partition("/")[0])
    for owner in "abcdefgh":
        held = again.address_of(owner)
        assert held == addresses.address_of(owner)
        assert (None if held is None else held.address) == model.get(owner)


def test_each_node_gets_a_block_of_its_own() -> None:
    cidrs = NodeCidrs("10.244.0.0/22")
    assert [cidrs.allocate(f"n{i}") for i in range(3)] == ["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24"]
    assert cidrs.allocate("n1") == "10.244.1.0/24"
    cidrs.release("n0")
    assert cidrs.allocate("n3") == "10.244.0.0/24"
    cidrs.hold("n4", "10.244.3.0/24")
    with pytest.raises(CidrsExhausted, match="all 4 are in use"):
        cidrs.allocate("n5")
