"""Similarity, analogies, evaluation sets, and published vectors by name."""

from __future__ import annotations

import hashlib
import io
import logging
import math
import tarfile
import zipfile

import attrs
import numpy as np
import pytest

import glueball
from glueball.errors import DataError, DownloadError, OptionError, UnknownNameError
from glueball_nlp_embedding_lm.embedding import (
    EVALUATION_SETS,
    AnalogySet,
    SimilaritySet,
    TokenEmbedding,
    WordEmbeddingAnalogy,
    WordEmbeddingSimilarity,
    create,
    evaluate_analogies,
    evaluate_similarity,
    evaluation,
    evaluation_set,
    evaluation_sets,
    list_evaluation_functions,
    list_sources,
    official,
    sources,
)
from glueball_nlp_embedding_lm.embedding.official import OfficialFile

RANDOM = np.random.default_rng(0)
VECTORS = RANDOM.normal(size=(500, 12)).astype(np.float32)
QUESTIONS = np.stack([RANDOM.permutation(500)[:3] for _ in range(80)]).T


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    """No file of this machine's user is found, and nothing is downloaded."""
    monkeypatch.setenv("GLUEBALL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GLUEBALL_OFFLINE", "1")
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "user"))
    monkeypatch.delenv("MXNET_HOME", raising=False)
    monkeypatch.delenv("GLUEBALL_DATA", raising=False)


# Functions.


def test_cosine_similarity():
    similarity = WordEmbeddingSimilarity(VECTORS)
    first, second = np.arange(40), np.arange(40)[::-1]
    found = similarity(first, second)
    assert found.dtype == np.float32
    for one, two, value in zip(first, second, found, strict=True):
        a, b = VECTORS[one].astype(np.float64), VECTORS[two].astype(np.float64)
        assert value == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-6)
    assert WordEmbeddingSimilarity(np.zeros((2, 3)))([0], [1]).tolist() == [0]
    assert similarity([], []).shape == (0,)


