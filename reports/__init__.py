"""From the folders of finished runs to tables and pictures.

    result     one result of a run: all that tables are made from
    cells      the arithmetic: over seeds, over sets, H
    protocols  what a table of each protocol is: its folders, columns, heads, titles, notes
    read       runs' folders -> results
    published  the published figures, which may stand beside them
    notes      what must be said under a table
    tables     results -> a table
    formats    a table -> text, markdown, LaTeX, CSV
    pictures   a table -> few-shot curves, bars of H
    runs       every run, whether a table counts it or not
    gains      what each class gains from a method over its host
    confusion  what a run took for what
    charts     a table -> the geometry of a page's charts
    page       all of it -> one HTML file (templates/)

Each imports those above it alone. Results are read without PyTorch, so a table is made on any machine that the folders
are copied to.
"""
