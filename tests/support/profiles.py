"""Profiles and controls made by hand, whose numbers are known, for tests of what reads them."""

from dataclasses import replace

import numpy as np

from layerwise.card.record import DataInfo, ModelInfo, StackInfo
from layerwise.placement.record import PlacedBlock
from layerwise.profile.audit_record import Audit, BlockAudit, CardPlacement, ModuleAudit, Spectrum
from layerwise.profile.probe_reading import ProbeReading, as_probe_set
from layerwise.profile.record import DepthChange, ProbeInfo, Profile, ReadoutProfile, StepSizes
from layerwise.profile.verdict import judge, pair_profiles
from layerwise.signals.similarity import align, represent
from support.cards import PROVENANCE

#: Texts in the words of the tiny models, and how they are read.
PROBES = tuple(f"w{i} w{(3 * i + 1) % 50} w{(7 * i + 2) % 50} w{i % 5}" for i in range(12))
READING = ProbeReading(as_probe_set(PROBES), bootstrap=50)
DEPTHS = (0.10, 0.25, 0.40, 0.60, 0.75, 0.90, 1.00)
READOUTS = {"hf": 1.0, "residual": 0.9, "normed": 1.05}


def procrustes(x, y):
    """The Procrustes distance of two states, (n, p) each."""
    return align(represent(x), represent(y)).distance


def planted_model(source, *, blocks, stack="model.layers", base=None, digest="5a"):
    """A model of one stack; `digest` is repeated into the hash of its file."""
    return ModelInfo(
        source=source,
        architecture="LlamaForCausalLM",
        parameters=134_515_008,
        stacks=(StackInfo(stack, blocks, "LlamaDecoderLayer", "sequential"),),
        files={"model.safetensors": digest * 32},
        base=base,
    )


def planted_change(relative, index, *, steepness, scale, noise):
    """The change at one depth: Procrustes `scale` times 0.05 + steepness x relative^2."""
    procrustes = scale * (0.05 + steepness * relative**2)
    return DepthChange(
        relative=relative,
        index=index,
        procrustes=procrustes,
        cka=0.6 * procrustes**2,
        rsa=0.9 * procrustes**2,
        shared_pca_cka=0.55 * procrustes**2,
        noise=noise,
        held_out=1.1 * procrustes,
        unrotated=1.2 * procrustes,
    )


def planted_readout(*, blocks, steepness, scale, noise=0.004, spread=0.03):
    """A readout's profile; its slopes are those of its own seven depths."""
    options = {"steepness": steepness, "scale": scale, "noise": noise}
    every = tuple(planted_change((i + 1) / blocks, i, **options) for i in range(blocks))
    index = [max(1, int(np.floor(r * blocks + 0.5))) - 1 for r in DEPTHS]
    seven = tuple(replace(every[i], relative=r) for r, i in zip(DEPTHS, index, strict=True))
    slopes = {
        key: float(np.polyfit(DEPTHS, [getattr(d, key) for d in seven], 1)[0])
        for key in ("procrustes", "cka", "rsa", "held_out", "unrotated")
    }
    total = sum(d.cka for d in seven)
    return ReadoutProfile(
        depths=seven,
        blocks=every,
        slope=slopes["procrustes"],
        slope_low=slopes["procrustes"] - spread,
        slope_high=slopes["procrustes"] + spread,
        cka_slope=slopes["cka"],
        rsa_slope=slopes["rsa"],
        width=tuple(d.cka / total for d in seven) if total > 0 else (),
        noise_floor=noise,
        held_out_slope=slopes["held_out"],
        unrotated_slope=slopes["unrotated"],
    )


def planted_profile(
    *,
    blocks=30,
    steepness=0.35,
    scales=None,
    readout="hf",
    before="SmolLM2-135M-Instruct.Q4_K_M.gguf",
    after="/runs/standard/model",
    stack="model.layers",
    command=PROVENANCE.command,
    untrained=(),
    notes=(),
    noise=0.004,
    spread=0.03,
):
    """A profile of one stack; `scales` gives each readout's factor."""
    readouts = {
        name: planted_readout(
            blocks=blocks, steepness=steepness, scale=scale, noise=noise, spread=spread
        )
        for name, scale in (READOUTS if scales is None else scales).items()
    }
    return Profile(
        before=planted_model(before, blocks=blocks, stack=stack),
        after=planted_model(after, blocks=blocks, stack=stack, base=before, digest="c7"),
        stack=stack,
        probes=ProbeInfo(
            source="probes",
            sha256="3f" * 32,
            inputs=290,
            tokens=3412,
            max_length=64,
            bootstrap=1000,
            pca_components=256,
            seed=0,
            width=576,
        ),
        readout=readout,
        readouts=readouts,
        provenance=replace(PROVENANCE, command=command),
        untrained_modules=tuple(untrained),
        notes=tuple(notes),
        **vars(readouts[readout]),
    )


def still_profile(**options):
    """A profile of two equal models."""
    return planted_profile(scales=dict.fromkeys(READOUTS, 0.0), noise=0.0, spread=0.0, **options)


