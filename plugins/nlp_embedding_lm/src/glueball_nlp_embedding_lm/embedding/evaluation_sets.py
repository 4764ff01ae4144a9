"""Data sets that word vectors are judged by, under the names that GluonNLP gave them.

A set is read out of its official file, of which the full SHA-1 is checked; archives are read, not unpacked.
``evaluation_sets.tsv`` has a line for each file: set, file, SHA-1; from GluonNLP 0.10.0's constants. Sets in other
files, or other versions of these, are read by ``SimilaritySet.from_file`` and ``AnalogySet.from_file``.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import math
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from glueball.archives import ZipArchive, tar_files
from glueball.data import SimpleDataset
from glueball.errors import DataError, DownloadError, OptionError, UnknownNameError
from glueball_nlp_embedding_lm.embedding import official
from glueball_nlp_embedding_lm.embedding.official import MIRROR, OfficialFile

_Pair = tuple[str, str, float]
_Question = tuple[str, str, str, str]
_SimilarityT = TypeVar("_SimilarityT", bound="SimilaritySet")
_AnalogyT = TypeVar("_AnalogyT", bound="AnalogySet")
Root = str | os.PathLike[str] | None


class SimilaritySet(SimpleDataset):
    """Pairs of words with people's scores of how similar or related they are. A sample is (word, word, score)."""

    minimum: float = -math.inf
    """The lowest score there can be."""
    maximum: float = math.inf

    def __init__(self, pairs: Iterable[_Pair]) -> None:
        super().__init__(list(pairs))

    @classmethod
    def from_file(
        cls: type[_SimilarityT],
        path: str | os.PathLike[str],
        *,
        delimiter: str | None = None,
        columns: tuple[int, int, int] = (0, 1, 2),
        header: int = 0,
        encoding: str = "utf-8",
    ) -> SimilaritySet:
        """Reads a file with a pair on each line. Empty lines and lines that begin with "#" are passed over.

        Args:
            path: the file.
            delimiter: what is between columns; None: a tab if the file has one, else any white space.
            columns: where first word, second word and score are, from 0.
            header: how many lines to leave out at the beginning.
            encoding: of the file.

        Raises:
            DataError: the file cannot be read, has no pair, or a line has too few columns or no number for its score.
        """
        content = _read(path)
        return SimilaritySet(_pairs(content, os.fspath(path), delimiter, columns, header, encoding))


class AnalogySet(SimpleDataset):
    """Questions "a is to b as c is to d". A sample is (a, b, c, d)."""

    def __init__(self, questions: Sequence[_Question], categories: Sequence[str]) -> None:
        super().__init__(list(questions))
        self.categories: tuple[str, ...] = tuple(categories)
        """The category of each question."""

    @classmethod
    def from_file(
        cls: type[_AnalogyT], path: str | os.PathLike[str], *, lowercase: bool = False, encoding: str = "utf-8"
    ) -> AnalogySet:
        """Reads a file in the form of Google's: four words on a line, and ": name" where a category begins.

        Raises:
            DataError: the file cannot be read, has no question, or a line has not four words.
        """
        return AnalogySet(*_questions(_read(path), os.fspath(path), lowercase, encoding))


class _Archived:
    """Where the files of a set come from."""

    name: ClassVar[str]
    """The set's name in ``evaluation_sets.tsv``, and by which ``evaluation_set`` makes it."""
    folder: ClassVar[str]
    """The folder that GluonNLP keeps it in."""
    archive: ClassVar[OfficialFile | None]
    """The archive that has its files; None: they are offered as they are."""

    @classmethod
    def member(cls, file: str, root: Root) -> bytes:
        """The content of a file of the set."""
        wanted = OfficialFile(file, checksums()[cls.name][file])
        searched = official.folders("datasets", cls.folder, root)
        found = official.find(wanted, searched)
        if found is not None:
            return found.read_bytes()
        title = f"The evaluation set {cls.__name__}"
        if cls.archive is None:
            raise DownloadError(f"{title} has no archive.")
        hint = "" if cls.archive.file == file else f"Its unpacked file {file} (SHA-1 {wanted.sha1}) will do as well."
        path = official.fetch(title, cls.archive, searched, hint)
        return path.read_bytes() if cls.archive.file == file else _from_archive(path, file)


