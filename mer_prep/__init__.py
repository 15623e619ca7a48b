"""mer-prep: read, prepare and score micro-expression corpora.

The package is organised in rooms, imported in one direction only:
``commands`` -> ``sources``, ``stages``, ``synth`` -> ``ops``, ``store``, ``manifest``,
``labels``, ``protocols`` -> ``errors``, ``checks``, ``config``, ``resources``.
"""

__version__ = "0.1.0"
