"""IDX files."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from glueball.data.idx import format_idx, parse_idx, read_idx, write_idx
from glueball.errors import DataError, OptionError

arrays = st.sampled_from(["u1", "i1", "i2", "i4", "f4", "f8"]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(max_dims=4, max_side=6, min_side=0))
)


@settings(deadline=None)
@given(arrays)
def test_round_trip(array):
    data = format_idx(array)
    for encoded in (data, gzip.compress(data)):
        decoded = parse_idx(encoded)
        assert decoded.dtype == array.dtype
        assert decoded.dtype.isnative
        np.testing.assert_array_equal(decoded, array)
        assert decoded.flags.writeable


def test_files(tmp_path):
    array = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    for name in ("a-idx3-int", "a-idx3-int.gz"):
        write_idx(tmp_path / name, array)
        np.testing.assert_array_equal(read_idx(tmp_path / name), array)
    assert (tmp_path / name).read_bytes()[:2] == b"\x1f\x8b"
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path / "none")
    with pytest.raises(OptionError, match="IDX holds"):
        format_idx(np.zeros(3, np.int64))


def test_known_bytes():
    assert parse_idx(bytes([0, 0, 11, 2, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 255, 254])).tolist() == [[258, -2]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "nothing"),
        (b"PK\3\4", "not an IDX file"),
        (b"\0\0\x0a\1\0\0\0\0", "not an IDX file"),
        (b"\0\0\x08\0", "not an IDX file"),
        (b"\0\0\x08\2\0\0\0\1", "within its header"),
        (b"\0\0\x08\1\0\0\0\3ab", "announces 3 bytes"),
        (b"\0\0\x08\1\0\0\0\1ab", "more values"),
        (b"\0\0\x08\3" + b"\xff" * 12, "cannot hold"),  # 2**96 bytes must not be asked for
    ],
)
def test_damage_is_named(data, message):
    with pytest.raises(DataError, match=message):
        parse_idx(data)


def test_damage_within_the_compression_is_named():
    data = gzip.compress(format_idx(np.arange(1000, dtype=np.int32)))
    with pytest.raises(DataError, match="cut short"):
        parse_idx(data[:-20])
    with pytest.raises(DataError, match=r"damaged|cut short"):
        parse_idx(data[:-6] + b"\0\0\0\0" + data[-2:])
    bomb = gzip.compress(b"\0\0\x08\1\x7f\xff\xff\xff" + bytes(10_000_000))
    with pytest.raises(DataError, match=r"cannot hold|announces"):
        parse_idx(bomb)
    with pytest.raises(DataError, match="more values"):
        parse_idx(gzip.compress(format_idx(np.zeros(3, np.uint8)) + b"more"))


def test_random_damage_gives_an_error_or_an_array_of_the_announced_size():
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    plain = format_idx(array)
    generator = np.random.default_rng(0)
    right = 0
    for number in range(2000):
        data = bytearray(gzip.compress(plain, mtime=0) if number % 2 else plain)
        for _ in range(generator.integers(1, 4)):
            data[generator.integers(len(data))] = generator.integers(256)
        if generator.random() < 0.3:
            del data[generator.integers(len(data)) :]
        try:
            decoded = parse_idx(bytes(data))
        except DataError:
            continue
        right += 1
        assert decoded.nbytes <= len(plain)
        if number % 2:  # the checksum lets nothing else through
            np.testing.assert_array_equal(decoded, array)
    assert right
