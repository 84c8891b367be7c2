"""Whether a model's files hold all of its weights, before vLLM loads them.

vLLM starts without a word if some weights are missing: a projection of a layer then holds whatever was in memory, and the model
writes noise. Transformers compares the names and shapes in the files with the model's own, and reads no weights for that.
"""

import os
from multiprocessing import get_context
from multiprocessing.connection import Connection

from stj.errors import ModelError

_SHOWN = 3  # Names in the error.


def check_weights(path: str, label: str, unread: tuple[str, ...] = ()) -> None:
    """Raises ModelError, which names the first weights that a model in a directory lacks or that have a wrong shape.

    It may lack weights whose names begin with one of `unread`.

    A model that transformers does not know, or cannot read, is left to vLLM. The check has a process of its own, because it
    leaves threads behind and might touch a GPU, and the engine must be forked from a process that has done neither.
    """
    context = get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_fault, args=(path, unread, sender))
    process.start()
    sender.close()
    try:
        fault = receiver.recv()
    except EOFError:  # the process died: whatever killed it, vLLM names it
        fault = ""
    process.join()
    if fault:
        raise ModelError(f"{label}: {fault}. Fetch or save the model again")


def _send_fault(path: str, unread: tuple[str, ...], sender: Connection) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)  # transformers prints tables of what it finds
    try:
        sender.send(_fault(path, unread))
    except Exception:
        sender.send("")


def _fault(path: str, unread: tuple[str, ...]) -> str:
    """What is wrong with the names and shapes of a model's weights; empty if nothing is."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(path, trust_remote_code=False)
    model_class = getattr(transformers, config.architectures[0])
    _, loaded = model_class.from_pretrained(
        path, config=config, trust_remote_code=False, device_map="meta", output_loading_info=True, ignore_mismatched_sizes=True
    )
    if missing := sorted(name for name in loaded["missing_keys"] if not name.startswith(unread)):
        return f"its files lack the weights {_listed(missing)}"
    wrong = [f"{name} ({list(is_)} in the file, {list(must)} in config.json)" for name, is_, must in loaded["mismatched_keys"]]
    return f"its weights have another shape: {_listed(sorted(wrong))}" if wrong else ""


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
