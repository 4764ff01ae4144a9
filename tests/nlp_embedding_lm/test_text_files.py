"""Users' own files of texts and labels: every form, columns found or not, labels of any spelling, bad lines."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import glueball
from glueball import archives
from glueball.errors import DataError, OptionError
from glueball_nlp_embedding_lm.datasets import TextFile

ROWS = [("pos", "a very fine film"), ("neg", "it is much too long"), ("pos", "go and see it"), ("neg", "no , do not")]
SAMPLES = [("a very fine film", 1), ("it is much too long", 0), ("go and see it", 1), ("no , do not", 0)]


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def tsv(rows: Any = ROWS) -> str:
    return "".join("\t".join(row) + "\n" for row in rows)


# ----------------------------------------------------------------------------------------------------------------------
# Forms


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", tsv()),
        ("a.tsv", tsv().replace("\n", "\r\n")),
        ("a.tsv", tsv().rstrip("\n")),
        ("a.tsv", "\ufeff" + tsv()),
        ("a.tab", "label\ttext\n" + tsv()),
        ("a.TSV", "\ufeffLabel\tSentence\n" + tsv([(label, text) for label, text in ROWS])),
        ("a.tsv", "text\tlabel\n" + tsv([(text, label) for label, text in ROWS])),
        ("a.tsv", tsv([(text, label) for label, text in ROWS])),
        (
            "a.csv",
            'review,sentiment\n"a very fine film",pos\nit is much too long,neg\ngo and see it,pos\n"no , do not",neg\n',
        ),
        ("a.csv", "pos;a very fine film\nneg;it is much too long\npos;go and see it\nneg;no , do not\n"),
        ("a.csv", tsv()),
        ("a.jsonl", "".join(json.dumps({"text": text, "label": label}) + "\n" for label, text in ROWS)),
        ("a.ndjson", "".join(json.dumps({"class": label, "id": 7, "body": text}) + "\n\n" for label, text in ROWS)),
        ("a.jsonl", "".join(json.dumps([text, label]) + "\n" for label, text in ROWS)),
        ("a.json", json.dumps([[text, label] for label, text in ROWS])),
        ("a.json", json.dumps([{"text": text, "label": label} for label, text in ROWS], indent=1)),
        ("a.json", "".join(json.dumps({"text": text, "label": label}) + "\n" for label, text in ROWS)),
        ("a.json", "".join(json.dumps([text, label]) + "\n" for label, text in ROWS)),
        ("a.txt", "".join(f"__label__{label} {text}\n" for label, text in ROWS)),
        ("a.train", "".join(f"__label__{label}\t{text}\n" for label, text in ROWS)),
        ("a.txt", tsv()),
        ("a", "".join(json.dumps({"text": text, "label": label}) + "\n" for label, text in ROWS)),
    ],
)
def test_every_form_gives_the_same_samples_packed_or_not(name: str, content: str, tmp_path: Path) -> None:
    dataset = TextFile(write(tmp_path / name, content))
    assert list(dataset) == SAMPLES
    assert dataset.classes == ("neg", "pos")
    assert dataset.labels().dtype == np.int64
    packed = TextFile(write(tmp_path / f"{name}.gz", gzip.compress(content.encode())))
    assert list(packed) == SAMPLES
    assert "4 texts (neg 2, pos 2)" in packed.summary


def test_it_is_registered(tmp_path: Path) -> None:
    dataset = glueball.get_dataset("text_file", path=write(tmp_path / "a.tsv", tsv()))
    assert list(dataset) == SAMPLES


texts_of_all_kinds = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


@given(
    rows=st.lists(st.tuples(texts_of_all_kinds, st.sampled_from(["a", "b c", 'd"e', "f,g"])), min_size=4, max_size=20)
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_writer_of_csv_or_json_wrote_comes_back(rows: list[tuple[str, str]], tmp_path: Path) -> None:
    rows = [*rows, ("x", "a"), ("y", "b c")]
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(["text", "label"])
    writer.writerows(rows)
    lines = "".join(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n" for text, label in rows)
    options: dict[str, Any] = {"text_column": "text", "label_column": "label"}
    for name, content in (("a.csv", buffer.getvalue()), ("a.jsonl", lines)):
        dataset = TextFile(write(tmp_path / name, content), delimiter="," if name == "a.csv" else None, **options)
        assert dataset.texts == [text for text, _ in rows]
        assert [dataset.classes[label] for label in dataset.labels()] == [label for _, label in rows]


def test_quotes_mean_something_in_csv_only(tmp_path: Path) -> None:
    content = '"good"\tpos\n"bad" they said\tneg\nit is "fine" here\tpos\nno\tneg\n'
    assert TextFile(write(tmp_path / "a.tsv", content)).texts[:2] == ['"good"', '"bad" they said']
    quoted = 'text\tlabel\n"a\nb ""c"""\tpos\n"d\te"\tneg\n'
    assert TextFile(write(tmp_path / "a.tsv", quoted), quoted=True).texts == ['a\nb "c"', "d\te"]
    with pytest.raises(DataError, match=r"line 2: expected 2 columns as on line 1. Received: 1.*quoted=True"):
        TextFile(write(tmp_path / "a.tsv", quoted))
    dataset = TextFile(write(tmp_path / "a.csv", '"a" b,x\nc"d,y\ne,x\n'), quoted=False, text_column=0, label_column=1)
    assert dataset.texts == ['"a" b', 'c"d', "e"]


