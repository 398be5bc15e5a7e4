"""Chaos, on purpose and by number: renders that are cancelled, whose processes are killed, whose disks are full.

`scripts/chaos` runs it long and prints what was measured; `test_chaos.py` runs it short. The same seed, the same cases.
"""
