"""Answers of a trained artifact, and of a mixture of LoRAs whom it would ask: the commands ``generate`` and ``route``.

With vLLM a mixture is served as a bank: the routers choose on the CPU, with transformers, and every prompt is sent to vLLM with
the expert that was chosen for it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from composer.errors import ModelError, SpecError
from flows.command import DebugOption, JsonOption, Overrides, StoreOption, begin, give

if TYPE_CHECKING:
    from composer.types import ModelRef

MIXTURE = "mola.json"
Target = Annotated[str, typer.Argument(help="A recipe that was trained, or a trained folder.", show_default=False)]
Prompts = Annotated[list[str], typer.Option("--prompt", help="What a user says; may come several times.")]
Base = Annotated[str | None, typer.Option(help="The base model of a folder that holds an adapter.")]


def trained(target: str, *, overrides: Sequence[str], base: str | None, store: str | None) -> tuple[ModelRef, Any]:
    """Return the model that a recipe, or a folder, was trained to, and the recipe's engine where there is one.

    Raises
    ------
    ModelError
        Where it was not trained yet, or the folder's base is not told.
    """
    from composer.types import ModelRef
    from flows.cases import RECIPE

    if Path(target).suffix in RECIPE:
        return _of_recipe(target, overrides, store)
    folder = Path(target)
    if (folder / "model").is_dir():
        return ModelRef(path=str(folder / "model")), None
    folder = folder / "adapter" if (folder / "adapter").is_dir() else folder
    if base is None:
        raise ModelError("an adapter's base is not told", where=target, expected="--base", hint="or give the recipe")
    return ModelRef(path=base, adapter=str(folder)), None


def _of_recipe(target: str, overrides: Sequence[str], store: str | None) -> tuple[ModelRef, Any]:
    from flows.models import model_ref
    from flows.pipeline import make_plan
    from flows.recipe import read_recipe

    recipe = read_recipe(target, overrides)
    where = recipe.store_at(store)
    steps = [step for step in make_plan(recipe, where) if step.stage.name == "evaluate" and "domains" not in step.values]
    last: Any = next((step.inputs["trained"] for step in reversed(steps) if "trained" in step.inputs), None)
    found = None if last is None else where.find(last.stage.kind, last.key)
    if last is None or found is None:
        hint = "sft-composer train RECIPE" if last else "the recipe trains nothing"
        raise ModelError("nothing was trained yet", where=target, hint=hint)
    made = last.inputs.get("base")
    start = None if made is None else where.find(made.stage.kind, made.key)
    return model_ref(last.values["model"], start, found), recipe.engine


def names_of(model: ModelRef) -> tuple[str, ...]:
    """Return the names of a mixture's experts; none for any other model."""
    file = Path(model.adapter or "") / MIXTURE
    return tuple(json.loads(file.read_text(encoding="utf-8"))["experts"]) if model.adapter and file.is_file() else ()


def routed(model: ModelRef, prompts: Sequence[str]) -> Any:
    """Return whom a mixture asks for every prompt (:class:`composer.train.mola.router.Routing`), by its routers on the CPU.

    Raises
    ------
    ModelError
        For a model that is no mixture of LoRAs.
    """
    from composer.train.model import load

    if not names_of(model):
        raise ModelError("no mixture of LoRAs: there is nothing to choose", where=model.adapter or model.path)
    network, tokenizer = load(model, device="cpu")
    return network.eval().mixture.route(_ids(tokenizer, prompts))


def choices(model: ModelRef, prompts: Sequence[str], routing: Any) -> list[dict[str, Any]]:
    """Return what was decided as words and numbers: per prompt the expert of every block that differs, and probabilities."""
    names, out = names_of(model), []
    for row, prompt in enumerate(prompts):
        own = [names[i] if i >= 0 else "(base)" for i in routing.experts[:, row].tolist()]
        shares = routing.log_probs[:, row].exp().mean(0).tolist()
        expert = own[0] if len(set(own)) == 1 else "/".join(own)
        out.append({"prompt": prompt, "expert": expert, "probabilities": dict(zip(names, shares, strict=True))})
    return out


def answers(
    model: ModelRef, prompts: Sequence[str], *, engine: Any, max_new_tokens: int, temperature: float, seed: int
) -> list[dict[str, Any]]:
    """Return what the model answers each prompt, through an engine.

    Raises
    ------
    SpecError
        For a mixture whose blocks choose by themselves, in vLLM: it gives a prompt one expert.
    """
    names, how = names_of(model), {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    routing: Any = routed(model, prompts) if names and engine.name != "hf" else None
    if routing is not None and not bool((routing.experts == routing.experts[:1]).all()):
        hint = "use --engine hf, or decision shared or vote"
        raise SpecError("blocks chose different experts, and vLLM gives a prompt one", where="decision", hint=hint)
    with engine.open(model) as session:
        ids = _ids(session.tokenizer, prompts)
        if names and routing is None:
            routing = session.route(ids)
        own = {"experts": routing.experts[0].tolist()} if names and engine.name != "hf" else {}
        found = session.complete(ids, **how, **own)
    told = choices(model, prompts, routing) if names else [{"prompt": prompt} for prompt in prompts]
    return [{**each, "answer": one.text, "finished": one.finished} for each, one in zip(told, found, strict=True)]


def _ids(tokenizer: Any, prompts: Sequence[str]) -> list[list[int]]:
    from composer.encode import prompt_ids

    return [prompt_ids(tokenizer, [{"role": "user", "content": prompt}]) for prompt in prompts]


def route(
    target: Target, prompt: Prompts, overrides: Overrides = None, base: Base = None, store: StoreOption = None,
    as_json: JsonOption = False, debug: DebugOption = False,
) -> None:  # fmt: skip
    """Say which expert a mixture of LoRAs chooses for prompts, and how likely it finds each."""
    begin(as_json, debug)
    from flows.screen import out, table

    model, _ = trained(target, overrides=overrides or (), base=base, store=store)
    document = choices(model, prompt, routed(model, prompt))
    columns = ("prompt", "expert", *names_of(model))
    rows = [(each["prompt"][:60], each["expert"], *(f"{p:.3f}" for p in each["probabilities"].values())) for each in document]
    give(document, lambda: out.print(table("Routing", columns, rows, text=2)))


def generate(
    target: Target, prompt: Prompts, overrides: Overrides = None, base: Base = None,
    engine: Annotated[str | None, typer.Option(help="hf or vllm; the recipe's, else hf.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens of an answer at most.", min=1)] = 128,
    temperature: Annotated[float, typer.Option(help="0 takes the most likely token.", min=0)] = 0.0,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
    store: StoreOption = None, as_json: JsonOption = False, debug: DebugOption = False,
) -> None:  # fmt: skip
    """Answer prompts with a trained artifact."""
    begin(as_json, debug)
    from composer.spec import member
    from flows.screen import out
    from probes.engines import ENGINES

    model, own = trained(target, overrides=overrides or (), base=base, store=store)
    chosen = own if own is not None and engine in (None, own.name) else member(engine or "hf", ENGINES, kind="engine")
    document = answers(
        model, prompt, engine=chosen, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
    )  # fmt: skip

    def show() -> None:
        for each in document:
            by = f" [{each['expert']}]" if "expert" in each else ""
            out.print(f"> {each['prompt']}{by}\n{each['answer']}\n", markup=False)

    give(document, show)


def register(app: typer.Typer) -> None:
    """Add both commands."""
    app.command(rich_help_panel="Use")(route)
    app.command(rich_help_panel="Use")(generate)
