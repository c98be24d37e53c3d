"""An evaluation as a page that people can read: one HTML file that asks for nothing from anywhere.

page.py       the document and the templates make the page; nothing in it can break out
figures.py    the headline figures, and how a figure is written
questions.py  the questions as the page's script reads them
plots.py      the plots, drawn by matplotlib where it is installed
svg.py        matplotlib's SVG, made part of a page
"""

from bundler.report.page import render_report, write_report

__all__ = ["render_report", "write_report"]
