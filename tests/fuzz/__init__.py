"""Any bytes into every reader: a value, or one of the errors a user can meet, and no memory beyond the cap.

python -m tests.fuzz --inputs 100000            every target
python -m tests.fuzz.guided checkpoint          one of them, by coverage, where atheris is installed
"""
