"""Reads the files of CIFAR's "python" archives without unpickling them.

Unpickling runs whatever a file names, so the pickle module stays out of this package. The archives use a small part of
the format: dictionaries, lists, strings, small numbers, and NumPy arrays of bytes. The machine below knows these and
nothing else. It has no way to import or to call: the three names that an array needs become symbols, the one pattern in
which NumPy writes them becomes an array of unsigned bytes, and any other instruction, name or pattern is an error.

Source of the format: the module ``pickletools`` of Python's standard library documents every instruction.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

from glueball.errors import DataError

LARGEST_STACK = 100_000

RECONSTRUCT = "reconstruct"
NDARRAY = "ndarray"
DTYPE = "dtype"

# NumPy moved the module in its version 2; archives that were written anew name the new place.
SYMBOLS = {
    ("numpy.core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy", "ndarray"): NDARRAY,
    ("numpy", "dtype"): DTYPE,
}


@attrs.frozen
class _Symbol:
    name: str


@attrs.define
class _Bytes8:
    """The type "unsigned byte" while its state is being read."""


@attrs.define
class _Array:
    """An array while its state is being read."""

    value: np.ndarray | None = None


class _Mark:
    """Where a tuple, or a run of items, begins on the stack."""


class _RefusedError(Exception):
    """Why the file is not one of the archives'."""


def read_archive_batch(content: bytes, name: str = "the file") -> dict[str, Any]:
    """The dictionary in one batch file: strings as bytes, lists as lists, pictures as a uint8 array.

    Args:
        content: the whole file.
        name: what messages call it.

    Raises:
        DataError: the file holds anything that the archives do not, is cut short, or is no such file. Nothing in it
            has been run.
    """
    try:
        return _Machine(content).run()
    except _RefusedError as refusal:
        raise DataError(
            f"{name} is not a batch of CIFAR's python archive: {refusal}. It was parsed, not unpickled: nothing in it "
            "has been run. Fetch the archive again from https://www.cs.toronto.edu/~kriz/cifar.html."
        ) from None


