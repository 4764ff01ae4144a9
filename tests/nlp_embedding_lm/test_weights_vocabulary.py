"""Weights and the vocabulary that they were trained with: kept together, compared, and taken over."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import own_texts
import pytest

from glueball import backend, weights
from glueball.cli import main
from glueball.engine import ModelSpec, Trainer
from glueball.errors import DataError, OptionError, WeightsError
from glueball.weights.safetensors_file import read_metadata
from glueball_nlp_embedding_lm import weights_vocabulary
from glueball_nlp_embedding_lm.task import TextClassification

CUT_SHORT = ["--epochs", "1", "--batch-size", "16", "--precision", "float32", "--device", "cpu", "--quiet"]
CUT_SHORT += ["--set", "model.options.num_filters=3", "--set", "model.options.embed_size=8"]


@pytest.fixture(scope="module", autouse=True)
def _without_curves() -> Any:
    """matplotlib takes longer than all of these trainings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_draw_curves", lambda self: None)
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts, and the same with another word for one: the vocabularies have the same size and almost all words."""
    folder = tmp_path_factory.mktemp("texts")
    own_texts.write(folder / "train.tsv", 48, 0)
    (folder / "other.tsv").write_text((folder / "train.tsv").read_text().replace("horse", "dog"))
    return folder


@pytest.fixture(scope="module")
def run(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "first"
    assert main(train(files / "train.tsv", out)) == 0
    return out


def train(data: Path, out: Path, *more: Any) -> list[str]:
    words = ["train", "text-classification", "--data", data, "--val", data, "--out", out, *CUT_SHORT, *more]
    return [str(word) for word in words]


def task(data: Path, pretrained: Path | bool = False, **options: Any) -> TextClassification:
    """The task of a small network on a file, with first weights."""
    model = ModelSpec(
        name="textcnn",
        options={"mode": "rand", "num_filters": 3, "embed_size": 8},
        pretrained=str(pretrained) if pretrained else False,
    )
    recipe = own_texts.recipe(data)
    return TextClassification(attrs.evolve(recipe, model=model, options={**recipe.options, **options}))


def without_metadata(file: Path, copy: Path) -> Path:
    """The same weights as a program writes them that knows of no vocabularies."""
    weights.save(copy, weights.load(file))
    return copy


def test_weight_files_say_how_texts_are_read(run: Path) -> None:
    description = json.loads((run / "run.json").read_text())["text"]
    for name in ("best", "last"):
        written = read_metadata(run / "weights" / f"{name}.safetensors")
        assert json.loads(written[weights_vocabulary.KEY]) == description


def test_the_same_words_in_the_same_order_are_loaded(files: Path, run: Path) -> None:
    best = run / "weights" / "best.safetensors"
    network = task(files / "train.tsv", best).build_network()
    received = backend.current().get_arrays(network)
    for name, expected in weights.load(best).items():
        np.testing.assert_array_equal(received[name], expected, err_msg=name)


def test_another_vocabulary_of_the_same_size_is_refused(
    files: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = run / "weights" / "best.safetensors"
    words = json.loads((run / "run.json").read_text())["text"]["vocabulary"]["tokens"]
    assert len(task(files / "other.tsv").pipeline.vocab) == len(words)
    elsewhere = tmp_path / "elsewhere.safetensors"
    shutil.copy(best, elsewhere)
    beside = shutil.copytree(run, tmp_path / "beside") / "weights" / "best.safetensors"
    without_metadata(best, beside)
    for file in (best, elsewhere, beside):
        capsys.readouterr()
        assert main(train(files / "other.tsv", tmp_path / "run", "--pretrained", file)) == 2
        error = capsys.readouterr().err
        place = min(words.index("horse"), task(files / "other.tsv").pipeline.vocab["dog"])
        assert f"token {place}: {words[place]!r} in the file" in error
        assert "Cure: " in error
        assert "--vocabulary" in error
        assert not (tmp_path / "run").exists()


def test_weights_that_do_not_say_are_loaded_with_a_warning(files: Path, run: Path, tmp_path: Path) -> None:
    file = without_metadata(run / "weights" / "best.safetensors", tmp_path / "best.safetensors")
    with pytest.warns(UserWarning, match=r"does not say which words .* vocabulary of \d+ tokens"):
        network = task(files / "other.tsv", file).build_network()
    np.testing.assert_array_equal(
        backend.current().get_arrays(network)["embedding.weight"], weights.load(file)["embedding.weight"]
    )
    other = tmp_path / "best.params"
    weights.save(other, weights.load(file))
    with pytest.warns(UserWarning, match="does not say which words"):
        task(files / "train.tsv", other).build_network()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokenizer": "whitespace"}, r"tokenizer: basic\(lower=True, .*\) in the file, whitespace\(.*\) here"),
        ({"lower": False}, r"tokenizer: basic\(lower=True.* in the file, basic\(lower=False.* here"),
        ({"min_freq": 3}, r"\d+ tokens in the file, \d+ here"),
    ],
)
def test_texts_that_are_cut_in_another_way_are_refused(
    files: Path, run: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(WeightsError, match=message):
        task(files / "train.tsv", run / "weights" / "best.safetensors", **options).build_network()


def test_the_vocabulary_of_another_run_makes_its_weights_fit(files: Path, run: Path, tmp_path: Path) -> None:
    best = run / "weights" / "best.safetensors"
    more = ("--pretrained", best, "--vocabulary", run, "--tokenizer", "whitespace")
    assert main(train(files / "other.tsv", tmp_path / "run", *more)) == 0
    first, second = (json.loads((folder / "run.json").read_text())["text"] for folder in (run, tmp_path / "run"))
    assert second == first
    for source in (run, best):
        fitting = task(files / "other.tsv", best, vocabulary=str(source))
        received = backend.current().get_arrays(fitting.build_network())["embedding.weight"]
        np.testing.assert_array_equal(received, weights.load(best)["embedding.weight"])
        assert fitting.pipeline("a dog")[1] == fitting.pipeline("zzz")[0]  # words of the first run only
        assert any(f"of {source}, cut by its tokeniser 'basic'" in remark for remark in fitting.remarks())
    # The file of the first run is not needed again.
    again = main(["evaluate", str(tmp_path / "run"), "--data", str(files / "other.tsv"), "--device", "cpu"])
    assert again == 0


def test_vocabularies_that_cannot_be_taken(files: Path, run: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="is not the folder of a run"):
        _ = task(files / "train.tsv", vocabulary=str(tmp_path)).pipeline
    file = without_metadata(run / "weights" / "best.safetensors", tmp_path / "best.safetensors")
    with pytest.raises(OptionError, match="does not say how texts are read"):
        _ = task(files / "train.tsv", vocabulary=str(file)).pipeline
    with pytest.raises(OptionError, match=r"takes all words of .* Received: min_freq=2\. Leave"):
        _ = task(files / "train.tsv", vocabulary=str(run), min_freq=2).pipeline


@pytest.mark.parametrize(
    ("written", "error", "message"),
    [
        ("{", WeightsError, "no JSON"),
        ("[]", WeightsError, "no JSON object"),
        ("{}", DataError, "it lacks 'tokenizer'"),
    ],
)
def test_a_damaged_header_is_refused(
    files: Path, run: Path, tmp_path: Path, written: str, error: type[Exception], message: str
) -> None:
    file = tmp_path / "damaged.safetensors"
    weights.save(file, weights.load(run / "weights" / "best.safetensors"), metadata={weights_vocabulary.KEY: written})
    with pytest.raises(error, match=message):
        task(files / "train.tsv", file).build_network()
