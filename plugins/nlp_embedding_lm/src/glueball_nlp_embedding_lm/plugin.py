"""What this distribution adds to Glueball, by name. Light: nothing here imports a backend, NumPy or sentencepiece."""

from __future__ import annotations

from glueball.plugin import Register, hookimpl

_PACKAGE = "glueball_nlp_embedding_lm"


@hookimpl
def register_models(register: Register) -> None:
    """The models of ``models/``."""
    for name, paper, initializer, summary in (
        ("textcnn", "arXiv:1408.5882", "xavier", "Convolutions over word vectors and the maximum over time."),
        (
            "fasttext_classifier",
            "arXiv:1607.01759",
            "xavier",
            "The mean of word and n-gram vectors, and a dense layer.",
        ),
    ):
        register(
            name,
            f"{_PACKAGE}.models.{name}:{name}",
            task="text_classification",
            initializer=initializer,
            classes=2,
            test_inputs=("tokens", "length"),
            test_input_shape=(9,),
            test_options={"vocab_size": 20, "embed_size": 6},
            paper=paper,
            summary=summary,
        )


_DATASETS: tuple[tuple[str, str, str, str | None], ...] = (
    ("text_file", "TextFile", "Your own texts: TSV, CSV, JSON lines, fastText's lines.", None),
    ("trec", "TREC", "5,952 questions, 6 coarse or 50 fine classes.", "doi:10.3115/1072228.1072378"),
    ("mr", "MR", "10,662 sentences of film reviews, positive or negative.", "arXiv:cs/0506075"),
    ("subj", "SUBJ", "10,000 sentences, subjective or objective.", "arXiv:cs/0409058"),
    ("mpqa", "MPQA", "10,606 phrases of the news, positive or negative.", "doi:10.1007/s10579-005-7880-9"),
)


@hookimpl
def register_datasets(register: Register) -> None:
    """The data sets of ``datasets/``."""
    for name, attribute, summary, paper in _DATASETS:
        target = f"{_PACKAGE}.datasets:{attribute}"
        if paper is None:
            register(name, target, summary=summary)
        else:
            register(name, target, summary=summary, paper=paper)


@hookimpl
def register_tasks(register: Register) -> None:
    """What the engine needs to know about text with one label each."""


@hookimpl
def register_recipes(register: Register) -> None:
    """The recipes of ``recipes/``."""
