"""The official weight files of the classification models: names, hashes, published accuracies.

Data only, and light: the plugin file reads this table while the catalogue lists models. Names, hashes and files are
those of GluonCV's model store, so that a file that a user already has (in ``~/.mxnet/models``) is found and verified.
"""

from __future__ import annotations

from glueball.plugin import Weights

_STORE = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/models"
_SOURCE = "GluonCV model zoo"

# Model: (SHA-1 of the .params file, top-1, top-5) on the ImageNet-1k validation pictures, in per cent, at 224 x 224:
# shorter side resized to 256, centre crop. None where no accuracy was published.
_IMAGENET: dict[str, tuple[str, float | None, float | None]] = {
    "resnet18_v1": ("a0666292f0a30ff61f857b0b66efc0228eb6a54b", 70.93, 89.92),
    "resnet34_v1": ("48216ba99a8b1005d75c0f3a0c422301a0473233", 74.37, 91.87),
    "resnet50_v1": ("cc729d95031ca98cf2ff362eb57dee4d9994e4b2", 77.36, 93.57),
    "resnet101_v1": ("d988c13d6159779e907140a638c56f229634cb02", 78.34, 94.01),
    "resnet152_v1": ("acfd09703b113143af9c33898bad8b6154fd6fb0", 79.22, 94.64),
    "resnet18_v1b": ("2d9d980c990442f826f20781ed039851e78dabe3", 70.94, 89.83),
    "resnet34_v1b": ("8e16b84814e84f64d897854003f049872991eaa6", 74.65, 92.08),
    "resnet50_v1b": ("0ecdba34691be172036ddf244ff1b2eade75ffde", 77.67, 93.82),
    "resnet101_v1b": ("a455932aa95cb7dcfa05fd040b9b5a5660733c39", 79.2, 94.61),
    "resnet152_v1b": ("a5a61ee1ce5ab7c09720775b223360f3c60e211d", 79.69, 94.74),
    "resnet50_v1c": ("2a4e070854db538595cc7ee02e1a914bdd49ca02", 78.03, 94.09),
    "resnet101_v1c": ("064858f23f9878bfbbe378a88ccb25d612b149a1", 79.6, 94.75),
    "resnet152_v1c": ("75babab699e1c93f5da3c1ce4fd0092d1075f9a0", 80.01, 94.96),
    "resnet50_v1d": ("117a384ecf61490eb31ea147eb0e61e6d2b8a449", 79.15, 94.58),
    "resnet101_v1d": ("1b2b825feff86b0354642a4ab59f9b6e35e47338", 80.51, 95.12),
    "resnet152_v1d": ("cddbc86ff24a5544f57242ded0acb14ef1fbd437", 80.61, 95.34),
    "resnet50_v1s": ("25a187fa281ddc98afbcd0cc0f0646885b874b80", None, None),
    "resnet101_v1s": ("bd93a83c05f709a803b1221aeff0b028e6eebb03", None, None),
    "resnet152_v1s": ("cf74621d988ad06c6c6aa44f5597e5b600a966cc", None, None),
    "resnet18_v2": ("a81db45fd7b7a2d12ab97cd88ef0a5ac48b8f657", 71.0, 89.92),
    "resnet34_v2": ("9d6b80bbc35169de6b6edecffdd6047c56fdd322", 74.4, 92.08),
    "resnet50_v2": ("ecdde35339c1aadbec4f547857078e734a76fb49", 77.11, 93.43),
    "resnet101_v2": ("18e93e4f48947e002547f50eabbcc9c83e516aa6", 78.53, 94.17),
    "resnet152_v2": ("f2695542de38cf7e71ed58f02893d82bb409415e", 79.21, 94.31),
    "mobilenet0.25": ("f0046a3da4e150b85da58ea31913dbb86e7540d1", 52.91, 76.94),
    "mobilenet0.5": ("0130d2aa2f7e3a63db35579b243e25f512172371", 65.2, 86.34),
    "mobilenet0.75": ("84c801e27b1ac5040b6e945c0d1f8d49e9a59f3d", 70.25, 89.49),
    "mobilenet1.0": ("efbb2ca3881998d5a8c5cb6c457a28c1e085fed5", 73.28, 91.3),
    "mobilenetv2_0.25": ("9b1d2cc38fed4cd171a7f7a0d17fe1a905573887", 51.76, 74.89),
    "mobilenetv2_0.5": ("0803818513599fa1329524ee3607b708b4a4630f", 64.43, 85.31),
    "mobilenetv2_0.75": ("b56e3d1c33eb52d0b90678db4ce6c5ca6c9a6704", 69.36, 88.5),
    "mobilenetv2_1.0": ("f9952bcde7a7982947ac5240546e1c1c8f057370", 72.04, 90.57),
    "alexnet": ("44335d1f0046b328243b32a26a4fbd62d9057b45", 54.92, 78.03),
    "vgg11": ("dd221b160977f36a53f464cb54648d227c707a05", 66.62, 87.34),
    "vgg11_bn": ("ee79a8098a91fbe05b7a973fed2017a6117723a8", 68.59, 88.72),
    "vgg13": ("6bc5de58a05a5e2e7f493e2d75a580d83efde38c", 67.74, 88.11),
    "vgg13_bn": ("7d97a06c3c7a1aecc88b6e7385c2b373a249e95e", 68.84, 88.82),
    "vgg16": ("e660d4569ccb679ec68f1fd3cce07a387252a90a", 73.23, 91.31),
    "vgg16_bn": ("7f01cf050d357127a73826045c245041b0df7363", 73.1, 91.76),
    "vgg19": ("ad2f660d101905472b83590b59708b71ea22b2e5", 74.11, 91.35),
    "vgg19_bn": ("f360b758e856f1074a85abd5fd873ed1d98297c3", 74.33, 91.85),
    "squeezenet1.0": ("264ba4970a0cc87a4f15c96e25246a1307caf523", 56.11, 79.09),
    "squeezenet1.1": ("33ba0f93753c83d86e1eb397f38a667eaf2e9376", 54.96, 78.17),
    "densenet121": ("f27dbf2dbd5ce9a80b102d89c7483342cd33cb31", 74.97, 92.25),
    "densenet161": ("b6c8a95717e3e761bd88d145f4d0a214aaa515dc", 77.7, 93.8),
    "densenet169": ("2603f878403c6aa5a71a124c4a3307143d6820e9", 76.17, 93.17),
    "densenet201": ("1cdbc116bc3a1b65832b18cf53e1cb8e7da017eb", 77.32, 93.62),
}