class _Machine:
    """The stack machine of the format, cut down to what is needed."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.position = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> dict[str, Any]:
        while True:
            at = self.position
            code = self.take(1)[0]
            if code == 0x2E:  # STOP
                return self.result()
            instruction = INSTRUCTIONS.get(code)
            if instruction is None:
                raise _RefusedError(f"instruction 0x{code:02x} at byte {at} does not occur in these files")
            instruction(self)

    def result(self) -> dict[str, Any]:
        if len(self.stack) != 1 or not isinstance(self.stack[0], dict):
            raise _RefusedError("it does not hold one dictionary")
        batch: dict[str, Any] = {}
        for key, value in self.stack[0].items():
            if isinstance(value, (_Symbol, _Bytes8, _Mark)):
                raise _RefusedError("a value is no data")
            if isinstance(value, _Array):
                if value.value is None:
                    raise _RefusedError("an array has no content")
                value = value.value
            batch[key.decode("latin-1") if isinstance(key, bytes) else key] = value
        return batch

    # Bytes of the file.

    def take(self, count: int) -> bytes:
        piece = self.content[self.position : self.position + count]
        if len(piece) != count:
            raise _RefusedError(f"it is cut short at byte {len(self.content)}")
        self.position += count
        return piece

    def number(self, width: int, signed: bool = False) -> int:
        return int.from_bytes(self.take(width), "little", signed=signed)

    def line(self) -> str:
        end = self.content.find(b"\n", self.position, self.position + 128)
        if end < 0:
            raise _RefusedError("a name does not end")
        text = self.content[self.position : end]
        self.position = end + 1
        return text.decode("latin-1")

    # The stack.

    def push(self, value: Any) -> None:
        # Python writes lists in pieces of 1,000; a byte of the file must not become an object without end.
        if len(self.stack) >= LARGEST_STACK:
            raise _RefusedError(f"it piles up more than {LARGEST_STACK:,} values")
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack:
            raise _RefusedError("it takes from an empty stack")
        value = self.stack.pop()
        if isinstance(value, _Mark):
            raise _RefusedError("its marks are not in order")
        return value

    def pop_many(self, count: int) -> tuple[Any, ...]:
        return tuple(reversed([self.pop() for _ in range(count)]))

    def pop_to_mark(self) -> list[Any]:
        for at in range(len(self.stack) - 1, -1, -1):
            if isinstance(self.stack[at], _Mark):
                items = self.stack[at + 1 :]
                del self.stack[at:]
                return items
        raise _RefusedError("a mark is missing")

    def top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise _RefusedError(f"it puts items into something that is no {kind.__name__}")
        return self.stack[-1]

    # Instructions that do more than push a value.

    def protocol(self) -> None:
        if self.number(1) > 3:
            raise _RefusedError("its version of the format is newer than these files")

    def remember(self, width: int) -> None:
        slot = self.number(width)
        if not self.stack:
            raise _RefusedError("it remembers a value that is not there")
        self.memo[slot] = self.stack[-1]

    def recall(self, width: int) -> None:
        slot = self.number(width)
        if slot not in self.memo:
            raise _RefusedError("it recalls a value that was never remembered")
        self.push(self.memo[slot])

    def text(self) -> None:
        try:
            self.push(self.take(self.number(4)).decode("utf-8"))
        except UnicodeDecodeError:
            raise _RefusedError("a string is not UTF-8") from None

    def set_items(self, items: list[Any] | tuple[Any, ...]) -> None:
        target = self.top(dict)
        if len(items) % 2:
            raise _RefusedError("a key has no value")
        for key, value in zip(items[0::2], items[1::2], strict=True):
            if not isinstance(key, (bytes, str)):
                raise _RefusedError("a key is no string")
            target[key] = value

    def name(self) -> None:
        module, name = self.line(), self.line()
        symbol = SYMBOLS.get((module, name))
        if symbol is None:
            raise _RefusedError(f"it names {module[:60]!r} {name[:60]!r}, which these files do not need")
        self.push(_Symbol(symbol))

    def call(self) -> None:
        """Not a call: recognises the two patterns in which NumPy announces an array and its type."""
        function, arguments = self.pop_many(2)
        if function == _Symbol(RECONSTRUCT) and _same(arguments, (_Symbol(NDARRAY), (0,), b"b")):
            self.push(_Array())
        elif function == _Symbol(DTYPE) and any(_same(arguments, (b"u1", *flags)) for flags in ((0, 1), (False, True))):
            self.push(_Bytes8())
        else:
            raise _RefusedError("it asks for a call that does not make an array of bytes")

    def build(self) -> None:
        """The state of an array, or of its type."""
        state = self.pop()
        target = self.stack[-1] if self.stack else None
        if isinstance(target, _Bytes8):
            if not _same(state, (3, b"|", None, None, None, -1, -1, 0)):
                raise _RefusedError("an array holds something else than plain bytes")
            return
        if not isinstance(target, _Array) or target.value is not None:
            raise _RefusedError("it sets the state of something that has none")
        match state:
            case (1, tuple() as shape, _Bytes8(), bool() as column_major, bytes() as values):
                if not all(type(length) is int and length >= 0 for length in shape):
                    raise _RefusedError("the shape of an array is no shape")
                if math.prod(shape) != len(values):
                    raise _RefusedError(f"an array of shape {shape} has {len(values)} bytes")
                order: Any = "F" if column_major else "C"
                target.value = np.frombuffer(values, dtype=np.uint8).reshape(shape, order=order)
            case _:
                raise _RefusedError("the state of an array has another form")


def _same(value: Any, expected: Any) -> bool:
    """Equality in which a text counts as its bytes (Python 3 writes text where Python 2 wrote bytes)."""
    if isinstance(expected, tuple):
        return (
            isinstance(value, tuple)
            and len(value) == len(expected)
            and all(_same(one, other) for one, other in zip(value, expected, strict=True))
        )
    if isinstance(value, str):
        value = value.encode("utf-8")
    return type(value) is type(expected) and bool(value == expected)


INSTRUCTIONS: dict[int, Callable[[_Machine], None]] = {
    0x80: _Machine.protocol,  # PROTO
    ord("}"): lambda machine: machine.push({}),  # EMPTY_DICT
    ord("]"): lambda machine: machine.push([]),  # EMPTY_LIST
    ord(")"): lambda machine: machine.push(()),  # EMPTY_TUPLE
    ord("("): lambda machine: machine.push(_Mark()),  # MARK
    ord("q"): lambda machine: machine.remember(1),  # BINPUT
    ord("r"): lambda machine: machine.remember(4),  # LONG_BINPUT
    ord("h"): lambda machine: machine.recall(1),  # BINGET
    ord("j"): lambda machine: machine.recall(4),  # LONG_BINGET
    ord("U"): lambda machine: machine.push(machine.take(machine.number(1))),  # SHORT_BINSTRING
    ord("T"): lambda machine: machine.push(machine.take(machine.number(4))),  # BINSTRING
    ord("C"): lambda machine: machine.push(machine.take(machine.number(1))),  # SHORT_BINBYTES
    ord("B"): lambda machine: machine.push(machine.take(machine.number(4))),  # BINBYTES
    ord("X"): _Machine.text,  # BINUNICODE
    ord("K"): lambda machine: machine.push(machine.number(1)),  # BININT1
    ord("M"): lambda machine: machine.push(machine.number(2)),  # BININT2
    ord("J"): lambda machine: machine.push(machine.number(4, signed=True)),  # BININT
    ord("N"): lambda machine: machine.push(None),  # NONE
    0x88: lambda machine: machine.push(True),  # NEWTRUE
    0x89: lambda machine: machine.push(False),  # NEWFALSE
    0x85: lambda machine: machine.push(machine.pop_many(1)),  # TUPLE1
    0x86: lambda machine: machine.push(machine.pop_many(2)),  # TUPLE2
    0x87: lambda machine: machine.push(machine.pop_many(3)),  # TUPLE3
    ord("t"): lambda machine: machine.push(tuple(machine.pop_to_mark())),  # TUPLE
    ord("a"): lambda machine: _append(machine, [machine.pop()]),  # APPEND
    ord("e"): lambda machine: _append(machine, machine.pop_to_mark()),  # APPENDS
    ord("s"): lambda machine: machine.set_items(machine.pop_many(2)),  # SETITEM
    ord("u"): lambda machine: machine.set_items(machine.pop_to_mark()),  # SETITEMS
    ord("c"): _Machine.name,  # GLOBAL, as a symbol
    ord("R"): _Machine.call,  # REDUCE, as a pattern
    ord("b"): _Machine.build,  # BUILD, of an array only
}


def _append(machine: _Machine, items: list[Any]) -> None:
    machine.top(list).extend(items)
