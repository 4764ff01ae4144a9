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


_DATASETS = (
    ("digits", "Digits", "1,797 handwritten digits, 8x8, inside the package scikit-learn.", None),
    ("mnist", "MNIST", "70,000 handwritten digits, 28x28, 10 classes.", None),
    ("fashion_mnist", "FashionMNIST", "70,000 articles of clothing, 28x28, 10 classes.", "arXiv:1708.07747"),
    ("cifar10", "CIFAR10", "60,000 colour pictures, 32x32, 10 classes.", None),
    ("cifar100", "CIFAR100", "60,000 colour pictures, 32x32, 100 fine or 20 coarse classes.", None),
    ("image_folder", "ImageFolder", "Any folder or .tar file of class folders, divided or not.", None),
    ("image_record", "ImageRecord", "Record files as MXNet's im2rec packs them.", None),
    ("imagenet", "ImageNet", "ILSVRC 2012 in folders of synsets, 1,000 classes.", "arXiv:1409.0575"),
)

_TRANSFORMS = (
    ("imagenet_train", "imagenet_train", "GluonCV's ImageNet recipe: crop, flip, colour jitter, PCA noise.", None),
    ("imagenet_eval", "imagenet_eval", "Short side to size / 0.875, centre crop.", None),
    ("cifar_train", "cifar_train", "Border of 4 pixels, random crop, flip.", None),
    ("cifar_eval", "cifar_eval", "The whole picture, normalised for CIFAR.", None),
    ("digits_train", "digits_train", "Shifts by an eighth of the side.", None),
    ("digits_eval", "digits_eval", "The whole digit.", None),
    ("classification_train", "ClassificationTrain", "Training pictures of a classifier, every step an option.", None),
    ("classification_eval", "ClassificationEval", "Resized and cropped pictures, every step an option.", None),
    ("resize", "Resize", "Short side or both sides to a size.", None),
    ("center_crop", "CenterCrop", "The centre of the picture.", None),
    ("random_resized_crop", "RandomResizedCrop", "A part of random area and aspect ratio, resized.", "arXiv:1409.4842"),
    ("random_crop", "RandomCrop", "A random part of the picture with a border.", None),
    ("random_flip_left_right", "RandomFlipLeftRight", "Mirrors with a probability.", None),
    ("random_flip_top_bottom", "RandomFlipTopBottom", "Turns upside down with a probability.", None),
    ("random_color_jitter", "RandomColorJitter", "Brightness, contrast, saturation, hue.", None),
    ("random_lighting", "RandomLighting", "AlexNet's noise along the principal colours.", None),
    ("random_gray", "RandomGray", "Turns grey with a probability.", None),
    ("rand_augment", "RandAugment", "Random operations of one strength.", "arXiv:1909.13719"),
    ("auto_augment", "AutoAugment", "Learned policies for ImageNet, CIFAR-10 and SVHN.", "arXiv:1805.09501"),
    ("random_erasing", "RandomErasing", "Paints a random rectangle.", "arXiv:1708.04896"),
    ("cutout", "Cutout", "Paints a square of a fixed size.", "arXiv:1708.04552"),
    ("to_tensor", "ToTensor", "float32, channels first, 0 to 1.", None),
    ("normalize", "Normalize", "Subtracts a mean, divides by a deviation.", None),
    ("five_crop", "FiveCrop", "Centre and corners.", None),
    ("ten_crop", "TenCrop", "Centre and corners, mirrored too.", None),
    ("small_views", "SmallViews", "The picture, shifted a little and mirrored.", "arXiv:2404.00498"),
    ("efficientnet_random_crop", "EfficientNetRandomCrop", "EfficientNet's training crop.", "arXiv:1905.11946"),
    ("efficientnet_center_crop", "EfficientNetCenterCrop", "EfficientNet's evaluation crop.", "arXiv:1905.11946"),
    ("mixup", "MixUp", "Of batches: weighted means of two samples.", "arXiv:1710.09412"),
    ("cutmix", "CutMix", "Of batches: a rectangle of another sample.", "arXiv:1905.04899"),
    ("mixup_or_cutmix", "MixUpOrCutMix", "Of batches: either of the two.", "arXiv:1905.04899"),
    ("soft_labels", "SoftLabels", "Of batches: one-hot labels, smoothed.", "arXiv:1512.00567"),
)


def _register_all(register: Register, module: str, rows: tuple[tuple[str, str, str, str | None], ...]) -> None:
    for name, attribute, summary, paper in rows:
        target = f"glueball_cv_classification.{module}:{attribute}"
        if paper is None:
            register(name, target, summary=summary)
        else:
            register(name, target, summary=summary, paper=paper)


@hookimpl
def register_datasets(register: Register) -> None:
    """The data sets of ``datasets/``."""
    _register_all(register, "datasets", _DATASETS)


@hookimpl
def register_transforms(register: Register) -> None:
    """The transforms of ``transforms/``."""
    _register_all(register, "transforms", _TRANSFORMS)


_RECIPES = "glueball_cv_classification.recipes"


@hookimpl
def register_tasks(register: Register) -> None:
    """What the engine needs to know about pictures with one label each."""
    register(
        "image_classification",
        "glueball_cv_classification.task:ImageClassification",
        summary="Pictures with one label each: cross-entropy, accuracy, class names.",
    )


@hookimpl
def register_recipes(register: Register) -> None:
    """The recipes of ``recipes/``."""
    for name, target, summary in (
        ("digits", "small:digits", "A small ResNet on scikit-learn's handwritten digits, in a minute."),
        ("mnist", "small:mnist", "A small ResNet on MNIST."),
        ("fashion-mnist", "small:fashion_mnist", "A small ResNet on FashionMNIST."),
        ("cifar10", "cifar:cifar10", "ResNet-20 on CIFAR-10 in 12 epochs."),
        ("cifar10-long", "cifar:cifar10_long", "ResNet-20 on CIFAR-10 in 200 epochs, or 450 with mixup."),
        ("imagenet", "imagenet:imagenet", "ResNet-50 v1b on ImageNet in 120 epochs."),
        ("imagenet-tricks", "imagenet:imagenet_tricks", "ResNet-50 v1d with smoothing, mixup and a teacher."),
        ("imagenet-mobilenet", "imagenet:imagenet_mobilenet", "MobileNet v2 on ImageNet in 150 epochs."),
        ("image-folder", "folder:image_folder", "Any model on your own folder of class folders."),
    ):
        register(name, f"{_RECIPES}.{target}", task="image_classification", summary=summary)
