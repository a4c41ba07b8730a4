"""placeholder"""
from __future__ import annotations
def check(case, datasets):
    return None
