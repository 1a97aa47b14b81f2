"""Exact receptive fields: what every operation of a network does to the window of pixels that a value can see.

Imports torch: only what looks into a network imports this module; ``summary`` runs networks with it.

A window is kept for every value, so that branches, gates, slices, concatenations and attention need no formula of their
own. For a chain of convolutions it is the usual recursion (Araujo et al., "Computing Receptive Fields of Convolutional
Neural Networks", Distill 2019): ``size += (kernel - 1) * stride``.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

_NOTHING, _EVERYTHING = math.inf, -math.inf


@dataclass(frozen=True)
class ReceptiveField:
    """What the values of a feature map see of the picture."""

    size: tuple[int, int]
    """Height and width in pixels of the smallest window that holds all pixels a value depends on; of the largest one
    where values differ. The padding around the picture counts as if the picture went on there, so that the size can
    exceed the picture's. Where each value depends on the whole picture by design (a mean over the map, a dense layer
    on it), it is the picture's."""
    stride: tuple[float, float] | None
    """Pixels from one value of the map to the next, down and across; None for what is no map any more."""
    whole_image: bool
    """Every value depends on the whole picture."""


@dataclass(frozen=True)
class Windows:
    """The windows of the values of a tensor, one entry for height, one for width.

    ``bounds``: ``[2, ...]``, the first pixel and the negative of the last one, so that a union of windows is a minimum;
    then the dimensions of the tensor, 1 where all values along one are alike. NaN: unknown. ``strides`` in pixels.
    """

    bounds: tuple[torch.Tensor, torch.Tensor]
    strides: tuple[float | None, float | None]


@dataclass(frozen=True)
class Call:
    """One operation of a network.

    ``args``: one for each of its parameters. ``of``: the windows of an argument, None where it does not depend on the
    picture. ``extent``: height and width of the picture.
    """

    func: Any
    args: Sequence[Any]
    results: Sequence[torch.Tensor]
    of: Callable[[Any], Windows | None]
    extent: tuple[int, int]

    @property
    def out(self) -> torch.Tensor:
        """The first result."""
        return self.results[0]

    @property
    def name(self) -> str:
        """The name that all variants of the operation share."""
        return str(self.func._overloadpacket.__name__)

    def argument(self, name: str) -> Any:
        """The argument with this name; None where the operation has no such argument."""
        names = [argument.name for argument in self.func._schema.arguments]
        return self.args[names.index(name)] if name in names else None

    def alone(self) -> Windows | None:
        """The windows of the first argument; None where another one depends on the picture too."""
        return self.of(self.args[0]) if len(self.seen()) == 1 else None

    def seen(self) -> list[Windows]:
        """The windows of all arguments that have some."""
        return [windows for argument in tree_leaves(self.args) if (windows := self.of(argument)) is not None]


def of_image(height: int, width: int) -> Windows:
    """The windows of a picture ``[1, channels, height, width]``: every pixel sees itself.

    >>> field_of(of_image(224, 224), (224, 224), is_map=True)
    ReceptiveField(size=(1, 1), stride=(1.0, 1.0), whole_image=False)
    """
    down, across = (torch.arange(n, dtype=torch.float32) for n in (height, width))
    bounds = torch.stack([down, -down])[:, None, None, :, None], torch.stack([across, -across])[:, None, None, None]
    return Windows(bounds, (1.0, 1.0))


def unknown(tensor: torch.Tensor) -> Windows:
    """Windows of which nothing is known.

    >>> field_of(unknown(torch.zeros(2, 3)), (224, 224), is_map=False) is None
    True
    """
    bound = torch.full((2, *(1,) * tensor.ndim), math.nan)
    return Windows((bound, bound), (None, None))