def planted_steps(*, blocks, low, high, asked=None, stack="model.layers"):
    """Step sizes from `low` at the input to `high` at the output, evenly on a log scale."""
    medians = np.geomspace(low, high, blocks)
    groups = tuple(
        StepSizes(f"{stack}.{row}", row, asked, float(m), 0.8 * float(m), 1.3 * float(m))
        for row, m in enumerate(medians)
    )
    return (*groups, StepSizes("rest", None, asked, low, 0.7 * low, 1.4 * low))


def planted_run(seed, *, blocks, steepness, equal, steps, losses, **options):
    """Both conditions from one seed; `equal` is the steepness under equal-step."""
    standard = planted_profile(blocks=blocks, steepness=steepness + 0.02 * seed, **options)
    equal_step = planted_profile(
        blocks=blocks,
        steepness=equal - 0.015 * seed,
        **(options | {"after": "/runs/equal-step/model"}),
    )
    tau = 1.25e-4
    run = pair_profiles(seed, standard, equal_step, tau=tau)
    if losses:
        lost = {"standard_loss": 2.314 + 0.01 * seed, "equal_step_loss": 2.402 + 0.01 * seed}
        run = replace(run, **lost)
    if not steps:
        return run
    return replace(
        run,
        standard_steps=planted_steps(blocks=blocks, low=6e-5, high=4.1e-4),
        equal_step_steps=planted_steps(blocks=blocks, low=tau, high=tau, asked=tau),
    )


def planted_control(
    *,
    blocks=30,
    seeds=(0, 1, 2),
    steepness=0.35,
    equal=0.3,
    steps=True,
    losses=True,
    reason=None,
    notes=(),
    command=PROVENANCE.command,
    **options,
):
    """A control of `seeds`; `equal` 0.0 makes an artefact of it."""
    shape = {"blocks": blocks, "steepness": steepness, "equal": equal}
    made = {"steps": steps, "losses": losses, **options}
    runs = [planted_run(seed, **shape, **made) for seed in seeds]
    data = DataInfo("reviews.csv", "7d" * 32, 1920, 52_130, "causal-lm")
    provenance = replace(PROVENANCE, command=command)
    control = judge(runs, provenance=provenance, data=data, notes=notes)
    return control if reason is None else replace(control, reason=reason)


# --- Audits -----------------------------------------------------------------------------------


def planted_module(index, name, *, stack, dead, rank=8):
    """A module whose update is larger the deeper its block is."""
    size = 0.0 if dead else 0.002 * (1 + index)
    used = 0 if dead else min(1 + index % 5, rank)
    update = Spectrum(size, 1.4 * size, 0.0 if dead else 1.96, float(used), used, used, used)
    return ModuleAudit(
        name=f"{stack}.{index}.{name}",
        stack=stack,
        index=index,
        rank=rank,
        parameters=9216,
        dead=dead,
        update=update,
        base_spectral_norm=2.0,
        base_frobenius_norm=20.0,
        dominance=size / 2.0,
        relative_norm=1.4 * size / 20.0,
        output_change=2.1 * size / 20.0,
    )


def planted_block(index, inside, *, stack, carded):
    """What `inside` come to."""
    norm = float(np.linalg.norm([m.update.frobenius_norm for m in inside]))
    return BlockAudit(
        stack=stack,
        index=index,
        modules=len(inside),
        dead=sum(m.dead for m in inside),
        rank=sum(m.rank for m in inside),
        parameters=sum(m.parameters for m in inside),
        frobenius_norm=norm,
        energy_rank_90=sum(m.update.energy_rank_90 for m in inside),
        wasted_share=0.25,
        relative_norm=norm / (20.0 * len(inside) ** 0.5),
        dominance=max(m.dominance for m in inside),
        output_change=max(m.output_change for m in inside),
        carded=carded,
    )


def planted_audit(
    *,
    blocks=30,
    on=None,
    dead=(),
    card=(),
    names=("q_proj", "v_proj"),
    stack="model.layers",
    **more,
):
    """An audit of an adapter on the blocks `on` (all), dead in `dead`; a card took `card`."""
    on = list(range(blocks)) if on is None else on
    by_block = {i: [planted_module(i, n, stack=stack, dead=i in dead) for n in names] for i in on}
    modules = tuple(m for inside in by_block.values() for m in inside)
    placed = [PlacedBlock(stack, i) for i in card]
    beside = CardPlacement(
        data="reviews.csv",
        objective="causal-lm",
        policy="uniform",
        blocks=tuple(placed),
        shared=len(set(card) & set(on)),
        missed=tuple(b for b in placed if b.index not in on),
        elsewhere=tuple(PlacedBlock(stack, i) for i in on if i not in card),
        norm_share=0.45,
        spearman=0.52,
        step_ratio=0.74,
        adapter_step_ratio=1.0,
    )
    made = Audit(
        kinds=("LORA",),
        modules=modules,
        blocks=tuple(
            planted_block(i, inside, stack=stack, carded=i in card if card else None)
            for i, inside in by_block.items()
        ),
        parameters=sum(m.parameters for m in modules),
        dead=tuple(m.name for m in modules if m.dead),
        stable_rank=1.96,
        effective_rank=3.0,
        energy_rank_90=3.0,
        utilisation=0.245,
        enough_rank=5,
        wasted_share=0.25,
        frobenius_norm=0.31,
        relative_norm=0.0023,
        depth_agreement=0.87,
        card=beside if card else None,
    )
    return replace(made, **more)
