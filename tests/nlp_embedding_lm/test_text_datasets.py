"""The published text sets: every form that they are handed around in, splits, folds, and damaged or hostile files."""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import os
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import glueball
from glueball import archives
from glueball.data import DataLoader
from glueball.errors import DataError, DownloadError, OptionError
from glueball.testing import check_plugin
from glueball_nlp_embedding_lm import datasets
from glueball_nlp_embedding_lm.datasets import common, customer_reviews, sst
from glueball_nlp_embedding_lm.datasets.common import Division, PublishedDataset, divide, fold_of_samples
from glueball_nlp_embedding_lm.embedding import EVALUATION_SETS

QUESTIONS = (
    b"DESC:manner How did serfdom develop in and then leave Russia ?\n"
    b"ENTY:cremat What films featured the character Popeye Doyle ?\n"
    b"LOC:city Which city has the oldest relationship as a sister\xf0city with Los Angeles ?\n"
    b"ABBR:exp What is the full form of .com ?\n"
)
PUBLISHED = [getattr(datasets, name) for name in datasets.__all__ if name not in ("TextFile",)]
PUBLISHED = [kind for kind in PUBLISHED if issubclass(kind, PublishedDataset) and kind is not PublishedDataset]


@pytest.fixture(autouse=True)
def _nothing_but_what_a_test_puts_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("GLUEBALL_DATA", "MXNET_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.setenv("GLUEBALL_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GLUEBALL_OFFLINE", "1")


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tar_of(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def official(
    monkeypatch: pytest.MonkeyPatch, kind: type[PublishedDataset], part: str, pairs: list[Any]
) -> tuple[str, bytes, str, bytes]:
    """Makes an archive of ``pairs`` the official one: its name and content, and the name and content of the JSON."""
    content = json.dumps(pairs).encode()
    source = kind.sources[part]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(source.member or source.file, content)
    packed = buffer.getvalue() if source.member else content
    hashes = {"sha1": hashlib.sha1(packed).hexdigest()}
    if source.member:
        hashes["member_sha1"] = hashlib.sha1(content).hexdigest()
    monkeypatch.setattr(kind, "sources", {**kind.sources, part: attrs.evolve(source, **hashes)})
    return source.file, packed, source.member or source.file, content


# ----------------------------------------------------------------------------------------------------------------------
# Every data set


def test_every_registered_data_set_is_one_of_the_classes() -> None:
    names = set(glueball.list_datasets(plugin="nlp_embedding_lm")) - set(EVALUATION_SETS)
    targets = {glueball.catalog.current().find("dataset", name).target.partition(":")[2] for name in names}
    assert targets == {kind.__name__ for kind in PUBLISHED} | {"TextFile"}
    assert names == {kind.name for kind in PUBLISHED} | {"text_file"}


@pytest.mark.parametrize("kind", PUBLISHED)
def test_missing_files_are_told_with_the_place_where_they_belong(kind: type[PublishedDataset], tmp_path: Path) -> None:
    split = kind.parts[0]
    with pytest.raises((DownloadError, DataError)) as caught:
        kind(split)
    message = str(caught.value)
    assert str(tmp_path / "cache" / "datasets" / kind.name) in message
    if kind.sources:
        assert isinstance(caught.value, DownloadError)
        assert kind.sources[split].sha1 in message
        assert "GLUEBALL_OFFLINE" in message
    else:
        assert kind.archives[0] in message
    with pytest.raises(DataError, match=r"root="):
        kind(split, tmp_path / "nowhere", download=False)


def test_sentences_of_sst_alone_are_not_fetched_as_phrases(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"It is not fetched(?s:.*)trainDevTestTrees_PTB.zip"):
        datasets.SST2(root=tmp_path, phrases=False)
    with pytest.raises(DownloadError, match="dev-65511587"):
        datasets.SST2("dev", root=tmp_path, phrases=False)


@pytest.mark.parametrize("kind", [kind for kind in PUBLISHED if kind.sources])
def test_gluonnlps_json_is_read_as_archive_as_file_and_from_its_own_cache(
    kind: type[PublishedDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = kind.parts[-1] if kind is not datasets.IMDB else "test"
    labels = [9, 1, 7, 4] if kind is datasets.IMDB else [1, 0, 1, 0]
    pairs = [[text, label] for text, label in zip(["a b", "", "é\u0085x", "d"], labels, strict=True)]
    archive, packed, name, content = official(monkeypatch, kind, part, pairs)
    monkeypatch.setenv("GLUEBALL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "mxnet"))
    foreign = kind.foreign or kind.name
    plain = f"{name.partition('-')[0].removesuffix('.json')}.json"
    places = [
        (tmp_path / "data" / kind.name / archive, packed),
        (tmp_path / "data" / "text" / name, content),
        (tmp_path / "data" / kind.name / plain, content),
        (tmp_path / "cache" / "datasets" / kind.name / archive, packed),
        (tmp_path / "mxnet" / "datasets" / foreign / name, content),
        (tmp_path / "home" / ".mxnet" / "datasets" / foreign / name, content),
    ]
    if kind is datasets.IMDB:
        # Its name is no more than test.json, which says nothing in a folder of many sets.
        places.pop(1)
    for path, written in places:
        write(path, written)
        dataset = kind(part)
        assert dataset.texts == ["a b", "", "é\u0085x", "d"]
        assert dataset.labels().tolist() == [1, 0, 1, 0]
        assert str(path.parent) in dataset.summary
        path.unlink()
    with pytest.raises(DownloadError):
        kind(part)


def test_json_may_lie_in_a_folder_of_its_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, name, content = official(monkeypatch, datasets.MR, "all", [["a", 1]])
    path = zip_of(tmp_path / "mine.zip", {f"inner/{name}": content})
    assert list(datasets.MR(root=path)) == [("a", 1)]
    zip_of(path, {f"inner/{name}": content + b" "})
    with pytest.raises(DataError, match="hash of the official file"):
        datasets.MR(root=path)


def test_an_official_name_with_another_content_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "all-7606efec.json", '[["a", 1]]')
    with pytest.raises(DataError, match=r"hash of the official file.*7606efec578d9613f5c38bf2cef8d3e4e6575b2c"):
        datasets.MR(root=tmp_path)
    assert path.is_file()
    zip_of(tmp_path / "zip" / "all-7606efec.zip", {"all-7606efec.json": b"[]"})
    with pytest.raises(DataError, match="0fcbaffe0bac94733e6497f700196585f03fa89e"):
        datasets.MR(root=tmp_path / "zip")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}', "no array"),
        (b"[[1, 1]]", "element 0"),
        (b'[["a", 1], ["b", true]]', "element 1"),
        (b'[["a", 1], ["b"]]', "element 1"),
        (b'[["a", 2]]', "labels from 2 to 2"),
        (b'[["a", -1]]', "labels from -1"),
        (b'[["a", 1]', "no JSON"),
        (b'[["\xff", 1]]', "no JSON in UTF-8"),
        (b"[" * 100000, "no JSON"),
    ],
)
def test_damaged_json_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    write(tmp_path / "all.json", content)
    with pytest.raises(DataError, match=message):
        datasets.MR(root=tmp_path)


def test_another_number_of_samples_than_published_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "all.json", '[["a", 1], ["b", 0]]')
    datasets.MR(root=tmp_path)
    assert "holds 2 samples, expected 10662" in caplog.text


