"""Transforms: against MXNet and GluonCV where nothing is random, against their sampling ranges where something is."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from classification_oracles import gluoncv, mxnet
from PIL import Image

import glueball
from glueball.data import ArrayDataset, DataLoader
from glueball.errors import DataError, OptionError
from glueball_cv_classification import transforms
from glueball_cv_classification.transforms import color, policy


def picture(height: int = 60, width: int = 80, seed: int = 0) -> np.ndarray:
    """Smooth enough that interpolation matters and does not drown in noise, with all of 0 to 255 in it."""
    rows, columns = np.mgrid[0:height, 0:width]
    channels = [np.sin(rows / 7 + seed), np.cos(columns / 9 + 2 * seed), np.sin((rows + columns) / 11 + seed)]
    noise = np.random.default_rng(seed).normal(0, 10, (height, width, 3))
    return np.clip(127.5 + 127.5 * np.stack(channels, axis=2) + noise, 0, 255).astype(np.uint8)


def stream(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


# OpenCV multiplies bytes by factors of 10 bits: three of them wrong by half a bit, and the rounding of the result.
OPENCV_ERROR = 0.5 + 3 * 255 / 2048

# One of every kind, small enough for the picture above.
EXAMPLES: dict[str, Any] = {
    "AutoAugment": transforms.AutoAugment("svhn"),
    "CenterCrop": transforms.CenterCrop(40),
    "ClassificationEval": transforms.ClassificationEval(size=32, crop="ten"),
    "ClassificationTrain": transforms.imagenet_train(32, auto_augment="randaugment", erasing=0.5, cutout=8),
    "Cutout": transforms.Cutout(20),
    "EfficientNetCenterCrop": transforms.EfficientNetCenterCrop(32),
    "EfficientNetRandomCrop": transforms.EfficientNetRandomCrop(32),
    "FiveCrop": transforms.FiveCrop((30, 40)),
    "Normalize": transforms.Normalize(),
    "RandAugment": transforms.RandAugment(3, 12),
    "RandomColorJitter": transforms.RandomColorJitter(0.4, 0.3, 0.2, 0.1),
    "RandomCrop": transforms.RandomCrop(48, 4),
    "RandomErasing": transforms.RandomErasing(),
    "RandomFlipLeftRight": transforms.RandomFlipLeftRight(),
    "RandomFlipTopBottom": transforms.RandomFlipTopBottom(),
    "RandomGray": transforms.RandomGray(0.5),
    "RandomLighting": transforms.RandomLighting(0.5),
    "RandomResizedCrop": transforms.RandomResizedCrop((32, 24)),
    "Resize": transforms.Resize(40),
    "SmallViews": transforms.SmallViews(),
    "TenCrop": transforms.TenCrop(32),
    "ToNormalizedTensor": transforms.ToNormalizedTensor(),
    "ToTensor": transforms.ToTensor(),
    "MixUp": transforms.MixUp(5, 0.4, 0.1),
    "CutMix": transforms.CutMix(5),
    "MixUpOrCutMix": transforms.MixUpOrCutMix(5),
    "SoftLabels": transforms.SoftLabels(5, 0.1),
}
OF_BATCHES = {name for name, example in EXAMPLES.items() if isinstance(example, transforms.BatchTransform)}


# ----------------------------------------------------------------------------------------------------------------------
# What holds for all


def test_there_is_an_example_of_every_transform() -> None:
    kinds = {
        name
        for name in transforms.__all__
        if isinstance(getattr(transforms, name), type) and attrs.has(getattr(transforms, name))
    }
    assert kinds - {"Compose", "ColorMap"} == set(EXAMPLES)


@pytest.mark.parametrize("name", glueball.list_transforms(plugin="cv_classification"))
def test_registered_transforms_can_be_built(name: str) -> None:
    required: dict[str, dict[str, Any]] = {
        "classes": {"classes": 3},
        "size": {"size": 8},
    }
    entry = glueball.catalog.current().find("transform", name)
    target = glueball.catalog.current().resolve(entry)
    options: dict[str, Any] = {}
    if isinstance(target, type):
        missing = [field.name for field in attrs.fields(target) if field.init and field.default is attrs.NOTHING]
        for field in missing:
            options.update(required[field])
    assert callable(glueball.get_transform(name, **options))


@pytest.mark.parametrize("name", EXAMPLES)
def test_transforms_survive_json(name: str) -> None:
    example = EXAMPLES[name]
    again = transforms.from_dict(json.loads(json.dumps(example.to_dict())))
    assert again == example
    assert again.is_random == example.is_random


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - OF_BATCHES))
def test_transforms_draw_from_the_given_stream_only(name: str) -> None:
    example, image = EXAMPLES[name], picture()
    if name == "Normalize":
        image = transforms.ToTensor()(image)
    before = image.copy()
    results = [example(image, stream(seed)) for seed in (1, 1, *range(2, 12))]
    assert np.array_equal(image, before), "the picture that came in was changed"
    assert np.array_equal(results[0], results[1])
    differs = any(result.shape != results[0].shape or not np.array_equal(result, results[0]) for result in results[2:])
    assert differs == example.is_random
    assert np.array_equal(pickle.loads(pickle.dumps(example))(image, stream(1)), results[0])
    assert example(image).size


def test_read_only_and_mirrored_pictures_are_fine() -> None:
    image = picture()[:, ::-1]
    image.flags.writeable = False
    for name in sorted(set(EXAMPLES) - OF_BATCHES - {"Normalize"}):
        expected = EXAMPLES[name](np.ascontiguousarray(image), stream(4))
        assert np.array_equal(EXAMPLES[name](image, stream(4)), expected), name


def test_compositions_are_serialised_and_know_whether_they_are_random() -> None:
    calm = transforms.Compose([transforms.Resize(20), transforms.ToTensor()])
    wild = transforms.Compose([calm, transforms.Normalize()])
    assert not calm.is_random
    assert transforms.Compose([transforms.RandomFlipLeftRight(), calm]).is_random
    assert transforms.from_dict(json.loads(json.dumps(wild.to_dict()))) == wild


def test_unknown_transforms_and_parameters_are_refused() -> None:
    with pytest.raises(OptionError, match="Unknown transform"):
        transforms.from_dict({"transform": "os.system"})
    with pytest.raises(OptionError, match="Unknown transform"):
        transforms.from_dict({"size": 3})
    with pytest.raises(OptionError, match="does not take these parameters"):
        transforms.from_dict({"transform": "Resize", "sise": 3})


@pytest.mark.parametrize(
    "build",
    [
        lambda: transforms.Resize(0),
        lambda: transforms.Resize((3, 4, 5)),
        lambda: transforms.Resize(4, interpolation="cubic"),
        lambda: transforms.RandomResizedCrop(8, scale=(0.5, 0.1)),
        lambda: transforms.RandomResizedCrop(8, scale=(0.0, 1.0)),
        lambda: transforms.RandomCrop(8, -1),
        lambda: transforms.RandomFlipLeftRight(1.5),
        lambda: transforms.RandomColorJitter(brightness=2),
        lambda: transforms.AutoAugment("cifar"),
        lambda: transforms.RandAugment(magnitude=31),
        lambda: transforms.Normalize(0.5, 0.0),
        lambda: transforms.MixUp(0),
        lambda: transforms.ClassificationTrain(crop="none"),
        lambda: transforms.ClassificationTrain(auto_augment="best"),
        lambda: transforms.ClassificationEval(crop="corner"),
    ],
)
def test_impossible_parameters_are_refused_at_once(build: Callable[[], object]) -> None:
    with pytest.raises(OptionError):
        build()


# ----------------------------------------------------------------------------------------------------------------------
# Against MXNet and GluonCV


@pytest.mark.parametrize("shape", [(60, 80), (80, 60), (50, 50), (33, 97), (20, 21)])
@pytest.mark.parametrize("size", [24, 40])
def test_resize_and_center_crop_are_mxnets(shape: tuple[int, int], size: int) -> None:
    mx = mxnet()
    vision = mx.gluon.data.vision.transforms
    image = picture(*shape)
    ours = transforms.Resize(size)(image)
    theirs = vision.Resize(size, keep_ratio=True)(mx.nd.array(image, dtype="uint8")).asnumpy()
    assert ours.shape == theirs.shape
    # MXNet carries its own older OpenCV, whose bilinear weights are rounded differently: one grey level.
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    ours = transforms.CenterCrop((size, size + 6))(image)
    theirs = vision.CenterCrop((size + 6, size))(mx.nd.array(image, dtype="uint8")).asnumpy()
    assert ours.shape == theirs.shape
    enlarged = shape[0] < size or shape[1] < size + 6
    assert np.abs(ours.astype(int) - theirs).max() <= int(enlarged)


def test_tensors_are_mxnets() -> None:
    mx = mxnet()
    vision = mx.gluon.data.vision.transforms
    image = picture()
    tensor = vision.ToTensor()(mx.nd.array(image, dtype="uint8"))
    assert np.allclose(transforms.ToTensor()(image), tensor.asnumpy(), rtol=1e-6, atol=0)
    mean, std = transforms.IMAGENET_MEAN, transforms.IMAGENET_STD
    expected = vision.Normalize(mean, std)(tensor).asnumpy()
    separate = transforms.Normalize()(transforms.ToTensor()(image))
    # float32 with one multiplication and addition instead of three roundings.
    assert np.allclose(separate, expected, rtol=1e-5, atol=2e-6)
    assert np.allclose(transforms.ToNormalizedTensor()(image), expected, rtol=1e-5, atol=2e-6)


def test_evaluation_is_gluoncvs() -> None:
    mx = mxnet()
    preset = gluoncv("gluoncv.data.transforms.presets.imagenet")
    image = picture(300, 400)
    expected = preset.transform_eval(mx.nd.array(image, dtype="uint8")).asnumpy()[0]
    ours = transforms.imagenet_eval()(image)
    # One grey level of interpolation, in units of the smallest standard deviation.
    assert np.abs(ours - expected).max() <= 1.01 / 255 / min(transforms.IMAGENET_STD)
    assert np.abs(ours - expected).mean() < 2e-3


def test_ten_crops_are_gluoncvs() -> None:
    module = gluoncv("gluoncv.data.transforms.image")
    mx = mxnet()
    for size in ((20, 30), (21, 33)):
        image = picture(61, 80)
        expected = module.ten_crop(mx.nd.array(image, dtype="uint8"), size[::-1]).asnumpy()
        assert np.array_equal(transforms.TenCrop(size)(image), expected)
        assert np.array_equal(transforms.FiveCrop(size)(image), expected[:5])


@pytest.mark.parametrize("kind", ["brightness", "contrast", "saturation", "hue"])
@pytest.mark.parametrize("draw", [-0.4, -0.1, 0.0, 0.3])
def test_color_formulas_are_mxnets(kind: str, draw: float, monkeypatch: pytest.MonkeyPatch) -> None:
    mx = mxnet()
    augmenter = {
        "brightness": mx.image.BrightnessJitterAug,
        "contrast": mx.image.ContrastJitterAug,
        "saturation": mx.image.SaturationJitterAug,
        "hue": mx.image.HueJitterAug,
    }[kind](0.4)
    monkeypatch.setattr("random.uniform", lambda low, high: draw)
    image = picture().astype(np.float32)
    expected = augmenter(mx.nd.array(image)).asnumpy()
    start = transforms.ColorMap()
    ours = {
        "brightness": lambda: start.brightness(1 + draw),
        "contrast": lambda: start.contrast(1 + draw, color.mean_color(image)),
        "saturation": lambda: start.saturation(1 + draw),
        "hue": lambda: start.hue(draw),
    }[kind]()
    assert np.allclose(ours.apply(image), expected, rtol=1e-4, atol=2e-2)


def test_several_colors_in_one_pass_are_mxnets_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    mx = mxnet()
    image = picture().astype(np.float32)
    draws = [0.3, -0.25, 0.2]
    values = iter(draws)
    monkeypatch.setattr("random.uniform", lambda low, high: next(values))
    expected = mx.nd.array(image)
    for augmenter in (mx.image.SaturationJitterAug, mx.image.ContrastJitterAug, mx.image.BrightnessJitterAug):
        expected = augmenter(0.4)(expected)
    ours = (
        transforms.ColorMap()
        .saturation(1 + draws[0])
        .contrast(1 + draws[1], color.mean_color(image))
        .brightness(1 + draws[2])
    )
    assert np.allclose(ours.apply(image), expected.asnumpy(), rtol=1e-4, atol=2e-2)
    as_bytes = ours.apply(image.astype(np.uint8))
    assert np.abs(as_bytes - np.clip(expected.asnumpy(), 0, 255)).max() <= OPENCV_ERROR


def test_lighting_is_mxnets() -> None:
    mx = mxnet()
    alphas = np.array([0.1, -0.2, 0.05])
    image = picture().astype(np.float32)
    expected = mx.nd.image.adjust_lighting(mx.nd.array(image), alpha=tuple(alphas)).asnumpy()
    ours = transforms.ColorMap().lighting(alphas)
    assert np.allclose(ours.apply(image), expected, rtol=1e-5, atol=2e-3)


def test_bytes_are_mapped_alike_by_every_library(monkeypatch: pytest.MonkeyPatch) -> None:
    image = picture()
    mapped = transforms.ColorMap().saturation(1.3).brightness(0.8).lighting(np.array([0.1, 0.2, -0.1]))
    exact = np.clip(mapped.apply(image.astype(np.float64)), 0, 255)
    monkeypatch.setattr(color, "_opencv", lambda: None)
    by_pillow = mapped.apply(image)
    monkeypatch.undo()
    assert np.abs(by_pillow - exact).max() <= 0.501
    difference = mapped.apply(image) - exact
    assert np.abs(difference).max() <= OPENCV_ERROR
    assert abs(difference.mean()) < 0.05


# ----------------------------------------------------------------------------------------------------------------------
# Fusing changes speed, not results


def test_color_steps_and_tensor_steps_are_fused() -> None:
    steps = transforms.Compose(
        [
            transforms.RandomColorJitter(0.4, 0.4, 0.4),
            transforms.RandomLighting(0.1),
            transforms.ToTensor(),
            transforms.Normalize(),
        ]
    )
    assert len(steps._fused) == 2
    image = picture()
    one_by_one, random = image.astype(np.float32), stream(3)
    for step in steps.steps[:2]:
        one_by_one = step(one_by_one, random)
    one_by_one = transforms.Normalize()(transforms.ToTensor()(np.clip(one_by_one, 0, 255)))
    fused = steps(image, stream(3))
    # Rounding to bytes once.
    assert np.abs(fused - one_by_one).max() <= OPENCV_ERROR / 255 / min(transforms.IMAGENET_STD)


def test_mean_color_is_exact() -> None:
    image = np.full((700, 3, 3), 255, np.uint8)
    image[0] = 0
    assert np.allclose(color.mean_color(image), 255 * 699 / 700)
    assert np.allclose(color.mean_color(picture()), picture().reshape(-1, 3).mean(axis=0))


# ----------------------------------------------------------------------------------------------------------------------
# Sampling


def test_random_resized_crop_samples_uniform_area_and_log_ratio() -> None:
    crop = transforms.RandomResizedCrop(8, scale=(0.1, 0.3), ratio=(0.5, 2.0))
    height, width, random = 400, 400, stream(5)
    boxes = [crop.box(height, width, random) for _ in range(2000)]
    sizes = np.array([(box[2] - box[0], box[3] - box[1]) for box in boxes if box is not None])
    assert len(sizes) == 2000
    area = sizes.prod(axis=1) / (height * width)
    log_ratio = np.log(sizes[:, 0] / sizes[:, 1])
    assert area.min() > 0.098
    assert area.max() < 0.302
    assert np.abs(log_ratio).max() < math.log(2.02)
    # Means and deviations of uniform distributions, within five standard errors.
    assert abs(area.mean() - 0.2) < 5 * 0.2 / math.sqrt(12 * 2000)
    assert abs(log_ratio.mean()) < 5 * 2 * math.log(2) / math.sqrt(12 * 2000)
    assert abs(log_ratio.std() - 2 * math.log(2) / math.sqrt(12)) < 0.03
    lefts = np.array([box[0] / max(width - (box[2] - box[0]), 1) for box in boxes if box is not None])
    assert abs(lefts.mean() - 0.5) < 0.04


def test_random_resized_crop_samples_as_mxnet_does(monkeypatch: pytest.MonkeyPatch) -> None:
    mx = mxnet()
    image = picture(60, 200)
    random = stream(6)

    class Draws:
        """The same draws for both, in MXNet's order."""

        def uniform(self, low: float, high: float) -> float:
            return float(random.uniform(low, high))

    monkeypatch.setattr("random.uniform", Draws().uniform)
    monkeypatch.setattr("random.randint", lambda low, high: int(random.integers(low, high, endpoint=True)))
    array = mx.nd.array(image, dtype="uint8")
    expected = [mx.image.random_size_crop(array, (16, 16), (0.08, 1.0), (3 / 4, 4 / 3), 1)[1] for _ in range(50)]
    random = stream(6)
    crop = transforms.RandomResizedCrop(16)
    for left, top, width, height in expected:
        box = crop.box(60, 200, random)
        if box is None:
            # Both fall back to the centre: a square as high as the picture, or what the crop of 16x16 leaves.
            assert (left, top, width, height) == (92, 22, 16, 16)
        else:
            assert box == (left, top, left + width, top + height)


