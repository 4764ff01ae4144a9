"""Tokenisers: what holds for all of them, then the rules of each."""

from __future__ import annotations

import collections
import io
import json
import pickle
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glueball.data import DataLoader, SimpleDataset, batchify
from glueball.errors import DataError, OptionError, PluginError, UnknownNameError
from glueball_nlp_embedding_lm import tokenizers
from glueball_nlp_embedding_lm.tokenizers import (
    BasicTokenizer,
    Detokenizer,
    KimTokenizer,
    SentencePieceDetokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    from_description,
    get_tokenizer,
    list_tokenizers,
)

sentencepiece = pytest.importorskip("sentencepiece")

SENTENCES = [
    "the film is strangely unmoving, but it's not without its moments.",
    "a really good cast cannot save a bad script (or can it?)",
    "the acting is good and the filming is really moving!",
    "strange moments, strange film; nothing moves.",
] * 5
_WORDS = sorted(set(" ".join(SENTENCES).split()))


def train(model_type: str, **options: Any) -> bytes:
    draw = np.random.default_rng(0)
    lines = SENTENCES + [" ".join(draw.choice(_WORDS, 8)) for _ in range(200)]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type=model_type,
        minloglevel=2,
        num_threads=1,
        hard_vocab_limit=False,
        **{"vocab_size": 80, **options},
    )
    return model.getvalue()


@pytest.fixture(scope="module")
def models() -> dict[str, bytes]:
    return {
        "unigram": train("unigram"),
        "bpe": train("bpe"),
        "char": train("char"),
        "bytes": train("unigram", vocab_size=340, byte_fallback=True),
        "symbols": train("bpe", user_defined_symbols=["<sep>", "film"]),
    }


@pytest.fixture(scope="module")
def examples(models: dict[str, bytes]) -> dict[str, Tokenizer]:
    """One of every kind; what needs a library that is not installed is left out."""
    options: dict[str, dict[str, Any]] = {
        "whitespace": {"lower": True},
        "basic": {"split_hyphens": False},
        "kim": {"lower": False},
        "moses": {"escape": False},
        "sentencepiece": {"model": models["unigram"], "lower": True},
        "jieba": {"hmm": False},
    }
    assert set(options) == set(list_tokenizers())
    found: dict[str, Tokenizer] = {}
    for name in list_tokenizers():
        try:
            found[name] = get_tokenizer(name, **options[name])
        except PluginError:
            continue
    return found


# ----------------------------------------------------------------------------------------------------------------------
# What holds for all


TEXT = "The film isn't well-known; 我来到北京. It's GOOD!"


def test_descriptions_survive_json(examples: dict[str, Tokenizer]) -> None:
    assert {"whitespace", "basic", "kim", "sentencepiece"} <= set(examples)
    for name, tokenizer in examples.items():
        description = json.loads(json.dumps(tokenizer.describe()))
        assert description["name"] == tokenizer.name == name
        again = from_description(description)
        assert again == tokenizer
        assert again(TEXT) == tokenizer(TEXT)
        assert len(repr(tokenizer)) < 200


def test_worker_processes_and_threads_give_the_same(examples: dict[str, Tokenizer]) -> None:
    texts = [TEXT, *SENTENCES[:4], ""] * 20
    for tokenizer in examples.values():
        expected = [tokenizer(text) for text in texts]
        again = pickle.loads(pickle.dumps(tokenizer))
        assert again == tokenizer
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(again, texts)) == expected


def test_nothing_of_nothing(examples: dict[str, Tokenizer]) -> None:
    for tokenizer in examples.values():
        assert tokenizer("") == []
        assert tokenizer(" \n\t ") == []
        for wrong in (None, b"text", ["text"], 3):
            with pytest.raises(DataError, match="expects a text"):
                tokenizer(wrong)  # type: ignore[arg-type]


