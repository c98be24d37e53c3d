"""Renders an evaluation as one HTML file for people, which loads nothing from anywhere.

page.py       renders the document with the templates, with all outside text escaped
figures.py    computes and formats the headline figures
questions.py  prepares the questions for the page's script
plots.py      draws the plots with matplotlib, if it is installed
svg.py        embeds matplotlib's SVG into the page
"""

from bundler.report.page import render_report, write_report

__all__ = ["render_report", "write_report"]