def test_a_crop_that_never_fits_is_the_centre() -> None:
    crop = transforms.RandomResizedCrop(10, scale=(0.9, 1.0), ratio=(3 / 4, 4 / 3))
    image = picture(10, 200)
    assert crop.box(10, 200, stream()) is None
    assert np.array_equal(crop(image, stream()), image[:, 95:105])


def test_padded_crops_are_parts_of_the_padded_picture() -> None:
    image = picture(32, 32)
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
    crop, random = transforms.RandomCrop(32, 4), stream(7)
    offsets = set()
    for _ in range(400):
        part = crop(image, random)
        for top in range(9):
            for left in range(9):
                if np.array_equal(part, padded[top : top + 32, left : left + 32]):
                    offsets.add((top, left))
    # 400 draws of 81 places miss one of them with a chance below 1 %.
    assert len(offsets) >= 78
    assert {top for top, _ in offsets} == {left for _, left in offsets} == set(range(9))


def test_padding_has_the_color_that_is_asked_for() -> None:
    image = np.full((4, 4, 3), 9, np.uint8)
    parts = np.stack([transforms.RandomCrop(4, 3, fill=(1, 2, 3))(image, stream(seed)) for seed in range(50)])
    colors = {tuple(pixel) for pixel in parts.reshape(-1, 3).tolist()}
    assert colors == {(9, 9, 9), (1, 2, 3)}
    assert transforms.RandomCrop(8, 1)(image, stream()).shape == (8, 8, 3)


