"""Commands in fake containers do what a small shell does."""

import pytest

from understudy.components.boundary.fake_effects import Effect, Output, Sleep
from understudy.components.boundary.fake_shell import Shell


def perform(
    *argv: str, env: dict[str, str] | None = None, effects_max: int = 50
) -> tuple[int | None, str, str, float]:
    """(exit code or None while it runs, stdout, stderr, seconds slept)."""
    shell = Shell(env or {}, {}, "web-1", lambda: "2026-01-01T00:00:00Z")
    effects = shell.run(argv)
    out, error, slept = "", "", 0.0
    for _ in range(effects_max):
        try:
            effect: Effect = next(effects)
        except StopIteration as stop:
            return stop.value, out, error, slept
        if isinstance(effect, Sleep):
            slept += effect.seconds
            if slept == float("inf"):
                return None, out, error, slept
        elif isinstance(effect, Output):
            if effect.error:
                error += effect.data.decode()
            else:
                out += effect.data.decode()
    return None, out, error, slept


@pytest.mark.parametrize(
    ("script", "code", "out"),
    [
        ("echo hello world", 0, "hello world\n"),
        ("echo -n a; echo 'b  c'; exit 3; echo never", 3, "ab  c\n"),
        ("true && echo yes || echo no", 0, "yes\n"),
        ("false && echo yes || echo no", 0, "no\n"),
        ("false; echo $?", 0, "1\n"),
        ("echo \"$NAME-$MISSING-${MISSING:-d}\" '$NAME' $(hostname)", 0, "n-m--d $NAME web-1\n"),
        ("i=0; while [ $i -lt 3 ]; do echo $i; i=$((i + 1)); done", 0, "0\n1\n2\n"),
        ("for x in a b 'c d'; do echo -$x-; done", 0, "-a-\n-b-\n-c d-\n"),
        ("if [ -f /x ]; then echo there; elif true; then echo elif; else echo none; fi", 0, "elif\n"),
        ("touch /tmp/healthy; cat /tmp/healthy && echo ok; rm -f /tmp/healthy; cat /tmp/healthy", 1, "ok\n"),
        ("echo one > /f; echo two >> /f; cat /f | grep tw", 0, "two\n"),
        ("(echo a; exit 4); echo $? $((2 * (3 + 4) % 5))", 0, "a\n4 4\n"),
        ("{ echo a; exit 4; }; echo never", 4, "a\n"),
        ("while true; do break; done; echo out", 0, "out\n"),
        ("! false", 0, ""),
        ("echo a # comment\necho b", 0, "a\nb\n"),
        ("sleep 1 & wait; echo done", 0, "done\n"),
        ("X=1 printenv X; printenv X", 1, "1\n"),
    ],
)
def test_a_script_prints_and_exits(script: str, code: int, out: str) -> None:
    assert perform("sh", "-c", script, env={"NAME": "n-m"})[:2] == (code, out)


def test_sleep_adds_up_and_infinity_never_ends() -> None:
    assert perform("sh", "-c", "sleep 1.5; sleep 2m") == (0, "", "", 121.5)
    assert perform("sleep", "infinity")[0] is None
    assert perform("tail", "-f", "/dev/null")[0] is None


def test_a_loop_that_never_sleeps_still_takes_time() -> None:
    code, _, _, slept = perform("sh", "-c", "while :; do :; done", effects_max=1000)
    assert code is None
    assert slept == pytest.approx(1.0)


def test_mistakes_are_told_on_standard_error() -> None:
    assert perform("sh", "-c", "nope --x")[::2] == (127, "sh: nope: not found\n")
    code, _, error, _ = perform("sh", "-c", "echo 'unfinished")
    assert (code, error) == (2, "sh: syntax error: unterminated quoted string\n")
    assert perform("sh", "-c", "case x in esac")[0] == 2
    assert perform("sh", "-c", "echo to-error >&2")[1:3] == ("", "to-error\n")
