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
        ("bilstm_attention", "arXiv:1703.03130", "xavier", "An LSTM in both directions, pooled by learned attention."),
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
            # A sentence of film reviews with its padding, words and vectors as in arXiv:1408.5882.
            bench_input_shape=(64,),
            bench_options={"vocab_size": 20000, "embed_size": 300},
            paper=paper,
            summary=summary,
        )


_DATASETS: tuple[tuple[str, str, str, str | None], ...] = (
    ("text_file", "TextFile", "Your own texts: TSV, CSV, JSON lines, fastText's lines.", None),
    ("trec", "TREC", "5,952 questions, 6 coarse or 50 fine classes.", "doi:10.3115/1072228.1072378"),
    ("mr", "MR", "10,662 sentences of film reviews, positive or negative.", "arXiv:cs/0506075"),
    ("subj", "SUBJ", "10,000 sentences, subjective or objective.", "arXiv:cs/0409058"),
    ("mpqa", "MPQA", "10,606 phrases of the news, positive or negative.", "doi:10.1007/s10579-005-7880-9"),
    ("cr", "CR", "3,775 sentences of customers' reviews, positive or negative.", "doi:10.1145/1014052.1014073"),
    ("sst1", "SST1", "Stanford's treebank: sentences and phrases of film reviews, 5 classes.", "ACL:D13-1170"),
    ("sst2", "SST2", "Stanford's treebank: sentences and phrases of film reviews, 2 classes.", "ACL:D13-1170"),
    ("imdb", "IMDB", "50,000 long film reviews, positive or negative, and 50,000 more.", "ACL:P11-1015"),
    ("movie_reviews", "MovieReviews", "2,000 long film reviews, positive or negative.", "arXiv:cs/0409058"),
    ("ag_news", "AGNews", "127,600 news articles, 4 topics.", "arXiv:1509.01626"),
    ("sogou_news", "SogouNews", "510,000 Chinese news articles in Pinyin, 5 topics.", "arXiv:1509.01626"),
    ("dbpedia", "DBpedia", "630,000 abstracts of Wikipedia, 14 kinds of things.", "arXiv:1509.01626"),
    ("yelp_polarity", "YelpPolarity", "598,000 Yelp reviews, positive or negative.", "arXiv:1509.01626"),
    ("yelp_full", "YelpFull", "700,000 Yelp reviews, 1 to 5 stars.", "arXiv:1509.01626"),
    ("yahoo_answers", "YahooAnswers", "1,460,000 questions and answers, 10 topics.", "arXiv:1509.01626"),
    ("amazon_polarity", "AmazonPolarity", "4,000,000 Amazon reviews, positive or negative.", "arXiv:1509.01626"),
    ("amazon_full", "AmazonFull", "3,650,000 Amazon reviews, 1 to 5 stars.", "arXiv:1509.01626"),
)


# What word vectors are judged by: name, class, summary, paper.
_EVALUATION_SETS: tuple[tuple[str, str, str, str], ...] = (
    ("wordsim353", "WordSim353", "353 pairs of words and how similar they are.", "doi:10.1145/503104.503110"),
    ("men", "MEN", "3,000 pairs of words and how related they are.", "doi:10.1613/jair.4135"),
    ("radinskymturk", "RadinskyMTurk", "287 pairs of words and how related.", "doi:10.1145/1963405.1963455"),
    ("rarewords", "RareWords", "2,034 pairs of rare words and how similar they are.", "ACL:W13-3512"),
    ("simlex999", "SimLex999", "999 pairs of words, similar as against related.", "arXiv:1408.3456"),
    ("simverb3500", "SimVerb3500", "3,500 pairs of verbs and how similar they are.", "arXiv:1608.00869"),
    ("semeval17task2", "SemEval17Task2", "Pairs of words and how similar, in five languages.", "ACL:S17-2002"),
    ("bakerverb143", "BakerVerb143", "144 pairs of verbs and how similar they are.", "ACL:D14-1034"),
    ("yangpowersverb130", "YangPowersVerb130", "130 pairs of verbs and how similar.", "Yang & Powers 2006, GWC"),
    ("googleanalogytestset", "GoogleAnalogyTestSet", "19,544 questions: a is to b as c is to d.", "arXiv:1301.3781"),
    ("biggeranalogytestset", "BiggerAnalogyTestSet", "98,000 such questions, BATS 3.0.", "ACL:N16-2002"),
)


@hookimpl
def register_datasets(register: Register) -> None:
    """The data sets of ``datasets/``, and those of ``embedding/evaluation_sets.py``."""
    for name, attribute, summary, source in _EVALUATION_SETS:
        register(name, f"{_PACKAGE}.embedding.evaluation_sets:{attribute}", summary=summary, paper=source)
    for name, attribute, summary, paper in _DATASETS:
        target = f"{_PACKAGE}.datasets:{attribute}"
        if paper is None:
            register(name, target, summary=summary)
        else:
            register(name, target, summary=summary, paper=paper)


@hookimpl
def register_tasks(register: Register) -> None:
    """What the engine needs to know about text with one label each."""
    register(
        "text_classification",
        f"{_PACKAGE}.task:TextClassification",
        summary="Texts with one label each: vocabulary, cross-entropy, accuracy and macro-F1, class names.",
    )


@hookimpl
def register_recipes(register: Register) -> None:
    """The recipes of ``recipes/``."""
    for name, target, summary in (
        ("textcnn-trec", "textcnn:textcnn_trec", "TextCNN on the questions of TREC, 6 classes."),
        ("textcnn-mr", "textcnn:textcnn_mr", "TextCNN on film reviews, positive or negative."),
        ("textcnn-cr", "textcnn:textcnn_cr", "TextCNN on customers' reviews, positive or negative."),
        ("fasttext", "own_texts:fasttext", "fastText's classifier with n-grams, on any data set of texts."),
        ("text-classification", "own_texts:text_classification", "Any text classifier on your own file of texts."),
    ):
        register(name, f"{_PACKAGE}.recipes.{target}", task="text_classification", summary=summary)