def test_flips_mirror_with_their_probability() -> None:
    image = picture(5, 7)
    random = stream(8)
    for kind, mirrored in (
        (transforms.RandomFlipLeftRight, image[:, ::-1]),
        (transforms.RandomFlipTopBottom, image[::-1]),
    ):
        results = [np.array_equal(kind(0.3)(image, random), mirrored) for _ in range(1000)]
        assert 230 < sum(results) < 370
        assert np.array_equal(kind(0.0)(image, random), image)
        assert np.array_equal(kind(1.0)(image, random), mirrored)


def test_random_erasing_stays_in_its_ranges() -> None:
    erasing, random = transforms.RandomErasing(probability=0.5), stream(9)
    boxes = [erasing.box(1000, 1000, random) for _ in range(3000)]
    painted = np.array([box for box in boxes if box is not None], dtype=float)
    # A rectangle that is too long is not painted: rarely, since most aspect ratios fit.
    assert 1200 < len(painted) < 1560
    heights, widths = painted[:, 2] - painted[:, 0], painted[:, 3] - painted[:, 1]
    area, ratio = heights * widths / 1e6, heights / widths
    assert area.min() > 0.0195
    assert area.max() < 0.401
    assert ratio.min() > 0.29
    assert ratio.max() < 1 / 0.29
    assert painted.min() >= 0
    assert painted.max() <= 1000
    assert transforms.RandomErasing(0.0).box(50, 50, random) is None