def scores_of_all(function: str, question, eps: float = 1e-10) -> np.ndarray:
    """Every word's score, by the papers' formulas in double precision."""
    units = VECTORS.astype(np.float64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    a, b, c = (units @ units[index] for index in question)
    if function == "ThreeCosAdd":
        return b - a + c
    return ((1 + b) / 2) * ((1 + c) / 2) / ((1 + a) / 2 + eps)


@pytest.mark.parametrize("function", ["ThreeCosAdd", "ThreeCosMul"])
@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("exclude", [True, False])
@pytest.mark.parametrize("pieces", [None, (2000, 700)])
def test_analogies(monkeypatch, function, k, exclude, pieces):
    if pieces is not None:
        monkeypatch.setattr(evaluation, "_SIMILARITIES_AT_ONCE", pieces[0])
        monkeypatch.setattr(evaluation, "_SCORES_AT_ONCE", pieces[1])
    answers = WordEmbeddingAnalogy(VECTORS, function, k, exclude)(*QUESTIONS)
    assert answers.shape == (80, k)
    for question, answer in zip(QUESTIONS.T, answers, strict=True):
        scores = scores_of_all(function, question)
        if exclude:
            scores[question] = -np.inf
        assert answer.tolist() == np.argsort(-scores)[:k].tolist()


def test_the_default_function_is_gluonnlps():
    assert WordEmbeddingAnalogy(VECTORS)(*QUESTIONS).tolist() == (
        WordEmbeddingAnalogy(VECTORS, "ThreeCosMul", 1, True)(*QUESTIONS).tolist()
    )
    assert list_evaluation_functions() == {
        "similarity": ["CosineSimilarity"],
        "analogy": ["ThreeCosAdd", "ThreeCosMul"],
    }
    assert list_evaluation_functions("analogy") == ["ThreeCosAdd", "ThreeCosMul"]


def test_ties_go_to_the_lower_index(monkeypatch):
    vectors = np.tile(np.eye(4, dtype=np.float32), (200, 1))
    monkeypatch.setattr(evaluation, "_SIMILARITIES_AT_ONCE", 1)
    answers = WordEmbeddingAnalogy(vectors, "ThreeCosAdd")([0], [0], [1])
    assert answers.tolist() == [[5]]  # 1 is a question word, 5 the next that is the same


def test_wrong_arguments():
    for make in (
        lambda: WordEmbeddingSimilarity(VECTORS, "Euclidean"),
        lambda: WordEmbeddingAnalogy(VECTORS, "ThreeCosSub"),
        lambda: list_evaluation_functions("analogies"),
        lambda: WordEmbeddingAnalogy(VECTORS, k=0),
        lambda: WordEmbeddingAnalogy(VECTORS, k=498),
    ):
        with pytest.raises(OptionError, match=r"Received|no (similarity|analogy) function"):
            make()
    for make in (WordEmbeddingSimilarity, WordEmbeddingAnalogy):
        with pytest.raises(DataError, match=r"Received: \(12,\)"):
            make(VECTORS[0])
    analogy = WordEmbeddingAnalogy(VECTORS)
    for words in (([0], [1], [500]), ([0], [1], [-1]), ([0], [1, 2], [3]), ([0.0], [1], [2]), (0, 1, 2)):
        with pytest.raises(OptionError, match="Expected"):
            analogy(*words)


def test_ranks_and_correlation():
    assert evaluation.ranks(np.array([3.0, 1.0, 3.0, 2.0, 3.0])).tolist() == [4, 1, 4, 2, 4]
    # A worked example with a tie, by hand: d = (0, -0.5, 0.5, 0), and Pearson's correlation of these ranks.
    one, two = np.array([1.0, 2.0, 3.0, 4.0]), np.array([10.0, 20.0, 20.0, 40.0])
    assert evaluation.correlation(evaluation.ranks(one), evaluation.ranks(two)) == pytest.approx(
        4.5 / math.sqrt(5 * 4.5)
    )
    assert math.isnan(evaluation.correlation(np.ones(3), np.arange(3.0)))


# Evaluation of an embedding.

WORDS = ["the", "King", "queen", "man", "woman", "KING", "prince"]
GRID = {
    "the": [0, 0, 1],
    "King": [1, 1, 0],
    "queen": [1, -1, 0],
    "man": [0.1, 1, 0],
    "woman": [0.1, -1, 0],
    "KING": [1, 0.9, 0.1],
    "prince": [0.7, 1, 0.3],
}


def embedding(**options) -> TokenEmbedding:
    return TokenEmbedding(idx_to_token=list(GRID), idx_to_vec=np.array(list(GRID.values()), np.float32), **options)


def test_evaluate_similarity():
    pairs = [("king", "queen", 5.0), ("man", "king", 7.0), ("the", "queen", 1.0), ("the", "nothing", 9.0)]
    result = evaluate_similarity(embedding(), pairs)
    # Cosines 0, 0.774, 0: the order of the scores 5, 7, 1 with a tie.
    assert (result.pairs, result.skipped) == (3, 1)
    assert result.spearman == pytest.approx(1.5 / math.sqrt(2 * 1.5))
    assert evaluate_similarity(embedding(), pairs, ignore_case=False).pairs == 1
    assert evaluate_similarity(embedding(), pairs, restrict=3).pairs == 2
    for unknown_token in (None, "queen"):
        assert evaluate_similarity(embedding(unknown_token=unknown_token), pairs[1:2]).pairs == 1
    # The unknown token stands for words that have no vector: it is none itself.
    assert evaluate_similarity(embedding(unknown_token="queen"), pairs).pairs == 1
    nothing = evaluate_similarity(embedding(), [("x", "y", 1.0)])
    assert math.isnan(nothing.spearman)
    assert (nothing.pairs, nothing.skipped) == (0, 1)


def test_evaluate_similarity_with_a_lookup():
    lookup = {"nothing": [1.0, 0, 0]}
    pairs = [("the", "nothing", 1.0), ("King", "nothing", 2.0)]
    assert evaluate_similarity(embedding(unknown_lookup=lookup), pairs).pairs == 0
    result = evaluate_similarity(embedding(unknown_lookup=lookup), pairs, use_lookup=True)
    assert result.pairs == 2
    assert result.spearman == pytest.approx(1)


def test_evaluate_analogies():
    questions = AnalogySet(
        [
            ("man", "king", "woman", "queen"),  # right
            ("man", "woman", "king", "prince"),  # wrong
            ("queen", "woman", "king", "man"),  # right by 3CosAdd
            ("man", "king", "woman", "nothing"),  # skipped
        ],
        ["family", "family", "other", "third"],
    )
    for function, right in (("ThreeCosAdd", 1), ("ThreeCosMul", 0)):
        result = evaluate_analogies(embedding(), questions, function)
        assert (result.correct, result.asked, result.skipped) == (1 + right, 3, 1)
        assert result.accuracy == pytest.approx((1 + right) / 3)
        assert result.categories == {"family": (1, 2), "other": (right, 1), "third": (0, 0)}
    assert evaluate_analogies(embedding(), questions, ignore_case=False).asked == 0
    assert math.isnan(evaluate_analogies(embedding(), questions, ignore_case=False).accuracy)
    assert evaluate_analogies(embedding(), questions, restrict=4).asked == 0
    # A plain list will do. If question words are answers, "king" itself is the nearest.
    plain = evaluate_analogies(embedding(), list(questions)[:1], exclude_question_words=False)
    assert plain.categories == {}
    assert plain.asked == 1


def test_case_makes_tokens_the_same_word():
    table = {"man": [1, 0, 0], "woman": [0, 1, 0], "boy": [1, 0, 1], "BOY": [0, 1, 0.9], "Girl": [0, 0.2, 1]}
    table["GIRL"] = [0, 1, 1]
    tokens = TokenEmbedding(idx_to_token=list(table), idx_to_vec=np.array(list(table.values()), np.float32))
    question = [("man", "woman", "boy", "Girl")]
    # BOY scores best, and is "boy" in other letters; GIRL is next, and is "Girl".
    assert evaluate_analogies(tokens, question).correct == 1
    assert evaluate_analogies(tokens, question, ignore_case=False).correct == 0
    assert evaluate_analogies(tokens, [("man", "woman", "boy", "BOY")], ignore_case=False).correct == 1


def test_evaluation_of_nothing():
    with pytest.raises(DataError, match="nothing to evaluate"):
        evaluate_similarity(TokenEmbedding(), [("a", "b", 1.0)])
    with pytest.raises(OptionError, match="at least 1"):
        evaluate_analogies(embedding(), [], restrict=0)
    with pytest.raises(OptionError, match="no analogy function"):
        evaluate_analogies(embedding(), [], "Nothing")
    with pytest.raises(DataError, match="four words"):
        evaluate_analogies(embedding(), [("man", "king", "woman")])


# Files of evaluation sets.


def put(path, content: str | bytes):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_similarity_sets_from_files(tmp_path):
    tabs = put(tmp_path / "tabs.tsv", "# a comment\n\nold\tnew\t1.58\r\nice cream\tsweet\t9\n")
    assert list(SimilaritySet.from_file(tabs)) == [("old", "new", 1.58), ("ice cream", "sweet", 9.0)]
    spaces = put(tmp_path / "spaces.txt", "\ufeffold new 1.58\n")
    assert list(SimilaritySet.from_file(spaces)) == [("old", "new", 1.58)]
    columns = put(tmp_path / "columns.csv", "w1,w2,POS,score\nold,new,A,1.58\n")
    assert list(SimilaritySet.from_file(columns, delimiter=",", columns=(0, 1, 3), header=1)) == [("old", "new", 1.58)]
    for content, message in (
        ("old new\n", "line 1: expected at least 3 columns"),
        ("a b 1\nold new x\n", "line 2: expected a number as score in column 3. Received: 'x'"),
        ("a b nan\n", "expected a number"),
        ("\n# only this\n", "has no pair"),
        (b"\xff\xfe", "is not in utf-8"),
    ):
        with pytest.raises(DataError, match=message):
            SimilaritySet.from_file(put(tmp_path / "wrong.txt", content))
    with pytest.raises(DataError, match="cannot be read"):
        SimilaritySet.from_file(tmp_path / "none")
    with pytest.raises(OptionError, match="No such encoding"):
        SimilaritySet.from_file(tabs, encoding="klingon")


GOOGLE = ": capital-common-countries\nAthens Greece Oslo Norway\n: gram8-plural\ncat cats dog dogs\nCow cows pig pigs\n"


def test_analogy_sets_from_files(tmp_path):
    path = put(tmp_path / "questions.txt", GOOGLE)
    questions = AnalogySet.from_file(path)
    assert questions[0] == ("Athens", "Greece", "Oslo", "Norway")
    assert questions.categories == ("capital-common-countries", "gram8-plural", "gram8-plural")
    assert AnalogySet.from_file(path, lowercase=True)[2] == ("cow", "cows", "pig", "pigs")
    with pytest.raises(DataError, match=r"line 2: expected four words, or ': category'. Received: 'a b c'"):
        AnalogySet.from_file(put(tmp_path / "wrong.txt", "a b c d\na b c\n"))
    with pytest.raises(DataError, match="has no question"):
        AnalogySet.from_file(put(tmp_path / "wrong.txt", ": empty\n"))


# Official sets, in files of their layout that the test makes, under hashes of these.

CONTENTS: dict[str, dict[str, str]] = {
    "wordsim353": {
        "wordsim353_sim_rel/wordsim_similarity_goldstandard.txt": "tiger\tcat\t7.35\ntiger\ttiger\t10.00\n",
        "wordsim353_sim_rel/wordsim_relatedness_goldstandard.txt": "Arafat\tpeace\t6.73\ntiger\tcat\t7.35\n",
    },
    "men": {
        "MEN/MEN_dataset_lemma_form_full": "sun-n sunlight-n 50.000000\nrun-v walk-v 35.0\n",
        "MEN/MEN_dataset_lemma_form.dev": "sun-n sunlight-n 50.000000\n",
        "MEN/MEN_dataset_lemma_form.test": "run-v walk-v 35.0\n",
    },
    "radinskymturk": {"Mtruk.csv": "episcopal,russia,2.75\nwater,shortage,2.714285714\n"},
    "rarewords": {"rw/rw.txt": "squishing\tsquirt\t5.88\t7\t6\t5\t6\t5\t5\t6\t7\t6\t6\n"},
    "simlex999": {
        "SimLex-999/SimLex-999.txt": "word1\tword2\tPOS\tSimLex999\tconc(w1)\nold\tnew\tA\t1.58\t2.72\n",
    },
    "simverb3500": {
        "data/SimVerb-3500.txt": "take\tremove\tV\t6.81\tSYNONYMS\nwalk\ttrail\tV\t4.81\tCOHYPONYMS\n",
        "data/SimVerb-500-dev.txt": "take\tremove\tV\t6.81\tSYNONYMS\n",
        "data/SimVerb-3000-test.txt": "walk\ttrail\tV\t4.81\tCOHYPONYMS\n",
    },
    "semeval17task2": {
        f"SemEval17-Task2/{segment}/subtask1-monolingual/{kind}": content
        for segment in ("trial", "test")
        for language in ("en", "de", "es", "fa", "it")
        for kind, content in (
            (f"data/{language}.{segment}.data.txt", f"Harry Potter\twizard {language}\nsunset\tstring\n"),
            (f"keys/{language}.{segment}.gold.txt", "3.5\n0.05\n"),
        )
    },
    "bakerverb143": {"verb_similarity dataset.txt": "happen say 0 0 0 0 0 0 0 0 0 1 0.19\n"},
    "googleanalogytestset": {"questions-words.txt": GOOGLE},
    "biggeranalogytestset": dict.fromkeys(
        evaluation_sets.BiggerAnalogyTestSet.files().values(), "arm\tarmless\nart\tartless/unartful\ncat\tcatless\n"
    ),
}


def packed(archive: str, files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    if archive.endswith(".zip"):
        with zipfile.ZipFile(buffer, "w") as zipped:
            for name, content in files.items():
                zipped.writestr(name, content)
    elif archive.endswith(".tar.gz"):
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content.encode())
                tar.addfile(info, io.BytesIO(content.encode()))
    else:
        buffer.write(files[archive].encode())
    return buffer.getvalue()


def sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


OFFICIAL = [kind for kind in EVALUATION_SETS.values() if kind.__name__ != "YangPowersVerb130"]


@pytest.fixture(params=["archive", "files", "old place"])
def official_files(request, tmp_path, monkeypatch):
    """The files above, as archives in Glueball's folder, unpacked there, or unpacked where GluonNLP left them."""
    for kind in OFFICIAL:
        files = CONTENTS[kind.name]
        archive = packed(kind.archive.file, files)
        monkeypatch.setattr(kind, "archive", attrs.evolve(kind.archive, sha1=sha1(archive)))
        if request.param == "archive":
            put(tmp_path / "home" / "datasets" / kind.folder / kind.archive.file, archive)
        else:
            place = tmp_path / ("home" if request.param == "files" else "user/.mxnet") / "datasets" / kind.folder
            for name, content in files.items():
                put(place / name, content)
    known = {name: {file: sha1(text.encode()) for file, text in files.items()} for name, files in CONTENTS.items()}
    # The names of the files are the real ones; only what is in them is the test's.
    assert {name: set(files) for name, files in evaluation_sets.checksums().items()} == {
        name: set(files) for name, files in known.items()
    }
    monkeypatch.setattr(evaluation_sets, "checksums", lambda: known)


@pytest.mark.usefixtures("official_files")
def test_official_sets():
    expected = {
        ("WordSim353", "similarity"): [("tiger", "cat", 7.35), ("tiger", "tiger", 10.0)],
        ("WordSim353", "relatedness"): [("Arafat", "peace", 6.73), ("tiger", "cat", 7.35)],
        ("WordSim353", "all"): [("Arafat", "peace", 6.73), ("tiger", "cat", 7.35), ("tiger", "tiger", 10.0)],
        ("MEN", "full"): [("sun", "sunlight", 50.0), ("run", "walk", 35.0)],
        ("MEN", "dev"): [("sun", "sunlight", 50.0)],
        ("MEN", "test"): [("run", "walk", 35.0)],
        ("RadinskyMTurk", None): [("episcopal", "russia", 2.75), ("water", "shortage", 2.714285714)],
        ("RareWords", None): [("squishing", "squirt", 5.88)],
        ("SimLex999", None): [("old", "new", 1.58)],
        ("SimVerb3500", "full"): [("take", "remove", 6.81), ("walk", "trail", 4.81)],
        ("SimVerb3500", "dev"): [("take", "remove", 6.81)],
        ("SimVerb3500", "test"): [("walk", "trail", 4.81)],
        ("SemEval17Task2", "trial"): [("Harry Potter", "wizard en", 3.5), ("sunset", "string", 0.05)],
        ("SemEval17Task2", "test"): [("Harry Potter", "wizard en", 3.5), ("sunset", "string", 0.05)],
        ("BakerVerb143", None): [("happen", "say", 0.19)],
    }
    for (name, segment), pairs in expected.items():
        found = evaluation_set(name, **({} if segment is None else {"segment": segment}))
        assert list(found) == pairs
        assert all(found.minimum <= score <= found.maximum for _, _, score in found)
    assert evaluation_set("semeval17task2", language="de")[0] == ("Harry Potter", "wizard de", 3.5)


@pytest.mark.usefixtures("official_files")
def test_the_sets_are_data_sets_by_name():
    current = glueball.catalog.current()
    entries = {entry.name: entry for entry in current.entries("dataset") if "evaluation_sets" in entry.target}
    assert entries.keys() == EVALUATION_SETS.keys()
    for name, kind in EVALUATION_SETS.items():
        assert current.resolve(entries[name]) is kind
        assert entries[name].summary
    assert list(glueball.get_dataset("WordSim353", segment="similarity")) == list(
        evaluation_set("WordSim353", segment="similarity")
    )
    with pytest.raises(DownloadError, match=r"yang-powers-verb130\.txt"):
        glueball.get_dataset("yangpowersverb130")


@pytest.mark.usefixtures("official_files")
def test_google_analogies():
    questions = evaluation_set("GoogleAnalogyTestSet")
    assert questions[0] == ("athens", "greece", "oslo", "norway")
    assert evaluation_set("GoogleAnalogyTestSet", lowercase=False)[0] == ("Athens", "Greece", "Oslo", "Norway")
    assert len(evaluation_set("GoogleAnalogyTestSet", group="syntactic")) == 2
    assert len(evaluation_set("GoogleAnalogyTestSet", group="semantic")) == 1
    plural = evaluation_set("GoogleAnalogyTestSet", category="gram8-plural")
    assert plural.categories == ("gram8-plural", "gram8-plural")
    for options in ({"group": "x"}, {"category": "x"}, {"group": "semantic", "category": "gram8-plural"}):
        with pytest.raises(OptionError, match="Received"):
            evaluation_set("GoogleAnalogyTestSet", **options)


@pytest.mark.usefixtures("official_files")
def test_bigger_analogies():
    questions = evaluation_set("BiggerAnalogyTestSet")
    assert len(questions) == 40 * 3 * 2
    assert questions[0] == ("arm", "armless", "art", "artless")
    assert questions.categories[0] == "D01"
    one = evaluation_set("BiggerAnalogyTestSet", category="L10", form_analogy_pairs=False)
    assert list(one) == [("arm", "armless"), ("art", "artless"), ("cat", "catless")]
    both = evaluation_set("BiggerAnalogyTestSet", category="I01", drop_alternative_solutions=False)
    assert both[0] == ("arm", ("armless",), "art", ("artless", "unartful"))
    with pytest.raises(OptionError, match="category"):
        evaluation_set("BiggerAnalogyTestSet", category="X01")


@pytest.mark.parametrize("kind", OFFICIAL, ids=lambda kind: kind.__name__)
def test_a_set_that_is_not_there(kind, tmp_path):
    with pytest.raises(DownloadError) as caught:
        kind()
    message = str(caught.value)
    assert str(tmp_path / "home" / "datasets" / kind.folder / kind.archive.file) in message
    assert kind.archive.sha1 in message
    assert kind.archive.url in message
    assert kind.archive.url.startswith("https://")
    assert "GLUEBALL_OFFLINE" in message
    with pytest.raises(DownloadError, match="elsewhere"):
        kind(root=tmp_path / "elsewhere")


def test_a_set_with_another_hash_is_not_opened(tmp_path, caplog):
    place = tmp_path / "home" / "datasets" / "simlex999"
    put(place / "SimLex-999" / "SimLex-999.txt", CONTENTS["simlex999"]["SimLex-999/SimLex-999.txt"])
    archive = put(place / "SimLex-999.zip", b"something else")
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(DownloadError, match=r"is not the official file.*left as it is"),
    ):
        evaluation_set("SimLex999")
    assert "does not have the SHA-1" in caplog.text
    assert archive.read_bytes() == b"something else"


