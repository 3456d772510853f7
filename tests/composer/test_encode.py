"""The tokens that are trained on are exactly the assistant's turns, and no row is lost because a template is picky."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from composer.conversation import Whole, extras_of, whole
from composer.encode import PLAIN_TEMPLATE, Encoding, encode, load_tokenizer, preview, prompt_ids
from composer.errors import ModelError, SourceError
from composer.render import LADDER, Rendering, fold, render, render_prompt
from composer.template import ChatTemplate

OLD_PLAIN = (
    "{% for m in messages %}{{ '### ' + m['role'] + '\n' + m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant\n' }}{% endif %}"
)
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '</s>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA = (  # refuses a system turn and turns that do not alternate
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
LLAMA2 = (  # takes a system turn first, no tools, and passes over any other role without a word
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system = messages[0]['content'] %}"
    "{% else %}{% set loop_messages = messages %}{% set system = '' %}{% endif %}{% for m in loop_messages %}"
    "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' }}"
    "{% if loop.first and system %}{{ '<<SYS>>\n' + system + '\n<</SYS>>\n\n' }}{% endif %}{{ m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
QWEN3 = (  # thinking of turns before the last question is left out; a last turn without thinking has an empty one; knows tools
    "{% if tools %}{{ '<|im_start|>system\n# Tools\n' }}{% for t in tools %}{{ t | tojson + '\n' }}{% endfor %}{{ '</s>\n' }}"
    "{% endif %}{% set ns = namespace(last=0) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|im_start|>assistant\n' }}"
    "{% if loop.index0 > ns.last and (loop.last or m.reasoning_content) %}"
    "{{ '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}{% endif %}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ '\n<tool_call>\n' }}"
    "{{ {'name': c.function.name, 'arguments': c.function.arguments} | tojson + '\n</tool_call>' }}{% endfor %}{{ '</s>\n' }}"
    "{% elif m.role == 'tool' %}{{ '<|im_start|>user\n<tool_response>\n' + m.content + '\n</tool_response></s>\n' }}"
    "{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '</s>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
STRIPPING = (  # drops earlier assistant turns altogether
    "{% for m in messages %}{% if m['role'] != 'assistant' or loop.last %}"
    "{{ m['role'] + ':' + m['content'] + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)
REWRITING = "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}{{ 'now:' }}{% endif %}"
REFUSING = "{{ raise_exception('roles must alternate') }}"
TEMPLATES = {"chatml": CHATML, "plain": PLAIN_TEMPLATE, "gemma": GEMMA, "llama2": LLAMA2, "qwen3": QWEN3}


def tokenizer(template: str | None) -> Any:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<s>", "</s>", "<pad>", "<|im_start|>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)  # fmt: skip
    inner.train_from_iterator(["what is the answer to the question", "the answer is law"], trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    made.chat_template = template
    return made


CHAT = {name: tokenizer(template) for name, template in TEMPLATES.items()}


def turns(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)]


def said(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in pairs]


def trained_text(tok: Any, encoding: Encoding | str) -> str:
    assert isinstance(encoding, Encoding)
    return str(tok.decode([i for i, t in zip(encoding.ids, encoding.trained, strict=True) if t], skip_special_tokens=True))


def rendered(name: str, conversation: Whole) -> Rendering:
    return render(ChatTemplate(CHAT[name]), conversation)


def answers(rendering: Rendering) -> list[str]:
    return [rendering.text[begin:end] for begin, end in rendering.spans]


def old_render(tok: Any, messages: Sequence[Mapping[str, str]]) -> tuple[str, list[tuple[int, int]]] | str:
    """What rendering was before: every beginning of the conversation is rendered for itself."""
    conversation = [dict(message) for message in messages]
    if len(conversation) == 1 and conversation[0]["role"] == "assistant":
        return conversation[0]["content"], [(0, len(conversation[0]["content"]))]

    def text(part: list[dict[str, str]], *, prompt: bool) -> str:
        return str(tok.apply_chat_template(part, tokenize=False, add_generation_prompt=prompt))

    full = text(conversation, prompt=False)
    spans: list[tuple[int, int]] = []
    for i, message in enumerate(conversation):
        if message["role"] == "assistant":
            before = text(conversation[:i], prompt=True) if i else full[: max(full.find(message["content"].strip()), 0)]
            after = text(conversation[: i + 1], prompt=False)
            if not (full.startswith(before) and full.startswith(after) and len(before) <= len(after)):
                return "template_rewrites_history"
            spans.append((len(before), len(after)))
    return full, spans


def old_encode(tok: Any, messages: Sequence[Mapping[str, str]], *, max_length: int) -> tuple[Any, Any] | str:
    """What encoding was before: every character of a span is asked for its token until one has one."""
    found = old_render(tok, messages)
    if isinstance(found, str):
        return found
    text, spans = found
    [tokenised] = tok([text], add_special_tokens=False).encodings
    ids, marks = list(tokenised.ids), [False] * len(tokenised.ids)
    for span in spans:
        first, after = (
            next(
                (tokenised.char_to_token(c) for c in range(char, len(text)) if tokenised.char_to_token(c) is not None), len(ids)
            )
            for char in span
        )
        marks[first:after] = [True] * (after - first)
    if len(messages) == 1:
        ids, marks = [tok.bos_token_id, *ids, tok.eos_token_id], [False, *marks, True]
    ids, marks = ids[:max_length], marks[:max_length]
    return (tuple(ids), tuple(marks)) if sum(marks[1:]) else "no_loss_tokens"


words = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(
    str.strip
)
raw = st.text(alphabet=st.sampled_from(" \n\t\r.aé—x</s>#'1<|"), max_size=12)
talks = st.lists(st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), raw | words), min_size=1, max_size=6)


@pytest.mark.parametrize("name", ["chatml", "plain"])
@given(talk=talks.filter(lambda talk: "assistant" in dict(talk)), max_length=st.integers(1, 80))
@settings(max_examples=120, deadline=None)
def test_rows_without_extras_are_what_they_always_were(name: str, talk: list[tuple[str, str]], max_length: int) -> None:
    tok = CHAT[name]
    [encoding] = encode(tok, [said(*talk)], max_length=max_length)
    old = tok if name == "chatml" else tokenizer(OLD_PLAIN)
    now = encoding if isinstance(encoding, str) else (encoding.ids, encoding.trained)
    assert now == old_encode(old, said(*talk), max_length=max_length)
    assert isinstance(encoding, str) or not (encoding.adapted or encoding.not_carried)


@pytest.mark.parametrize("name", ["chatml", "plain"])
@given(talk=talks)
@settings(max_examples=60, deadline=None)
def test_one_rendering_says_what_many_say(name: str, talk: list[tuple[str, str]]) -> None:
    streamed, many = ChatTemplate(CHAT[name]), ChatTemplate(CHAT[name])
    assert streamed._opening
    many._opening = None
    assert streamed.answers(Whole(said(*talk))) == many.answers(Whole(said(*talk)))


@pytest.mark.parametrize(
    "template",
    [
        GEMMA, LLAMA2, QWEN3, STRIPPING,
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ ns.n }}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{{ m.content }}{% if not loop.last %}{{ '|' }}{% endif %}{% endfor %}",
        "{% for m in messages %}{{ m.content }}{% endfor %}{{ messages | length }}",
        "{% set c = cycler('a', 'b') %}{% for m in messages %}{{ c.next() + m.content }}{% endfor %}",
        "{% for m in messages %}{{ m.content }}{% if add_generation_prompt %}!{% endif %}{% endfor %}",
        "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{{ m.content }}{% generation %}x{% endgeneration %}{% endfor %}",
    ],
)  # fmt: skip
def test_a_template_that_looks_about_is_rendered_for_every_answer(template: str) -> None:
    assert ChatTemplate(tokenizer(template))._opening is None


@pytest.mark.parametrize("name", ["chatml", "plain"])
@given(contents=st.lists(words, min_size=2, max_size=6).filter(lambda c: len(c) % 2 == 0))
@settings(max_examples=40, deadline=None)
def test_decoding_the_marked_tokens_gives_the_answers(name: str, contents: Sequence[str]) -> None:
    tok = CHAT[name]
    [encoding] = encode(tok, [turns(*contents)], max_length=10_000)
    assert trained_text(tok, encoding).split() == "\n".join(contents[1::2]).split()


@pytest.mark.parametrize("name", ["chatml", "plain"])
def test_the_end_marker_is_trained_on_and_the_prompt_is_not(name: str) -> None:
    tok = CHAT[name]
    [encoding] = encode(tok, [turns("what is it", "law")], max_length=100)
    assert isinstance(encoding, Encoding)
    prompt = prompt_ids(tok, turns("what is it"))
    assert list(encoding.ids[: len(prompt)]) == prompt
    assert not any(encoding.trained[: len(prompt)])
    assert tok.eos_token_id in [i for i, t in zip(encoding.ids, encoding.trained, strict=True) if t]


def test_the_header_of_an_assistant_who_speaks_first_is_not_trained_on() -> None:
    tok = CHAT["chatml"]
    [encoding] = encode(tok, [said(("assistant", "law"), ("user", "what"), ("assistant", "answer"))], max_length=100)
    assert isinstance(encoding, Encoding)
    opening = tok("<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
    assert list(encoding.ids[: len(opening)]) == opening
    assert not any(encoding.trained[: len(opening)])
    assert trained_text(tok, encoding).split() == ["law", "answer"]


def test_a_batch_is_its_rows() -> None:
    rows = [turns("a", "b"), turns("what is the question", "the answer"), [{"role": "assistant", "content": "a document"}]]
    assert encode(CHAT["chatml"], rows, max_length=50) == [encode(CHAT["chatml"], [row], max_length=50)[0] for row in rows]


def test_a_document_is_trained_on_whole_and_ends() -> None:
    tok = CHAT["chatml"]
    [encoding] = encode(tok, [[{"role": "assistant", "content": "the answer is law"}]], max_length=50)
    assert isinstance(encoding, Encoding)
    assert encoding.ids[0] == tok.bos_token_id
    assert encoding.ids[-1] == tok.eos_token_id
    assert encoding.n_loss_tokens == len(encoding.ids) - 1


def test_truncation_and_rows_without_loss() -> None:
    tok = CHAT["chatml"]
    [cut] = encode(tok, [turns("a", "the answer is law " * 20)], max_length=40)
    assert isinstance(cut, Encoding)
    assert len(cut.ids) == 40
    assert encode(tok, [turns("the question " * 50, "law")], max_length=12) == ["no_loss_tokens"]


def test_a_tokenizer_file_that_truncates_and_pads_does_neither_here() -> None:
    tok = tokenizer(CHATML)
    tok.backend_tokenizer.enable_truncation(3)
    tok.backend_tokenizer.enable_padding(length=99)
    rows = [turns("what is the question", "the answer"), turns("a", "b")]
    assert encode(tok, rows, max_length=500) == encode(CHAT["chatml"], rows, max_length=500)


def test_a_template_that_rewrites_or_refuses_is_named_and_loses_no_other_row() -> None:
    rows = [turns("a", "b", "c", "d"), turns("a", "b")]
    assert encode(tokenizer(REFUSING), rows, max_length=50) == ["template_refuses"] * 2
    assert encode(tokenizer("{% for broken"), rows, max_length=50) == ["template_refuses"] * 2
    assert encode(tokenizer(REWRITING), rows, max_length=50) == ["template_rewrites_history"] * 2
    with pytest.raises(SourceError, match="template_refuses; got roles must alternate"):
        render(ChatTemplate(tokenizer(REFUSING)), whole(turns("a", "b"), None))
    picky = tokenizer("{% if messages[0].content == 'x' %}{{ messages.nothing.more }}{% endif %}" + CHATML)
    assert [isinstance(found, Encoding) for found in encode(picky, [turns("x", "b"), turns("a", "b")], max_length=50)] == [
        False,
        True,
    ]


def test_of_a_rewritten_history_the_answers_that_stand_are_trained_on() -> None:
    tok = tokenizer(STRIPPING)
    [encoding] = encode(tok, [turns("a", "lost words", "c", "the law")], max_length=50)
    assert trained_text(tok, encoding).split() == ["the", "law"]
    assert isinstance(encoding, Encoding)
    assert (encoding.adapted, encoding.not_carried) == (True, ("assistant",))
    prompt = prompt_ids(tok, turns("a", "lost words", "c"))
    assert list(encoding.ids[: len(prompt)]) == prompt


THINKING = whole(
    said(("user", "2 + 2?"), ("assistant", "4"), ("user", "3 + 3?"), ("assistant", "6")),
    extras_of({1: {"thinking": "two and two"}, 3: {"thinking": "three and three"}}, None),
)


def test_thinking_that_the_template_strips_from_earlier_turns() -> None:
    rendering = rendered("qwen3", THINKING)
    assert answers(rendering) == ["<think>\nthree and three\n</think>\n\n6</s>\n"]
    assert (rendering.adapted, rendering.not_carried) == (True, ("thinking",))
    single = rendered("qwen3", Whole(THINKING.turns[2:]))
    assert answers(single) == ["<think>\nthree and three\n</think>\n\n6</s>\n"]
    assert (single.adapted, single.not_carried) == (False, ())


def test_the_plain_template_carries_thinking_in_every_turn() -> None:
    rendering = rendered("plain", THINKING)
    assert answers(rendering) == [
        "<think>\ntwo and two\n</think>\n4</s>\n",
        "<think>\nthree and three\n</think>\n6</s>\n",
    ]
    assert (rendering.adapted, rendering.not_carried) == (False, ())


def test_thinking_that_a_template_knows_nothing_of_is_told() -> None:
    rendering = rendered("chatml", THINKING)
    assert (answers(rendering), rendering.adapted, rendering.not_carried) == (["4</s>\n", "6</s>\n"], False, ("thinking",))


SYSTEM = said(("system", "Be brief."), ("user", "2 + 2?"), ("assistant", "4"))


@pytest.mark.parametrize(
    ("name", "adapted"), [("chatml", False), ("plain", False), ("llama2", False), ("qwen3", False), ("gemma", True)]
)
def test_a_system_turn_reaches_every_template(name: str, adapted: bool) -> None:
    rendering = rendered(name, whole(SYSTEM, None))
    assert (rendering.adapted, rendering.not_carried) == (adapted, ())
    assert "Be brief." in rendering.text
    if adapted:
        assert "user\nBe brief.\n\n2 + 2?<end_of_turn>" in rendering.text


@pytest.mark.parametrize("name", TEMPLATES)
@given(talk=talks)
@settings(max_examples=60, deadline=None)
def test_no_row_is_lost_to_a_template_of_the_field(name: str, talk: list[tuple[str, str]]) -> None:
    talk = [*talk, ("user", "why"), ("assistant", "the law")]
    found = rendered(name, whole(said(*talk), None))
    assert found.spans
    assert "the law" in answers(found)[-1]
    assert not {"system", "tool"} & set(found.not_carried)
    begin = found.spans[-1][0]
    assert found.text[:begin] == render_prompt(ChatTemplate(CHAT[name]), whole(said(*talk[:-1]), None)) or found.adapted


def test_turns_that_do_not_alternate_are_merged_where_a_template_insists() -> None:
    talk = said(("assistant", "Hi."), ("user", "One"), ("user", "two?"), ("assistant", "Yes."), ("assistant", "Three!"))
    rendering = rendered("gemma", whole(talk, None))
    assert "user\nOne\n\ntwo?<end_of_turn>" in rendering.text
    assert answers(rendering) == ["Hi.<end_of_turn>\n", "Yes.\n\nThree!<end_of_turn>\n"]
    assert (rendering.adapted, rendering.not_carried) == (True, ())


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a town.",
            "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
        },
    }
]
CALL = {"type": "function", "id": "c1", "function": {"name": "weather", "arguments": '{"town": "Bär"}'}}
TALK = said(("user", "Rain?"), ("assistant", ""), ("tool", "4"), ("assistant", "Yes, 4 mm."))
CALLING = whole(TALK, extras_of({1: {"tool_calls": [CALL]}, 2: {"tool_call_id": "c1"}}, TOOLS))
THOUGHTFUL = whole(TALK, extras_of({1: {"tool_calls": [CALL], "thinking": "I must ask."}}, TOOLS))


@pytest.mark.parametrize(("name", "talk"), [("plain", CALLING), ("plain", THOUGHTFUL), ("qwen3", THOUGHTFUL)])
def test_tools_and_calls_go_through_a_template_that_knows_them(name: str, talk: Whole) -> None:
    rendering = rendered(name, talk)
    assert (rendering.adapted, rendering.not_carried) == (False, ())
    call, answer = answers(rendering)
    assert json.loads(call.split("<tool_call>\n")[1].split("\n</tool_call>")[0]) == {
        "name": "weather",
        "arguments": {"town": "Bär"},
    }
    assert "Yes, 4 mm." in answer
    assert "The weather of a town." in rendering.text


@pytest.mark.parametrize("name", ["chatml", "gemma", "llama2"])
def test_tools_and_calls_are_text_to_a_template_that_does_not(name: str) -> None:
    rendering = rendered(name, CALLING)
    assert (rendering.adapted, rendering.not_carried) == (True, ())
    call, answer = answers(rendering)
    end = {"chatml": "</s>", "gemma": "<end_of_turn>", "llama2": " </s>"}[name]
    assert json.loads(call.strip().removesuffix(end)) == {"name": "weather", "arguments": {"town": "Bär"}}
    assert "Yes, 4 mm." in answer
    assert json.JSONDecoder().raw_decode(rendering.text.split("Tools:\n")[1])[0] == TOOLS[0]


def test_a_call_that_the_template_writes_anew_in_the_history_is_not_trained_on() -> None:
    rendering = rendered("qwen3", CALLING)
    assert answers(rendering) == ["<think>\n\n</think>\n\nYes, 4 mm.</s>\n"]
    assert (rendering.adapted, rendering.not_carried) == (True, ())


def test_what_tools_said_is_missed_where_another_turn_says_it_too() -> None:
    skipping = "{% for m in messages %}{% if m.role != 'tool' %}{{ m.role + ':' + m.content + '\n' }}{% endif %}{% endfor %}"
    talk = said(("user", "Rain?"), ("assistant", "I ask."), ("tool", "4"), ("assistant", "Yes, 4 mm."))
    template = ChatTemplate(tokenizer(skipping + "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"))
    rendering = render(template, whole(talk, None))
    assert "user:4\n" in rendering.text
    assert (rendering.adapted, rendering.not_carried) == (True, ())


def test_what_no_fold_brings_back_is_told() -> None:
    deaf = "{% for m in messages %}{% if m.role == 'assistant' %}{{ m.role + ':' + m.content + '\n' }}{% endif %}{% endfor %}"
    template = ChatTemplate(tokenizer(deaf + "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"))
    rendering = render(template, CALLING)
    assert rendering.not_carried == ("tools", "user", "tool")
    assert [json.loads(answers(rendering)[0])["name"], answers(rendering)[1]] == ["weather", "Yes, 4 mm.\n"]


@given(talk=talks, rung=st.sampled_from(LADDER))
@settings(max_examples=60, deadline=None)
def test_folding_loses_no_text(talk: list[tuple[str, str]], rung: frozenset[str]) -> None:
    folded = fold(whole(said(*talk), None), rung)
    text = "\0".join(turn["content"] for turn in folded.turns)
    assert all(content in text for _, content in talk if content.strip())
    assert fold(folded, rung) == folded


def test_whole_conversations_and_messages_may_be_mixed() -> None:
    rows: list[Any] = [SYSTEM, whole(SYSTEM, None), CALLING]
    first, second, third = encode(CHAT["plain"], rows, max_length=4000)
    assert first == second
    assert isinstance(third, Encoding)
    assert len(third.ids) > 100


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_preview_shows_what_is_trained_on_and_where_the_cut_is(name: str) -> None:
    tok = CHAT[name]
    talk = turns("what is the question", "the answer", "why", "the law")
    [encoding] = encode(tok, [talk], max_length=1000)
    assert isinstance(encoding, Encoding)
    pieces = preview(tok, talk, max_length=1000)
    assert "".join(text for text, _ in pieces) == tok.decode(encoding.ids)
    assert "".join(text for text, trained in pieces if trained) == tok.decode(
        [i for i, t in zip(encoding.ids, encoding.trained, strict=True) if t]
    )
    assert {trained for _, trained in pieces} == {True, False}
    cut = preview(tok, talk, max_length=len(encoding.ids) - 2)
    assert [trained for _, trained in cut].index(None) == len(cut) - 1
    assert cut[-1][0] == tok.decode(encoding.ids[-2:])
    assert preview(tok, talk, max_length=2)[-1][1] is None
    document = preview(tok, [{"role": "assistant", "content": "the law"}], max_length=9)
    assert document == [("<s>", False), ("the law</s>", True)]
    with pytest.raises(SourceError, match="template_refuses"):
        preview(tokenizer(REFUSING), talk, max_length=9)


def test_load_tokenizer_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"base_model\.path: no tokenizer"):
        load_tokenizer(tmp_path)
    tokenizer(CHATML).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no such template file; expected auto, plain or a file"):
        load_tokenizer(tmp_path, chat_template="missing.jinja")
    assert load_tokenizer(tmp_path).chat_template == CHATML
    assert load_tokenizer(tmp_path, chat_template="plain").chat_template == PLAIN_TEMPLATE
    tokenizer(None).save_pretrained(tmp_path / "bare")
    assert load_tokenizer(tmp_path / "bare").chat_template == PLAIN_TEMPLATE
