"""python -m datasets.prepare"""

import sys

from . import main

sys.exit(main())
