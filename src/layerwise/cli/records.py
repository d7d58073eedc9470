"""The commands that make a record and write it with its report: a row each."""

import inspect
import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import layerwise as lw
from layerwise.cli.derive import command
from layerwise.cli.output import short
from layerwise.cli.produce import Charts, Results, produce
from layerwise.options.commands import (
    AnalyseOptions,
    AuditOptions,
    CardOptions,
    DistanceOptions,
    EraseOptions,
    ProbeOptions,
    ProfileOptions,
)
from layerwise.signals import SIGNALS

if TYPE_CHECKING:
    from layerwise.analysis.record import Analysis
    from layerwise.card.record import LayerCard

log = logging.getLogger(__name__)


def _command(
    name: str,
    options: type,
    short_help: str,
    about: str,
    *examples: str,
    after: int = 0,
    record: str = "",
    shown: str = "",
    **how: Any,
) -> click.Command:
    """Return the command for the function of the API called `name`.

    The folder is called after the argument at `after`, and `record`, which is NAME.json where
    empty. `how` is of `command` (``names``, ``note``) and `produce` (``several``, ``files``).
    """
    record = record or f"{name}.json"
    parameters = inspect.signature(getattr(lw, name)).parameters.values()
    arguments = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    texts = {each: how.pop(each) for each in ("names", "note") if each in how}

    def run(**given: Any) -> None:
        words, function = [given.pop(each) for each in arguments], getattr(lw, name)
        given["out"] = given["out"] or Path(f"{short(words[after])}-{Path(record).stem}")
        produce(partial(function, *words), given, needs=function, record=record, **how)

    make = command(
        *(Results, options, Charts),
        arguments={each: shown or each.upper() for each in arguments},
        name=name,
        examples=examples,
        short_help=short_help,
        help=about,
        **texts,
    )
    return make(run)


def _card_files(made: "LayerCard", folder: Path) -> dict[str, bytes]:
    """Return the card and its arrays; say so where a placement from an older card lies there."""
    if (folder / "placement.json").exists():
        log.info("placement.json is of an earlier card; layerwise place %s --overwrite", folder)
    return made.files()


def _analysis_files(made: "Analysis", folder: Path) -> dict[str, bytes]:  # noqa: ARG001  # as a card
    """Return the record, and each of its tables as CSV and as LaTeX."""
    from layerwise.report.documents.analysis_files import analysis_files

    return {"analysis.json": made.to_json(), **analysis_files(made)}


COMMANDS = (
    _command(
        "card",
        CardOptions,
        "Measure a model on some text, block by block.",
        """Measure, per block of MODEL on DATA, what adapting it would correct and what it would
        cost.

        MODEL is a hub id (org/name, org/name@revision), a folder, a .gguf file, a PEFT adapter
        folder, or demo. DATA is a hub data set (name, name:split, name:config:split), a .jsonl,
        .csv, .parquet or .txt file, a folder of those, or demo.

        Writes card.json, report.html and arrays.safetensors.
        """,
        "layerwise card demo demo",
        "layerwise card org/model reviews.csv --text-column review --where stars=5",
        "layerwise card ./adapter chats.jsonl --examples 256 --device cuda --out cards/adapter",
        files=_card_files,
        names={"signals": SIGNALS},
    ),
    _command(
        "profile",
        ProfileOptions,
        "What moved between two models, by depth.",
        """Compare, at every depth, what BEFORE and AFTER make of the same inputs.

        Both are models as for `layerwise card`. AFTER may be a PEFT adapter folder, which then goes
        onto BEFORE, its base: one copy of the weights is read. The adapter itself is audited too:
        which of its modules are dead, how much of its rank is used, how large it is by depth.

        Writes profile.json and report.html.
        """,
        "layerwise profile demo runs/standard",
        "layerwise profile org/model ./adapter --readout residual",
        "layerwise profile org/model ./adapter --card model-card",
        "layerwise profile org/model@main org/model-tuned --probes questions.txt --device cuda",
        after=1,
    ),
    _command(
        "audit",
        AuditOptions,
        "What an adapter is: dead modules, used rank, size by depth.",
        """Look into a PEFT adapter, a folder or a hub id, yours or anyone's.

        Which of its modules are dead, how much of its rank is used, how large it is beside the
        weights that it adapts, and how far it changes the outputs of its modules on probes. The
        base that its configuration names is loaded for that; where it is not to be had, the
        adapter's files alone are read, and what they do not tell is said.

        Writes audit.json and report.html.
        """,
        "layerwise audit ./adapter",
        "layerwise audit org/adapter --probes questions.txt --device cuda",
        "layerwise audit ./adapter --card model-card",
    ),
    _command(
        "distance",
        DistanceOptions,
        "How far apart objectives are at a model.",
        """Compare the gradients of objectives at MODEL on DATA with those of a reference objective.

        No weight moves: for each example, the gradient that an objective sends into the last hidden
        state is set beside the reference's. MODEL and DATA are as for `layerwise card`.

        Writes distance.json and report.html.
        """,
        "layerwise distance demo demo --where source=rotten_tomatoes",
        "layerwise distance org/model reviews.csv --objectives causal-lm,simcse --examples 64000",
        "layerwise distance org/encoder texts.txt --reference simcse --device cuda",
    ),
    _command(
        "probe",
        ProbeOptions,
        "What can be read from each depth.",
        """Train small classifiers of DATA's labels on each depth's representation in MODEL.

        No weight of MODEL moves. MODEL and DATA are as for `layerwise card`; accuracies are of
        examples that the classifiers did not see.

        Writes probe.json and report.html.
        """,
        "layerwise probe demo demo",
        "layerwise probe org/model reviews.csv --label-column stars --examples 5000",
        "layerwise probe ./adapter reviews.csv --readout residual --device cuda",
        several=False,
    ),
    _command(
        "erase",
        EraseOptions,
        "What erasing a concept does at each depth.",
        """Erase from each depth of MODEL what tells the members of minimal pairs apart.

        PAIRS is a JSON Lines file with the texts "a" and "b" on each line, or demo. The effect is
        by how much the members of pairs move together that the eraser was not fitted on; the
        control erases a random direction of the same energy. No weight of MODEL moves.

        Writes erase.json and report.html.
        """,
        "layerwise erase demo demo",
        "layerwise erase org/model pairs.jsonl --draws 100",
        "layerwise erase ./adapter pairs.jsonl --readout residual --device cuda",
        note='A line of PAIRS: {"a": "The plot is dull.", "b": "The plot is gripping."}',
        several=False,
    ),
    _command(
        "analyse",
        AnalyseOptions,
        "What the runs of a study have in common.",
        """Compare the finished runs of a study: slopes, equal steps, widths, objective distances.

        LEDGER is the folder of a study's runs. atlas stands for the published runs of "Decomposing
        the Depth Profile of Fine-Tuning" (arXiv 2604.17177), which ship with the package.

        Writes analysis.json, report.html, and each table as CSV and as LaTeX.
        """,
        "layerwise analyse atlas",
        "layerwise analyse pocket-ledger --out pocket-analysis",
        "layerwise analyse ledger --placement low --threshold 2 --charts",
        record="analysis.json",
        shown="LEDGER|atlas",
        several=False,
        files=_analysis_files,
    ),
)
