"""`stj export` of a model: what goes along, what the card says, what is refused, and what a kill leaves."""

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants
from hypothesis import given
from hypothesis import strategies as st

from stj.cli import main
from stj.config import ModelConfig
from stj.loop.heldout_grades import GradeFigures, HeldoutGrades
from stj.loop.run_folder import RunFolder
from stj.models.digests import refuse_damaged
from stj.models.fetch import local_model
from stj.models.removed import remove_weights
from stj.prompts import JUDGE_SYSTEM, JUDGE_USER, prompt
from stj.publishing.base_model import base_model
from stj.publishing.facts import Origin, judge_facts
from stj.publishing.hub import _cause
from stj.publishing.model_card import _PARSERS, model_card
from stj.storage.appearing import appearing
from stj.storage.folder import Folder
from stj.verdict import PAIR, PARSERS, parse
from tests.finished_run import SEED_MODEL, finished_run, write_pairs_file
from tests.publishing.hub_stand_in import TOKEN, Repository, StandIn, hub_stand_in

_NEVER = {"started.json", "removed.json", "recipe.json", "optim_states.pt"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two iterations with a benchmark. Tests only read it."""
    place = tmp_path_factory.mktemp("published")
    finished_run(place / "run", f"benchmarks=[{write_pairs_file(place / 'pairs.jsonl')}]")
    return place / "run"


def card_of(directory: Path) -> tuple[dict[str, object], str]:
    """The front matter and the text of a card."""
    head, text = (directory / "README.md").read_text(encoding="utf-8").removeprefix("---\n").split("---\n", 1)
    return yaml.safe_load(head), text


def programs(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)\n```", text, re.DOTALL)


def texts_of(program: str) -> dict[str, str]:
    """The texts that a program assigns."""
    assigned = (node for node in ast.parse(program).body if isinstance(node, ast.Assign))
    return {node.targets[0].id: ast.literal_eval(node.value) for node in assigned}  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_run_publishes_its_last_judge_with_the_files_that_engines_load(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = run / "iteration_2/checkpoints/step_00000100"
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / "optim_states.pt").touch()
    assert main(["export", str(run), str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}/out: M_2 of {run}, 8 files")
    names = {path.name for path in (tmp_path / "out").rglob("*")}
    assert names == {path.name for path in SEED_MODEL.iterdir()} - _NEVER | {"README.md", "manifest.json"}
    assert (tmp_path / "out/model.safetensors").read_bytes() == (run / "iteration_2/model/model.safetensors").read_bytes()
    assert local_model(ModelConfig(path=str(tmp_path / "out"))) == tmp_path / "out"  # which checks all hashes
    assert str(run) not in "".join(path.read_text(errors="replace") for path in (tmp_path / "out").iterdir())
    (tmp_path / "out/tokenizer_config.json").write_text("{}")
    with pytest.raises(Exception, match="damaged or was changed"):
        refuse_damaged(tmp_path / "out", "out", weights=True)


def test_the_card_has_the_figures_of_the_run(run: Path, tmp_path: Path) -> None:
    main(["export", str(run), str(tmp_path / "out")])
    metadata, text = card_of(tmp_path / "out")
    assert metadata == {
        "license": "unknown",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["llm-judge", "self-taught-evaluator", "stj"],
    }
    report = json.loads((run / "report.json").read_bytes())["iterations"]
    for judge, name in ((0, "M_0 (the base model)"), (2, "M_2 (this model)")):
        scores = report[judge]["heldout"]
        low, high = (f"{100 * end:.1f}" for end in scores["ci95"])
        assert f"| {name} | 20 | {100 * scores['accuracy']:.1f} [{low}, {high}] |" in text
    benchmark = report[2]["benchmarks"]["pairs"]["scores"]
    assert f"| pairs | 6 | 0 | {100 * benchmark['accuracy']:.1f} [" in text
    examples = report[1]["examples"]
    assert f"| synthetic pairs | how the pair was made | 12 | 11 | {examples} |" in text
    assert "13 instructions or given pairs, 12 selected, 12 pairs" in text
    assert "No label by people was used" in text
    assert "`seed_model`, a local model" in text
    assert "Licence: unknown" in text


def test_the_programs_of_the_card_load_the_model_and_ask_as_it_was_trained(run: Path, tmp_path: Path) -> None:
    main(["export", str(run), str(tmp_path / 'a "b"')])
    with_stj, with_vllm = programs(card_of(tmp_path / 'a "b"')[1])
    assert texts_of(with_stj) == {"MODEL": 'a "b"'}
    assert texts_of(with_vllm) == {"MODEL": 'a "b"', "SYSTEM": prompt(JUDGE_SYSTEM), "USER": prompt(JUDGE_USER)}
    for program in (with_stj, with_vllm):
        for node in ast.walk(ast.parse(program)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("stj"):
                assert all(hasattr(import_module(node.module), name.name) for name in node.names)


@given(st.lists(st.sampled_from(["[[A]]", "[[B]]", " ", "so", ".", "\n"]), max_size=8))
def test_a_parser_in_the_card_reads_what_the_run_reads(words: list[str]) -> None:
    text = "".join(words)
    for parser in PARSERS:
        namespace: dict[str, object] = {}
        exec(f"import re\n{_PARSERS[parser][1]}", namespace)
        assert namespace["verdict"](text) == parse(text, PAIR, parser), (parser, text)  # type: ignore[operator]


@pytest.mark.engine
@pytest.mark.parametrize("program", [0, 1])
def test_the_programs_of_the_card_run(run: Path, tmp_path: Path, program: int) -> None:
    main(["export", str(run), str(tmp_path / "out")])
    words = [sys.executable, "-c", programs(card_of(tmp_path / "out")[1])[program]]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"}
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"(^|\s)(A|B|tie|None)$", done.stdout, re.MULTILINE), done.stdout


def test_a_model_of_a_run_and_a_plain_model_are_published_too(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run / "iteration_1/model"), str(tmp_path / "m1")]) == 0
    assert "M_1 (this model)" in card_of(tmp_path / "m1")[1]
    assert "M_2 was right more often on the held-out pairs" in capsys.readouterr().err
    assert main(["export", "package://mini/seed_model", str(tmp_path / "plain")]) == 0
    text = card_of(tmp_path / "plain")[1]
    assert "Base model: unknown" in text
    assert "How it was made" not in text
    assert len(programs(text)) == 2
    for program in programs(text):
        compile(program, "card", "exec")


def test_what_was_exported_is_published_again_with_the_card_that_its_owner_edited(run: Path, tmp_path: Path) -> None:
    main(["export", str(run), str(tmp_path / "out")])
    readme = tmp_path / "out/README.md"
    readme.write_text(readme.read_text() + "\nMine: ask me first.\n")
    assert main(["export", str(tmp_path / "out"), str(tmp_path / "again")]) == 0
    text = card_of(tmp_path / "again")[1]
    assert "Mine: ask me first." in text
    assert [texts_of(program)["MODEL"] for program in programs(text)] == ["again", "again"]
    assert text.count("the path of this directory") == 2
    assert json.loads((tmp_path / "again/manifest.json").read_bytes())["key"]["judge"] == "M_2"


@pytest.mark.slow
def test_a_run_copied_without_its_sources_is_published_and_figures_of_other_weights_are_not(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    whole = RunFolder(Folder.at(copy))
    assert whole.measured(2) is not None
    other = finished_run(tmp_path / "other", "train.lr=0.1")
    shutil.rmtree(copy / "iteration_2/model")
    shutil.copytree(Path(other.folder.path) / "iteration_2/model", copy / "iteration_2/model")
    mixed = RunFolder(Folder.at(copy))
    assert mixed.measured(2) is None
    assert mixed.benchmarks(2) == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prepare", "words", "line"),
    [
        ("file", "{run} {tmp}/out", "holds 1 files (mine.txt): name a new directory"),
        ("", "{run} {run}/iteration_2/model/out", "lies in the model"),
        ("", "{run} s3://bucket/out", "directory of this machine"),
        ("", "{run} hub:noslash", "no id of the hub"),
        ("", "{run} hub:../x", "no id of the hub"),
        ("", "{tmp}/nothing {tmp}/out", "does not exist"),
        ("removed", "{tmp}/run {tmp}/out", "weights of all its models were removed, by hand"),
        ("damaged", "{tmp}/run {tmp}/out", "damaged or was changed"),
        ("no tokenizer", "{tmp}/plain {tmp}/out", "no tokenizer"),
        ("pickle", "{tmp}/plain {tmp}/out", "not safetensors"),
        ("adapter", "{tmp}/plain {tmp}/out", "which is not on the hub"),
    ],
)
def test_what_cannot_be_published_is_one_line_and_leaves_nothing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], prepare: str, words: str, line: str
) -> None:
    _prepare(prepare, run, tmp_path)
    held = sorted(tmp_path.iterdir())
    code = main(["export", *words.format(run=run, tmp=tmp_path).split()])
    error = capsys.readouterr().err
    assert code in (1, 2)
    assert line in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == held


def _prepare(what: str, run: Path, place: Path) -> None:
    if what == "file":
        (place / "out").mkdir()
        (place / "out/mine.txt").touch()
    if what in ("removed", "damaged"):
        shutil.copytree(run, place / "run")
        for judge in (1, 2) if what == "removed" else ():
            remove_weights(Folder.at(place / f"run/iteration_{judge}/model"), "by hand")
    if what == "damaged":
        file = place / "run/iteration_2/model/model.safetensors"
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    if what in ("no tokenizer", "pickle", "adapter"):
        shutil.copytree(SEED_MODEL, place / "plain")
    if what == "no tokenizer":
        for file in (place / "plain").glob("tokenizer*"):
            file.unlink()
    if what in ("pickle", "adapter"):
        (place / "plain/model.safetensors").rename(place / "plain/model.bin")
    if what == "adapter":
        (place / "plain/adapter_model.safetensors").write_bytes((SEED_MODEL / "model.safetensors").read_bytes())
        settings = {"peft_type": "LORA", "base_model_name_or_path": str(SEED_MODEL), "r": 8}
        (place / "plain/adapter_config.json").write_text(json.dumps(settings))


def test_a_judge_that_grades_is_asked_for_grades(run: Path) -> None:
    facts = replace(judge_facts(RunFolder(Folder.at(run)), 2), compares=False, grades=True)
    text = model_card("org/grader", facts, None, None).decode()
    assert "it grades a response to an instruction by a rubric" in text
    with_stj, with_vllm = programs(text)
    assert 'judge.grade("What is 2 + 2?", "It is 4.", rubric="helpfulness").score' in with_stj
    assert texts_of(with_vllm) == {"MODEL": "org/grader"}


def test_a_judge_that_compares_and_grades_is_asked_for_both(run: Path) -> None:
    text = model_card("org/both", replace(judge_facts(RunFolder(Folder.at(run)), 2), grades=True), None, None).decode()
    assert "It also learned grades" in text
    with_stj, _ = programs(text)
    assert [line.split("(")[1] for line in with_stj.splitlines() if "print(" in line] == ["judge.compare", "judge.grade"]


def test_figures_of_grades_and_hostile_names_are_cells_of_a_table(run: Path) -> None:
    facts = judge_facts(RunFolder(Folder.at(run)), 2)
    figures = GradeFigures(
        spearman=0.5, spearman_ci95=(0.1, 0.9), exact=None, exact_ci95=None, pearson=None, kendall=None, mean_absolute_error=1.0
    )
    grades = HeldoutGrades(
        responses=9, ungraded=0, sampled=figures, greedy=None, unparsed=0.0, truncated=0.0, constant=None, length=None
    )
    hostile = Origin(name="a | b\n# c <script>", by="people", pairs=3, kept=None, learned=2, policy="x | y")
    made = replace(facts, heldout={}, benchmarks=(), heldout_grades={"M_2": grades}, origins=(hostile,), keep="random")
    text = model_card("org/grader", made, None, None).decode()
    assert "| M_2 (this model) | 9 | – – | 0.500 [0.10, 0.90] | 0.0 |" in text
    assert r"| a \| b\\n\# c \<script\>, answered by x \| y | people | 3 | – | 2 |" in text
    assert "2 of the" in text
    assert "this is a control, not a good judge" in text
    assert "On benchmarks" not in text


@pytest.mark.slow
def test_the_programs_of_an_adapter_load_it_over_its_base(run: Path, tmp_path: Path, hub: StandIn) -> None:
    """The base is on the hub, so the adapter can be published."""
    hub.repositories["models/org/base"] = Repository(files={p.name: p.read_bytes() for p in SEED_MODEL.iterdir()})
    shutil.copytree(SEED_MODEL, tmp_path / "adapter")
    (tmp_path / "adapter/model.safetensors").rename(tmp_path / "adapter/adapter_model.safetensors")
    (tmp_path / "adapter/config.json").unlink()
    settings = {"peft_type": "LORA", "base_model_name_or_path": "org/base", "r": 9}
    (tmp_path / "adapter/adapter_config.json").write_text(json.dumps(settings))
    assert main(["export", str(tmp_path / "adapter"), str(tmp_path / "out")]) == 0
    metadata, text = card_of(tmp_path / "out")
    assert (metadata["library_name"], metadata["base_model"], metadata["base_model_relation"]) == (
        "peft",
        "org/base",
        "adapter",
    )
    with_vllm = programs(text)[1]
    assert 'LLM("org/base", enable_lora=True, max_lora_rank=16)' in with_vllm
    compile(with_vllm, "card", "exec")


@pytest.mark.slow
def test_two_exports_to_one_place_do_not_mix(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with appearing(tmp_path / "out", "exporting") as directory:
        (directory / "mine").touch()
        assert main(["export", str(run), str(tmp_path / "out")]) == 2
        assert "another process is writing there" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


@pytest.mark.slow
def test_a_killed_export_leaves_nothing_that_passes_for_a_model_and_the_next_one_clears_it(run: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-c", _STOPS_BEFORE_THE_CARD, str(run), str(tmp_path / "out")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "filled\n"
        os.kill(process.pid, signal.SIGKILL)
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == [".out.exporting"]
    assert main(["export", str(run), str(tmp_path / "out")]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


_STOPS_BEFORE_THE_CARD = """
import sys, time
from stj.publishing import export
write = export._write_manifest
def stop(*args):
    write(*args)
    print("filled", flush=True)
    time.sleep(600)
export._write_manifest = stop
export.export_model(sys.argv[1], sys.argv[2], print)
"""


def test_too_small_a_disk_is_refused_before_anything_is_written(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    assert main(["export", str(run), str(tmp_path / "out")]) == 1
    assert "must be written there" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("files", "licence", "words"),
    [
        ({"README.md": "---\nlicense: apache-2.0\n---\n# x"}, {"license": "apache-2.0"}, "apache-2.0"),
        (
            {"README.md": "---\nlicense: other\nlicense_name: my\nlicense_link: https://x.org/l\n---\n"},
            {"license": "other", "license_name": "my", "license_link": "https://x.org/l"},
            "[my](https://x.org/l)",
        ),
        ({"README.md": "---\nlicense: [a\n---\n", "config.json": '{"license": "mit"}'}, {"license": "mit"}, "mit"),
        ({"README.md": "no front matter\n---\nlicense: mit\n---\n"}, {}, ""),
        ({"README.md": "---\nlicense: unknown\n---\n", "config.json": "[]"}, {}, ""),
        ({}, {}, ""),
    ],
)
def test_the_licence_is_what_the_files_of_the_base_say(
    tmp_path: Path, files: dict[str, str], licence: dict[str, str], words: str
) -> None:
    (tmp_path / "LICENSE.txt").write_text("terms")
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    base = base_model(str(tmp_path))
    assert base
    assert (base.licence, base.licence_words, base.on_hub) == (licence, words, False)
    assert [path.name for path in base.legal_files] == ["LICENSE.txt"]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """The hub for this process, as HF_ENDPOINT makes it one for another."""
    with hub_stand_in() as stand_in:
        for name, value in stand_in.environment(str(tmp_path / "cache")).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(constants, "ENDPOINT", stand_in.endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", stand_in.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache/hub"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield stand_in


def export(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """The exit code, the result and the messages of an export; none holds the token."""
    code = main(["export", *words])
    out, error = capsys.readouterr()
    assert TOKEN not in out + error
    return code, out, error


@pytest.mark.slow
def test_a_repository_of_the_hub_gets_all_files_in_one_commit(run: Path, tmp_path: Path, hub: StandIn) -> None:
    """Another process, to which HF_ENDPOINT alone names the hub."""
    words = (sys.executable, "-m", "stj.cli", "export", str(run), "hub:org/judge")
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout
    assert done.stderr == ""
    assert done.stdout.startswith(f"{hub.endpoint}/org/judge: M_2 of {run}")
    repository = hub.repositories["models/org/judge"]
    assert len(repository.commits) == 2
    assert (
        repository.files.keys() - {".gitattributes", "README.md", "manifest.json"}
        == {path.name for path in SEED_MODEL.iterdir()} - _NEVER
    )
    assert repository.files["model.safetensors"] == (run / "iteration_2/model/model.safetensors").read_bytes()
    assert b'MODEL = "org/judge"' in repository.files["README.md"]
    fetched = local_model(ModelConfig(path="org/judge"))  # which checks all hashes
    assert (fetched / "model.safetensors").read_bytes() == repository.files["model.safetensors"]


def test_a_repository_that_holds_files_is_left_alone(run: Path, hub: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    hub.repositories["models/org/judge"] = Repository(files={".gitattributes": b"", "mine.txt": b"mine"})
    code, _, error = export(capsys, str(run), "hub:org/judge")
    assert (code, len(hub.repositories["models/org/judge"].commits)) == (2, 1)
    assert "holds 1 files (mine.txt), and nothing is overwritten" in error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("refuse", "corrupt", "line"),
    [
        ({"/lfs-store/": 400}, False, "nothing was committed"),
        ({"/commit/": 403}, False, "log in with `hf auth login`"),
        ({"/api/models/org/judge": 401}, False, "log in with `hf auth login`"),
        ({}, True, "nothing was committed"),
    ],
)
def test_a_hub_that_refuses_is_one_line_without_the_token_and_has_no_half_model(
    run: Path, hub: StandIn, capsys: pytest.CaptureFixture[str], refuse: dict[str, int], corrupt: bool, line: str
) -> None:
    hub.refuse, hub.corrupt = refuse, corrupt
    code, _, error = export(capsys, str(run), "hub:org/judge")
    assert code == 1
    assert line in error
    assert error.count("\n") == 1
    assert "models/org/judge" not in hub.repositories or len(hub.repositories["models/org/judge"].commits) == 1
    hub.refuse, hub.corrupt = {}, False
    assert export(capsys, str(run), "hub:org/judge")[0] == 0


def test_an_error_shows_neither_the_token_nor_a_signed_address(hub: StandIn) -> None:
    error = RuntimeError(f"PUT https://store/x?X-Amz-Signature=abc with {TOKEN} failed")
    assert _cause(error) == "PUT https://store/x?... with *** failed"


def test_without_a_token_the_hub_is_not_asked(
    run: Path, hub: StandIn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nowhere")
    code, _, error = export(capsys, str(run), "hub:org/judge")
    assert code == 2
    assert "there is no token for the hub" in error
    assert hub.requests == []


@pytest.mark.slow
def test_the_licence_of_a_base_on_the_hub_is_read_there(
    tmp_path: Path, run: Path, hub: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    base = {"README.md": b"---\nlicense: apache-2.0\n---\n", "LICENSE": b"terms", "model.safetensors": b"large"}
    hub.repositories["models/org/base"] = Repository(files=base)
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    _name_seed(copy, "org/base")
    code, _, error = export(capsys, str(copy), str(tmp_path / "out"))
    assert code == 0, error
    metadata, text = card_of(tmp_path / "out")
    assert metadata["license"] == "apache-2.0"
    assert (metadata["base_model"], metadata["base_model_relation"]) == ("org/base", "finetune")
    assert "[org/base](https://huggingface.co/org/base)" in text
    assert (tmp_path / "out/LICENSE").read_text() == "terms"
    assert not any("model.safetensors" in request for request in hub.requests)


def _name_seed(run: Path, seed: str) -> None:
    """Has the run say that it began from another model."""
    from stj.storage.sealed import read_sealed, write_sealed

    folder = Folder.at(run / "iteration_2/model")
    manifest = read_sealed(folder, "manifest.json", "")
    manifest["model"]["seed"] = seed
    write_sealed(folder, "manifest.json", manifest)
