"""File-system calls that fail, processes that die at any of them, and what a loss of power leaves.

`shim.c` watches the system calls of a forked child below one folder, and disturbs one of them.
`scenarios` are what is done to stores, and how to tell whether a store is as it was promised.
`injection` disturbs every call of a scenario; `power` makes the states in which a disk may be after
a loss of power. By hand, from the folder of the tests: `python -m faultfs --help`.
"""