def test_line_numbers_count_the_lines_of_quoted_texts(tmp_path: Path) -> None:
    content = 'text,label\n"one\n\ntwo",a\n\nthree,b\n'
    dataset = TextFile(write(tmp_path / "a.csv", content))
    assert [dataset.describe(index).rpartition(", ")[2] for index in range(2)] == ["line 2", "line 6"]
    with pytest.raises(DataError, match="line 7: expected 2 columns"):
        TextFile(write(tmp_path / "a.csv", content + "four\n"))


def test_long_texts_are_read_whole(tmp_path: Path) -> None:
    long = "word " * 100_000
    assert TextFile(write(tmp_path / "a.csv", f'text,label\n"{long}",a\nshort,b\n')).texts == [long, "short"]


# ----------------------------------------------------------------------------------------------------------------------
# Columns


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("id,text,label\n1,x y,a\n2,z w,b\n", "text from column 'text', label from column 'label'"),
        (
            "id,Review Text,Class,city\n1,x y,a,B\n2,z w,b,C\n",
            "text from column 'Review Text', label from column 'Class'",
        ),
        ("title,label\nx y,a\nz w,b\n", "text from column 'title', label from column 'label'"),
        ("mood,text\na,x y\nb,z w\n", "text from column 'text', label from column 'mood'"),
        ("label,words\na,x y\nb,z w\n", "text from column 'words', label from column 'label'"),
        (
            "7,a,one two three four\n8,b,five six seven eight\n9,a,nine ten eleven twelve\n10,b,so it goes on\n",
            "text from column 2, label from column 1",
        ),
        ("good film\tpos\nbad film\tneg\ngood film\tpos\nfine\tpos\n", "text from column 0, label from column 1"),
    ],
)
def test_columns_are_found(content: str, columns: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", content)
    assert TextFile(path).summary.endswith(columns)


@pytest.mark.parametrize(
    "content",
    [
        "text,sentence,label\nx y,z,a\nz w,v,b\n",
        "text,label,class\nx y,z,a\nz w,v,b\n",
        "title,description,label\nx y z,one two three,a\nz w v,four five six,b\n",
        "good,a\nbad,b\n",
        "1,a,x y z u\n1,b,z v w r\n2,b,v f g q\n2,a,s d f g\n",
        "a,one two three four,five six seven eight\nb,q w e r,t y u i\na,d f g h,j k l m\nb,f g h r,t y u t\n",
    ],
)
def test_columns_that_are_uncertain_are_shown(content: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", content)
    with pytest.raises(DataError, match=r"cannot be told(?s:.*)distinct values, such as(?s:.*)text_column="):
        TextFile(path)
    last = content.partition("\n")[0].count(",")
    assert len(TextFile(path, text_column=0, label_column=last)) >= 1


def test_columns_may_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "title,text,label,stars\nA,x y,p,1\nB,z w,q,2\n")
    assert TextFile(path, text_column=("title", "text")).texts == ["A x y", "B z w"]
    assert TextFile(path, label_column="stars").classes == ("1", "2")
    assert TextFile(path, text_column=0, label_column="3").texts == ["A", "B"]
    for options in (
        {"text_column": "body"},
        {"label_column": 4},
        {"label_column": -1},
        {"text_column": "text", "label_column": 1},
        {"label_column": True},
    ):
        with pytest.raises(OptionError):
            TextFile(path, **options)  # type: ignore[arg-type]
    twice = write(tmp_path / "b.csv", "text,text,label\na,b,c\nd,e,f\n")
    with pytest.raises(OptionError, match="occurs twice"):
        TextFile(twice, text_column="text")
    assert TextFile(twice, text_column=1).texts == ["b", "e"]
    lines = write(tmp_path / "c.jsonl", '{"foo": "x", "bar": "1", "baz": "y"}\n{"foo": "z", "bar": "2", "baz": "y"}\n')
    assert list(TextFile(lines, text_column="foo", label_column="bar")) == [("x", 0), ("z", 1)]
    with pytest.raises(OptionError, match="no header"):
        TextFile(lines, header=True)


def test_a_first_line_is_a_header_a_sample_or_an_error(tmp_path: Path) -> None:
    # Names that are classes or texts themselves.
    classes = tsv(
        [
            ("question", "How are you ?"),
            ("statement", "I am fine ."),
            ("question", "Are you really ?"),
            ("statement", "No ."),
        ]
    )
    assert len(TextFile(write(tmp_path / "a.tsv", classes))) == 4
    assert TextFile(write(tmp_path / "a.tsv", "pos\treview\n" + tsv())).texts[0] == "review"
    unknown = write(tmp_path / "a.tsv", "mood\twords\n" + tsv())
    with pytest.raises(DataError, match=r"may be a header or a sample(?s:.*)header=True or header=False"):
        TextFile(unknown)
    assert list(TextFile(unknown, header=True)) == SAMPLES
    assert TextFile(unknown, header=False).classes == ("mood", "neg", "pos")
    assert list(TextFile(unknown, text_column="words", label_column="mood")) == SAMPLES
    numbers = write(tmp_path / "a.tsv", "words\tmood\n" + "".join(f"some text {n}\t{n % 2}\n" for n in range(8)))
    with pytest.raises(DataError, match="may be a header or a sample"):
        TextFile(numbers)
    twice = write(tmp_path / "a.tsv", "label\ttext\n" + tsv() + "label\ttext\n" + tsv())
    with pytest.raises(DataError, match="line 6: the names of the columns once more"):
        TextFile(twice)


@pytest.mark.parametrize("content", ["text,label\n", "text\n", "word\n", "label,text"])
def test_files_without_samples_or_columns_are_refused(content: str, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        TextFile(write(tmp_path / "a.csv", content))
    with pytest.raises(DataError):
        TextFile(write(tmp_path / "a.tsv", content.replace(",", "\t")))


def test_a_column_whose_values_hardly_repeat_is_no_label(tmp_path: Path) -> None:
    content = "text,label\n" + "".join(f"some text,{number}\n" for number in range(30))
    with pytest.raises(DataError, match="30 different labels on 30 lines"):
        TextFile(write(tmp_path / "a.csv", content))
    assert len(TextFile(write(tmp_path / "a.csv", content), label_column="label").classes) == 30


# ----------------------------------------------------------------------------------------------------------------------
# Labels


@pytest.mark.parametrize(
    ("written", "classes"),
    [
        (["1", "0", "1", "0"], ("0", "1")),
        (["1.0", "0.0", "1", "0"], ("0", "1")),
        (["10", "9", "-1", "+1"], ("-1", "1", "9", "10")),
        (["0.5", "0.50", "1.0", "2"], ("0.5", "1", "2")),
        (["01", "1", "02", "2"], ("01", "1", "02", "2")),
        (["True", "false", "TRUE", "False"], ("false", "true")),
        (["class 10", "class 9", "class 10", "Class 1"], ("Class 1", "class 9", "class 10")),
        (["b", "a", " a", "b "], ("a", "b")),
        (["1", "true", "x", "1"], ("1", "true", "x")),
        (["ä", "z", "ä", "z"], ("z", "ä")),
    ],
)
def test_labels_of_any_spelling(written: list[str], classes: tuple[str, ...], tmp_path: Path) -> None:
    content = "label\ttext\n" + "".join(f"{label}\tsome text {number}\n" for number, label in enumerate(written))
    assert set(TextFile(write(tmp_path / "a.tsv", content)).classes) == set(classes)
    assert TextFile(tmp_path / "a.tsv").classes == classes
    assert len(TextFile(tmp_path / "a.tsv", classes=classes)) == 4


def test_labels_of_json(tmp_path: Path) -> None:
    content = "".join(json.dumps({"text": "x", "label": label}) + "\n" for label in (1, 0.0, 1.0, "0", 2.5, 10))
    dataset = TextFile(write(tmp_path / "a.jsonl", content))
    assert dataset.classes == ("0", "1", "2.5", "10")
    assert dataset.labels().tolist() == [1, 0, 1, 0, 2, 3]
    content = "".join(json.dumps({"text": "x", "label": label}) + "\n" for label in (True, False))
    assert TextFile(write(tmp_path / "a.jsonl", content)).classes == ("false", "true")
    nothing: list[Any] = [None, "", " ", [], {}, "NaN"]
    for label in nothing:
        bad = content + json.dumps({"text": "x", "label": label})
        with pytest.raises(DataError, match="line 3"):
            TextFile(write(tmp_path / "a.jsonl", bad))


def test_classes_of_a_model_number_the_labels_and_refuse_others(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", tsv())
    assert TextFile(path, ["pos", "other", "neg"]).labels().tolist() == [0, 2, 0, 2]
    assert TextFile(path, ["pos", "other", "neg"]).classes == ("pos", "other", "neg")
    with pytest.raises(DataError, match=r"'neg' \(line 2 and 1 more\)\. Expected some of: pos, Neg"):
        TextFile(path, ["pos", "Neg"])
    number = write(
        tmp_path / "b.tsv", "1.0\tsome text here\n0.0\tmore of it here\n1.0\tand more text\n0.0\tthe end of it\n"
    )
    assert TextFile(number, ["0", "1"]).labels().tolist() == [1, 0, 1, 0]
    assert TextFile(number, ["1.0", "0.0"]).labels().tolist() == [0, 1, 0, 1]
    assert TextFile(write(tmp_path / "c.tsv", "True\tgood\nfalse\tbad\n"), ["false", "true"]).labels().tolist() == [
        1,
        0,
    ]
    # One line, one class, no header: the class tells the columns apart.
    assert list(TextFile(write(tmp_path / "d.tsv", "good film\tpos\n"), ["neg", "pos"])) == [("good film", 1)]
    for classes in (["a"], ["a", "a"], "ab", ["a", ""]):
        with pytest.raises(OptionError):
            TextFile(path, classes)


def test_one_class_or_capitals_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="single class: pos"):
        TextFile(write(tmp_path / "a.tsv", "label\ttext\npos\ta b\npos\tc d\n"))
    alike = write(tmp_path / "a.tsv", "label\ttext\nPos\ta b\npos\tc d\nneg\te\n")
    with pytest.raises(DataError, match="look the same but for capitals"):
        TextFile(alike)
    accents = write(tmp_path / "b.tsv", "label\ttext\ncaf\u00e9\ta b\ncafe\u0301\tc d\n")
    with pytest.raises(DataError, match="look the same"):
        TextFile(accents)
    assert TextFile(alike, ["Pos", "pos", "neg"]).labels().tolist() == [0, 1, 2]


# ----------------------------------------------------------------------------------------------------------------------
# Bad lines


def test_empty_texts_are_kept_and_counted(tmp_path: Path) -> None:
    dataset = TextFile(write(tmp_path / "a.tsv", "label\ttext\npos\t\nneg\t  \n\npos\tgood\n"))
    assert list(dataset) == [("", 1), ("  ", 0), ("good", 1)]
    assert "; 2 of them empty;" in dataset.summary
    assert dataset.describe(2).endswith("line 5")


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    [
        ("a.tsv", b"pos\tx\ty\n", "line 5: expected 2 columns as on line 1. Received: 3"),
        ("a.tsv", b"pos\n", "line 5: expected 2 columns"),
        ("a.tsv", b"\tx\n", "line 5: no label"),
        ("a.tsv", b"nan\tx\n", "line 5: no label"),
        ("a.tsv", b"pos\tx\0y\n", "line 5: a NUL byte at position 6"),
        ("a.tsv", b"pos\tcaf\xe9\n", r"line 5: the byte 0xe9 at position 8 is no utf-8\. .*cp1252"),
        ("a.tsv", b"pos\t\xed\xa0\x80\n", "line 5: the byte 0xed"),
        ("a.csv", b'pos,"x" y\n', "line 5: "),
        ("a.csv", b'pos,"x\ny\n', "line 5 to 6: "),
        ("a.csv", b"pos,x,y\n", r"line 5: expected 2 columns.*needs quotes"),
        ("a.csv", b"pos,x\ry\n", "line 5: "),
        ("a.jsonl", b'{"text": "x"\n', "line 5 is no valid JSON"),
        ("a.jsonl", b'{"text": "x"}\n', "line 5: nothing under 'label'"),
        ("a.jsonl", b'{"text": 3, "label": "pos"}\n', "line 5: expected a text in 'text'. Received: 3"),
        ("a.jsonl", b'{"text": null, "label": "pos"}\n', "line 5: expected a text"),
        ("a.jsonl", b'{"text": "x", "text": "y", "label": "pos"}\n', "line 5 is no valid JSON: a key occurs twice"),
        ("a.jsonl", b'{"text": "x", "label": NaN}\n', "line 5 is no valid JSON: NaN"),
        ("a.jsonl", b'{"text": "\\ud83d", "label": "pos"}\n', "line 5 is no valid JSON: .*surrogates"),
        ("a.jsonl", b'["x", "pos"]\n', "line 5: nothing under"),
        ("a.jsonl", b'"x"\n', "line 5: expected an object"),
        ("a.jsonl", b"[" * 100_000 + b"\n", "line 5 is no valid JSON"),
        ("a.txt", b"no label\n", "line 5: no label"),
        ("a.txt", b"__label__ x\n", "line 5: no label"),
        ("a.txt", b"__label__a __label__b x\n", "line 5: more than one label"),
        ("a.txt", b"__label__a x __label__b\n", "line 5: more than one label"),
    ],
)
def test_bad_lines_are_told_by_their_number(name: str, bad: bytes, message: str, tmp_path: Path) -> None:
    good = {
        "a.tsv": tsv(),
        "a.csv": "".join(f'{label},"{text}"\n' for label, text in ROWS),
        "a.jsonl": "".join(json.dumps({"text": text, "label": label}) + "\n" for label, text in ROWS),
        "a.txt": "".join(f"__label__{label} {text}\n" for label, text in ROWS),
    }[name]
    assert list(TextFile(write(tmp_path / name, good))) == SAMPLES
    with pytest.raises(DataError, match=message) as caught:
        TextFile(write(tmp_path / name, good.encode() + bad))
    assert str(tmp_path / name) in str(caught.value)


def test_other_encodings_must_be_named(tmp_path: Path) -> None:
    content = "".join(f"{label}\tna\u00efve caf\u00e9 number {at}\n" for at, (label, _) in enumerate(ROWS))
    path = write(tmp_path / "a.tsv", content.encode("cp1252"))
    with pytest.raises(DataError, match="0xef"):
        TextFile(path)
    assert TextFile(path, encoding="latin-1").texts[0] == "naïve café number 0"
    marked = write(tmp_path / "c.tsv", "\ufeff" + content)
    assert (
        TextFile(marked, encoding="utf-8-sig").texts
        == TextFile(marked).texts
        == TextFile(path, encoding="cp1252").texts
    )
    for encoding in ("utf-16", "utf-16-le", "utf-32"):
        with pytest.raises(DataError, match=r"UTF-16|NUL"):
            TextFile(write(tmp_path / "b.tsv", content.encode(encoding)))
        with pytest.raises(OptionError, match="Convert"):
            TextFile(path, encoding=encoding)
    for encoding in ("utf-9", "rot13", ""):
        with pytest.raises(OptionError, match="Unknown encoding"):
            TextFile(path, encoding=encoding)


def test_pairs_of_surrogates_are_one_character(tmp_path: Path) -> None:
    content = '{"text": "\\ud83d\\ude00 x", "label": "a"}\n{"text": "\\\\ud83d", "label": "b"}\n'
    assert TextFile(write(tmp_path / "a.jsonl", content)).texts == ["\U0001f600 x", "\\ud83d"]


def test_separators_inside_texts_do_not_end_lines(tmp_path: Path) -> None:
    text = "one\u2028two\x0cthree\x85four\x1cfive\x0bsix"
    dataset = TextFile(write(tmp_path / "a.tsv", f"label\ttext\na\t{text}\nb\tx\n"))
    assert dataset.texts == [text, "x"]


@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.jsonl", "a.json", "a.txt", "a.tsv.gz"])
@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_empty_files_are_refused(name: str, content: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"empty|one column"):
        TextFile(write(tmp_path / name, gzip.compress(content) if name.endswith("gz") else content))


def test_files_that_are_not_there_or_of_no_known_form_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        TextFile(tmp_path / "none.tsv")
    with pytest.raises(DataError, match="is a folder"):
        TextFile(tmp_path)
    plain = write(tmp_path / "a.txt", "pos,a b\nneg,c d\npos,e f\nneg,g h\n")
    with pytest.raises(DataError, match=r"cannot be told from its name.*format="):
        TextFile(plain)
    assert len(TextFile(plain, format="csv", text_column=1, label_column=0)) == 4
    assert len(TextFile(plain, delimiter=",", text_column=1, label_column=0)) == 4
    for options in ({"format": "xml"}, {"delimiter": "ab"}, {"delimiter": "\n"}, {"delimiter": ""}):
        with pytest.raises(OptionError):
            TextFile(plain, **options)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="divided by commas and semicolons alike"):
        TextFile(write(tmp_path / "a.csv", "pos;a,b\nneg;c,d\n"))