def test_samples_go_through_a_loader(tmp_path: Path) -> None:
    write(tmp_path / "all.json", json.dumps([[f"text {number}", number % 2] for number in range(7)]))
    dataset = datasets.MR(root=tmp_path)
    assert list(pickle.loads(pickle.dumps(dataset))) == list(dataset)
    seen = [
        sample
        for batch in DataLoader(dataset, batch_size=3, batchify_fn=list, num_workers=0)  # type: ignore[arg-type]
        for sample in batch
    ]
    assert seen == [(f"text {number}", number % 2) for number in range(7)]
    assert dataset[-1] == ("text 6", 0)
    with pytest.raises(IndexError):
        dataset[7]
    assert dataset.transform(lambda text, label: (text.upper(), label))[1] == ("TEXT 1", 1)
    first, second = dataset.split(0.5, stratify=True)
    assert len(first) + len(second) == 7


def test_the_official_source_is_downloaded_and_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, packed, _, _ = official(monkeypatch, datasets.TREC, "test", [["What is it ?", 1]])
    monkeypatch.delenv("GLUEBALL_OFFLINE")
    sent = [packed]

    def download(url: str, target: Path, **options: Any) -> None:
        assert url.endswith("/gluon/dataset/trec/test-ff9ad0ce.zip")
        write(target, sent[-1])

    monkeypatch.setattr("glueball.weights.download.download", download)
    assert datasets.TREC("test")[0] == ("What is it ?", 1)
    kept = tmp_path / "cache" / "datasets" / "trec" / "test-ff9ad0ce.zip"
    assert kept.read_bytes() == packed
    kept.unlink()
    sent.append(packed + b"x")
    with pytest.raises(DownloadError, match="another hash"):
        datasets.TREC("test")
    assert not kept.exists()
    assert not any(path.name.endswith(".download") for path in kept.parent.iterdir())


# ----------------------------------------------------------------------------------------------------------------------
# Folds and held-out parts


@pytest.fixture
def polarity(tmp_path: Path) -> Path:
    write(tmp_path / "mr" / "all.json", json.dumps([[f"text {number}", int(number % 3 == 0)] for number in range(103)]))
    return tmp_path / "mr"


