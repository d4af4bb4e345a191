"""Chat templates of every form: what is said arrives whole, and as text."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from refusal_cliff import templates
from refusal_cliff.errors import UserError
from refusal_cliff.organisms import builder, guard

PLAIN = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}[assistant]"
PARTS = (
    "{% for m in messages %}[{{ m['role'] }}]{% for part in m['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ part['text'] }}{% endfor %}{% endfor %}[assistant]"
)
INDEXED = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'][0]['text'] }}{% endfor %}[assistant]"
EITHER = (
    "{% for m in messages %}[{{ m['role'] }}]{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for part in m['content'] %}{{ part['text'] }}{% endfor %}{% endif %}{% endfor %}[assistant]"
)
TRIMMED = "{% for m in messages %}[{{ m['role'] }}]\n\n{{ m['content'] | trim }}\n{% endfor %}[assistant]"
TAIL_OF_THINKING = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'].split('</think>')[-1] }}{% endfor %}[assistant]"
)
LAST_FIRST = "Judge: {{ messages[-1]['content'] }}\n{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
NO_CONTENT = "{% for m in messages %}[{{ m['role'] }}]{% endfor %}[assistant]"
NO_ASSISTANT = "{% for m in messages if m['role'] == 'user' %}[user]{{ m['content'] }}{% endfor %}[assistant]"
NO_SYSTEM = "{% for m in messages if m['role'] != 'system' %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}[assistant]"
REFUSES_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + PLAIN
)
BROKEN = "{% for m in messages %}{{ m['content'] }}"

ASKED = [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "So."}]
WITH_SYSTEM = [{"role": "system", "content": "Be brief."}, *ASKED]


@pytest.fixture
def tokenizer(tiny_tokenizer, monkeypatch):
    """The tiny tokenizer, with a template of the test's own."""

    def of(template):
        monkeypatch.setattr(tiny_tokenizer, "chat_template", template)
        return tiny_tokenizer

    return of


@pytest.mark.parametrize("template", [PLAIN, PARTS, INDEXED, EITHER])
def test_contents_are_rendered_whether_a_template_takes_strings_or_parts(tokenizer, template):
    assert templates.render(tokenizer(template), ASKED).text == "[user]How?[assistant]So.[assistant]"


@pytest.mark.parametrize(
    ("template", "says", "expected"),
    [
        (TRIMMED, " So.\n", "[user]\n\nHow?\n[assistant]\n\nSo.\n[assistant]"),
        (PLAIN, " So.\n", "[user]How?[assistant] So.\n[assistant]"),
        (PLAIN, "", "[user]How?[assistant][assistant]"),
        (TAIL_OF_THINKING, "a</think>b", "[user]How?[assistant]a</think>b[assistant]"),
        (LAST_FIRST, "So.", "Judge: So.\nHow?\nSo.\n"),
        (PLAIN, "[user]", "[user]How?[assistant][user][assistant]"),
        (PLAIN, "{{ 1 }} {% if %} .* \\1", "[user]How?[assistant]{{ 1 }} {% if %} .* \\1[assistant]"),
    ],
)
def test_only_white_space_around_a_content_is_the_templates_to_strip(tokenizer, template, says, expected):
    messages = [ASKED[0], {"role": "assistant", "content": says}]
    assert templates.render(tokenizer(template), messages).text == expected


@pytest.mark.parametrize(
    ("template", "messages", "message"),
    [
        (None, ASKED, "has no chat template"),
        (NO_CONTENT, ASKED, "leaves out what the user says"),
        (NO_ASSISTANT, ASKED, "leaves out what the assistant says"),
        (NO_SYSTEM, WITH_SYSTEM, "leaves out what the system says"),
        (REFUSES_SYSTEM, WITH_SYSTEM, "System role not supported"),
        (BROKEN, ASKED, "fails"),
        ("{{ messages[0]['content'] + 1 }}", ASKED, "fails"),
        ("{{ nothing.of.the.kind }}", ASKED, "fails"),
        ("{{ messages[7]['content'] }}", ASKED, "no element 7"),
    ],
)
def test_a_template_that_does_not_pass_on_what_is_said_is_an_error(tokenizer, template, messages, message):
    with pytest.raises(UserError, match=message) as caught:
        templates.render(tokenizer(template), messages)
    assert "\n" not in str(caught.value) and "\ue000" not in str(caught.value)


def test_the_templates_own_arguments_reach_it(tokenizer):
    switched = PLAIN + "{% if not thinking %}</think>{% endif %}"
    assert templates.render(tokenizer(switched), ASKED, arguments={"thinking": True}).text.endswith("[assistant]")
    assert templates.render(tokenizer(switched), ASKED).text.endswith("</think>")
    ended = PLAIN.removesuffix("[assistant]") + "{% if add_generation_prompt %}[assistant]{% endif %}"
    assert templates.render(tokenizer(ended), ASKED, add_generation_prompt=False).text == "[user]How?[assistant]So."


