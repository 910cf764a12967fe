"""Any table gives a frame or one clear error; what in it would give the target away is named."""
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.pandas import column as some
from hypothesis.extra.pandas import data_frames, range_indexes

from dir_nb.tables import IndexColumn, TargetCopy, leaks, numbers, read_table, split_table

HOUSES = pd.DataFrame({"rooms": [2, 3, 5] * 5, "town": ["Köln", "Hof", "Ulm, Donau"] * 5, "price": np.geomspace(90, 700, 15).round(3)})


def write(tmp_path, content, name="t.csv"):
    (path := tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("sep, decimal", [(",", "."), (";", "."), (";", ","), ("\t", "."), ("\t", ","), ("|", ",")])
def test_every_usual_form_reads_alike(tmp_path, encoding, sep, decimal):
    text = HOUSES.to_csv(index=False, sep=sep, decimal=decimal, lineterminator="\r\n") + f"{sep}{sep}\r\n\r\n  \r\n"
    pd.testing.assert_frame_equal(read_table(write(tmp_path, text.encode(encoding))), HOUSES, check_dtype=False)


@pytest.mark.parametrize("end, package", [("parquet", "pyarrow"), ("xlsx", "openpyxl")])
def test_parquet_and_excel(tmp_path, end, package):
    try: __import__(package)
    except ImportError:
        with pytest.raises(ImportError, match=r"t.*pip install 'dir-nb\[tables\]'"): read_table(write(tmp_path, b"PK", f"t.{end}"))
        return
    path = tmp_path / f"t.{end}"
    HOUSES.to_parquet(path) if end == "parquet" else HOUSES.to_excel(path, index=False)
    pd.testing.assert_frame_equal(read_table(path), HOUSES, check_dtype=False)
    with pytest.raises(ValueError, match="t.* cannot be read as"): read_table(write(tmp_path, b"PK\x03\x04 torn", f"torn.{end}"))
    if end == "xlsx":
        pd.DataFrame([["a", "a"], [1, 2]]).to_excel(path, index=False, header=False)
        with pytest.raises(ValueError, match="'a' names 2 columns"): read_table(path)


@pytest.mark.parametrize(
    "content, says",
    [
        ("", "it is empty"), ("\n\n", "it is empty"), (";;;\n", "it is empty"), ("a,b\n", "no rows below its header"), ("1,2\n3,4\n", "first line is numbers"),
        ("a,b\n1,2\n3\n4,5\n", r"1 of 3 rows do not have the header's 2 fields \(line 3 has 1\)"), ("a,b\n1,2,3\n4,5,6\n", "first column has no name"),
        ("a,b,a\n1,2,3\n", r"'a' names 2 columns \(1, 3\)"), ("a;b\n1,5;1.250\n", "may be thousands or a fraction"), (b"PK\x03\x04aa", ".xlsx"),
        (b"a,b\n\x81\x00\x02,3", "no text"), (b"a,\x81\n1,2\n", "neither UTF-8 nor cp1252"), (b"\xff\xfea", "utf-16"), ('a,b\n1,"2\n3,4\n', "quotation mark"),
    ],
)
def test_what_is_no_table_is_one_line(tmp_path, content, says):
    with pytest.raises(ValueError, match=says) as e: read_table(write(tmp_path, content))
    assert str(e.value).startswith("t.csv: ") and "\n" not in str(e.value)


def test_files_that_are_not_there(tmp_path):
    write(tmp_path, "a,b\n1,2\n", "train.csv")
    with pytest.raises(FileNotFoundError, match="did you mean 'train.csv'"): read_table(tmp_path / "trian.csv")
    with pytest.raises(ValueError, match="is a folder"): read_table(tmp_path)
    with pytest.raises(ValueError, match="tables end in .csv"): read_table(write(tmp_path, "{}", "a.json"))


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=80), st.text(alphabet="ab1.,;\t|\"' \n\r-é\0", max_size=80).map(str.encode), st.text(max_size=40).map(lambda s: s.encode("utf-16", "surrogatepass"))))
def test_any_bytes_give_a_table_or_one_line(tmp_path_factory, content):
    path = write(tmp_path_factory.getbasetemp(), content, "any.csv")
    try: found = read_table(path)
    except ValueError as e: assert str(e).startswith("any.csv: ") and "\n" not in str(e)
    else: assert len(found) and found.columns.is_unique and all(isinstance(c, str) and "\n" not in c for c in found.columns)


VALUE = st.floats(-1e6, 1e6).map(lambda v: round(v, 4))


@settings(max_examples=60, deadline=None)
@given(data_frames([some("größe", elements=VALUE), some("b", elements=st.integers(-10**6, 10**6)), some("c", elements=st.text("xyz ,;\"", max_size=5).map(lambda s: f"<{s}>"))],
                   index=range_indexes(1, 8)), st.sampled_from([(",", "."), (";", "."), (";", ","), ("\t", ",")]), st.sampled_from(["utf-8", "utf-16", "cp1252"]))
def test_what_is_written_is_read(tmp_path_factory, frame, form, encoding):
    path = tmp_path_factory.getbasetemp() / "own.csv"
    frame.to_csv(path, index=False, sep=form[0], decimal=form[1], encoding=encoding)
    pd.testing.assert_frame_equal(read_table(path), frame, check_dtype=False)


def test_a_misspelt_column_is_answered():
    with pytest.raises(ValueError, match="did you mean 'price'"): numbers(HOUSES, "prise")
    with pytest.raises(ValueError, match=r"'town': 15 of 15 cells are no numbers \(row 1: 'Köln'\)"): numbers(HOUSES, "town")
    with pytest.raises(ValueError, match="did you mean 'price'"): split_table(HOUSES, "Price")


@pytest.mark.parametrize("made, kind", [
    (lambda t: t.insert(0, "Unnamed: 0", range(15)), IndexColumn), (lambda t: t.insert(0, "id", range(1, 16)), IndexColumn),
    (lambda t: t.insert(1, "again", t.price), TargetCopy), (lambda t: t.insert(1, "cents", (t.price * 100).round() + 7), TargetCopy), (lambda t: t.insert(1, "lost", -t.price), TargetCopy),
])
def test_leaks_are_named(made, kind):
    made(table := HOUSES.copy())
    new, = set(table) - set(HOUSES)
    assert {c: k for c, (k, _) in leaks(table, "price").items()} == {new: kind}
    if kind is TargetCopy:
        with pytest.raises(ValueError, match=f"{new}.*drop it, or name the features without it"): split_table(table, "price")
    else:
        with pytest.warns(IndexColumn, match=new): x, _ = split_table(table, "price")
        assert list(x) == ["rooms", "town"]
    with pytest.warns(kind, match="kept because it was named"): x, _ = split_table(table, "price", [new, "rooms"])
    assert list(x) == [new, "rooms"]


def test_a_plain_table_is_left_alone():
    near = HOUSES.assign(near=HOUSES.price + np.sin(range(15)), half=range(0, 30, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x, y = split_table(near, "price")
    assert list(x) == ["rooms", "town", "near", "half"] and y.tolist() == HOUSES.price.tolist()
    with pytest.raises(ValueError, match="target 'price' is among the features"): split_table(near, "price", ["price"])