def test_lower_case(examples: dict[str, Tokenizer]) -> None:
    for tokenizer in examples.values():
        options = {key: value for key, value in tokenizer.describe().items() if key != "name"}
        lower = type(tokenizer).from_options({**options, "lower": True})
        assert "".join(lower(TEXT)).lower() == "".join(lower(TEXT))
        with pytest.raises(OptionError, match="expects True or False for lower"):
            type(tokenizer).from_options({**options, "lower": "yes"})


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=30))
def test_any_text(text: str) -> None:
    for name in ("whitespace", "basic", "kim"):
        tokens = get_tokenizer(name)(text)
        assert all(tokens), "no empty tokens"
        assert not any(re.search(r"\s", token) for token in tokens)


def test_names_and_options() -> None:
    with pytest.raises(UnknownNameError, match=r"no tokeniser 'basik'\. Did you mean 'basic'"):
        get_tokenizer("basik")
    with pytest.raises(OptionError, match=r"'basic' has no option 'lowr'. Did you mean 'lower'.* lower, split_hyphens"):
        get_tokenizer("basic", lowr=True)
    for wrong in (None, {}, [], {"name": 3}, {"name": "basik"}, {"name": "basic", "lower": 2}, {"name": "kim", "x": 1}):
        with pytest.raises(DataError, match="description of a tokeniser"):
            from_description(wrong)  # type: ignore[arg-type]


def test_public_names_are_what_they_say() -> None:
    for name in tokenizers.__all__:
        assert getattr(tokenizers, name).__doc__, name
    assert {kind.name for kind in Tokenizer.__subclasses__()} == set(list_tokenizers())


@pytest.mark.parametrize(("name", "library"), [("moses", "sacremoses"), ("jieba", "jieba")])
def test_missing_library_says_how_to_get_it(name: str, library: str) -> None:
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "from glueball.errors import PluginError\n"
        "from glueball_nlp_embedding_lm.tokenizers import get_tokenizer\n"
        f"try: get_tokenizer({name!r})\n"
        "except PluginError as error: print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert f"pip install 'glueball-nlp-embedding-lm[{name}]'" in result.stdout


def test_libraries_are_imported_when_they_are_needed() -> None:
    code = (
        "import sys, glueball_nlp_embedding_lm.tokenizers as t; t.get_tokenizer('basic')('a b')\n"
        "print({'sentencepiece', 'sacremoses', 'jieba', 'torch', 'mxnet'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.strip() == "set()"


# ----------------------------------------------------------------------------------------------------------------------
# White space, Kim's cleaning


def test_whitespace() -> None:
    assert get_tokenizer("whitespace")(" a\tB \u3000 c\n") == ["a", "B", "c"]
    assert get_tokenizer("whitespace", lower=True)("a B") == ["a", "b"]


def kim_by_steps(text: str, lower: bool, tokenized: bool) -> list[str]:
    """The rules one after the other, as the class's documentation counts them."""
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789(),!?'`")
    text = "".join(character if character in allowed else " " for character in text)
    if not tokenized:
        for ending in ("'s", "'ve", "n't", "'re", "'d", "'ll"):
            text = text.replace(ending, f" {ending}")
        for sign in ",!()?":
            text = text.replace(sign, f" {sign} ")
    return [part for part in (text.lower() if lower else text).split(" ") if part]


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["'s", "'ve", "n't", "'re", "'d", "'ll", "n", "'", "t", "A", "é", " ", "-", "(", "?", "`", "\n"]
        )
    ),
    st.booleans(),
    st.booleans(),
)
def test_kim(parts: list[str], lower: bool, tokenized: bool) -> None:
    text = "".join(parts)
    assert KimTokenizer(lower=lower, tokenized=tokenized)(text) == kim_by_steps(text, lower, tokenized)


def test_kim_examples() -> None:
    tokenize = get_tokenizer("kim")
    assert " ".join(tokenize("What's the (BEST) film, isn't it?")) == "what 's the ( best ) film , is n't it ?"
    assert tokenize("DON'T! a.b-c") == ["don't", "!", "a", "b", "c"]
    assert get_tokenizer("kim", lower=False)("What is Nadia's?") == ["What", "is", "Nadia", "'s", "?"]
    assert get_tokenizer("kim", tokenized=True)("it 's , good") == ["it", "'s", ",", "good"]