def test_segments_that_are_not_there():
    for name, options in (
        ("WordSim353", {"segment": "x"}),
        ("MEN", {"segment": "all"}),
        ("SimVerb3500", {"segment": "train"}),
        ("SemEval17Task2", {"segment": "dev"}),
        ("SemEval17Task2", {"language": "fr"}),
    ):
        with pytest.raises(OptionError, match=f"Received: '{next(iter(options.values()))}'"):
            evaluation_set(name, **options)
    with pytest.raises(UnknownNameError, match="no evaluation set 'WordSim'"):
        evaluation_set("WordSim")


def test_verb_130_is_a_file_of_the_user(tmp_path):
    with pytest.raises(DownloadError, match=r"not offered as a file.*yang-powers-verb130\.txt"):
        evaluation_set("YangPowersVerb130")
    lines = [f"verb{number} other{number} {number // 26}" for number in range(130)]
    path = put(tmp_path / "verbs" / "yang-powers-verb130.txt", "\n".join(lines))
    pairs = evaluation_set("YangPowersVerb130", root=path.parent)
    assert len(pairs) == 130
    assert pairs[129] == ("verb129", "other129", 4.0)
    for wrong in (lines[:-1], [*lines[:-1], "a b 2"]):
        put(path, "\n".join(wrong))
        with pytest.raises(DataError, match="26 with each of the scores"):
            evaluation_set("YangPowersVerb130", root=path.parent)


