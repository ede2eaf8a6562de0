"""Parses what the JVM says about its heap."""

import re

UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
# garbage-first heap   total 262144K, used 3072K [...)  /  PSYoungGen      total 76288K, used 2621K [...)
GENERATION = re.compile(rb"^\s*(garbage-first heap|[A-Za-z][A-Za-z -]*?)\s+total (?:reserved \d+K, committed )?(\d+)([KMG]), used (\d+)([KMG])", re.MULTILINE)
Z = re.compile(rb"^\s*Z(?:Heap| Heap)?\s+used (\d+)([KMG]), capacity (\d+)([KMG])", re.MULTILINE)
SHENANDOAH = re.compile(rb"(\d+)([BKMG]) committed, (\d+)([BKMG]) used")
METASPACE = re.compile(rb"^\s*Metaspace\s+used (\d+)([KMG])", re.MULTILINE)
CLASS = re.compile(rb"^\s*\d+:\s+(\d+)\s+(\d+)\s+(\S+)", re.MULTILINE)
TOTAL = re.compile(rb"^Total\s+(\d+)\s+(\d+)", re.MULTILINE)


def size(number, unit):
    return int(number) * UNITS[unit.decode()]


def used(text):
    """Returns used and committed bytes of the heap from GC.heap_info; -1 if it has another form."""
    found = Z.search(text)
    if found:
        return size(*found.group(1, 2)), size(*found.group(3, 4))
    found = SHENANDOAH.search(text)
    if found:
        return size(*found.group(3, 4)), size(*found.group(1, 2))
    generations = [m for m in GENERATION.finditer(text) if b"space" not in m.group(1).lower()]
    if not generations:
        return -1, -1
    return sum(size(*m.group(4, 5)) for m in generations), sum(size(*m.group(2, 3)) for m in generations)


def maximum(flags):
    """Returns the maximum size of the heap from VM.flags; -1 if it is unknown."""
    found = re.search(rb"-XX:MaxHeapSize=(\d+)", flags)
    return int(found.group(1)) if found else -1


def collector(flags):
    """Returns the name of the collector from VM.flags, such as G1."""
    found = re.search(rb"-XX:\+Use(\w+?)GC\b", flags)
    return found.group(1).decode() if found else "?"


def metaspace(text):
    found = METASPACE.search(text)
    return size(*found.group(1, 2)) if found else -1