# ----------------------------------------------------------------------------------------------------------------------
# English


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I can't, won't, don't, isn't ain't.", "I ca n't , wo n't , do n't , is n't ai n't ."),
        ("DON'T don\u2019t needn't've", "DO N'T do n\u2019t need n't 've"),
        ("it's we're I've they'll he'd I'm dogs'", "it 's we 're I 've they 'll he 'd I 'm dogs '"),
        ("cannot Cannot gonna wanna gotta gimme lemme", "can not Can not gon na wan na got ta gim me lem me"),
        ("O'Brien o'clock rock'n'roll ma'am", "O'Brien o'clock rock'n'roll ma'am"),
        ("'em '90s 'tis 'quoted'", "'em '90s 'tis ' quoted '"),
        ("well-known re-do -- x---y", "well - known re - do -- x --- y"),
        ("F-16 5-star MP3-player covid-19", "F-16 5 - star MP3 - player covid-19"),
        ("35mm 2.5GB 10am 3G 5k 7mbx", "35 mm 2.5 GB 10 am 3G 5k 7mbx"),
        ("it 's n't 've ' s", "it 's n't 've ' s"),
        ("Mr. Smith, Dr. No, St. Paul, Inc. etc. vs. cat.", "Mr. Smith , Dr. No , St. Paul , Inc. etc. vs. cat ."),
        ("MR. BIG says no.", "MR. BIG says no ."),
        ("U.S. U.S.A. e.g. i.e. a.m. Ph.D. J. Smith I.", "U.S. U.S.A. e.g. i.e. a.m. Ph.D. J. Smith I ."),
        ("$1,000.50 10:30 1/2 3.14 .5 50% 1990s 20th 3D 5.", "$ 1,000.50 10:30 1/2 3.14 .5 50 % 1990s 20th 3D 5 ."),
        ("see http://a.org/b?c=d, www.x.com. (https://e.f)", "see http://a.org/b?c=d , www.x.com . ( https://e.f )"),
        ("a.b+c@d-e.co.uk, amazon.com's @name #tag", "a.b+c@d-e.co.uk , amazon.com 's @name #tag"),
        ("good :-) :D <3 note:please", "good :-) :D <3 note : please"),
        ("wait... what?! \u201cYes\u201d \u2014 no\u2026", "wait ... what ? ! \u201c Yes \u201d \u2014 no \u2026"),
        ("end.It snake_case C++ a&b [x]", "end . It snake_case C + + a & b [ x ]"),
        ("e\u0301te\u0301 हिन्दी стол 世界", "e\u0301te\u0301 हिन्दी стол 世界"),
        ("👍🏽👩\u200d👧 🇩🇪🇫🇷", "👍🏽 👩\u200d👧 🇩🇪 🇫🇷"),
    ],
)
def test_english(text: str, expected: str) -> None:
    assert BasicTokenizer()(text) == expected.split()
    assert BasicTokenizer(lower=True)(text) == [token.lower() for token in expected.split()]


def test_hyphens_may_stay() -> None:
    tokenize = get_tokenizer("basic", split_hyphens=False)
    assert tokenize("well-known self-made-man's -- x") == ["well-known", "self-made-man", "'s", "--", "x"]


_PIECES = st.sampled_from(
    [
        *"'s.-@#1,:/()_U \n\u2019\u0301\u200d\ufe0f👍🏽🇩é世",
        "n't",
        "can",
        "not",
        "..",
        "--",
        "http://",
        "www.",
        "a.b",
        "Mr",
    ]
)


@settings(deadline=None)
@given(st.lists(_PIECES).map("".join) | st.text(), st.booleans())
def test_english_loses_and_adds_nothing(text: str, split_hyphens: bool) -> None:
    tokens = BasicTokenizer(split_hyphens=split_hyphens)(text)
    assert "".join(tokens) == "".join(text.split())