@pytest.mark.parametrize("folds", [2, 10, 103])
def test_every_sample_is_in_exactly_one_part(polarity: Path, folds: int) -> None:
    parts = [datasets.MR("test", polarity, fold=fold, folds=folds) for fold in range(folds)]
    texts = [text for part in parts for text in part.texts]
    assert sorted(texts) == sorted(datasets.MR(root=polarity).texts)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    if folds < 20:
        shares = [int(part.labels().sum()) for part in parts]
        assert max(shares) - min(shares) <= 1
    for fold, part in enumerate(parts[:3]):
        rest = datasets.MR("train", polarity, fold=fold, folds=folds)
        assert len(rest) + len(part) == 103
        assert not set(rest.texts) & set(part.texts)
        assert datasets.MR("validation", polarity, fold=fold, folds=folds).texts == part.texts
        assert part.describe(0).endswith(f"sample {part.texts[0].split()[1]}")


def test_a_part_for_early_stopping_is_held_out_of_the_rest(polarity: Path) -> None:
    options: dict[str, Any] = {"fold": 3, "folds": 5, "holdout": 0.1}
    train, validation, test = (datasets.MR(split, polarity, **options) for split in ("train", "val", "test"))
    assert sorted(train.texts + validation.texts + test.texts) == sorted(datasets.MR(root=polarity).texts)
    assert test.texts == datasets.MR("test", polarity, fold=3, folds=5).texts
    assert np.bincount(validation.labels()).tolist() == [6, 3]
    assert "part 3 of 5" in test.summary
    assert "held out" not in test.summary
    assert "without part 3 of 5, the 10% of every class held out" in validation.summary
    assert "without part 3 of 5, without the 10% of every class held out" in train.summary


def test_held_out_parts_are_stratified_and_depend_on_the_seed_alone(polarity: Path) -> None:
    train = datasets.MR("train", polarity, holdout=0.2)
    validation = datasets.MR("validation", polarity, holdout=0.2)
    assert sorted(train.texts + validation.texts) == sorted(datasets.MR(root=polarity).texts)
    assert np.bincount(validation.labels()).tolist() == [14, 7]
    assert datasets.MR("dev", polarity, holdout=0.2).texts == validation.texts
    assert datasets.MR("dev", polarity, holdout=0.2, fold_seed=1).texts != validation.texts


def test_parts_are_those_of_every_machine() -> None:
    labels = np.arange(12) % 3
    assert fold_of_samples(labels, 4).tolist() == FOLDS
    assert divide(labels, "validation", Division(holdout=0.3, seed=5)).tolist() == HELD_OUT


@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=80),
    folds=st.integers(2, 9),
    seed=st.integers(0, 2**64 - 1),
    holdout=st.one_of(st.none(), st.floats(0.01, 0.99)),
)
@settings(max_examples=60, deadline=None)
def test_parts_never_overlap_and_lose_nothing(labels: list[int], folds: int, seed: int, holdout: float | None) -> None:
    array = np.array(labels)
    if len(labels) < folds:
        with pytest.raises(DataError):
            fold_of_samples(array, folds, seed)
        return
    parts = []
    for fold in range(folds):
        division = Division(fold, folds, seed, holdout)
        part = divide(array, "test", division)
        parts.append(part)
        rest = np.setdiff1d(np.arange(len(labels)), part)
        if holdout is not None and np.bincount(array[rest]).max() < 2:
            with pytest.raises(DataError, match="no class has two samples"):
                divide(array, "train", division)
            continue
        pieces = [divide(array, split, division) for split in ("train", "validation")]
        if holdout is None:
            assert pieces[1].tolist() == part.tolist()
            pieces.pop()
        together = np.concatenate([part, *pieces])
        assert sorted(together.tolist()) == list(range(len(labels)))
        assert all(len(piece) for piece in pieces)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))


@pytest.mark.parametrize(
    "options",
    [
        {"fold": 10},
        {"fold": -1},
        {"fold": 0, "folds": 1},
        {"fold": True},
        {"fold": 0.0},
        {"holdout": 0.0},
        {"holdout": 1.0},
        {"fold": 0, "fold_seed": -1},
    ],
)
def test_divisions_that_cannot_be_are_refused(options: dict[str, Any], polarity: Path) -> None:
    with pytest.raises(OptionError):
        datasets.MR("train", polarity, **options)