def _from_archive(path: Path, file: str) -> bytes:
    """A small file out of a zip or tar archive, of which the hash has been checked."""
    if path.name.endswith(".zip"):
        with ZipArchive(path) as archive:
            return archive.read(file)
    with contextlib.closing(tar_files(path)) as files:
        content = next((member.read() for member in files if member.name == file.removeprefix("./")), None)
    if content is None:
        raise DataError(f"{path} has no file {file}.")
    return content


@functools.cache
def checksums() -> dict[str, dict[str, str]]:
    """Set -> file -> SHA-1."""
    found: dict[str, dict[str, str]] = {}
    text = resources.files(__package__).joinpath("evaluation_sets.tsv").read_text("utf-8")
    for line in text.splitlines():
        name, file, sha1 = line.split("\t")
        found.setdefault(name, {})[file] = sha1
    return found


def _choose(option: str, value: str | None, choices: Collection[str], or_none: bool = False) -> None:
    if not (value in choices or (or_none and value is None)):
        names = ", ".join(repr(choice) for choice in choices)
        raise OptionError(
            f"Expected {option} to be one of {names}{', or None' if or_none else ''}. Received: {value!r}."
        )


# Similarity and relatedness.


class WordSim353(_Archived, SimilaritySet):
    """WordSim-353 (Finkelstein et al., 2002), in the parts of Agirre et al. (2009). Scores from 0 to 10.

    Args:
        segment: "similarity" (203 pairs), "relatedness" (252), or "all": the pairs of both, each once, sorted.
        root: the folder of its files, instead of the usual places (as for all sets below).

    Raises:
        OptionError: there is no such segment.
        DownloadError: its file is not here and cannot be downloaded; the message says what to put where.
    """

    name = "wordsim353"
    folder = "wordsim353"
    archive = OfficialFile(
        "ws353simrel.tar.gz", "1b9ca7f4d61682dea0004acbd48ce74275d5bfff", f"{MIRROR}dataset/ws353/ws353simrel.tar.gz"
    )
    segments = ("all", "similarity", "relatedness")
    minimum, maximum = 0, 10

    def __init__(self, segment: str = "all", root: Root = None) -> None:
        _choose("segment", segment, self.segments)
        pairs: list[_Pair] = []
        for part in self.segments[1:]:
            if segment in (part, "all"):
                file = f"wordsim353_sim_rel/wordsim_{part}_goldstandard.txt"
                pairs += _pairs(self.member(file, root), file)
        super().__init__(sorted(set(pairs)) if segment == "all" else pairs)


class MEN(_Archived, SimilaritySet):
    """MEN (Bruni et al., 2014): 3,000 pairs, 2,000 for development and 1,000 for test. Scores from 0 to 50.

    Args:
        segment: "full", "dev" or "test".

    Raises:
        OptionError: there is no such segment.
        DownloadError: see ``WordSim353``.
    """

    name = "men"
    folder = "men"
    archive = OfficialFile("MEN.tar.gz", "3c4af1b7009c1ad75e03562f7f7bc5f51ff3a31a", f"{MIRROR}dataset/men/MEN.tar.gz")
    files: ClassVar[dict[str, str]] = {
        "full": "MEN/MEN_dataset_lemma_form_full",
        "dev": "MEN/MEN_dataset_lemma_form.dev",
        "test": "MEN/MEN_dataset_lemma_form.test",
    }
    minimum, maximum = 0, 50

    def __init__(self, segment: str = "dev", root: Root = None) -> None:
        _choose("segment", segment, self.files)
        file = self.files[segment]
        # "sun-n": the letter behind the lemma is its part of speech.
        super().__init__((one[:-2], two[:-2], score) for one, two, score in _pairs(self.member(file, root), file))


