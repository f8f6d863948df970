"""From the folders of finished runs to tables and pictures.

    read      a run's folder -> `Run`, one row; a list of these is all that tables are made from
    tables    rows -> cells, means, H, averages, and what must be said under them; text, markdown, LaTeX, CSV
    pictures  a table -> few-shot curves, bars of H

Results are read without PyTorch, so a table is made on any machine that the folders are copied to.
"""