def test_a_split_that_is_not_there_is_refused_with_the_way_to_make_it(polarity: Path, tmp_path: Path) -> None:
    for split in ("train", "validation"):
        with pytest.raises(OptionError, match=r"holdout=0.1.*fold=0, folds=10"):
            datasets.MR(split, polarity)
    with pytest.raises(OptionError, match=r"fold=0, folds=10"):
        datasets.MR("test", polarity, holdout=0.1)
    with pytest.raises(OptionError, match="not divided"):
        datasets.MR("all", polarity, fold=1)
    with pytest.raises(OptionError, match="Unknown split"):
        datasets.MR("trian", polarity)
    # Never the test part in place of a validation part that is not there.
    with pytest.raises(OptionError, match=r"holdout=0.1"):
        datasets.TREC("validation", tmp_path)
    with pytest.raises(OptionError, match="two meanings"):
        datasets.TREC("test", tmp_path, fold=0, holdout=0.1)
    with pytest.raises(OptionError, match="validation part of its own"):
        datasets.SST1("train", tmp_path, holdout=0.1, phrases=False)
    with pytest.raises(OptionError, match=r"phrases=False"):
        datasets.SST1("train", tmp_path, fold=0)
    with pytest.raises(OptionError, match="not divided"):
        datasets.IMDB("unsup", tmp_path, fold=0)


# ----------------------------------------------------------------------------------------------------------------------
# TREC


@pytest.mark.parametrize("form", ["official", "nltk", "zip", "zip itself"])
def test_trec_in_every_form(form: str, tmp_path: Path) -> None:
    root = tmp_path
    if form == "official":
        write(tmp_path / "train_5500.label", QUESTIONS)
    elif form == "nltk":
        write(tmp_path / "qc" / "train.txt", QUESTIONS)
    else:
        path = zip_of(tmp_path / "qc.zip", {"qc/README": b"", "qc/train.txt": QUESTIONS.replace(b"\n", b"\r\n")})
        root = path if form == "zip itself" else tmp_path
    coarse = datasets.TREC(root=root)
    assert [coarse.classes[label] for label in coarse.labels()] == ["DESC", "ENTY", "LOC", "ABBR"]
    assert coarse[2] == ("Which city has the oldest relationship as a sister city with Los Angeles ?", 4)
    assert coarse.describe(2).endswith("line 3")
    fine = datasets.TREC(root=root, fine=True)
    assert [fine.classes[label] for label in fine.labels()] == ["DESC:manner", "ENTY:cremat", "LOC:city", "ABBR:exp"]
    assert fine.texts == coarse.texts


def test_trec_has_one_text_whether_it_comes_as_json_or_not(tmp_path: Path) -> None:
    write(tmp_path / "train.json", json.dumps([["as a sister\ufffdcity with", 4]]))
    assert datasets.TREC(root=tmp_path)[0] == ("as a sister city with", 4)


@pytest.mark.parametrize("line", [b"XXXX:y What ?", b"What is it ?", b"DESC What ?", b"", b"DESC:manner"])
def test_trec_refuses_lines_that_are_no_questions(line: bytes, tmp_path: Path) -> None:
    write(tmp_path / "train_5500.label", QUESTIONS + line + b"\n" + QUESTIONS)
    with pytest.raises(DataError, match="line 5"):
        datasets.TREC(root=tmp_path)


def test_trec_fine_classes_do_not_come_from_json(tmp_path: Path) -> None:
    write(tmp_path / "train.json", "[]")
    with pytest.raises(DataError, match=r"fine classes are in.*qc.zip"):
        datasets.TREC(root=tmp_path, fine=True)
    write(tmp_path / "train_5500.label", "DESC:unheard What ?\n")
    with pytest.raises(DataError, match="line 1"):
        datasets.TREC(root=tmp_path, fine=True)


# ----------------------------------------------------------------------------------------------------------------------
# One sentence a line


@pytest.mark.parametrize(
    ("kind", "negative", "positive", "folder", "archive"),
    [
        (datasets.MR, "rt-polarity.neg", "rt-polarity.pos", "rt-polaritydata", "rt-polaritydata.tar.gz"),
        (datasets.MR, "rt-polarity.neg", "rt-polarity.pos", "sentence_polarity", "sentence_polarity.zip"),
        (datasets.SUBJ, "plot.tok.gt9.5000", "quote.tok.gt9.5000", "subjectivity", "subjectivity.zip"),
        (datasets.SUBJ, "plot.tok.gt9.5000", "quote.tok.gt9.5000", "rotten_imdb", "rotten_imdb.tar.gz"),
        (datasets.MPQA, "mpqa.neg", "mpqa.pos", "MPQA", None),
        (datasets.CR, "custrev.neg", "custrev.pos", "CR", None),
    ],
)
def test_sentences_in_every_form(
    kind: type[PublishedDataset], negative: str, positive: str, folder: str, archive: str | None, tmp_path: Path
) -> None:
    # NEL and other old separators do not end a line; Windows-1252 and UTF-8 are both read for what they are.
    members = {
        negative: "so b\u00e9ad\x85 \r\nsecond\x0cone\n".encode("cp1252", "ignore"),
        positive: b"caf\xc3\xa9 \xe2\x80\xa6\n",
    }
    members[negative] = b"so b\xe9ad \x85x\r\nsecond\x0cone\n"
    expected = [("café …", 1), ("so béad …x", 0), ("second\x0cone", 0)]
    for name, content in members.items():
        write(tmp_path / "plain" / name, content)
        write(tmp_path / "folder" / folder / name, content)
    assert list(kind(root=tmp_path / "plain")) == expected
    assert list(kind(root=tmp_path / "folder")) == expected
    if archive is not None:
        pack = zip_of if archive.endswith(".zip") else tar_of
        path = pack(tmp_path / "archive" / archive, {f"{folder}/{name}": one for name, one in members.items()})
        assert list(kind(root=tmp_path / "archive")) == expected
        assert list(kind(root=path)) == expected
    (tmp_path / "plain" / positive).unlink()
    with pytest.raises(DataError, match=f"but not {positive}"):
        kind(root=tmp_path / "plain")
    write(tmp_path / "plain" / positive, "one\n\ntwo\n")
    with pytest.raises(DataError, match="line 2"):
        kind(root=tmp_path / "plain")