def follow(call: Call) -> list[Windows]:
    """The windows of the results of an operation, one of whose arguments depends on the picture.

    >>> x, y = torch.zeros(1, 3, 9, 9), torch.zeros(1, 3, 4, 4)
    >>> pooling = torch.ops.aten.avg_pool2d.default
    >>> call = Call(pooling, [x, [3, 3], [2, 2], [0, 0], False, True, None], [y], {x: of_image(9, 9)}.get, (9, 9))
    >>> field_of(follow(call)[0], (9, 9), is_map=True)
    ReceptiveField(size=(3, 3), stride=(2.0, 2.0), whole_image=False)
    """
    found = _rule(call.func)(call)
    if not isinstance(found, list):
        found = [found if result.shape == call.out.shape else None for result in call.results]
    return [windows or unknown(result) for windows, result in zip(found, call.results, strict=True)]


def field_of(windows: Windows, extent: tuple[int, int], *, is_map: bool) -> ReceptiveField | None:
    """The windows of a tensor as one receptive field, for pictures of ``extent``; None where they are unknown."""
    sizes = [float((1 - bound[0] - bound[1]).amax()) for bound in windows.bounds]
    if any(map(math.isnan, sizes)):
        return None
    height, width = (n if size == math.inf else int(max(size, 0.0)) for size, n in zip(sizes, extent, strict=True))
    down, across = windows.strides
    stride = (down, across) if is_map and down is not None and across is not None else None
    return ReceptiveField((height, width), stride, all(map(_all_cover, windows.bounds, extent)))


def _all_cover(bound: torch.Tensor, extent: int) -> bool:
    return bool(((bound[0] <= 0) & (-bound[1] >= extent - 1)).all())


def _settled(after: torch.Tensor, before: torch.Tensor, dims: Sequence[int], extent: int) -> torch.Tensor:
    """Everything, where values all along ``dims`` went into ones that see the whole picture and are no map."""
    joined = any(before.shape[dim + 1] > 1 for dim in dims) and _all_cover(after, extent)
    is_map = any(_stride_along(after, dim) for dim in range(after.ndim - 1))
    return torch.full_like(after, _EVERYTHING) if joined and not is_map else after


