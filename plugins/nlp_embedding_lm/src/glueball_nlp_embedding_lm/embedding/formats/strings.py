"""Arrays of text in .npy files, read and written in pieces, and never unpickled.

GluonNLP saves its tokens as an array of Python objects, which NumPy stores by pickling. Unpickling runs whatever a file
names, so the pickle module stays out of this package: the machine below knows the instructions that an array of strings
is made of and nothing else. It cannot import or call anything; the few names that such an array needs are compared, and
any other instruction, name or pattern is an error. Source of the format: the module ``pickletools`` of Python's
standard library documents every instruction.

What this package writes is a plain array of unicode, which every program reads without unpickling. Such an array has
the width of its longest token, gigabytes for some vocabularies (they compress well), so it is handled in pieces.
"""

from __future__ import annotations

import sys
import tokenize
from collections.abc import Sequence
from typing import IO, Any

import numpy as np

from glueball.archives import bomb
from glueball.errors import DataError

_PIECE = 1 << 22
_LONGEST = 1 << 20
"""Characters in the longest string: each string of an array takes as much as that."""


def read_header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of the array in a .npy file, of which the header is read.

    Raises:
        DataError: no .npy file, or one in column-major order (which no writer of such files makes).
    """
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, is_fortran, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            raise DataError(f"{name} is in version {version} of the .npy format, expected 1.0 or 2.0.")
    except DataError:
        raise
    # NumPy reads the header by Python's own parser, with a second try for what Python 2 wrote.
    except (ValueError, TypeError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError, KeyError) as error:
        raise DataError(f"{name} is no .npy file: its header cannot be read ({error}).") from error
    # NumPy 1 counts the bytes of endless strings in 32 bits, and comes to less than nothing.
    if not all(type(length) is int and length >= 0 for length in shape) or dtype.itemsize < 0:
        raise DataError(f"{name} is no .npy file: it announces the shape {shape} of {dtype.kind} strings or numbers.")
    if is_fortran and len(shape) > 1:
        raise DataError(f"{name} is in column-major order, expected row-major. Save it by numpy.ascontiguousarray.")
    return shape, dtype


def read_strings(
    file: IO[bytes], size: int, name: str, *, most: int | None = None, most_bytes: int | None = None
) -> list[str]:
    """The strings of a .npy file of ``size`` bytes: unicode, bytes in UTF-8, or Python objects that are strings.

    Args:
        file: the file, at its beginning.
        size: how many bytes it says that it has.
        name: what messages call it.
        most: how many strings there can be.
        most_bytes: how many bytes of Python objects are read.

    Raises:
        DataError: it is none of these, or is not as long as its header says.
    """
    shape, dtype = read_header(file, name)
    if len(shape) > 1:
        raise DataError(f"{name}: expected a list of strings. Received: an array of shape {shape}.")
    count = shape[0] if shape else 1
    if most is not None and count > most:
        raise DataError(f"{name}: the header announces {count:,} strings, expected at most {most:,}.")
    if dtype.kind == "O":
        if most_bytes is not None and size > most_bytes:
            raise bomb(name, most_bytes)
        return _read_objects(file.read(size), count, name)
    if dtype.kind not in "US":
        raise DataError(f"{name}: expected strings. Received: values of type {dtype}.")
    if count * dtype.itemsize > size:
        raise DataError(f"{name}: the header announces {count * dtype.itemsize:,} bytes, the file has {size:,}.")
    if dtype.itemsize > 4 * _LONGEST:
        raise DataError(f"{name}: expected strings of at most {_LONGEST:,} characters. Received: {dtype}.")
    if dtype.itemsize == 0:
        return [""] * count
    strings: list[Any] = []
    rows = max(_PIECE // dtype.itemsize, 1)
    while len(strings) < count:
        wanted = min(rows, count - len(strings)) * dtype.itemsize
        piece = file.read(wanted)
        if len(piece) < wanted:
            raise DataError(f"{name} is cut short: {len(strings)} of {count} strings are there.")
        # NumPy would make an invalid string of it, or fail.
        if dtype.kind == "U" and np.frombuffer(piece, dtype.str[0] + "u4").max(initial=0) > sys.maxunicode:
            raise DataError(f"{name}: a string holds a number that is no character. Get the file again.")
        strings += np.frombuffer(piece, dtype).tolist()
    return _texts(strings, name)


def write_strings(file: IO[bytes], strings: Sequence[str]) -> None:
    """Writes a .npy file of unicode, shape (number of strings,).

    Raises:
        DataError: a string ends with a zero character, which such an array cannot keep.
    """
    width = max(map(len, strings), default=1) or 1
    for string in strings:
        if string.endswith("\0"):
            raise DataError(f"A token that ends with a zero character cannot be kept in .npz. Received: {string!r}.")
    dtype = np.dtype(f"<U{width}")
    header = {"descr": dtype.str, "fortran_order": False, "shape": (len(strings),)}
    np.lib.format.write_array_header_1_0(file, header)  # type: ignore[arg-type]
    rows = max(_PIECE // dtype.itemsize, 1)
    for start in range(0, len(strings), rows):
        file.write(np.array(strings[start : start + rows], dtype).tobytes())


def _texts(strings: list[Any], name: str) -> list[str]:
    if any(type(string) is bytes for string in strings):
        try:
            strings = [string.decode("utf-8") if type(string) is bytes else string for string in strings]
        except UnicodeDecodeError as error:
            raise DataError(f"{name}: a string is not UTF-8: {error}.") from error
    if not all(type(string) is str for string in strings):
        odd = next(string for string in strings if type(string) is not str)
        raise DataError(f"{name}: expected strings only. Received: {str(odd)[:60]!r} among them.")
    return strings


class _RefusedError(Exception):
    """Why a file is no array of strings."""


def _read_objects(content: bytes, count: int, name: str) -> list[str]:
    try:
        strings = _run(content)
    except _RefusedError as refusal:
        raise DataError(
            f"{name} is no array of strings: {refusal}. It was parsed, not unpickled: nothing in it has been run. "
            "Write the file anew with glueball's TokenEmbedding.serialize, or from where you trust it, with "
            "numpy.array(tokens, dtype=str)."
        ) from None
    if len(strings) != count:
        raise DataError(f"{name}: the header announces {count} strings, the file has {len(strings)}.")
    return _texts(strings, name)


# What the names that an array needs stand for. NumPy moved its module in version 2.
_SYMBOLS = {
    ("numpy.core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy._core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
}


class _Symbol(str):
    """A name that the file may use. As a type of its own it cannot be taken for a string of the array."""

    __slots__ = ()


_MARK, _ARRAY, _OBJECTS, _CODE = _Symbol("mark"), _Symbol("array"), _Symbol("objects"), _Symbol("one-byte code")


class _Strings(list[Any]):
    """What the array holds, once its state has been read."""


def _run(content: bytes) -> list[Any]:
    """Runs the instructions of an array of strings. One loop with local names: it runs twice for each token."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    position, length = 0, len(content)

    def integer(at: int, width: int, signed: bool = False) -> int:
        if at + width > length:
            raise _RefusedError("it is cut short")
        return int.from_bytes(content[at : at + width], "little", signed=signed)

    try:
        while True:
            code = content[position]
            position += 1
            if code in _TEXT_WIDTHS:  # strings: length, content
                width, is_text = _TEXT_WIDTHS[code]
                end = position + width + int.from_bytes(content[position : position + width], "little")
                if end > length:
                    raise _RefusedError("it is cut short")
                data = content[position + width : end]
                # surrogatepass: how Python writes half a surrogate pair.
                stack.append(data.decode("utf-8", "surrogatepass") if is_text else data)
                position = end
            elif code == 0x94:  # MEMOIZE
                memo[len(memo)] = stack[-1]
            elif code == 0x71:  # BINPUT
                memo[integer(position, 1)] = stack[-1]
                position += 1
            elif code == 0x72:  # LONG_BINPUT
                memo[integer(position, 4)] = stack[-1]
                position += 4
            elif code in (0x68, 0x6A):  # BINGET, LONG_BINGET
                width = 1 if code == 0x68 else 4
                stack.append(memo[integer(position, width)])
                position += width
            elif code == 0x28:  # MARK
                stack.append(_MARK)
            elif code in (0x65, 0x61):  # APPENDS, APPEND
                items = _since_mark(stack) if code == 0x65 else [stack.pop()]
                if type(stack[-1]) is not list:
                    raise _RefusedError("it puts items into something that is no list")
                stack[-1] += items
            elif code == 0x80:  # PROTO
                if integer(position, 1) > 5:
                    raise _RefusedError("its version of the format is not known")
                position += 1
            elif code == 0x95:  # FRAME
                position += 8
            elif code == 0x63:  # GLOBAL
                end = content.index(b"\n", content.index(b"\n", position) + 1) + 1
                stack.append(_symbol(*content[position : end - 1].decode("latin-1").split("\n")))
                position = end
            elif code == 0x93:  # STACK_GLOBAL
                name, module = stack.pop(), stack.pop()
                stack.append(_symbol(module, name))
            elif code in _NUMBERS:
                width, signed = _NUMBERS[code]
                stack.append(integer(position, width, signed))
                position += width
            elif code in _CONSTANTS:
                stack.append(_CONSTANTS[code]())
            elif code in (0x85, 0x86, 0x87):  # TUPLE1, TUPLE2, TUPLE3
                count = code - 0x84
                if len(stack) < count:
                    raise _RefusedError("it takes from an empty stack")
                stack[-count:] = [tuple(stack[-count:])]
            elif code == 0x74:  # TUPLE
                stack.append(tuple(_since_mark(stack)))
            elif code == 0x52:  # REDUCE: not a call, a pattern
                arguments, function = stack.pop(), stack.pop()
                stack.append(_recognise(function, arguments))
            elif code == 0x62:  # BUILD
                state = stack.pop()
                stack[-1] = _state(stack[-1], state)
            elif code == 0x2E:  # STOP
                break
            else:
                raise _RefusedError(f"instruction 0x{code:02x} does not occur in arrays of strings")
    except (IndexError, KeyError, ValueError, TypeError):
        raise _RefusedError(f"it makes no sense, or is cut short, at byte {position}") from None
    if len(stack) != 1 or not isinstance(stack[0], _Strings):
        raise _RefusedError("it does not hold one array")
    return stack[0]


