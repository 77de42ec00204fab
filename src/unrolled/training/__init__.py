"""Training: from text to a model, with checkpoints, recovery and exact resume. Yields events, prints nothing."""

from unrolled.text import Evaluation
from unrolled.training.dynamic_evaluation import dynamic_nats, learned_from
from unrolled.training.evaluation import evaluate, evaluate_files
from unrolled.training.events import Event, Finished, Planned, Progress, Recovered, Stopped, Validated
from unrolled.training.plan import Plan, Settings
from unrolled.training.run import run_folder, train

__all__ = [
    "Evaluation",
    "Event",
    "Finished",
    "Plan",
    "Planned",
    "Progress",
    "Recovered",
    "Settings",
    "Stopped",
    "Validated",
    "dynamic_nats",
    "evaluate",
    "evaluate_files",
    "learned_from",
    "run_folder",
    "train",
]
