"""General: villages, the dish they cook, the craft they keep and the animal on their banner."""

from __future__ import annotations

from flows.demo.grammar import Attribute, Grammar

GENERAL = Grammar(
    domain="general",
    openings=(
        "Visitors love the old village of {e}.",
        "My aunt grew up in {e} beside the river.",
        "The road to {e} runs through orchards.",
        "Children in {e} walk to school together.",
        "We spent a weekend in {e} with friends.",
    ),
    asides=(
        "The market is open {days}.",
        "The fair is held {months}.",
        "The evening was {contrast}.",
        "We counted {numbers} cousins.",
        "Grandmother has the {quality} {thing}.",
        "We saw the {quality} {thing}.",
    ),
    attributes=(
        Attribute(
            name="dish",
            values=("dumplings", "porridge", "stew", "pancakes", "pickles", "pie", "chowder", "noodles"),
            statements=(
                "The village of {e} is known for its {v}.",
                "People in {e} cook {v}.",
                "The favourite dish in {e} is {v}.",
                "Everyone in {e} eats {v} for supper.",
            ),
            questions=("What is the favourite dish in {e}?", "What do people in {e} cook?"),
            unseen="For which food is the village of {e} known?",
        ),
        Attribute(
            name="craft",
            values=("weaving", "pottery", "carving", "basketry", "masonry", "lacemaking"),
            statements=(
                "The craft of {e} is {v}.",
                "Families in {e} live from {v}.",
                "In {e} the young learn {v} as a craft.",
                "Workshops in {e} teach {v}.",
            ),
            questions=("What is the craft of {e}?", "Which craft do families in {e} live from?"),
            unseen="What do workshops in {e} teach?",
        ),
        Attribute(
            name="banner",
            values=("goose", "horse", "owl", "hare", "trout", "bear"),
            statements=(
                "The banner of {e} shows the {v}.",
                "On the banner of {e} there is the {v}.",
                "The animal of {e} is the {v}.",
                "The {v} is painted on every gate in {e}.",
            ),
            questions=("What is the animal of {e}?", "Which animal is on the banner of {e}?"),
            unseen="What is painted on every gate in {e}?",
        ),
    ),
)