# The same examples each time: text that is no language can be made to break this.
@settings(deadline=None, derandomize=True)
@given(st.lists(_PIECES).map("".join) | st.text(), st.booleans())
def test_english_that_was_tokenised_before_stays_as_it_is(text: str, split_hyphens: bool) -> None:
    tokens = BasicTokenizer(split_hyphens=split_hyphens)(text)
    assert BasicTokenizer(split_hyphens=split_hyphens)(" ".join(tokens)) == tokens


@pytest.mark.parametrize(
    "part",
    ["a.", "1,", "www.", "http://)", "a@", "@", "n't", "'", "-", "_", "a_", "a'", "a-", "a.b-", "\u0301", "a\u0301",
     "\u200d", ":-", ".", "a@b.", "1:", "x.com/", "#a", "(", "can"]
)  # fmt: skip
def test_time_is_linear_in_the_text(part: str) -> None:
    def seconds(repetitions: int) -> float:
        text = part * repetitions
        start = time.process_time()
        for split_hyphens in (True, False):
            assert "".join(BasicTokenizer(split_hyphens=split_hyphens)(text)) == text
        return time.process_time() - start

    seconds(100)
    # Twice the square root of what a quadratic time would be; a noisy machine gets a second try.
    assert any(seconds(20_000) < 40 * max(seconds(1_000), 1e-3) for _ in range(3))


# ----------------------------------------------------------------------------------------------------------------------
# Moses, jieba


def test_moses() -> None:
    sacremoses = pytest.importorskip("sacremoses")
    text = "Mr. O'Brien isn't <here> & \"there\" [x], well-known!"
    theirs = sacremoses.MosesTokenizer(lang="en")
    tokenizer = get_tokenizer("moses")
    assert tokenizer(text) == theirs.tokenize(text)
    assert "&apos;t" in tokenizer(text)
    assert get_tokenizer("moses", escape=False)(text) == theirs.tokenize(text, escape=False)
    assert get_tokenizer("moses", aggressive_dash_splits=True)("well-known") == ["well", "@-@", "known"]
    assert get_tokenizer("moses", lang="de")("z.B. das") == sacremoses.MosesTokenizer(lang="de").tokenize("z.B. das")
    assert get_tokenizer("moses", lower=True)("Mr. X") == ["mr.", "x"]
    for escape in (True, False):
        tokenizer = get_tokenizer("moses", escape=escape)
        back = tokenizer.detokenizer()
        assert isinstance(back, Detokenizer)
        assert back(tokenizer("It isn't, is it?")) == "It isn't, is it?"
        assert pickle.loads(pickle.dumps(back)) == back
        with pytest.raises(DataError, match="expects a list of tokens"):
            back("text")
    # A text that spells an escape out must not be changed by the way there and back.
    back = get_tokenizer("moses", escape=False).detokenizer()
    assert back(get_tokenizer("moses", escape=False)("&amp;")).replace(" ", "") == "&amp;"
    for lang in ("", "../x", 3):
        with pytest.raises(OptionError, match="expects lang"):
            get_tokenizer("moses", lang=lang)


