"""`layerwise tune MODEL DATA`: fine-tune under a condition and placement."""

from pathlib import Path
from typing import Any

import click

from layerwise.cli.interrupt import importing
from layerwise.cli.launch import is_first, together
from layerwise.cli.live import live
from layerwise.cli.options import choice, common_with, count, objective, reading, stacked
from layerwise.cli.output import listed, say, short, talk
from layerwise.tuning.conditions import CONDITIONS

__all__ = ["training", "tune"]

EXAMPLES = """\b
Examples:
  layerwise tune demo demo --where source=rotten_tomatoes --steps 60 --batch-size 8
  layerwise tune org/model chats.jsonl --placement model-card/placement.json
  layerwise tune org/model reviews.csv --condition equal-step --tau 1e-3 --out runs/equal
  layerwise tune org/model text.txt --from-config small-bert.json --steps 5000
  torchrun --nproc-per-node 2 -m layerwise tune org/model data.jsonl --save-every 50
"""

#: How a run is optimised, as `control` takes it too.
training = stacked(
    objective,
    count("--steps", default=100, told="Optimizer steps."),
    click.option(
        "--learning-rate",
        type=click.FloatRange(min=0, min_open=True),
        metavar="RATE",
        help="The top rate.  [default: 2e-5; 2e-4 for lora]",
    ),
    count("--accumulation", default=1, told="Batches that one step sums up."),
    click.option(
        "--weight-decay",
        type=click.FloatRange(min=0),
        default=0.01,
        show_default=True,
        metavar="X",
        help="AdamW's.",
    ),
    click.option(
        "--max-grad-norm",
        type=click.FloatRange(min=0, min_open=True),
        default=1.0,
        show_default=True,
        metavar="X",
        help="Gradients are clipped at this norm.",
    ),
    click.option(
        "--decay",
        type=click.FloatRange(min=0, max=1, min_open=True),
        default=0.95,
        show_default=True,
        metavar="X",
        help="Rate per block from the top down, under standard.",
    ),
    click.option(
        "--tau",
        type=click.FloatRange(min=0, min_open=True),
        metavar="X",
        help="Relative step under equal-step.  [default: matched to standard]",
    ),
    count("--match-steps", default=50, told="Steps of standard that the match looks at."),
    choice(
        "--equal-step",
        of=("exact", "sampled", "copy"),
        default="exact",
        told="How equal-step takes its norms.",
    ),
    click.option("--bf16", is_flag=True, help="Forward and backward under bfloat16 autocast."),
    click.option(
        "--gradient-checkpointing", is_flag=True, help="Recompute activations in the backward."
    ),
)


@click.command("tune", short_help="Fine-tune a model under a condition.", epilog=EXAMPLES)
@click.argument("model")
@click.argument("data")
@common_with(batch_size=32, examples=None)
@reading
@click.option(
    "--condition",
    metavar="NAME",
    help=f"{', '.join(CONDITIONS)}.  [default: standard; lora with a placement]",
)
@click.option("--placement", metavar="FILE|3,7,11", help="Where LoRA goes.  [default: all blocks]")
@click.option(
    "--from-config",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="Random weights of this configuration; MODEL names the tokenizer.",
)
@click.option("--top", type=int, metavar="M", help="Blocks that train under top-m.")
@training
@count("--save-every", default=100, least=0, told="Steps between checkpoints; 0 keeps none.")
@count("--eval-examples", default=0, least=0, told="Examples held out for evaluation.")
@count(
    "--eval-every",
    default=0,
    least=0,
    told="Steps between evaluations; 0 evaluates at the start and the end.",
)
@count("--log-every", default=1, told="Steps between lines of log.jsonl.")
@click.option(
    "--track",
    type=click.Choice(["trackio", "wandb", "tensorboard"]),
    help="Report to an experiment tracker too.",
)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --out.")
def tune(model: str, data: str, **options: Any) -> None:
    """Fine-tune MODEL on DATA under a condition: what is frozen, what moves, at which rate.

    MODEL and DATA are as for `layerwise card`. With a placement, LoRA goes only there.

    Writes the model or adapter, tune.json and log.jsonl.
    """
    condition, placement = options["condition"], options["placement"]
    out = options.pop("out") or Path(
        f"{short(model)}-{condition or ('lora' if placement else 'standard')}"
    )
    form = options.pop("form")
    with importing():
        from layerwise import api, report
    with talk(form), together(options.pop("device")) as device:
        with live(form, options["steps"]) as on_step:
            tuned = api.tune(model, data, out=out, device=device, on_step=on_step, **options)
        if is_first():
            written = [out / name for name in (*tuned.record.files, "tune.json", "log.jsonl")]
            human = [report.terminal(tuned.record), "", listed(written)]
            say(form, human=human, json=tuned.record.to_json())
