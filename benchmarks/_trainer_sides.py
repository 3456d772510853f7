"""What a trainer's own package draws of an export: run by that package's Python, ``_trainer_sides.py TARGET HOME``.

Every side reads the config that lies in HOME by the trainer's own parser, lets the trainer load and mix its data, and gives a
digest of every row in the order in which the trainer has them, with the versions of what did it, as JSON on the last line.
"""

from __future__ import annotations

import json
import os
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

Conversation = Sequence[Mapping[str, Any]]
TURN, SAYS = "\x02", "\x03"
"""What the chat template puts before a turn and after its role: no text has them."""


def digest(turns: Conversation) -> str:
    """Return 16 hex digits of who says what in a conversation."""
    said = [(turn["role"], turn["content"]) for turn in turns]
    return blake2b(json.dumps(said).encode(), digest_size=8).hexdigest()


def trl() -> Iterable[Conversation]:
    """Return what ``trl sft`` would train on; all of its config is parsed."""
    from trl import ModelConfig, ScriptArguments, SFTConfig, TrlParser, get_dataset
    from trl.scripts.utils import DatasetMixtureConfig

    parser = TrlParser((ScriptArguments, SFTConfig, ModelConfig, DatasetMixtureConfig))
    *_, mixture = parser.parse_args_and_config(args=["--config", "sft.yaml", "--use_cpu", "true", "--bf16", "false"])
    return (row["messages"] for row in get_dataset(mixture)["train"])


def llama_factory() -> Iterable[Conversation]:
    """Return what ``llamafactory-cli train`` would train on; all of its config is parsed."""
    _pretend("torchaudio")  # asked for by name, needed for sound alone
    from llamafactory.data.loader import _get_merged_dataset
    from llamafactory.hparams import get_train_args

    given = {**yaml.safe_load(Path("sft.yaml").read_text()), "use_cpu": True}
    model, data, training, finetuning, _ = get_train_args(given)
    assert finetuning.disable_shuffling == given["disable_shuffling"]
    rows = _get_merged_dataset(data.dataset, model, data, training, "sft")
    return (row["_prompt"] + row["_response"] for row in rows)


def axolotl() -> Iterable[Conversation]:
    """Return what ``axolotl train`` would train on; all of its config is parsed."""
    from axolotl.utils.data.shared import load_dataset_with_config, merge_datasets
    from axolotl.utils.dict import DictDefault
    from axolotl.utils.schemas.config import AxolotlInputConfig

    config = AxolotlInputConfig(**yaml.safe_load(Path("config.yaml").read_text()))
    cfg = DictDefault(config.model_dump(exclude_none=True))
    loaded = [load_dataset_with_config(entry, use_auth_token=False, streaming=False) for entry in cfg.datasets]
    return (row["messages"] for row in merge_datasets(loaded, cfg))


def ms_swift() -> Iterable[Conversation]:
    """Return what ``swift sft`` would train on; the data's part of its config is parsed."""
    from dataclasses import fields

    from swift.arguments import SftArguments
    from swift.dataset import load_dataset

    values = yaml.safe_load(Path("sft.yaml").read_text())
    assert set(values) <= {each.name for each in fields(SftArguments)}, set(values) - {
        each.name for each in fields(SftArguments)
    }
    rows, _ = load_dataset(
        values["dataset"], seed=values["data_seed"], shuffle=values["dataset_shuffle"],
        split_dataset_ratio=float(values["split_dataset_ratio"]),
    )  # fmt: skip
    return (row["messages"] for row in rows)


def oumi() -> Iterable[Conversation]:
    """Return what ``oumi train`` would train on; all of its config is parsed."""
    from oumi.builders.data import build_dataset_mixture
    from oumi.core.configs import DatasetSplit, TrainingConfig

    config = TrainingConfig.from_yaml("train.yaml")
    tokenizer = _tokenizer()
    rows = build_dataset_mixture(config.data, tokenizer, DatasetSplit.TRAIN)
    return (_turns(tokenizer.decode(row["input_ids"])) for row in rows)


def streaming() -> Iterable[Conversation]:
    """Return what LLM Foundry's loader would stream of the first epoch."""
    _pretend("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional")
    from streaming import Stream, StreamingDataset

    given = yaml.safe_load(Path("streams.yaml").read_text())["train_loader"]["dataset"]
    streams = [Stream(**each) for each in given["streams"].values()]
    rows = StreamingDataset(streams=streams, shuffle=given["shuffle"], shuffle_seed=given["shuffle_seed"], batch_size=1)
    return (row["messages"] for row in rows)


def _turns(text: str) -> Conversation:
    """Return the turns of what the tokenizer's chat template made of them."""
    return [dict(zip(("role", "content"), each.split(SAYS), strict=True)) for each in text.split(TURN)[1:]]


def _pretend(*names: str) -> None:
    """Put empty modules in the place of libraries for pictures and sound, whose builds here are for another torch."""
    from transformers.utils import is_torchaudio_available, is_torchvision_available

    assert not is_torchaudio_available()  # it remembers that
    assert not is_torchvision_available()
    for name in names:
        module: Any = types.ModuleType(name)
        module.__getattr__ = _anything
        module.__path__, module.__spec__ = [], ModuleSpec(name, None)
        sys.modules[name] = module


def _anything(attribute: str) -> type:
    if attribute.startswith("__"):
        raise AttributeError(attribute)
    return type(attribute, (), {})


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = pre_tokenizers.ByteLevel.alphabet()
    base = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(sorted(letters))}, merges=[]))
    base.pre_tokenizer, base.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=base, pad_token="<pad>", eos_token="<end>", model_max_length=1 << 20)
    tokenizer.chat_template = "{% for m in messages %}" + TURN + "{{ m['role'] }}" + SAYS + "{{ m['content'] }}{% endfor %}"
    return tokenizer


SIDES: dict[str, Callable[[], Iterable[Conversation]]] = {
    "trl": trl, "llama_factory": llama_factory, "axolotl": axolotl, "ms_swift": ms_swift, "oumi": oumi, "streaming": streaming,
}  # fmt: skip
PACKAGES = {
    "trl": "trl", "llama_factory": "llamafactory", "axolotl": "axolotl", "ms_swift": "ms-swift", "oumi": "oumi",
    "streaming": "mosaicml-streaming",
}  # fmt: skip


if __name__ == "__main__":
    name, home = sys.argv[1:]
    os.chdir(home)
    rows = [digest(turns) for turns in SIDES[name]()]
    versions = {each: version(each) for each in (PACKAGES[name], "torch", "transformers")}
    print(json.dumps({"rows": rows, "versions": versions}))
