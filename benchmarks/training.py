"""Training against its peers, as ratios: packing, TRL's SFTTrainer, cached reference log-probabilities, export.

    python benchmarks/training.py [packed] [trl] [dpo] [export]        all take ten to twelve minutes on two idle CPU cores

packed  packed rows against padded batches, the parts of packing and of the head, and the head's memory (packed_rows.py)
trl     whole steps on two ZeRO-3 ranks against TRL's SFTTrainer on two, padded and packed (against_trl.py)
dpo     steps on pairs with cached log-probabilities of the reference, against computing them each time (kept_reference.py)
export  memory and traffic of the export (export_memory.py)

Writes benchmarks/results/training.json: ratios at the top, raw figures by part. Parts that are not named keep their last
results.
"""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "training.json"


def main() -> None:
    """Measures the named parts, or all, and merges their figures into the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="parts to measure; all if none is named")
    parser.add_argument("--examples", type=int, default=32)
    parser.add_argument("--divide", type=int, default=8, help="divides all lengths of the paper's mix")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    for part in options.parts or PARTS:
        figures = PARTS[part](options)
        figures["raw"] |= {"repeats": options.repeats, "load_average": os.getloadavg()[0]}
        result = json.loads(RESULT.read_text()) if RESULT.exists() else {"raw": {}}
        raw = {**result.pop("raw"), part: figures.pop("raw")}
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps({**result, **figures, "raw": raw}, indent=1) + "\n")
        print(json.dumps(figures, indent=1), flush=True)


def _packed(options: argparse.Namespace) -> dict[str, Any]:
    import packed_rows

    return packed_rows.measure(options.repeats, options.examples, options.divide)


def _trl(options: argparse.Namespace) -> dict[str, Any]:
    import against_trl

    return against_trl.measure(options.repeats, options.examples, options.divide)


def _dpo(options: argparse.Namespace) -> dict[str, Any]:
    import kept_reference

    return kept_reference.measure(options.repeats, options.examples // 2, options.divide)


def _export(options: argparse.Namespace) -> dict[str, Any]:
    import export_memory

    return export_memory.measure()


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "packed": _packed,
    "trl": _trl,
    "dpo": _dpo,
    "export": _export,
}

if __name__ == "__main__":
    main()