def test_a_file_in_two_encodings_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "rt-polarity.pos", b"caf\xc3\xa9\ngood\nna\xefve\n")
    write(tmp_path / "rt-polarity.neg", b"bad\n")
    with pytest.raises(DataError, match=r"rt-polarity.pos, line 3: the byte 0xef is no UTF-8"):
        datasets.MR(root=tmp_path)


def test_customer_reviews_are_what_most_of_their_annotations_are(tmp_path: Path) -> None:
    first = (
        "* Annotated by: somebody\n[t]great phone[+3]\nphone[+1], sound[+1], work[-3]##it works well . \n"
        "##nothing is said here .\nsize[+3][u], weight[-1]##small but heavy .\nprice[-]##too dear . \n"
        "run[+3], dvd media[+2][u]#one mark only .\nplayer[+1][u] no mark at all\nplayer[+1]\nno opinion\n"
    )
    second = "a[+1]##good ? b[-2]##bad .\nvideo output[-3[p][u]##poor .\nlook[2]##unsigned\n\nlast{+1]##fine\n"
    second += "##zen[+2] in the text .\nmute[+1]##\n"
    zip_of(
        tmp_path / "text" / "product_reviews_1.zip",
        {"product_reviews_1/README.txt": b"x[+1]##no", "product_reviews_1/A.txt": first.encode()},
    )
    with pytest.raises(DataError):
        datasets.CR(root=tmp_path / "text", download=False)
    write(tmp_path / "text" / "product_reviews_2" / "B.txt", second)
    dataset = datasets.CR(root=tmp_path / "text")
    assert list(dataset) == [
        ("it works well .", 1),
        ("too dear .", 0),
        ("one mark only .", 1),
        ("no mark at all", 1),
        ("poor .", 0),
        ("fine", 1),
    ]
    assert "2 sentences without an opinion, 1 whose opinions cancel out, 4 that cannot be told" in dataset.summary
    counts = customer_reviews._Counts()
    assert customer_reviews._sentence("a[+10]##x", counts) == ("x", 1)


# ----------------------------------------------------------------------------------------------------------------------
# SST

TREES = (
    "(3 (2 (2 The) (2 Rock)) (4 (3 is) (4 (2 -LRB-) (4 great\\/good))))\n"
    "(2 (2 It) (2 (2 is) (1 (2 so) (1 so))))\n"
    "(0 (1 bad) (0 (2 It) (0 sinks)))\n"
)


@pytest.mark.parametrize("form", ["folder", "zip", "plain"])
def test_sst_from_trees(form: str, tmp_path: Path) -> None:
    if form == "zip":
        zip_of(
            tmp_path / "trainDevTestTrees_PTB.zip", {"trees/train.txt": TREES.encode(), "trees/dev.txt": b"(4 good)"}
        )
    else:
        inner = tmp_path / "trees" if form == "folder" else tmp_path
        write(inner / "train.txt", TREES)
        write(inner / "dev.txt", "(4 good)")
    sentences = datasets.SST1(root=tmp_path, phrases=False)
    assert list(sentences) == [("The Rock is ( great/good", 3), ("It is so so", 2), ("bad It sinks", 0)]
    assert list(datasets.SST2(root=tmp_path, phrases=False)) == [("The Rock is ( great/good", 1), ("bad It sinks", 0)]
    phrases = datasets.SST1(root=tmp_path)
    assert len(phrases) == 9 + 7 + 4
    assert phrases.texts.count("It") == 1
    assert ("so so", 1) in list(phrases)
    assert ("sinks", 0) in list(datasets.SST2(root=tmp_path))
    assert "It" not in datasets.SST2(root=tmp_path).texts
    assert list(datasets.SST1("dev", tmp_path)) == [("good", 4)]
    parts = [datasets.SST1("val", tmp_path, phrases=False, fold=fold, folds=3).texts for fold in range(3)]
    assert sorted(text for part in parts for text in part) == sorted(sentences.texts)


