"""Probing where probing is hard: does an SAE's probe add to a quiver that already holds strong dense probes?"""