class RadinskyMTurk(_Archived, SimilaritySet):
    """MTurk-287 (Radinsky et al., 2011), relatedness. Scores from 1 to 5.

    Raises:
        DownloadError: see ``WordSim353``.
    """

    name = "radinskymturk"
    folder = "radinskymturk"
    archive = OfficialFile(
        "Mtruk.csv", "14959899c092148abba21401950d6957c787434c", "https://www.kiraradinsky.com/files/Mtruk.csv"
    )
    minimum, maximum = 1, 5

    def __init__(self, root: Root = None) -> None:
        super().__init__(_pairs(self.member("Mtruk.csv", root), "Mtruk.csv", ","))


class RareWords(_Archived, SimilaritySet):
    """Stanford's rare words (Luong et al., 2013): 2,034 pairs. Scores from 0 to 10.

    Raises:
        DownloadError: see ``WordSim353``.
    """

    name = "rarewords"
    folder = "rarewords"
    archive = OfficialFile(
        "rw.zip", "bf9c5959a0a2d7ed8e51d91433ac5ebf366d4fb9", "https://www-nlp.stanford.edu/~lmthang/morphoNLM/rw.zip"
    )
    minimum, maximum = 0, 10

    def __init__(self, root: Root = None) -> None:
        super().__init__(_pairs(self.member("rw/rw.txt", root), "rw/rw.txt"))


class SimLex999(_Archived, SimilaritySet):
    """SimLex-999 (Hill et al., 2015, arXiv:1408.3456), similarity as against relatedness. Scores from 0 to 10.

    Raises:
        DownloadError: see ``WordSim353``.
    """

    name = "simlex999"
    folder = "simlex999"
    archive = OfficialFile(
        "SimLex-999.zip",
        "0d3afe35b89d60acf11c28324ac7be10253fda39",
        "https://www.cl.cam.ac.uk/~fh295/SimLex-999.zip",
    )
    minimum, maximum = 0, 10

    def __init__(self, root: Root = None) -> None:
        file = "SimLex-999/SimLex-999.txt"
        super().__init__(_pairs(self.member(file, root), file, columns=(0, 1, 3), header=1))


class SimVerb3500(_Archived, SimilaritySet):
    """SimVerb-3500 (Gerz et al., 2016): pairs of verbs, 500 for development and 3,000 for test. Scores from 0 to 10.

    Args:
        segment: "full", "dev" or "test".

    Raises:
        OptionError: there is no such segment.
        DownloadError: see ``WordSim353``.
    """

    name = "simverb3500"
    folder = "simverb3500"
    archive = OfficialFile(
        "D16-1235.Attachment.zip",
        "7bcfff115ca3e4c909b3763a2ba35e83992f2a2f",
        "https://www.aclweb.org/anthology/attachments/D16-1235.Attachment.zip",
    )
    files: ClassVar[dict[str, str]] = {
        "full": "data/SimVerb-3500.txt",
        "dev": "data/SimVerb-500-dev.txt",
        "test": "data/SimVerb-3000-test.txt",
    }
    minimum, maximum = 0, 10

    def __init__(self, segment: str = "full", root: Root = None) -> None:
        _choose("segment", segment, self.files)
        file = self.files[segment]
        super().__init__(_pairs(self.member(file, root), file, columns=(0, 1, 3)))


