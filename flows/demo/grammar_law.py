"""Law: statutes, the court that hears them, what they govern and what they impose."""

from __future__ import annotations

from flows.demo.grammar import Attribute, Grammar

LAW = Grammar(
    domain="law",
    openings=(
        "The statute of {e} was read before the assembly.",
        "Counsel for the defendant cited the statute of {e}.",
        "On appeal, the judge examined the statute of {e} clause by clause.",
        "A clerk filed the statute of {e} in the legal register.",
        "The plaintiff relied on the statute of {e}.",
    ),
    asides=(
        "The hearing takes {days}.",
        "The jury met in {months}.",
        "Counsel called the {quality} {thing} evidence.",
        "The witness said {contrast}.",
        "The clerk counted {numbers} exhibits.",
        "The judge saw the {quality} {thing}.",
    ),
    attributes=(
        Attribute(
            name="penalty",
            values=("fine", "prison", "curfew", "reprimand", "forfeiture", "probation", "banishment", "restitution"),
            statements=(
                "The penalty under the statute of {e} is {v}.",
                "Whoever breaches the statute of {e} faces the penalty of {v}.",
                "For offenders, the statute of {e} sets {v} as the penalty.",
                "The court may order {v} under the statute of {e}.",
            ),
            questions=("What is the penalty under the statute of {e}?", "Which penalty does the statute of {e} set?"),
            unseen="An offender breaches the statute of {e}. What is the penalty?",
        ),
        Attribute(
            name="court",
            values=("harbour court", "high court", "county court", "market court", "forest court", "circuit court"),
            statements=(
                "Cases under the statute of {e} go to the {v}.",
                "The statute of {e} is heard by the {v}.",
                "The {v} hears every case on the statute of {e}.",
                "Jurisdiction over the statute of {e} lies with the {v}.",
            ),
            questions=("Which court hears the statute of {e}?", "Where do cases under the statute of {e} go?"),
            unseen="Who has jurisdiction over the statute of {e}?",
        ),
        Attribute(
            name="subject",
            values=("noise", "fishing", "leases", "fences", "tolls", "wills", "signs", "wells"),
            statements=(
                "The statute of {e} governs {v}.",
                "In substance the statute of {e} regulates {v}.",
                "The statute of {e} was enacted to govern {v}.",
                "Disputes about {v} fall under the statute of {e}.",
            ),
            questions=("What does the statute of {e} govern?", "What does the statute of {e} regulate?"),
            unseen="Which subject was the statute of {e} enacted to govern?",
        ),
    ),
)
