"""Whatever is sent, the answer is the client's fault or a success, and never a failure of the server.

The recorded requests are sent with random mistakes in their bodies: fields gone, of another type, or unknown.
"""

import copy
import json
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROUNDS = 250
VALUES: list[Any] = [
    *(None, 0, -1, 5, 1.5, 2**63, True, False),
    *("", "x", "1", "None", "-5", "10.96.0.50", "::1", "2024-01-01T00:00:00Z"),
    *([], {}, [{}], [None], ["a"], [[]], {"a": "b"}, {"a": None}, {"name": "a"}),
]

Path_ = list[Any]


def places(value: Any, path: Path_) -> list[Path_]:
    found = [path] if path else []
    if isinstance(value, dict):
        for key in value:
            found += places(value[key], [*path, key])
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += places(item, [*path, index])
    return found


def mistaken(body: Any, rng: random.Random) -> Any:
    """The body with one mistake."""
    body = copy.deepcopy(body)
    possible = places(body, [])
    if not possible:
        return body
    *parents, last = rng.choice(possible)
    container = body
    for step in parents:
        container = container[step]
    match rng.randrange(5):
        case 0:
            del container[last]
        case 1 if isinstance(container, dict):
            container[f"{last}x"] = 1
        case 2 if isinstance(container, list):
            container.append(copy.deepcopy(container[0]))
        case _:
            container[last] = copy.deepcopy(rng.choice(VALUES))
    return body


def can_be_mistaken(body: Any) -> bool:
    text = json.dumps(body)
    return isinstance(body, (dict, list)) and not any(
        special in text for special in ('"$raw"', '"$base64"', '"$repeat"')
    )


@pytest.mark.parametrize("seed", range(2))
def test_no_mistake_makes_the_server_fail(seed: int, facts_dir: Path, replaying: ModuleType) -> None:
    rng = random.Random(seed)
    told = [scenario for scenario in replaying.scenarios(facts_dir) if not scenario.needs_compaction]

    async def play(stage: Any) -> None:
        answers = 0
        for number in range(ROUNDS):
            scenario = rng.choice(told)
            await stage.set(number)
            for exchange in scenario.exchanges:
                request = exchange["request"]
                if "stream" in exchange or "watch" in exchange:
                    continue
                if can_be_mistaken(request.get("body")) and rng.random() < 0.6:
                    request = {**request, "body": mistaken(request["body"], rng)}
                answer, body = await stage.answered({**exchange, "request": request})
                answers += 1
                stage.bindings.differences(exchange["response"]["body"], body)  # binds names and versions
                if answer.status == 500:
                    assert "see the server's log" not in json.dumps(body), (scenario.identifier, request)
            await stage.strike(scenario)
        assert answers > 2 * ROUNDS

    replaying.on_stage(play)