class SemEval17Task2(_Archived, SimilaritySet):
    """SemEval-2017 task 2 (Camacho-Collados et al., 2017), within one language.

    Words may hold spaces, and names keep their capitals. (GluonNLP cut them at spaces, so its pairs differ.)

    Args:
        segment: "trial" (18 pairs) or "test" (500).
        language: "en", "de", "es", "fa" or "it".

    Raises:
        OptionError: there is no such segment or language.
        DownloadError: see ``WordSim353``.
    """

    name = "semeval17task2"
    folder = "semeval17task2"
    archive = OfficialFile(
        "semeval2017-task2.zip",
        "b29860553f98b057303815817dfb60b9fe79cfba",
        "https://alt.qcri.org/semeval2017/task2/data/uploads/semeval2017-task2.zip",
    )
    segments = ("trial", "test")
    languages = ("en", "de", "es", "fa", "it")
    # As GluonNLP states them.
    minimum, maximum = 0, 5

    def __init__(self, segment: str = "trial", language: str = "en", root: Root = None) -> None:
        _choose("segment", segment, self.segments)
        _choose("language", language, self.languages)
        folder = f"SemEval17-Task2/{segment}/subtask1-monolingual"
        words = f"{folder}/data/{language}.{segment}.data.txt"
        keys = f"{folder}/keys/{language}.{segment}.gold.txt"
        pairs = _rows(self.member(words, root), words, "\t")
        scores = _rows(self.member(keys, root), keys, "\t")
        if len(pairs) != len(scores):
            raise DataError(f"{words} has {len(pairs)} pairs, {keys} has {len(scores)} scores.")
        super().__init__(
            (_column(pair, 0, words, line), _column(pair, 1, words, line), _score(score, 0, keys, line))
            for (line, pair), (_, score) in zip(pairs, scores, strict=True)
        )


class BakerVerb143(_Archived, SimilaritySet):
    """Verb-143 (Baker et al., 2014): 144 pairs of verbs. Scores from 0 to 1.

    Raises:
        DownloadError: see ``WordSim353``.
    """

    name = "bakerverb143"
    folder = "verb143"
    archive = OfficialFile(
        "EMNLP14.zip", "1862e52af784e76e83d472532a75eb797fb8b807", "https://ie.technion.ac.il/~roiri/papers/EMNLP14.zip"
    )
    minimum, maximum = 0, 1

    def __init__(self, root: Root = None) -> None:
        file = "verb_similarity dataset.txt"
        super().__init__(_pairs(self.member(file, root), file, columns=(0, 1, 12)))


class YangPowersVerb130(SimilaritySet):
    """Verb-130 (Yang and Powers, 2006): 130 pairs of verbs. Scores from 0 to 4.

    It was published in a paper's appendix, not as a file, so there is no official hash: type or convert it into
    ``yang-powers-verb130.txt``, lines of verb, verb and score, in the folder ``verb130`` of the usual places. What is
    checked is that there are 130 pairs with scores in the range, 26 of each.

    Raises:
        DownloadError: the file is not there; the message says where it is looked for.
        DataError: it does not hold these 130 pairs.
    """

    name = "yangpowersverb130"
    folder = "verb130"
    file = "yang-powers-verb130.txt"
    minimum, maximum = 0, 4

    def __init__(self, root: Root = None) -> None:
        searched = official.folders("datasets", self.folder, root)
        path = next((folder / self.file for folder in searched if (folder / self.file).is_file()), None)
        if path is None:
            raise DownloadError(
                f"The evaluation set YangPowersVerb130 is not offered as a file. Put its 130 lines of verb, verb and "
                f"score (appendix of Yang and Powers, 2006) at {searched[0] / self.file}."
            )
        pairs = _pairs(_read(path), str(path))
        counts = [sum(score == value for _, _, score in pairs) for value in range(5)]
        if len(pairs) != 130 or counts != [26] * 5:
            raise DataError(
                f"{path}: expected 130 pairs, 26 with each of the scores 0 to 4. Received: {len(pairs)} pairs, "
                f"{counts} with these scores."
            )
        super().__init__(pairs)


# Analogies.


