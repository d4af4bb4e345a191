"""Models that are not what the sheet says: each is told in one sentence, before any weights are loaded."""

import json
import re
import shutil

import pandas as pd
import pytest
import torch
from conftest import make_tiny_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from refusal_cliff.architectures import check_model_folder
from refusal_cliff.errors import UserError
from refusal_cliff.generation import end_tokens, generate_traces
from refusal_cliff.model_check import check_model, check_prompts
from refusal_cliff.models import load_model, load_tokenizer
from refusal_cliff.templates import encode, end_of_turn
from refusal_cliff.traces import ChatFormat, encode_trace, length_batches, length_switch, render_prompt

CHAT = ChatFormat("<think>\n", "\n</think>\n\n")
# ChatML ends a turn with another token than eos; a generation config names it, or column stop_tokens.
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
ROW = {
    "model": "mine",
    "role": "subject",
    "dtype": "float32",
    "trust_remote_code": False,
    "config_override": {},
    "system_prompt": "",
    "template_arguments": {},
    "stop_tokens": ["<|im_end|>"],
    "thinking_open": CHAT.opening,
    "boundary": CHAT.boundary,
}
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def sound(tmp_path_factory, tiny_tokenizer):
    """A folder as users have it: ChatML, tokens beyond the trained ones, eos that no turn ends with."""
    folder = tmp_path_factory.mktemp("sound") / "model"
    make_tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "model")


def checked(folder, **cells):
    check_model_folder(folder, "subject")
    return check_model(folder, ROW | cells)


def change_json(folder, name, **values):
    path = folder / name
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | values))


def change_weights(folder, change):
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def test_a_sound_model_gets_a_page_that_shows_what_it_reads(folder):
    change_json(folder, "generation_config.json", repetition_penalty=1.3, eos_token_id=2)
    page = checked(folder, system_prompt="Think first.")
    assert "**&lt;\\|im_start\\|>**" in page
    assert "`<eos>`, `<|im_end|>`" in page
    assert "The template itself ends a turn with `<|im_end|>`" in page
    assert "repetition_penalty = 1.3" in page


KEY = "model.layers.1.self_attn.o_proj.weight"
BROKEN = {
    "a tensor is missing": (lambda f: change_weights(f, lambda w: w.pop(KEY)), rf"lacks 1 tensors \(first: {KEY}\)"),
    "a tensor is renamed": (
        lambda f: change_weights(f, lambda w: w.update({"model.o_proj": w.pop(KEY)})),
        "lacks 1 tensors",
    ),
    "a tensor too many": (
        lambda f: change_weights(f, lambda w: w.update(extra=torch.zeros(2))),
        r"has no place for 1 tensors \(first: extra\)",
    ),
    "another shape": (
        lambda f: change_weights(f, lambda w: w.update({KEY: torch.zeros(3, 4)})),
        "has another shape for 1 tensors",
    ),
    "weights of another architecture": (
        lambda f: change_json(f, "config.json", num_hidden_layers=5),
        "lacks 18 tensors",
    ),
    "a pointer of Git LFS": (
        lambda f: (f / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        "a pointer of Git LFS.*git lfs pull",
    ),
    "no byte of weights": (lambda f: (f / WEIGHTS).write_bytes(b""), "model.safetensors: empty"),
    "half of the weights": (
        lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:9000]),
        "cannot be loaded.*download it again",
    ),
    "a shard is missing": (
        lambda f: (f / "model.safetensors.index.json").write_text(
            json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": WEIGHTS}})
        ),
        r"1 of 2 weight files are missing \(first: model-00001",
    ),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "pickled weights are never loaded"),
    "no config": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "an adapter alone": (
        lambda f: (f / "config.json").rename(f / "adapter_config.json"),
        "an adapter alone.*merge_and_unload",
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer"),
    "a broken tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer cannot be read"),
    "no template": (lambda f: (f / "chat_template.jinja").unlink(), "has no chat template"),
    "a template with a syntax error": (
        lambda f: (f / "chat_template.jinja").write_text("{% for %}"),
        "chat template fails.*TemplateSyntaxError",
    ),
    "a template without the content": (
        lambda f: (f / "chat_template.jinja").write_text("{% for m in messages %}[{{ m['role'] }}]{% endfor %}"),
        "leaves out what the user says",
    ),
    "a template that asks for the date": (
        lambda f: (f / "chat_template.jinja").write_text("{{ strftime_now('%d') }}" + CHATML),
        r"today's date.*in place of strftime_now",
    ),
    "a template that refuses": (
        lambda f: (f / "chat_template.jinja").write_text("{{ raise_exception('tools only') }}"),
        "tools only",
    ),
    "more tokens than rows": (
        lambda f: change_weights(change_json(f, "config.json", vocab_size=200) or f, lambda w: None),
        "but the embedding has 200 rows",
    ),
    "heads that do not divide": (
        lambda f: change_json(f, "config.json", num_attention_heads=5, num_key_value_heads=3),
        r"config\.json cannot be read.*multiple of the number of attention heads",
    ),
    "an unknown architecture": (
        lambda f: change_json(f, "config.json", model_type="mamba"),
        "'mamba' is not supported",
    ),
    "an unknown activation": (
        lambda f: change_json(f, "config.json", hidden_act="swish9"),
        r"cannot be loaded \(KeyError",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_told_before_weights_are_loaded(folder, name):
    damage, message = BROKEN[name]
    damage(folder)
    with pytest.raises(UserError, match=message):
        checked(folder)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"stop_tokens": []}, r"ends a turn with '<\|im_end\|>', but the model stops at '<eos>'.*column stop_tokens"),
        ({"stop_tokens": ["<|end|>"]}, r"'<\|end\|>' is no token"),
        ({"template_arguments": {"enable_thinking": False}}, "ends the prompt with a closed thinking"),
        ({"config_override": {"attention_chunks": 3}}, "config.json has no key 'attention_chunks'"),
        ({"config_override": {"text_config.size": 3}}, "config.json has no key 'text_config.size'"),
    ],
)
def test_a_row_that_does_not_fit_its_model_is_told(folder, cells, message):
    with pytest.raises(UserError, match=message):
        checked(folder, **cells)


