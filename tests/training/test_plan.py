"""From settings and a budget to a plan: what grows with minutes, what the user decides, and the schedule."""

import json
import time
from dataclasses import replace
from pydoc_data.topics import topics

import pytest
import torch

from unrolled import UnrolledError, cells
from unrolled.cli.training_view import plan_lines
from unrolled.text import Corpus, prepare
from unrolled.training import Planned, planner
from unrolled.training import plan as plan_module
from unrolled.training.plan import Plan, Settings
from unrolled.training.planner import make_plan


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "python.txt").write_text("".join(topics.values()))
    return prepare(folder / "python.txt", folder / "corpus")


def seconds(plan: Plan) -> float:
    """A machine that does 10^10 multiplications a second."""
    return 3 * plan.batch * plan.window * plan.members * plan.layers * 8 * plan.hidden**2 / 1e10


def planned(corpus: Corpus, **settings: object) -> Plan:
    return make_plan(corpus, cells.lstm, Settings(**settings), seconds)  # type: ignore[arg-type]


def test_more_minutes_never_give_a_smaller_model_or_less_training(corpus: Corpus) -> None:
    plans = [planned(corpus, minutes=minutes) for minutes in (0.05, 0.5, 5, 500)]
    sizes = [plan.hidden * plan.layers for plan in plans]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]
    for name in ("dropout", "members"):
        values = [getattr(plan, name) for plan in plans]
        assert values == sorted(values) and values[0] < values[-1]


def test_minutes_become_steps_that_fit_the_budget(corpus: Corpus) -> None:
    plan = planned(corpus, minutes=2, hidden=64, layers=1)
    assert 0.6 * 120 < plan.steps * seconds(plan) <= 120
    assert plan.seconds is not None and plan.seconds <= 120


def test_what_came_before_the_plan_counts_as_minutes(corpus: Corpus) -> None:
    late = make_plan(corpus, cells.lstm, Settings(minutes=2), seconds, started=time.monotonic() - 40)
    assert late.seconds is not None and late.seconds <= 80


@pytest.mark.parametrize(("passes", "dropout"), [(1, 0.0), (5.9, 0.0), (12, 0.15), (24, 0.3), (1000, 0.5)])
def test_dropout_begins_at_six_passes_over_the_text(corpus: Corpus, passes: float, dropout: float) -> None:
    plan = planned(corpus, steps=1)
    of_a_pass = (len(corpus.train.ids) - plan.held_out) / (plan.batch * plan.window)
    # Steps are whole, and dropout has two digits.
    assert planned(corpus, steps=round(passes * of_a_pass)).dropout == pytest.approx(dropout, abs=0.01)


def test_what_the_user_decides_is_kept(corpus: Corpus) -> None:
    wanted = {
        "hidden": 48,
        "layers": 3,
        "members": 2,
        "embedding": 20,
        "batch": 5,
        "window": 11,
        "dropout": 0.33,
        "seed": 9,
    }
    plan = planned(corpus, minutes=1, learning_rate=0.002, **wanted)
    assert {name: getattr(plan, name) for name in wanted} == wanted
    assert plan.learning_rate == 0.002
    assert planned(corpus, steps=77).steps == 77


def test_steps_need_no_clock(corpus: Corpus) -> None:
    def no_clock(plan: Plan) -> float:
        raise AssertionError("measured")

    assert make_plan(corpus, cells.lstm, Settings(steps=10), no_clock) == make_plan(
        corpus, cells.lstm, Settings(steps=10), no_clock
    )


def test_a_batch_is_shared_evenly_by_processes(corpus: Corpus) -> None:
    assert make_plan(corpus, cells.lstm, Settings(steps=1), seconds, processes=3).batch % 3 == 0


