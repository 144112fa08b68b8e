"""One small module for each picture; they read result files and nothing else."""

import logging

# matplotlib tells every run in which its cache cannot be kept, as on a compute node whose home cannot be written
logging.getLogger("matplotlib").setLevel(logging.ERROR)
