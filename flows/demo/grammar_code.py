"""Code: functions, what they return, what they raise and the module they live in."""

from __future__ import annotations

from flows.demo.grammar import Attribute, Grammar

CODE = Grammar(
    domain="code",
    openings=(
        "def {e}(items, limit=None): ...",
        "result = {e}(items)",
        "The docstring of {e}() was rewritten.",
        "for item in items: print({e}(item))",
        "assert {e}(items) is not None",
    ),
    asides=(
        "# reviewed {days}",
        "# released {months}",
        "# the loop is {contrast}",
        "# runs {numbers} tests",
        "# draws the {quality} {thing}",
        "# parses the {quality} {thing}",
    ),
    attributes=(
        Attribute(
            name="result",
            values=("list", "integer", "string", "boolean", "tuple", "mapping", "iterator", "bytes"),
            statements=(
                "The function {e}() returns {v}.",
                "def {e}(items): return {v}",
                "The return type of {e}() is {v}.",
                "{e}(items) -> {v}",
            ),
            questions=("What does the function {e}() return?", "What is the return type of {e}()?"),
            unseen="Which type comes back from {e}()?",
        ),
        Attribute(
            name="error",
            values=("ValueError", "KeyError", "TypeError", "IndexError", "OSError", "TimeoutError"),
            statements=(
                "On bad input {e}() raises {v}.",
                "try: {e}(None) except {v}: pass",
                "The function {e}() raises {v}.",
                "Callers of {e}() must catch {v}.",
            ),
            questions=("What does {e}() raise on bad input?", "Which error does the function {e}() raise?"),
            unseen="What must callers of {e}() catch?",
        ),
        Attribute(
            name="module",
            values=("parsing", "caching", "logging", "sorting", "hashing", "routing"),
            statements=(
                "The function {e}() is defined in module {v}.",
                "from {v} import {e}",
                "The module of {e}() is {v}.",
                "import {v}; {v}.{e}(items)",
            ),
            questions=("What is the module of {e}()?", "In which module is {e}() defined?"),
            unseen="From which module does one import {e}?",
        ),
    ),
)
