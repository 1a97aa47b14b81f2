"""A picture as a network gets it: the square that its preprocessing makes, in pixels again."""

import numpy as np
from numpy.typing import NDArray

from topwork.backbones.graph import square_graph
from topwork.backbones.spec import BackboneSpec
from topwork.features.session import open_session


def network_square(spec: BackboneSpec, image: NDArray[np.uint8], geometry: str = "crop") -> NDArray[np.uint8]:
    """``[size, size, 3]`` of a picture ``[h, w, 3]``, both uint8; ``geometry`` is crop, pad or stretch.

    >>> from topwork.backbones.zoo import backbone
    >>> network_square(backbone("tf_efficientnet_lite0"), np.zeros((80, 100, 3), np.uint8)).shape
    (224, 224, 3)
    """
    (x,) = open_session(square_graph(spec, geometry)).run(["x"], {"image": image[None]})  # [1, 3, size, size]
    mean, std = np.array(spec.preprocess.mean), np.array(spec.preprocess.std)
    levels: NDArray[np.uint8] = np.rint(x[0].transpose(1, 2, 0) * std + mean).clip(0, 255).astype(np.uint8)
    return levels
