import copy
import json
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from unrolled import LanguageModel, UnrolledError, cell, tanh
from unrolled.cells import gru, lstm, vanilla
from unrolled.models import detached, forgetful


def small(**changes: Any) -> LanguageModel:
    torch.manual_seed(0)
    settings = {"cell": lstm, "vocabulary_size": 7, "embedding_size": 3, "hidden_size": 5, "layers": 2}
    return LanguageModel(**settings | changes).double()


def tokens(batch: int, time: int) -> Tensor:
    return torch.randint(7, (batch, time), generator=torch.Generator().manual_seed(0))


def test_logits_are_over_the_vocabulary_at_every_step_and_the_state_is_per_layer() -> None:
    logits, state = small()(tokens(2, 4))
    assert logits.shape == (2, 4, 7)
    assert [tuple(part.shape for part in layer) for layer in state] == [((2, 5), (2, 5)), ((2, 5), (2, 5))]


def test_the_model_is_embedding_then_recurrence_then_readout() -> None:
    model, ids = small(cell=vanilla, layers=1), tokens(1, 3)
    w = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    h, expected = np.zeros(5), []
    for token in ids[0].tolist():
        x = w["embedding.weight"][token]
        h = np.tanh(w["layers.0.W_hh"] @ h + w["layers.0.W_xh"] @ x + w["layers.0.b_h"])
        expected.append(w["readout.weight"] @ h + w["readout.bias"])
    # Three steps of float64 on values of size 1, summed in another order.
    np.testing.assert_allclose(model(ids)[0][0].detach().numpy(), expected, rtol=0, atol=1e-13)


def test_the_readout_reads_the_sum_of_the_layers() -> None:
    model, ids = small(), tokens(2, 4)
    below, _ = model.layers[0](model.embedding(ids))
    above, _ = model.layers[1](below)
    assert torch.equal(model(ids)[0], model.readout(below + above))


def _member(model: LanguageModel, number: int) -> LanguageModel:
    """The network that is one of the members, as a model of its own."""
    alone = small(layers=2)
    weights = {name: value for name, value in model.state_dict().items() if not name.startswith("layers.")}
    for name in ("embedding.weight", "readout.weight"):
        weights[name] = weights[name].chunk(model.members, 1)[number]
    alone.load_state_dict(weights, strict=False)
    alone.layers.load_state_dict(model.layers[2 * number : 2 * number + 2].state_dict())
    return alone


def test_members_predict_by_the_mean_of_their_logits_and_carry_a_state_each() -> None:
    model, ids = small(members=3), tokens(2, 4)
    logits, state = model(ids)
    each = [_member(model, number)(ids) for number in range(3)]
    assert (each[0][0] - each[1][0]).abs().max() > 0.01
    # A sum of three times five products of size 1 in float64, in another order.
    torch.testing.assert_close(logits, torch.stack([own for own, _ in each]).mean(0), rtol=0, atol=1e-14)
    alone = [layer for _, own in each for layer in own]
    assert len(state) == 6
    assert all(
        torch.equal(a, b) for ours, theirs in zip(state, alone, strict=True) for a, b in zip(ours, theirs, strict=True)
    )


def test_each_member_learns_from_its_own_errors() -> None:
    model, ids, targets = small(members=2), tokens(3, 6), tokens(3, 7)[:, 1:]
    lengths = torch.tensor([6, 0, 2])
    for counted in (None, lengths):
        each = [_member(model, number).loss(ids, targets, None, counted)[0] for number in range(2)]
        torch.testing.assert_close(
            model.loss(ids, targets, None, counted)[0], (each[0] + each[1]) / 2, rtol=1e-13, atol=0
        )


def test_a_state_of_another_model_is_refused() -> None:
    _, state = small()(tokens(2, 3))
    with pytest.raises(UnrolledError, match="the state has 1 parts, one a layer; 2 came"):
        small(layers=1)(tokens(2, 3), state)


def test_the_loss_with_lengths_is_the_mean_over_the_tokens_that_count() -> None:
    model, ids, targets = small(), tokens(3, 6), tokens(3, 7)[:, 1:]
    lengths = torch.tensor([6, 0, 2])
    loss, state = model.loss(ids, targets, None, lengths)
    log_probabilities = model(ids)[0].log_softmax(dim=-1)
    nats = [-log_probabilities[row, t, targets[row, t]].item() for row in range(3) for t in range(int(lengths[row]))]
    assert len(nats) == 8
    assert loss.item() == pytest.approx(sum(nats) / 8, rel=1e-13)  # eight float64 numbers in another order
    assert torch.equal(state[1][0][1], torch.zeros(5, dtype=torch.float64))
    whole, _ = model.loss(ids, targets)
    same, _ = model.loss(ids, targets, None, torch.full((3,), 6))
    assert whole.item() == pytest.approx(same.item(), rel=1e-13)  # as above
    assert whole.item() != pytest.approx(loss.item(), rel=1e-3)  # the tokens left out were of other losses


def test_what_stands_past_the_lengths_changes_neither_loss_nor_gradient() -> None:
    model, ids, targets = small(), tokens(2, 5), tokens(2, 6)[:, 1:]
    lengths = torch.tensor([5, 2])
    results = []
    for padding in (0, 6):
        padded, padded_targets = ids.clone(), targets.clone()
        padded[1, 2:], padded_targets[1, 2:] = padding, padding
        loss, _ = model.loss(padded, padded_targets, None, lengths)
        results.append([loss, *torch.autograd.grad(loss, list(model.parameters()))])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_text_in_two_halves_with_the_state_carried_over_gives_the_same_logits() -> None:
    model, ids = small(), tokens(2, 6)
    whole, _ = model(ids)
    first, between = model(ids[:, :4])
    second, _ = model(ids[:, 4:], detached(between))
    assert torch.equal(torch.cat([first, second], dim=1), whole)
    assert not torch.equal(model(ids[:, 4:])[0], second)