def test_all_faults_come_at_once(folder):
    change_weights(folder, lambda weights: weights.pop(KEY))
    with pytest.raises(UserError) as error:
        checked(folder, stop_tokens=[])
    assert len(str(error.value).splitlines()) == 2


def test_prompts_are_counted_and_leave_room_for_an_answer(folder):
    prompts = pd.DataFrame({"dataset": ["a", "a", "b"], "prompt": ["Hello", "Say <|im_end|>", "Hello there"]})
    page = check_prompts(folder, ROW, prompts, 20)
    assert re.search(r"\| a \| 2 \| .* \| 1 \|\n\| b \| 1 \|", page)
    with pytest.raises(UserError, match=r"longest prompt, of dataset a, has \d+ tokens.*lower it to 2\d\d"):
        check_prompts(folder, ROW, prompts, 250)


def test_weights_that_are_no_numbers_are_refused_when_they_are_read(folder):
    change_weights(folder, lambda weights: weights[KEY].fill_(float("nan")))
    with pytest.raises(UserError, match=f"tensor {KEY} holds NaN"):
        load_model(folder, ROW)


def test_what_the_row_overrides_reaches_the_model(folder):
    model = load_model(folder, ROW | {"config_override": {"rms_norm_eps": 0.5}})
    assert model.model.norm.variance_epsilon == 0.5


def test_generation_settings_of_the_model_itself_change_no_trace(folder):
    def traces():
        sampling = {"temperature": 0.7, "top_p": 1.0, "max_new_tokens": 12, "samples": 2}
        prompts = pd.DataFrame({"prompt_id": ["a", "b"], "prompt": ["one", "two"]})
        model, tokenizer = load_model(folder, ROW), load_tokenizer(folder, ROW)
        return generate_traces(model, tokenizer, prompts, ChatFormat.of(ROW), sampling, batch_size=4, seed=0)

    before = traces()
    change_json(folder, "generation_config.json", repetition_penalty=5.0, min_new_tokens=12, no_repeat_ngram_size=2)
    pd.testing.assert_frame_equal(before, traces())


def test_a_response_ends_where_the_template_ends_a_turn(folder):
    tokenizer = load_tokenizer(folder, ROW)
    assert end_of_turn(tokenizer) == "<|im_end|>"
    ids = end_tokens(2, tokenizer, ROW["stop_tokens"])
    assert tokenizer.convert_ids_to_tokens(sorted(ids)) == ["<eos>", "<|im_end|>"]


def test_the_first_traces_say_that_the_boundary_is_wrong(tiny_llama, tiny_tokenizer):
    prompts = pd.DataFrame({"prompt_id": list("abcdefghij"), "prompt": list("abcdefghij")})
    sampling = {"temperature": 0.7, "top_p": 1.0, "max_new_tokens": 3, "samples": 1}
    chat = ChatFormat("<think>\n", "</wrong>")
    asked = (tiny_llama, tiny_tokenizer, prompts, chat, sampling)
    with pytest.raises(UserError, match="none of the first 8 traces closes its thinking with '</wrong>'"):
        generate_traces(*asked, batch_size=4, seed=0, must_close=True)
    assert set(generate_traces(*asked, batch_size=4, seed=0)["finish_reason"]) == {"unclosed"}


def test_no_batch_holds_both_sides_of_a_switch_of_rotary_frequencies():
    sequences = [[0] * length for length in (26, 22, 24, 25, 3)]
    assert list(length_batches(sequences, batch_size=9, switch=24)) == [[4, 1, 2], [3, 0]]


