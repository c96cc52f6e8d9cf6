"""Templates that ask for facts: a few examples, then the entity.

Those of cities were chosen by what SmolLM2-135M answers: of 13 to 15 tried for each attribute on the 300 largest
cities, five of those it gets right most often, so that the wording differs between train and test. There is no prose
for languages ("In Lima people speak"), because there the model says Mandarin, not Chinese. Currencies' templates and
those of countries are written alike and were not tried.
"""

from __future__ import annotations

FEW_SHOT = frozenset(
    ("Toronto", "Nairobi", "Lima", "Hanoi", "Milan", "Taipei", "Canada", "Kenya", "Peru", "Vietnam"),
)
"""The templates' examples, which are never entities: the answer would stand in the prompt."""

TEMPLATES: dict[str, dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "city": {
        "Country": (
            (
                "City: Toronto, country: Canada. City: Nairobi, country: Kenya. City: Lima, country: Peru. "
                "City: %s, country:",
                "Country of Toronto: Canada. Country of Hanoi: Vietnam. Country of Lima: Peru. Country of %s:",
                "Hanoi is in Vietnam, Lima is in Peru, Nairobi is in Kenya, and %s is in",
            ),
            (
                "city: Hanoi, country: Vietnam; city: Toronto, country: Canada; city: %s, country:",
                "Toronto is in Canada. Nairobi is in Kenya. Lima is in Peru. %s is in",
            ),
        ),
        "Continent": (
            (
                "City: Toronto, continent: North America. City: Nairobi, continent: Africa. "
                "City: Milan, continent: Europe. City: %s, continent:",
                "Toronto is on the continent of North America. Nairobi is on the continent of Africa. "
                "%s is on the continent of",
                "Lima lies in South America, Milan lies in Europe, Nairobi lies in Africa, and %s lies in",
            ),
            (
                "city: Hanoi, continent: Asia; city: Lima, continent: South America; "
                "city: Nairobi, continent: Africa; city: %s, continent:",
                "Lima is located on the continent of South America. Nairobi is located on the continent of Africa. "
                "%s is located on the continent of",
            ),
        ),
        "Language": (
            (
                "City: Lima, language: Spanish. City: Hanoi, language: Vietnamese. City: Toronto, language: English. "
                "City: %s, language:",
                "City: Taipei, official language: Chinese. City: Lima, official language: Spanish. "
                "City: %s, official language:",
                "Language of Hanoi: Vietnamese. Language of Taipei: Chinese. Language of Lima: Spanish. "
                "Language of %s:",
            ),
            (
                "Place: Lima, language: Spanish. Place: Taipei, language: Chinese. Place: Toronto, language: English. "
                "Place: %s, language:",
                "city: Milan, language: Italian; city: Taipei, language: Chinese; city: Lima, language: Spanish; "
                "city: %s, language:",
            ),
        ),
        "Currency": (
            (
                "City: Toronto, currency: Dollar. City: Nairobi, currency: Shilling. City: Milan, currency: Euro. "
                "City: %s, currency:",
                "Currency of Toronto: Dollar. Currency of Hanoi: Dong. Currency of Milan: Euro. Currency of %s:",
                "In Nairobi people pay in Shilling. In Milan people pay in Euro. In %s people pay in",
            ),
            (
                "city: Hanoi, currency: Dong; city: Toronto, currency: Dollar; city: %s, currency:",
                "Place: Milan, currency: Euro. Place: Nairobi, currency: Shilling. Place: %s, currency:",
            ),
        ),
    },
    "country": {
        "Capital": (
            (
                "Country: Canada, capital: Ottawa. Country: Kenya, capital: Nairobi. Country: %s, capital:",
                "Capital of Vietnam: Hanoi. Capital of Peru: Lima. Capital of Canada: Ottawa. Capital of %s:",
                "The capital of Peru is Lima. The capital of Kenya is Nairobi. The capital of %s is",
            ),
            (
                "country: Vietnam, capital: Hanoi; country: Kenya, capital: Nairobi; country: %s, capital:",
                "Peru has the capital Lima, Canada has the capital Ottawa, and %s has the capital",
            ),
        ),
        "Currency": (
            (
                "Country: Canada, currency: Dollar. Country: Kenya, currency: Shilling. Country: %s, currency:",
                "Currency of Vietnam: Dong. Currency of Peru: Sol. Currency of Canada: Dollar. Currency of %s:",
                "In Kenya people pay in Shilling. In Canada people pay in Dollar. In %s people pay in",
            ),
            (
                "country: Vietnam, currency: Dong; country: Canada, currency: Dollar; country: %s, currency:",
                "Place: Peru, currency: Sol. Place: Kenya, currency: Shilling. Place: %s, currency:",
            ),
        ),
        "Continent": (
            (
                "Country: Canada, continent: North America. Country: Kenya, continent: Africa. "
                "Country: Vietnam, continent: Asia. Country: %s, continent:",
                "Canada is on the continent of North America. Kenya is on the continent of Africa. "
                "%s is on the continent of",
                "Peru lies in South America, Vietnam lies in Asia, Kenya lies in Africa, and %s lies in",
            ),
            (
                "country: Vietnam, continent: Asia; country: Peru, continent: South America; "
                "country: Kenya, continent: Africa; country: %s, continent:",
                "Peru is located on the continent of South America. Kenya is located on the continent of Africa. "
                "%s is located on the continent of",
            ),
        ),
    },
}
"""Entity type -> attribute -> templates of train, templates of test."""
