"""A network to look into: with its pretrained weights, or with new ones where the look is at the architecture."""

from dataclasses import dataclass

from topwork.backbones.extra import require
from topwork.backbones.network import Network, exported_network, pretrained_network
from topwork.backbones.spec import BackboneSpec
from topwork.backbones.weights import locate, remedy
from topwork.backbones.zoo import backbone

_SEED = 0  # of new weights: the same pictures again


@dataclass(frozen=True)
class Opened:
    """``pretrained``: whether the weights are those the network was published with, or new random ones."""

    spec: BackboneSpec
    network: Network
    pretrained: bool

    @property
    def warning(self) -> str:
        """What must be said beside pictures of random weights; empty for pretrained ones."""
        if self.pretrained:
            return ""
        return (
            f"{self.spec.name} has no pretrained weights on this machine, so these are pictures of new random weights "
            f"that have learned nothing; to get the pretrained ones run `{remedy(self.spec)}`"
        )


def open_network(name: str, *, random_weights: bool = False) -> Opened:
    """The network called ``name``; UsageError for an unknown one.

    Without pretrained weights on this machine it raises as ``weights.verified``; with ``random_weights`` it takes new
    ones then, the same every time, and needs PyTorch.

    >>> open_network("tf_efficientnet_lite0").pretrained
    True
    """
    spec = backbone(name)
    if not random_weights or locate(spec.weights) is not None:
        return Opened(spec, pretrained_network(spec), True)
    require(f"{name} without its pretrained weights")
    import torch

    from topwork.backbones.architectures import architecture

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        network = exported_network(architecture(name).eval(), spec.preprocess.size)
    return Opened(spec, network, False)
