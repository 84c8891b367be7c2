"""The check before a run: models, prompts, inputs, disk and GPUs, before Ray or any engine starts and before anything is paid.

`stj doctor` shows every finding. `stj run` and `stj iterate` begin with the same ones, and stop if one is a refusal.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial

from stj.config import Config, ModelConfig, check_run_root
from stj.curation import EMBEDDING_MODEL
from stj.errors import ConfigError, StjError
from stj.findings import Finding, joined, look
from stj.loop.inputs import input_findings
from stj.loop.kinds import TrainingPhase
from stj.loop.phase import Phase
from stj.loop.phases import Run
from stj.loop.removal import weights_in, without_weights
from stj.loop.repair import phases_to_make
from stj.machine.gpus import gpus_here
from stj.models.check import ModelUse
from stj.models.shapes import Shape, shape_of
from stj.models.tokenizer import load_tokenizer
from stj.passes.check import gpu_findings, model_findings, on_this_machine
from stj.plan.context import (
    LongestRequest,
    check_examples,
    generator_requests,
    given_pairs_request,
    judge_requests,
    opinion_requests,
    policy_requests,
)
from stj.plan.disk import DiskPlan, disk_plan
from stj.plan.gpus import check_memory
from stj.plan.room_here import machine_room
from stj.plan.training import stages
from stj.storage.folder import Folder
from stj.storage.probe import probe
from stj.text import data_size


def diagnose(config: Config) -> list[Finding]:
    """Every finding on what is left to do of a run."""
    return diagnose_here(config) + _cluster_findings(config)


def diagnose_here(config: Config) -> list[Finding]:
    """The findings that need no cluster."""
    try:
        run = Run(config)
        missing = phases_to_make(run.phases, overwrite=False)
        lost = without_weights(run, missing)
    except (StjError, OSError):
        return _diagnose_without_run(config)
    findings = [Finding(subject=name, words=why) for name, why in lost.items()]
    return examine(config, [phase for phase in missing if phase.name not in lost]) + findings


def trainings_among(phases: Iterable[Phase]) -> int:
    """The number of phases that train."""
    return sum(isinstance(phase, TrainingPhase) for phase in phases)


def examine(config: Config, to_make: Sequence[Phase] | None) -> list[Finding]:
    """Every finding on a run that still makes these phases; None if it cannot be planned: then it may make all."""
    warm_ups = config.iterations if config.train.objective == "sft_then_dpo" else 0
    trainings = config.iterations + warm_ups if to_make is None else trainings_among(to_make)
    asked = None if to_make is None else [phase.engine_model for phase in to_make]
    uses = [use for use in _uses(config, trainings) if asked is None or not use.model.endpoint or use.model in asked]
    findings = [finding for use in uses for finding in _role_findings(use, config)]
    findings += input_findings(config)
    findings.append(look("run_root", partial(_check_run_root, config, trainings)))
    if on_this_machine(config.ray) and all(finding.ok for finding in findings):
        findings.append(look("disk", partial(_check_disks, config, asked, trainings)))
    return findings + _gpu_findings(config, trains=trainings > 0)


def _diagnose_without_run(config: Config) -> list[Finding]:
    """The findings of a run that cannot be planned; its models or sources are bad, or its directory holds another run."""
    findings = examine(config, None)
    if all(finding.ok for finding in findings):
        findings.append(look("run", partial(_plan_again, config)))
    return findings


def _plan_again(config: Config) -> str:
    run = Run(config)
    without_weights(run, phases_to_make(run.phases, overwrite=False))
    return "its phases can be planned"


def _uses(config: Config, trainings: int) -> Iterator[ModelUse]:
    """The models of the run, each once: roles with the same settings share one."""
    roles: dict[ModelConfig, list[str]] = {}
    for setting, model in config.named_models.items():
        if setting == EMBEDDING_MODEL:  # its engine writes no text, so it is no engine of another role
            yield ModelUse(roles=(setting,), model=model, pooled=True, limited=False)
        elif setting == "models.seed" or not config.examples.labelled_alone:  # else nothing is generated or judged
            roles.setdefault(model, []).append(setting)
    for model, names in roles.items():
        yield ModelUse(
            roles=tuple(names),
            model=model,
            trained=bool(trainings) and "models.seed" in names,
            max_seq_len=config.train.max_seq_len,
        )


def _role_findings(use: ModelUse, config: Config) -> list[Finding]:
    """The findings on a model in all of its roles."""
    findings = model_findings(use, list(_requests(use, config)), config.ray)
    if use.trained and all(finding.ok for finding in findings):
        findings += joined(use.subject, [look("models.seed", partial(_check_training, use, config))])
    return findings


def _requests(use: ModelUse, config: Config) -> Iterator[LongestRequest]:
    """What a model is asked in all of its roles. The seed is asked as the judges that it becomes."""
    if "models.generator" in use.roles:
        yield from generator_requests(config)
    elif any(setting.startswith("preferences[") for setting in use.roles):
        yield from policy_requests(config)
    seed = "models.seed" in use.roles
    judges_training = config.iterations > 1 or config.train.preference.source == "warm_up"
    if "models.first_judge" in use.roles or (seed and judges_training):
        yield from judge_requests(config)
    follows = "models.first_judge" in use.roles or (seed and judges_training)
    named = (member for member in config.judge.panel if member.model == use.model or (follows and member.model is None))
    yield from opinion_requests(config, list(named))
    if seed and (config.heldout.measures or config.benchmarks or config.train.selection.path):
        yield given_pairs_request()


def _check_training(use: ModelUse, config: Config) -> str:
    from stj.train.check import check_model  # torch and transformers take seconds, and a finished run needs neither

    directory = check_model(use.model, config.train.lora)
    return check_examples(config, load_tokenizer(directory, use.model.path))


def _check_run_root(config: Config, trainings: int) -> str:
    check_run_root(config.run_root)
    free = probe(config.run_root, "run_root")
    shape = shape_of(config.models.seed)
    if shape is None:
        return f"{config.run_root}: can be written; the seed's shape is unknown, so the space that the run takes is too"
    needed = still_written(config, shape, trainings)
    if free is not None and needed.total > free:
        raise ConfigError(
            f"run_root={config.run_root}: {data_size(free)} are free, and the run writes up to {needed.words()}: free space "
            "there, name a larger disk, or lower iterations"
        )
    room = "" if free is None else f"; {data_size(free)} are free"
    return f"{config.run_root}: can be written; the run writes up to {needed.words()}{room}"


def still_written(config: Config, shape: Shape, trainings: int) -> DiskPlan:
    """What the rest of a run writes to run_root, beside the models and checkpoints that lie there already."""
    left, whole = disk_plan(shape, trainings, config), disk_plan(shape, config.iterations * len(stages(config.train)), config)
    models, checkpoints = weights_in(Folder.at(config.run_root).local)
    return DiskPlan(
        models=max(0, min(left.models, whole.models - models)),
        checkpoints=max(0, min(left.checkpoints, whole.checkpoints - checkpoints)),
    )


def _check_disks(config: Config, asked: Collection[ModelConfig | None] | None, trainings: int) -> str:
    """The disks of this machine: what is fetched, scratch files, and run_root may all lie on the same one."""
    shape, on_disk = shape_of(config.models.seed), Folder.at(config.run_root).local
    in_run_root = still_written(config, shape, trainings).total if shape and on_disk else 0
    room = machine_room(config, engine_paths(asked), trainings, in_run_root=in_run_root)
    if room is None:
        return "the seed's shape is unknown, so the room that the run takes is too"
    if fault := room.fault():
        raise ConfigError(f"disk: {fault}")
    return room.words()


def engine_paths(models: Iterable[ModelConfig | None] | None) -> set[str] | None:
    """The paths of the models whose engines start; None if all may."""
    return None if models is None else {model.path for model in models if model}


def _cluster_findings(config: Config) -> list[Finding]:
    """The findings on the cluster that the config names; none if the run stays on this machine."""
    if on_this_machine(config.ray):
        return []
    from stj.passes.cluster import cluster_findings  # ray takes seconds to import
    from stj.passes.session import engine_demand, training_demand

    demands = [engine_demand(config.engine, list(config.named_models.values())), training_demand(config.train)]
    linked = config.train.device == "gpu" and config.train.workers > 1
    return cluster_findings(config.ray, demands, config.train.place if linked else None, config.run_root)


def _gpu_findings(config: Config, *, trains: bool) -> list[Finding]:
    """The findings on this machine's GPUs, if the run uses them."""
    engine, train = config.engine, config.train
    needs = {"train.workers": train.workers} if trains and train.device == "gpu" else {}
    if engine.device == "gpu":
        needs |= {setting: model.gpus * engine.min_replicas for setting, model in config.named_models.items()}
    findings = gpu_findings(needs, config.ray)
    gpus = gpus_here() if findings and findings[0].ok and engine.device == "gpu" else None
    return findings + ([look("GPU memory", partial(check_memory, gpus, config, trains=trains))] if gpus else [])
