"""What names may look like."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.components.machinery import names

LABELS = st.from_regex(r"\A[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")


@given(LABELS)
def test_a_label_is_a_subdomain_too(label: str) -> None:
    assert names.dns1123_label(label) == names.dns1123_subdomain(label) == []


@given(st.lists(LABELS, min_size=1, max_size=3))
def test_labels_joined_by_dots_are_a_subdomain(labels: list[str]) -> None:
    assert names.dns1123_subdomain(".".join(labels)) == []
    if len(labels) > 1:
        assert "must not contain dots" in names.dns1123_label(".".join(labels))


@given(st.text(max_size=80), st.integers())
def test_what_is_generated_from_a_name_is_one_if_the_base_with_anything_behind_it_is(
    base: str, seed: int
) -> None:
    name = names.generate_name(base, random.Random(seed))
    assert len(name) <= names.LABEL_MAX
    assert name.startswith(base[:58])
    if base and not names.dns1123_label(base[:58] + "x"):
        assert names.dns1123_label(name) == []


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("app", 0),
        ("example.com/App_1", 0),
        ("", 2),
        ("/app", 1),
        ("a/b/c", 1),
        ("A_b/app", 1),
        ("x" * 64, 1),
        ("-app", 1),
    ],
)
def test_qualified_names(text: str, problems: int) -> None:
    assert len(names.qualified_name(text)) == problems


@pytest.mark.parametrize("text", ["http", "a", "a-1", "1a"])
def test_port_names(text: str) -> None:
    assert names.port_name(text) == []


@pytest.mark.parametrize("text", ["", "80", "A", "a--b", "-a", "a-", "sixteen-letters-x"])
def test_no_port_names(text: str) -> None:
    assert names.port_name(text)


@pytest.mark.parametrize("text", ["..", ".", "..a", "a/b", "a b", ""])
def test_no_config_keys(text: str) -> None:
    assert names.config_key(text)


@pytest.mark.parametrize("text", ["1.2.3.4", "::1", "2001:db8::ffff"])
def test_addresses(text: str) -> None:
    assert names.ip_address(text) == []


@pytest.mark.parametrize("text", ["1.2.3", "01.2.3.4", "fe80::1%eth0", "x", "1.2.3.4/8", ""])
def test_no_addresses(text: str) -> None:
    assert names.ip_address(text)


@pytest.mark.parametrize("text", ["10.0.0.0/8", "fd00::/64", "10.1.2.3/16"])
def test_networks(text: str) -> None:
    assert names.cidr(text) == []


@pytest.mark.parametrize("text", ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/255.0.0.0", "x/8"])
def test_no_networks(text: str) -> None:
    assert names.cidr(text)
