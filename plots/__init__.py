"""One small module for each picture; they read result files and nothing else."""
