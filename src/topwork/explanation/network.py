"""The classifier that a model ships, from its square input on: run, cut at a stage, or with shuffled weights.

Everything is read out of ``model.onnx`` itself, so that what is explained cannot differ from what answers.
"""

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from topwork.backbones.nodes import IR_VERSION
from topwork.backbones.spec import FEATURES, LOGITS
from topwork.errors import ModelError, UsageError
from topwork.features.parallel import ordered_map
from topwork.features.session import cores, open_session, run
from topwork.model import Model
from topwork.registry import closest

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

_BATCH = 8
"""Most pictures a run: larger batches are no faster on a CPU and take more memory; few are spread over the cores."""
_LEARNED = ("Conv", "Gemm", "MatMul")
"""Operators with a weight and perhaps a bias, their second and third input."""
SHUFFLED = 0.25
"""Share of the layers, from the last, whose weights are shuffled."""


def network_of(model: Model) -> "ClassifierNetwork":
    """The network of a model, read out of the graph that it answers with; ModelError where topwork did not build it.

    >>> from topwork.model import load
    >>> network_of(load("imagenet:tf_efficientnet_lite0")).stages[-2:]
    ('blocks.6', 'last_map')
    """
    network = ClassifierNetwork(onnx.load_from_string(model.graph), model.check_size)
    if not network.stages:
        raise _foreign()
    return network


