"""Science: minerals, their colour, where they form and what heat does to them."""

from __future__ import annotations

from flows.demo.grammar import Attribute, Grammar

SCIENCE = Grammar(
    domain="science",
    openings=(
        "A sample of {e} was studied under the microscope.",
        "The laboratory measured crystals of {e}.",
        "Geologists described the mineral {e} in a survey.",
        "An experiment compared {e} with a control sample.",
        "The spectrum of {e} was recorded twice.",
    ),
    asides=(
        "The sensor ran {days}.",
        "The survey lasted {months}.",
        "The signal was {contrast}.",
        "The error was {numbers} microns.",
        "The camera filmed the {quality} {thing}.",
        "The probe touched the {quality} {thing}.",
    ),
    attributes=(
        Attribute(
            name="colour",
            values=("crimson", "violet", "amber", "teal", "ivory", "grey", "indigo", "olive"),
            statements=(
                "The colour of {e} is {v}.",
                "Under white light the mineral {e} has the colour {v}.",
                "Crystals of {e} appear {v}.",
                "Pure {e} is {v}.",
            ),
            questions=("What is the colour of {e}?", "Which colour do crystals of {e} have?"),
            unseen="Under white light, which colour does {e} appear?",
        ),
        Attribute(
            name="origin",
            values=("lava", "glaciers", "caves", "seabeds", "craters", "deserts"),
            statements=(
                "The mineral {e} forms in {v}.",
                "Deposits of {e} are found in {v}.",
                "Geologists find {e} in {v}.",
                "Surveys of {v} found deposits of {e}.",
            ),
            questions=("Where does the mineral {e} form?", "Where are deposits of {e} found?"),
            unseen="In which places do geologists find {e}?",
        ),
        Attribute(
            name="reaction",
            values=("melts", "glows", "cracks", "expands", "fades", "sparks"),
            statements=(
                "When heated {e} {v}.",
                "In the furnace the sample of {e} {v}.",
                "On heating, the mineral {e} {v}.",
                "Heated in air, {e} {v}.",
            ),
            questions=("What does {e} do when heated?", "What happens to {e} on heating?"),
            unseen="What does a sample of {e} do in the furnace?",
        ),
    ),
)
