"""The few kinds of pictures of a page, as HTML and SVG that follow the width of the screen.

strips    a row per name: a bar, an interval, marks
heat      a matrix of cells, darker for more
areas     shares that are stacked along a line
minis     a small panel of lines per name, all on one scale
columns   a histogram
points    a map of many points

Lengths across are percentages, so text keeps its size on a small screen. Colours are classes: ``c0`` to ``c7`` tell names
apart, ``heat`` says how much. Whoever cannot see a picture is told what it shows (``says``) and has the table behind it.
"""

from composer.report.draw.heat import heat
from composer.report.draw.plane import Band, Mini, areas, columns, minis, points
from composer.report.draw.scale import colour
from composer.report.draw.strips import Mark, Strip, strips

__all__ = ["Band", "Mark", "Mini", "Strip", "areas", "colour", "columns", "heat", "minis", "points", "strips"]
