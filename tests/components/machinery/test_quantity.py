"""Quantities: exact arithmetic, and the canonical form the server rewrites them to."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.components.machinery import quantity
from understudy.components.machinery.quantity import QuantityError

SUFFIXES = ["n", "u", "m", "", "k", "M", "G", "T", "P", "Ki", "Mi", "Gi", "Ti", "e3", "E-3", "e+2"]
texts = st.builds(
    lambda sign, whole, fraction, suffix: f"{sign}{whole}{fraction}{suffix}",
    st.sampled_from(["", "-", "+"]),
    st.integers(0, 10**6).map(str),
    st.sampled_from(["", ".5", ".25", ".001", "."]),
    st.sampled_from(SUFFIXES),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1000m", "1"),
        ("0.1", "100m"),
        ("1.5", "1500m"),
        ("1024Ki", "1Mi"),
        ("0.5Gi", "512Mi"),
        ("1000Gi", "1000Gi"),
        ("1.5e3", "1500"),
        ("12e6", "12e6"),
        ("1E", "1E"),
        ("-0", "0"),
        ("100n", "100n"),
        ("0.1n", "1n"),
        ("1023", "1023"),
        ("0.5Ki", "512"),
        ("0.3Ki", "307200m"),
        ("2000E", "2000E"),
        ("9Ei", f"{2**63 - 1}"),
    ],
)
def test_canonical_form(text: str, expected: str) -> None:
    assert quantity.canonical(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "1.1.M",
        "1+1.0M",
        "0.1mi",
        "0.1am",
        ".5i",
        "1i",
        "-3.01e-",
        " 1",
        "1 ",
        "1Kii",
        "1e",
        "1e1m",
    ],
)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(QuantityError):
        quantity.parse(text)


def test_a_bare_exponent_letter_has_no_number() -> None:
    with pytest.raises(QuantityError, match="suffix"):
        quantity.parse("1e")


def test_a_huge_exponent_is_refused_and_not_computed() -> None:
    with pytest.raises(QuantityError):
        quantity.parse("1e999999999")


@given(texts)
def test_canonical_is_a_fixed_point_of_the_same_value(text: str) -> None:
    once = quantity.canonical(text)
    assert quantity.canonical(once) == once
    assert quantity.parse(once) == quantity.parse(text)


@given(texts, texts)
def test_arithmetic_is_exact(left: str, right: str) -> None:
    assert quantity.parse(quantity.add(left, right)) == quantity.parse(left) + quantity.parse(right)
    assert quantity.parse(quantity.subtract(left, right)) == quantity.parse(left) - quantity.parse(right)
    assert quantity.compare(left, right) == (quantity.parse(left) > quantity.parse(right)) - (
        quantity.parse(left) < quantity.parse(right)
    )


@given(texts)
def test_rounding_goes_away_from_zero_by_less_than_a_step(text: str) -> None:
    value, rounded = quantity.parse(text), quantity.parse(quantity.round_up(text))
    assert abs(value) <= abs(rounded) < abs(value) + Fraction(1, 1000)
    assert rounded * 1000 == int(rounded * 1000)


def test_sum_takes_the_format_of_the_first_that_is_not_zero() -> None:
    assert quantity.total(["0", "1Gi", "1024Mi"]) == "2Gi"
    assert quantity.total([]) == "0"


def test_recorded_pods_hold_what_rounding_up_gives(facts_dir: Path) -> None:
    golden = json.loads((facts_dir / "kubernetes" / "golden" / "defaulting.json").read_text())
    checked = 0
    for scenario in golden["scenarios"]:
        for exchange in scenario["exchanges"]:
            sent, answered = exchange["request"].get("body"), exchange["response"]["body"]
            if (
                not isinstance(sent, dict)
                or sent.get("kind") != "Pod"
                or exchange["response"]["status"] != 201
            ):
                continue
            for before, after in zip(sent["spec"]["containers"], answered["spec"]["containers"], strict=True):
                for section in ("limits", "requests"):
                    for name, text in before.get("resources", {}).get(section, {}).items():
                        assert quantity.round_up(text) == after["resources"][section][name]
                        checked += 1
    assert checked > 20
