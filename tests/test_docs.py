"""README and docs/ say what is true: commands, settings, paths, error texts and the tree exist; .github holds valid YAML."""

import ast
import re
import shlex
import sys
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from stj.cli import main
from stj.cli.words import split_settings
from stj.config import Config, ModelConfig
from stj.config_loader import load, load_eval, load_model, load_use
from stj.evals.benchmarks import BENCHMARK_GROUPS, BENCHMARKS
from stj.package_files import conf_path, names_conf
from stj.rubrics import library, rubric
from stj.use_config import UseConfig

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "docs" / "_ext")]

import reading_results  # noqa: E402
import settings  # noqa: E402  (docs/ and docs/_ext are no packages)
from repository_links import anchors, broken_links  # noqa: E402

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "cluster/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
BLOCK = re.compile(r"^```(?:bash|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(stj [a-z][^`\n]*)`")
A_PATH = re.compile(r"(?<![\w/.:-])((?:stj|conf|tests|cluster|benchmarks|requirements|docs)/[\w./-]*\w/?)")
OWN_PROMPT = "judge.yaml"
"""The name of the page's example of a prompt in its commands."""
PLACEHOLDERS = {"MODEL", "MODEL_1", "MODEL_2", "MODEL_3", "RUN", "DIR", "FILE"}
"""Words of command lines that readers replace with their own."""
GENERATED = ("docs/_build",)
"""Paths that a command makes."""
WITH_SETTINGS = {"doctor", "run", "iterate", "plan", "status", "eval", "judge", "serve", "calibrate"}
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Every command line of the pages that runs stj, with its page, in words."""
    for page in PAGES:
        text = page.read_text()
        lines = [line for block in BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]
        for line in [*lines, *INLINE.findall(text)]:
            command = line.removeprefix("$ ").strip()
            command = command.partition(" -- ")[2].lstrip() if command.startswith("ray job submit") else command
            if command.startswith("stj "):
                yield page.name, shlex.split(command, comments=True)[1:]


COMMANDS = [(f"{page}: {' '.join(words)}", words) for page, words in command_lines()]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 900


def test_the_pages_have_commands_to_check() -> None:
    assert {words[0] for _, words in COMMANDS} >= {"run", "iterate", "status", "show", "plan", "eval", "judge", "serve", "mini"}


@pytest.fixture(scope="module")
def helps() -> dict[str, str]:
    """Help texts by verb, as they are asked for."""
    return {}


def help_of(verb: str, helps: dict[str, str], capsys: pytest.CaptureFixture[str]) -> str:
    """The help of a verb; fails for a verb that does not exist."""
    if verb not in helps:
        try:
            code = main([verb, "--help"])
        except SystemExit as end:
            code = end.code or 0
        assert code == 0, f"no such verb: stj {verb}"
        helps[verb] = ANSI.sub("", capsys.readouterr().out)
    return helps[verb]


@pytest.mark.slow
@pytest.mark.parametrize(("where", "words"), COMMANDS, ids=[where for where, _ in COMMANDS])
def test_commands_have_real_verbs_flags_and_settings(
    where: str,
    words: list[str],
    helps: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    prompt = re.search(r"^```yaml\n(system: .*?)^```", (ROOT / "docs/judging.md").read_text(), re.MULTILINE | re.DOTALL)
    assert prompt
    Path(OWN_PROMPT).write_text(prompt[1])
    verb, *rest = words
    if verb.startswith("--"):
        assert verb in {"--install-completion", "--version", "--help"}
        return
    text = help_of(verb, helps, capsys)
    for flag in (word for word in rest if word.startswith("--") and word != "--help"):
        assert flag in text, f"stj {verb} has no {flag}"
    if verb in WITH_SETTINGS:
        check_settings(verb, rest)


def check_settings(verb: str, words: list[str]) -> None:
    """Raises ConfigError for a file or setting that does not exist; fails for a benchmark that does not."""
    others, settings = split_settings(words)
    settings = [word for word in settings if word.partition("=")[0] not in PLACEHOLDERS]
    named = [word for word in others if names_conf(word) and word != OWN_PROMPT]
    if verb in {"run", "iterate", "plan"}:
        assert named == [word for word in others if not word.startswith("-") and word.partition(".")[0] not in PLACEHOLDERS]
    files = [str(ROOT / conf_path(word)) for word in named if word.partition(".")[0] not in PLACEHOLDERS]
    for model in [file for file in files if Path(file).parent.name == "models"]:
        load_model(model, ModelConfig())
        files.remove(model)
    if verb in {"judge", "serve", "calibrate"}:
        load_use(files, ["model=M", *settings])
        return
    (load_eval if verb in {"eval", "attack"} else load)(files, settings)
    if verb == "eval":
        names = {word.partition(":")[0] for word in words[1:] if "=" not in word and not word.endswith(".yaml")}
        assert names <= {*BENCHMARKS, *BENCHMARK_GROUPS}


def test_every_path_that_the_pages_name_exists() -> None:
    missing = [
        f"{page.name}: {path}"
        for page in PAGES
        for path in A_PATH.findall(page.read_text())
        if not path.startswith(GENERATED) and not (ROOT / path).exists()
    ]
    assert not missing


@pytest.mark.slow
def test_every_page_that_help_names_exists() -> None:
    named_pages = {page for text in texts_of_the_code() for page in re.findall(r"docs/[\w-]+\.md", text)}
    assert not [page for page in named_pages if not (ROOT / page).exists()]


def test_every_link_leads_somewhere() -> None:
    assert not list(broken_links())


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "start.md").write_text("# Start\n\n## First steps\n")
    (tmp_path / "README.md").write_text(
        "[a](docs/start.md#first-steps) [b](docs/start.md#last-steps) [c](gone.py) [d](../x) [e](https://example.com)\n"
        "```\n[f](in/code)\n```\n"
    )
    (tmp_path.parent / "x").write_text("")
    assert list(broken_links(tmp_path)) == [
        "README.md: the link docs/start.md#last-steps leads to no heading",
        "README.md: the link gone.py leads to no file",
        "README.md: the link ../x leads out of the repository",
    ]


def test_anchors_are_those_of_github() -> None:
    assert anchors("# A\n\n## Rooms and `arrows`\n\n```\n# no heading\n```\n### What's next?") == {
        "a",
        "rooms-and-arrows",
        "whats-next",
    }


def test_the_readme_s_tree_has_the_rooms_of_the_package() -> None:
    tree = re.search(r"^stj/\n((?: .*\n)+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert tree
    shown = {line.split()[0] for line in tree[1].splitlines()}
    rooms = {f"{folder.name}/" for folder in (ROOT / "stj").iterdir() if any(folder.glob("*.py"))}
    assert {name for name in shown if name.endswith("/")} == rooms
    assert all((ROOT / "stj" / name).exists() for name in shown)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["troubleshooting.md", "clusters.md"])
def test_tables_of_failures_quote_the_code(page: str) -> None:
    """A quoted error text, split where a value stands ("…"), is found in one string of the code, in order.

    A cell begins with one; others in it hold a "…", or they name something else, such as a metric.
    """
    texts = texts_of_the_code()
    rows = re.findall(r"^\| [^|]+ \| ([^|]+) \|", (ROOT / "docs" / page).read_text(), re.MULTILINE)
    cells = [re.findall(r"`([^`]+)`", cell) for cell in rows if cell.startswith("`")]
    quotes = [quote for first, *others in cells for quote in (first, *(other for other in others if "…" in other))]
    assert len(quotes) > 20
    unknown = [quote for quote in quotes if not any(holds(text, quote.split("…")) for text in texts)]
    assert not unknown, f"docs/{page} quotes texts that the code does not have"


@cache
def texts_of_the_code() -> list[str]:
    """The strings of the package."""
    return list(strings_of_the_code())


def strings_of_the_code() -> Iterator[str]:
    """The strings of the package; what an f-string fills in is a NUL."""
    for file in (ROOT / "stj").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
                yield "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def holds(text: str, pieces: list[str]) -> bool:
    """Whether the pieces come in this text, one after the other."""
    at = 0
    for piece in pieces:
        at = text.find(piece, at)
        if at < 0:
            return False
        at += len(piece)
    return True


@cache
def settings_page() -> str:
    """The page as the docstrings make it now."""
    return settings.page()


@pytest.mark.slow
def test_the_settings_page_is_fresh() -> None:
    assert settings.PAGE.read_text() == settings_page(), f"docs/settings.md is not fresh: run `{settings.COMMAND}`"


@pytest.mark.slow
def test_the_settings_page_lists_values_and_not_names_of_python_types() -> None:
    types = re.findall(r"\*\* · (.+?) · default", settings_page())
    assert len(types) > 100
    assert not [words for words in types if re.search(r"\b[A-Z]\w+", re.sub(r"`.*?`|\bAny\b", "", words))]


def test_the_page_of_words_is_fresh() -> None:
    stale = f"docs/reading-results.md is not fresh: run `{reading_results.COMMAND}`"
    assert reading_results.PAGE.read_text() == reading_results.page(), stale


@pytest.mark.slow
def test_the_settings_page_has_every_setting_with_type_default_and_docstring() -> None:
    lines = list(settings.Reference("").lines(Config))
    at = lines.index('- <a id="judge-samples"></a>**`judge.samples`** · int · default `15`\\')
    assert lines[at + 1].startswith("  N: ")
    names = {line.split("**")[1].strip("`"): line for line in lines if line.startswith("- <a id=")}
    assert names["train.objective"].endswith('· `sft` or `dpo` or `rpo` or `sft_then_dpo` · default `"sft"`\\')
    assert names["train.preference.beta"].endswith("· float · default `0.1`\\")
    headings = {line.strip("# \n") for line in lines if line.startswith("### ")}
    groups = {name for name, value in vars(Config()).items() if hasattr(value, "__dataclass_fields__")}
    assert headings == groups | {"preferences"}  # a list of groups
    assert names["preferences[].margin"].startswith('- <a id="preferences-margin"></a>')
    use = list(settings.Reference("use-").lines(UseConfig))
    assert '- <a id="use-vote-votes"></a>**`vote.votes`** · int · default `1`\\' in use


@pytest.mark.slow
def test_the_settings_page_says_no_sentence_twice_in_a_row() -> None:
    paragraphs = [line for line in settings_page().splitlines() if line and not line.startswith(("-", "#"))]
    twice = [text for text in paragraphs for first, second in pairwise(text.split(". ")) if first == second.rstrip(".")]
    assert not twice


@pytest.mark.slow
def test_the_settings_page_is_the_same_for_every_installed_vllm() -> None:
    assert "`enforce_eager: true`" not in settings_page().partition("- **`engine`**")[2]


def test_the_table_of_rubrics_says_what_their_files_say() -> None:
    rows = re.findall(r"^\| \[.*$", (ROOT / "docs/rubrics.md").read_text(), re.MULTILINE)
    values = [rubric(name, "rubric") for name in library()]
    files = [f"[{value.name}](../stj/rubrics/library/{value.name}.yaml)" for value in values]
    cells = [(file, value.scale, ", ".join(value.inputs), value.criterion) for file, value in zip(files, values, strict=True)]
    assert sorted(rows) == sorted(f"| {' | '.join(row)} |" for row in cells)


def test_the_example_of_a_rubric_can_be_read(tmp_path: Path) -> None:
    example = re.search(r"^```yaml\n(.*?)^```", (ROOT / "docs/rubrics.md").read_text(), re.MULTILINE | re.DOTALL)
    assert example
    (tmp_path / "terms.yaml").write_text(example[1])
    assert rubric(str(tmp_path / "terms.yaml"), "rubric").inputs == ("instruction", "context", "response")


@pytest.mark.parametrize("file", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda file: file.name)
def test_the_yaml_of_github_can_be_read(file: Path) -> None:
    assert isinstance(yaml.safe_load(file.read_text()), dict)


def test_ci_runs_what_a_developer_runs() -> None:
    ci = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step for job in ci["jobs"].values() for step in job["steps"]]
    assert ".ci/run" in {step.get("run") for step in steps}
    assert all(re.fullmatch(r"[\w/-]+@v\d+", step["uses"]) for step in steps if "uses" in step)
    assert all(job["timeout-minutes"] for job in ci["jobs"].values())
    assert ci["jobs"]["fast"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert "secrets." not in (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    commands = re.findall(r"^make (\w+)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert commands == ["check", "demo", "test"]
