"""One file for each library: its name is what `log.trackers` calls it, and its extra in setup.py.

It has a class `Library`, a `Tracker`, and imports the library within its methods only.
"""
