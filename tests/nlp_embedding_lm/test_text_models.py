"""The text classifiers: what they compute, what padding may not change, whose files they read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import model_golden
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import glueball
from glueball import autograd, backend
from glueball.errors import OptionError, WeightsError
from glueball.testing import check_plugin

VARIANTS = list(model_golden.VARIANTS)


def answers(network: Any, ids: np.ndarray, lengths: Any) -> np.ndarray:
    return backend.current().numpy(network(ids, np.asarray(lengths, np.float32)))


def arrays(network: Any) -> dict[str, np.ndarray]:
    return backend.current().get_arrays(network)


def textcnn_by_hand(weights: dict[str, np.ndarray], ids: np.ndarray, length: int, wide: bool) -> np.ndarray:
    """Kim's equations (1) to (3) for one text, window by window."""
    vectors = weights["embedding.weight"][ids[:length]]
    if "embedding_extend.weight" in weights:
        vectors = np.concatenate([vectors, weights["embedding_extend.weight"][ids[:length]]], axis=1)
    features = []
    for index in range(sum(name.startswith("encoder") for name in weights) // 2):
        filters = weights[f"encoder._convs.{index}.0.weight"]  # (filters, width of vectors, words)
        bias = weights[f"encoder._convs.{index}.0.bias"]
        size = filters.shape[2]
        margin = size - 1 if wide else 0
        padded = np.pad(vectors, ((margin, margin), (0, 0)))
        padded = np.pad(padded, ((0, max(0, size - len(padded))), (0, 0)))
        windows = [padded[start : start + size].T for start in range(len(padded) - size + 1)]
        features.append(
            max_over_time([np.maximum((filters * window).sum(axis=(1, 2)) + bias, 0) for window in windows])
        )
    return weights["output.1.weight"] @ np.concatenate(features) + weights["output.1.bias"]


def max_over_time(windows: list[np.ndarray]) -> np.ndarray:
    return np.stack(windows).max(axis=0)


def fasttext_by_hand(weights: dict[str, np.ndarray], ids: np.ndarray, length: int) -> np.ndarray:
    vectors = weights["embedding.weight"][ids[:length]]
    mean = vectors.sum(axis=0) / max(1, length)
    return weights["output.weight"] @ mean + weights["output.bias"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_are_those_of_the_papers_equations(variant: str) -> None:
    network = model_golden.build(variant)
    random = np.random.default_rng(1)
    # Biases that are not zero, as training leaves them.
    backend.current().set_arrays(
        network, {name: random.normal(size=a.shape).astype(np.float32) for name, a in arrays(network).items()}
    )
    weights = arrays(network)
    ids, lengths = model_golden.texts()
    received = answers(network, ids, lengths)
    for row, length in enumerate(lengths.astype(int)):
        if variant.startswith("textcnn"):
            expected = textcnn_by_hand(weights, ids[row], length, wide=variant != "textcnn narrow")
        else:
            expected = fasttext_by_hand(weights, ids[row], length)
        np.testing.assert_allclose(received[row], expected, rtol=1e-4, atol=1e-4, err_msg=f"text {row}")


@pytest.mark.parametrize("other", ["mxnet", "torch"])
def test_logits_and_gradients_are_those_of_the_other_backend(other: str) -> None:
    with np.load(model_golden.FOLDER / f"{other}.npz", allow_pickle=False) as file:
        expected = {name: file[name] for name in file.files}
    received = model_golden.compute()
    assert list(received) == list(expected), "run model_golden.py on both backends"
    for name, values in expected.items():
        np.testing.assert_allclose(received[name], values, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("variant", VARIANTS)
@given(
    lengths=st.lists(st.integers(0, 11), min_size=1, max_size=4),
    extra=st.integers(0, 9),
    filler=st.integers(0, model_golden.VOCAB - 1),
)
@settings(max_examples=15, deadline=None)
def test_padding_changes_no_answer(variant: str, lengths: list[int], extra: int, filler: int) -> None:
    network = model_golden.build(variant)
    width = max(1, max(lengths)) + extra
    ids = np.random.default_rng(0).integers(0, model_golden.VOCAB, (len(lengths), width)).astype(np.int32)
    together = answers(network, ids, lengths)
    assert np.isfinite(together).all()
    for row, length in enumerate(lengths):
        alone = np.full((1, max(1, length)), filler, np.int32)
        alone[0, :length] = ids[row, :length]
        np.testing.assert_allclose(together[row], answers(network, alone, [length])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_order_of_words_matters_to_filters_and_not_to_bags(variant: str) -> None:
    network = model_golden.build(variant)
    ids = np.arange(2, 11, dtype=np.int32)[None]
    straight, reversed_ = answers(network, ids, [9]), answers(network, ids[:, ::-1].copy(), [9])
    only_bags = variant.startswith("fasttext")
    assert np.allclose(straight, reversed_, atol=1e-5) == only_bags


def test_which_vectors_are_trained() -> None:
    frozen = {}
    for mode in ("rand", "static", "non-static", "multichannel"):
        network = model_golden.build(f"textcnn {mode}")
        parameters = backend.current().parameters(network)
        frozen[mode] = [name for name, parameter in parameters.items() if parameter.grad_req == "null"]
    assert frozen == {
        "rand": [],
        "static": ["embedding.weight"],
        "non-static": [],
        "multichannel": ["embedding.weight"],
    }


def test_dropout_is_active_in_training_only() -> None:
    network = model_golden.build("textcnn rand")
    ids, lengths = model_golden.texts()
    np.testing.assert_array_equal(answers(network, ids, lengths), answers(network, ids, lengths))
    with autograd.record():
        first, second = answers(network, ids, lengths), answers(network, ids, lengths)
    assert not np.array_equal(first, second)


# GluonNLP 0.10's sentiment network of the mode "multichannel", with 12 words of 300 components and 2 classes.
GLUONNLP_SHAPES = {
    "embedding.weight": (12, 300),
    "embedding_extend.weight": (12, 300),
    "encoder._convs.0.0.weight": (100, 600, 3),
    "encoder._convs.0.0.bias": (100,),
    "encoder._convs.1.0.weight": (100, 600, 4),
    "encoder._convs.1.0.bias": (100,),
    "encoder._convs.2.0.weight": (100, 600, 5),
    "encoder._convs.2.0.bias": (100,),
    "output.1.weight": (2, 300),
    "output.1.bias": (2,),
}


def test_files_of_gluonnlp_fit(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    saved = {name: random.normal(size=shape).astype(np.float32) for name, shape in GLUONNLP_SHAPES.items()}
    path = tmp_path / "sentiment.params"
    glueball.weights.save(path, saved)
    network = glueball.get_model("textcnn", vocab_size=12, mode="multichannel", pretrained=str(path))
    loaded = arrays(network)
    assert list(loaded) == list(GLUONNLP_SHAPES)
    for name, values in saved.items():
        np.testing.assert_array_equal(loaded[name], values)


def test_a_vocabulary_of_another_size_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    glueball.get_model("textcnn", vocab_size=12, embed_size=5).save_parameters(str(path))
    with pytest.raises(WeightsError, match=r"embedding\.weight"):
        glueball.get_model("textcnn", vocab_size=13, embed_size=5, pretrained=str(path))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("textcnn", {"mode": "frozen"}, "rand, static, non-static, multichannel.*'frozen'"),
        ("textcnn", {"vocab_size": 0}, "vocab_size is a positive integer.*0"),
        ("textcnn", {"embed_size": True}, "embed_size is a positive integer"),
        ("textcnn", {"filter_sizes": ()}, "filter_sizes are positive"),
        ("textcnn", {"num_filters": (3, 4)}, "one for each width"),
        ("textcnn", {"filter_sizes": (0, 1), "num_filters": 4}, "filter_sizes are positive"),
        ("fasttext_classifier", {"buckets": -1}, "buckets is an integer of at least 0.*-1"),
        ("fasttext_classifier", {"vocab_size": 2.5}, "vocab_size is a positive integer"),
    ],
)
def test_options_that_cannot_be(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        glueball.get_model(name, **{"vocab_size": 9, **options})


def test_the_vocabulary_must_be_named() -> None:
    with pytest.raises(OptionError, match="vocab_size"):
        glueball.get_model("textcnn")


@pytest.mark.parametrize("pattern", ["textcnn", "fasttext_classifier"])
def test_the_models_keep_the_promises_of_a_plugin(pattern: str) -> None:
    report = check_plugin("nlp_embedding_lm", pattern=pattern)
    assert report.checked == 4  # state, light import, and two of the model
    assert not [reason for reason in report.skipped if "task" not in reason]


@pytest.mark.parametrize("variant", ["textcnn non-static", "textcnn multichannel", "fasttext"])
def test_the_predictor_gives_what_the_network_gives(variant: str) -> None:
    network = model_golden.build(variant)
    predict = backend.current().predictor(network, device="cpu")
    ids, lengths = model_golden.texts()
    for width in (9, 10, 12, 16, 20, 33):  # more shapes than a backend keeps compiled graphs for
        padded = np.pad(ids, ((0, 0), (0, width - 9)))
        received = backend.current().numpy(predict(padded, lengths))
        np.testing.assert_allclose(received, answers(network, ids, lengths), rtol=1e-3, atol=1e-4)
