"""How word vectors are judged: similarity of pairs against people's, and analogies (a is to b as c is to ?).

3CosAdd (Mikolov et al., 2013) and 3CosMul (Levy and Goldberg, 2014, "Linguistic regularities in sparse and explicit
word representations", equation 4). All questions are answered together, a block of the vocabulary at a time: the
similarities of the block to every distinct question word are one matrix product, out of which each question's scores
are added or multiplied, so that a word that is in a hundred questions is compared once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike
from tqdm import tqdm

from glueball.errors import DataError, OptionError
from glueball_nlp_embedding_lm.embedding.token_embedding import TokenEmbedding

EPSILON = 1e-10
ANALOGY_FUNCTIONS = ("ThreeCosAdd", "ThreeCosMul")
SIMILARITY_FUNCTIONS = ("CosineSimilarity",)

_SCORES_AT_ONCE = 1 << 18
_SIMILARITIES_AT_ONCE = 1 << 20


def list_evaluation_functions(kind: str | None = None) -> dict[str, list[str]] | list[str]:
    """The names of the functions of a kind ("similarity", "analogy"), or of each.

    Raises:
        OptionError: there is no such kind.
    """
    functions = {"similarity": list(SIMILARITY_FUNCTIONS), "analogy": list(ANALOGY_FUNCTIONS)}
    if kind is None:
        return functions
    if kind not in functions:
        raise OptionError(f"Expected kind 'similarity' or 'analogy'. Received: {kind!r}.")
    return functions[kind]


def unit_vectors(vectors: np.ndarray, epsilon: float = EPSILON) -> np.ndarray:
    """The rows divided by their lengths, float32; ``epsilon`` is added to the squared length (rows of zeros stay)."""
    vectors = np.asarray(vectors, np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors) + np.float32(epsilon))
    return vectors / lengths[:, None]


class WordEmbeddingSimilarity:
    """Similarities of pairs of words, by their indices.

    Args:
        idx_to_vec: (number of words, dimension).
        similarity_function: "CosineSimilarity", the only one.
        eps: added to squared lengths.

    Raises:
        OptionError: there is no such function.
        DataError: ``idx_to_vec`` is no matrix.
    """

    def __init__(
        self, idx_to_vec: ArrayLike, similarity_function: str = "CosineSimilarity", eps: float = EPSILON
    ) -> None:
        _check_function("similarity", similarity_function, SIMILARITY_FUNCTIONS)
        self._vectors = _matrix(idx_to_vec)
        self._eps = eps

    def __call__(self, words1: ArrayLike, words2: ArrayLike) -> np.ndarray:
        """Similarities, float32, (number of pairs,), of words at these indices, each (number of pairs,).

        Raises:
            OptionError: an index is not in the matrix, or the two have other lengths.
        """
        first, second = _indices(len(self._vectors), words1, words2)
        one, two = (unit_vectors(self._vectors[words], self._eps) for words in (first, second))
        return np.einsum("ij,ij->i", one, two)


class WordEmbeddingAnalogy:
    """Answers analogies, by indices of words.

    Args:
        idx_to_vec: (number of words, dimension).
        analogy_function: "ThreeCosMul" or "ThreeCosAdd".
        k: how many answers to give, best first.
        exclude_question_words: whether the three words of a question are no answers to it.
        eps: added to squared lengths and, by 3CosMul, to the divisor.

    Raises:
        OptionError: there is no such function, or ``k`` is not from 1 to the number of possible answers.
        DataError: ``idx_to_vec`` is no matrix.
    """

    def __init__(
        self,
        idx_to_vec: ArrayLike,
        analogy_function: str = "ThreeCosMul",
        k: int = 1,
        exclude_question_words: bool = True,
        eps: float = EPSILON,
    ) -> None:
        _check_function("analogy", analogy_function, ANALOGY_FUNCTIONS)
        vectors = _matrix(idx_to_vec)
        answers = len(vectors) - (3 if exclude_question_words else 0)
        if not 1 <= k <= answers:
            raise OptionError(f"Expected k from 1 to {answers}, the number of possible answers. Received: {k}.")
        self._function = analogy_function
        self._k = k
        self._exclude = exclude_question_words
        self._eps = eps
        self._units = unit_vectors(vectors, eps)

    def __call__(self, words1: ArrayLike, words2: ArrayLike, words3: ArrayLike) -> np.ndarray:
        """Indices of the answers, (number of questions, k), to "words1 is to words2 as words3 is to ?".

        Raises:
            OptionError: an index is not in the matrix, or the three have other lengths.
        """
        questions = np.stack(_indices(len(self._units), words1, words2, words3))
        rows, columns = np.empty(0, np.int64), np.empty(0, np.int64)
        if self._exclude:
            rows, columns = np.tile(np.arange(questions.shape[1]), 3), questions.ravel()
        return self.search(questions, rows, columns)

    def search(self, questions: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """As calling, with ``questions`` (3, number of questions); ``columns[i]`` is no answer to question ``rows[i]``.

        Of words that score the same, the one with the lower index comes first (for ``k`` above 1, as far as both are
        among a block's best).
        """
        count, k = questions.shape[1], self._k
        words, places = np.unique(questions, return_inverse=True)
        first, second, third = places.reshape(questions.shape)
        score = self._add if self._function == "ThreeCosAdd" else self._multiply
        best = np.full((count, k), -np.inf, np.float32)
        answers = np.zeros((count, k), np.int64)
        order = np.argsort(columns, kind="stable")
        rows, columns = rows[order], columns[order]
        width = max(min(_SIMILARITIES_AT_ONCE // max(len(words), 1), len(self._units)), 256, k)
        height = max(_SCORES_AT_ONCE // width, 1)
        queries = self._units[words]
        buffers = np.empty((2, height, width), np.float32)
        with tqdm(total=len(self._units), desc="analogies", unit="word", disable=None, leave=False) as bar:
            for start in range(0, len(self._units), width):
                block = self._units[start : start + width]
                similarities = queries @ block.T
                if self._function == "ThreeCosMul":
                    # From [-1, 1] to [0, 1], as the paper's footnote has it.
                    similarities += 1
                    similarities *= 0.5
                low, high = np.searchsorted(columns, (start, start + len(block)))
                excluded = rows[low:high]
                by_row = np.argsort(excluded, kind="stable")
                excluded, places_in_block = excluded[by_row], columns[low:high][by_row] - start
                for top in range(0, count, height):
                    some = slice(top, min(top + height, count))
                    scores = score(similarities, first[some], second[some], third[some], buffers)
                    begin, end = np.searchsorted(excluded, (some.start, some.stop))
                    scores[excluded[begin:end] - top, places_in_block[begin:end]] = -np.inf
                    _keep_best(best[some], answers[some], scores, start)
                bar.update(len(block))
        return answers

    @staticmethod
    def _add(
        similarities: np.ndarray, first: np.ndarray, second: np.ndarray, third: np.ndarray, buffers: np.ndarray
    ) -> np.ndarray:
        scores, other = _rows(similarities, second, buffers[0]), _rows(similarities, third, buffers[1])
        scores += other
        scores -= _rows(similarities, first, buffers[1])
        return scores

    def _multiply(
        self,
        similarities: np.ndarray,
        first: np.ndarray,
        second: np.ndarray,
        third: np.ndarray,
        buffers: np.ndarray,
    ) -> np.ndarray:
        scores, other = _rows(similarities, second, buffers[0]), _rows(similarities, third, buffers[1])
        scores *= other
        divisor = _rows(similarities, first, buffers[1])
        divisor += np.float32(self._eps)
        scores /= divisor
        return scores


def _rows(similarities: np.ndarray, rows: np.ndarray, buffer: np.ndarray) -> np.ndarray:
    size = len(rows) * similarities.shape[1]
    target = buffer.reshape(-1)[:size].reshape(len(rows), similarities.shape[1])
    # clip: the indices are right, and with it NumPy writes straight into the buffer.
    return np.take(similarities, rows, axis=0, out=target, mode="clip")


def _keep_best(best: np.ndarray, answers: np.ndarray, scores: np.ndarray, start: int) -> None:
    """Updates the best scores, (questions, k) in falling order, and their indices by those of a block."""
    k = best.shape[1]
    if k == 1:
        places = scores.argmax(axis=1)
        found = scores[np.arange(len(scores)), places]
        better = found > best[:, 0]
        best[better, 0] = found[better]
        answers[better, 0] = places[better] + start
        return
    width = scores.shape[1]
    places = np.argpartition(scores, width - k, axis=1)[:, width - k :] if width > k else None
    if places is None:
        places = np.broadcast_to(np.arange(width), scores.shape)
    both = np.concatenate([best, np.take_along_axis(scores, places, axis=1)], axis=1)
    indices = np.concatenate([answers, places + start], axis=1)
    order = np.lexsort((indices, -both), axis=1)[:, :k]
    best[:] = np.take_along_axis(both, order, axis=1)
    answers[:] = np.take_along_axis(indices, order, axis=1)


@attrs.frozen
class SimilarityResult:
    """How similarities of vectors agree with people's."""

    spearman: float
    """Correlation of ranks; ties have the mean of their ranks. NaN for fewer than two pairs or equal scores."""
    pearson: float
    pairs: int
    """Pairs that were compared."""
    skipped: int
    """Pairs of which a word has no vector."""


@attrs.frozen
class AnalogyResult:
    """How many analogies were answered rightly."""

    accuracy: float
    """Of the questions that were asked, in [0, 1]; NaN if none was."""
    correct: int
    asked: int
    skipped: int
    """Questions of which a word (the answer included) has no vector."""
    categories: dict[str, tuple[int, int]]
    """Category -> (correct, asked), where the data set has categories."""


def evaluate_similarity(
    embedding: TokenEmbedding,
    pairs: Iterable[tuple[str, str, float]],
    *,
    ignore_case: bool = True,
    restrict: int | None = None,
    use_lookup: bool = False,
) -> SimilarityResult:
    """Compares cosine similarities with people's scores.

    Args:
        embedding: the vectors.
        pairs: (word, word, score), such as ``WordSim353()``.
        ignore_case: whether "FBI" is looked up as any token with these letters, the first of them in the table.
        restrict: only the first so many tokens of the table count (files have the frequent ones first).
        use_lookup: whether words that are not in the table get vectors from ``embedding.unknown_lookup``.

    Raises:
        DataError: the embedding is empty.
        OptionError: ``restrict`` is no positive number.
    """
    words = _Words(embedding, ignore_case, restrict)
    lookup = embedding.unknown_lookup if use_lookup else None
    first, second, scores = [], [], []
    total = 0
    for one, two, score in pairs:
        total += 1
        vectors = [_vector(words, embedding, lookup, word) for word in (one, two)]
        if vectors[0] is None or vectors[1] is None:
            continue
        first.append(vectors[0])
        second.append(vectors[1])
        scores.append(score)
    if not scores:
        return SimilarityResult(float("nan"), float("nan"), 0, total)
    similarities = np.einsum("ij,ij->i", unit_vectors(np.stack(first)), unit_vectors(np.stack(second)))
    people = np.asarray(scores, np.float64)
    return SimilarityResult(
        spearman=correlation(ranks(similarities), ranks(people)),
        pearson=correlation(similarities.astype(np.float64), people),
        pairs=len(scores),
        skipped=total - len(scores),
    )


def _vector(words: _Words, embedding: TokenEmbedding, lookup: Any, word: str) -> np.ndarray | None:
    index = words.index(word)
    if index is not None:
        return words.vectors[index]
    return embedding[word] if lookup is not None and word not in embedding and word in lookup else None


def evaluate_analogies(
    embedding: TokenEmbedding,
    questions: Iterable[tuple[str, str, str, str]],
    function: str = "ThreeCosAdd",
    *,
    ignore_case: bool = True,
    restrict: int | None = None,
    exclude_question_words: bool = True,
    eps: float = EPSILON,
) -> AnalogyResult:
    """Asks "a is to b as c is to ?" and counts how often the best answer is d.

    Args:
        embedding: the vectors; its unknown token is no answer.
        questions: (a, b, c, d), such as ``GoogleAnalogyTestSet()``. Its attribute ``categories``, if it has one, names
            each question's category.
        function: "ThreeCosAdd" or "ThreeCosMul".
        ignore_case: whether words that differ in case alone are the same word.
        restrict: only the first so many tokens of the table are looked up and are answers.
        exclude_question_words: whether a, b and c are no answers.
        eps: see ``WordEmbeddingAnalogy``.

    Raises:
        DataError: the embedding is empty.
        OptionError: there is no such function, or ``restrict`` is no positive number.
    """
    _check_function("analogy", function, ANALOGY_FUNCTIONS)
    words = _Words(embedding, ignore_case, restrict)
    names = getattr(questions, "categories", None)
    asked, of_category = [], []
    totals: dict[str, list[int]] = {}
    skipped = 0
    for position, question in enumerate(questions):
        indices = [words.index(word) for word in question]
        if names is not None:
            totals.setdefault(names[position], [0, 0])
        if None in indices or len(indices) != 4:
            if len(indices) != 4:
                raise DataError(f"A question has four words. Received: {question!r}.")
            skipped += 1
            continue
        asked.append(indices)
        of_category.append(names[position] if names is not None else "")
    if not asked:
        empty = dict.fromkeys(totals, (0, 0))
        return AnalogyResult(float("nan"), 0, 0, skipped, empty)
    table = np.array(asked, np.int64).T
    rows, columns = np.empty(0, np.int64), np.empty(0, np.int64)
    if exclude_question_words:
        rows, columns = words.same(table[:3])
    analogy = WordEmbeddingAnalogy(words.vectors, function, exclude_question_words=False, eps=eps)
    answers = analogy.search(table[:3], rows, columns)[:, 0]
    is_right = words.ids[answers] == words.ids[table[3]]
    for name, right in zip(of_category, is_right.tolist(), strict=True):
        if names is not None:
            totals[name][0] += right
            totals[name][1] += 1
    correct = int(is_right.sum())
    categories = {name: (right, count) for name, (right, count) in totals.items()}
    return AnalogyResult(correct / len(asked), correct, len(asked), skipped, categories)


class _Words:
    """The table without its unknown token, and which tokens are the same word."""

    def __init__(self, embedding: TokenEmbedding, ignore_case: bool, restrict: int | None) -> None:
        vectors = embedding.idx_to_vec
        if vectors is None:
            raise DataError("The embedding is empty: there is nothing to evaluate.")
        if restrict is not None and restrict < 1:
            raise OptionError(f"restrict is a number of tokens, at least 1. Received: {restrict}.")
        tokens = embedding.idx_to_token
        if embedding.unknown_token is not None:
            at = embedding.token_to_idx[embedding.unknown_token]
            vectors = vectors[1:] if at == 0 else np.delete(vectors, at, axis=0)
            tokens = tokens[:at] + tokens[at + 1 :]
        self.vectors = vectors[:restrict]
        self._fold: Callable[[str], str] = str.upper if ignore_case else str
        self._ids: dict[str, int] = {}
        self.ids = np.fromiter(
            (self._ids.setdefault(self._fold(token), index) for index, token in enumerate(tokens[:restrict])),
            np.int64,
            len(self.vectors),
        )

    def index(self, word: str) -> int | None:
        """Index of the first token that is the word."""
        return self._ids.get(self._fold(word))

    def same(self, questions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(question, index) of every token that is the same word as one in the question."""
        order = np.argsort(self.ids, kind="stable")
        ids = self.ids[order]
        wanted = questions.ravel()
        low, high = np.searchsorted(ids, wanted, "left"), np.searchsorted(ids, wanted, "right")
        counts = high - low
        rows = np.repeat(np.tile(np.arange(questions.shape[1]), 3), counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return rows, order[np.repeat(low, counts) + within]


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, float64; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: np.ndarray = (last - (counts - 1) / 2)[inverse.reshape(-1)]
    return mean


def correlation(one: np.ndarray, two: np.ndarray) -> float:
    """Pearson's correlation; NaN where one of the two has no variation."""
    one, two = one - one.mean(), two - two.mean()
    scale = float(np.sqrt((one @ one) * (two @ two)))
    return float(one @ two) / scale if scale > 0 else float("nan")


def _check_function(kind: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        raise OptionError(f"There is no {kind} function {name!r}. Expected one of {', '.join(names)}.")


def _matrix(values: ArrayLike) -> np.ndarray:
    vectors = np.asarray(values, np.float32)
    if vectors.ndim != 2:
        raise DataError(f"Expected idx_to_vec of shape (number of words, dimension). Received: {vectors.shape}.")
    return vectors


def _indices(count: int, *words: ArrayLike) -> list[np.ndarray]:
    arrays = [np.asarray(array) for array in words]
    for array in arrays:
        if array.ndim != 1 or len(array) != len(arrays[0]) or (array.size and array.dtype.kind not in "iu"):
            raise OptionError(
                f"Expected integer indices, arrays of one length. Received: "
                f"{[(array.shape, str(array.dtype)) for array in arrays]}."
            )
        if array.size and (array.min() < 0 or array.max() >= count):
            raise OptionError(f"Expected indices from 0 to {count - 1}. Received: {array.min()} to {array.max()}.")
    return [array.astype(np.int64) for array in arrays]
