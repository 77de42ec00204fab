"""Models that people write, before and after `accelerate`: the same values, gradients, weights and behaviour."""

import copy
import io

import pytest
import torch
from drop_ins import assert_agree, parts, ran_native
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import unrolled


class Tagger(nn.Module):
    """Words to tags: embedding, two bidirectional layers over packed sequences, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.recurrent = nn.LSTM(6, 8, num_layers=2, bidirectional=True, batch_first=True, dropout=0.3)
        self.tags = nn.Linear(16, 5)

    def forward(self) -> Tensor:
        words = torch.arange(24).reshape(3, 8) % 20
        packed = pack_padded_sequence(self.embedding(words), [3, 8, 5], batch_first=True, enforce_sorted=False)
        outputs, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)
        return self.tags(outputs)


class Translator(nn.Module):
    """An encoder, and a decoder with attention whose LSTMCell is not torch.nn.LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(11, 6), nn.Embedding(13, 6)
        self.encoder = nn.GRU(6, 7, batch_first=True, bidirectional=True)
        self.decoder = nn.LSTMCell(6 + 14, 14)
        self.readout = nn.Linear(14, 13)

    def forward(self) -> Tensor:
        memory, last = self.encoder(self.source(torch.arange(10).reshape(2, 5)))
        h = c = torch.cat([last[0], last[1]], -1)
        logits = []
        for word in torch.tensor([[1, 2], [3, 4], [5, 6]]):
            weights = (memory @ h.unsqueeze(-1)).softmax(1)
            h, c = self.decoder(torch.cat([self.target(word), (weights * memory).sum(1)], -1), (h, c))
            logits.append(self.readout(h))
        return torch.stack(logits)


class Reader(nn.Module):
    """A picture of a line of text to characters: convolutions, two recurrent layers, CTC."""

    def __init__(self) -> None:
        super().__init__()
        self.columns = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d((2, 1)))
        self.recurrent = nn.Sequential(nn.LSTM(16, 9, bidirectional=True))
        self.characters = nn.Linear(18, 6)

    def forward(self) -> Tensor:
        picture = torch.linspace(-1, 1, 2 * 8 * 12).to(self.characters.weight.dtype).reshape(2, 1, 8, 12)
        features = self.columns(picture).flatten(1, 2).permute(2, 0, 1)
        log_probabilities = self.characters(self.recurrent(features)[0]).log_softmax(-1)
        targets = torch.tensor([[1, 2, 3], [4, 5, 1]])
        return nn.functional.ctc_loss(log_probabilities, targets, torch.tensor([12, 12]), torch.tensor([3, 3]))


class Autoencoder(nn.Module):
    """A sequence to a code and back, the decoder fed with the code at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.RNN(3, 8, nonlinearity="relu"), nn.GRU(4, 8, num_layers=2)
        self.mean, self.spread, self.out = nn.Linear(8, 4), nn.Linear(8, 4), nn.Linear(8, 3)

    def forward(self) -> tuple[Tensor, Tensor]:
        x = torch.linspace(-1, 1, 7 * 2 * 3).to(self.mean.weight.dtype).reshape(7, 2, 3)
        _, h = self.encoder(x)
        mean, spread = self.mean(h[-1]), self.spread(h[-1])
        code = mean + spread.exp() * torch.linspace(-1, 1, 8).to(mean.dtype).reshape(2, 4)
        outputs, _ = self.decoder(code.expand(7, -1, -1), torch.zeros(2, 2, 8, dtype=mean.dtype))
        return self.out(outputs), mean


class Shared(nn.Module):
    """One layer used twice, another one with its recurrent matrix, and a weight norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first = self.again = nn.GRU(6, 6)
        self.tied = nn.GRU(6, 6)
        self.tied.weight_hh_l0 = self.first.weight_hh_l0
        self.normed = weight_norm(nn.LSTM(6, 6), "weight_hh_l0")

    def forward(self) -> Tensor:
        x = torch.linspace(-1, 1, 5 * 2 * 6).to(self.tied.weight_hh_l0.dtype).reshape(5, 2, 6)
        return self.normed(self.tied(self.again(self.first(x)[0])[0])[0])[0]


MODELS = [Tagger, Translator, Reader, Autoencoder, Shared]
every_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)


