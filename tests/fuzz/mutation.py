"""Makes damaged files out of valid ones. Every input is a function of (seed, target, index) and of nothing else.

An input is a tuple of parts, the contents of the files that a reader opens together (a record file and its table).
Mutations know what file formats are made of: lengths (extreme values, in both byte orders, at aligned places), blocks
(cut, doubled, exchanged, taken from another sample), numbers in digits, and words that mean something to the format.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence

Parts = tuple[bytes, ...]
Mutator = Callable[[random.Random, Parts], Parts]

LARGEST = 1 << 16
"""Most bytes in a part, so that a million inputs end some day."""

_BYTES = (
    0x00,
    0x01,
    0x02,
    0x0A,
    0x0D,
    0x20,
    0x22,
    0x2C,
    0x30,
    0x39,
    0x5C,
    0x7F,
    0x80,
    0xC0,
    0xD8,
    0xD9,
    0xDA,
    0xFE,
    0xFF,
)
_WIDTHS = (1, 2, 4, 4, 8, 8)
_NUMBERS = (
    *(b"0", b"-1", b"1", b"9", b"1e400", b"-1e400", b"1e-400", b"nan", b"inf", b"1_0", b"00", b"+1", b"0x10", b"1.5"),
    *(b"2147483647", b"4294967296", b"9223372036854775807", b"18446744073709551616", b"-9223372036854775809"),
    *(b"9" * 30, b"9" * 5000, b"." + b"1" * 40),
)


def generator(seed: int, target: str, index: int) -> random.Random:
    """The random numbers of one input."""
    return random.Random((seed & 0xFFFFFFFF) << 96 | zlib.crc32(target.encode()) << 64 | index)


def _integer(rng: random.Random, width: int, size: int) -> int:
    """An extreme or telling value for a field of ``width`` bytes in a file of ``size`` bytes."""
    top = 1 << 8 * width
    kind = rng.randrange(8)
    if kind == 0:
        return rng.choice((0, 1, 2, 3, 4, 7, 8, 12, 16, 32, 33, 64, 100, 127, 128, 255)) % top
    if kind == 1:
        return top - 1 - rng.randrange(3)
    if kind == 2:
        return (top >> 1) - rng.randrange(2)
    if kind == 3:
        return (1 << rng.randrange(8 * width)) % top
    if kind == 4:
        return (size + rng.randrange(-9, 10)) % top
    if kind == 5:
        return (size // rng.choice((2, 4, 8)) + rng.randrange(-2, 3)) % top
    return rng.randrange(top)


def _place(rng: random.Random, size: int, width: int) -> int:
    """Where a field could be: mostly aligned, and often near the beginning, where headers are."""
    last = max(size - width, 0)
    if rng.random() < 0.4:
        last = min(last, 96)
    place = rng.randint(0, last)
    return place - place % (4 if width >= 4 else width) if rng.random() < 0.6 else place


def _span(rng: random.Random, size: int) -> tuple[int, int]:
    if not size:
        return 0, 0
    start = rng.randrange(size)
    length = min(size - start, rng.choice((1, 2, 4, 8, 16, 64, size // 2 + 1, size)))
    return start, start + rng.randint(1, max(length, 1))


def mutate_bytes(rng: random.Random, data: bytes, others: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """One to six small changes."""
    content = bytearray(data)
    count = 1
    while count < 6 and rng.random() < 0.45:
        count += 1
    for _ in range(count):
        size = len(content)
        kind = rng.randrange(16)
        if kind <= 1 and size:
            content[rng.randrange(size)] ^= 1 << rng.randrange(8)
        elif kind == 2 and size:
            content[rng.randrange(size)] = rng.choice(_BYTES)
        elif kind <= 5 and size:
            width = rng.choice(_WIDTHS)
            place = _place(rng, size, width)
            order = "little" if rng.random() < 0.7 else "big"
            content[place : place + width] = _integer(rng, width, size).to_bytes(width, order)
        elif kind == 6 and size:
            width = rng.choice(_WIDTHS)
            place = _place(rng, size, width)
            order = "little" if rng.random() < 0.7 else "big"
            value = int.from_bytes(content[place : place + width], order) + rng.choice((-8, -2, -1, 1, 2, 8, 256))
            content[place : place + width] = (value % (1 << 8 * width)).to_bytes(width, order)
        elif kind == 7:
            del content[rng.randint(0, size) :]
        elif kind == 8:
            start, stop = _span(rng, size)
            del content[start:stop]
        elif kind == 9:
            start, stop = _span(rng, size)
            block = content[start:stop]
            at = stop if rng.random() < 0.5 else rng.randint(0, size)
            content[at:at] = block * rng.choice((1, 1, 1, 2, 16))
        elif kind == 10:
            first, second = sorted((_span(rng, size), _span(rng, size)))
            if first[1] <= second[0]:
                swapped = content[second[0] : second[1]] + content[first[1] : second[0]] + content[first[0] : first[1]]
                content[first[0] : second[1]] = swapped
        elif kind == 11 and others:
            other = rng.choice(others)
            cut = rng.randint(0, len(other))
            if rng.random() < 0.5:
                content[rng.randint(0, size) :] = other[cut:]
            else:
                start, stop = _span(rng, len(other))
                at = rng.randint(0, size)
                content[at : at + (stop - start if rng.random() < 0.5 else 0)] = other[start:stop]
        elif kind == 12:
            at = rng.randint(0, size)
            content[at:at] = bytes([rng.choice(_BYTES)]) * rng.choice((1, 2, 4, 8, 33, 300, 5000))
        elif kind == 13:
            at = rng.randint(0, size)
            content[at:at] = rng.randbytes(rng.choice((1, 2, 4, 8, 16)))
        elif kind == 14:
            # A number in digits, in place of one that is there.
            number = rng.choice(_NUMBERS)
            found = [at for at in range(size) if 0x30 <= content[at] <= 0x39] if size < 4096 else []
            at = rng.choice(found) if found else rng.randint(0, size)
            stop = at
            while stop < len(content) and 0x30 <= content[stop] <= 0x39:
                stop += 1
            content[at:stop] = number
        elif tokens:
            token = rng.choice(tokens)
            at = rng.randint(0, size)
            content[at : at + (len(token) if rng.random() < 0.5 else 0)] = token
        if len(content) > LARGEST:
            del content[LARGEST:]
    return bytes(content)


class Mutation:
    """Inputs out of a corpus.

    Args:
        corpus: valid samples.
        tokens: words that mean something to the format.
        mutators: further mutations that know the format; half of the inputs go through one where there are some.
        finish: makes an input consistent (checksums, compression), so that damage gets past the outer check.
    """

    def __init__(
        self,
        corpus: Sequence[Parts],
        tokens: Sequence[bytes] = (),
        mutators: Sequence[Mutator] = (),
        finish: Mutator | None = None,
    ) -> None:
        self.corpus = list(corpus)
        self.tokens = tokens
        self.mutators = mutators
        self.finish = finish
        self._others = [[sample[part] for sample in self.corpus] for part in range(len(self.corpus[0]))]

    def __call__(self, rng: random.Random) -> Parts:
        parts = rng.choice(self.corpus)
        chance = rng.random()
        if chance < 0.02:
            # Nothing, noise, or noise behind a right beginning.
            made = [rng.randbytes(rng.choice((0, 1, 3, 8, 40, 200))) for _ in parts]
            if rng.random() < 0.7:
                made = [part[: rng.choice((1, 2, 4, 8, 16))] + noise for part, noise in zip(parts, made, strict=True)]
            return tuple(made)
        if self.mutators and chance < 0.5:
            parts = rng.choice(self.mutators)(rng, parts)
        else:
            parts = self.any_part(rng, parts)
        if self.finish is not None and rng.random() < 0.85:
            parts = self.finish(rng, parts)
        return parts

    def any_part(self, rng: random.Random, parts: Parts) -> Parts:
        """Damages one part or several."""
        made = list(parts)
        chosen = rng.randrange(len(made))
        for at in range(len(made)):
            if at == chosen or rng.random() < 0.2:
                made[at] = mutate_bytes(rng, made[at], self._others[at], self.tokens)
        return tuple(made)


# ----------------------------------------------------------------------------------------------------------------------
# JSON: damage that leaves it JSON

_ODD = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2**31,
        2**63,
        -(2**63) - 1,
        10**30,
        1.5,
        -0.0,
        1e300,
        "",
        "0",
        "a",
        "\x00",
        "\ud800",
    ),
    *("<unk>", "../x", "é\u0301", "a" * 300, [], {}, [[]], {"": None}, [1], ["a", "a"], {"a": {"a": {}}}),
)


def mutate_json(rng: random.Random, value: object, words: Sequence[object] = ()) -> object:
    """A copy of a JSON value with one place of it changed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        names = list(value)
        name = rng.choice(names)
        kind = rng.randrange(10)
        made = dict(value)
        if kind == 0:
            del made[name]
        elif kind == 1:
            made[str(rng.choice((*_ODD, *words)))] = made[name]
        elif kind == 2:
            made[name], other = made[rng.choice(names)], made[name]
            made[rng.choice(names)] = other
        elif kind == 3:
            made[name] = rng.choice((*_ODD, *words))
        else:
            made[name] = mutate_json(rng, value[name], words)
        return made
    if isinstance(value, list) and value and rng.random() < 0.9:
        copied = list(value)
        at = rng.randrange(len(copied))
        kind = rng.randrange(8)
        if kind == 0:
            del copied[at]
        elif kind == 1:
            copied.insert(at, copied[rng.randrange(len(copied))])
        elif kind == 2:
            copied[at] = rng.choice((*_ODD, *words))
        else:
            copied[at] = mutate_json(rng, copied[at], words)
        return copied
    if isinstance(value, bool) or value is None or rng.random() < 0.5:
        return rng.choice((*_ODD, *words))
    if isinstance(value, int):
        return value + rng.choice((-1, 1, 2**16, -(2**40)))
    if isinstance(value, str):
        at = rng.randint(0, len(value))
        return (
            value[:at] + rng.choice(("", "a", "\x00", "\ud83d", "é", "\n", '"', " ")) + value[at + rng.randrange(2) :]
        )
    return rng.choice((*_ODD, *words))
