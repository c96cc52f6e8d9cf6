from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae_sanity.suites.texts import TextSet


def test_the_hash_is_that_of_the_documents_and_their_order():
    assert TextSet("a", ("x", "y")).sha256 == TextSet("b", ("x", "y")).sha256
    assert TextSet("a", ("x", "y")).sha256 != TextSet("a", ("y", "x")).sha256


@given(st.lists(st.text()), st.lists(st.text()))
def test_different_documents_have_different_hashes(one, other):
    same = TextSet("", tuple(one)).sha256 == TextSet("", tuple(other)).sha256
    assert same == (one == other)


@pytest.mark.parametrize(("one", "other"), [(("ab", "c"), ("a", "bc")), (("",), ()), (("a", ""), ("a",))])
def test_borders_between_documents_count(one, other):
    assert TextSet("", one).sha256 != TextSet("", other).sha256


def test_a_text_set_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TextSet("a", ()).name = "b"