def test_sst_from_lines(tmp_path: Path) -> None:
    write(tmp_path / "stsa.fine.phrases.train", "4 a fine film\n0 bad\n")
    write(tmp_path / "stsa.fine.train", "4 a fine film\n")
    write(tmp_path / "stsa.binary.test", "1 good\n2 what\n")
    assert list(datasets.SST1(root=tmp_path)) == [("a fine film", 4), ("bad", 0)]
    assert list(datasets.SST1(root=tmp_path, phrases=False)) == [("a fine film", 4)]
    with pytest.raises(DataError, match="line 2"):
        datasets.SST2("test", tmp_path)


@pytest.mark.parametrize(
    "line", ["(3 a", "3 a)", "(5 a)", "(3 (2 a) (2 b)", "(3 a) (2 b)", "(3 )", "", "a", "(3 (2 ) b)"]
)
def test_trees_that_are_none_are_refused(line: str) -> None:
    with pytest.raises(DataError, match=r"x, line 1"):
        list(sst.phrases_of(line, "x, line 1"))


# ----------------------------------------------------------------------------------------------------------------------
# Whole reviews


@pytest.mark.parametrize("form", ["folder", "tar", "zip"])
def test_imdb_in_its_original_form(form: str, tmp_path: Path) -> None:
    members = {
        "aclImdb/train/pos/10_7.txt": b"ten",
        "aclImdb/train/pos/9_10.txt": "na\u00efve<br />".encode(),
        "aclImdb/train/neg/0_1.txt": b"bad",
        "aclImdb/train/unsup/3_0.txt": b"who knows",
        "aclImdb/train/urls_pos.txt": b"http",
        "aclImdb/test/neg/0_2.txt": b"worse",
    }
    if form == "folder":
        for name, content in members.items():
            write(tmp_path / name, content)
    elif form == "tar":
        tar_of(tmp_path / "aclImdb_v1.tar.gz", members)
    else:
        zip_of(tmp_path / "aclImdb.zip", members)
    assert list(datasets.IMDB(root=tmp_path)) == [("bad", 0), ("naïve<br />", 1), ("ten", 1)]
    assert list(datasets.IMDB("test", tmp_path)) == [("worse", 0)]
    unlabelled = datasets.IMDB("unsup", tmp_path)
    assert list(unlabelled) == [("who knows", -1)]
    assert unlabelled.classes == ()
    assert datasets.IMDB(root=tmp_path).classes == ("negative", "positive")


def test_imdb_scores_that_do_not_belong_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "aclImdb" / "train" / "pos" / "1_3.txt", "x")
    with pytest.raises(DataError, match="score 3"):
        datasets.IMDB(root=tmp_path)
    write(tmp_path / "aclImdb" / "train" / "pos" / "1_3.txt", "x").rename(tmp_path / "aclImdb/train/pos/1_5.txt")
    with pytest.raises(DataError, match="Received: 5"):
        datasets.IMDB(root=tmp_path)


@pytest.mark.parametrize("form", ["zip", "tar", "folder"])
def test_movie_reviews(form: str, tmp_path: Path) -> None:
    top = "movie_reviews" if form == "zip" else "txt_sentoken"
    members = {
        f"{top}/pos/cv001_2.txt": b"good .\nvery .\n",
        f"{top}/neg/cv001_1.txt": b"bad\n",
        f"{top}/neg/cv000_9.txt": b"w\xf6rse\n",
        f"{top}/README": b"x",
    }
    if form == "zip":
        zip_of(tmp_path / "movie_reviews.zip", members)
    elif form == "tar":
        tar_of(tmp_path / "review_polarity.tar.gz", members)
    else:
        for name, content in members.items():
            write(tmp_path / name, content)
    assert list(datasets.MovieReviews(root=tmp_path)) == [("wörse\n", 0), ("bad\n", 0), ("good .\nvery .\n", 1)]


# ----------------------------------------------------------------------------------------------------------------------
# Topics


TOPICS = [kind for kind in PUBLISHED if kind.__module__.endswith(".topics")]


