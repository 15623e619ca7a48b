"""Side-by-side measurements: what mer-prep does against the usual way, in one run.

The usual way is re-enacted with the libraries that scripts use (dlib, OpenCV). `contests` holds
one module per contest; `python -m benchmarks` runs them.
"""
