"""Elements of a drawing that fills whatever width it is given.

Horizontal places are percentages and vertical ones pixels, so that a plot is as wide as its column on a phone and on a
desk while text and points keep their size. Colours come from the style sheet by class, never from here.
"""

from __future__ import annotations

from markupsafe import Markup, escape

from ..look import visible

EMPTY = Markup("")

Real = float | int
"""A coordinate."""


def places(value: Real) -> str:
    """A coordinate with no more digits than a screen shows."""
    told = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if told == "-0" else told


def across(percent: Real) -> str:
    """A horizontal place as a share of the drawing's width."""
    return f"{places(percent)}%"


def tag(name: str, *children: str, **attributes: str | Real) -> Markup:
    """One element.

    Args:
        name: Of the element.
        children: Text, which is escaped and in which control characters become visible, or elements.
        attributes: `class_` is `class`; an underscore elsewhere is a hyphen; numbers are rounded to what is seen.
    """
    told = "".join(f' {_name(key)}="{_value(value)}"' for key, value in attributes.items())
    inside = "".join(child if isinstance(child, Markup) else escape(visible(child)) for child in children)
    # Both halves are escaped above.
    return Markup(f"<{name}{told}>{inside}</{name}>" if inside else f"<{name}{told}/>")  # noqa: S704


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _value(value: str | Real) -> str:
    return str(escape(visible(value))) if isinstance(value, str) else places(value)


def joined(*elements: Markup) -> Markup:
    """Elements one after the other."""
    return EMPTY.join(elements)


def drawing(title: str, description: str, height: Real, *elements: Markup, class_: str = "") -> Markup:
    """A drawing with a name and a description for those who do not see it.

    Args:
        title: What it shows, with the numbers.
        description: How it is drawn.
        height: In pixels; the width is that of its place.
        elements: From back to front.
        class_: Class of the style sheet, beside `draw`.
    """
    said = tag("title", title), tag("desc", description)
    return tag(
        "svg", *said, *elements, class_=f"draw {class_}".strip(), role="img", width="100%", height=places(height)
    )


def ornament(width: Real, height: Real, *elements: Markup, class_: str = "") -> Markup:
    """A drawing that only repeats the number beside it."""
    return tag(
        "svg", *elements, class_=f"draw {class_}".strip(), aria_hidden="true", width=places(width), height=height
    )


def line(x1: Real, y1: Real, x2: Real, y2: Real, class_: str) -> Markup:
    """A straight line; x in percent, y in pixels."""
    return tag("line", x1=across(x1), y1=y1, x2=across(x2), y2=y2, class_=class_)


def block(x1: Real, y: Real, x2: Real, height: Real, class_: str, *children: Markup) -> Markup:
    """A rectangle from `x1` to `x2` percent; y and height in pixels."""
    return tag("rect", *children, x=across(x1), y=y, width=across(max(x2 - x1, 0.0)), height=height, class_=class_)


def dot(x: Real, y: Real, radius: Real, class_: str, *children: Markup) -> Markup:
    """A disc."""
    return tag("circle", *children, cx=across(x), cy=y, r=radius, class_=class_)


def diamond(x: Real, y: Real, size: Real, class_: str) -> Markup:
    """A diamond: a path of its own origin, as a path knows no percentages."""
    path = tag("path", d=f"M0 {-size:g}L{size:g} 0 0 {size:g} {-size:g} 0Z", class_=class_)
    return tag("svg", path, x=across(x), y=y, overflow="visible", width=1.0, height=1.0)


def words(x: Real, y: Real, said: str, class_: str = "tick", anchor: str = "middle") -> Markup:
    """Text at a place; `anchor` is the end of it that lies there."""
    return tag("text", said, x=across(x), y=y, text_anchor=anchor, class_=class_)
