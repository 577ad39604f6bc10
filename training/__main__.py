"""``python -m training``."""

import os
import sys

# Huge pages for what torch allocates, read before its first allocation: each step makes and frees
# tensors of many megabytes, and mapping those in small pages takes longer than computing them.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

from training.cli import main

sys.exit(main())
