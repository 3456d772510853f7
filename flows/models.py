"""The base model outside the store: the content that identifies it, and where it lies when a stage needs it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

from composer.artifact import Artifact
from composer.encode import no_tokenizer, tokenizer_files
from composer.errors import ModelError
from composer.fingerprint import Fingerprints
from composer.spec import OnModel, Spec, digest, outside_identity
from composer.types import ModelRef
from flows.recipe import Recipe

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
COMMIT = re.compile(r"[0-9a-f]{40}")
AnySpec = TypeVar("AnySpec", bound=Spec)


class Pinned(Spec):
    """A model outside the store: where it lies, and the content (weights or tokenizer, with the template) that names it."""

    path: str = outside_identity(...)
    content: str
    revision: str | None = outside_identity(None)
    chat_template: str = outside_identity("auto")


def model_ref(model: Pinned, base: Artifact | None, trained: Artifact | None = None) -> ModelRef:
    """Return where the model to use lies: the pinned one or the base artifact, with what was trained on top of it."""
    path = str(base.path / "model") if base else _local(model)
    if trained and (trained.path / "model").is_dir():
        path = str(trained.path / "model")
    adapter = str(trained.path / "adapter") if trained and (trained.path / "adapter").is_dir() else None
    return ModelRef(path=path, adapter=adapter, chat_template=model.chat_template)


def tokenizer_of(model: Pinned, base: Artifact | None) -> Any:
    """Return the tokenizer of the model to use, with its chat template."""
    from composer.encode import load_tokenizer

    return load_tokenizer(model_ref(model, base).path, chat_template=model.chat_template)


def _local(model: Pinned) -> str:
    if Path(model.path).exists():
        return model.path
    from huggingface_hub import snapshot_download

    try:
        return str(snapshot_download(model.path, revision=model.revision))
    except Exception as error:  # a hub out of reach shows as errors of several trees
        raise _unreachable(model.path, error) from None


def pin(recipe: Recipe, prints: Fingerprints) -> tuple[Pinned, Pinned]:
    """Return the recipe's model and its tokenizer, each with the content that identifies it.

    Raises
    ------
    ModelError
        Where the path is neither a model folder nor a Hub id that can be reached.
    """
    model = recipe.base_model
    assert model.path is not None
    template, identity = chat_template(recipe, prints)
    folder = recipe.at(model.path)
    if (folder / "config.json").is_file():
        if not (files := tokenizer_files(folder)):
            raise no_tokenizer(folder)
        contents = (prints.of(folder), digest({file.name: prints.of(file) for file in files}, n_bytes=32))
        path, commit = str(folder), None
    else:
        path, commit = model.path, _hub_commit(model.path, model.revision, folder, where="base_model.path")
        contents = (f"{path}@{commit}", f"{path}@{commit}")
    weights, tokenizer = (
        Pinned(path=path, content=f"{content} {identity}", revision=commit, chat_template=template) for content in contents
    )
    return weights, tokenizer


def settled(spec: AnySpec, recipe: Recipe, prints: Fingerprints, *, where: str) -> AnySpec:
    """Return a spec whose own models (a judge's, a tagger's, an embedder's) lie where the recipe says, with their content.

    Raises
    ------
    ModelError
        Where a path is neither a folder nor a Hub id that can be reached or was fetched before.
    """
    changes: dict[str, Any] = {
        name: settled(value, recipe, prints, where=f"{where}.{name}") for name, value in spec if isinstance(value, Spec)
    }
    name = getattr(spec, "model", None)
    if isinstance(spec, OnModel) and name is not None:
        folder = recipe.at(name)
        if folder.is_dir():
            changes |= {"model": str(folder), "content": prints.of(folder)}
        else:
            changes["content"] = f"{name}@{_hub_commit(name, None, folder, where=f'{where}.model')}"
    return spec.model_copy(update=changes)


def chat_template(recipe: Recipe, prints: Fingerprints) -> tuple[str, str]:
    """Return the recipe's chat template, ``auto``, ``plain`` or the path of a file, and what identifies it.

    Raises
    ------
    ModelError
        Where the file does not exist.
    """
    word = recipe.base_model.chat_template
    if word in ("auto", "plain"):
        return word, word
    file = recipe.at(word)
    if not file.is_file():
        raise ModelError("no such template file", where="base_model.chat_template", got=word, expected="auto, plain or a file")
    return str(file), prints.of(file)


def _hub_commit(name: str, revision: str | None, folder: Path, *, where: str) -> str:
    """Return the commit of a model on the Hub, or of the copy that was fetched before where the Hub is out of reach."""
    if folder.exists() or not HUB_ID.fullmatch(name):
        expected = "a folder with config.json, or a Hub id"
        raise ModelError("no model at this path", where=where, got=str(folder), expected=expected)
    if revision and COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi, snapshot_download

    try:
        return str(HfApi().model_info(name, revision=revision).sha)
    except Exception as error:
        try:
            return Path(snapshot_download(name, revision=revision, local_files_only=True)).name
        except Exception:
            raise _unreachable(name, error, where=where) from None


def _unreachable(name: str, error: Exception, *, where: str = "base_model.path") -> ModelError:
    cause = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
    hint = "give a folder with config.json, or a Hub id that can be reached"
    what = f"no such folder, and the hub gives no such model: {cause}"
    return ModelError(what, where=where, got=name, hint=hint)