@every_model
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluating"])
def test_a_model_gives_the_same_values_and_gradients(model, training: bool) -> None:
    torch.manual_seed(0)
    theirs = model().train(training)
    ours = unrolled.accelerate(copy.deepcopy(theirs))
    assert ours.training is training
    assert ran_native(parts(ours())[0])
    assert not ran_native(parts(theirs())[0])
    assert_agree(theirs, ours, lambda model: model(), [])


@every_model
def test_weights_stay_the_same_objects(model) -> None:
    torch.manual_seed(0)
    plain = model()
    before, state = dict(plain.named_parameters()), copy.deepcopy(plain.state_dict())
    assert unrolled.accelerate(plain) is plain
    after = dict(plain.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    model().load_state_dict(plain.state_dict())
    assert all(torch.equal(value, state[name]) for name, value in plain.state_dict().items())
    assert plain.load_state_dict(state).missing_keys == []


def test_what_is_turned_and_what_is_left() -> None:
    class Mine(nn.LSTM):
        """A user's own."""

    model = nn.ModuleDict(
        {"a": nn.LSTM(2, 3), "b": nn.Sequential(nn.GRU(2, 3), nn.RNN(2, 3)), "c": Mine(2, 3), "d": nn.GRUCell(2, 3)}
    )
    unrolled.accelerate(unrolled.accelerate(model))
    assert [type(m) for m in (model["a"], *model["b"])] == [unrolled.nn.LSTM, unrolled.nn.GRU, unrolled.nn.RNN]
    assert [type(m) for m in (model["c"], model["d"])] == [Mine, nn.GRUCell]
    assert type(unrolled.accelerate(nn.GRU(2, 3))) is unrolled.nn.GRU
    assert repr(unrolled.nn.GRU(2, 3, num_layers=2)) == repr(nn.GRU(2, 3, num_layers=2))


def test_hooks_stay_and_see_what_they_saw() -> None:
    model = nn.Sequential(nn.LSTM(3, 4))
    seen: list[Tensor] = []
    model[0].register_forward_hook(lambda module, inputs, output: seen.append(output[0]))
    model[0].register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,))
    x = torch.randn(5, 2, 3)
    wanted = model(x)[0]
    got = unrolled.accelerate(model)(x)[0]
    assert seen[0] is wanted
    assert seen[1] is got
    torch.testing.assert_close(got, wanted)


def test_a_parametrization_stays_and_a_copy_is_not_touched() -> None:
    plain = weight_norm(nn.LSTM(4, 5), "weight_hh_l0")
    ours = unrolled.accelerate(copy.deepcopy(plain))
    assert isinstance(ours, unrolled.nn.LSTM)
    assert not isinstance(plain, unrolled.nn.LSTM)
    x = torch.randn(3, 2, 4)
    torch.testing.assert_close(ours(x)[0], plain(x)[0])
    parametrize.remove_parametrizations(ours, "weight_hh_l0")
    assert type(ours) is unrolled.nn.LSTM
    torch.testing.assert_close(ours(x)[0], plain(x)[0])


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_a_weight_that_a_hook_computes_is_read_at_each_call() -> None:
    plain, ours = (torch.nn.utils.weight_norm(nn.GRU(4, 5), "weight_hh_l0") for _ in range(2))
    ours.load_state_dict(plain.state_dict())
    unrolled.accelerate(ours)
    x = torch.randn(3, 2, 4)
    for module in (plain, ours):
        with torch.no_grad():
            module.weight_hh_l0_g.mul_(3)
    torch.testing.assert_close(ours(x)[0], plain(x)[0])


@every_model
def test_a_copy_and_a_saved_model_give_the_same(model) -> None:
    torch.manual_seed(0)
    ours = unrolled.accelerate(model()).eval()
    wanted = parts(ours())
    copied = copy.deepcopy(ours)
    models = [copied]
    if model is not Shared:  # torch refuses to pickle a parametrized module
        file = io.BytesIO()
        torch.save(ours, file)
        file.seek(0)
        models.append(torch.load(file, weights_only=False))
    for other in models:
        assert [type(m).__name__ for m in other.modules()] == [type(m).__name__ for m in ours.modules()]
        assert all(torch.equal(a, b) for a, b in zip(parts(other()), wanted, strict=True))
        with torch.no_grad():
            next(other.parameters()).add_(1.0)
        assert all(torch.equal(a, b) for a, b in zip(parts(ours()), wanted, strict=True))
