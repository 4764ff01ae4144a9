"""What the markers of a JPEG tell without decoding it: size, orientation, and whether all of it is there.

Decoders take damage lightly: of libjpeg's users only simplejpeg passes its warnings on. Pillow and OpenCV fill what is
missing with grey and say nothing, so what can be known from the markers is looked at here.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence

import attrs

# As libjpeg looks for a marker: bytes that belong to none are passed over, 0xFF may be repeated.
_MARKER = re.compile(rb"\xff[^\x00\xff]")
# What ends compressed data, in which 0xFF 0x00 is a byte and 0xFF 0xD0 to 0xD7 restart the decoder.
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_RESTARTS = re.compile(rb"\xff([\xd0-\xd7])")

_END, _SCAN, _RESTART_INTERVAL, _EXIF = 0xD9, 0xDA, 0xDD, 0xE1
_PROGRESSIVE = (0xC2, 0xCA)
_SEQUENTIAL = (0xC0, 0xC1, 0xC9)

# Leftovers of up to this many bytes before the end marker come from encoders that align their data. Damage shifts the
# rest of the data by blocks: 12 bytes were the least in 1,600 pictures damaged at random.
_ALIGNMENT = 8

# Every scan of a progressive picture goes over all of its pixels: a few kilobytes could take hours. Encoders write
# about ten; libjpeg's own tests stop at this number as well.
_MOST_SCANS = 500


@attrs.frozen
class Header:
    """What stands before the first scan."""

    height: int
    width: int
    components: int
    orientation: int
    """1 to 8, as EXIF counts them; 1 is upright."""
    progressive: bool

    @property
    def lies_on_its_side(self) -> bool:
        """Whether the orientation exchanges height and width."""
        return self.orientation >= 5


def _segments(data: bytes, position: int = 2) -> Iterator[tuple[int, int, int, int]]:
    """(marker, its position, first byte of its content, first byte behind it) up to the end marker or a cut."""
    while True:
        found = _MARKER.search(data, position)
        if found is None:
            return
        marker, content = data[found.start() + 1], found.end()
        if marker == _END or marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without a length
            yield marker, found.start(), content, content
            if marker == _END:
                return
            position = content
            continue
        length = int.from_bytes(data[content : content + 2], "big")
        if length < 2 or content + length > len(data):
            return
        yield marker, found.start(), content + 2, content + length
        position = content + length
        if marker == _SCAN:
            end = _END_OF_SCAN.search(data, position)
            if end is None:
                return
            position = end.start()


def read_header(data: bytes) -> Header | None:
    """Size and orientation from the markers before the first scan; None where these are damaged."""
    orientation = 1
    for marker, _, content, end in _segments(data):
        # SOF0 to SOF15 except DHT, JPG and DAC, which share the range.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if end - content < 6:
                return None
            height, width, components = struct.unpack_from(">HHB", data, content + 1)
            return Header(height, width, components, orientation, marker in _PROGRESSIVE)
        if marker in (_SCAN, _END):
            return None
        if marker == _EXIF and data[content : content + 6] == b"Exif\0\0":
            orientation = _exif_orientation(data[content + 6 : end])
    return None


def _exif_orientation(block: bytes) -> int:
    """The orientation (1 to 8) in a TIFF block as EXIF holds it; 1 where there is none or the block is damaged."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(block[:2]))
    if order is None or len(block) < 8:
        return 1
    (start,) = struct.unpack_from(order + "I", block, 4)
    if start + 2 > len(block):
        return 1
    (count,) = struct.unpack_from(order + "H", block, start)
    for entry in range(start + 2, min(start + 2 + 12 * count, len(block) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", block, entry)
        if tag == 0x0112 and kind == 3:
            (value,) = struct.unpack_from(order + "H", block, entry + 8)
            return value if 1 <= value <= 8 else 1
    return 1


def end_of(data: bytes) -> int | None:
    """Where the end marker of the first picture in ``data`` is; what follows it is not the picture's."""
    return next((position for marker, position, _, _ in _segments(data) if marker == _END), None)


def flaw(data: bytes) -> str | None:
    """What the markers show to be missing or out of order; None where they show nothing."""
    frame: tuple[int, int, Mapping[int, tuple[int, int]]] | None = None
    progressive = False
    interval = num_scans = 0
    # Component -> for each of its 64 coefficients the lowest bit that was sent; None where nothing was.
    sent: dict[int, list[int | None]] = {}
    for marker, _, content, end in _segments(data):
        if marker in _PROGRESSIVE or marker in _SEQUENTIAL:
            if end - content < 6:
                return "its frame header is cut short"
            height, width, count = struct.unpack_from(">HHB", data, content + 1)
            described = data[content + 6 : content + 6 + 3 * count]
            factors = {
                described[at]: (described[at + 1] >> 4, described[at + 1] & 15)
                for at in range(0, len(described) - 2, 3)
            }
            if not height or not width or not factors or any(0 in pair for pair in factors.values()):
                return None  # a height that follows later, or a frame that no decoder takes
            frame, progressive = (height, width, factors), marker in _PROGRESSIVE
            sent = {component: [None] * 64 for component in factors}
        elif 0xC3 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return None  # lossless and hierarchical pictures have other rules
        elif marker == _RESTART_INTERVAL:
            interval = int.from_bytes(data[content : content + 2], "big")
        elif marker == _SCAN and frame is not None:
            num_scans += 1
            if num_scans > _MOST_SCANS:
                return f"it has more than {_MOST_SCANS} scans"
            count = data[content] if end > content else 0
            if not count or end - content < 4 + 2 * count:
                return "a scan header is cut short"
            components = [data[content + 1 + 2 * index] for index in range(count)]
            if any(component not in sent for component in components):
                return "a scan is of components that the picture does not have"
            first, last, bits = data[end - 3], data[end - 2], data[end - 1] & 15
            for component in components:
                for coefficient in range(first, min(last, 63) + 1) if progressive else range(64):
                    sent[component][coefficient] = bits if progressive else 0
            if interval:
                stop = _END_OF_SCAN.search(data, end)
                found = _RESTARTS.findall(data, end, stop.start() if stop else len(data))
                expected = _parts(_num_units(frame, components), interval) - 1
                if len(found) != expected:
                    return f"it has {len(found)} restart markers where its size needs {expected}"
                if any(one[0] != 0xD0 + number % 8 for number, one in enumerate(found)):
                    return "its restart markers are out of order"
        elif marker == _END:
            if any(bit != 0 for bits_sent in sent.values() for bit in bits_sent):
                return "scans are missing before its end marker"
            return None
    return "it ends without an end marker"


def _num_units(frame: tuple[int, int, Mapping[int, tuple[int, int]]], components: Sequence[int]) -> int:
    """How many minimum coded units a scan of these components has (ITU-T T.81, A.2)."""
    height, width, factors = frame
    across, down = (max(pair[axis] for pair in factors.values()) for axis in (0, 1))
    if len(components) > 1:
        return _parts(width, 8 * across) * _parts(height, 8 * down)
    own_across, own_down = factors[components[0]]
    return _parts(_parts(width * own_across, across), 8) * _parts(_parts(height * own_down, down), 8)


def _parts(length: int, size: int) -> int:
    """How many parts of a size it takes to cover a length."""
    return -(-length // size)


def without_stray_bytes(data: bytes, count: int, marker: int) -> bytes | None:
    """``data`` without the ``count`` bytes that libjpeg found to be in front of ``marker`` and of no use.

    None where they are what damage left of compressed data: more than an encoder's padding.
    """
    pieces, scan = [data[:2]], len(data)
    for segment, position, _, end in _segments(data):
        pieces.append(data[position:end])
        if segment in (_SCAN, _END):
            scan = end
            break
    head = b"".join(pieces)
    if len(head) < scan:
        return head + data[scan:]
    if 0xD0 <= marker <= 0xD7:
        return None
    for found in re.finditer(re.escape(bytes((0xFF, marker))), data[scan:]):
        position = scan + found.start()
        tail = data[max(position - count, scan) : position]
        if tail.count(tail[:1]) == count or (marker == _END and count <= _ALIGNMENT):
            return data[: position - len(tail)] + data[position:]
    return None