def test_random_erasing_paints_gluoncvs_rectangle(monkeypatch: pytest.MonkeyPatch) -> None:
    mx = mxnet()
    block = gluoncv("gluoncv.data.transforms.block").RandomErasing()
    random = stream(10)

    def uniform(low: float, high: float) -> float:
        return float(random.random() if (low, high) == (0, 1) else random.uniform(low, high))

    monkeypatch.setattr("random.uniform", uniform)
    monkeypatch.setattr("random.randint", lambda low, high: int(random.integers(low, high, endpoint=True)))
    image = picture(40, 50)
    expected = [block(mx.nd.array(image)).asnumpy() for _ in range(40)]
    random = stream(10)
    ours = transforms.RandomErasing()
    for other in expected:
        box = ours.box(40, 50, random)
        result = np.zeros((40, 50), bool)
        if box is not None:
            result[box[0] : box[2], box[1] : box[3]] = True
        assert np.array_equal(result, (other != image).any(axis=2))


def test_erased_pixels_have_the_fill_and_others_do_not_change() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    erased = transforms.RandomErasing(1.0)(image, stream(1))
    assert {tuple(pixel) for pixel in erased.reshape(-1, 3).tolist()} == {(0, 0, 0), (125, 123, 114)}
    cut = transforms.Cutout(6, fill=7)(image, stream(2))
    rows, columns = np.nonzero(cut[..., 0])
    assert 9 <= len(rows) <= 36
    assert rows.max() - rows.min() <= 5
    assert columns.max() - columns.min() <= 5


