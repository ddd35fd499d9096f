"""``udehydro richards``: soil columns from a file: run them, and learn their curves from sensors."""

from __future__ import annotations

import typer

from udehydro.cli.richards import example, gauge, learn, run

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _richards() -> None:
    """Soil columns: run them, learn from sensors.

    \b
    Try it:  udehydro richards example soil
             udehydro richards run soil/soil.yaml --out out/run
             udehydro richards gauge soil/soil.yaml
             udehydro richards learn soil/soil.yaml --out out/learned
    """


app.command("run", short_help="Move water through a column.")(run.command)
app.command("gauge", short_help="What sensors can decide about curves, and what not.")(gauge.command)
app.command("learn", short_help="Retention and conductivity from sensors.")(learn.command)
app.command("example", short_help="Write a soil file with data to begin with.")(example.command)
