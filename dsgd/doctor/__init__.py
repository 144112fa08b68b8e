"""python -m dsgd.doctor: what of this machine dsgd depends on, whether it is in order, and what to do where it is not.

    python -m dsgd.doctor
    mpirun -n 4 python -m dsgd.doctor    (rank 0 speaks, after comparing all ranks)

A line for each finding: `ok`, `note` (dsgd works, and this is good to know) or `wrong`; last of all the commands that
mend what is wrong.  Exit code: 0 if nothing is wrong, 1 if something is, 2 for a flag that cannot be meant.

A check is a generator function that yields findings; what it raises becomes a finding too.  findings.py has what all
share, mpi.py the library and the launcher, machine.py processors, memory and disk, packages.py the versions,
selftest.py a run in each world, and __main__.py the list of them.  Of the environment only the variables that a check
names are shown.
"""