@pytest.mark.parametrize("kind", TOPICS)
def test_topics_in_every_form(kind: Any, tmp_path: Path) -> None:
    last = len(kind.classes)
    fields = ['"He said ""no"", \\n twice"', '"second\nline"', "third"][: kind.fields]
    content = f'{last},{",".join(fields)}\n"1",{",".join(["x"] * kind.fields)}\n'.encode()
    newline = "\n" if kind.escaped_newlines else "\\n"
    text = " ".join([f'He said "no", {newline} twice', "second\nline", "third"][: kind.fields])
    expected = [(text, last - 1), (" ".join(["x"] * kind.fields), 0)]
    folder = kind.folders[0]
    write(tmp_path / "a" / folder / "train.csv", content)
    tar_of(tmp_path / "b" / f"{folder}.tar.gz", {f"{folder}/train.csv": content, f"{folder}/test.csv": b"1,x\n"})
    zip_of(tmp_path / "c" / f"{folder}.zip", {f"{folder}/train.csv": content})
    write(tmp_path / "d" / kind.name / "train.csv", content)
    for form in "abcd":
        assert list(kind(root=tmp_path / form)) == expected
    write(tmp_path / "e" / f"{kind.stem}.train", f"__label__{last} , some text\n__label__1 more\n")
    assert list(kind(root=tmp_path / "e")) == [("some text", last - 1), ("more", 0)]
    for bad in (f"{last + 1},{','.join(fields)}\n", "1\n", "0,x\n", '1,"x\n'):
        write(tmp_path / "f" / "train.csv", "1," + ",".join(["x"] * kind.fields) + "\n" + bad)
        with pytest.raises(DataError, match="line 2"):
            kind(root=tmp_path / "f")
    write(tmp_path / "g" / f"{kind.stem}.train", "__label__1 ok\nno label\n")
    with pytest.raises(DataError, match="line 2"):
        kind(root=tmp_path / "g")


# ----------------------------------------------------------------------------------------------------------------------
# Where they are looked for, and archives that are damaged or hostile


def test_the_folder_of_all_data_sets_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLUEBALL_DATA", str(tmp_path / "data"))
    # A file of some other set, whose name alone says nothing.
    write(tmp_path / "data" / "train.txt", "something else\n")
    write(tmp_path / "data" / "text" / "train.json", "[]")
    archive = {"qc/train.txt": QUESTIONS}
    for path in ("trec/qc.zip", "text/qc.zip", "qc.zip"):
        zip_of(tmp_path / "data" / path, archive)
        dataset = datasets.TREC()
        assert len(dataset) == 4
        assert dataset.root == tmp_path / "data" / path
        (tmp_path / "data" / path).unlink()
    with pytest.raises(DownloadError):
        datasets.TREC()


def test_a_file_that_is_neither_folder_nor_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a folder nor an archive"):
        datasets.TREC(root=write(tmp_path / "train.txt", QUESTIONS))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"text"])
def test_damaged_archives_are_refused(content: bytes, tmp_path: Path) -> None:
    write(tmp_path / "qc.zip", content)
    with pytest.raises(DataError, match=r"damaged"):
        datasets.TREC(root=tmp_path)
    write(tmp_path / "tar" / "rt-polaritydata.tar.gz", content)
    with pytest.raises(DataError, match="damaged"):
        datasets.MR(root=tmp_path / "tar")


