"""Fingerprints, errors and progress."""

import dataclasses
import hashlib
import inspect
import io
import re
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topwork import errors, fingerprint, progress
from topwork.recipe import Recipe


@given(st.binary())
def test_fingerprint_of_bytes_is_sha256(data: bytes) -> None:
    assert fingerprint.of_bytes(data) == hashlib.sha256(data).hexdigest()


PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=10,
)


def turned(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(list(value))}
    return [turned(item) for item in value] if isinstance(value, list) else value


@settings(deadline=None)
@given(PLAIN)
def test_fingerprint_does_not_depend_on_the_order_of_keys(value: Any) -> None:
    assert fingerprint.of_object(value) == fingerprint.of_object(turned(value))


@pytest.mark.parametrize("seed", [0, 1])
def test_every_setting_of_a_recipe_counts(seed: int) -> None:
    recipe = Recipe(seed=seed)
    others = {
        "backbone": "vgg19",
        "head": "svm",
        "features": "logits",
        "geometry": "pad",
        "folds": 7,
        "seed": 9,
        "coverage": 0.9,
        "group_duplicates": False,
        "duplicate_keys": False,
        "max_pixels": 5,
        "head_limit": 500,
    }
    found = {fingerprint.of_object(dataclasses.replace(recipe, **{name: value})) for name, value in others.items()}
    assert len(found | {fingerprint.of_object(recipe)}) == len(others) + 1
    assert fingerprint.of_object(Recipe(seed=seed)) == fingerprint.of_object(recipe)


def test_types_and_order_count() -> None:
    @dataclass
    class Left:
        x: int = 1

    @dataclass
    class Right:
        x: int = 1

    values: list[Any] = [Left(), Right(), {"x": 1}, [1, 2], [2, 1], 1, "1", 1.5, None, True, [[1], 2], [1, [2]]]
    assert len({fingerprint.of_object(value) for value in values}) == len(values)
    with pytest.raises(TypeError, match="cannot fingerprint a set"):
        fingerprint.of_object({1})


def test_the_error_tree_is_drawn_as_it_is() -> None:
    """Every class stands in the docstring, indented below its base."""
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in inspect.getdoc(errors).splitlines():
        if match := re.match(r"^\s*([│├└─ ]*)([A-Z]\w*Error)\b", line):
            depth = (len(match[1]) + 3) // 4
            path = [*path[:depth], match[2]]
            drawn[match[2]] = path[-2] if depth else "Exception"
    classes = {n: c for n, c in vars(errors).items() if inspect.isclass(c) and not issubclass(c, Warning)}
    assert drawn == {name: cls.__bases__[0].__name__ for name, cls in classes.items()}
    assert all(cls.__doc__ for cls in classes.values())


class _Heard(progress.Silent):
    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def start(self, step: str, total: int | None = None) -> None:
        self.events.append(("start", step, total))

    def finish(self, step: str) -> None:
        self.events.append(("finish", step))


def test_a_step_is_finished_whatever_happens() -> None:
    heard = _Heard()
    with pytest.raises(ValueError, match="mine"), progress.step(heard, "reading", total=3):
        raise ValueError("mine")
    assert heard.events == [("start", "reading", 3), ("finish", "reading")]


class _Stream(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def test_bars_only_on_a_terminal_and_only_for_long_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(progress.for_stream(_Stream(terminal=False)), progress.Silent)
    bars = progress.for_stream(_Stream(terminal=True))
    assert isinstance(bars, progress.Terminal)
    with progress.step(bars, "quick", total=2):
        bars.advance("quick", 2)
    assert capsys.readouterr().err == ""
    slow = progress.Terminal(delay=-1)
    with progress.step(slow, "slow", total=2), progress.step(slow, "other"):
        slow.advance("slow")
        slow.advance("other")
    assert slow._bars is None