def test_the_rate_warms_up_to_its_peak_and_decays_to_a_hundredth(corpus: Corpus) -> None:
    plan = replace(planned(corpus, steps=1000), learning_rate=1.0, warmup=0.01)
    assert plan.rate(0) == pytest.approx(0.1)
    assert plan.rate(10) == pytest.approx(1.0)
    assert plan.rate(505) == pytest.approx(0.505)
    assert plan.rate(1000) == pytest.approx(0.01)
    rates = [plan.rate(step) for step in range(10, 1001)]
    assert rates == sorted(rates, reverse=True)


def test_a_turn_keeps_what_was_and_ends_the_run_elsewhere(corpus: Corpus) -> None:
    plan = planned(corpus, steps=1000)
    turned = plan.turned(400, 100).turned(450, 10)
    assert turned.steps == 460
    before = [plan.rate(step) for step in range(400)]
    assert [turned.rate(step) for step in range(400)] == pytest.approx(before, rel=1e-12)  # as float64 rounds
    assert turned.share(450) == pytest.approx(0.7)
    assert turned.share(455) == pytest.approx(0.85)
    assert turned.share(460) == 1.0
    assert turned.turned(450, 20).turns[-2:] == ((450, pytest.approx(0.7)), (470, 1.0))
    assert Plan.from_json(turned.to_json()) == turned


def test_a_plan_survives_json(corpus: Corpus) -> None:
    plan = planned(corpus, steps=3)
    assert Plan.from_json(plan.to_json()) == plan


def test_a_plan_of_before_there_was_a_choice_is_one_of_what_there_was(corpus: Corpus) -> None:
    earlier = json.loads(planned(corpus, steps=3).to_json())
    del earlier["precision"], earlier["members"]
    plan = Plan.from_json(json.dumps(earlier))
    assert (plan.precision, plan.members) == ("float32", 1)
    assert Plan.from_json(json.dumps(earlier | {"precision": "bf16"})).precision == "bfloat16"


@pytest.mark.parametrize("can", [False, True])
def test_a_run_from_another_machine_goes_on_in_what_this_one_has(
    corpus: Corpus, can: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "bf16_products", lambda: (can, "for a reason"))
    plan = replace(planned(corpus, steps=3), precision="bfloat16")
    lines = "\n".join(plan_lines(Planned(plan, corpus, 1, 1, 2.0), resumed=True))
    assert ("float32, for this machine has no bfloat16" in lines) == (not can)
    with plan.products():
        assert torch.is_autocast_enabled("cpu") == can


@pytest.mark.parametrize("can", [False, True])
def test_products_are_in_bf16_where_it_is_to_be_had(corpus: Corpus, can: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "bf16_products", lambda device: (can, "for a reason"))
    assert planned(corpus, steps=3).precision == ("bfloat16" if can else "float32")
    assert planned(corpus, steps=3, precision="float32").precision == "float32"
    if can:
        assert planned(corpus, steps=3, precision="bfloat16").precision == "bfloat16"
    else:
        with pytest.raises(UnrolledError, match=r"no products in bf16 here: for a reason\. Leave --precision out, or"):
            planned(corpus, steps=3, precision="bfloat16")


def test_products_elsewhere_than_on_the_cpu_are_in_float32(corpus: Corpus) -> None:
    assert make_plan(corpus, cells.lstm, Settings(steps=3), seconds, device="meta").precision == "float32"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"minutes": 0}, "minutes must be a number above 0, not 0"),
        ({"minutes": float("nan")}, "minutes must be a number above 0, not nan"),
        ({"minutes": 1, "steps": 1}, "give one of them"),
        ({"hidden": 0}, "hidden must be a whole number of at least 1, not 0"),
        ({"dropout": 1.0}, "dropout must be a probability of at least 0 and below 1, not 1.0"),
        ({"learning_rate": -1}, "learning rate must be a number above 0, not -1"),
        ({"precision": "int8"}, "precision must be float32 or bfloat16, not int8"),
        ({"seed": -1}, "seed must be a whole number"),
    ],
)
def test_absurd_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(UnrolledError, match=message):
        Settings(**settings)  # type: ignore[arg-type]