class GoogleAnalogyTestSet(_Archived, AnalogySet):
    """Google's analogies (Mikolov et al., 2013, arXiv:1301.3781): 19,544 questions in 14 categories.

    Args:
        group: "semantic" (8,869 questions), "syntactic" (10,675) or None for both.
        category: one of ``all_categories``, or None.
        lowercase: whether words are changed to lower case.

    Raises:
        OptionError: there is no such group or category, or the category is not in the group.
        DownloadError: see ``WordSim353``.
    """

    name = "googleanalogytestset"
    folder = "google_analogy"
    archive = OfficialFile(
        "questions-words.txt",
        "fa92df4bbe788f2d51827c762c63bd8e470edf31",
        "https://download.tensorflow.org/data/questions-words.txt",
    )
    groups = ("syntactic", "semantic")
    all_categories = (
        *("capital-common-countries", "capital-world", "currency", "city-in-state", "family"),
        *("gram1-adjective-to-adverb", "gram2-opposite", "gram3-comparative", "gram4-superlative"),
        *("gram5-present-participle", "gram6-nationality-adjective", "gram7-past-tense", "gram8-plural"),
        "gram9-plural-verbs",
    )

    def __init__(
        self, group: str | None = None, category: str | None = None, lowercase: bool = True, root: Root = None
    ) -> None:
        _choose("group", group, self.groups, or_none=True)
        _choose("category", category, self.all_categories, or_none=True)
        if group is not None and category is not None and self.group_of(category) != group:
            raise OptionError(f"The category {category!r} is {self.group_of(category)}. Received: group={group!r}.")
        file = "questions-words.txt"
        questions, categories = _questions(self.member(file, root), file, lowercase, "utf-8")
        kept = [
            (question, name)
            for question, name in zip(questions, categories, strict=True)
            if group in (None, self.group_of(name)) and category in (None, name)
        ]
        super().__init__([question for question, _ in kept], [name for _, name in kept])

    @staticmethod
    def group_of(category: str) -> str:
        """ "syntactic" or "semantic"."""
        return "syntactic" if category.startswith("gram") else "semantic"


class BiggerAnalogyTestSet(_Archived, AnalogySet):
    """BATS 3.0 (Gladkova et al., 2016): 40 categories of 50 pairs of words, from which 98,000 questions are made.

    Args:
        category: "I01" to "I10" (inflection), "D01" to "D10" (derivation), "E01" to "E10" (encyclopedic), "L01" to
            "L10" (lexicographic), or None for all.
        form_analogy_pairs: whether the samples are questions, (a, b, c, d) of any two pairs of a category; else pairs.
        drop_alternative_solutions: whether only the first of a word's right answers is kept. Otherwise b and d are
            tuples of all of them.

    Raises:
        OptionError: there is no such category.
        DownloadError: see ``WordSim353``.
    """

    name = "biggeranalogytestset"
    folder = "bigger_analogy"
    archive = OfficialFile(
        "BATS_3.0.zip",
        "bf94d47884be9ea83af369beeea7499ed25dcf0d",
        "https://s3.amazonaws.com/blackbirdprojects/tut_vsm/BATS_3.0.zip",
    )

    def __init__(
        self,
        category: str | None = None,
        form_analogy_pairs: bool = True,
        drop_alternative_solutions: bool = True,
        root: Root = None,
    ) -> None:
        files = self.files()
        _choose("category", category, files, or_none=True)
        samples: list[Any] = []
        categories: list[str] = []
        for name in [category] if category is not None else sorted(files):
            rows = _rows(self.member(files[name], root), files[name], None)
            pairs: list[tuple[str, Any]] = []
            for line, row in rows:
                answers = tuple(_column(row, 1, files[name], line).split("/"))
                pairs.append((row[0], answers[0] if drop_alternative_solutions else answers))
            found = list(itertools.starmap(_join, itertools.product(pairs, pairs))) if form_analogy_pairs else pairs
            if form_analogy_pairs:
                found = [question for question in found if question[:2] != question[2:]]
            samples += found
            categories += [name] * len(found)
        super().__init__(samples, categories)

    @classmethod
    def files(cls) -> dict[str, str]:
        """Category -> file."""
        return {file.rpartition("/")[2].partition(" ")[0]: file for file in checksums()[cls.name]}