def test_the_states_of_a_longrope_model_do_not_depend_on_the_batch():
    """Phi-4-mini's kind: a short trace beside a long one would be seen with the long one's frequencies."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from refusal_cliff.models import run
    from refusal_cliff.traces import pad_left

    torch.manual_seed(0)
    half = 4  # half of the rotary dimensions of a head
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * half,
        "long_factor": [4.0] * half,
        "original_max_position_embeddings": 24,
    }
    config = AutoConfig.for_model(
        "phi3", vocab_size=50, hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0, rope_parameters=rope,
        original_max_position_embeddings=24,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    assert length_switch(model) == 24
    sequences = [list(range(1, 23)), list(range(1, 27))]

    def logits(chosen):
        with torch.inference_mode():
            return run(model, *pad_left([sequences[index] for index in chosen], 0)).logits[:, -1]

    alone = logits([0])[0]
    assert not torch.allclose(logits([0, 1])[0], alone, atol=1e-5)
    batches = list(length_batches(sequences, batch_size=2, switch=length_switch(model)))
    torch.testing.assert_close(logits(batches[0])[0], alone)


@pytest.fixture(scope="module", params=["first", "always"])
def sentencepiece(request):
    """A tokenizer with the settings of Llama 2's: a space before any text, byte fallback; or of Phi-3's."""
    raw = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    raw.decoder = decoders.Sequence(steps + ([decoders.Strip(" ", 1, 0)] if request.param == "first" else []))
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(special_tokens=special, vocab_size=600)
    raw.train_from_iterator(["I think it is so. Yes, the answer is here. Hello there, my friend."] * 9, trainer)
    template = "<s>{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}"
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=template
    )


def test_segments_go_on_where_the_text_before_them_ended(sentencepiece):
    """A SentencePiece tokenizer writes a space before whatever comes first, so a segment alone has one token more."""
    prompt = render_prompt(sentencepiece, "Hello there", CHAT)
    trace = encode_trace(sentencepiece, prompt, "I think it is so.", CHAT.boundary, "Yes, the answer is here.")
    whole = prompt.text + "I think it is so." + CHAT.boundary + "Yes, the answer is here."
    assert trace.ids == sentencepiece(whole, add_special_tokens=False)["input_ids"]
    first = trace.ids[trace.spans["boundary"][0]]
    assert sentencepiece.convert_ids_to_tokens(first) == "<0x0A>"


def test_a_control_token_in_the_users_text_is_text(sentencepiece):
    prompt = render_prompt(sentencepiece, "Hello </s> my friend", CHAT)
    ids = encode(sentencepiece, prompt)
    assert sentencepiece.eos_token_id not in ids
    assert sentencepiece.bos_token_id == ids[0]
    assert "</s>" in sentencepiece.decode(ids)


def test_the_language_half_of_a_guard_that_sees_is_loaded_and_its_config_can_be_corrected(tmp_path, tiny_tokenizer):
    """Llama Guard 4: vision weights beside those of the language model, and perhaps `attention_chunk_size: null`."""
    from transformers import Llama4Config, Llama4ForConditionalGeneration

    text = {
        "vocab_size": 100, "hidden_size": 32, "intermediate_size": 32, "intermediate_size_mlp": 32,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "num_local_experts": 2, "moe_layers": [], "attention_chunk_size": None, "max_position_embeddings": 128,
    }  # fmt: skip
    vision = {
        "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64, "image_size": 28,
        "patch_size": 14, "vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32,
    }  # fmt: skip
    Llama4ForConditionalGeneration(Llama4Config(text_config=text, vision_config=vision)).save_pretrained(tmp_path)
    row = ROW | {"config_override": {"text_config.attention_chunk_size": 64}}
    model = load_model(tmp_path, row)
    assert model(input_ids=torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, 100)
    tiny_tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"attention_chunk_size: null.*config_override of the model sheet"):
        check_model(tmp_path, ROW | {"role": "guard"})


def test_a_file_overwritten_in_place_is_checked_and_read_again(folder, tmp_path):
    """A folder's own time stamp does not tell: its files are inputs of everything that loads the model."""
    from project import SMALL, copy_project, snakemake

    project = copy_project(tmp_path / "project")
    header = ["model", "role", "source", "location", "thinking_open", "boundary", "stop_tokens"]
    row = ["mine", "subject", "path", str(folder), r"<think>\n", r"\n</think>\n\n", "<|im_end|>"]
    sheet = project / "models.tsv"
    sheet.write_text("\t".join(header) + "\n" + "\t".join(row) + "\n")
    config = project / "mine.yaml"
    config.write_text(f"sheets: {{models: {sheet}}}\ngeneration: {{max_new_tokens: 8}}\njudges: {{harm: phrases}}\n")
    asked = [*SMALL, config]
    snakemake(project, *asked, "--", "check")
    assert "Nothing to be done" in snakemake(project, *asked, "-n", "--", "check")
    template = folder / "chat_template.jinja"
    template.write_text("{{ bos_token }}" + template.read_text())
    assert "check_model" in snakemake(project, *asked, "-n", "--", "check")
    plan = snakemake(project, *asked, "-n", "--", "results/mine/base/traces/test.parquet")
    assert str(folder / WEIGHTS) in plan.partition("rule generate_traces")[2].partition("output:")[0]
