"""``python -m training``."""

import sys

from training.cli import ask_for_huge_pages, main

ask_for_huge_pages()
sys.exit(main())
