"""The command `unrolled`: its sub-commands, and how it ends. A mistake is a line on standard error, no traceback."""

import os
import sys

import typer

from unrolled import __version__
from unrolled.cli.cells import cells, draw
from unrolled.cli.evaluate import evaluate
from unrolled.cli.generate import generate
from unrolled.cli.quantize import quantize
from unrolled.cli.train import train
from unrolled.errors import UnrolledError, missing_extra

app = typer.Typer(
    name="unrolled",
    help="Recurrent neural networks, from equation to product.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(train)
app.command()(generate)
app.command()(evaluate)
app.command()(quantize)
app.command()(cells)
app.command()(draw)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"unrolled {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Recurrent neural networks, from equation to product."""
    del version


def main() -> None:
    """Run the command line; exit status 0 for success, 2 for a mistake in what was given, 130 after Ctrl-C."""
    # Read by the OpenMP library when torch loads it: threads that wait then sleep early instead of keeping a core
    # busy that another program may need. It costs nothing on a quiet machine (docs/decisions/0006-waiting-threads.md).
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        app()
    except UnrolledError as error:
        typer.echo(f"unrolled: {error}", err=True)
        sys.exit(2)
    except ModuleNotFoundError as error:
        message = missing_extra(error)
        if message is None:
            raise
        typer.echo(f"unrolled: {message}.", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has gone (`unrolled generate ... | head`); that is no mistake.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except MemoryError:
        typer.echo("unrolled: this machine has not enough memory for that; choose smaller sizes.", err=True)
        sys.exit(2)