def test_efficientnet_crops_are_gluoncvs(monkeypatch: pytest.MonkeyPatch) -> None:
    module = gluoncv("gluoncv.utils.transforms")
    random = stream(11)
    monkeypatch.setattr("random.uniform", lambda low, high: float(random.uniform(low, high)))
    monkeypatch.setattr("random.randint", lambda low, high: int(random.integers(low, high, endpoint=True)))
    theirs = module.EfficientNetRandomCrop(64)
    image = Image.fromarray(picture(90, 120))
    expected = [theirs(image) for _ in range(60)]
    random = stream(11)
    ours = transforms.EfficientNetRandomCrop(64)
    for other in expected:
        box = ours.box(90, 120, random)
        if box is not None:
            assert np.array_equal(np.asarray(other), np.asarray(image)[box[1] : box[3], box[0] : box[2]])
    for shape in ((90, 120), (121, 77), (64, 64)):
        middle = module.EfficientNetCenterCrop(64)(Image.fromarray(picture(*shape)))
        left, top, right, bottom = transforms.EfficientNetCenterCrop(64).box(*shape)
        # Pillow cuts at fractions of a pixel, we at whole ones.
        assert abs(right - left - middle.width) <= 1
        assert abs(bottom - top - middle.height) <= 1
    assert ours(picture(), stream()).shape == (64, 64, 3)


