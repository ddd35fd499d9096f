"""``udehydro sensitivity``: what results of a model depend on."""

from __future__ import annotations

import typer

from udehydro.cli.sensitivity import adjoint, forward, gradients, screening

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="What results of a model depend on.")


@app.callback()
def _sensitivity() -> None:
    """What results of a model depend on: one number, what a record tells, or all values that parameters may have."""


app.command("adjoint", short_help="What one number depends on: a flood peak, a volume, a score.")(adjoint.command)
app.command("forward", short_help="What a record of discharge tells of parameters, and when.")(forward.command)
app.command("global", short_help="Which parameters matter over all values they may have.")(screening.command)
app.command("gradients", short_help="Ways to a gradient: error, time, memory.")(gradients.command)