# Published vectors.


def test_list_of_sources():
    listed = list_sources()
    assert {name: len(found) for name, found in listed.items()} == {"glove": 10, "word2vec": 3, "fasttext": 486}
    assert list_sources("GloVe") == listed["glove"]
    assert "glove.6B.50d" in listed["glove"]
    assert "cc.fr.300" in listed["fasttext"]
    table = sources.table()
    assert sum(source.ngrams is not None for source in table["fasttext"].values()) == 454
    assert table["glove"]["glove.6B.50d"].vectors.sha1 == "aa16be8d184399d2199f83fd62586f2c30497bfa"
    for found in table.values():
        for source in found.values():
            for file in (source.vectors, source.ngrams):
                if file is not None:
                    assert len(file.sha1) == 40
                    assert int(file.sha1, 16) >= 0
                    assert file.url.startswith("https://")
                    assert file.url.endswith(f"/{file.file}")
    assert all(default in listed[name] for name, default in sources.DEFAULT_SOURCES.items())


def test_sources_that_are_not_there(tmp_path):
    with pytest.raises(UnknownNameError, match=r"no embedding 'glov'\. Did you mean 'glove'"):
        list_sources("glov")
    with pytest.raises(UnknownNameError, match="Did you mean"):
        create("glove", source="glove.6B.51d")
    with pytest.raises(OptionError, match="No n-grams were published for glove"):
        create("glove", load_ngrams=True)
    with pytest.raises(OptionError, match="load_ngrams and unknown_lookup"):
        create("fasttext", load_ngrams=True, unknown_lookup={})
    with pytest.raises(DownloadError) as caught:
        create("glove", source="glove.6B.50d")
    message = str(caught.value)
    assert str(tmp_path / "home" / "embedding" / "glove" / "glove.6B.50d.npz") in message
    assert "aa16be8d184399d2199f83fd62586f2c30497bfa" in message
    assert "GLUEBALL_OFFLINE" in message