_TEXT_WIDTHS = {
    0x58: (4, True),  # BINUNICODE
    0x8C: (1, True),  # SHORT_BINUNICODE
    0x8D: (8, True),  # BINUNICODE8
    0x55: (1, False),  # SHORT_BINSTRING, a text of Python 2
    0x54: (4, False),  # BINSTRING
    0x43: (1, False),  # SHORT_BINBYTES
    0x42: (4, False),  # BINBYTES
}
_NUMBERS = {0x4B: (1, False), 0x4D: (2, False), 0x4A: (4, True)}  # BININT1, BININT2, BININT
_CONSTANTS: dict[int, type | Any] = {
    0x5D: list,  # EMPTY_LIST
    0x29: tuple,  # EMPTY_TUPLE
    0x4E: lambda: None,  # NONE
    0x88: lambda: True,  # NEWTRUE
    0x89: lambda: False,  # NEWFALSE
}


def _since_mark(stack: list[Any]) -> list[Any]:
    for at in range(len(stack) - 1, -1, -1):
        if stack[at] is _MARK:
            items = stack[at + 1 :]
            del stack[at:]
            return items
    raise _RefusedError("a mark is missing")


def _symbol(module: str, name: str) -> _Symbol:
    symbol = _SYMBOLS.get((module, name))
    if symbol is None:
        raise _RefusedError(f"it names {str(module)[:60]!r} {str(name)[:60]!r}, which arrays of strings do not need")
    return _Symbol(symbol)


def _recognise(function: Any, arguments: Any) -> _Symbol:
    """What NumPy's two announcements (an array; the type "object") and a one-byte code stand for."""
    if type(function) is _Symbol and type(arguments) is tuple:
        if function == "encode" and len(arguments) == 2 and arguments[0] == "b":
            return _CODE
        if function == "reconstruct" and len(arguments) == 3:
            kind, shape, code = arguments
            if type(kind) is _Symbol and kind == "ndarray" and shape == (0,) and (code is _CODE or code in (b"b", "b")):
                return _ARRAY
        if function == "dtype" and len(arguments) == 3 and arguments[0] in ("O8", b"O8", "O4", b"O4", "O", b"O"):
            return _OBJECTS
    raise _RefusedError("it asks for a call that does not make an array of strings")


def _state(target: Any, state: Any) -> Any:
    if target is _OBJECTS:
        # Byte order, fields, alignment: nothing that changes what the strings are.
        return target
    if target is _ARRAY and type(state) is tuple and len(state) == 5:
        _, shape, dtype, _, items = state
        if dtype is _OBJECTS and type(items) is list and shape in ((len(items),), ()):
            return _Strings(items)
    raise _RefusedError("it sets the state of something else than an array of strings")
