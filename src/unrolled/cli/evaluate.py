"""`unrolled evaluate`: how well a model predicts a text."""

from typing import Annotated

import typer


def evaluate(
    model: Annotated[str, typer.Argument(help="A model file, as written by unrolled train.")],
    text: Annotated[list[str], typer.Argument(help="Text files, folders, or - for standard input.")],
    device: Annotated[str, typer.Option(help="Where to compute: cpu, cuda, ...")] = "cpu",
) -> None:
    """Print bits per byte, and nats and perplexity per token, of a text under a model."""
    from unrolled.artifact import load
    from unrolled.training import evaluate_files

    result = evaluate_files(load(model, device), text, device)
    typer.echo(f"bits per byte    {result.bits_per_byte:.4f}")
    typer.echo(f"nats per token   {result.nats_per_token:.4f}")
    typer.echo(f"perplexity       {result.perplexity:.3f}")
    typer.echo(f"tokens           {result.tokens:,} ({result.bytes:,} bytes)")