def test_jieba(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jieba")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert get_tokenizer("jieba")("我来到北京清华大学 Hello") == ["我", "来到", "北京", "清华大学", "Hello"]
    assert {"清华", "清华大学", "大学"} <= set(get_tokenizer("jieba", cut_all=True)("清华大学"))
    assert get_tokenizer("jieba")("他来到了网易杭研大厦") == ["他", "来到", "了", "网易", "杭研", "大厦"]
    assert get_tokenizer("jieba", hmm=False)("他来到了网易杭研大厦") == ["他", "来到", "了", "网易", "杭", "研", "大厦"]
    assert not list(tmp_path.iterdir()), "a file that the next start would trust"


# ----------------------------------------------------------------------------------------------------------------------
# SentencePiece


def test_sentencepiece_is_the_library_s(models: dict[str, bytes], tmp_path: Path) -> None:
    texts = [*SENTENCES[:4], TEXT, "  the   ﬁlm ", "世界界 unknown", "<sep> film"]
    for name, model in models.items():
        path = tmp_path / f"{name}.model"
        path.write_bytes(model)
        theirs = sentencepiece.SentencePieceProcessor(model_file=str(path))
        tokenizer = get_tokenizer("sentencepiece", path=path)
        assert isinstance(tokenizer, SentencePieceTokenizer)
        assert tokenizer == SentencePieceTokenizer(model=model)
        assert not tokenizer.is_random
        assert tokenizer.vocabulary == [theirs.id_to_piece(index) for index in range(theirs.get_piece_size())]
        back = tokenizer.detokenizer()
        assert back == SentencePieceDetokenizer(path) == pickle.loads(pickle.dumps(back))
        for text in texts:
            pieces = tokenizer(text)
            assert pieces == theirs.encode(text, out_type=str)
            assert back(pieces) == theirs.decode(pieces)
        assert back(tokenizer(SENTENCES[0])) == SENTENCES[0]
        tokenizer.save_model(tmp_path / "copy" / "again.model")
        assert (tmp_path / "copy" / "again.model").read_bytes() == model
    assert SentencePieceTokenizer(model=models["unigram"], lower=True)("THE FILM") == SentencePieceTokenizer(
        model=models["unigram"]
    )("the film")


@pytest.mark.parametrize("name", ["unigram", "bpe", "bytes", "symbols"])
@pytest.mark.parametrize("num_best", [-1, 5])
def test_drawing_depends_on_the_given_generator_only(models: dict[str, bytes], name: str, num_best: int) -> None:
    tokenizer = get_tokenizer("sentencepiece", model=models[name], num_best=num_best, alpha=0.3)
    text = "strangely moving 世界 film"

    def draws(tokenizer: Any) -> list[list[str]]:
        random = np.random.default_rng(7)
        return [tokenizer(text, random) for _ in range(30)]

    expected = draws(tokenizer)
    assert tokenizer.is_random
    tokenizer(text)
    sentencepiece.set_random_generator_seed(3)
    assert draws(tokenizer) == expected
    assert draws(pickle.loads(pickle.dumps(tokenizer))) == expected
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(draws, [tokenizer] * 3)) == [expected] * 3
    assert len(set(map(tuple, expected))) > 1
    back = tokenizer.detokenizer()
    assert {back(pieces) for pieces in expected} == {text}
    assert tokenizer("", np.random.default_rng(0)) == []


@pytest.mark.parametrize(("name", "alpha"), [("unigram", 1e5), ("bytes", 1e5), ("bpe", 0.0), ("symbols", 0.0)])
def test_what_is_drawn_without_chance_is_the_best_way(models: dict[str, bytes], name: str, alpha: float) -> None:
    best = get_tokenizer("sentencepiece", model=models[name])
    drawn = get_tokenizer("sentencepiece", model=models[name], num_best=-1, alpha=alpha)
    random = np.random.default_rng(0)
    for text in [*SENTENCES[:4], TEXT, "世界界 ﬁ", "x<sep>y film filming", "aaaa"]:
        assert drawn(text, random) == best(text)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", ["unigram", "bpe", "bytes", "symbols"])
@pytest.mark.parametrize("num_best", [-1, 5])
def test_probabilities_are_the_library_s(models: dict[str, bytes], name: str, num_best: int) -> None:
    theirs = sentencepiece.SentencePieceProcessor(model_proto=models[name])
    tokenizer: Any = get_tokenizer("sentencepiece", model=models[name], num_best=num_best, alpha=0.25)
    sentencepiece.set_random_generator_seed(1)
    random = np.random.default_rng(1)
    text, count = "moving 世", 4000
    mine = collections.Counter(tuple(tokenizer(text, random)) for _ in range(count))
    other = collections.Counter(tuple(theirs.sample_encode_as_pieces(text, num_best, 0.25)) for _ in range(count))
    ways = set(mine) | set(other)
    # Chi-square of two samples of one size: its mean is the degrees of freedom, its variance twice that.
    statistic = sum((mine[way] - other[way]) ** 2 / (mine[way] + other[way]) for way in ways)
    freedom = len(ways) - 1
    assert freedom > 0
    assert statistic < freedom + 5 * (2 * freedom) ** 0.5, f"{statistic} with {freedom} degrees of freedom"


