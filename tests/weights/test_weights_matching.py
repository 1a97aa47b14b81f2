"""Weights are taken for a network only where names and shapes agree."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topwork.errors import BackboneError
from topwork.weights.matching import fit

Shapes = dict[str, tuple[int, ...]]

some_shapes = st.dictionaries(
    st.text("abc.", min_size=1, max_size=5), st.lists(st.integers(1, 3), max_size=3).map(tuple), min_size=1, max_size=6
)


@given(some_shapes, st.randoms())
def test_tensors_come_back_in_the_order_of_the_network(shapes: Shapes, random: object) -> None:
    names = list(shapes)
    random.shuffle(names)  # type: ignore[attr-defined]
    given_tensors = {name: np.full(shapes[name], 1.0, np.float32) for name in names}
    found = fit(given_tensors, shapes)
    assert list(found) == list(shapes)
    assert all(found[name] is given_tensors[name] for name in shapes)


@given(some_shapes, st.data())
def test_one_wrong_tensor_is_named_with_both_shapes(shapes: Shapes, data: st.DataObject) -> None:
    tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    name = data.draw(st.sampled_from(sorted(shapes)))
    wrong = data.draw(st.sampled_from(["missing", "larger", "too many"]))
    expected, got = list(shapes[name]), [*shapes[name], 2]
    if wrong == "missing":
        del tensors[name]
        said = f"expected {name} {expected}, got none of that name; 1 tensor is wrong in all"
    elif wrong == "larger":
        tensors[name] = np.zeros(got, np.float32)
        said = f"expected {name} {expected}, got {got}; 1 tensor is wrong in all"
    else:
        tensors["other"] = np.zeros(2, np.float32)
        said = "expected no tensor other, got [2]; 1 tensor is wrong in all"
    with pytest.raises(BackboneError, match=re.escape(said)):
        fit(tensors, shapes)


def test_all_wrong_tensors_are_counted() -> None:
    tensors = {"b": np.zeros(3), "x": np.zeros(1), "c": np.zeros(2)}
    with pytest.raises(BackboneError, match=r"expected a \[1\], got none of that name; 3 tensors are wrong"):
        fit(tensors, {"a": (1,), "b": (2,), "c": (2,)})


def test_counters_of_batch_norms_may_be_missing_or_too_many() -> None:
    weight = np.ones(2, np.float32)
    shapes: Shapes = {"norm.weight": (2,), "norm.num_batches_tracked": ()}
    found = fit({"norm.weight": weight}, shapes)
    assert found["norm.num_batches_tracked"].shape == ()
    assert found["norm.num_batches_tracked"].dtype == np.int64
    assert (
        fit({"norm.weight": weight, "norm.num_batches_tracked": np.array(9)}, shapes)["norm.num_batches_tracked"] == 9
    )
    assert list(fit({"w": weight, "norm.num_batches_tracked": np.array(9)}, {"w": (2,)})) == ["w"]
    with pytest.raises(BackboneError, match=r"expected norm\.num_batches_tracked \[\], got \[3\]"):
        fit({"norm.weight": weight, "norm.num_batches_tracked": np.zeros(3)}, shapes)


def test_a_network_of_torch_takes_what_fits() -> None:
    torch = pytest.importorskip("torch")
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    tensors = {name: np.full(shape, 2.0, np.float32) for name, shape in shapes.items() if not name.endswith("tracked")}
    network.load_state_dict(
        {name: torch.from_numpy(array) for name, array in fit(tensors, shapes).items()}, strict=True
    )
    assert (network[0].weight == 2).all()
