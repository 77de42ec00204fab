"""`unrolled generate`: text from a model, shown as it is produced."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Annotated, Any

import typer


def generate(
    model: Annotated[str, typer.Argument(help="A model file, as written by unrolled train.")],
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="The text to continue; - reads standard input.")] = "",
    characters: Annotated[
        int | None, typer.Option("--characters", "-n", help="How much text at most; 1000 if not said.")
    ] = None,
    tokens: Annotated[int | None, typer.Option(help="How many tokens at most.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Below 1 safer, above 1 bolder, 0 is greedy; 0.8 if not said.")
    ] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always the likeliest token.")] = False,
    top_k: Annotated[int | None, typer.Option(help="Only the k likeliest tokens.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Only the likeliest tokens that together have this share.")
    ] = None,
    min_p: Annotated[
        float | None, typer.Option(help="Only tokens with this share of the likeliest one's probability.")
    ] = None,
    repetition_penalty: Annotated[float | None, typer.Option(help="Above 1 makes recent tokens less likely.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; may be given more than once.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same text.")] = None,
    state: Annotated[str | None, typer.Option(help="Go on from this file, as written by --save-state.")] = None,
    save_state: Annotated[str | None, typer.Option(help="Write a file to go on from.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32, or int8: faster, a little less exact; as the file has it if not said.")
    ] = None,
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="Let a copy of the model learn from the prompt before it goes on.")
    ] = False,
    device: Annotated[str, typer.Option(help="Where to compute: cpu, or with torch cuda, ...")] = "cpu",
) -> None:
    """Generate text with a model. The prompt is printed first, then what the model makes of it."""
    import secrets

    from unrolled.errors import UnrolledError
    from unrolled.generation import Decoder, Sampling

    if prompt == "-":
        prompt = sys.stdin.read()
    settings: dict[str, Any] = {
        "temperature": 0.0 if greedy else temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
    }
    settings = {name: value for name, value in settings.items() if value is not None}
    sampling = Sampling(**{"seed": secrets.randbits(32), **settings})
    limits: Any = {"characters": characters, "tokens": tokens, "stop": tuple(stop or ())}
    if dynamic and (state or save_state or precision):
        raise UnrolledError("--dynamic makes another model; leave --state, --save-state and --precision out.")
    if device != "cpu" and (state or save_state or precision):
        raise UnrolledError(f"--state, --save-state and --precision work on the cpu only, not on {device}.")
    if device != "cpu" or dynamic:
        _show(prompt, _pieces_by_torch(model, device, dynamic, prompt, sampling, limits))
        return
    decoder = Decoder.load(model, precision)
    if state is None:
        after = decoder.start(prompt, sampling)
    else:
        after = decoder.load_state(state)
        if settings:  # else it goes on exactly as it was going
            after.resample(replace(after.sampling, **settings))
        if prompt:
            decoder.read(after, prompt)
    _show(prompt, decoder.generate(after, **limits))
    if save_state is not None:
        after.save(save_state)


def _pieces_by_torch(model: str, device: str, dynamic: bool, prompt: str, sampling: Any, limits: Any) -> Iterator[str]:
    from unrolled.artifact import load
    from unrolled.generation import Decoder
    from unrolled.generation import generate as pieces_of

    loaded = load(model, device)
    if dynamic:
        loaded.model = _learned(loaded, prompt, device)
    if device != "cpu":
        return pieces_of(loaded, prompt, sampling=sampling, **limits)
    decoder = Decoder.of(loaded)
    return decoder.generate(decoder.start(prompt, sampling), **limits)


def _learned(loaded: Any, prompt: str, device: str) -> Any:
    from unrolled.cli.share_view import share_view
    from unrolled.errors import UnrolledError
    from unrolled.training import learned_from

    ids = loaded.tokenizer.encode(prompt)
    if len(ids) < 2:
        raise UnrolledError(f"--dynamic learns from the prompt, which has {len(ids)} tokens; give it at least 2.")
    with share_view("learned from the prompt") as told:
        return learned_from(loaded.model, ids, device, told)


def _show(prompt: str, pieces: Iterable[str]) -> None:
    out = sys.stdout
    if hasattr(out, "reconfigure"):
        # The text is UTF-8 with its own line ends, whatever the terminal's locale says.
        out.reconfigure(encoding="utf-8", newline="", errors="replace")
    out.write(prompt)
    for piece in pieces:
        out.write(piece)
        out.flush()
    out.write("\n")
