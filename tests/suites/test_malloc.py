from __future__ import annotations

import ctypes
import sys

import pytest

from sae_sanity.suites import _malloc


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="the C library is not glibc")
def test_glibc_takes_the_settings():
    assert _malloc.keep_big_buffers()


def test_elsewhere_nothing_happens(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not _malloc.keep_big_buffers()


def test_a_c_library_without_mallopt(monkeypatch):
    monkeypatch.setattr(_malloc.ctypes, "CDLL", lambda name: object())
    monkeypatch.setattr(sys, "platform", "linux")
    assert not _malloc.keep_big_buffers()
