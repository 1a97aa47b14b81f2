"""PyTorch modules with pretrained weights. Imports torch."""

from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file

from topwork.backbones import weights
from topwork.backbones.architectures import architecture
from topwork.backbones.spec import BackboneSpec
from topwork.errors import BackboneError
from topwork.weights.legacy_torch import read_legacy_torch


def pretrained_module(spec: BackboneSpec, *, classifier: bool = True) -> Any:
    """The network of a spec with its pretrained weights, in evaluation mode; without ``classifier`` it gives features.

    Raises as ``weights.verified`` where the weights are missing.
    """
    module = architecture(spec.name, classes=None if classifier else 0)
    load(module, spec)
    return module.eval()


def load(module: Any, spec: BackboneSpec) -> None:
    """Put a spec's pretrained weights into a module of its architecture, with or without the classifier."""
    path = weights.verified(spec)
    state = module.state_dict()
    if spec.family == "efficientnet_lite":
        # The tensors of the file have other names and the same order; the classifier's two come last.
        tensors = dict(zip(state, read_legacy_torch(path).values(), strict=False))
    else:
        tensors = load_file(path)
    # Counters of batches have no say in what a network answers, and some files lack them.
    wanted = {
        name: t for name, t in state.items() if not (name.endswith("num_batches_tracked") and name not in tensors)
    }
    if any(name not in tensors or tensors[name].shape != tuple(t.shape) for name, t in wanted.items()):
        raise BackboneError(
            f"the weights of {spec.name} do not fit the network that this version of timm and torchvision makes; "
            'run pip install --upgrade "topwork[train]"'
        )
    module.load_state_dict({name: torch.from_numpy(np.array(tensors[name])) for name in wanted}, strict=False)
