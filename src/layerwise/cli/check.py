"""`layerwise check MODEL CONFIG`: what a config really trains, without weights."""

from pathlib import Path
from typing import Any

import click

import layerwise as lw
from layerwise.cli.derive import command
from layerwise.cli.output import listed, say, talk
from layerwise.cli.produce import REPORT, Opening, OutputFormat, import_for, open_report, put_page
from layerwise.errors import BadInputError
from layerwise.files import prepare_output, write_files
from layerwise.options.commands import CheckOptions
from layerwise.options.groups import Writing


@command(
    *(OutputFormat, Writing, CheckOptions, Opening),
    arguments={"model": "MODEL", "configs": "CONFIG..."},
    short_help="What a config really trains; no weights.",
    examples=(
        "layerwise check org/model adapter_config.json",
        "layerwise check org/model axolotl.yaml --fix",
        "layerwise check config.json finetune.py --out checked",
    ),
    note="Exit status: 0 nothing found, 1 something found, 2 bad input.",
)
def check(model: str, configs: tuple[str, ...], **options: Any) -> None:
    """Say what CONFIG really trains of MODEL, and what of it does nothing or too much.

    CONFIG is PEFT's adapter_config.json (or its folder), a YAML or command line of Axolotl,
    LLaMA-Factory, ms-swift or TRL, or a Python script or notebook that calls LoraConfig or
    get_peft_model; a script is read, never run. MODEL is as for `layerwise card`, or a config.json:
    PEFT is handed the config on the model without weights, in seconds.

    With --out, writes check.json and report.html, and with --fix the corrected config.
    """
    form, out, overwrite, opened = (options.pop(n) for n in ("format", "out", "overwrite", "open"))
    if out is not None and len(configs) > 1:
        msg = "one config at a time with --out"
        raise BadInputError(msg, value=len(configs), expected="1")
    if out is not None:
        prepare_output(out, holds="check.json", overwrite=overwrite, beside=REPORT)
    import_for(lw.check)
    from layerwise import report

    found = 0
    with talk(form):
        for config in configs:
            made = lw.check(model, config, **options)
            found += len(made.findings)
            human = [report.terminal(made)]
            if out is not None:
                fixed = {f"fixed-{Path(config).name}": made.fixed.encode()} if made.fixed else {}
                files = {"check.json": made.to_json(), **report.files(made, charts=False), **fixed}
                human += ["", listed(write_files(out, files))]
                open_report(out / REPORT, wanted=opened)
            else:
                put_page(made, file=None, wanted=opened)
            say(form, human=human, json=made.to_json())
    if found:
        raise click.exceptions.Exit(1)
