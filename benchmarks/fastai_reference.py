"""What a fastai user does: ``vision_learner(...).fine_tune(n)`` on the same network, weights, pictures and hold-out.

Arguments: PHOTOS, ``samples.jsonl`` of a topwork model, epochs, threads. Prints seconds and accuracy as JSON. Runs in a
Python that has fastai, torch, timm and topwork.
"""

import json
import sys
import time
from pathlib import Path


def main(photos: Path, samples: Path, epochs: int, threads: int) -> None:
    """Fine-tune and measure."""
    import numpy as np
    import timm
    import torch
    from fastai.vision.all import (
        CategoryBlock,
        CrossEntropyLossFlat,
        DataBlock,
        ImageBlock,
        IndexSplitter,
        Normalize,
        Resize,
        accuracy,
        aug_transforms,
        vision_learner,
    )

    from topwork.backbones.weights import verified
    from topwork.backbones.zoo import backbone
    from topwork.weights.legacy_torch import read_legacy_torch

    torch.set_num_threads(threads)
    rows = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    held = [i for i, row in enumerate(rows) if row["fold"] is not None]
    begun = time.perf_counter()
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock),
        get_x=lambda row: photos / row["id"],
        get_y=lambda row: row["label"],
        splitter=IndexSplitter(held),
        item_tfms=Resize(256),
        batch_tfms=[*aug_transforms(size=224, min_scale=0.75), Normalize.from_stats([0.498] * 3, [0.502] * 3)],
    )
    loaders = block.dataloaders(rows, bs=32, num_workers=0)
    learner = vision_learner(
        loaders, "tf_efficientnet_lite0", pretrained=False, metrics=accuracy, loss_func=CrossEntropyLossFlat()
    )
    name = "tf_efficientnet_lite0"
    network = timm.create_model(name, pretrained=False)
    arrays = read_legacy_torch(verified(backbone(name))).values()
    weights = {key: torch.from_numpy(np.array(a)) for key, a in zip(network.state_dict(), arrays, strict=True)}
    found = learner.model[0].model.load_state_dict(weights, strict=False)
    if found.missing_keys:
        sys.exit(f"weights without a place: {found.missing_keys[:3]}")
    with learner.no_bar(), learner.no_logging():
        learner.freeze()
        learner.fine_tune(epochs)
        _, share = learner.validate()
    print(
        json.dumps({"epochs": epochs + 1, "seconds": round(time.perf_counter() - begun, 1), "accuracy": float(share)})
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
