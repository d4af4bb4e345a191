"""Users' tables are read as they are written: nothing is guessed, shifted or swallowed."""

import gzip

import pandas as pd
import pytest

from refusal_cliff.data_files import read_delimited, read_file
from refusal_cliff.errors import UserError


def read(folder, name, text, **options):
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_file(folder / name, **options)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_formats_read_alike(tmp_path, mark, end):
    """With or without a byte order mark, under either line end; a prompt "None" stays text."""
    texts = {
        "a.csv": 'goal,n\nNone,1\n"two, three",NA\n',
        "a.tsv": "goal\tn\nNone\t1\ntwo, three\tNA\n",
        "a.json": '[{"goal": "None", "n": 1},\n {"goal": "two, three", "n": "NA"}]',
        "a.jsonl": '{"goal": "None", "n": 1}\n{"goal": "two, three", "n": "NA"}\n',
    }
    for name, text in texts.items():
        table = read(tmp_path, name, mark + text.replace("\n", end))
        assert table.to_dict("list") == {"goal": ["None", "two, three"], "n": ["1", "NA"]}, name


def test_a_csv_that_ends_its_rows_with_a_comma_keeps_its_columns(tmp_path):
    table = read(tmp_path, "a.csv", "goal,target\nWrite a poem,Sure here,\nSing,Yes,,\n")
    assert table.to_dict("list") == {"goal": ["Write a poem", "Sing"], "target": ["Sure here", "Yes"]}
    assert read(tmp_path, "a.csv", "goal,target,,\nSing,Yes,,\n").columns.tolist() == ["goal", "target"]


def test_a_quoted_cell_holds_lines_delimiters_and_quotes(tmp_path):
    table = read(tmp_path, "a.csv", 'goal,n\n"first\n\nthird, ""so""",1\n\n5" wide,2\n,\n')
    assert table["goal"].tolist() == ['first\n\nthird, "so"', '5" wide']
    assert table.index.tolist() == [2, 6]  # where a row begins; blank ones are none
    table = read(tmp_path, "a.tsv", 'goal\tn\n"def f():\n\treturn 1"\t1\n')
    assert table["goal"].tolist() == ["def f():\n\treturn 1"]
    assert read(tmp_path, "a.tsv", 'goal\n"one\ntwo"\n')["goal"].tolist() == ["one\ntwo"]


def test_an_index_without_a_name_is_a_column_like_others(tmp_path):
    assert read(tmp_path, "a.csv", ",Goal\n0,x\n")["Goal"].tolist() == ["x"]


def test_a_long_cell_is_read_whole(tmp_path):
    assert len(read(tmp_path, "a.csv", f'goal,n\n"{"x" * 200_000}",1\n')["goal"].item()) == 200_000


def test_quotes_of_a_sheet_are_characters(tmp_path):
    (tmp_path / "a.tsv").write_text('id\tclaim\n1\t"so" it\n2\t"is\n')
    assert read_delimited(tmp_path / "a.tsv", "\t", quoted=False)["claim"].tolist() == ['"so" it', '"is']


def test_values_of_json_are_as_written(tmp_path):
    lines = (
        '{"n": 18, "b": true, "x": 0.10}\n{"n": null, "b": false}\n{"n": 123456789012345678901234567890, "x": 1e3}\n'
    )
    wanted = {
        "n": ["18", None, "123456789012345678901234567890"],
        "b": ["true", "false", None],
        "x": ["0.10", None, "1e3"],
    }
    for name in ("a.jsonl", "a.json"):  # a json file may hold one object a line
        table = read(tmp_path, name, lines)
        assert table.to_dict("list") == wanted
        assert (table.index.name, table.index.tolist()) == ("line", [1, 2, 3])
    array = read(tmp_path, "a.jsonl", "[" + ",".join(lines.splitlines()) + "]")
    assert array.to_dict("list") == wanted and array.index.name == "row"


def test_parquet_reads_as_the_same_values_in_json(tmp_path):
    frame = pd.DataFrame(
        {
            "n": pd.array([18, None, 2**62 + 1], dtype="Int64"),
            "was_integer": [18.0, None, 0.5],
            "b": pd.array([True, None, False], dtype="boolean"),
            "goal": ["None", "", None],
            "turns": [[{"role": "user", "content": "hi"}], None, []],
        }
    )
    frame.to_parquet(tmp_path / "a.parquet")
    table = read_file(tmp_path / "a.parquet")
    assert table.to_dict("list") == {
        "n": ["18", None, str(2**62 + 1)],
        "was_integer": ["18", None, "0.5"],
        "b": ["true", None, "false"],
        "goal": ["None", "", None],
        "turns": [[{"role": "user", "content": "hi"}], None, []],
    }
    assert table.index.tolist() == [1, 2, 3]
    assert read_file(tmp_path / "a.parquet", rows=1)["n"].tolist() == ["18"]


def test_compressed_text(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"goal": "x"}\n'))
    assert read_file(tmp_path / "a.jsonl.gz")["goal"].tolist() == ["x"]
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"goal\nx\n"))
    assert read_file(tmp_path / "a.csv.gz")["goal"].tolist() == ["x"]


def test_a_preview_reads_no_further(tmp_path):
    for name, text in (("a.csv", "goal\nx\ny,z\n"), ("a.jsonl", '{"goal": "x"}\n{')):
        assert read(tmp_path, name, text, rows=1)["goal"].tolist() == ["x"]
        with pytest.raises(UserError):
            read_file(tmp_path / name)