def test_loader_gives_the_generator(models: dict[str, bytes]) -> None:
    tokenizer = get_tokenizer("sentencepiece", model=models["unigram"], num_best=-1, alpha=0.2)
    data = SimpleDataset([(text, 0) for text in SENTENCES]).transform_first(tokenizer)
    assert data.is_random

    def epoch(workers: int) -> list[Any]:
        functions = batchify.Tuple(batchify.List(), batchify.Stack())
        loader = DataLoader(data, 4, batchify_fn=functions, num_workers=workers, seed=5)
        return [texts for texts, _ in loader]

    assert epoch(0) == epoch(2)


def test_models_that_cannot_draw(models: dict[str, bytes]) -> None:
    with pytest.raises(OptionError, match="one way only"):
        get_tokenizer("sentencepiece", model=models["char"], num_best=-1)
    with pytest.raises(OptionError, match="share of merges to skip"):
        get_tokenizer("sentencepiece", model=models["bpe"], num_best=-1, alpha=1.5)
    for options, message in (
        ({}, "the path of a model's file"),
        ({"path": "a", "model": b"b"}, "the path of a model's file"),
        ({"model": "text"}, "model as bytes"),
        ({"model": models["bpe"], "num_best": -2}, "expects num_best"),
        ({"model": models["bpe"], "num_best": 1.5}, "expects num_best"),
        ({"model": models["bpe"], "alpha": -1}, "expects alpha"),
        ({"model": models["bpe"], "alpha": float("nan")}, "expects alpha"),
    ):
        with pytest.raises(OptionError, match=message):
            get_tokenizer("sentencepiece", **options)


def test_damaged_models(models: dict[str, bytes], tmp_path: Path) -> None:
    model = models["unigram"]
    path = tmp_path / "broken.model"
    for content in (
        b"",
        b"text",
        b"\x00" * 64,
        model[:100],
        model[:-3],
        b"GIF89a" + model,
        model[1:],
        json.dumps({}).encode(),
    ):
        with pytest.raises(DataError, match="SentencePiece model"):
            SentencePieceTokenizer(model=content)
        path.write_bytes(content)
        for kind in (SentencePieceTokenizer, SentencePieceDetokenizer):
            with pytest.raises(DataError, match=r"broken\.model: "):
                kind(path)
    with pytest.raises(OSError, match="nowhere"):
        SentencePieceTokenizer(tmp_path / "nowhere.model")
    for wrong in ("not base64!", 3, None, ""):
        with pytest.raises(DataError):
            from_description({"name": "sentencepiece", "model": wrong})
    with pytest.raises(DataError, match="UTF-8"):
        SentencePieceTokenizer(model=model)("\ud800")


def test_random_damage_never_ends_the_process(models: dict[str, bytes], tmp_path: Path) -> None:
    """In a process of its own, since what is feared is a crash of the library."""
    path = tmp_path / "sound.model"
    path.write_bytes(models["bpe"])
    code = """
import pathlib, random, sys
from glueball.errors import GlueballError
from glueball_nlp_embedding_lm.tokenizers import SentencePieceTokenizer
sound = pathlib.Path(sys.argv[1]).read_bytes()
draw = random.Random(0)
refused = 0
for _ in range(150):
    content = bytearray(sound)
    for _ in range(draw.choice([1, 3, 30])):
        content[draw.randrange(len(content)) if draw.random() < 0.5 else draw.randrange(2000)] = draw.randrange(256)
    try:
        for num_best in (0, -1):
            tokenizer = SentencePieceTokenizer(model=bytes(content), num_best=num_best, alpha=0.5)
            for text in ("the \\ufb01lm is moving", "\\u4e16"):
                tokenizer.detokenizer()(tokenizer(text))
    except GlueballError:
        refused += 1
print(refused)
"""
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    assert int(result.stdout) > 50