def test_packed_files_that_are_damaged_or_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = gzip.compress(tsv(ROWS * 200).encode())
    for content in (b"", b"text", packed[:-20], packed[:40] + b"\xff\xff" + packed[42:]):
        with pytest.raises(DataError, match=r"damaged|empty"):
            TextFile(write(tmp_path / "a.tsv.gz", content))
    monkeypatch.setattr(archives, "SMALL", 1000)
    with pytest.raises(DataError, match="bomb"):
        TextFile(write(tmp_path / "a.tsv.gz", gzip.compress(b"pos\t" + b" " * 5_000_000 + b"\n")))


_pieces = st.sampled_from(
    [
        *(
            piece.encode()
            for piece in ("pos", "neg", "1", "1.0", "true", "text", "label", "a longer text here", "__label__a ")
        ),
        *(
            b"\t",
            b",",
            b";",
            b"\n",
            b"\r\n",
            b"\r",
            b'"',
            b'""',
            b" ",
            b"\0",
            b"\xff",
            b"\xc3\xa9",
            b"\xef\xbb\xbf",
            b"\xff\xfe",
        ),
        *(
            b"{",
            b"}",
            b"[",
            b"]",
            b":",
            b'{"text": "a", "label": 1}',
            b'["a", "b"]',
            b"null",
            b"\\ud83d",
            b"1e999",
            b"-0",
        ),
    ]
)


