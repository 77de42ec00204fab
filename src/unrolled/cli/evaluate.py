"""`unrolled evaluate`: how well a model predicts a text."""

import json
import sys
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from unrolled.errors import UnrolledError


def evaluate(
    model: Annotated[str, typer.Argument(help="A model file, as written by unrolled train.")],
    text: Annotated[list[str], typer.Argument(help="Text files, folders, or - for standard input.")],
    tokens: Annotated[
        str | None,
        typer.Option(help="Write a line of JSON for each token to this file, - for standard output, and nothing else."),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32, or int8: faster, a little less exact; as the file has it if not said.")
    ] = None,
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="Let a copy of the model go on learning from what it was judged on.")
    ] = False,
    device: Annotated[str, typer.Option(help="Where to compute: cpu, or with torch cuda, ...")] = "cpu",
) -> None:
    """Print bits per byte, and nats and perplexity per token, of a text under a model."""
    if dynamic and tokens is not None:
        raise UnrolledError("--dynamic gives the figures of the whole text alone; leave --tokens out.")
    if tokens is not None:
        _write_tokens(model, precision, text, tokens)
        return
    if dynamic and precision is not None:
        raise UnrolledError("--dynamic learns in float32; leave --precision out.")
    from unrolled.cli.share_view import share_view

    with share_view("judged") as told:
        if device == "cpu" and not dynamic:
            from unrolled.generation import Decoder

            result = Decoder.load(model, precision).evaluate(text, told)
        else:
            from unrolled.artifact import load
            from unrolled.training import dynamic_nats, evaluate_files

            judge = {"judge": dynamic_nats} if dynamic else {}
            result = evaluate_files(load(model, device), text, device, told=told, **judge)
    if dynamic:
        typer.echo("dynamic evaluation: not comparable with figures of a model that stays as it is")
    typer.echo(f"bits per byte    {result.bits_per_byte:.4f}")
    typer.echo(f"nats per token   {result.nats_per_token:.4f}")
    typer.echo(f"perplexity       {result.perplexity:.3f}")
    typer.echo(f"tokens           {result.tokens:,} ({result.bytes:,} bytes)")


def _write_tokens(model: str, precision: str | None, text: list[str], path: str) -> None:
    from unrolled.cli.share_view import share_view
    from unrolled.files import replacing
    from unrolled.generation import Decoder
    from unrolled.text import prepare

    decoder = Decoder.load(model, precision)
    with TemporaryDirectory(prefix="unrolled-") as folder:
        corpus = prepare(text, folder, tokenizer=decoder.tokenizer, validation=0.0, fewest_tokens=2)
        scores = decoder.score(corpus.train.ids)
        lines = (json.dumps(score._asdict(), ensure_ascii=False) + "\n" for score in scores)
        if path == "-":
            sys.stdout.writelines(lines)
            return
        with replacing(path) as file, file.open("w", encoding="utf-8") as out, share_view("scored") as told:
            for number, line in enumerate(lines, 1):
                out.write(line)
                told(number / (len(corpus.train.ids) - 1))