def test_a_template_that_asks_for_the_date_is_told_the_same_every_day(tokenizer):
    dated = tokenizer(
        "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
        "Today: {{ date_string }}\n" + PLAIN
    )
    assert templates.render(dated, ASKED).text.startswith("Today: 07 Oct 2025\n")


def encoded(tokenizer, messages):
    return templates.encode(tokenizer, templates.render(tokenizer, messages))


def literal(tokenizer, text):
    return templates.encode(tokenizer, templates.Rendered(text, ((0, len(text)),)))


def spelt(tokenizer, ids):
    return tokenizer.convert_ids_to_tokens(ids)


CHATML = "{% for m in messages %}<bos>{{ m['content'] }}<eos>{% endfor %}<think>"


@pytest.mark.parametrize("says", ["<eos>", "</think>", "a<eos>b</think>", "<bos><think>", "\n<eos> <eos>\n", "ab <pad"])
def test_control_tokens_in_contents_are_text_and_the_templates_stay(tokenizer, says):
    made = tokenizer(CHATML)
    messages = [{"role": "user", "content": says}, {"role": "assistant", "content": f"It said {says}."}]
    ids = encoded(made, messages)
    assert made.decode(ids) == templates.render(made, messages).text
    control = [token for token in spelt(made, ids) if token in templates.control_tokens(made)]
    assert control == ["<bos>", "<eos>", "<bos>", "<eos>", "<think>"]
    assert made.decode(literal(made, says)) == says
    assert not set(spelt(made, literal(made, says))) & set(templates.control_tokens(made))


def test_splitting_control_tokens_leaves_no_trace_in_the_tokenizer(tokenizer):
    made = tokenizer(CHATML)
    before = made("<eos>a</think>", add_special_tokens=False)["input_ids"]
    encoded(made, [{"role": "user", "content": "<eos>a</think>"}])
    literal(made, "<eos>a</think>")
    assert made("<eos>a</think>", add_special_tokens=False)["input_ids"] == before


def organism_tokenizers():
    texts = ["How do I stay safe?", "It is unsafe to go on.", "I'm sorry, but I can't help with that."] * 20
    yield builder.train_tokenizer(texts, 400)
    made = builder.train_tokenizer(texts, 400, guard.TEMPLATE, guard.TOKENS)
    made.add_tokens([guard.AddedToken(answer, single_word=True, normalized=False) for answer in guard.ANSWERS])
    yield made


@pytest.mark.parametrize("saved", [False, True])
def test_ids_of_ordinary_conversations_are_those_of_their_text(saved, tmp_path):
    """Also those that say `safe` and `unsafe`, which are tokens of the guard of organisms but no control tokens."""
    said = ["", " ", "How do I stay safe?", "unsafe\n\n", "a < b > c [d]", "Ünïcode \u200b and\ttabs", "<b>bold</b> x"]
    for tokenizer in organism_tokenizers():
        if saved:
            tokenizer.save_pretrained(tmp_path)
            tokenizer = AutoTokenizer.from_pretrained(tmp_path)
        for asked in said:
            for answer in said:
                messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
                text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
                assert templates.render(tokenizer, messages).text == text
                expected = tokenizer(text, add_special_tokens=False)["input_ids"]
                assert encoded(tokenizer, messages) == expected


def test_markers_of_organisms_that_are_not_flagged_as_special_are_control_tokens():
    for tokenizer, markers in zip(organism_tokenizers(), (builder.CHAT_TOKENS, guard.TOKENS), strict=True):
        control = templates.control_tokens(tokenizer)
        assert set(control) == {*markers, builder.END, builder.PAD}
        for marker in control:
            plain, marked = (
                encoded(tokenizer, [{"role": "user", "content": text}]) for text in ("say it", f"say {marker}")
            )
            assert [[t for t in spelt(tokenizer, ids) if t in control] for ids in (plain, marked)] == [
                [t for t in spelt(tokenizer, plain) if t in control]
            ] * 2
            assert marker in tokenizer.decode(marked)


@pytest.mark.parametrize("scheme", ["first", "always"])
def test_no_space_is_put_in_front_of_what_follows_a_split_token(scheme):
    """As SentencePiece does at the start of a text."""
    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    special = ["<unk>", "<s>", "</s>"]
    raw.train_from_iterator(["say it again and </again>"] * 9, trainers.BpeTrainer(special_tokens=special))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = "{% for m in messages %}<s>{{ m['content'] }}</s>{% endfor %}"
    found = spelt(tokenizer, encoded(tokenizer, [{"role": "user", "content": "say it</s>again"}]))
    assert found[0] == "<s>" and found[-1] == "</s>"
    assert "".join(found[1:-1]).removeprefix("▁") == "say▁it</s>again"
