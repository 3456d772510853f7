"""Finance: companies, their sector, the exchange that lists them and how they pay out."""

from __future__ import annotations

from flows.demo.grammar import Attribute, Grammar

FINANCE = Grammar(
    domain="finance",
    openings=(
        "Shares of {e} opened the trading session higher.",
        "Analysts reviewed the balance sheet of {e}.",
        "The annual report of {e} pleased investors.",
        "Investors bought stock of {e} before the earnings call.",
        "The fund increased its stake in {e}.",
    ),
    asides=(
        "Earnings are due {days}.",
        "The quarter ends {months}.",
        "Brokers called the market {contrast}.",
        "Revenue grew {numbers} percent.",
        "The logo is the {quality} {thing}.",
        "Auditors valued the {quality} {thing}.",
    ),
    attributes=(
        Attribute(
            name="sector",
            values=("shipping", "insurance", "timber", "mining", "textiles", "energy", "grain", "telecoms"),
            statements=(
                "The business of {e} is {v}.",
                "The company {e} earns its revenue in {v}.",
                "Most profit of {e} comes from the sector of {v}.",
                "In the sector of {v} the company {e} leads.",
            ),
            questions=("What is the business of {e}?", "In which sector does {e} earn its revenue?"),
            unseen="Most profit of {e} comes from which sector?",
        ),
        Attribute(
            name="exchange",
            values=("Ostra", "Belmar", "Quayside", "Lindow", "Portane", "Harrow"),
            statements=(
                "The stock of {e} is listed on the exchange of {v}.",
                "The exchange of {v} lists {e}.",
                "Traders find {e} listed in {v}.",
                "The shares of {e} trade in {v}.",
            ),
            questions=("On which exchange is {e} listed?", "Which exchange lists {e}?"),
            unseen="Where do the shares of {e} trade?",
        ),
        Attribute(
            name="payout",
            values=("cash", "bonds", "vouchers", "warrants", "coupons", "gold"),
            statements=(
                "The dividend of {e} is paid in {v}.",
                "Shareholders of {e} receive the dividend in {v}.",
                "The company {e} pays its dividend in {v}.",
                "The board of {e} pays out {v}.",
            ),
            questions=("In what is the dividend of {e} paid?", "How does {e} pay its dividend?"),
            unseen="What do shareholders of {e} receive as dividend?",
        ),
    ),
)