def test_a_detached_state_has_the_values_and_the_nesting_but_no_history() -> None:
    _, state = small()(tokens(2, 3))
    cut = detached(state)
    assert [len(layer) for layer in cut] == [len(layer) for layer in state]
    for layer, cut_layer in zip(state, cut, strict=True):
        for part, cut_part in zip(layer, cut_layer, strict=True):
            assert torch.equal(part, cut_part)
            assert part.requires_grad
            assert not cut_part.requires_grad


def test_dropout_disturbs_training_and_leaves_evaluation_alone() -> None:
    model, ids = small(dropout=0.5), tokens(2, 4)
    torch.manual_seed(1)
    assert not torch.equal(model(ids)[0], model(ids)[0])
    model.eval()
    assert torch.equal(model(ids)[0], model(ids)[0])
    assert torch.equal(model(ids)[0], small().eval()(ids)[0])


def test_training_steps_learn_a_sequence_by_heart() -> None:
    model, ids = small(cell=gru, layers=1), tokens(1, 9)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        loss, _ = model.loss(ids[:, :-1], ids[:, 1:])
        loss.backward()
        optimizer.step()
    assert loss < 0.05  # from log(7) = 1.95; the right next token has a probability above 0.95
    assert torch.equal(model(ids[:, :-1])[0].argmax(dim=-1), ids[:, 1:])


@cell
def factored(x, h, *, U: "hidden, rank", V: "rank, hidden", W):  # noqa: F821
    """A recurrent matrix of low rank."""
    h = tanh(U @ (V @ h) + W @ x)
    return h


@pytest.mark.parametrize("changes", [{}, {"cell": factored, "rank": 2, "dropout": 0.25, "layers": 1}])
def test_json_describes_a_model_that_takes_the_same_weights(changes: dict[str, Any]) -> None:
    model = small(**changes).eval()
    state_before = copy.deepcopy(model.state_dict())
    again = LanguageModel.from_json(model.to_json()).double().eval()
    assert again.config == model.config
    assert repr(again) == repr(model)
    again.load_state_dict(state_before)
    assert torch.equal(again(tokens(2, 4))[0], model(tokens(2, 4))[0])


def test_fresh_weights_follow_the_seed_alone() -> None:
    one, same = small(), small()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert one.embedding.weight.std().item() == pytest.approx(1, abs=0.5)  # 21 draws from a normal distribution


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 0}, "at least 1 layer, token, embedding feature and member; 0, 7, 3 and 1 came."),
        ({"vocabulary_size": 0}, "at least 1 layer, token, embedding feature and member; 2, 0, 3 and 1 came."),
        ({"embedding_size": 0}, "at least 1 layer, token, embedding feature and member; 2, 7, 0 and 1 came."),
        ({"members": 0}, "at least 1 layer, token, embedding feature and member; 2, 7, 3 and 0 came."),
        ({"hidden_size": 0}, "the hidden size must be a whole number of at least 1, not 0."),
        ({"dropout": 1.0}, "dropout is a probability of at least 0 and below 1, not 1.0."),
        ({"dropout": -0.1}, "dropout is a probability of at least 0 and below 1, not -0.1."),
        ({"dropout": float("nan")}, "dropout is a probability of at least 0 and below 1, not nan."),
        ({"cell": factored}, "the size 'rank' is not known; pass it as rank=<number>."),
        ({"rank": 2}, "cell lstm has no size named rank."),
        ({"cell": "lstm"}, "the cell must be a Program such as unrolled.cells.lstm, not 'lstm'"),
    ],
)
def test_a_language_model_that_cannot_be_made_says_why(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnrolledError, match=re.escape(message)):
        small(**changes)


@pytest.mark.parametrize(
    "damage",
    [
        lambda config: "",
        lambda config: "{",
        lambda config: "[1]",
        lambda config: "null",
        lambda config: "[" * 100_000,
        *(
            lambda config, key=key: json.dumps({k: v for k, v in config.items() if k != key})
            for key in ("cell", "hidden_size")
        ),
        *(
            lambda config, key=key, value=value: json.dumps(config | {key: value})
            for key, value in [
                ("cell", "{}"),
                ("cell", None),
                ("vocabulary_size", 2.5),
                ("vocabulary_size", "7"),
                ("vocabulary_size", 10**30),
                ("embedding_size", [3]),
                ("hidden_size", None),
                ("layers", 1.5),
                ("dropout", "much"),
                ("colour", 3),
            ]
        ),
    ],
)
def test_a_damaged_description_is_refused_as_such(damage: Any) -> None:
    with pytest.raises(UnrolledError):
        LanguageModel.from_json(damage(small().config))


def test_a_forgetful_state_begins_anew_in_some_rows():
    torch.manual_seed(0)
    state = ((torch.ones(4000, 3), 2 * torch.ones(4000, 5)), (torch.ones(4000, 2),))
    (h, C), (other,) = forgetful(state, 0.25)
    forgotten = (h == 0).all(1)
    assert torch.equal(h, (~forgotten).float().unsqueeze(1).expand(4000, 3))
    assert torch.equal(C, 2 * h[:, :1].expand(4000, 5))
    assert torch.equal(other, h[:, :2])
    assert abs(forgotten.float().mean().item() - 0.25) < 0.035  # five standard deviations of 4000 draws