def test_small_views() -> None:
    image = picture()
    first, second = transforms.SmallViews(shift=0)(image)
    assert np.array_equal(first, image)
    assert np.array_equal(second[:, ::-1], image)
    plain, upper_left, lower_right = transforms.SmallViews(mirror=False, shift=2)(image)
    assert np.array_equal(plain, image)
    assert np.array_equal(upper_left[:-2, :-2], image[2:, 2:])
    assert np.array_equal(lower_right[2:, 2:], image[:-2, :-2])
    assert np.array_equal(lower_right[:2, 2:], image[1::-1, :-2])  # the border is a reflection
    assert transforms.SmallViews()(picture(1, 3)).shape == (6, 1, 3, 3)
    image, evaluation = picture(64, 64), transforms.cifar_eval(64)
    views = transforms.cifar_eval(64, mirror=True, shift=1)(image)
    assert np.array_equal(views, np.stack([evaluation(view) for view in transforms.SmallViews()(image)]))
    for options in ({"mirror": True}, {"shift": 1}):
        with pytest.raises(OptionError, match="Leave mirror and shift out"):
            transforms.ClassificationEval(crop="ten", **options)


def test_crops_of_the_smallest_pictures() -> None:
    for shape in ((1, 1), (1, 50), (50, 1), (3, 2)):
        image = picture(*shape)
        for kind in (transforms.CenterCrop(8), transforms.RandomResizedCrop(8), transforms.RandomCrop(8, 2)):
            assert kind(image, stream()).shape == (8, 8, 3)
        for efficient in (transforms.EfficientNetCenterCrop(8), transforms.EfficientNetRandomCrop(8)):
            assert efficient(image, stream()).shape == (8, 8, 3)
    with pytest.raises(OptionError, match="Resize it first"):
        transforms.TenCrop(8)(picture(7, 20))