@pytest.mark.parametrize("place", ["home", "user/.mxnet", "root"])
def test_create(tmp_path, monkeypatch, place):
    embedding().serialize(tmp_path / place / "embedding" / "glove" / "vectors.npz")
    path = tmp_path / place / "embedding" / "glove" / "vectors.npz"
    file = OfficialFile("vectors.npz", sha1(path.read_bytes()), "https://localhost:1/vectors.npz")
    monkeypatch.setitem(sources.table()["glove"], "glove.6B.50d", sources.Source(file))
    options = {"root": tmp_path / "root" / "embedding"} if place == "root" else {}
    assert create("GloVe", **options) == embedding()
    assert create("glove", unknown_token=None, **options) == embedding(unknown_token=None)
    put(path, path.read_bytes() + b"x")
    with pytest.raises(DownloadError, match="SHA-1"):
        create("glove", **options)


def test_create_with_ngrams(tmp_path, monkeypatch):
    import struct

    from glueball_nlp_embedding_lm.embedding import FastTextVectors

    folder = tmp_path / "home" / "embedding" / "fasttext"
    embedding().serialize(folder / "vectors.npz")
    matrix = np.ones((21, 3), "<f4")
    model = struct.pack("<2i12id", 793712314, 12, 3, 5, 5, 1, 5, 1, 2, 2, 20, 3, 6, 100, 1e-4)
    model += struct.pack("<3iqq", 1, 1, 0, 9, -1) + b"the\0" + struct.pack("<qb", 9, 0)
    model += struct.pack("<?2q", False, 21, 3) + matrix.tobytes()
    put(folder / "model.bin", model)
    files = (OfficialFile(name, sha1((folder / name).read_bytes())) for name in ("vectors.npz", "model.bin"))
    monkeypatch.setitem(sources.table()["fasttext"], "wiki.simple", sources.Source(*files))
    found = create("fasttext", load_ngrams=True)
    assert isinstance(found.unknown_lookup, FastTextVectors)
    assert found["unseen"].tolist() == [1, 1, 1]
    assert found["the"].tolist() == GRID["the"]
    assert create("fasttext").unknown_lookup is None


def test_downloads_are_verified(tmp_path, monkeypatch):
    monkeypatch.setenv("GLUEBALL_OFFLINE", "0")
    content = b"what was published"
    sent = [content]
    monkeypatch.setattr("glueball.weights.download.download", lambda url, target, hosts: put(target, sent[0]))
    wanted = OfficialFile("folder/file", sha1(content), "https://localhost/file")
    searched = official.folders("datasets", "test", None)
    path = official.fetch("The test", wanted, searched)
    assert path == tmp_path / "home" / "datasets" / "test" / "folder" / "file"
    assert path.read_bytes() == content
    path.unlink()
    sent[0] = b"another"
    with pytest.raises(DownloadError, match="sent a file with another hash, which was removed"):
        official.fetch("The test", wanted, searched)
    assert not any(file.name.endswith(".download") for file in path.parent.iterdir())
    with pytest.raises(DownloadError, match="Put it at"):
        official.fetch("The test", attrs.evolve(wanted, url=""), searched)
