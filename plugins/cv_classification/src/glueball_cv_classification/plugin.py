"""What this distribution adds to Glueball, by name. Light: nothing here imports a backend, NumPy or Pillow."""

from __future__ import annotations

from glueball.plugin import Register, hookimpl
from glueball_cv_classification import weights

_MODELS = "glueball_cv_classification.models"

# (name, address in models/, paper, summary), by family.
_IMAGENET_MODELS: tuple[tuple[str, str, str, str], ...] = (
    *(
        (f"resnet{depth}_v1", f"resnet:resnet{depth}_v1", "arXiv:1512.03385", f"ResNet-{depth} as first published.")
        for depth in (18, 34, 50, 101, 152)
    ),
    *(
        (f"resnet{depth}_v2", f"resnet:resnet{depth}_v2", "arXiv:1603.05027", f"ResNet-{depth} v2, pre-activation.")
        for depth in (18, 34, 50, 101, 152)
    ),
    *(
        (
            f"resnet{depth}_v1b",
            f"resnetv1b:resnet{depth}_v1b",
            "arXiv:1512.03385",
            f"ResNet-{depth} v1b, striding in 3x3 convolutions.",
        )
        for depth in (18, 34, 50, 101, 152)
    ),
    *(
        (
            f"resnet{depth}_v1{letter}",
            f"resnetv1b:resnet{depth}_v1{letter}",
            "arXiv:1812.01187",
            f"ResNet-{depth} v1{letter}, {change}.",
        )
        for letter, change in (
            ("c", "v1b with a deep stem"),
            ("d", "v1c with averaging shortcuts"),
            ("e", "v1d with a wider stem"),
            ("s", "v1c with a wider stem"),
        )
        for depth in (50, 101, 152)
    ),
    *(
        (
            f"mobilenet{width}",
            f"mobilenet:mobilenet{width.replace('.', '_')}",
            "arXiv:1704.04861",
            f"MobileNet v1, width {width}.",
        )
        for width in ("0.25", "0.5", "0.75", "1.0")
    ),
    *(
        (
            f"mobilenetv2_{width}",
            f"mobilenet:mobilenetv2_{width.replace('.', '_')}",
            "arXiv:1801.04381",
            f"MobileNet v2, width {width}.",
        )
        for width in ("0.25", "0.5", "0.75", "1.0")
    ),
    ("alexnet", "alexnet:alexnet", "arXiv:1404.5997", "AlexNet in its one-tower form."),
    *((f"vgg{depth}", f"vgg:vgg{depth}", "arXiv:1409.1556", f"VGG-{depth}.") for depth in (11, 13, 16, 19)),
    *(
        (f"vgg{depth}_bn", f"vgg:vgg{depth}_bn", "arXiv:1409.1556", f"VGG-{depth} with batch normalisation.")
        for depth in (11, 13, 16, 19)
    ),
    *(
        (
            f"squeezenet{version}",
            f"squeezenet:squeezenet{version.replace('.', '_')}",
            "arXiv:1602.07360",
            f"SqueezeNet {version}.",
        )
        for version in ("1.0", "1.1")
    ),
    *(
        (f"densenet{depth}", f"densenet:densenet{depth}", "arXiv:1608.06993", f"DenseNet-{depth}.")
        for depth in (121, 161, 169, 201)
    ),
)

_CIFAR_MODELS: tuple[tuple[str, str, str, str], ...] = tuple(
    (
        f"cifar_resnet{depth}_v{version}",
        f"cifar_resnet:cifar_resnet{depth}_v{version}",
        paper,
        f"ResNet-{depth} v{version} for pictures of 32x32.",
    )
    for version, paper in ((1, "arXiv:1512.03385"), (2, "arXiv:1603.05027"))
    for depth in (20, 56, 110)
)


@hookimpl
def register_models(register: Register) -> None:
    """The models of ``models/``, with the official weights where there are any."""
    for name, target, paper, summary in _IMAGENET_MODELS:
        register(
            name,
            f"{_MODELS}.{target}",
            task="image_classification",
            input_shape=(3, 224, 224),
            # AlexNet strides by 32 before its last pooling; the others reach 1x1 from 32x32.
            test_input_shape=(3, 64, 64) if name == "alexnet" else (3, 32, 32),
            classes=1000,
            initializer="msraprelu",
            weights=weights.official(name),
            paper=paper,
            summary=summary,
        )
    for name, target, paper, summary in _CIFAR_MODELS:
        register(
            name,
            f"{_MODELS}.{target}",
            task="image_classification",
            input_shape=(3, 32, 32),
            test_input_shape=(3, 16, 16),
            classes=10,
            initializer="xavier",
            weights=weights.official(name),
            paper=paper,
            summary=summary,
        )