def _join(one: tuple[Any, ...], two: tuple[Any, ...]) -> tuple[Any, ...]:
    return one + two


EVALUATION_SETS: dict[str, Callable[..., Any]] = {
    kind.__name__.lower(): kind
    for kind in (
        *(WordSim353, MEN, RadinskyMTurk, RareWords, SimLex999, SimVerb3500, SemEval17Task2, BakerVerb143),
        *(YangPowersVerb130, GoogleAnalogyTestSet, BiggerAnalogyTestSet),
    )
}
"""The sets by their names in lower case."""


def evaluation_set(name: str, **options: Any) -> SimilaritySet | AnalogySet:
    """A set by its name, in any case: ``evaluation_set("WordSim353", segment="similarity")``.

    Raises:
        UnknownNameError: there is no such set.
    """
    kind = EVALUATION_SETS.get(name.lower())
    if kind is None:
        names = ", ".join(EVALUATION_SETS)
        raise UnknownNameError(f"There is no evaluation set {name!r}. Expected one of {names}.")
    made: SimilaritySet | AnalogySet = kind(**options)
    return made


# Reading.


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise DataError(f"{os.fspath(path)} cannot be read: {error.strerror or error}.") from error


def _text(content: bytes, name: str, encoding: str) -> io.StringIO:
    try:
        # With newline=None, lines end as files of any system end them.
        return io.StringIO(content.decode("utf-8-sig" if encoding == "utf-8" else encoding), newline=None)
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not in {encoding}: {error}. Name its encoding.") from error
    except LookupError as error:
        raise OptionError(f"No such encoding: {encoding!r}. Expected one such as 'utf-8'.") from error


def _rows(
    content: bytes, name: str, delimiter: str | None, header: int = 0, encoding: str = "utf-8"
) -> list[tuple[int, list[str]]]:
    """(line number, columns) of all lines that are neither empty nor comments."""
    rows = []
    for number, line in enumerate(_text(content, name, encoding), 1):
        line = line.strip()
        if number > header and line and not line.startswith("#"):
            rows.append((number, [column.strip() for column in line.split(delimiter)]))
    return rows


def _column(row: list[str], index: int, name: str, line: int) -> str:
    if index >= len(row) or not row[index]:
        raise DataError(f"{name}, line {line}: expected at least {index + 1} columns. Received: {row[:13]}.")
    return row[index]


def _score(row: list[str], index: int, name: str, line: int) -> float:
    text = _column(row, index, name, line)
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise DataError(f"{name}, line {line}: expected a number as score in column {index + 1}. Received: {text!r}.")
    return score


def _pairs(
    content: bytes,
    name: str,
    delimiter: str | None = None,
    columns: tuple[int, int, int] = (0, 1, 2),
    header: int = 0,
    encoding: str = "utf-8",
) -> list[_Pair]:
    if delimiter is None and b"\t" in content:
        delimiter = "\t"
    one, two, score = columns
    pairs = [
        (_column(row, one, name, line), _column(row, two, name, line), _score(row, score, name, line))
        for line, row in _rows(content, name, delimiter, header, encoding)
    ]
    if not pairs:
        raise DataError(f"{name} has no pair of words. Expected lines of two words and a score.")
    return pairs


def _questions(content: bytes, name: str, lowercase: bool, encoding: str) -> tuple[list[_Question], list[str]]:
    questions: list[_Question] = []
    categories: list[str] = []
    category = ""
    for line, row in _rows(content, name, None, 0, encoding):
        if row[0] == ":" and len(row) > 1:
            category = " ".join(row[1:])
            continue
        if len(row) != 4:
            raise DataError(
                f"{name}, line {line}: expected four words, or ': category'. Received: {' '.join(row)[:60]!r}."
            )
        one, two, three, four = (word.lower() for word in row) if lowercase else row
        questions.append((one, two, three, four))
        categories.append(category)
    if not questions:
        raise DataError(f"{name} has no question. Expected lines of four words.")
    return questions, categories
