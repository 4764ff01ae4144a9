"""GluonNLP's form of a text classification set: one JSON array of pairs of a text and an integer."""

from __future__ import annotations

import json

from glueball.errors import DataError


def read_pairs(content: bytes, place: str) -> list[tuple[str, int]]:
    """The pairs.

    Raises:
        DataError: it is no JSON in UTF-8, no array, or an element is no pair of a text and an integer.
    """
    try:
        data = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place} is no JSON in UTF-8 or is damaged ({error}). Get the file again.") from error
    if not isinstance(data, list):
        raise DataError(f"{place} holds no array of [text, label] pairs. Received: {type(data).__name__}.")
    for number, pair in enumerate(data):
        if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and type(pair[1]) is int):
            raise DataError(f"{place}, element {number}: expected [text, integer]. Received: {str(pair)[:80]}.")
    return [(text, label) for text, label in data]
