"""Bytes to lines of text, without losing or inventing a character.

Lines end at a newline only. ``str.splitlines`` would also end them at NEL (0x85 in Latin-1), form feeds and other
characters that occur inside the sentences of old corpora.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator

from glueball.errors import DataError, OptionError

_WIDE_MARKS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decode_published(content: bytes, place: str) -> str:
    """The text of a corpus file of unknown encoding: UTF-8 if it is that, else Windows-1252, else Latin-1.

    Text in Windows-1252 or Latin-1 that is not plain ASCII is practically never valid UTF-8. Latin-1 gives every byte a
    character, so nothing is lost.

    Raises:
        DataError: the file holds characters in UTF-8, and bytes that are none: it is damaged, or two files in one.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if not content.decode("utf-8", "ignore").isascii():
            line = content.count(b"\n", 0, error.start) + 1
            raise DataError(
                f"{place}, line {line}: the byte 0x{content[error.start]:02x} is no UTF-8, while other lines are. Get "
                "the file again."
            ) from error
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def published_lines(content: bytes, place: str) -> list[str]:
    """The lines of ``decode_published``, without their ends; an empty last one is none."""
    lines = [line.removesuffix("\r") for line in decode_published(content, place).split("\n")]
    if lines and not lines[-1]:
        lines.pop()
    return lines


def checked_encoding(encoding: str) -> str:
    """The codec's own name.

    Raises:
        OptionError: there is no such encoding, or a newline is more than one byte in it.
    """
    try:
        name = codecs.lookup(encoding).name.replace("utf-8-sig", "utf-8")
        plain = '\n,\t"'.encode(name) == b'\n,\t"'
    except (LookupError, UnicodeError, TypeError) as error:
        raise OptionError(
            f'Unknown encoding of text. Expected one such as "utf-8", "cp1252", "latin-1". Received: '
            f"encoding={encoding!r}."
        ) from error
    if not plain:
        raise OptionError(
            f"Text files are read line by line, which {name} does not allow. Convert the file to UTF-8 first."
        )
    return name


def decoded_lines(lines: Iterable[bytes], encoding: str, place: str) -> Iterator[str]:
    """The lines of a user's file as text, each with its end; a byte order mark of UTF-8 is dropped.

    Raises:
        DataError: a line is not in this encoding, or holds a NUL; the message says which, and where in it.
    """
    for number, line in enumerate(lines, 1):
        if number == 1:
            if line.startswith(_WIDE_MARKS):
                raise DataError(
                    f"{place} is in UTF-16 or UTF-32. Expected {encoding}. Convert the file to UTF-8 first."
                )
            if encoding == "utf-8":
                line = line.removeprefix(codecs.BOM_UTF8)
        if b"\0" in line:
            raise DataError(
                f"{place}, line {number}: a NUL byte at position {line.index(0) + 1}. Expected text. The file is "
                "damaged or no text file."
            )
        try:
            yield line.decode(encoding)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{place}, line {number}: the byte 0x{line[error.start]:02x} at position {error.start + 1} is no "
                f'{encoding}. Save the file in UTF-8, or say what it is in (encoding="cp1252", for example).'
            ) from error
