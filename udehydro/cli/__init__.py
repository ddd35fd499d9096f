"""Command line: every command is one file; errors become one message and an exit code.

0: done. 1: done, but the result is bad, or a solver could not vouch for it. 2: bad input, nothing was computed.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence

import typer

from udehydro.cli import data, demo, evaluate, fit, richards, sensitivity, simulate
from udehydro.cli.hints import in_flags
from udehydro.errors import SolverError, UdehydroError

BAD_RESULT, BAD_INPUT = 1, 2

app = typer.Typer(
    name="udehydro",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


@app.callback()
def _all(
    debug: bool = typer.Option(False, "--debug", help="Show the Python traceback of an error."),
    threads: int = typer.Option(
        1, "--threads", min=1, help="CPU threads of PyTorch; more rarely pay for small models."
    ),
) -> None:
    """Hydrological models with conserving water balances and neural fluxes.

    \b
    Try it:        udehydro demo --out out/demo
    Your data:     udehydro data check mybasin.csv
                   udehydro fit --data mybasin.csv --model exphydro --neural et,discharge \\
                     --train 1981-10-01/1995-09-30 --test 1995-10-01/2005-09-30 --out out/mybasin
    Then look at:  out/mybasin/report.html

    Exit codes: 0 done; 1 the result is bad (a score is not finite, the balance is open, a solver failed, a score is
    below what was asked for); 2 the input is bad.
    """
    import torch

    torch.set_num_threads(threads)


app.command("fit", short_help="Calibrate a model, train networks for its fluxes.")(fit.command)
app.command("discover", short_help="fit, and write what its networks learn as formulas.")(fit.command)
app.command("simulate", short_help="Run a model over data.")(simulate.command)
app.command("evaluate", short_help="Score the models of a run on any period.")(evaluate.command)
app.add_typer(sensitivity.app, name="sensitivity")
app.add_typer(richards.app, name="richards")
app.add_typer(data.app, name="data")
app.command("demo", short_help="A few minutes on the Fulda, Germany.")(demo.command)


@app.command("version", short_help="Print versions.")
def version() -> None:
    """Print the versions of udehydro, PyTorch and Python."""
    import platform

    import torch

    import udehydro

    print(f"udehydro {udehydro.__version__}, torch {torch.__version__}, Python {platform.python_version()}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; always ends with SystemExit."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    warnings.showwarning = _warn
    try:
        app(args=arguments, prog_name="udehydro", obj=arguments)  # reports say how they were asked for
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (UdehydroError, OSError, MemoryError) as error:
        if debug:
            raise
        print(f"Error: {_message(error)}", file=sys.stderr)
        sys.exit(BAD_RESULT if isinstance(error, SolverError) else BAD_INPUT)
    except Exception as error:
        if debug:
            raise
        print(
            f"Error: unexpected {type(error).__name__}: {error}\nThis is a fault of udehydro, please report it. "
            "--debug shows where it happened.",
            file=sys.stderr,
        )
        sys.exit(BAD_RESULT)


def _message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}. Check the path, the permissions and the space on the disk."
    return in_flags(str(error)) or type(error).__name__


def _warn(message, category, filename, lineno, file=None, line=None) -> None:
    print(f"Warning: {message}", file=sys.stderr)