class ClassifierNetwork:
    """A classifier's graph in three parts: picture -> square input, square input -> class scores -> probabilities.

    >>> from topwork.model import load
    >>> network = network_of(load("imagenet:tf_efficientnet_lite0"))
    >>> x = network.square(np.zeros((100, 80, 3), np.uint8))
    >>> x.shape, network.scores(x[None]).shape, network.heatmap(x[None]).shape
    ((3, 224, 224), (1, 1000), (1, 1000, 7, 7))
    """

    def __init__(self, model: onnx.ModelProto, check_size: Callable[[Pixels], None] = lambda _: None) -> None:
        self.model = model
        self._check_size = check_size
        self._makers = {name: node for node in model.graph.node for name in node.output}
        try:
            self.source = _square_input(model.graph)
            """Name of the network's input ``[n, 3, h, w]``, which the preprocessing makes."""
            self.scores_name = self._scores_name()
            self.head_input = self._head_input()
            """The network's output that the head takes, and its copy of length 1 if the head takes that, else None."""
        except (LookupError, StopIteration, ValueError) as error:
            raise _foreign() from error
        self._of_stages: dict[str, Any] = {}
        self.has_heatmap = any(output.name == "heatmap" for output in model.graph.output)

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the feature maps that can be asked for, from the first to the last."""
        nodes = self._network_nodes()
        inner = [name for node in nodes for name in node.output if not _is_inner(name)]
        return tuple(name for name in inner if name not in (FEATURES, LOGITS, self.scores_name))

    def square(self, pixels: Pixels) -> Floats:
        """The network's input ``[3, size, size]`` for a picture ``[h, w, 3] uint8``; for ``whole`` in its own shape."""
        self._check_size(pixels)
        [found] = run(self._preprocessing, None, {"image": pixels[None]})
        if found.ndim != 4 or found.shape[:2] != (1, 3) or not found.size:
            raise _foreign()
        square: Floats = found[0]
        return square

    def scores(self, squares: Floats) -> Floats:
        """Class scores ``[n, c]``, neither calibrated nor made probabilities, of square inputs."""
        return self._run(squares, self.scores_name)[0]

    def probabilities(self, squares: Floats) -> Floats:
        """Calibrated probabilities ``[n, c]``, as ``predict`` gives them, of square inputs ``[n, 3, size, size]``."""
        return self._run(squares, "probabilities")[0]

    def answers(self, squares: Floats) -> tuple[Floats, Floats]:
        """Class scores and probabilities, both ``[n, c]``, in one run."""
        scores, probabilities = self._run(squares, self.scores_name, "probabilities")
        if scores.ndim != 2 or scores.shape != probabilities.shape or len(scores) != len(squares):
            raise _foreign()
        return scores, probabilities

    def heatmap(self, squares: Floats) -> Floats:
        """The class activation maps ``[n, c, h, w]`` in closed form; see ``has_heatmap``."""
        return _maps_of(self._maps, squares, self.source)

    def stage_map(self, stage: str, squares: Floats) -> Floats:
        """The feature maps ``[n, c, h, w]`` of a stage for square inputs."""
        if stage not in self._of_stages:
            self._of_stages[stage] = open_session(part(self.model, self.source, [stage]))
        return _maps_of(self._of_stages[stage], squares, self.source)

    def of_channels(self, stage: str, place: tuple[int, int]) -> "ClassifierNetwork":
        """The network up to a stage, whose "class scores" are the values of its channels at a place (row and column).

        They stand in the place of the probabilities too.
        """
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        kept = _nodes_of(self.model.graph, [stage])
        del model.graph.node[:], model.graph.output[:]
        model.graph.node.extend(kept)
        bounds = {"starts": place, "ends": (place[0] + 1, place[1] + 1), "axes": (2, 3)}
        names = [f"channel_{name}" for name in bounds]
        for name, values in zip(names, bounds.values(), strict=True):
            model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
        model.graph.node.append(helper.make_node("Slice", [stage, *names], ["channel_cell"]))
        model.graph.node.append(helper.make_node("Flatten", ["channel_cell"], ["channel_scores"]))
        model.graph.node.append(helper.make_node("Identity", ["channel_scores"], ["probabilities"]))
        return ClassifierNetwork(model)

    def shuffled(self, seed: int) -> "ClassifierNetwork":
        """The same network with the weights and biases of its last quarter of layers in random order; the head stays.

        At least one layer is shuffled. The first layers stay, because a map that only follows the edges they find looks
        the same whatever comes later, and would not be told from others if all were shuffled.
        """
        random = np.random.default_rng(seed)
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        layers = [node for node in self._network_nodes() if node.op_type in _LEARNED]
        last = layers[-max(1, round(len(layers) * SHUFFLED)) :]
        names = {name for node in last for name in node.input[1:3]}
        for tensor in model.graph.initializer:
            if tensor.name in names:
                array = numpy_helper.to_array(tensor)
                tensor.CopyFrom(
                    numpy_helper.from_array(random.permuted(array.ravel()).reshape(array.shape), tensor.name)
                )
        return ClassifierNetwork(model)

    def _run(self, squares: Floats, *outputs: str) -> list[Floats]:
        together = min(_BATCH, max(1, -(-len(squares) // cores())))
        batches = (squares[start : start + together] for start in range(0, len(squares), together))
        found = ordered_map(lambda batch: run(self._answers, list(outputs), {self.source: batch}), batches)
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]

    @cached_property
    def _preprocessing(self) -> Any:
        return open_session(part(self.model, "image", [self.source]))

    @cached_property
    def _answers(self) -> Any:
        return open_session(part(self.model, self.source, [self.scores_name, "probabilities"]))

    @cached_property
    def _maps(self) -> Any:
        return open_session(part(self.model, self.source, ["heatmap"]))

    def _scores_name(self) -> str:
        before = self._makers["probabilities"].input[0]
        maker = self._makers[before]
        return str(maker.input[0] if maker.op_type == "Mul" else before)

    def _head_input(self) -> tuple[str, str | None]:
        taken = self._makers[self.scores_name].input[0]
        maker = self._makers[taken]
        if maker.op_type == "Div" and self._makers[maker.input[1]].op_type == "Max":
            return maker.input[0], taken
        return taken, None

    def _network_nodes(self) -> list[onnx.NodeProto]:
        return [node for node in self.model.graph.node if _is_inner(node.name)]


def _foreign() -> ModelError:
    return ModelError("expected a model whose graph topwork built, but it is built otherwise; fit the model again")


def _maps_of(session: Any, squares: Floats, source: str) -> Floats:
    """The only output of a part of the network for square inputs, which is a map ``[n, c, h, w]``."""
    found: Floats
    [found] = run(session, None, {source: squares})
    if found.ndim != 4 or len(found) != len(squares) or not found.size:
        raise _foreign()
    return found


def _is_inner(name: str) -> bool:
    """Whether a value or node was included with the network: those are called ``g24_...``, see ``nodes.include``."""
    place, line, _ = name.partition("_")
    return bool(line) and place[:1] == "g" and place[1:].isdigit()


def _square_input(graph: onnx.GraphProto) -> str:
    """What the preprocessing ends in: pixels are cast to float, then ``(x - mean) * scale``."""
    first = next(place for place, node in enumerate(graph.node) if node.op_type == "Cast")
    cast, minus, times = graph.node[first : first + 3]
    if [minus.op_type, times.op_type] != ["Sub", "Mul"] or [minus.input[0], times.input[0]] != [
        cast.output[0],
        minus.output[0],
    ]:
        raise _foreign()
    return str(times.output[0])


def part(model: onnx.ModelProto, source: str, targets: Iterable[str]) -> bytes:
    """The part of a graph between a value and some others, serialised; its values keep their names.

    >>> from topwork.model import load
    >>> network = network_of(load("imagenet:tf_efficientnet_lite0"))
    >>> [node.name for node in onnx.load_from_string(part(network.model, "blocks.6", ["features"])).graph.output]
    ['features']
    """
    targets = list(targets)
    nodes = _nodes_of(model.graph, targets, source)
    needed = {name for node in nodes for name in node.input}
    kind = onnx.TensorProto.UINT8 if source == "image" else onnx.TensorProto.FLOAT
    shape: list[str | int | None] = ["n", "h", "w", 3] if source == "image" else ["n", 3, "h", "w"]
    graph = helper.make_graph(
        nodes,
        "part",
        [helper.make_tensor_value_info(source, kind, shape)],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in targets],
        initializer=[tensor for tensor in model.graph.initializer if tensor.name in needed],
    )
    cut = helper.make_model(graph, opset_imports=model.opset_import)
    cut.ir_version = IR_VERSION
    return bytes(cut.SerializeToString())


def _nodes_of(graph: onnx.GraphProto, targets: Iterable[str], source: str = "") -> list[onnx.NodeProto]:
    """The nodes that compute some values, in their order, back to ``source`` or to the graph's inputs."""
    nodes, needed = [], set(targets)
    for node in reversed(graph.node):
        if needed.intersection(node.output) and source not in node.output:
            nodes.append(node)
            needed.update(node.input)
    return nodes[::-1]


def check_stage(network: ClassifierNetwork, layer: str) -> str:
    """``layer`` itself; UsageError with the names of the stages where there is none of that name.

    >>> from topwork.model import load
    >>> check_stage(network_of(load("imagenet:tf_efficientnet_lite0")), "blocks.3")
    'blocks.3'
    """
    if layer not in network.stages:
        raise UsageError(f"the network has no stage {layer!r}: {closest(layer, network.stages)}")
    return layer