def _each(windows: Windows, change: Callable[[torch.Tensor, int], torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """``change(bound, axis)`` for height and width."""
    return change(windows.bounds[0], 0), change(windows.bounds[1], 1)


def _together(parts: Sequence[Windows], ndim: int) -> Windows:
    """The union in a tensor of ``ndim`` dimensions, by the rules of broadcasting."""

    def union(axis: int) -> torch.Tensor:
        bounds = [part.bounds[axis] for part in parts]
        return reduce(torch.minimum, [b.reshape(2, *(1,) * (ndim + 1 - b.ndim), *b.shape[1:]) for b in bounds])

    return Windows((union(0), union(1)), _common(parts))


def _common(parts: Sequence[Windows]) -> tuple[float | None, float | None]:
    down, across = (next((s for p in parts if (s := p.strides[axis]) is not None), None) for axis in (0, 1))
    return down, across


def _mixed(call: Call, value: Any, dims: Sequence[int], *, spread: bool = False) -> list[Windows]:
    """Every value from all along ``dims``, which stay with length 1; ``spread``: it is put back on the map.

    Nothing where the value does not depend on the picture.
    """
    windows = call.of(value)
    if windows is None:
        return []
    dims = [dim % value.ndim for dim in dims]

    def change(bound: torch.Tensor, axis: int) -> torch.Tensor:
        return _settled(bound.amin([dim + 1 for dim in dims], keepdim=True), bound, dims, call.extent[axis])

    places = zip(windows.strides, (value.ndim - 2, value.ndim - 1), strict=True)
    down, across = (stride if spread or place not in dims else None for stride, place in places)
    return [Windows(_each(windows, change), (down, across))]


def _reduction(call: Call) -> Windows | None:
    value, dims = call.args[0], call.argument("dim")
    ndim = value.ndim
    reduced = {dim % ndim for dim in ([dims] if isinstance(dims, int) else dims or range(ndim))}
    (mixed,) = _mixed(call, value, list(reduced))
    if call.out.ndim == ndim:
        return mixed
    kept = [dim + 1 for dim in range(ndim) if dim not in reduced]
    return Windows(_each(mixed, lambda b, _: b.reshape(2, *(b.shape[dim] for dim in kept))), mixed.strides)


def _normalized(call: Call) -> Windows | None:
    """Softmax and the norms: from everything that they are normalised over, and back in its place."""
    value, dims = call.args[0], [call.argument("dim")]
    if call.name == "native_layer_norm":
        dims = list(range(-len(call.argument("normalized_shape")), 0))
    elif "batch_norm" in call.name:
        dims = [0, *range(2, value.ndim)] if call.argument("training") else []
    elif call.name == "native_group_norm":
        dims = list(range(2, value.ndim))
    if not dims:
        return call.of(value)
    mixed = next(iter(_mixed(call, value, dims, spread=True)), None)
    return _by_groups(call, mixed, call.argument("group")) if mixed and call.argument("group") else mixed


def _by_groups(call: Call, windows: Windows, groups: int) -> Windows:
    """The channels of the result, each from all old ones of its group."""

    def change(bound: torch.Tensor, _: int) -> torch.Tensor:
        if bound.shape[2] == 1:
            return bound
        return bound.unflatten(2, (groups, -1)).amin(3).repeat_interleave(call.out.shape[1] // groups, 2)

    return Windows(_each(windows, change), windows.strides)


def _matrix_product(call: Call) -> Windows:
    """``a @ b`` and ``c + a @ b``."""
    *summand, left, right = call.args[: 3 if call.name in ("addmm", "baddbmm") else 2]
    added = [windows for value in summand if (windows := call.of(value)) is not None]
    return _together([*added, *_mixed(call, left, [-1]), *_mixed(call, right, [-2])], call.out.ndim)


def _stride_along(bound: torch.Tensor, dim: int) -> float | None:
    """Pixels from each value along ``dim`` to the next; None where they are not evenly spaced or cannot be told."""
    steps = bound.diff(dim=dim + 1)
    steps[1].neg_()
    smallest = steps.nan_to_num(math.inf, math.inf, math.inf).min() if steps.numel() else math.inf
    largest = steps.nan_to_num(-math.inf, -math.inf, -math.inf).max() if steps.numel() else -math.inf
    return float(smallest) if smallest == largest else None


def _union_at(bound: torch.Tensor, dim: int, indices: torch.Tensor, stride: float | None) -> torch.Tensor:
    """The union over ``indices [out, k]`` along ``dim``; beside a map of even stride it goes on, else is nothing."""
    inside = indices.clamp(0, bound.shape[dim + 1] - 1)
    outside = (indices - inside).float()
    gathered = bound.index_select(dim + 1, inside.flatten()).unflatten(dim + 1, tuple(inside.shape))
    beside = [1] * gathered.ndim
    beside[dim + 1 : dim + 3] = outside.shape
    outside = outside.reshape(beside)
    if stride is None:
        return torch.where(outside != 0, _NOTHING, gathered).amin(dim + 2)
    return (gathered + torch.cat([outside * stride, -outside * stride])).amin(dim + 2)


def _resampled(call: Call, dims: Sequence[int], taps: Sequence[torch.Tensor], steps: Sequence[float]) -> Windows | None:
    """Every value from ``taps [out, k]`` along each of ``dims``, the next one ``steps`` further on the old map."""
    windows, lengths = call.alone(), call.args[0].shape
    if windows is None:
        return None
    natural = (len(lengths) - 2, len(lengths) - 1)
    ends = [(t.amin(1) == 0).all() and (t.amax(1) == lengths[dim] - 1).all() for dim, t in zip(dims, taps, strict=True)]

    def change(bound: torch.Tensor, axis: int) -> torch.Tensor:
        after = bound
        for dim, indices in zip(dims, taps, strict=True):
            if indices.shape == (lengths[dim], 1) and (indices[:, 0] == torch.arange(lengths[dim])).all():
                continue
            if after.shape[dim + 1] == lengths[dim]:  # else all values along it are alike
                single = windows.strides[axis] if dim == natural[axis] else None
                after = _union_at(after, dim, indices, _stride_along(after, dim) if lengths[dim] > 1 else single)
        return _settled(after, bound, dims, call.extent[axis]) if all(ends) else after

    grown = dict(zip(dims, steps, strict=True))
    down, across = (s and s * grown.get(dim, 1) for s, dim in zip(windows.strides, natural, strict=True))
    return Windows(_each(windows, change), (down, across))


def _sliding(call: Call) -> Windows | None:
    """Convolution and pooling: value ``i`` from ``i * stride - padding + k * dilation``, k below the kernel's size."""
    if call.argument("transposed"):
        return None
    kernel = call.argument("kernel_size") or call.argument("weight").shape[2:]
    dims = range(call.out.ndim - len(kernel), call.out.ndim)
    options = (kernel, call.argument("stride") or kernel, call.argument("padding"), call.argument("dilation") or [1])
    taps, steps = [], []
    for place, dim in enumerate(dims):
        length, stride, padding, dilation = (each[place if len(each) > 1 else 0] for each in options)
        taps.append(torch.arange(call.out.shape[dim])[:, None] * stride - padding + dilation * torch.arange(length))
        steps.append(stride)
    found, groups = _resampled(call, dims, taps, steps), call.argument("groups")
    return _by_groups(call, found, groups) if found and groups else found


def _interpolated(call: Call) -> Windows | None:
    """Interpolation and adaptive pooling: which values enter shows when a one among zeros is resampled."""
    taps, steps = [], []
    for axis, (n, m) in enumerate(zip(call.args[0].shape[-2:], call.out.shape[-2:], strict=True)):
        ones = torch.eye(n).reshape(1, n, *((n, 1) if axis == 0 else (1, n)))
        result = call.func(ones, (m, 1) if axis == 0 else (1, m), *call.args[2:])
        entering = tree_leaves(result)[0].reshape(n, m).T != 0
        most = int(entering.sum(1).max())
        first, order = entering.float().sort(dim=1, descending=True, stable=True)
        taps.append(torch.where(first > 0, order, order[:, :1])[:, :most])
        steps.append(n / m)
    return _resampled(call, range(call.out.ndim - 2, call.out.ndim), taps, steps)


def _padding(call: Call) -> Windows | None:
    pad, shape = call.argument("pad") or call.argument("padding"), call.args[0].shape
    dims = [len(shape) - 1 - place for place in range(len(pad) // 2)]
    taps = [torch.arange(-pad[2 * i], shape[dim] + pad[2 * i + 1])[:, None] for i, dim in enumerate(dims)]
    return _resampled(call, dims, taps, [1] * len(dims))


def _rearranged(call: Call) -> list[Windows | None] | None:
    """Slices, reshapes, concatenations: what happens to the values happens to their windows."""
    func = torch.reshape if call.name in ("view", "_unsafe_view") else call.func
    inherited = call.seen()[0].strides
    parameters = zip(call.func._schema.arguments, call.args, strict=True)
    args = [value for parameter, value in parameters if not parameter.kwarg_only]  # the others are memory formats
    tensors = [value for value in tree_leaves(args) if isinstance(value, torch.Tensor)]
    if any(tensor.is_meta and not tensor.is_floating_point() for tensor in tensors):
        return None  # an index that nobody computed
    axes: list[list[torch.Tensor]] = []
    for axis in (0, 1):
        ends = [tree_leaves(func(*tree_map(partial(_stand_in, call, axis, end), args))) for end in (0, 1)]
        axes.append([_compact(*pair) for pair in zip(*ends, strict=True)])
    return [Windows(pair, _strides_on(pair, inherited)) for pair in zip(*axes, strict=True)]


def _concatenated(call: Call) -> Windows:
    """As ``_rearranged``, but along the other dimensions no value is repeated: it is frequent, and slow otherwise."""
    tensors, dim = call.args[0], call.argument("dim") % call.out.ndim + 1

    def change(axis: int) -> torch.Tensor:
        bounds = [windows.bounds[axis] if (windows := call.of(tensor)) else nothing for tensor in tensors]
        shape = [max(sizes) for sizes in zip(*(bound.shape for bound in bounds), strict=True)]
        whole = [(*shape[:dim], tensor.shape[dim - 1], *shape[dim + 1 :]) for tensor in tensors]
        return torch.cat([bound.expand(size) for bound, size in zip(bounds, whole, strict=True)], dim)

    nothing = torch.full((2, *(1,) * call.out.ndim), _NOTHING)
    return Windows((change(0), change(1)), _common(call.seen()))


def _stand_in(call: Call, axis: int, end: int, value: Any) -> Any:
    """In place of a tensor one end of its windows; of what does not depend on the picture, nothing."""
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return value
    windows = call.of(value)
    return (torch.tensor(_NOTHING) if windows is None else windows.bounds[axis][end]).expand(value.shape)


def _compact(first: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """Both ends as one, with length 1 along the dimensions where all values are alike."""
    bound = torch.stack([end[tuple(slice(None if step else 1) for step in end.stride())] for end in (first, last)])
    for dim in range(1, bound.ndim):
        start = bound.narrow(dim, 0, min(1, bound.shape[dim]))
        bound = start if bool((bound == start).all()) else bound
    return bound


def _strides_on(bounds: Sequence[torch.Tensor], inherited: Sequence[float | None]) -> tuple[float | None, float | None]:
    """The strides of a map ``[n, c, h, w]`` or ``[n, h, w, c]`` as found on it; inherited where all is alike."""
    if bounds[0].ndim != 5:
        return inherited[0], inherited[1]
    found = [
        inherited[axis] if bound.numel() == 2 else _stride_along(bound, 2 + axis) or _stride_along(bound, 1 + axis)
        for axis, bound in enumerate(bounds)
    ]
    return found[0], found[1]


def _pointwise(call: Call) -> Windows:
    return _together(call.seen(), call.out.ndim)


def _rule(func: Any) -> Callable[[Call], Any]:
    if (name := func._overloadpacket.__name__) in _RULES:
        return _RULES[name]
    if torch.Tag.pointwise in func.tags:
        return _pointwise
    return _reduction if torch.Tag.reduction in func.tags else lambda call: None


INDEPENDENT = {"new_zeros", "new_ones", "new_empty", "new_full", "zeros_like", "ones_like", "empty_like", "full_like"}
"""Operations whose results do not depend on the values that they are given."""
_NAMES: dict[Callable[[Call], Any], str] = {
    _sliding: "convolution max_pool2d_with_indices avg_pool2d",
    _interpolated: "_adaptive_avg_pool2d adaptive_max_pool2d upsample_nearest2d _upsample_nearest_exact2d"
    " upsample_bilinear2d upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa",
    _padding: "constant_pad_nd reflection_pad2d replication_pad2d",
    _matrix_product: "mm addmm bmm baddbmm",
    _normalized: "_softmax _log_softmax _safe_softmax native_batch_norm _native_batch_norm_legit native_layer_norm"
    " _native_batch_norm_legit_no_training native_group_norm",
    _pointwise: "hardswish hardswish_ _prelu_kernel log_sigmoid_forward _to_copy native_dropout",
    _rearranged: "view _unsafe_view permute transpose t expand slice select squeeze unsqueeze split split_with_sizes"
    " unbind flip roll repeat index_select index stack alias detach pixel_shuffle pixel_unshuffle"
    " native_channel_shuffle unfold",
    _concatenated: "cat",
    # The mean of a channels-last map gets other strides in memory, for lengths of 1 only.
    lambda call: call.alone() if sum(n > 1 for n in call.argument("size")) < 2 else None: "as_strided_",
}
_RULES = {name: rule for rule, names in _NAMES.items() for name in names.split()}
"""By the operation's name; those that torch marks as pointwise or as reductions need no entry."""
