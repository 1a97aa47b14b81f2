"""The script a good engineer writes by hand: timm features, scikit-learn on top. topwork is compared with it.

Eager PyTorch in inference mode, channels_last, batches of 32, pictures decoded by a thread pool; then
``LogisticRegression`` with 5-fold cross-validation, and a fit on everything. Prints seconds and accuracy as JSON.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 32


def load_network(cores: int) -> tuple[Any, Any]:
    """timm's module with the same weights as topwork's default backbone, and timm's own preprocessing."""
    import timm
    import torch
    from timm.data import create_transform, resolve_data_config

    from topwork.backbones.weights import verified
    from topwork.backbones.zoo import backbone
    from topwork.weights.legacy_torch import read_legacy_torch

    torch.set_num_threads(cores)
    name = "tf_efficientnet_lite0"
    network = timm.create_model(name, pretrained=False).eval()
    arrays = read_legacy_torch(verified(backbone(name))).values()
    keys = network.state_dict().keys()
    network.load_state_dict({key: torch.from_numpy(array.copy()) for key, array in zip(keys, arrays, strict=True)})
    network.reset_classifier(0)
    network = network.to(memory_format=torch.channels_last)
    return network, create_transform(**resolve_data_config({}, model=network), is_training=False)


def extract(paths: list[Path], cores: int) -> Any:
    """Pooled features ``[n, 1280]``."""
    import torch
    from PIL import Image

    network, transform = load_network(cores)

    def load(path: Path) -> Any:
        with Image.open(path) as image:
            return transform(image.convert("RGB"))

    found = []
    with torch.inference_mode(), ThreadPoolExecutor(cores) as pool:
        for start in range(0, len(paths), BATCH):
            batch = torch.stack(list(pool.map(load, paths[start : start + BATCH])))
            found.append(network(batch.to(memory_format=torch.channels_last)).numpy())
    return np.concatenate(found)


def main(folder: Path, cores: int) -> None:
    """Features, cross-validation, final fit."""
    begun = time.perf_counter()
    paths = sorted(path for path in folder.glob("*/*") if path.is_file())
    labels = [path.parent.name for path in paths]
    features = extract(paths, cores)
    extracted = time.perf_counter()
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    head = LogisticRegression(max_iter=1000)
    scores = cross_val_score(head, features, labels, cv=5)
    head.fit(features, labels)
    seconds = {"features": extracted - begun, "total": time.perf_counter() - begun}
    json.dump({"n": len(paths), "accuracy": float(scores.mean()), "seconds": seconds}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
