"""The ranks of an MPI job.  Nothing here imports NumPy before MPI."""
