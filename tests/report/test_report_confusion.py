"""Classes that are taken for each other stand side by side, and those that are confused most are seen at once."""

from typing import Any

import numpy as np
import pytest

from topwork.report.performance import BLOCK_CLASSES, confused_block, confusion, confusion_order


def matrix(n: int, pairs: list[tuple[int, int, int]]) -> list[list[int]]:
    """Ten right of each class, and ``(true, said, count)``."""
    found = 10 * np.eye(n, dtype=int)
    for true, said, count in pairs:
        found[true, said] += count
    return [[int(cell) for cell in row] for row in found]


def view(n: int, pairs: list[tuple[int, int, int]]) -> dict[str, Any]:
    found = confusion({"labels": [f"class {k}" for k in range(n)], "matrix": matrix(n, pairs)})
    assert found is not None
    return found


@pytest.mark.parametrize("pair", [(0, 5), (2, 7), (6, 1)])
def test_confused_classes_are_neighbours(pair: tuple[int, int]) -> None:
    order = confusion_order(matrix(8, [(*pair, 6), (3, 4, 1)]))
    assert sorted(order) == list(range(8))
    assert abs(order.index(pair[0]) - order.index(pair[1])) == 1


def test_a_matrix_without_a_mistake_or_a_picture_has_an_order_too() -> None:
    for rows in (matrix(6, []), [[0] * 6] * 6, matrix(1, []), []):
        assert sorted(confusion_order(rows)) == list(range(len(rows)))


def test_the_block_is_of_the_most_confused_pairs_and_bounded() -> None:
    assert confused_block(matrix(30, [(3, 9, 5), (20, 4, 2)]), 4) == [3, 4, 9, 20]
    assert confused_block(matrix(30, [(3, 9, 5), (20, 4, 2)]), 3) == [3, 9]
    assert confused_block(matrix(30, [])) == []
    many = matrix(60, [(k, (k + 1) % 60, 3) for k in range(60)])
    assert len(confused_block(many)) <= BLOCK_CLASSES


def test_few_classes_are_a_table_of_numbers_in_that_order() -> None:
    found = view(8, [(0, 5, 6)])
    assert found["grid"] is found["block"] is None
    at = [found["labels"].index(f"class {k}") for k in (0, 5)]
    assert abs(at[0] - at[1]) == 1
    assert found["table"][at[0]]["cells"][at[1]]["n"] == 6


def test_of_forty_classes_the_confused_ones_come_first_and_the_whole_is_there() -> None:
    found = view(40, [(3, 9, 5), (20, 4, 2)])
    assert found["block"]["n"] == 4
    assert "others" in found["block"]["grid"]
    for label in range(40):
        assert f"<title>class {label}</title>" in found["grid"]
    assert found["pairs"][0] == {"label": "class 3", "as": "class 9", "n": 5, "of": 15}


def test_of_hundreds_of_classes_only_the_block_and_the_pairs_are_shown() -> None:
    found = view(300, [(3, 9, 5)])
    assert found["grid"] is found["table"] is None
    assert found["block"]["n"] == 2