# ----------------------------------------------------------------------------------------------------------------------
# Policies


@pytest.mark.parametrize("name", sorted(policy.OPERATIONS))
def test_operations_at_no_strength_change_nothing(name: str) -> None:
    image = picture()
    result = policy.apply_operation(image, name, 0.0, stream())
    assert result.shape == image.shape
    assert result.dtype == np.uint8
    if name not in ("auto_contrast", "equalize", "invert"):
        assert np.array_equal(result, image)


@pytest.mark.parametrize("name", sorted(policy.SIGNED))
def test_signed_operations_go_both_ways(name: str) -> None:
    results = [policy.apply_operation(picture(), name, 0.8, stream(seed)) for seed in range(12)]
    different = {result.tobytes() for result in results}
    assert len(different) == 2


def test_operations_do_what_their_names_say() -> None:
    image, random = picture(), stream()
    assert np.array_equal(policy.apply_operation(image, "invert", 1.0, random), 255 - image)
    assert len(np.unique(policy.apply_operation(image, "posterize", 1.0, random))) <= 16
    assert np.array_equal(policy.apply_operation(image, "solarize", 1.0, random), 255 - image)
    half = policy.apply_operation(image, "solarize", 0.5, random)
    assert np.array_equal(half, np.where(image < 128, image, 255 - image))
    shifted = policy.apply_operation(image, "translate_x", 1.0, random)
    assert (shifted == 128).all(axis=(0, 2)).sum() == round(80 * 150 / 331)


def test_policies_have_the_papers_shape() -> None:
    assert set(policy.POLICIES) == {"imagenet", "cifar10", "svhn"}
    assert len(policy.RANDAUGMENT_OPERATIONS) == 14
    for table in policy.POLICIES.values():
        assert len(table) == 25
        for row in table:
            assert len(row) == 2
            for name, probability, magnitude in row:
                assert name in policy.OPERATIONS
                assert 0.0 <= probability <= 1.0
                assert 0 <= magnitude <= 9


def test_policies_refuse_tensors() -> None:
    with pytest.raises(OptionError, match="before ToTensor"):
        transforms.RandAugment()(np.zeros((3, 8, 8), np.float32), stream())


# ----------------------------------------------------------------------------------------------------------------------
# Presets


@pytest.mark.parametrize(
    ("size", "ratio", "short"), [(224, 0.875, 256), (299, 0.875, 342), (331, 0.875, 379), (32, 1.0, 32)]
)
def test_short_sides(size: int, ratio: float, short: int) -> None:
    first = next(iter(transforms.ClassificationEval(size=size, crop_ratio=ratio).steps()))
    assert first == transforms.Resize(short)
    assert math.ceil(size / ratio) == short


def test_presets_are_their_recipes() -> None:
    kinds = [type(step).__name__ for step in transforms.imagenet_train().steps()]
    assert kinds == [
        "RandomResizedCrop",
        "RandomFlipLeftRight",
        "RandomColorJitter",
        "RandomLighting",
        "ToNormalizedTensor",
    ]
    assert list(transforms.imagenet_train().steps())[2] == transforms.RandomColorJitter(0.4, 0.4, 0.4)
    small = picture(32, 32)
    assert transforms.cifar_train()(small, stream()).shape == (3, 32, 32)
    expected = transforms.Normalize(transforms.CIFAR_MEAN, transforms.CIFAR_STD)(transforms.ToTensor()(small))
    assert np.allclose(transforms.cifar_eval()(small), expected, atol=2e-6)
    tiny = small[:8, :8]
    assert np.allclose(transforms.digits_eval()(tiny), tiny.transpose(2, 0, 1) / 127.5 - 1, atol=1e-6)
    assert all(not isinstance(step, transforms.RandomFlipLeftRight) for step in transforms.digits_train().steps())


def test_presets_take_grey_pictures() -> None:
    grey = picture(32, 32)[..., :1]
    assert transforms.digits_train(16)(grey, stream()).shape == (1, 16, 16)
    assert transforms.digits_eval(16)(grey).shape == (1, 16, 16)
    with pytest.raises(OptionError, match="channels"):
        transforms.cifar_eval()(grey)
    with pytest.raises(OptionError, match="RGB"):
        transforms.RandomColorJitter(0.4)(grey, stream())


