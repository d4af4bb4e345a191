"""The targets of head rankings: which tokens open a refusal, and what is made of a model that lacks one kind."""

import numpy as np
import pandas as pd
import pytest
import torch

from refusal_cliff.readouts import NotMeasurableError, Source, choose_openers, log_odds, make_readouts, slope

SORRY, CANNOT, SURE, HERE, EMPTY = "Sorry, no.", "I cannot.", "Sure.", "Here it is.", ""
TOKENS = {SORRY: 5, CANNOT: 3, SURE: 9, HERE: 2}


def traces_of(refused, answered, others=()):
    """Traces with these responses, and what the model did in those that are judged."""
    responses = [*refused, *answered, *others]
    traces = pd.DataFrame({"prompt_id": [f"p{n}" for n in range(len(responses))], "sample": 0, "response": responses})
    judged = len(refused) + len(answered)
    did = traces[["prompt_id", "sample"]].head(judged).assign(refused=[True] * len(refused) + [False] * len(answered))
    return traces, did


def test_openers_are_what_each_kind_opens_with_more_often():
    # Refused: Sorry 2/4, CANNOT 1/4, Here 1/4. Answered: Sure 2/8, CANNOT 2/8, Here 4/8.
    traces, did = traces_of([SORRY, SORRY, CANNOT, HERE], [SURE] * 2 + [CANNOT] * 2 + [HERE] * 4, others=[SURE, SORRY])
    assert choose_openers(traces, did, TOKENS) == ([5], [2, 9])


def test_empty_responses_and_those_without_a_verdict_do_not_count():
    traces, did = traces_of([SORRY, EMPTY], [SURE, EMPTY], others=[SURE, HERE])
    assert choose_openers(traces, did, TOKENS) == ([5], [9])


@pytest.mark.parametrize(
    ("refused", "answered", "message"),
    [
        ([], [SURE, HERE], "the model refused none of 2 responses of set fit"),
        ([EMPTY], [SURE], "the model refused none of 1 responses of set fit"),
        ([SORRY, CANNOT, CANNOT], [], "the model refused all of 3 responses of set fit"),
        ([], [], "the model refused none of 0 responses of set fit"),
        ([CANNOT, CANNOT], [CANNOT], "refusals of set fit open with the same tokens as its other responses"),
    ],
)
def test_without_both_kinds_there_is_nothing_to_measure(refused, answered, message):
    with pytest.raises(NotMeasurableError, match=message):
        choose_openers(*traces_of(refused, answered), TOKENS)


def test_a_model_without_a_target_keeps_the_others(tmp_path, tiny_llama, tiny_tokenizer):
    tiny_tokenizer.save_pretrained(tmp_path)
    w, states = np.arange(48.0), torch.randn(3, 48, dtype=torch.float64)

    def made(refused, answered):
        traces, did = traces_of(refused, answered, others=[None])
        return make_readouts(["probe", "openers"], Source(tiny_llama, str(tmp_path), w, traces, did))

    readouts, reasons = made([SORRY], [SURE, HERE])
    assert reasons == {}
    (sorry,), (sure,), (here,) = (tiny_tokenizer(text[0])["input_ids"] for text in ("No", "Sure", "Here"))
    readouts, reasons = made(["No."], ["Sure.", "Here."])
    logits = tiny_llama.get_output_embeddings()(states.float()).double()
    expected = logits[:, sorry] - logits[:, [sure, here]].logsumexp(-1)
    torch.testing.assert_close(readouts["openers"](states), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(readouts["probe"](states), states @ torch.as_tensor(w))
    readouts, reasons = made([], [SURE])
    assert list(readouts) == ["probe"]
    assert reasons == {"openers": "the model refused none of 1 responses of set fit"}


def test_the_slope_is_the_gradient_at_every_state():
    rows = torch.randn(5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        states = torch.randn(3, 8)
        found = slope(log_odds(rows[:2], rows[2:]), states)
        at = states.double()
        expected = (at @ rows[:2].T).softmax(-1) @ rows[:2] - (at @ rows[2:].T).softmax(-1) @ rows[2:]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected.float())
    # Of a linear readout it is the direction, to the bit.
    w = torch.as_tensor(np.random.default_rng(0).normal(size=8))
    assert torch.equal(slope(lambda states: states @ w, states), w.float().expand(3, 8))
