"""python -m datasets.verify"""

import sys

from . import main

sys.exit(main())