def test_a_batch_does_not_depend_on_the_workers() -> None:
    images = np.stack([picture(40, 40, seed) for seed in range(12)])
    data = ArrayDataset(images, np.arange(12)).transform_first(transforms.imagenet_train(16, auto_augment="imagenet"))
    batches = [
        list(DataLoader(data, 4, shuffle=True, seed=1, workers=workers, batch_transform=transforms.MixUp(12)))
        for workers in (0, 2)
    ]
    for alone, together in zip(*batches, strict=True):
        for one, other in zip(alone, together, strict=True):
            assert np.array_equal(one, other)
    assert batches[0][0][0].shape == (4, 3, 16, 16)
    assert batches[0][0][1].shape == (4, 12)


# ----------------------------------------------------------------------------------------------------------------------
# Batches


def batch(count: int = 6) -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(0).normal(size=(count, 3, 8, 10)).astype(np.float32), np.arange(count) % 5


def test_soft_labels_are_gluoncvs() -> None:
    soft = transforms.soft_labels(np.array([1, 4]), 5, 0.1)
    expected = np.full((2, 5), 0.1 / 5)
    expected[0, 1] = expected[1, 4] = 1 - 0.1 + 0.1 / 5
    assert soft.dtype == np.float32
    assert np.allclose(soft, expected)
    assert transforms.soft_labels(soft, 5) is soft
    with pytest.raises(DataError, match="0 to 4"):
        transforms.soft_labels(np.array([5]), 5)
    with pytest.raises(DataError, match=r"\(batch, 6\)"):
        transforms.soft_labels(soft, 6)


def test_mixup_mixes_pictures_and_labels_alike() -> None:
    images, labels = batch()
    mixed, soft = transforms.MixUp(5, 0.7)((images, labels), stream(2))
    share = float(stream(2).beta(0.7, 0.7))
    assert np.allclose(mixed, share * images + (1 - share) * images[::-1], atol=1e-6)
    one_hot = np.eye(5)[labels]
    assert np.allclose(soft, share * one_hot + (1 - share) * one_hot[::-1], atol=1e-6)
    assert mixed.dtype == soft.dtype == np.float32
    same, hard = transforms.MixUp(5, 0.0)((images, labels), stream(2))
    assert np.array_equal(same, images)
    assert np.array_equal(hard, one_hot)


def test_cutmix_pastes_the_share_that_it_labels() -> None:
    images, labels = batch()
    before = images.copy()
    shares = []
    for seed in range(60):
        mixed, soft, extra = transforms.CutMix(5)((images, labels, labels), stream(seed))
        foreign = (mixed != images).any(axis=1)
        assert np.array_equal(mixed[:, :, foreign[0]], images[::-1][:, :, foreign[0]])
        share = 1 - foreign[0].mean()
        one_hot = np.eye(5)[labels]
        assert np.allclose(soft, share * one_hot + (1 - share) * one_hot[::-1], atol=1e-6)
        assert extra is labels
        shares.append(share)
    assert np.array_equal(images, before)
    assert min(shares) < 0.5
    assert max(shares) > 0.9


def test_either_of_the_two() -> None:
    images, labels = batch()
    only_mixup = transforms.MixUpOrCutMix(5, cutmix_probability=0.0)((images, labels), stream(3))
    only_cutmix = transforms.MixUpOrCutMix(5, cutmix_probability=1.0)((images, labels), stream(3))
    random = stream(3)
    random.random()
    expected = transforms.MixUp(5, 0.8)((images, labels), random)
    assert np.array_equal(only_mixup[0], expected[0])
    random = stream(3)
    random.random()
    expected = transforms.CutMix(5)((images, labels), random)
    assert np.array_equal(only_cutmix[0], expected[0])
    plain = transforms.SoftLabels(5, 0.1)((images, labels))
    assert plain[0] is images
    assert np.allclose(plain[1].sum(axis=1), 1)


def test_transforms_know_no_backend() -> None:
    folder = Path(transforms.__file__).parent
    for file in folder.glob("*.py"):
        text = file.read_text("utf-8")
        assert "import torch" not in text
        assert "import mxnet" not in text
