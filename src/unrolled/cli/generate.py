"""`unrolled generate`: text from a model, shown as it is produced."""

import sys
from typing import Annotated

import typer


def generate(
    model: Annotated[str, typer.Argument(help="A model file, as written by unrolled train.")],
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="The text to continue; - reads standard input.")] = "",
    characters: Annotated[
        int | None, typer.Option("--characters", "-n", help="How much text at most; 1000 if not said.")
    ] = None,
    tokens: Annotated[int | None, typer.Option(help="How many tokens at most.")] = None,
    temperature: Annotated[float, typer.Option(help="Below 1 safer, above 1 bolder; 0 is greedy.")] = 0.8,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always the likeliest token.")] = False,
    top_k: Annotated[int, typer.Option(help="Only the k likeliest tokens; 0 for all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Only the likeliest tokens that together have this share.")] = 1.0,
    min_p: Annotated[float, typer.Option(help="Only tokens with this share of the likeliest one's probability.")] = 0.0,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1 makes recent tokens less likely.")] = 1.0,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; may be given more than once.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same text.")] = None,
    device: Annotated[str, typer.Option(help="Where to compute: cpu, cuda, ...")] = "cpu",
) -> None:
    """Generate text with a model. The prompt is printed first, then what the model makes of it."""
    import secrets

    from unrolled.artifact import load
    from unrolled.generation import Sampling
    from unrolled.generation import generate as pieces_of

    if prompt == "-":
        prompt = sys.stdin.read()
    sampling = Sampling(
        temperature=0.0 if greedy else temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=secrets.randbits(32) if seed is None else seed,
    )
    pieces = pieces_of(
        load(model, device), prompt, characters=characters, tokens=tokens, sampling=sampling, stop=tuple(stop or ())
    )
    out = sys.stdout
    if hasattr(out, "reconfigure"):
        # The text is UTF-8 with its own line ends, whatever the terminal's locale says.
        out.reconfigure(encoding="utf-8", newline="", errors="replace")
    out.write(prompt)
    for piece in pieces:
        out.write(piece)
        out.flush()
    out.write("\n")
