"""The card of a published model: README.md with the hub's YAML in front, and programs that load the model."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from stj.engine.settings import adapter_settings
from stj.models.adapter import Adapter
from stj.prompts import JUDGE_SYSTEM, JUDGE_USER, prompt
from stj.publishing.base_model import BaseModel
from stj.publishing.card import render
from stj.publishing.facts import JudgeFacts
from stj.thoughts import CLOSE
from stj.verdict import Parser

_NAMED = re.compile(r"^MODEL = .*$", re.MULTILINE)
_PARSERS: dict[Parser, tuple[str, str]] = {
    "distinct": (
        "the one distinct `[[A]]` or `[[B]]` in the text, and none if both are there",
        '''\
def verdict(text):
    """A or B, whichever is the only tag; None for both or neither."""
    tags = set(re.findall(r"\\[\\[([AB])\\]\\]", text))
    return tags.pop() if len(tags) == 1 else None''',
    ),
    "strict": (
        "the one `[[A]]` or `[[B]]` of the text, at its end",
        '''\
def verdict(text):
    """A or B, whichever is the only tag and ends the text; None otherwise."""
    tags = set(re.findall(r"\\[\\[([AB])\\]\\]", text))
    return tags.pop() if len(tags) == 1 and text.rstrip(" \\n.*").endswith("]]") else None''',
    ),
    "paper": (
        "`[[A]]` if it is anywhere in the text, else `[[B]]`",
        '''\
def verdict(text):
    """A if [[A]] is anywhere in the text, else B if [[B]] is; None for neither."""
    return "A" if "[[A]]" in text else "B" if "[[B]]" in text else None''',
    ),
}
"""What each parser reads, in words and as a few lines of Python. `stj` also reads escaped and full-width tags."""


def model_card(
    name: str, facts: JudgeFacts | None, base: BaseModel | None, adapter: Adapter | None, merged: Sequence[str] = ()
) -> bytes:
    """The content of README.md; `name` is what the model is called where it is published, `merged` its parents."""
    learned = facts.origins if facts else ()
    parser: Parser = facts.parser if facts else "distinct"
    return render(
        "model_card.md.jinja",
        metadata=_metadata(base, adapter, bool(merged)),
        title=name.rpartition("/")[2],
        facts=facts,
        lora=facts.train.get("lora") if facts else None,
        base=base,
        adapter=adapter,
        merged=merged,
        human=sum(origin.learned for origin in learned if origin.by == "people"),
        unknown_labels=any(origin.by.startswith("a file") for origin in learned),
        name_of=lambda judge: " (the base model)" if judge == "M_0" else " (this model)",
        parser_words=_PARSERS[parser][0],
        stj_code=_stj_code(name, facts),
        vllm_code=_vllm_code(name, facts, adapter, parser),
    )


def renamed(card: bytes, name: str) -> bytes:
    """A card for a model that is published again under another name: its programs load that one."""
    return _NAMED.sub(lambda _: _model_line(name), card.decode(errors="replace")).encode()


def _metadata(base: BaseModel | None, adapter: Adapter | None, merged: bool) -> str:
    licence: Mapping[str, str] = base.licence if base else {}
    metadata: dict[str, Any] = {
        "license": "unknown",
        **licence,
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["llm-judge", "self-taught-evaluator", "stj"],
    }
    if base and base.on_hub:
        relation = "adapter" if adapter else "merge" if merged else "finetune"
        metadata |= {"base_model": base.name, "base_model_relation": relation}
    return yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)


def _model_line(name: str) -> str:
    where = "its id on the hub, or the path of a copy" if "/" in name else "the path of this directory, or an id on the hub"
    return f"MODEL = {json.dumps(name, ensure_ascii=False)}  # {where}"


def _stj_code(name: str, facts: JudgeFacts | None) -> str:
    options = f', parser="{facts.parser}"' if facts else ""
    model = "MODEL"
    imports = "from stj import Judge"
    if facts and facts.max_model_len:
        imports += "\nfrom stj.config import ModelConfig"
        model = f"ModelConfig(path=MODEL, max_model_len={facts.max_model_len})"
    asked = ['print(judge.compare("What is 2 + 2?", "It is 4.", "It is 5.").verdict)']
    if facts and facts.grades:
        asked.append('print(judge.grade("What is 2 + 2?", "It is 4.", rubric="helpfulness").score)')
    if facts and not facts.compares:
        options, asked = "", asked[1:]
    lines = [*sorted(imports.split("\n")), "", _model_line(name), "", 'if __name__ == "__main__":']
    return "\n".join([*lines, f"    with Judge({model}{options}) as judge:", *(f"        {ask}" for ask in asked)])


def _vllm_code(name: str, facts: JudgeFacts | None, adapter: Adapter | None, parser: Parser) -> str:
    asked = bool(facts and facts.compares)
    context = f", max_model_len={facts.max_model_len}" if facts and facts.max_model_len else ""
    loaded = f'LLM(MODEL, dtype="bfloat16"{context})'
    imports, lora = ["from vllm import LLM, SamplingParams"], ""
    if adapter:
        imports = [
            "from huggingface_hub import snapshot_download",
            *imports,
            "from vllm.lora.request import LoRARequest",
        ]
        room = adapter_settings(adapter, name)["max_lora_rank"]
        loaded = f"LLM({json.dumps(adapter.base.path)}, enable_lora=True, max_lora_rank={room}{context})"
        lora = ', lora_request=LoRARequest("judge", 1, adapter)'
    standard = [*(["import os"] if adapter else []), *(["import re"] if asked else [])]
    head = [*standard, *([""] if standard else []), *imports, "", _model_line(name)]
    if asked:
        head += [f"SYSTEM = {prompt(JUDGE_SYSTEM)!r}", f"USER = {prompt(JUDGE_USER)!r}", "", "", _PARSERS[parser][1], ""]
    tokens = facts.max_tokens if facts else 1024
    body = [
        "",
        'if __name__ == "__main__":',
        *(["    adapter = MODEL if os.path.isdir(MODEL) else snapshot_download(MODEL)"] if adapter else []),
        f"    llm = {loaded}",
        f"    greedy = SamplingParams(temperature=0, max_tokens={tokens})",
    ]
    if asked:
        body += [
            '    values = {"instruction": "What is 2 + 2?", "response A": "It is 4.", "response B": "It is 5."}',
            '    user = re.sub(r"\\{(instruction|response [AB])\\}", lambda place: values[place[1]], USER)',
            '    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}]',
            f"    text = llm.chat(messages, greedy{lora})[0].outputs[0].text",
            f"    answer = text.rpartition({CLOSE!r})[2]  # what a thinking model says behind its thought",
            "    print(text, verdict(answer))",
        ]
    else:
        body += [
            f'    print(llm.chat([{{"role": "user", "content": "What is 2 + 2?"}}], greedy{lora})[0].outputs[0].text)',
        ]
    return "\n".join([*head, *body])
