from importlib.metadata import EntryPoint

import pytest

from topwork import registry
from topwork.errors import UsageError
from topwork.registry import Registry, closest


def made() -> str:
    return "made by a plugin"


def test_a_name_that_is_taken_is_not_replaced() -> None:
    table: Registry[int] = Registry("thing")
    table.add("one", lambda: 1)
    with pytest.raises(ValueError, match="thing 'one' is registered already"):
        table.add("one", lambda: 2)
    assert table.get("one") == 1


def test_factories_are_lazy() -> None:
    table: Registry[int] = Registry("thing")
    table.add("bad", lambda: 1 // 0)
    assert table.names() == ["bad"]
    with pytest.raises(ZeroDivisionError):
        table.get("bad")


def test_unknown_names_get_the_closest_ones_or_all() -> None:
    table: Registry[int] = Registry("thing")
    for name in ("logistic", "svm"):
        table.add(name, lambda: 0)
    with pytest.raises(UsageError, match="there is no thing 'logistik': did you mean logistic"):
        table.get("logistik")
    with pytest.raises(UsageError, match="choose one of logistic, svm"):
        table.get("zzz")
    assert closest("svn", ["svm"]) == "did you mean svm?"


def test_plugins_are_loaded_once_and_may_not_take_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def points(*, group: str) -> list[EntryPoint]:
        asked.append(group)
        return [EntryPoint("extra", f"{__name__}:made", group)]

    monkeypatch.setattr(registry, "entry_points", points)
    table: Registry[str] = Registry("thing", plugins="topwork.things")
    table.add("own", lambda: "own")
    assert table.get("own") == "own"
    assert asked == []
    assert table.names() == ["own", "extra"]
    assert table.get("extra") == "made by a plugin"
    assert asked == ["topwork.things"]

    clash: Registry[str] = Registry("thing", plugins="topwork.things")
    clash.add("extra", lambda: "own")
    with pytest.raises(ValueError, match="registered already"):
        clash.names()
