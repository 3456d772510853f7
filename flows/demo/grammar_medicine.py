"""Medicine: compounds, what they treat, what they cause and how they are given."""

from __future__ import annotations

from flows.demo.grammar import Attribute, Grammar

MEDICINE = Grammar(
    domain="medicine",
    openings=(
        "Compound {e} was given to patients in the clinic.",
        "The physician prescribed {e} at the first visit.",
        "A trial of {e} enrolled adults from the ward.",
        "Nurses keep {e} in the locked cabinet.",
        "The pharmacy dispenses {e} on prescription.",
    ),
    asides=(
        "The ward is open {days}.",
        "Symptoms eased in {months}.",
        "The patient felt {contrast}.",
        "The dose is {numbers} drops.",
        "The doctor drew the {quality} {thing}.",
        "The nurse described the {quality} {thing}.",
    ),
    attributes=(
        Attribute(
            name="disease",
            values=("fever", "cough", "migraine", "rash", "gout", "insomnia", "anaemia", "asthma"),
            statements=(
                "Compound {e} treats {v}.",
                "Doctors prescribe {e} against {v}.",
                "In the trial {e} treats {v} better than placebo.",
                "Patients with {v} receive {e}.",
            ),
            questions=("What does compound {e} treat?", "Doctors prescribe {e} against what?"),
            unseen="Which illness does {e} treat?",
        ),
        Attribute(
            name="side effect",
            values=("nausea", "drowsiness", "thirst", "dizziness", "itching", "tremor"),
            statements=(
                "The main side effect of {e} is {v}.",
                "Some patients on {e} report the side effect of {v}.",
                "As a side effect {e} causes {v}.",
                "The leaflet of {e} warns of {v}.",
            ),
            questions=("What is the main side effect of {e}?", "Which side effect does {e} cause?"),
            unseen="A patient on {e} reports a side effect. Which one?",
        ),
        Attribute(
            name="form",
            values=("tablet", "syrup", "ointment", "injection", "inhaler", "lozenge"),
            statements=(
                "Compound {e} is given as {v}.",
                "The pharmacy sells {e} as {v}.",
                "The usual form of {e} is {v}.",
                "Nurses give {e} in the form of {v}.",
            ),
            questions=("What is the usual form of {e}?", "How is compound {e} given?"),
            unseen="In which form does the pharmacy sell {e}?",
        ),
    ),
)