@given(
    content=st.one_of(st.binary(max_size=60), st.lists(_pieces, max_size=40).map(b"".join)),
    suffix=st.sampled_from([".tsv", ".csv", ".jsonl", ".json", ".txt", ".tsv.gz", ""]),
    classes=st.sampled_from([None, ["pos", "neg"], ["1", "2"]]),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_samples_or_an_error_of_ours(
    content: bytes, suffix: str, classes: list[str] | None, tmp_path: Path
) -> None:
    path = write(tmp_path / f"a{suffix}", gzip.compress(content) if suffix.endswith("gz") else content)
    try:
        dataset = TextFile(path, classes)
    except DataError:
        return
    assert len(dataset) == len(dataset.labels()) > 0
    assert all(isinstance(text, str) and 0 <= label < len(dataset.classes) for text, label in dataset)
    assert all(text.isascii() or text.encode() for text in dataset.texts)


# ----------------------------------------------------------------------------------------------------------------------
# Splits


@pytest.fixture
def many(tmp_path: Path) -> Path:
    return write(tmp_path / "many.tsv", "".join(f"{'abc'[n % 3]}\tthis is text {n}\n" for n in range(100)))


def test_held_out_lines_and_folds(many: Path) -> None:
    whole = TextFile(many)
    assert TextFile(many, split="train").texts == TextFile(many, split="all").texts == whole.texts
    train, validation = (TextFile(many, split=split, holdout=0.1) for split in ("train", "val"))
    assert sorted(train.texts + validation.texts) == sorted(whole.texts)
    assert np.bincount(validation.labels()).tolist() == [3, 3, 3]
    assert "9 texts (a 3, b 3, c 3) of 100, validation split, the 10% of every class held out (seed 0)" in (
        validation.summary
    )
    assert validation.describe(0) == f"{many}, line {int(validation.texts[0].split()[-1]) + 1}"
    parts = [TextFile(many, split="test", fold=fold, folds=7, fold_seed=3) for fold in range(7)]
    assert sorted(text for part in parts for text in part.texts) == sorted(whole.texts)
    for fold, part in enumerate(parts):
        rest = TextFile(many, split="train", fold=fold, folds=7, fold_seed=3)
        assert sorted(rest.texts + part.texts) == sorted(whole.texts)
        assert rest.classes == whole.classes
        assert TextFile(many, split="dev", fold=fold, folds=7, fold_seed=3).texts == part.texts


def test_splits_that_a_file_does_not_have_are_refused(many: Path) -> None:
    for split in ("validation", "test"):
        with pytest.raises(OptionError, match=r"holdout=0.1 or fold=0, folds=10(?s:.*)split=None"):
            TextFile(many, split=split)
    with pytest.raises(OptionError):
        TextFile(many, split="test", holdout=0.1)
    with pytest.raises(OptionError):
        TextFile(many, split="all", holdout=0.1)
    with pytest.raises(OptionError):
        TextFile(many, holdout=0.1)
    with pytest.raises(OptionError):
        TextFile(many, split="trian")
    with pytest.raises(DataError, match="cannot be divided into 101"):
        TextFile(many, split="train", fold=0, folds=101)