def test_a_zip_that_was_cut_or_changed_is_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "qc.zip", {"qc/train.txt": QUESTIONS * 200})
    whole = path.read_bytes()
    for changed in (whole[: len(whole) // 2], whole[:100] + b"\xff\xff\xff" + whole[103:]):
        path.write_bytes(changed)
        with pytest.raises(DataError, match="damaged"):
            datasets.TREC(root=tmp_path)


def test_a_tar_that_was_cut_is_refused(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "review_polarity.tar.gz", {"txt_sentoken/neg/cv000_1.txt": os.urandom(5000)})
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match="damaged"):
        datasets.MovieReviews(root=tmp_path)


def test_bombs_are_left_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "SMALL", 1000)
    zeros = bytes(2_000_000)
    zip_of(tmp_path / "a" / "qc.zip", {"qc/train.txt": zeros})
    with pytest.raises(DataError, match="bomb"):
        datasets.TREC(root=tmp_path / "a")
    tar_of(tmp_path / "b" / "rt-polaritydata.tar.gz", {"rt-polarity.pos": zeros, "rt-polarity.neg": b"x"})
    with pytest.raises(DataError, match="bomb"):
        datasets.MR(root=tmp_path / "b")
    # A size in the headers that is a lie.
    path = zip_of(tmp_path / "c" / "qc.zip", {"qc/train.txt": zeros})
    path.write_bytes(path.read_bytes().replace((2_000_000).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    with pytest.raises(DataError, match=r"bomb|damaged"):
        datasets.TREC(root=tmp_path / "c")
    reader = io.BufferedReader(archives.BoundedReader(io.BytesIO(bytes(101)), 100, "it"))
    with pytest.raises(DataError, match="it unpacks to more than 100 bytes"):
        reader.read()


def test_links_and_names_that_lead_out_of_an_archive_are_never_followed(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret.txt", QUESTIONS)
    link = zipfile.ZipInfo("qc/train.txt")
    link.external_attr = 0o120777 << 16
    path = tmp_path / "a" / "qc.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, os.fspath(secret))
    with pytest.raises(DownloadError):
        datasets.TREC(root=tmp_path / "a")
    (tmp_path / "b").mkdir()
    with tarfile.open(tmp_path / "b" / "rt-polaritydata.tar.gz", "w:gz") as packed:
        for name in ("rt-polarity.pos", "rt-polarity.neg"):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, os.fspath(secret)
            packed.addfile(info)
    with pytest.raises(DownloadError):
        datasets.MR(root=tmp_path / "b")
    zip_of(tmp_path / "c" / "qc.zip", {"../../secret.txt": b"x", "qc/train.txt": QUESTIONS})
    before = sorted(tmp_path.rglob("*"))
    assert len(datasets.TREC(root=tmp_path / "c")) == 4
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "qc.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("qc/train.txt", QUESTIONS)
        archive.writestr("qc/train.txt", QUESTIONS)
    with pytest.raises(DataError, match="twice"):
        datasets.TREC(root=tmp_path)
    zip_of(path, {"a/train.txt": QUESTIONS, "b/train.txt": QUESTIONS})
    with pytest.raises(DataError, match="2 files called train"):
        datasets.TREC(root=tmp_path)


def test_encrypted_archives_are_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "qc.zip", {"qc/train.txt": QUESTIONS})
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="encrypted"):
        datasets.TREC(root=tmp_path)


# ----------------------------------------------------------------------------------------------------------------------
# The real ones

DATA = os.environ.get("GLUEBALL_DATA")


def real(*files: str) -> Any:
    missing = [file for file in files if DATA is None or not (Path(DATA) / "text" / file).is_file()]
    return pytest.mark.skipif(bool(missing), reason=f"GLUEBALL_DATA has no text/{', text/'.join(missing)}")


def real_root() -> Path:
    assert DATA is not None
    return Path(DATA) / "text"


@real("qc.zip")
def test_real_trec_is_gluonnlps_byte_for_byte() -> None:
    for split in ("train", "test"):
        dataset = datasets.TREC(split, real_root())
        pairs = [[text.replace("sister city with", "sister\ufffdcity with"), label] for text, label in dataset]
        content = json.dumps(pairs).encode()
        assert hashlib.sha1(content).hexdigest() == datasets.TREC.sources[split].member_sha1
    fine = datasets.TREC(root=real_root(), fine=True)
    assert len(fine.classes) == len(set(fine.labels().tolist())) == 50
    coarse = datasets.TREC(root=real_root())
    assert all(
        fine.classes[a].startswith(coarse.classes[b]) for a, b in zip(fine.labels(), coarse.labels(), strict=True)
    )


@real("sentence_polarity.zip")
def test_real_mr() -> None:
    dataset = datasets.MR(root=real_root())
    assert np.bincount(dataset.labels()).tolist() == [5331, 5331]
    assert dataset[3][0].startswith("if you sometimes like to go to the movies to have fun ,")
    folds = [datasets.MR("test", real_root(), fold=fold) for fold in range(10)]
    assert sorted({len(fold) for fold in folds}) == [1066, 1067]
    assert sorted(text for fold in folds for text in fold.texts) == sorted(dataset.texts)


@real("product_reviews_1.zip", "product_reviews_2.zip")
def test_real_cr() -> None:
    dataset = datasets.CR(root=real_root())
    assert np.bincount(dataset.labels()).tolist() == [1368, 2407]
    assert not any("##" in text for text in dataset.texts)


@real("movie_reviews.zip")
def test_real_movie_reviews() -> None:
    dataset = datasets.MovieReviews(root=real_root())
    assert np.bincount(dataset.labels()).tolist() == [1000, 1000]
    assert dataset[0][0].startswith("plot : two teen couples go to a church party ,")


def test_summaries_and_representations(polarity: Path) -> None:
    dataset = datasets.MR("train", polarity, fold=2, folds=4)
    assert repr(dataset) == f"MR(77 texts, 2 classes: {dataset.summary})"
    assert dataset.summary.endswith("without part 2 of 4 (seed 0): 77 of 103 texts")
    assert common.canonical_split("dev") == "validation"


FOLDS = [0, 3, 1, 1, 2, 2, 2, 1, 3, 3, 0, 0]
HELD_OUT = [5, 6, 10]


@pytest.mark.parametrize("kind", PUBLISHED)
def test_options_are_told_by_the_signature(kind: type[PublishedDataset]) -> None:
    # The command line and the engine read them there.
    names = set(inspect.signature(kind).parameters)
    assert {"split", "root", "fold", "folds", "fold_seed", "holdout", "download"} <= names
    assert not any(parameter.kind is parameter.VAR_KEYWORD for parameter in inspect.signature(kind).parameters.values())


def test_the_check_of_the_plugin_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*arguments: object) -> None:
        pytest.fail(f"a check asks for {arguments}")

    monkeypatch.setattr("socket.getaddrinfo", connect)
    monkeypatch.setattr("socket.socket.connect", connect)
    monkeypatch.delenv("GLUEBALL_OFFLINE")
    report = check_plugin("nlp_embedding_lm")
    absent = {reason.split("'")[1] for reason in report.skipped if "a check downloads nothing" in reason}
    assert absent == set(glueball.list_datasets(plugin="nlp_embedding_lm")) - {"text_file"}
