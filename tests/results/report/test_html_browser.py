from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from browser import browser
from html_pages import pages


@pytest.fixture(scope="module")
def opened():
    with browser() as one:
        yield one


@pytest.fixture
def files(tmp_path, make):
    for name, text in pages(make).items():
        (tmp_path / f"{name}.html").write_text(text, encoding="utf-8")
    return tmp_path


WIDER_THAN_THE_PAGE = """() => [...document.querySelectorAll('main *, nav *')].filter(e => {
  const box = e.getBoundingClientRect();
  return box.right > document.documentElement.clientWidth + 1 && !e.closest('.scroll, .cards, svg');
}).map(e => e.outerHTML.slice(0, 90))"""
OFF_THE_PAPER = """() => [...document.querySelectorAll('td, th, p, pre, dd, li, svg')].filter(e =>
  e.getBoundingClientRect().right > 681).map(e => e.outerHTML.slice(0, 90))"""
EMPTY_DRAWINGS = """() => [...document.querySelectorAll('svg.draw, img')].filter(e => {
  const box = e.getBoundingClientRect();
  return !(box.width > 4 && box.height > 4);
}).map(e => e.outerHTML.slice(0, 120))"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1280])
@pytest.mark.parametrize("name", ["whole", "small", "hostile"])
def test_in_a_browser(opened, files, name, width, scheme):
    context = opened.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    shown, asked, said = context.new_page(), [], []
    shown.on("request", lambda request: asked.append(request.url))
    shown.on("console", lambda message: said.append(message.text))
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.goto((files / f"{name}.html").as_uri())
    assert shown.evaluate("document.documentElement.scrollWidth") == width
    assert shown.evaluate(WIDER_THAN_THE_PAGE) == []
    assert shown.evaluate(EMPTY_DRAWINGS) == []
    background = shown.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(252, 252, 250)", "dark": "rgb(20, 23, 26)"}[scheme]
    assert shown.locator("svg").count() > 5
    assert [urls for urls in asked if urls != (files / f"{name}.html").as_uri()] == []
    assert said == []
    context.close()


@pytest.mark.parametrize("name", ["whole", "small"])
def test_on_paper_nothing_is_cut_off_or_dark(opened, files, name):
    # A4 without margins of 15 mm, at 96 dots per inch.
    context = opened.new_context(viewport={"width": 680, "height": 1000}, color_scheme="dark")
    shown = context.new_page()
    shown.goto((files / f"{name}.html").as_uri())
    shown.emulate_media(media="print", color_scheme="dark")
    assert shown.evaluate(OFF_THE_PAPER) == []
    assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert shown.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert shown.pdf(format="A4").startswith(b"%PDF")
    context.close()


def test_the_keyboard_goes_to_the_verdict_first(opened, files):
    context = opened.new_context(viewport={"width": 1280, "height": 800})
    shown = context.new_page()
    shown.goto((files / "whole.html").as_uri())
    shown.keyboard.press("Tab")
    assert shown.evaluate("document.activeElement.getAttribute('href')") == "#verdict"
    assert shown.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    context.close()