# GluonCV also keeps older runs of mobilenet1.0 (cce75496), resnet50_v1d (00319ddc), resnet101_v1d (8659a9d6) and
# resnet152_v1d (cfe0220d). Only these eight digits of their hashes were ever published, too few to trust a download
# by: such a file can be given to get_model by its path.

# Model: (SHA-1, top-1 of plain training, top-1 with mixup) on the CIFAR-10 test pictures. Both were published next to
# one file without saying which run the file is from.
_CIFAR10: dict[str, tuple[str, float, float]] = {
    "cifar_resnet20_v1": ("121e1579d811b091940b3b1fa033e1f0d1dca40f", 92.1, 92.9),
    "cifar_resnet20_v2": ("4f2d18804c94f2d283b8b45256d048bd3d6dd479", 92.1, 92.7),
    "cifar_resnet56_v1": ("2fb251e60babdceb103e9659b3baa0dea20a14d7", 93.6, 94.2),
    "cifar_resnet56_v2": ("0a3e74104ec7bcfffefe2d9d5cc1f8e74311ec51", 93.7, 94.6),
    "cifar_resnet110_v1": ("a0e1f860475bf5369f6da07e0c2e03a4ae9cff9c", 93.0, 95.2),
    "cifar_resnet110_v2": ("bf160f8b3cb3884a1ea871739f3c8e151e114159", 94.3, 95.5),
}


def official(model: str) -> dict[str, Weights]:
    """The weights published for ``model`` by tag, the default one first; empty where none were published."""
    found: dict[str, Weights] = {}
    if model in _IMAGENET:
        sha1, top1, top5 = _IMAGENET[model]
        metrics = {"top1": top1, "top5": top5} if top1 is not None and top5 is not None else {}
        found["imagenet1k"] = _weights(model, sha1, 1000, metrics)
    if model in _CIFAR10:
        sha1, plain, mixup = _CIFAR10[model]
        found["cifar10"] = _weights(model, sha1, 10, {"top1": plain, "top1_mixup": mixup})
    return found


def models() -> list[str]:
    """Every model that has an official file."""
    return [*_IMAGENET, *_CIFAR10]


def _weights(model: str, sha1: str, classes: int, metrics: dict[str, float]) -> Weights:
    stem = f"{model}-{sha1[:8]}"
    return Weights(
        file=f"{stem}.params",
        sha1=sha1,
        url=(f"{_STORE}/{stem}.zip",),
        classes=classes,
        metrics=metrics,
        source=_SOURCE,
    )
