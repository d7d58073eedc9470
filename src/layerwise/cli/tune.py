"""`layerwise tune MODEL DATA`: fine-tune under a condition and placement."""

from pathlib import Path
from typing import Any

import layerwise as lw
from layerwise.cli.derive import command
from layerwise.cli.launch import is_first, together
from layerwise.cli.live import live
from layerwise.cli.output import listed, say, short, talk
from layerwise.cli.produce import OutputFormat, import_for
from layerwise.options.commands import TuneOptions
from layerwise.options.declaration import defaults
from layerwise.tuning.conditions import CONDITIONS


@defaults(batch_size=32, examples=None, save_every=100)
class TuneCommand(TuneOptions, total=False):
    """What is kept of a run on the command line: checkpoints too."""


@command(
    *(OutputFormat, TuneCommand),
    arguments={"model": "MODEL", "data": "DATA"},
    names={"condition": CONDITIONS},
    short_help="Fine-tune a model under a condition.",
    examples=(
        "layerwise tune demo demo --where source=rotten_tomatoes --steps 60 --batch-size 8",
        "layerwise tune org/model chats.jsonl --placement model-card/placement.json",
        "layerwise tune org/model reviews.csv --condition equal-step --tau 1e-3 --out runs/equal",
        "layerwise tune org/model text.txt --from-config small-bert.json --steps 5000",
        "torchrun --nproc-per-node 2 -m layerwise tune org/model data.jsonl --save-every 50",
    ),
)
def tune(model: str, data: str, **options: Any) -> None:
    """Fine-tune MODEL on DATA under a condition: what is frozen, what moves, at which rate.

    MODEL and DATA are as for `layerwise card`. With a placement, LoRA goes only there; with one
    of `layerwise place --for freeze`, its blocks train whole and nothing else does.

    Writes the model or adapter, tune.json and log.jsonl.
    """
    form = options.pop("format")
    import_for(lw.tune)
    from layerwise import report
    from layerwise.tuning.lora import read_placement
    from layerwise.tuning.run import usual_condition

    with talk(form), together(options["device"]) as device:
        placement = options["placement"] = read_placement(options["placement"])
        condition = options["condition"] or usual_condition(placement)
        out = options["out"] or Path(f"{short(model)}-{condition}")
        with live(form, options["steps"]) as on_step:
            options |= {"out": out, "device": device}
            tuned = lw.tune(model, data, on_step=on_step, **options)
        if is_first():
            written = [out / name for name in (*tuned.record.files, "tune.json", "log.jsonl")]
            human = [report.terminal(tuned.record), "", listed(written)]
            say(form, human=human, json=tuned.record.to_json())
