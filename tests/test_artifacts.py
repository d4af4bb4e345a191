import json

import pandas as pd
import pytest
import torch

from refusal_cliff.architectures import check_model_folder
from refusal_cliff.artifacts import read_table, read_tensors, settings_hash, whole_file, write_table, write_tensors
from refusal_cliff.errors import UserError


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder" / "table.csv"
    with pytest.raises(KeyboardInterrupt), whole_file(path) as draft:
        draft.write_text("half")
        raise KeyboardInterrupt
    assert list(path.parent.iterdir()) == []
    with whole_file(path) as draft:
        draft.write_text("whole")
    assert [entry.name for entry in path.parent.iterdir()] == ["table.csv"]
    assert path.read_text() == "whole"


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "table.parquet"
    write_table(pd.DataFrame({"a": [1]}), path, {})
    with pytest.raises(RuntimeError), whole_file(path):
        raise RuntimeError
    assert read_table(path)["a"].tolist() == [1]


def test_a_sidecar_tells_settings_versions_and_counts(tmp_path):
    write_table(pd.DataFrame({"a": [1, 2]}), tmp_path / "table.parquet", {"seed": 3})
    sidecar = json.loads((tmp_path / "table.json").read_text())
    assert sidecar["counts"] == {"rows": 2}
    assert sidecar["settings"] == {"seed": 3}
    assert sidecar["settings_hash"] == settings_hash({"seed": 3}) != settings_hash({"seed": 4})
    assert sidecar["versions"]["pandas"] == pd.__version__


def test_tensors_read_back(tmp_path):
    write_tensors({"w": torch.arange(6.0).reshape(2, 3).T}, tmp_path / "probe.safetensors", {})
    assert torch.equal(read_tensors(tmp_path / "probe.safetensors")["w"], torch.arange(6.0).reshape(2, 3).T)


def test_a_missing_column_is_named(tmp_path):
    write_table(pd.DataFrame({"a": [1]}), tmp_path / "table.parquet", {})
    with pytest.raises(UserError, match=r"table\.parquet: no column b"):
        read_table(tmp_path / "table.parquet", ("a", "b"))


def model_folder(path, **config):
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": "llama"} | config))
    (path / "model.safetensors").write_bytes(bytes(9))
    (path / "tokenizer.json").touch()
    (path / "chat_template.jinja").write_text("{{ messages }}")
    return path


def test_a_complete_model_folder_passes(tmp_path):
    check_model_folder(model_folder(tmp_path / "model"), "subject")
    check_model_folder(model_folder(tmp_path / "guard", model_type="anything"), "guard")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", "no config.json"),
        ("model.safetensors", "pickled weights are never loaded"),
        ("chat_template.jinja", "has no chat template; add a chat_template.jinja"),
    ],
)
def test_an_incomplete_model_folder_is_named(tmp_path, missing, message):
    folder = model_folder(tmp_path / "model")
    (folder / missing).unlink()
    with pytest.raises(UserError, match=message):
        check_model_folder(folder, "subject")


def test_an_unknown_architecture_is_named(tmp_path):
    with pytest.raises(UserError, match=r"'mamba' is not supported \(supported: gemma, llama"):
        check_model_folder(model_folder(tmp_path / "model", model_type="mamba"), "subject")
