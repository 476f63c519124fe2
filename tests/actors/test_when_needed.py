"""Fields that are made at their first use."""

from typing import Any

from attrs import define

from understudy.actors.when_needed import WhenNeeded


@define(eq=False)
class Owner:
    made: dict[str, Any] | None = None

    names = WhenNeeded[list[str]](list)
    ages = WhenNeeded[dict[str, int]](dict)


def test_nothing_is_made_before_it_is_used_and_then_it_stays() -> None:
    owner, other = Owner(), Owner()
    assert owner.made is None
    owner.names.append("ann")
    assert owner.names == ["ann"] and owner.made == {"names": ["ann"]}
    assert other.names == [], "each owner has its own"


def test_it_can_be_replaced() -> None:
    owner = Owner()
    owner.ages = {"ann": 7}
    owner.ages["bob"] = 8
    assert owner.ages == {"ann": 7, "bob": 8}
