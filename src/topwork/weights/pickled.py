"""The pickles of a PyTorch file, looked at before PyTorch reads them: they may build what tensors are made of only.

PyTorch's reader of plain tensors runs no code, but what it lets through is enough to stop a computer: forty bytes ask
for a ``bytearray`` of any size, and a key may be a tuple of tuples, whose hash takes years or overflows the stack.
"""

import io
import pickletools
import zipfile
from pathlib import Path

from topwork.weights.bounds import LONGEST_LIST, MOST_TENSORS, BeyondBoundsError

_OWN = "Size device bool float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 uint16 uint32 uint64"
_REBUILD = "tensor tensor_v2 tensor_v3 parameter parameter_with_state sparse_tensor qtensor meta_tensor_no_storage"
_NAMES = {
    "collections.OrderedDict",
    "collections.Counter",
    "builtins.complex",
    "__builtin__.complex",
    "torch.nn.parameter.Parameter",
    "torch._tensor._rebuild_from_type_v2",
    "torch.serialization._get_layout",
    *(f"torch.{name}" for name in _OWN.split()),
    *(f"torch._utils._rebuild_{name}" for name in _REBUILD.split()),
}
_SCHEMES = "per_tensor_affine per_tensor_symmetric per_channel_affine per_channel_symmetric"
_NAMES |= {f"torch.{name}" for name in f"{_SCHEMES} per_channel_affine_float_qparams complex64 complex128".split()}
_MOST_STEPS = 100 * MOST_TENSORS
_LARGEST_TUPLE = 10_000  # values, counted as often as they are in it
_LEGACY = 5  # pickles in front of the values in the format before torch 1.6


def check(path: Path) -> None:
    """BeyondBoundsError where a file of PyTorch's would build more than tensors; ValueError and others where it is
    damaged.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.pth").write_bytes(b"\\x80\\x02cbuiltins\\nbytearray\\nK\\x09\\x85R.")
    ...     check(Path(folder, "a.pth"))
    Traceback (most recent call last):
    ...
    topwork.weights.bounds.BeyondBoundsError: it holds more than tensors, which may be code
    """
    with path.open("rb") as file:
        head = file.read(LONGEST_LIST)
    if not head.startswith(b"PK"):
        pickles = io.BytesIO(head)
        for _ in range(_LEGACY):
            _check_one(pickles)
        return
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.lower().endswith(".pkl"):  # PyTorch finds it whatever its case
                _check_one(io.BytesIO(archive.read(member)))


def _check_one(file: io.BytesIO) -> None:
    """Follow one pickle without building anything: of each value only how large a tuple it is, 0 for all others."""
    stack: list[int | None] = []  # None: a mark
    kept: dict[object, int | None] = {}
    for step, (operation, argument, _) in enumerate(pickletools.genops(file)):
        name = operation.name
        if step > _MOST_STEPS:
            raise BeyondBoundsError("its list of tensors is too long")
        if name == "DUP" or (name == "GLOBAL" and not _is_known(str(argument))):
            raise BeyondBoundsError("it holds more than tensors, which may be code")
        if name == "MARK":
            stack.append(None)
        elif name.endswith("PUT"):
            kept[argument] = stack[-1]
        elif name.endswith("GET"):
            stack.append(kept[argument])
        else:
            inside = _taken(stack, operation)
            # A leaf counts too, or the stack of the hash would be as deep as the pickle is long.
            size = 1 + sum(inside) + len(inside) if name.startswith("TUPLE") else 0
            if size > _LARGEST_TUPLE:
                raise BeyondBoundsError("a tuple in it is too large")
            stack += [size] * len(operation.stack_after)


def _taken(stack: list[int | None], operation: pickletools.OpcodeInfo) -> list[int]:
    """What an operation takes from the stack."""
    taken: list[int | None] = []
    for each in reversed(operation.stack_before):
        if each is pickletools.stackslice:
            while (value := stack.pop()) is not None:
                taken.append(value)
        elif each is not pickletools.markobject:
            taken.append(stack.pop())
    return [value or 0 for value in taken]


def _is_known(written: str) -> bool:
    """Whether a name, as a module and what is in it, is one of tensors.

    >>> _is_known("torch FloatStorage"), _is_known("torch.sparse FloatTensor"), _is_known("builtins bytearray")
    (True, False, False)
    """
    module, _, name = written.partition(" ")
    # Tensors by their own names are in files of 2017.
    is_plain = module in ("torch", "torch.cuda", "torch.storage") and name.isalnum()
    return (is_plain and name.endswith(("Storage", "Tensor"))) or f"{module}.{name}" in _NAMES
